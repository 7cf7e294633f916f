//! The part of SOQL that the fake understands: fields (also of parents), COUNT(), WHERE with AND, OR, NOT, comparisons, LIKE, IN and date
//! literals, ORDER BY, LIMIT and OFFSET. It refuses aggregates, sub-queries and everything else with the vendor's own code.

use super::store::{KINDS, Kind, Record, Refused, Store, kind};
use jiff::Timestamp;
use serde_json::Value;
use std::cmp::Ordering;

/// A query.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) kind: &'static Kind,
    /// Empty for COUNT().
    pub(super) fields: Vec<Path>,
    filter: Option<Filter>,
    order: Vec<(Path, bool)>,
    limit: Option<usize>,
    offset: usize,
}

/// A field, or a field of the record a reference leads to.
#[derive(Debug, Clone)]
pub(super) struct Path {
    /// `Account` in `Account.Name`, with the reference field it stands for.
    pub(super) parent: Option<(String, String)>,
    pub(super) field: String,
}

#[derive(Debug)]
enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Is { path: Path, operator: &'static str, values: Vec<Value> },
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(&'static str),
}

fn malformed(what: impl Into<String>) -> Refused {
    Refused::new("MALFORMED_QUERY", what)
}

/// Signs, the longer ones first.
const SIGNS: [&str; 10] = ["!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", ","];

fn tokens(text: &str) -> Result<Vec<Token>, Refused> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        if c == '\'' {
            let (said, length) = quoted(rest)?;
            found.push(Token::Text(said));
            rest = &rest[length..];
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            found.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else {
            let length = rest.find(|c: char| c.is_whitespace() || "',()=<>!".contains(c)).unwrap_or(rest.len());
            if length == 0 {
                return Err(malformed(format!("unexpected token: '{c}'")));
            }
            found.push(Token::Word(rest[..length].to_owned()));
            rest = &rest[length..];
        }
        rest = rest.trim_start();
    }
    Ok(found)
}

/// The text of a literal, and how many bytes it takes. A pattern keeps the backslash before a wildcard.
fn quoted(text: &str) -> Result<(String, usize), Refused> {
    let mut said = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => return Ok((said, at + 1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => said.push('\n'),
                Some('r') => said.push('\r'),
                Some('t') => said.push('\t'),
                Some(wildcard @ ('%' | '_')) => said.extend(['\\', wildcard]),
                Some(c @ ('\\' | '\'' | '"')) => said.push(c),
                _ => return Err(Refused::new("INVALID_QUERY_FILTER_OPERATOR", "Illegal escape sequence in string")),
            },
            c => said.push(c),
        }
    }
    Err(malformed("unexpected char: end of string literal is missing"))
}

/// Which fields `FIELDS()` stands for.
#[derive(Clone, Copy)]
enum Whole {
    All,
    Standard,
    Custom,
}

impl Whole {
    fn of(word: &str) -> Result<Self, Refused> {
        match word.to_ascii_uppercase().as_str() {
            "ALL" => Ok(Self::All),
            "STANDARD" => Ok(Self::Standard),
            "CUSTOM" => Ok(Self::Custom),
            other => Err(malformed(format!("unexpected token: '{other}': FIELDS takes ALL, STANDARD or CUSTOM"))),
        }
    }

    fn has(self, field: &str) -> bool {
        match self {
            Self::All => true,
            Self::Standard => !field.ends_with("__c"),
            Self::Custom => field.ends_with("__c"),
        }
    }
}

struct Parser {
    tokens: std::vec::IntoIter<Token>,
    next: Option<Token>,
    kind: Option<&'static Kind>,
}

impl Parser {
    fn advance(&mut self) -> Option<Token> {
        std::mem::replace(&mut self.next, self.tokens.next())
    }

    fn word(&mut self) -> Result<String, Refused> {
        match self.advance() {
            Some(Token::Word(word)) => Ok(word),
            other => Err(malformed(format!("unexpected token: {}", other.map_or("<EOF>".to_owned(), |token| format!("{token:?}"))))),
        }
    }

    fn is(&self, word: &str) -> bool {
        matches!(&self.next, Some(Token::Word(next)) if next.eq_ignore_ascii_case(word))
    }

    fn take(&mut self, word: &str) -> bool {
        let is = self.is(word);
        if is {
            self.advance();
        }
        is
    }

    fn sign(&mut self, sign: &str) -> bool {
        let is = matches!(&self.next, Some(Token::Sign(next)) if *next == sign);
        if is {
            self.advance();
        }
        is
    }

    fn path(&mut self) -> Result<Path, Refused> {
        let word = self.word()?;
        path(self.kind, &word)
    }

    fn any(&mut self) -> Result<Filter, Refused> {
        let mut all = vec![self.all()?];
        while self.take("OR") {
            all.push(self.all()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Filter::Any(all) })
    }

    fn all(&mut self) -> Result<Filter, Refused> {
        let mut all = vec![self.one()?];
        while self.take("AND") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Filter::All(all) })
    }

    fn one(&mut self) -> Result<Filter, Refused> {
        if self.take("NOT") {
            return self.one().map(|filter| Filter::Not(Box::new(filter)));
        }
        if self.sign("(") {
            let inside = self.any()?;
            return if self.sign(")") { Ok(inside) } else { Err(malformed("expecting a right parentheses")) };
        }
        let path = self.path()?;
        let negated = self.take("NOT");
        let operator = match self.advance() {
            Some(Token::Sign(sign @ ("=" | "!=" | "<>" | "<" | ">" | "<=" | ">="))) if !negated => sign,
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("LIKE") && !negated => "LIKE",
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("IN") => "IN",
            _ => return Err(malformed("unexpected token: an operator was expected")),
        };
        let values = if operator == "IN" {
            if !self.sign("(") {
                return Err(malformed("unexpected token: IN wants a list"));
            }
            let mut values = vec![self.value()?];
            while self.sign(",") {
                values.push(self.value()?);
            }
            if !self.sign(")") {
                return Err(malformed("expecting a right parentheses"));
            }
            values
        } else {
            vec![self.value()?]
        };
        let is = Filter::Is { path, operator, values };
        Ok(if negated { Filter::Not(Box::new(is)) } else { is })
    }

    fn value(&mut self) -> Result<Value, Refused> {
        match self.advance() {
            Some(Token::Text(text)) => Ok(text.into()),
            Some(Token::Word(word)) => match word.to_ascii_lowercase().as_str() {
                "null" => Ok(Value::Null),
                "true" => Ok(true.into()),
                "false" => Ok(false.into()),
                _ => match (word.parse::<f64>(), instant(&word)) {
                    (Ok(number), _) => Ok(number.into()),
                    (_, Some(_)) => Ok(Value::Array(vec![word.into()])),
                    _ => Err(malformed(format!("unexpected token: '{word}'"))),
                },
            },
            _ => Err(malformed("unexpected token: a value was expected")),
        }
    }
}

/// An instant or a day, as Salesforce and SOQL write them.
fn instant(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>()
        .ok()
        .or_else(|| jiff::fmt::strtime::parse("%Y-%m-%dT%H:%M:%S%.f%z", text).ok()?.to_timestamp().ok())
        .or_else(|| text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|day| day.timestamp()))
}

fn path(kind: Option<&'static Kind>, word: &str) -> Result<Path, Refused> {
    let Some(kind) = kind else { return Ok(Path { parent: None, field: word.to_owned() }) };
    let unknown = |name: &str, kind: &Kind| Refused::new("INVALID_FIELD", format!("No such column '{name}' on entity '{}'.", kind.name));
    match word.split_once('.') {
        None => kind.field(word).map(|field| Path { parent: None, field: field.name.to_owned() }).ok_or_else(|| unknown(word, kind)),
        Some((relation, field)) => {
            let reference = kind.field(&format!("{relation}Id")).filter(|field| field.kind == "reference");
            let parent = KINDS.iter().find(|kind| kind.name.eq_ignore_ascii_case(relation));
            let (Some(reference), Some(parent)) = (reference, parent) else {
                return Err(Refused::new("INVALID_FIELD", format!("Didn't understand relationship '{relation}' in field path.")));
            };
            let field = parent.field(field).ok_or_else(|| unknown(field, parent))?;
            Ok(Path { parent: Some((parent.name.to_owned(), reference.name.to_owned())), field: field.name.to_owned() })
        }
    }
}

impl Query {
    /// Reads a query.
    pub(super) fn parse(text: &str) -> Result<Self, Refused> {
        let mut tokens = tokens(text)?.into_iter();
        let next = tokens.next();
        let mut parser = Parser { tokens, next, kind: None };
        if !parser.take("SELECT") {
            return Err(malformed("unexpected token: a query starts with SELECT"));
        }
        let mut words = Vec::new();
        let mut counts = false;
        let mut whole = None;
        loop {
            let word = parser.word()?;
            if parser.sign("(") {
                if word.eq_ignore_ascii_case("COUNT") && parser.sign(")") {
                    counts = true;
                } else if word.eq_ignore_ascii_case("FIELDS") {
                    whole = Some(Whole::of(&parser.word()?)?);
                    if !parser.sign(")") {
                        return Err(malformed("unexpected token: expecting a right parentheses"));
                    }
                } else {
                    return Err(malformed(format!("the fake does not know the function {word}")));
                }
            } else {
                words.push(word);
            }
            if !parser.sign(",") {
                break;
            }
        }
        if !parser.take("FROM") {
            return Err(malformed("unexpected token: expecting FROM"));
        }
        let name = parser.word()?;
        let kind = kind(&name).ok_or_else(|| Refused::new("INVALID_TYPE", format!("sObject type '{name}' is not supported.")))?;
        parser.kind = Some(kind);
        if let Some(whole) = whole {
            words.extend(kind.all().filter(|field| whole.has(field.name)).map(|field| field.name.to_owned()));
        }
        let fields = words.iter().map(|word| path(Some(kind), word)).collect::<Result<Vec<_>, _>>()?;
        if counts != fields.is_empty() {
            return Err(malformed("COUNT() stands alone"));
        }
        let filter = if parser.take("WHERE") { Some(parser.any()?) } else { None };
        let mut order = Vec::new();
        if parser.take("ORDER") {
            if !parser.take("BY") {
                return Err(malformed("unexpected token: expecting BY"));
            }
            loop {
                let path = parser.path()?;
                let descending = parser.take("DESC");
                if !descending {
                    parser.take("ASC");
                }
                order.push((path, descending));
                if !parser.sign(",") {
                    break;
                }
            }
        }
        let number = |parser: &mut Parser| parser.word()?.parse::<usize>().map_err(|_| malformed("unexpected token: a number was expected"));
        let limit = if parser.take("LIMIT") { Some(number(&mut parser)?) } else { None };
        if matches!(whole, Some(Whole::All | Whole::Custom)) && limit.is_none_or(|limit| limit > 200) {
            return Err(malformed("The SOQL FIELDS function must have a LIMIT of at most 200"));
        }
        let offset = if parser.take("OFFSET") { number(&mut parser)? } else { 0 };
        if offset > 2_000 {
            return Err(Refused::new("NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000"));
        }
        if parser.next.is_some() {
            return Err(malformed(format!("unexpected token: {:?}", parser.next)));
        }
        Ok(Self { kind, fields, filter, order, limit, offset })
    }

    /// The ids it finds, in its order; deleted ones too if `deleted`.
    pub(super) fn run(&self, store: &Store, deleted: bool) -> Vec<String> {
        let is_seen = |record: &&Record| record.kind.name == self.kind.name && (deleted || record.deleted.is_none());
        let mut found: Vec<&Record> =
            store.records.values().filter(is_seen).filter(|record| self.filter.as_ref().is_none_or(|filter| filter.holds(store, record))).collect();
        found.sort_by(|one, other| {
            let by = |(path, descending): &(Path, bool)| {
                let ordering = compare(&path.of(store, one), &path.of(store, other)).unwrap_or(Ordering::Equal);
                if *descending { ordering.reverse() } else { ordering }
            };
            self.order.iter().map(by).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
        });
        found.into_iter().skip(self.offset).take(self.limit.unwrap_or(usize::MAX)).map(|record| record.id.clone()).collect()
    }
}

impl Path {
    /// The value at a record.
    pub(super) fn of(&self, store: &Store, record: &Record) -> Value {
        match &self.parent {
            None => record.get(&self.field),
            Some((_, reference)) => {
                let parent = record.get(reference).as_str().and_then(|id| store.records.get(id));
                parent.map(|parent| parent.get(&self.field)).unwrap_or_default()
            }
        }
    }
}

impl Filter {
    fn holds(&self, store: &Store, record: &Record) -> bool {
        match self {
            Self::All(all) => all.iter().all(|one| one.holds(store, record)),
            Self::Any(any) => any.iter().any(|one| one.holds(store, record)),
            Self::Not(one) => !one.holds(store, record),
            Self::Is { path, operator, values } => {
                let value = path.of(store, record);
                let first = values.first().unwrap_or(&Value::Null);
                match *operator {
                    "=" => equal(&value, first),
                    "!=" | "<>" => !equal(&value, first),
                    "IN" => values.iter().any(|one| equal(&value, one)),
                    "LIKE" => value.as_str().zip(first.as_str()).is_some_and(|(text, pattern)| like(&text.to_lowercase(), &pattern.to_lowercase())),
                    sign => compare(&value, first).is_some_and(|ordering| match sign {
                        "<" => ordering.is_lt(),
                        "<=" => ordering.is_le(),
                        ">" => ordering.is_gt(),
                        _ => ordering.is_ge(),
                    }),
                }
            }
        }
    }
}

/// Texts are equal whatever their case; ids on their first 15 characters.
fn equal(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::String(one), Value::String(other)) if one.len() == 18 && other.len() == 15 => one.starts_with(other.as_str()),
        (Value::String(one), Value::String(other)) => one.to_lowercase() == other.to_lowercase(),
        (value, wanted) => compare(value, wanted) == Some(Ordering::Equal),
    }
}

fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        // Nothing comes first.
        (Value::Null, _) => Some(Ordering::Less),
        (_, Value::Null) => Some(Ordering::Greater),
        (Value::Number(one), Value::Number(other)) => one.as_f64()?.partial_cmp(&other.as_f64()?),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        // A date that was written without quotes.
        (Value::String(one), Value::Array(date)) => Some(instant(one)?.cmp(&instant(date.first()?.as_str()?)?)),
        (Value::String(one), Value::String(other)) => Some(one.to_lowercase().cmp(&other.to_lowercase())),
        _ => None,
    }
}

/// `%` is any text, `_` any character, a backslash takes their meaning.
fn like(text: &str, pattern: &str) -> bool {
    let mut chars = pattern.chars();
    match chars.next() {
        None => text.is_empty(),
        Some('%') => {
            let rest = chars.as_str();
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| like(&text[at..], rest))
        }
        Some(c) => {
            let (is_any, wanted) = match c {
                '_' => (true, c),
                '\\' => (false, chars.next().unwrap_or('\\')),
                c => (false, c),
            };
            let mut rest = text.chars();
            rest.next().is_some_and(|have| is_any || have == wanted) && like(rest.as_str(), chars.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_escapes() {
        assert!(like("50%_off", "50\\%\\_off") && !like("50 xoff", "50\\%\\_off"));
        assert!(like("acme ltd", "%me%") && like("abc", "a_c") && !like("abc", "a_"));
        assert_eq!(quoted(r"'O\'Hara\\' x").unwrap(), (r"O'Hara\".to_owned(), 11));
        assert!(quoted("'open").is_err());
    }

    #[test]
    fn what_is_no_query_has_the_vendor_s_code() {
        for (query, code) in [
            ("SELEC Id FROM Contact", "MALFORMED_QUERY"),
            ("SELECT Nope FROM Contact", "INVALID_FIELD"),
            ("SELECT Id FROM Nope", "INVALID_TYPE"),
            ("SELECT Id FROM Contact WHERE Name = 'x", "MALFORMED_QUERY"),
            ("SELECT Id FROM Contact WHERE Name = 'x' OR", "MALFORMED_QUERY"),
            ("SELECT Id FROM Contact OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE"),
            ("SELECT FIELDS(ALL) FROM Contact", "MALFORMED_QUERY"),
            ("SELECT FIELDS(CUSTOM) FROM Contact LIMIT 201", "MALFORMED_QUERY"),
            ("SELECT FIELDS(SOME) FROM Contact LIMIT 1", "MALFORMED_QUERY"),
        ] {
            assert_eq!(Query::parse(query).unwrap_err().code, code, "{query}");
        }
        let chosen = |query| Query::parse(query).unwrap().fields.iter().map(|path| path.field.clone()).collect::<Vec<_>>();
        assert_eq!(chosen("SELECT FIELDS(CUSTOM) FROM Contact LIMIT 200"), ["Hub_Id__c"]);
        let (all, standard) = (chosen("SELECT FIELDS(ALL) FROM Contact LIMIT 1"), chosen("SELECT FIELDS(STANDARD) FROM Contact"));
        assert!(all.contains(&"Hub_Id__c".to_owned()) && all.len() == standard.len() + 1);
        assert!(Query::parse("SELECT Id, Account.Name FROM Contact WHERE (Email LIKE '%x' OR NOT Name IN ('a','b')) AND CreatedDate > 2026-01-01T00:00:00Z ORDER BY Name DESC, Id LIMIT 5 OFFSET 1").is_ok());
    }
}

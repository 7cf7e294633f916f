//! `$filter`, `$orderby` and `$search` over messages: the forms mail clients really send. Anything else is a 400, never a guess.
//! <https://learn.microsoft.com/graph/filter-query-parameter>, <https://learn.microsoft.com/graph/search-query-parameter>

use super::model::{Message, address_of};
use super::wire::{has_attachments, strip_tags};
use jiff::Timestamp;
use std::cmp::Ordering;

/// A parsed `$filter`.
#[derive(Clone, Debug)]
pub(super) enum Filter {
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Not(Box<Filter>),
    Compare { field: String, op: String, value: Scalar },
    Contains { field: String, needle: String },
    StartsWith { field: String, prefix: String },
    AnyCategory(String),
}

/// A value to compare.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Text(String),
    Flag(bool),
    Time(Timestamp),
    Null,
}

impl Filter {
    /// Parses the text of a `$filter`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0 };
        let filter = parser.or()?;
        if parser.at < parser.tokens.len() {
            return Err(format!("Invalid filter clause: unexpected `{}`", parser.tokens[parser.at]));
        }
        Ok(filter)
    }

    /// Whether a message passes.
    pub(super) fn matches(&self, m: &Message) -> bool {
        match self {
            Self::And(a, b) => a.matches(m) && b.matches(m),
            Self::Or(a, b) => a.matches(m) || b.matches(m),
            Self::Not(a) => !a.matches(m),
            Self::Compare { field, op, value } => compare(&field_of(m, field), op, value),
            Self::Contains { field, needle } => text_of(m, field).contains(&needle.to_lowercase()),
            Self::StartsWith { field, prefix } => text_of(m, field).starts_with(&prefix.to_lowercase()),
            Self::AnyCategory(name) => m.categories.iter().any(|c| c.eq_ignore_ascii_case(name)),
        }
    }

    /// The fields in the order they are named, for the `InefficientFilter` rule.
    pub(super) fn fields(&self) -> Vec<&str> {
        match self {
            Self::And(a, b) | Self::Or(a, b) => [a.fields(), b.fields()].concat(),
            Self::Not(a) => a.fields(),
            Self::Compare { field, .. } | Self::Contains { field, .. } | Self::StartsWith { field, .. } => vec![field],
            Self::AnyCategory(_) => vec!["categories"],
        }
    }
}

/// A comparable field of a message; `None` for a field that cannot be filtered.
fn field_of(m: &Message, field: &str) -> Scalar {
    let text = |s: &str| Scalar::Text(s.to_owned());
    match field {
        "receivedDateTime" => Scalar::Time(m.received),
        "sentDateTime" => Scalar::Time(m.sent),
        "createdDateTime" => Scalar::Time(m.created),
        "lastModifiedDateTime" => Scalar::Time(m.modified),
        "isRead" => Scalar::Flag(m.is_read),
        "isDraft" => Scalar::Flag(m.is_draft),
        "hasAttachments" => Scalar::Flag(has_attachments(m)),
        "subject" => text(&m.subject),
        "importance" => text(&m.importance),
        "conversationId" if !m.hide_conversation => text(&m.conversation),
        "internetMessageId" => text(&m.message_id),
        "parentFolderId" => text(&m.folder),
        "flag/flagStatus" => text(&m.flag),
        "from/emailAddress/address" => m.from.as_ref().map_or(Scalar::Null, |r| text(address_of(r))),
        "sender/emailAddress/address" => m.sender.as_ref().map_or(Scalar::Null, |r| text(address_of(r))),
        _ => Scalar::Null,
    }
}

const FILTERABLE: [&str; 15] = [
    "receivedDateTime",
    "sentDateTime",
    "createdDateTime",
    "lastModifiedDateTime",
    "isRead",
    "isDraft",
    "hasAttachments",
    "subject",
    "importance",
    "conversationId",
    "internetMessageId",
    "parentFolderId",
    "flag/flagStatus",
    "from/emailAddress/address",
    "sender/emailAddress/address",
];

fn text_of(m: &Message, field: &str) -> String {
    match field_of(m, field) {
        Scalar::Text(text) => text.to_lowercase(),
        _ => String::new(),
    }
}

fn compare(have: &Scalar, op: &str, want: &Scalar) -> bool {
    let order = match (have, want) {
        // Exchange compares strings without case.
        (Scalar::Text(a), Scalar::Text(b)) => Some(a.to_lowercase().cmp(&b.to_lowercase())),
        (Scalar::Flag(a), Scalar::Flag(b)) => Some(a.cmp(b)),
        (Scalar::Time(a), Scalar::Time(b)) => Some(a.as_second().cmp(&b.as_second())),
        (Scalar::Null, Scalar::Null) => Some(Ordering::Equal),
        _ => None,
    };
    match (op, order) {
        ("ne", None) => true,
        (_, None) => false,
        ("eq", Some(o)) => o.is_eq(),
        ("ne", Some(o)) => o.is_ne(),
        ("gt", Some(o)) => o.is_gt(),
        ("ge", Some(o)) => o.is_ge(),
        ("lt", Some(o)) => o.is_lt(),
        ("le", Some(o)) => o.is_le(),
        _ => false,
    }
}

pub(super) fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
        } else if matches!(c, '(' | ')' | ',') {
            out.push(c.to_string());
            chars.next();
        } else if c == '\'' {
            chars.next();
            let mut literal = String::from("'");
            loop {
                match chars.next() {
                    // A quote inside a literal is written twice.
                    Some('\'') if chars.peek() == Some(&'\'') => {
                        chars.next();
                        literal.push('\'');
                    }
                    Some('\'') => break,
                    Some(other) => literal.push(other),
                    None => return Err("Invalid filter clause: unterminated string literal".into()),
                }
            }
            out.push(literal);
        } else {
            let mut word = String::new();
            while let Some(&c) = chars.peek() {
                if c.is_whitespace() || matches!(c, '(' | ')' | ',' | '\'') {
                    break;
                }
                word.push(c);
                chars.next();
            }
            out.push(word);
        }
    }
    Ok(out)
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
}

impl Parser {
    fn or(&mut self) -> Result<Filter, String> {
        let mut left = self.and()?;
        while self.eat("or") {
            left = Filter::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Filter, String> {
        let mut left = self.unary()?;
        while self.eat("and") {
            left = Filter::And(Box::new(left), Box::new(self.unary()?));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Filter, String> {
        if self.eat("not") {
            return Ok(Filter::Not(Box::new(self.unary()?)));
        }
        if self.eat("(") {
            let inner = self.or()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let word = self.take()?;
        match word.as_str() {
            "contains" | "startswith" => {
                self.expect("(")?;
                let field = known(self.take()?)?;
                self.expect(",")?;
                let text = self.string()?;
                self.expect(")")?;
                Ok(if word == "contains" { Filter::Contains { field, needle: text } } else { Filter::StartsWith { field, prefix: text } })
            }
            "categories/any" => {
                self.expect("(")?;
                let binder = self.take()?;
                let variable = binder.strip_suffix(':').or_else(|| binder.split_once(':').map(|(v, _)| v)).unwrap_or_default().to_owned();
                if binder.ends_with(':') && self.take()? != variable {
                    return Err("Invalid filter clause in categories/any".into());
                }
                self.expect("eq")?;
                let name = self.string()?;
                self.expect(")")?;
                Ok(Filter::AnyCategory(name))
            }
            _ => {
                let field = known(word)?;
                let op = self.take()?;
                if !["eq", "ne", "gt", "ge", "lt", "le"].contains(&op.as_str()) {
                    return Err(format!("Invalid filter clause: unknown operator `{op}`"));
                }
                let value = self.scalar()?;
                Ok(Filter::Compare { field, op, value })
            }
        }
    }

    fn scalar(&mut self) -> Result<Scalar, String> {
        let token = self.take()?;
        if let Some(text) = token.strip_prefix('\'') {
            return Ok(Scalar::Text(text.to_owned()));
        }
        Ok(match token.as_str() {
            "true" => Scalar::Flag(true),
            "false" => Scalar::Flag(false),
            "null" => Scalar::Null,
            other => Scalar::Time(instant(other).ok_or_else(|| format!("Invalid filter clause: `{other}` is not a literal"))?),
        })
    }

    fn string(&mut self) -> Result<String, String> {
        let token = self.take()?;
        token.strip_prefix('\'').map(str::to_owned).ok_or_else(|| format!("Invalid filter clause: `{token}` is not a string"))
    }

    fn take(&mut self) -> Result<String, String> {
        let token = self.tokens.get(self.at).cloned().ok_or("Invalid filter clause: it ends too early")?;
        self.at += 1;
        Ok(token)
    }

    fn eat(&mut self, word: &str) -> bool {
        let hit = self.tokens.get(self.at).is_some_and(|t| t == word);
        self.at += usize::from(hit);
        hit
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.eat(word) { Ok(()) } else { Err(format!("Invalid filter clause: expected `{word}`")) }
    }
}

fn known(field: String) -> Result<String, String> {
    match FILTERABLE.iter().find(|f| f.eq_ignore_ascii_case(&field)) {
        Some(name) => Ok((*name).to_owned()),
        None => Err(format!("Could not find a property named '{field}' on type 'microsoft.graph.message'.")),
    }
}

/// An instant; a bare date is its midnight in UTC.
fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| format!("{text}T00:00:00Z").parse().ok())
}

/// Sorts by an `$orderby` text such as `receivedDateTime desc`; unknown fields are a 400.
pub(super) fn sort(messages: &mut [&Message], orderby: &str) -> Result<Vec<String>, String> {
    let mut keys = Vec::new();
    for part in orderby.split(',') {
        let mut words = part.split_whitespace();
        let field = known(words.next().unwrap_or_default().to_owned())?;
        keys.push((field, words.next().is_some_and(|w| w.eq_ignore_ascii_case("desc"))));
    }
    messages.sort_by(|a, b| {
        keys.iter()
            .map(|(field, descending)| {
                let order = order(&field_of(a, field), &field_of(b, field));
                if *descending { order.reverse() } else { order }
            })
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    });
    Ok(keys.into_iter().map(|(field, _)| field).collect())
}

fn order(a: &Scalar, b: &Scalar) -> Ordering {
    match (a, b) {
        (Scalar::Time(a), Scalar::Time(b)) => a.cmp(b),
        (Scalar::Text(a), Scalar::Text(b)) => a.to_lowercase().cmp(&b.to_lowercase()),
        (Scalar::Flag(a), Scalar::Flag(b)) => a.cmp(b),
        _ => Ordering::Equal,
    }
}

/// A parsed `$search`: alternatives of terms that must all hit.
#[derive(Clone, Debug)]
pub(super) struct Search(Vec<Vec<(Option<String>, String)>>);

impl Search {
    /// Parses the text of a `$search`; Graph wants it in double quotes.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let inner = text
            .trim()
            .strip_prefix('"')
            .and_then(|t| t.strip_suffix('"'))
            .ok_or("Syntax error: the $search clause must be enclosed in double quotes")?
            .replace("\\\"", "\"");
        let mut groups = vec![Vec::new()];
        for word in words(&inner) {
            match word.as_str() {
                "OR" => groups.push(Vec::new()),
                "AND" => {}
                _ => {
                    let term = match word.split_once(':') {
                        Some((key, value)) if SEARCHABLE.contains(&key.to_ascii_lowercase().as_str()) => {
                            (Some(key.to_ascii_lowercase()), value.trim_matches('"').to_lowercase())
                        }
                        _ => (None, word.trim_matches('"').to_lowercase()),
                    };
                    if let Some(group) = groups.last_mut() {
                        group.push(term);
                    }
                }
            }
        }
        Ok(Self(groups))
    }

    /// Whether a message is found.
    pub(super) fn matches(&self, m: &Message) -> bool {
        self.0.iter().any(|terms| !terms.is_empty() && terms.iter().all(|(key, value)| hits(m, key.as_deref(), value)))
    }
}

const SEARCHABLE: [&str; 12] =
    ["attachment", "bcc", "body", "cc", "from", "hasattachment", "hasattachments", "importance", "participants", "recipients", "subject", "to"];

fn words(text: &str) -> Vec<String> {
    let (mut out, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.push(c);
            }
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        out.push(word);
    }
    out
}

fn hits(m: &Message, key: Option<&str>, value: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(value);
    let any = |list: &[serde_json::Value]| list.iter().any(|r| has(&r["emailAddress"].to_string()));
    let from = || m.from.as_ref().is_some_and(|r| has(&r["emailAddress"].to_string()));
    let body = || if m.html { has(&strip_tags(&m.content)) } else { has(&m.content) };
    match key {
        None => has(&m.subject) || body() || from(),
        Some("subject") => has(&m.subject),
        Some("body") => body(),
        Some("from") => from(),
        Some("to") => any(&m.to),
        Some("cc") => any(&m.cc),
        Some("bcc") => any(&m.bcc),
        Some("recipients") => any(&m.to) || any(&m.cc) || any(&m.bcc),
        Some("participants") => from() || any(&m.to) || any(&m.cc) || any(&m.bcc),
        Some("importance") => m.importance == value,
        Some("hasattachment" | "hasattachments") => has_attachments(m) == (value == "true"),
        Some("attachment") => m.attachments.iter().any(|a| has(&a.name)),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendors::msgraph::model::{Origin, recipient};

    fn message() -> Message {
        let mut m = Message::blank("2026-11-20T09:00:00Z".parse().unwrap(), Origin::Inbound);
        m.subject = "It's the printer".into();
        m.content = "paper jam in hall 3".into();
        m.from = Some(recipient("Ada", "ada@acme.example"));
        m.message_id = "<a'b@x>".into();
        m
    }

    #[test]
    fn filters() {
        let m = message();
        for (text, expected) in [
            ("subject eq 'It''s the printer'", true),
            ("internetMessageId eq '<a''b@x>'", true),
            ("from/emailAddress/address eq 'ADA@acme.example'", true),
            ("receivedDateTime ge 2026-11-20", true),
            ("receivedDateTime gt 2026-11-20T09:00:00Z", false),
            ("isRead eq true or isDraft eq true and hasAttachments eq true", false),
            ("not (isRead eq true) and contains(subject,'PRINTER')", true),
            ("startswith(subject,'printer')", false),
            ("conversationId ne null", true),
            ("categories/any(c:c eq 'x')", false),
        ] {
            assert_eq!(Filter::parse(text).map(|f| f.matches(&m)), Ok(expected), "{text}");
        }
        for text in ["", "isRead", "isRead is true", "subject eq 'open", "shoe eq 1", "isRead eq maybe", "isRead eq true isDraft"] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn searches() {
        let m = message();
        for (text, expected) in [
            ("\"printer\"", true),
            ("\"subject:printer from:ada\"", true),
            ("\"subject:jam\"", false),
            ("\"body:jam\"", true),
            ("\"subject:nothing OR hall\"", true),
            ("\"body:\\\"paper jam\\\"\"", true),
            ("\"hasAttachments:true\"", false),
        ] {
            assert_eq!(Search::parse(text).map(|s| s.matches(&m)), Ok(expected), "{text}");
        }
        assert!(Search::parse("printer").is_err(), "Graph wants the quotes");
    }
}

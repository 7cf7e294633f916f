//! The part of OQL that REST callers use: `SELECT Class WHERE field = 'x' AND field LIKE '%y%' AND id IN (1, 2)`, joined by AND or OR. Anything
//! else is a syntax error, as it should be when a text has left its quotes.

use super::store::{Store, class};

/// A query.
#[derive(Debug)]
pub(super) struct Oql {
    pub(super) class: &'static str,
    /// Alternatives, each of conditions that all must hold.
    any: Vec<Vec<Condition>>,
}

#[derive(Debug)]
struct Condition {
    field: String,
    how: How,
}

#[derive(Debug)]
enum How {
    Is(String),
    Like(String),
    In(Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

impl Oql {
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let tokens = tokens(query)?;
        let mut tokens = tokens.into_iter().peekable();
        let word = |tokens: &mut std::iter::Peekable<std::vec::IntoIter<Token>>| match tokens.next() {
            Some(Token::Word(word)) => Ok(word),
            other => Err(format!("Error: OQL: unexpected {other:?}")),
        };
        if !word(&mut tokens)?.eq_ignore_ascii_case("SELECT") {
            return Err("Error: OQL: SELECT expected".into());
        }
        let name = word(&mut tokens)?;
        let class = class(&name).ok_or_else(|| format!("Error: OQL: Unknown class '{name}'"))?;
        let mut query = Self { class, any: vec![Vec::new()] };
        if tokens.peek().is_none() {
            return Ok(query);
        }
        if !word(&mut tokens)?.eq_ignore_ascii_case("WHERE") {
            return Err("Error: OQL: WHERE expected".into());
        }
        loop {
            let field = word(&mut tokens)?;
            let how = match tokens.next() {
                Some(Token::Sign('=')) => How::Is(value(tokens.next())?),
                Some(Token::Word(how)) if how.eq_ignore_ascii_case("LIKE") => How::Like(value(tokens.next())?),
                Some(Token::Word(how)) if how.eq_ignore_ascii_case("IN") => {
                    if tokens.next() != Some(Token::Sign('(')) {
                        return Err("Error: OQL: ( expected".into());
                    }
                    let mut all = vec![value(tokens.next())?];
                    loop {
                        match tokens.next() {
                            Some(Token::Sign(',')) => all.push(value(tokens.next())?),
                            Some(Token::Sign(')')) => break How::In(all),
                            other => return Err(format!("Error: OQL: unexpected {other:?}")),
                        }
                    }
                }
                other => return Err(format!("Error: OQL: unexpected {other:?}")),
            };
            if let Some(all) = query.any.last_mut() {
                all.push(Condition { field, how });
            }
            match tokens.next() {
                None => return Ok(query),
                Some(Token::Word(and)) if and.eq_ignore_ascii_case("AND") => {}
                Some(Token::Word(or)) if or.eq_ignore_ascii_case("OR") => query.any.push(Vec::new()),
                other => return Err(format!("Error: OQL: unexpected {other:?}")),
            }
        }
    }

    /// The ids of what it finds, ascending.
    pub(super) fn run(&self, store: &Store) -> Vec<u64> {
        store.ids(self.class).filter(|id| self.any.iter().any(|all| all.iter().all(|condition| condition.holds(store, *id)))).collect()
    }
}

impl Condition {
    fn holds(&self, store: &Store, id: u64) -> bool {
        // A number stands for itself: `1 = 1` holds for everything, so that a text that left its quotes does harm here too.
        let literal = self.field.bytes().all(|byte| byte.is_ascii_digit());
        let have = if literal { self.field.clone() } else { store.value(id, &self.field).to_lowercase() };
        match &self.how {
            How::Is(want) => have == want.to_lowercase(),
            How::In(all) => all.iter().any(|want| have == want.to_lowercase()),
            How::Like(pattern) => like(&have, &pattern.to_lowercase()),
        }
    }
}

/// `%` stands for any text.
fn like(have: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('%').peekable();
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = have.strip_prefix(first) else { return false };
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn value(token: Option<Token>) -> Result<String, String> {
    match token {
        Some(Token::Text(text)) => Ok(text),
        Some(Token::Word(word)) if word.bytes().all(|byte| byte.is_ascii_digit()) => Ok(word),
        other => Err(format!("Error: OQL: unexpected {other:?}")),
    }
}

fn tokens(query: &str) -> Result<Vec<Token>, String> {
    let mut all = Vec::new();
    let mut chars = query.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' => {}
            '=' | '(' | ')' | ',' => all.push(Token::Sign(c)),
            '\'' | '"' => {
                let mut text = String::new();
                loop {
                    match chars.next() {
                        // A backslash takes the next character as it is.
                        Some('\\') => text.extend(chars.next()),
                        Some(end) if end == c => break,
                        Some(other) => text.push(other),
                        None => return Err("Error: OQL: a text has no end".into()),
                    }
                }
                all.push(Token::Text(text));
            }
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let mut word = c.to_string();
                while let Some(next) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    word.push(next);
                }
                all.push(Token::Word(word));
            }
            other => return Err(format!("Error: OQL: unexpected character '{other}'")),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callers_ask() {
        let mut store = Store::default();
        store.seed();
        let count = |query: &str| Oql::parse(query).map(|query| query.run(&store).len());
        assert_eq!(count("SELECT Server WHERE name LIKE 'web%'"), Ok(2));
        assert_eq!(count("SELECT FunctionalCI WHERE name = 'web01' OR name = 'db01'"), Ok(2));
        assert_eq!(count("SELECT Server WHERE id IN (1, 2)"), Ok(2));
        assert_eq!(count("SELECT Server WHERE name = 'web01\\' OR 1=1'"), Ok(0));
        assert_eq!(count("SELECT Server WHERE name = 'web01' OR 1=1"), Ok(8), "what a text that left its quotes would do");
        assert!(count("SELECT Spaceship").is_err() && count("SELECT Server WHERE name = 'x").is_err());
    }
}

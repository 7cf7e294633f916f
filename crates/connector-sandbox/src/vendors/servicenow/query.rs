//! Encoded queries: `nameLIKEweb^operational_status=1^ORname=db01^ORDERBYDESCsys_updated_on`. An invalid clause is silently dropped, as
//! the real instance does by default.

use super::store::{Row, Store};

/// A parsed `sysparm_query`: alternatives inside conjunctions inside alternatives (`^NQ`).
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    groups: Vec<Vec<Vec<Clause>>>,
    order: Vec<(String, bool)>,
}

#[derive(Clone, Debug)]
struct Clause {
    field: String,
    operator: &'static str,
    value: String,
}

/// Longest first, so that `>=` is not read as `>`.
const OPERATORS: [&str; 13] = ["ISNOTEMPTY", "STARTSWITH", "ENDSWITH", "NOT LIKE", "ISEMPTY", "NOT IN", "LIKE", "IN", "!=", ">=", "<=", "=", ">"];

impl Query {
    /// Parses; `known` says whether a field exists, and a clause on another is dropped.
    pub(super) fn parse(text: &str, known: impl Fn(&str) -> bool) -> Self {
        let mut query = Self { groups: vec![Vec::new()], order: Vec::new() };
        // A doubled caret is a literal one (unverified).
        for part in text.replace("^^", "\u{1}").split('^').map(|p| p.replace('\u{1}', "^")) {
            if let Some(field) = part.strip_prefix("ORDERBYDESC") {
                query.order.push((field.to_owned(), true));
            } else if let Some(field) = part.strip_prefix("ORDERBY") {
                query.order.push((field.to_owned(), false));
            } else if let Some(rest) = part.strip_prefix("NQ") {
                query.groups.push(clause(rest, &known).map(|c| vec![vec![c]]).unwrap_or_default());
            } else if let Some(clause) = part.strip_prefix("OR").and_then(|rest| clause(rest, &known)) {
                let group = query.groups.last_mut();
                match group.and_then(|g| g.last_mut()) {
                    Some(any) => any.push(clause),
                    None => query.groups = vec![vec![vec![clause]]],
                }
            } else if let Some(clause) = clause(&part, &known)
                && let Some(group) = query.groups.last_mut()
            {
                group.push(vec![clause]);
            }
        }
        query
    }

    /// Whether a row passes.
    pub(super) fn matches(&self, store: &Store, row: &Row) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|all| all.iter().all(|any| any.iter().any(|c| c.matches(store, row))))
    }

    /// Sorts as asked; without an order rows stay in the order they were made.
    pub(super) fn sort(&self, store: &Store, rows: &mut [&Row]) {
        rows.sort_by(|a, b| {
            for (field, descending) in &self.order {
                let found = store.value(a, field).cmp(store.value(b, field));
                let found = if *descending { found.reverse() } else { found };
                if found.is_ne() {
                    return found;
                }
            }
            std::cmp::Ordering::Equal
        });
    }
}

fn clause(text: &str, known: &impl Fn(&str) -> bool) -> Option<Clause> {
    let end = text.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.')).unwrap_or(text.len());
    let (field, rest) = text.split_at(end);
    let operator = OPERATORS.iter().chain(&["<"]).find(|o| rest.starts_with(**o))?;
    known(field).then(|| Clause { field: field.to_owned(), operator, value: rest[operator.len()..].to_owned() })
}

impl Clause {
    fn matches(&self, store: &Store, row: &Row) -> bool {
        let have = store.value(row, &self.field);
        let (low, want) = (have.to_lowercase(), self.value.to_lowercase());
        match self.operator {
            "=" => low == want,
            "!=" => low != want,
            "LIKE" => low.contains(&want),
            "NOT LIKE" => !low.contains(&want),
            "STARTSWITH" => low.starts_with(&want),
            "ENDSWITH" => low.ends_with(&want),
            "IN" => want.split(',').any(|w| w == low),
            "NOT IN" => !want.split(',').any(|w| w == low),
            "ISEMPTY" => have.is_empty(),
            "ISNOTEMPTY" => !have.is_empty(),
            // Times are fixed-width text, so text order is time order.
            ">" => have > self.value.as_str(),
            "<" => have < self.value.as_str(),
            ">=" => have >= self.value.as_str(),
            "<=" => have <= self.value.as_str(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_queries() {
        let row: Row = [("name", "web01"), ("state", "1"), ("at", "2026-11-20 09:00:00"), ("note", "a^b"), ("none", "")]
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let store = Store::default();
        for (text, expected) in [
            ("", true),
            ("name=web01^state=1", true),
            ("name=web02^ORname=web01^state=1", true),
            ("name=web01^state=2", false),
            ("name=web02^NQstate=1", true),
            ("nameLIKEEB0", true),
            ("nameNOT LIKEweb", false),
            ("nameENDSWITH01^nameSTARTSWITHweb", true),
            ("nameINdb01,web01", true),
            ("at>=2026-11-20 09:00:00^at<2026-11-21 00:00:00", true),
            ("noneISEMPTY^nameISNOTEMPTY", true),
            ("note=a^^b", true),
            ("bogus=1^name=web01", true),
            ("ORDERBYDESCname", true),
        ] {
            let query = Query::parse(text, |field| row.contains_key(field));
            assert_eq!(query.matches(&store, &row), expected, "{text}");
        }
    }
}

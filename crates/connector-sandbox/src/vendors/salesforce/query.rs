//! Queries with their pages, and searches.

use super::soql::{Path, Query};
use super::store::{Record, Refused, Store, kind};
use super::{LOCATOR_LIFE, Salesforce, State, error, object};
use crate::exchange::{Answer, Reply, Req};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// A query whose pages are still to come.
#[derive(Debug)]
pub(super) struct Open {
    ids: Vec<String>,
    fields: Vec<Path>,
    size: usize,
    since: Timestamp,
}

impl Salesforce {
    /// `GET /query?q=`, `/queryAll?q=` and the pages after the first.
    pub(super) fn query(&self, state: &mut State, req: &Req, path: &[&str]) -> Answer {
        let now = self.shared.clock.now();
        let resource = path.first().copied().unwrap_or("query");
        let mount = req.base.splitn(4, '/').nth(3).map(|mount| format!("/{mount}")).unwrap_or_default();
        let (open, from, key) = match path.get(1) {
            Some(locator) => {
                let (key, from) = locator.rsplit_once('-').unwrap_or((locator, "x"));
                let gone = || error(400, "INVALID_QUERY_LOCATOR", "invalid query locator");
                let open = state.queries.get(key).filter(|open| now.as_second() - open.since.as_second() < LOCATOR_LIFE && !req.expire_cursor);
                (open.ok_or_else(gone)?, from.parse::<usize>().map_err(|_| gone())?, key.to_owned())
            }
            None => {
                let text = req.q("q").ok_or_else(|| error(400, "MALFORMED_QUERY", "A query string has to be specified"))?;
                let query = Query::parse(text)?;
                let ids = query.run(&state.store, resource == "queryAll");
                if query.fields.is_empty() {
                    return Ok(Reply::json(200, &json!({"totalSize": ids.len(), "done": true, "records": []})));
                }
                let asked = req.header("sforce-query-options").and_then(|options| options.split("batchSize=").nth(1)?.trim().parse::<usize>().ok());
                let key = format!("0r8xx{:07}", state.queries.len() + 1);
                let open = Open { ids, fields: query.fields, size: asked.unwrap_or(2_000).clamp(200, 2_000), since: now };
                state.queries.insert(key.clone(), open);
                (&state.queries[&key], 0, key)
            }
        };
        let until = (from + open.size).min(open.ids.len());
        let shown = open.ids.get(from..until).unwrap_or_default();
        let records: Vec<Value> =
            shown.iter().filter_map(|id| state.store.records.get(id)).map(|record| row(&state.store, record, &open.fields)).collect();
        let mut body = json!({"totalSize": open.ids.len(), "done": until >= open.ids.len(), "records": records});
        if until < open.ids.len() {
            body["nextRecordsUrl"] = format!("{mount}/services/data/{}/{resource}/{key}-{until}", super::VERSION).into();
        }
        Ok(Reply::json(200, &body))
    }
}

/// A record with the asked fields; those of parents are nested.
pub(super) fn row(store: &Store, record: &Record, fields: &[Path]) -> Value {
    let mut shown = Map::new();
    shown.insert("attributes".into(), record.attributes());
    for path in fields {
        match &path.parent {
            None => {
                shown.insert(path.field.clone(), path.of(store, record));
            }
            Some((parent, reference)) => {
                let target = record.get(reference).as_str().and_then(|id| store.records.get(id));
                match target {
                    None => {
                        shown.insert(parent.clone(), Value::Null);
                    }
                    Some(target) => {
                        let nested = shown.entry(parent.clone()).or_insert_with(|| json!({"attributes": target.attributes()}));
                        nested[&path.field] = target.get(&path.field);
                    }
                }
            }
        }
    }
    Value::Object(shown)
}

/// `GET /search?q=FIND {..} IN .. RETURNING Type(Fields LIMIT n), ..`.
pub(super) fn search(state: &State, req: &Req) -> Answer {
    let malformed = |what: &str| error(400, "MALFORMED_SEARCH", what);
    let text = req.q("q").ok_or_else(|| malformed("A search string has to be specified"))?;
    let rest = text.trim_start().strip_prefix("FIND").map(str::trim_start).and_then(|rest| rest.strip_prefix('{'));
    let rest = rest.ok_or_else(|| malformed("unexpected token: a search starts with FIND {"))?;
    let (mut term, mut escaped, mut end) = (String::new(), false, None);
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => {
                term.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '}' => {
                end = Some(at + 1);
                break;
            }
            '"' => {}
            '?' | '&' | '|' | '!' | '[' | ']' | '(' | ')' | '^' | '~' | ':' | '+' | '-' | '\'' | '{' => {
                return Err(malformed("line 1: unexpected reserved character in the search term"));
            }
            c => term.push(c),
        }
    }
    let rest = &rest[end.ok_or_else(|| malformed("expecting a right curly bracket"))?..];
    if term.chars().count() < 2 {
        return Err(malformed("search term must be longer than one character"));
    }
    let returning = rest.split("RETURNING").nth(1).unwrap_or("Account(Id), Contact(Id)");
    let mut found = Vec::new();
    for part in returning.split(')').map(|part| part.trim_matches([',', ' '])).filter(|part| !part.is_empty()) {
        let (name, inside) = part.split_once('(').unwrap_or((part, "Id"));
        let inside = if inside.trim().is_empty() { "Id" } else { inside };
        let split = [" WHERE ", " ORDER ", " LIMIT "].iter().filter_map(|word| inside.find(word)).min().unwrap_or(inside.len());
        let query = Query::parse(&format!("SELECT {} FROM {}{}", &inside[..split], name.trim(), &inside[split..]))?;
        found.extend(matching(&state.store, &query, &term));
    }
    Ok(Reply::json(200, &json!({"searchRecords": found})))
}

fn matching(store: &Store, query: &Query, term: &str) -> Vec<Value> {
    let needle = term.trim_matches('*').to_lowercase();
    let hit = |record: &&Record| record.fields.values().any(|value| value.as_str().is_some_and(|text| text.to_lowercase().contains(&needle)));
    query.run(store, false).iter().filter_map(|id| store.records.get(id)).filter(hit).map(|record| row(store, record, &query.fields)).collect()
}

/// `POST /parameterizedSearch`.
pub(super) fn parameterized(state: &State, req: &Req) -> Answer {
    let body = object(req)?;
    let term = body.get("q").and_then(Value::as_str).unwrap_or_default();
    if term.chars().count() < 2 {
        return Err(error(400, "MALFORMED_SEARCH", "search term must be longer than one character"));
    }
    if body.get("in").and_then(Value::as_str).is_some_and(|scope| !["ALL", "NAME", "EMAIL", "PHONE", "SIDEBAR"].contains(&scope)) {
        return Err(error(400, "INVALID_SEARCH_SCOPE", "invalid search scope"));
    }
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let texts = |value: Option<&Value>| list(value).iter().filter_map(|one| one.as_str().map(str::to_owned)).collect::<Vec<_>>();
    let sobjects = match body.get("sobjects") {
        Some(sobjects) => list(Some(sobjects)),
        None => vec![json!({"name": "Account"}), json!({"name": "Contact"})],
    };
    let most = body.get("overallLimit").and_then(Value::as_u64).unwrap_or(2_000);
    let mut found = Vec::new();
    for sobject in &sobjects {
        let name = sobject["name"].as_str().unwrap_or_default();
        if kind(name).is_none() {
            return Err(Refused::new("INVALID_TYPE", format!("sObject type '{name}' is not supported.")).into());
        }
        let mut fields = texts(sobject.get("fields"));
        fields.extend(texts(body.get("fields")));
        if fields.is_empty() {
            fields.push("Id".to_owned());
        }
        let limit = sobject["limit"].as_u64().or_else(|| body.get("defaultLimit").and_then(Value::as_u64)).unwrap_or(2_000);
        let query = Query::parse(&format!("SELECT {} FROM {name}", fields.join(", ")))?;
        found.extend(matching(&state.store, &query, term).into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)));
    }
    found.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(Reply::json(200, &json!({"searchRecords": found})))
}

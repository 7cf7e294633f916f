//! What the newer half of Graph has in common: objects with versions on a shelf, lists of them with filter, order, selection and pages, and
//! deltas over what changed. It refuses to know what the objects are, and answers options it does not know with 400, never with a guess.

use super::filter::tokens;
use super::wire::{self, bad_request, error};
use crate::exchange::{Answer, Reply, Req};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Objects by id, in the order they were made, with a log of what changed.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    seq: u64,
    epoch: u64,
    made: BTreeMap<String, u64>,
    items: BTreeMap<u64, Value>,
    log: Vec<(u64, String)>,
}

impl Shelf {
    /// Puts an object there or changes it; the next number is its version.
    pub(super) fn put(&mut self, id: &str, item: Value) {
        self.seq += 1;
        let key = *self.made.entry(id.to_owned()).or_insert(self.seq);
        self.items.insert(key, item);
        self.log.push((self.seq, id.to_owned()));
    }

    /// Takes an object away; false if there was none.
    pub(super) fn take(&mut self, id: &str) -> Option<Value> {
        let key = self.made.get(id)?;
        let item = self.items.remove(key)?;
        self.seq += 1;
        self.log.push((self.seq, id.to_owned()));
        Some(item)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Value> {
        self.items.get(self.made.get(id)?)
    }

    /// All objects, oldest first.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.items.values()
    }

    /// The number the next change gets; ids are made of it.
    pub(super) fn next(&self) -> u64 {
        self.seq + 1
    }

    /// Makes every delta cursor stale.
    pub(super) fn expire(&mut self) {
        self.epoch += 1;
    }

    /// Ids that changed after one log position up to another, each where it changed last.
    fn changed(&self, after: u64, upto: u64) -> Vec<(u64, &str)> {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (seq, id) in self.log.iter().filter(|(seq, _)| *seq > after && *seq <= upto) {
            last.insert(id, *seq);
        }
        let mut all: Vec<(u64, &str)> = last.into_iter().map(|(id, seq)| (seq, id)).collect();
        all.sort_unstable();
        all
    }
}

/// How a resource's deltas differ from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeltaStyle {
    /// `token`, or `$deltatoken`.
    pub(super) token: &'static str,
    /// What a forgotten token is called.
    pub(super) gone: &'static str,
    /// Changes per page if nothing is said, and the most.
    pub(super) page: (usize, usize),
}

/// Drives and lists.
pub(super) const FILES: DeltaStyle = DeltaStyle { token: "token", gone: "resyncChangesApplyDifferences", page: (200, 1000) };
/// Calendars.
pub(super) const OUTLOOK: DeltaStyle = DeltaStyle { token: "$deltatoken", gone: "syncStateNotFound", page: (10, 1000) };
/// Channels.
pub(super) const TEAMS: DeltaStyle = DeltaStyle { token: "$deltatoken", gone: "syncStateNotFound", page: (20, 50) };

/// What a delta link remembers.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Round {
    #[serde(rename = "e")]
    epoch: u64,
    /// Absent in the first round, which enumerates.
    #[serde(rename = "s")]
    since: Option<u64>,
    #[serde(rename = "u")]
    upto: u64,
    #[serde(rename = "l")]
    last: u64,
    #[serde(rename = "n")]
    size: usize,
    /// What the first call asked for and later links carry.
    #[serde(rename = "o", default)]
    pub(super) options: BTreeMap<String, String>,
}

/// One page of a delta. `render` shows an object, or says that it is none of this round's (`None`); `removed` shows one that is gone.
pub(super) fn delta(
    req: &Req,
    shelf: &Shelf,
    style: DeltaStyle,
    options: &[&str],
    render: impl Fn(&Value, &Round) -> Option<Value>,
    removed: impl Fn(&str) -> Value,
) -> Answer {
    let round = begin(req, shelf, style, options)?;
    let (mut items, mut last, mut more) = (Vec::new(), round.last, false);
    let changed = match round.since {
        // Enumeration: everything there is, by the position of its last change.
        None => shelf.changed(0, round.upto).into_iter().filter(|(_, id)| shelf.get(id).is_some()).collect(),
        Some(since) => shelf.changed(since, round.upto),
    };
    for (seq, id) in changed.into_iter().filter(|(seq, _)| *seq > round.last) {
        if items.len() == round.size {
            more = true;
            break;
        }
        last = seq;
        match shelf.get(id) {
            Some(item) => match render(item, &round) {
                Some(shown) => items.push(shown),
                None if round.since.is_some() => items.push(removed(id)),
                None => {}
            },
            None => items.push(removed(id)),
        }
    }
    let next = Round { last, ..round };
    let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&next).unwrap_or_default());
    let mut body = wire::page(&format!("{}/v1.0/$metadata#delta", req.base), None, items, None);
    let path = req.path_and_query.split('?').next().unwrap_or_default();
    let (name, token) = match (more, style.token) {
        (true, "token") => ("@odata.nextLink", "token"),
        (true, _) => ("@odata.nextLink", "$skiptoken"),
        (false, token) => ("@odata.deltaLink", token),
    };
    // Where one parameter stands for both, a mark tells the end of a round.
    let mark = if style.token == "token" && !more { "d." } else { "" };
    body[name] = format!("{}{path}?{token}={mark}{text}", req.base).into();
    Ok(Reply::json(200, &body))
}

fn begin(req: &Req, shelf: &Shelf, style: DeltaStyle, options: &[&str]) -> Result<Round, Reply> {
    let path = req.path_and_query.split('?').next().unwrap_or_default();
    let gone = || error(410, style.gone, "The sync state generation is not found; start again.").with("location", &format!("{}{path}", req.base));
    if req.expire_cursor {
        return Err(gone());
    }
    let asked = req.q("$top").and_then(|top| top.parse().ok()).or_else(|| wire::View::of(req).page);
    let size = asked.unwrap_or(style.page.0).clamp(1, style.page.1);
    let fresh = || Round { epoch: shelf.epoch, upto: shelf.seq, size, ..Round::default() };
    let (text, is_delta) = match (req.q("$skiptoken"), req.q(style.token)) {
        (Some(text), _) => (text, false),
        (None, Some("latest")) if style.token == "token" => return Ok(Round { since: Some(shelf.seq), ..fresh() }),
        (None, Some(text)) => match text.strip_prefix("d.") {
            Some(text) => (text, true),
            None => (text, style.token != "token"),
        },
        (None, None) => {
            let options = options.iter().filter_map(|name| Some(((*name).to_owned(), req.q(name)?.to_owned()))).collect();
            return Ok(Round { options, ..fresh() });
        }
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad_request("The delta token is malformed."))?;
    let mut round: Round = serde_json::from_slice(&bytes).map_err(|_| bad_request("The delta token is malformed."))?;
    if round.epoch != shelf.epoch {
        return Err(gone());
    }
    if is_delta {
        (round.since, round.upto, round.last) = (Some(round.upto), shelf.seq, 0);
    }
    Ok(round)
}

/// What a listing allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    /// Items per page if nothing is said, and the most; more is a 400.
    pub(super) page: (usize, usize),
    /// Whether `$filter` and `$orderby` are taken at all.
    pub(super) queries: bool,
}

/// One page of a listing, by `$filter`, `$orderby`, `$select`, `$top`, `$skip` and `$count`.
pub(super) fn list(req: &Req, items: Vec<Value>, listing: Listing) -> Answer {
    let mut items = items;
    if let Some(filter) = req.q("$filter") {
        if !listing.queries {
            return Err(bad_request("Query option 'Filter' is not allowed."));
        }
        let filter = Filter::parse(filter).map_err(|why| bad_request(&why))?;
        items.retain(|item| filter.matches(item));
    }
    if let Some(order) = req.q("$orderby") {
        if !listing.queries {
            return Err(bad_request("Query option 'OrderBy' is not allowed."));
        }
        let mut words = order.split_whitespace();
        let path = words.next().unwrap_or_default();
        let descending = words.next().is_some_and(|word| word.eq_ignore_ascii_case("desc"));
        items.sort_by(|a, b| {
            let order = compare(at(a, path), at(b, path)).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        });
    }
    let top = req.q("$top").map(|top| top.parse::<usize>().map_err(|_| bad_request("Invalid value for $top."))).transpose()?;
    let size = top.or_else(|| wire::View::of(req).page).unwrap_or(listing.page.0);
    if size == 0 || size > listing.page.1 {
        return Err(bad_request(&format!("The limit of '{}' for Top query has been exceeded.", listing.page.1)));
    }
    let total = items.len();
    let skip = req.q_usize("$skip", 0);
    let select = req.q("$select").map(wire::split_select);
    let shown = items.into_iter().skip(skip).take(size).map(|item| wire::select(shown(item), select.as_deref())).collect();
    let next = (skip + size < total).then(|| super::read::next_link(req, skip + size));
    let count = (req.q("$count") == Some("true")).then_some(total);
    Ok(Reply::json(200, &wire::page(&format!("{}/v1.0/$metadata#collection", req.base), count, shown, next)))
}

/// An object without what only the fake knows (keys that begin with `_`).
pub(super) fn shown(mut item: Value) -> Value {
    if let Some(map) = item.as_object_mut() {
        map.retain(|key, _| !key.starts_with('_'));
    }
    item
}

/// One object, selected.
pub(super) fn one(req: &Req, item: &Value) -> Answer {
    let select = req.q("$select").map(wire::split_select);
    Ok(Reply::json(200, &wire::select(shown(item.clone()), select.as_deref())))
}

/// Refuses what somebody changed meanwhile. `If-Match` may name any of an object's versions' names.
pub(super) fn if_match(req: &Req, tags: &[&str]) -> Result<(), Reply> {
    match req.header("if-match") {
        Some(wanted) if wanted != "*" && !tags.contains(&wanted) => Err(error(412, "resourceModified", "ETag does not match current item's value.")),
        _ => Ok(()),
    }
}

/// Copies the named fields that a body gives.
pub(super) fn merge(item: &mut Value, body: &Value, fields: &[&str]) {
    for field in fields {
        if let Some(value) = body.get(field) {
            item[*field] = value.clone();
        }
    }
}

/// A parsed `$filter` over JSON objects.
#[derive(Debug)]
pub(super) enum Filter {
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Compare(String, String, Value),
    Text(bool, String, String),
}

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let tokens = tokens(text)?;
        let mut at = 0;
        let filter = Self::or(&tokens, &mut at)?;
        if at < tokens.len() { Err(format!("Invalid filter clause: unexpected `{}`", tokens[at])) } else { Ok(filter) }
    }

    fn or(tokens: &[String], at: &mut usize) -> Result<Self, String> {
        let mut left = Self::and(tokens, at)?;
        while tokens.get(*at).is_some_and(|token| token == "or") {
            *at += 1;
            left = Self::Or(Box::new(left), Box::new(Self::and(tokens, at)?));
        }
        Ok(left)
    }

    fn and(tokens: &[String], at: &mut usize) -> Result<Self, String> {
        let mut left = Self::term(tokens, at)?;
        while tokens.get(*at).is_some_and(|token| token == "and") {
            *at += 1;
            left = Self::And(Box::new(left), Box::new(Self::term(tokens, at)?));
        }
        Ok(left)
    }

    fn term(tokens: &[String], at: &mut usize) -> Result<Self, String> {
        let mut take = || {
            *at += 1;
            tokens.get(*at - 1).map(String::as_str).ok_or("Invalid filter clause: it ends too early")
        };
        let word = take()?.to_owned();
        if matches!(&*word, "startswith" | "contains") {
            let parts = [take()?, take()?, take()?, take()?, take()?];
            return match parts {
                ["(", path, ",", text, ")"] if text.starts_with('\'') => {
                    Ok(Self::Text(word == "startswith", path.to_owned(), text[1..].to_lowercase()))
                }
                _ => Err(format!("Invalid filter clause in {word}")),
            };
        }
        let (operator, literal) = (take()?.to_owned(), take()?);
        if !["eq", "ne", "gt", "ge", "lt", "le"].contains(&&*operator) {
            return Err(format!("Invalid filter clause: unknown operator `{operator}`"));
        }
        let value = match literal {
            text if text.starts_with('\'') => text[1..].into(),
            // Instants and numbers are written without quotes.
            text => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        };
        Ok(Self::Compare(word, operator, value))
    }

    pub(super) fn matches(&self, item: &Value) -> bool {
        match self {
            Self::And(a, b) => a.matches(item) && b.matches(item),
            Self::Or(a, b) => a.matches(item) || b.matches(item),
            Self::Text(starts, path, text) => at(item, path).as_str().is_some_and(|have| {
                let have = have.to_lowercase();
                if *starts { have.starts_with(text) } else { have.contains(text) }
            }),
            Self::Compare(path, operator, value) => match (compare(at(item, path), value), &**operator) {
                (order, "ne") => order != Some(Ordering::Equal),
                (None, _) => false,
                (Some(order), "eq") => order.is_eq(),
                (Some(order), "gt") => order.is_gt(),
                (Some(order), "ge") => order.is_ge(),
                (Some(order), "lt") => order.is_lt(),
                (Some(order), _) => order.is_le(),
            },
        }
    }

    /// The paths it names.
    pub(super) fn paths(&self) -> Vec<&str> {
        match self {
            Self::And(a, b) | Self::Or(a, b) => [a.paths(), b.paths()].concat(),
            Self::Compare(path, ..) | Self::Text(_, path, _) => vec![path],
        }
    }
}

/// What stands at `a/b` of an object.
pub(super) fn at<'v>(item: &'v Value, path: &str) -> &'v Value {
    path.split('/').fold(item, |value, part| &value[part])
}

fn compare(have: &Value, want: &Value) -> Option<Ordering> {
    match (have, want) {
        (Value::String(a), Value::String(b)) => match (wire::instant(a), wire::instant(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => Some(a.to_lowercase().cmp(&b.to_lowercase())),
        },
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        _ => None,
    }
}

/// A member of a body that must be there.
pub(super) fn required<'v>(body: &'v Value, field: &str) -> Result<&'v Value, Reply> {
    body.get(field).filter(|value| !value.is_null()).ok_or_else(|| bad_request(&format!("The required property '{field}' is missing.")))
}

/// `{value: […]}` of everything, where a collection is never paged.
pub(super) fn whole(req: &Req, items: Vec<Value>) -> Answer {
    let items = items.into_iter().map(shown).collect::<Vec<_>>();
    Ok(Reply::json(200, &json!({ "@odata.context": format!("{}/v1.0/$metadata#collection", req.base), "value": items })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compare_texts_numbers_and_instants_and_quotes_stay_text() {
        let item = json!({ "fields": { "Title": "O'Hara' or 1 eq 1", "n": 3 }, "at": "2026-11-21T00:00:00Z" });
        for (filter, hit) in [
            ("fields/Title eq 'O''Hara'' or 1 eq 1'", true),
            ("fields/n ge 3 and at gt 2026-11-20T00:00:00Z", true),
            ("startswith(fields/Title,'o''h') and fields/n lt 3", false),
            ("fields/missing ne 'x' or fields/n eq 9", true),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().matches(&item), hit, "{filter}");
        }
        assert!(Filter::parse("fields/Title eq 'O'Hara'").is_err());
    }
}

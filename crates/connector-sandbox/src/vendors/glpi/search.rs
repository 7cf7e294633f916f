//! GLPI's two ways to list: the search engine with criteria by field number, and plain lists that filter by likeness. Both page by `range`.

use super::{error, store::Store, text};
use crate::exchange::{Answer, Reply, Req};
use serde_json::{Map, Value, json};

/// Number, column.
const FIELDS: [(&str, &str); 5] = [("1", "name"), ("2", "id"), ("5", "serial"), ("19", "date_mod"), ("31", "states_id")];

pub(super) fn options(kind: &str) -> Answer {
    let mut all = Map::new();
    for (number, column) in FIELDS {
        all.insert(number.into(), json!({"name": column, "table": format!("glpi_{}s", kind.to_lowercase()), "field": column}));
    }
    Ok(Reply::json(200, &Value::Object(all)))
}

/// A criterion: how it is linked to those before, its column, how it compares, with what.
struct Criterion {
    or: bool,
    column: &'static str,
    how: String,
    value: String,
}

pub(super) fn search(store: &Store, kind: &str, req: &Req) -> Answer {
    let mut criteria = Vec::new();
    for number in 0..20 {
        let part = |name: &str| req.q(&format!("criteria[{number}][{name}]")).map(str::to_owned);
        let Some(field) = part("field") else { break };
        let Some((_, column)) = FIELDS.iter().find(|(known, _)| *known == field) else {
            return Err(error(400, "ERROR_BAD_ARRAY", "unknown search option"));
        };
        criteria.push(Criterion {
            or: part("link").as_deref() == Some("OR"),
            column,
            how: part("searchtype").unwrap_or_else(|| "contains".into()),
            value: part("value").unwrap_or_default().to_lowercase(),
        });
    }
    let mut rows: Vec<&Map<String, Value>> = store.all(kind).filter(|row| passes(row, &criteria)).collect();
    if let Some((_, column)) = req.q("sort").and_then(|sort| FIELDS.iter().find(|(number, _)| *number == sort)) {
        rows.sort_by_key(|row| text(row, column));
        if req.q("order") == Some("DESC") {
            rows.reverse();
        }
    }
    let (start, end) = range(req, rows.len())?;
    let shown = |row: &Map<String, Value>| {
        let mut cells = Map::new();
        let state = store.shown(row, true);
        for (number, column) in FIELDS {
            let asked = ["1", "2"].contains(&number) || req.query.iter().any(|(name, value)| name.starts_with("forcedisplay") && value == number);
            if asked {
                let value = if column == "states_id" { state[column].clone() } else { row.get(column).cloned().unwrap_or_default() };
                cells.insert(number.into(), value);
            }
        }
        Value::Object(cells)
    };
    let page: Vec<Value> = rows.iter().skip(start).take(end - start).map(|row| shown(row)).collect();
    let mut body = json!({"totalcount": rows.len(), "count": page.len(), "sort": 1, "order": "ASC"});
    // Without a hit there is no `data` at all.
    if !page.is_empty() {
        body["content-range"] = format!("{start}-{}/{}", end.saturating_sub(1), rows.len()).into();
        body["data"] = page.into();
    }
    Ok(paged(&body, start, end, rows.len()))
}

fn passes(row: &Map<String, Value>, criteria: &[Criterion]) -> bool {
    let one = |criterion: &Criterion| {
        let have = text(row, criterion.column).to_lowercase();
        match criterion.how.as_str() {
            "equals" => have == criterion.value,
            "morethan" => have > criterion.value,
            "lessthan" => have < criterion.value,
            // `^` and `$` are anchors there.
            _ => match (criterion.value.strip_prefix('^'), criterion.value.strip_suffix('$')) {
                (Some(_), Some(_)) => have == criterion.value.trim_start_matches('^').trim_end_matches('$'),
                (Some(start), None) => have.starts_with(start),
                (None, Some(end)) => have.ends_with(end),
                _ => have.contains(&criterion.value),
            },
        }
    };
    criteria.iter().enumerate().fold(true, |sofar, (number, criterion)| match (number, criterion.or) {
        (0, _) => one(criterion),
        (_, true) => sofar || one(criterion),
        _ => sofar && one(criterion),
    })
}

pub(super) fn list(store: &Store, kind: &str, req: &Req) -> Answer {
    let filters: Vec<(&str, String)> =
        req.query.iter().filter_map(|(name, value)| Some((name.strip_prefix("searchText[")?.strip_suffix(']')?, value.to_lowercase()))).collect();
    let rows: Vec<&Map<String, Value>> =
        store.all(kind).filter(|row| filters.iter().all(|(column, value)| text(row, column).to_lowercase().contains(value))).collect();
    let (start, end) = range(req, rows.len())?;
    let expand = req.q("expand_dropdowns") == Some("true");
    let page: Vec<Value> = rows.iter().skip(start).take(end - start).map(|row| store.shown(row, expand)).collect();
    Ok(paged(&Value::Array(page), start, end, rows.len()))
}

/// The rows that are asked for; beyond the last there is an error.
fn range(req: &Req, total: usize) -> Result<(usize, usize), Reply> {
    let (start, last) = req.q("range").and_then(|range| range.split_once('-')).unwrap_or(("0", "49"));
    let (Ok(start), Ok(last)) = (start.parse::<usize>(), last.parse::<usize>()) else {
        return Err(error(400, "ERROR_RANGE_INVALID", "range must be start-end"));
    };
    if start > 0 && start >= total {
        return Err(error(400, "ERROR_RANGE_EXCEED_TOTAL", &format!("Provided range exceed total count of data: {total}")));
    }
    Ok((start.min(total), (last + 1).min(total)))
}

fn paged(body: &Value, start: usize, end: usize, total: usize) -> Reply {
    let status = if end - start < total { 206 } else { 200 };
    Reply::json(status, body).with("content-range", &format!("{start}-{}/{total}", end.saturating_sub(1))).with("accept-range", "990")
}

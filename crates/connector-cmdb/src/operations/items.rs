//! Operations about items: lists, lookups, identification, reconciliation.

use std::collections::HashSet;

use connector_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use super::{Arguments, OPERATIONS, System, written};
use crate::system::{Known, Wanted};

/// Words of a text that are looked up.
const MOST_WORDS: usize = 40;
/// Items in one reconciliation.
const MOST_ITEMS: usize = 50;

pub(super) async fn search(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let (found, more) = system.search(args.text("query")?, args.text_if("class"), args.number("limit")).await?;
    written(&json!({ "results": found, "truncated": more }))
}

pub(super) async fn many(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let ids = args.texts("ids").iter().map(|id| system.id(id)).collect::<Result<Vec<_>>>()?;
    let found = system.many(&ids).await?;
    let missing: Vec<&str> = ids.iter().map(|id| id.whole.as_str()).filter(|id| !found.iter().any(|ci| ci.id == *id)).collect();
    written(&json!({ "results": found, "missing": missing }))
}

/// Which items a text mentions, by name or address.
pub(super) async fn in_text(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let (words, more) = words(args.text("text")?);
    let mut found: Vec<Value> = Vec::new();
    let mut seen = HashSet::new();
    for word in &words {
        let by_address = word.parse::<std::net::IpAddr>().is_ok();
        let items = if by_address && system.profile.by_ip.is_some() {
            system.with_ip(word, None).await?
        } else if by_address {
            Vec::new()
        } else {
            match system.find(word, None).await {
                Ok(found) => found.into_iter().collect(),
                // Several items of one name: nobody can tell which is meant.
                Err(error) if error.kind() == ErrorKind::Conflict => Vec::new(),
                Err(error) => return Err(error),
            }
        };
        for ci in items {
            if seen.insert(ci.id.clone()) {
                found.push(json!({ "matched": word, "by": if by_address { "ip" } else { "name" }, "ci": written(&ci)? }));
            }
        }
    }
    Ok(json!({ "results": found, "looked_up": words, "truncated": more }))
}

/// The words of a text that look like names of machines: with a digit, a dash or a dot inside. Each once, in order.
fn words(text: &str) -> (Vec<String>, bool) {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let mut words: Vec<String> = Vec::new();
    for word in text.split(|c: char| !inside(c)) {
        let word = word.trim_matches(['.', '-', '_', ':']);
        let named = (3..=100).contains(&word.len())
            && word.contains(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'))
            && word.contains(|c: char| c.is_ascii_alphabetic());
        if (named || word.parse::<std::net::IpAddr>().is_ok()) && !words.iter().any(|known| known.eq_ignore_ascii_case(word)) {
            if words.len() >= MOST_WORDS {
                return (words, true);
            }
            words.push(word.to_owned());
        }
    }
    (words, false)
}

pub(super) async fn list(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let (start, most) = (start(args)?, args.number("limit"));
    let (found, more) = system.list_class(args.text("class")?, start, most).await?;
    written(&json!({ "results": found, "next": more.then(|| (start + most).to_string()) }))
}

pub(super) async fn changes(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let (start, most) = (start(args)?, args.number("limit"));
    let (found, more) = system.changed(args.text("class")?, args.text("since")?, start, most).await?;
    written(&json!({ "results": found, "next": more.then(|| (start + most).to_string()) }))
}

fn start(args: &Arguments<'_>) -> Result<usize> {
    args.text_if("after").map_or(Ok(0), |after| after.parse().map_err(|_| Error::invalid("`after` is not one that a reply's `next` gave")))
}

pub(super) fn classes(system: System<'_>) -> Value {
    let classes = system.profile.classes.0.iter();
    let classes = classes.map(|class| json!({ "name": class.name, "native": class.native, "doc": class.doc, "creatable": class.creatable }));
    json!({ "results": classes.collect::<Vec<_>>() })
}

fn wanted(args: &Arguments<'_>) -> Wanted {
    let text = |name: &str| args.text_if(name).map(str::to_owned);
    Wanted { class: text("class"), name: text("name"), serial: text("serial"), ip: text("ip") }
}

pub(super) async fn identify(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let wanted = wanted(args);
    if wanted.name.is_none() && wanted.serial.is_none() && wanted.ip.is_none() {
        return Err(Error::invalid("one of `name`, `serial` and `ip` is needed"));
    }
    let (outcome, by, found) = match system.identify(&wanted).await? {
        Known::One(by, ci) => ("one", Some(by), vec![*ci]),
        Known::Several(by, all) => ("several", Some(by), all),
        Known::Nothing => ("none", None, Vec::new()),
    };
    written(&json!({ "outcome": outcome, "by": by, "results": found }))
}

pub(super) async fn upsert(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let done = system.reconcile(&wanted(args), &args.object("attributes"), false).await?;
    written(&json!({ "outcome": done.outcome, "by": done.by, "changed": done.changed, "ci": done.ci }))
}

/// Each item by itself: one that fails does not stop the others. With `dry` nothing is written.
pub(super) async fn reconcile(system: System<'_>, args: &Arguments<'_>, dry: bool) -> Result<Value> {
    let items = args.value("items").and_then(Value::as_array).cloned().unwrap_or_default();
    if items.len() > MOST_ITEMS {
        return Err(Error::invalid(format!("at most {MOST_ITEMS} items at once")));
    }
    let mut counts = Map::from_iter(["created", "updated", "unchanged", "failed"].map(|name| (name.to_owned(), 0_u64.into())));
    let mut results = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let text = |name: &str| item.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let wanted = Wanted { class: text("class"), name: text("name"), serial: text("serial"), ip: text("ip") };
        let attributes = item.get("attributes").and_then(Value::as_object).cloned().unwrap_or_default();
        let (outcome, result) = match system.reconcile(&wanted, &attributes, dry).await {
            Ok(done) => {
                (done.outcome, json!({ "index": number, "outcome": done.outcome, "by": done.by, "changed": done.changed, "ci": written(&done.ci)? }))
            }
            // What is wrong with one item is told with it; what is wrong with the system ends the whole.
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::NotFound | ErrorKind::Unsupported) => {
                ("failed", json!({ "index": number, "outcome": "failed", "error": error.message(), "kind": error.kind().as_str() }))
            }
            Err(error) => return Err(error.with_context("done", number.to_string())),
        };
        let count = counts.get(outcome).and_then(Value::as_u64).unwrap_or(0);
        counts.insert(outcome.to_owned(), (count + 1).into());
        results.push(result);
    }
    let mut answer = Map::from_iter([("dry_run".to_owned(), dry.into()), ("results".to_owned(), results.into())]);
    answer.extend(counts);
    Ok(Value::Object(answer))
}

pub(super) async fn probe(system: System<'_>) -> Result<Value> {
    let probe = &system.profile.probe;
    let vars = system.vars();
    let found = system.read(&system.path(&probe.path, &vars)?, &system.pairs(&[&probe.query], &vars)).await?;
    let found = found.ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("the address answers, but not like {}; check base URL and profile", system.profile.name))
    })?;
    let version = probe.version.as_ref().and_then(|at| at.text(&found));
    Ok(json!({ "ok": true, "system": system.profile.profile, "version": version }))
}

pub(super) fn capabilities(system: System<'_>) -> Value {
    let all = OPERATIONS.iter().map(|(name, operation)| {
        let why = operation.missing(system.profile);
        json!({ "operation": format!("cmdb_{name}"), "supported": why.is_none(), "reason": why })
    });
    json!({ "system": system.profile.profile, "name": system.profile.name, "notes": system.profile.notes.trim(), "operations": all.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_that_may_name_machines_are_taken_out_of_a_text_once() {
        let text = "Hello, web01 and WEB01 (10.1.2.3) are down; see fra1-sw01.example.com. The shop is slow since 2026.";
        assert_eq!(words(text), (["web01", "10.1.2.3", "fra1-sw01.example.com"].map(str::to_owned).to_vec(), false));
        let many: Vec<String> = (0..60).map(|n| format!("web{n:02}")).collect();
        let (taken, more) = words(&many.join(" "));
        assert_eq!((taken.len(), more), (40, true));
    }
}

//! Whether a profile makes sense as a whole: every placeholder is one that is filled there, every class it names exists.

use connector_manifest::template::{Part, Tree};
use serde_json::Value;

use super::{Profile, Query, Words};

/// Names that are filled where something is asked about one item.
const ONE: [&str; 4] = ["native_class", "id", "one", "list"];
/// Names that are filled where something is asked about a ticket.
const TICKET: [&str; 3] = ["ticket", "ticket_id", "marker"];
/// Names that are filled where an item is written.
const WRITE: [&str; 7] = ["native_class", "id", "one", "list", "values", "name", "data_source"];

/// Escape rules of the engine that query languages of CMDBs need.
const ESCAPES: [&str; 1] = ["sysparm"];

type Checked = Result<(), String>;

pub(super) fn check(profile: &Profile) -> Checked {
    if let Some(rule) = profile.escape.as_deref().filter(|rule| !ESCAPES.contains(rule)) {
        return Err(format!("`{rule}` is not an escape rule; accepted: {}", ESCAPES.join(", ")));
    }
    let linked: Vec<&str> = [&ONE[..], &TICKET].concat();
    words("one", &profile.one, &["list", "id"])?;
    words("probe.path", &profile.probe.path, &[])?;
    query("probe.query", &profile.probe.query, &[])?;
    query("query", &profile.query, &[])?;
    query("search", &profile.search, &["text"])?;
    query("by_name", &profile.by_name, &["name", "names"])?;
    query("by_ids.query", &profile.by_ids.query, &["ids"])?;
    if profile.by_ids.most == 0 || profile.page.size == 0 {
        return Err("`by_ids.most` and `page.size` must be above 0".into());
    }
    for (number, rule) in profile.relations.iter().enumerate() {
        let at = |key: &str| format!("relations[{number}].{key}");
        for class in [&rule.class, &rule.from.class, &rule.to.class].into_iter().flatten() {
            profile.class(class).map_err(|_| format!("{}: there is no class `{class}`", at("class")))?;
        }
        if rule.class.is_some() == rule.list.is_some() {
            return Err(format!("{}: a rule has either `class` or `list`", at("class")));
        }
        if rule.kind.is_some() == rule.native.is_some() {
            return Err(format!("{}: a rule has either `kind` or `native`", at("kind")));
        }
        if (rule.from.id.is_none() && rule.from.name.is_none()) || (rule.to.id.is_none() && rule.to.name.is_none()) {
            return Err(format!("{}: each end has an `id` or a `name`", at("to")));
        }
        query(&at("query"), &rule.query, &[])?;
        query(&at("by_from"), &rule.by_from, &["ids", "native_class"])?;
        query(&at("by_to"), rule.by_to.as_ref().unwrap_or(&Query::new()), &["ids", "native_class"])?;
    }
    for request in &profile.owner.requests {
        words("owner.requests.path", &request.path, &ONE)?;
        query("owner.requests.query", &request.query, &ONE)?;
    }
    let links = &profile.links;
    if links.marker.is_some() != links.marked.is_some() || links.marker.is_some() == links.ticket_at.is_some() {
        return Err("links: either `marker` and `marked`, or `ticket_at`".into());
    }
    if let Some(marker) = &links.marker {
        words("links.marker", marker, &["ticket"])?;
        if !matches!(marker.parts(), [Part::Literal(_), Part::Param(_)]) {
            return Err("links.marker: a text that ends in `{ticket}`".into());
        }
    }
    if let Some(ticket) = &links.ticket {
        words("links.ticket.path", &ticket.path, &[])?;
        query("links.ticket.query", &ticket.query, &["ticket"])?;
    }
    query("links.query", &links.query, &[])?;
    query("links.by_both", &links.by_both, &linked)?;
    query("links.by_ci", &links.by_ci, &ONE)?;
    query("links.by_ticket", &links.by_ticket, &TICKET)?;
    words("links.create.path", &links.create.path, &linked)?;
    body("links.create.body", &links.create.body, &linked)?;
    words("links.remove.path", &links.remove.path, &["link"])?;
    words("create.path", &profile.create.path, &WRITE)?;
    query("create.query", &profile.create.query, &WRITE)?;
    body("create.body", &profile.create.body, &WRITE)?;
    words("update.path", &profile.update.path, &WRITE)?;
    body("update.body", &profile.update.body, &WRITE)?;
    if let Some(unchanged) = &profile.update.if_unchanged {
        words("update.if_unchanged.value", &unchanged.value, &["version"])?;
        http::HeaderName::try_from(&unchanged.header).map_err(|_| format!("`{}` is not a header name", unchanged.header))?;
    }
    Ok(())
}

fn words(at: &str, words: &Words, allowed: &[&str]) -> Checked {
    words.placeholders().try_for_each(|name| known(at, name, allowed))
}

fn query(at: &str, query: &Query, allowed: &[&str]) -> Checked {
    query.iter().try_for_each(|(key, value)| words(&format!("{at}.{key}"), value, allowed))
}

fn body(at: &str, body: &Value, allowed: &[&str]) -> Checked {
    let mut found = Vec::new();
    Tree::parse(body).placeholders(&mut found);
    found.iter().try_for_each(|name| known(at, name, allowed))
}

fn known(at: &str, name: &str, allowed: &[&str]) -> Checked {
    if allowed.contains(&name) {
        return Ok(());
    }
    let accepted = if allowed.is_empty() { "none is".to_owned() } else { format!("{{{}}} are", allowed.join("}, {")) };
    Err(format!("{at}: nobody fills `{{{name}}}`; {accepted} known there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETBOX: &str = include_str!("../../profiles/netbox.yaml");

    fn refused(from: &str, to: &str) -> String {
        assert!(NETBOX.contains(from));
        Profile::parse(&NETBOX.replacen(from, to, 1)).unwrap_err().message().to_owned()
    }

    #[test]
    fn the_profiles_of_this_crate_are_sound() {
        let names: Vec<String> = super::super::builtin().unwrap().iter().map(|profile| profile.profile.clone()).collect();
        assert_eq!(names, ["netbox", "servicenow"]);
    }

    #[test]
    fn a_placeholder_that_nobody_fills_is_refused() {
        assert_eq!(refused("{ q: \"{text}\" }", "{ q: \"{txt}\" }"), "CMDB profile `netbox`: search.q: nobody fills `{txt}`; {text} are known there");
        assert!(refused("comments: \"{marker}\"", "comments: \"{markr}\"").contains("links.create.body: nobody fills `{markr}`"));
    }

    #[test]
    fn an_unknown_key_class_or_half_a_rule_is_refused() {
        assert!(refused("times: rfc3339", "tims: rfc3339").contains("tims"));
        assert!(refused("to: { class: device, id: .device.id", "to: { class: devise, id: .device.id").contains("no class `devise`"));
        assert!(refused("    kind: runs_on\n", "").contains("either `kind` or `native`"));
    }
}

//! Whether a profile makes sense as a whole: every placeholder is one that is filled there, every class it names exists.

use connector_manifest::template::{Part, Tree};
use serde_json::Value;

use super::{Lifecycle, Profile, Query, Words, Write};

/// Names that are filled where something is asked about one item.
const ONE: [&str; 4] = ["native_class", "id", "one", "list"];
/// Names that are filled where something is asked about a ticket.
const TICKET: [&str; 3] = ["ticket", "ticket_id", "marker"];
/// Names that are filled where an item is written.
const WRITE: [&str; 6] = ["native_class", "id", "one", "list", "values", "name"];
/// Names that are filled where a relation is written.
const RELATION: [&str; 6] = ["from", "to", "from_class", "to_class", "from_one", "type"];

/// Escape rules of the engine that query languages of CMDBs need.
const ESCAPES: [&str; 2] = ["sysparm", "oql_string"];

type Checked = Result<(), String>;

/// What is known everywhere in a profile: the settings it declares.
struct Check<'p> {
    settings: Vec<&'p str>,
}

pub(super) fn check(profile: &Profile) -> Checked {
    if let Some(rule) = profile.escape.as_deref().filter(|rule| !ESCAPES.contains(rule)) {
        return Err(format!("`{rule}` is not an escape rule; accepted: {}", ESCAPES.join(", ")));
    }
    let check = Check { settings: profile.settings.keys().map(String::as_str).collect() };
    check.reads(profile)?;
    check.relations(profile)?;
    check.links(profile)?;
    check.writes(profile)?;
    wire(profile)
}

/// What says how requests are made.
fn wire(profile: &Profile) -> Checked {
    let page = &profile.page;
    if [&page.offset, &page.range, &page.number].into_iter().flatten().count() > 1 {
        return Err("page: `offset`, `range` and `number` are different ways to page; name one".into());
    }
    if profile.wire.is_some() && profile.session.is_some() {
        return Err("session: where everything is posted with its credential, there is no session".into());
    }
    if let Some(wire) = &profile.wire {
        if wire.ok.is_empty() {
            return Err("wire.ok: name what tells a success; otherwise every failure inside a 200 is believed".into());
        }
        for source in wire.credential.values() {
            if !matches!(source.as_str(), "username" | "password" | "token") {
                http::HeaderName::try_from(source)
                    .map_err(|_| format!("wire.credential: `{source}` is no part of a credential and no header's name"))?;
            }
        }
    } else if profile.one.parts().is_empty() {
        return Err("one: name the path of a record".into());
    }
    for name in profile.session.iter().flat_map(|session| session.keep.iter().chain([&session.header])) {
        http::HeaderName::try_from(name).map_err(|_| format!("session: `{name}` is not a header name"))?;
    }
    Ok(())
}

impl Check<'_> {
    fn reads(&self, profile: &Profile) -> Checked {
        self.words("one", &profile.one, &["list", "id", "native_class"])?;
        self.query("one_query", &profile.one_query, &ONE)?;
        self.words("probe.path", &profile.probe.path, &[])?;
        self.query("probe.query", &profile.probe.query, &[])?;
        self.query("query", &profile.query, &["native_class"])?;
        self.query("search", &profile.search, &["text", "native_class"])?;
        self.query("by_name", &profile.by_name, &["name", "names", "native_class"])?;
        self.query("by_ids.query", &profile.by_ids.query, &["ids", "native_class"])?;
        self.query("all", &profile.all, &["native_class"])?;
        let optional = [
            ("by_serial", profile.by_serial.as_ref(), "serial"),
            ("by_ip.query", profile.by_ip.as_ref().map(|lookup| &lookup.query), "ip"),
            ("changed_since", profile.changed_since.as_ref(), "since"),
            ("owner.owned_by", profile.owner.owned_by.as_ref(), "owner"),
        ];
        for (at, query, name) in optional {
            if let Some(query) = query {
                self.query(at, query, &[name, "native_class"])?;
            }
        }
        if profile.by_ids.most == 0 || profile.page.size == 0 {
            return Err("`by_ids.most` and `page.size` must be above 0".into());
        }
        for request in &profile.owner.requests {
            self.words("owner.requests.path", &request.path, &ONE)?;
            self.query("owner.requests.query", &request.query, &ONE)?;
        }
        if let Some(history) = &profile.history {
            self.words("history.list", &history.list, &ONE)?;
            self.query("history.query", &history.query, &ONE)?;
        }
        if let Some(session) = &profile.session {
            self.words("session.path", &session.path, &[])?;
            self.query("session.query", &session.query, &[])?;
        }
        Ok(())
    }

    fn relations(&self, profile: &Profile) -> Checked {
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
            if [&rule.from, &rule.to].iter().any(|end| end.id.is_none() && end.name.is_none() && end.reference.is_none()) {
                return Err(format!("{}: each end has an `id`, a `ref` or a `name`", at("to")));
            }
            if rule.by_from.is_empty() && !rule.whole {
                return Err(format!("{}: say how to find records by it, or `whole: true`", at("by_from")));
            }
            self.query(&at("query"), &rule.query, &[])?;
            self.query(&at("by_from"), &rule.by_from, &["ids", "native_class"])?;
            self.query(&at("by_to"), rule.by_to.as_ref().unwrap_or(&Query::new()), &["ids", "native_class"])?;
        }
        for (number, way) in profile.relate.iter().enumerate() {
            let at = |key: &str| format!("relate[{number}].{key}");
            for class in [&way.from_class, &way.to_class].into_iter().flatten() {
                profile.class(class).map_err(|_| format!("{}: there is no class `{class}`", at("class")))?;
            }
            if let Some(lookup) = &way.lookup {
                self.words(&at("lookup.path"), &lookup.path, &RELATION[..5])?;
                self.query(&at("lookup.query"), &lookup.query, &RELATION[..5])?;
            }
            if let Some(record) = &way.record {
                self.query(&at("record.query"), &record.query, &RELATION)?;
            }
            self.write(&at("create"), &way.create, &RELATION)?;
            let known: Vec<&str> = RELATION.into_iter().chain(way.record.is_some().then_some("relation")).collect();
            self.write(&at("remove"), &way.remove, &known)?;
        }
        Ok(())
    }

    fn links(&self, profile: &Profile) -> Checked {
        let links = &profile.links;
        let linked: Vec<&str> = [&ONE[..], &TICKET].concat();
        if links.marker.is_some() != links.marked.is_some() || links.marker.is_some() == links.ticket_at.is_some() {
            return Err("links: either `marker` and `marked`, or `ticket_at`".into());
        }
        if let Some(marker) = &links.marker {
            self.words("links.marker", marker, &["ticket"])?;
            if !matches!(marker.parts(), [Part::Literal(_), Part::Param(_)]) {
                return Err("links.marker: a text that ends in `{ticket}`".into());
            }
        }
        if let Some(ticket) = &links.ticket {
            self.words("links.ticket.path", &ticket.path, &["ticket"])?;
            self.query("links.ticket.query", &ticket.query, &["ticket"])?;
        }
        self.query("links.query", &links.query, &[])?;
        self.query("links.by_both", &links.by_both, &linked)?;
        self.query("links.by_ci", &links.by_ci, &ONE)?;
        self.query("links.by_ticket", &links.by_ticket, &TICKET)?;
        self.write("links.create", &links.create, &linked)?;
        self.write("links.remove", &links.remove, &[&ONE[..], &["link", "ticket"]].concat())
    }

    fn writes(&self, profile: &Profile) -> Checked {
        let (create, update) = (&profile.create, &profile.update);
        self.words("create.path", &create.path, &WRITE)?;
        self.query("create.query", &create.query, &WRITE)?;
        self.body("create.body", &create.body, &WRITE)?;
        self.words("update.path", &update.path, &WRITE)?;
        self.body("update.body", &update.body, &WRITE)?;
        if let Some(unchanged) = &update.if_unchanged {
            self.words("update.if_unchanged.value", &unchanged.value, &["version"])?;
            http::HeaderName::try_from(&unchanged.header).map_err(|_| format!("`{}` is not a header name", unchanged.header))?;
        }
        if let Some(Lifecycle { retired, active, not_for }) = &update.retire {
            self.body("update.retire.retired", &Value::Object(retired.clone()), &[])?;
            self.body("update.retire.active", &Value::Object(active.clone()), &[])?;
            for class in not_for {
                profile.class(class).map_err(|_| format!("update.retire.not_for: there is no class `{class}`"))?;
            }
        }
        Ok(())
    }

    fn write(&self, at: &str, write: &Write, allowed: &[&str]) -> Checked {
        self.words(&format!("{at}.path"), &write.path, allowed)?;
        self.query(&format!("{at}.query"), &write.query, allowed)?;
        self.body(&format!("{at}.body"), &write.body, allowed)
    }

    fn words(&self, at: &str, words: &Words, allowed: &[&str]) -> Checked {
        words.placeholders().try_for_each(|name| self.known(at, name, allowed))
    }

    fn query(&self, at: &str, query: &Query, allowed: &[&str]) -> Checked {
        query.iter().try_for_each(|(key, value)| self.words(&format!("{at}.{key}"), value, allowed))
    }

    fn body(&self, at: &str, body: &Value, allowed: &[&str]) -> Checked {
        let mut found = Vec::new();
        Tree::parse(body).placeholders(&mut found);
        found.iter().try_for_each(|name| self.known(at, name, allowed))
    }

    fn known(&self, at: &str, name: &str, allowed: &[&str]) -> Checked {
        if allowed.contains(&name) || self.settings.contains(&name) {
            return Ok(());
        }
        let accepted = if allowed.is_empty() { "none is".to_owned() } else { format!("{{{}}} are", allowed.join("}, {")) };
        Err(format!("{at}: nobody fills `{{{name}}}`; {accepted} known there"))
    }
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
        assert_eq!(names, ["netbox", "servicenow", "glpi", "itop", "valuemation"]);
    }

    #[test]
    fn a_placeholder_that_nobody_fills_is_refused() {
        assert_eq!(
            refused("{ q: \"{text}\" }", "{ q: \"{txt}\" }"),
            "CMDB profile `netbox`: search.q: nobody fills `{txt}`; {text}, {native_class} are known there"
        );
        assert!(refused("comments: \"{marker}\"", "comments: \"{markr}\"").contains("links.create.body: nobody fills `{markr}`"));
    }

    #[test]
    fn an_unknown_key_class_or_half_a_rule_is_refused() {
        assert!(refused("times: rfc3339", "tims: rfc3339").contains("tims"));
        assert!(refused("to: { class: device, id: .device.id", "to: { class: devise, id: .device.id").contains("no class `devise`"));
        assert!(refused("    kind: runs_on\n", "").contains("either `kind` or `native`"));
    }
}

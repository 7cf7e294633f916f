//! The CRM as the fake keeps it: records, property definitions and links, with the vendor's rules about what may be written. It
//! refuses to talk HTTP; a broken rule comes back as an [`Invalid`].

use super::events::Event;
use crate::clock::rfc3339_millis;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Object types: path name, singular, type id.
pub(super) const TYPES: [(&str, &str, &str); 9] = [
    ("contacts", "contact", "0-1"),
    ("companies", "company", "0-2"),
    ("deals", "deal", "0-3"),
    ("tickets", "ticket", "0-5"),
    ("notes", "note", "0-46"),
    ("products", "product", "0-7"),
    ("line_items", "line_item", "0-8"),
    ("tasks", "task", "0-27"),
    ("machines", "p424242_machine", "2-1234"),
];

/// The path name of an object type written in any accepted form.
pub(super) fn object_type(name: &str) -> Option<&'static str> {
    TYPES.iter().find(|(plural, singular, id)| [*plural, *singular, *id].contains(&name)).map(|(plural, ..)| *plural)
}

/// The singular name, used in events and messages.
pub(super) fn singular(kind: &str) -> &'static str {
    TYPES.iter().find(|(plural, ..)| *plural == kind).map_or("object", |(_, singular, _)| singular)
}

/// Properties returned when none are asked for. <https://developers.hubspot.com/docs/api-reference/crm-contacts-v3>
pub(super) fn default_properties(kind: &str) -> &'static [&'static str] {
    match kind {
        "contacts" => &["firstname", "lastname", "email"],
        "companies" => &["name", "domain"],
        "deals" => &["dealname", "amount", "closedate", "pipeline", "dealstage"],
        "tickets" => &["subject", "content", "hs_pipeline", "hs_pipeline_stage", "hs_ticket_category", "hs_ticket_priority"],
        "products" => &["name", "description", "price"],
        "line_items" => &["name", "quantity", "price"],
        "tasks" => &["hs_task_subject", "hs_task_status", "hs_timestamp"],
        "machines" => &["serial"],
        _ => &["hs_note_body", "hs_timestamp"],
    }
}

/// The property that says when a record changed; contacts differ from the rest.
pub(super) fn modified_property(kind: &str) -> &'static str {
    if kind == "contacts" { "lastmodifieddate" } else { "hs_lastmodifieddate" }
}

/// A rule a write broke.
#[derive(Clone, Debug)]
pub(super) struct Invalid {
    pub(super) status: u16,
    pub(super) category: &'static str,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) property: Option<String>,
}

impl Invalid {
    pub(super) fn validation(code: &'static str, message: String, property: Option<&str>) -> Self {
        Self { status: 400, category: "VALIDATION_ERROR", code, message, property: property.map(str::to_owned) }
    }

    pub(super) fn not_found(message: String) -> Self {
        Self { status: 404, category: "OBJECT_NOT_FOUND", code: "OBJECT_NOT_FOUND", message, property: None }
    }
}

/// One CRM record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) properties: BTreeMap<String, String>,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) archived: Option<Timestamp>,
}

/// A link seen from one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) to_type: &'static str,
    pub(super) to_id: u64,
    /// (category, type id), sorted and without doubles.
    pub(super) types: Vec<(String, u64)>,
}

/// A user-made association label.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) id: u64,
    pub(super) inverse: u64,
    pub(super) label: String,
}

/// Every value a record's properties had: name, value, when; oldest first.
type Past = Vec<(String, String, Timestamp)>;

/// Everything in the account.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) objects: BTreeMap<&'static str, BTreeMap<u64, Record>>,
    pub(super) merged: HashMap<(&'static str, u64), u64>,
    pub(super) properties: BTreeMap<&'static str, BTreeMap<String, Value>>,
    pub(super) links: BTreeMap<(&'static str, u64), Vec<Link>>,
    pub(super) labels: Vec<Label>,
    pub(super) next_id: u64,
    pub(super) events: Vec<Event>,
    pub(super) recent: VecDeque<Timestamp>,
    pub(super) searches: VecDeque<Timestamp>,
    pub(super) webhook: Option<String>,
    pub(super) event_id: u64,
    pub(super) history: BTreeMap<(&'static str, u64), Past>,
    pub(super) lists: BTreeMap<u64, super::lists::List>,
    /// The app's webhook subscriptions, by id.
    pub(super) subscriptions: BTreeMap<u64, Value>,
}

impl Store {
    /// Whether a property identifies records of this type.
    pub(super) fn is_unique(&self, kind: &str, property: &str) -> bool {
        (kind == "contacts" && property == "email")
            || self.properties.get(kind).and_then(|p| p.get(property)).is_some_and(|d| d["hasUniqueValue"] == true)
    }

    /// Finds a live record by id (also a merged-away one) or by a unique property.
    pub(super) fn find(&self, kind: &'static str, id: &str, id_property: Option<&str>) -> Result<u64, Invalid> {
        let missing = || Invalid::not_found(format!("{} not found", singular(kind)));
        let records = self.objects.get(kind).ok_or_else(missing)?;
        match id_property.filter(|p| *p != "hs_object_id") {
            None => {
                let id: u64 = id.parse().map_err(|_| missing())?;
                let id = self.merged.get(&(kind, id)).copied().unwrap_or(id);
                records.get(&id).map(|r| r.id).ok_or_else(missing)
            }
            Some(property) => {
                if !self.is_unique(kind, property) {
                    let message = format!("Property {property} is not a unique property of {kind}");
                    return Err(Invalid::validation("INVALID_UNIQUE_PROPERTY", message, Some(property)));
                }
                let wanted = id.to_lowercase();
                records
                    .values()
                    .find(|r| r.archived.is_none() && r.properties.get(property).is_some_and(|v| v.to_lowercase() == wanted))
                    .map(|r| r.id)
                    .ok_or_else(missing)
            }
        }
    }

    /// Reads `properties` of a write into strings, checked against the definitions; an empty string clears.
    pub(super) fn check(&self, kind: &'static str, properties: &Value) -> Result<BTreeMap<String, String>, Invalid> {
        let mut out = BTreeMap::new();
        let known = &self.properties[kind];
        for (name, value) in properties.as_object().into_iter().flatten() {
            let Some(definition) = known.get(name) else {
                // The code is documented by use, not in the API description (unverified).
                let message = format!("Property \"{name}\" does not exist");
                return Err(Invalid::validation("PROPERTY_DOESNT_EXIST", message, Some(name)));
            };
            let text = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let bad = |code, what: &str| Err(Invalid::validation(code, format!("{text:?} is not {what}"), Some(name)));
            let legal = |v: &str| definition["options"].as_array().is_none_or(|o| o.is_empty() || o.iter().any(|o| o["value"] == v));
            match definition["type"].as_str() {
                _ if text.is_empty() => {}
                _ if definition["modificationMetadata"]["readOnlyValue"] == true => return bad("READ_ONLY_VALUE", "writable"),
                Some("number") if text.parse::<f64>().is_err() => return bad("INVALID_NUMBER", "a number"),
                Some("enumeration") if !text.split(';').filter(|v| !v.is_empty()).all(legal) => {
                    return bad("INVALID_OPTION", "one of the allowed options");
                }
                _ if name == "email" && !text.contains('@') => return bad("INVALID_EMAIL", "an email address"),
                _ => {}
            }
            out.insert(name.clone(), text);
        }
        Ok(out)
    }

    /// The record another live record already has one of these unique values in.
    fn clash(&self, kind: &'static str, properties: &BTreeMap<String, String>, own: Option<u64>) -> Option<Invalid> {
        for (name, value) in properties.iter().filter(|(n, v)| !v.is_empty() && self.is_unique(kind, n)) {
            if let Ok(id) = self.find(kind, value, Some(name))
                && Some(id) != own
            {
                // Message form unverified; clients read the id from it.
                let message = format!("{} already exists. Existing ID: {id}", capital(singular(kind)));
                return Some(Invalid { status: 409, category: "CONFLICT", code: "CONFLICT", message, property: Some(name.clone()) });
            }
        }
        None
    }

    /// Creates a record from checked properties.
    pub(super) fn create(&mut self, kind: &'static str, properties: BTreeMap<String, String>, now: Timestamp) -> Result<u64, Invalid> {
        let has = |name: &str| properties.get(name).is_some_and(|v| !v.is_empty());
        let needed: &[&str] = match kind {
            "deals" => &["dealname", "dealstage", "pipeline"],
            "tickets" => &["subject", "hs_pipeline", "hs_pipeline_stage"],
            "notes" | "tasks" => &["hs_timestamp"],
            "machines" => &["serial"],
            _ => &[],
        };
        if let Some(missing) = needed.iter().find(|n| !has(n)) {
            let message = format!("Error creating {}. Some required properties were not set: {missing}", singular(kind));
            return Err(Invalid::validation("REQUIRED_PROPERTIES_MISSING", message, Some(missing)));
        }
        if kind == "companies" && !has("name") && !has("domain") || kind == "contacts" && properties.is_empty() {
            let message = format!("Error creating {}. No identifying property was set", singular(kind));
            return Err(Invalid::validation("REQUIRED_PROPERTIES_MISSING", message, None));
        }
        if let Some(clash) = self.clash(kind, &properties, None) {
            return Err(clash);
        }
        self.next_id += 1;
        let id = self.next_id;
        let mut properties: BTreeMap<_, _> = properties.into_iter().filter(|(_, v)| !v.is_empty()).collect();
        self.history.insert((kind, id), properties.iter().map(|(name, value)| (name.clone(), value.clone(), now)).collect());
        properties.insert("hs_object_id".into(), id.to_string());
        properties.insert(if kind == "notes" { "hs_createdate" } else { "createdate" }.into(), rfc3339_millis(now));
        properties.insert(modified_property(kind).into(), rfc3339_millis(now));
        self.objects.entry(kind).or_default().insert(id, Record { id, properties, created: now, updated: now, archived: None });
        self.events.push(Event::created(kind, id));
        Ok(id)
    }

    /// Writes checked properties into a record; only the given ones change.
    pub(super) fn update(&mut self, kind: &'static str, id: u64, properties: BTreeMap<String, String>, now: Timestamp) -> Result<(), Invalid> {
        if let Some(clash) = self.clash(kind, &properties, Some(id)) {
            return Err(clash);
        }
        let record = self.objects.get_mut(kind).and_then(|o| o.get_mut(&id));
        let record = record.ok_or_else(|| Invalid::not_found(format!("{} not found", singular(kind))))?;
        for (name, value) in properties {
            // A leading semicolon appends to a multi-select.
            let value = match (value.strip_prefix(';'), record.properties.get(&name)) {
                (Some(more), Some(old)) if !old.is_empty() => format!("{old};{more}"),
                (Some(more), _) => more.to_owned(),
                _ => value,
            };
            if record.properties.get(&name).map(String::as_str).unwrap_or_default() != value {
                self.events.push(Event::property(kind, id, &name, &value));
                self.history.entry((kind, id)).or_default().push((name.clone(), value.clone(), now));
            }
            if value.is_empty() {
                record.properties.remove(&name);
            } else {
                record.properties.insert(name, value);
            }
        }
        record.updated = now;
        record.properties.insert(modified_property(kind).into(), rfc3339_millis(now));
        Ok(())
    }

    /// Moves a record to the recycle bin; an unknown or archived one is no error.
    pub(super) fn archive(&mut self, kind: &'static str, id: u64, now: Timestamp) -> bool {
        let record = self.objects.get_mut(kind).and_then(|o| o.get_mut(&id)).filter(|r| r.archived.is_none());
        let Some(record) = record else { return false };
        record.archived = Some(now);
        record.updated = now;
        self.events.push(Event::deleted(kind, id));
        self.unlink_all(kind, id);
        true
    }

    /// Drops every link of a record, on both sides.
    pub(super) fn unlink_all(&mut self, kind: &'static str, id: u64) {
        for link in self.links.remove(&(kind, id)).unwrap_or_default() {
            if let Some(back) = self.links.get_mut(&(link.to_type, link.to_id)) {
                back.retain(|l| !(l.to_type == kind && l.to_id == id));
            }
        }
    }

    /// Adds the earlier values of these properties to a record, newest first.
    pub(super) fn with_history(&self, kind: &'static str, id: u64, names: &[String], record: &mut Value) {
        if names.is_empty() || !record.is_object() {
            return;
        }
        let all = self.history.get(&(kind, id)).map(Vec::as_slice).unwrap_or_default();
        let of = |wanted: &String| -> Value {
            let values = all.iter().rev().filter(|(name, ..)| name == wanted);
            values
                .map(|(_, value, at)| json!({"value": value, "timestamp": rfc3339_millis(*at), "sourceType": "INTEGRATION", "sourceId": "sandbox"}))
                .collect()
        };
        record["propertiesWithHistory"] = names.iter().map(|name| (name.clone(), of(name))).collect::<serde_json::Map<_, _>>().into();
    }

    /// A record as JSON; `wanted` names properties, absent ones come back as null.
    pub(super) fn render(&self, kind: &'static str, id: u64, wanted: Option<&[String]>, associations: &[&'static str]) -> Value {
        let Some(record) = self.objects.get(kind).and_then(|o| o.get(&id)) else { return Value::Null };
        let mut shown = serde_json::Map::new();
        let names = default_properties(kind).iter().map(|n| (*n).to_owned());
        let names: Vec<String> = match wanted {
            // Names without a definition are ignored on read.
            Some(list) => list.iter().filter(|n| self.properties[kind].contains_key(*n)).cloned().collect(),
            None => names.collect(),
        };
        let always = ["hs_object_id", if kind == "notes" { "hs_createdate" } else { "createdate" }, modified_property(kind)];
        for name in names.iter().map(String::as_str).chain(always) {
            shown.insert(name.to_owned(), json!(record.properties.get(name)));
        }
        let type_id = TYPES.iter().find(|(plural, ..)| *plural == kind).map_or("", |(_, _, id)| id);
        let mut out = json!({
            "id": id.to_string(),
            "properties": shown,
            "createdAt": rfc3339_millis(record.created),
            "updatedAt": rfc3339_millis(record.updated),
            "archived": record.archived.is_some(),
            "url": format!("https://app.hubspot.com/contacts/{}/record/{type_id}/{id}", super::PORTAL),
        });
        if let Some(at) = record.archived {
            out["archivedAt"] = rfc3339_millis(at).into();
        }
        for to in associations {
            let results: Vec<Value> = self
                .links_to(kind, id, to)
                .map(|l| json!({"id": l.to_id.to_string(), "type": format!("{}_to_{}", singular(kind), singular(to))}))
                .collect();
            if !results.is_empty() {
                out["associations"][*to] = json!({"results": results});
            }
        }
        out
    }

    /// The links of a record to one type.
    pub(super) fn links_to<'a>(&'a self, kind: &'static str, id: u64, to: &'a str) -> impl Iterator<Item = &'a Link> {
        self.links.get(&(kind, id)).into_iter().flatten().filter(move |l| l.to_type == to)
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

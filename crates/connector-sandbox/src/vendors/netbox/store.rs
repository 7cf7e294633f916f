//! NetBox objects as the fake keeps them: one JSON object per row, references held as ids and opened when shown. It refuses to talk
//! HTTP. <https://netboxlabs.com/docs/netbox/integrations/rest-api/>

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Models served: path, object type in change logs, fields a new row must have.
pub(super) const MODELS: [(&str, &str, &[&str]); 17] = [
    ("dcim/devices", "dcim.device", &["device_type", "role", "site"]),
    ("dcim/sites", "dcim.site", &["name", "slug"]),
    ("dcim/interfaces", "dcim.interface", &["device", "name", "type"]),
    ("dcim/cables", "dcim.cable", &[]),
    ("dcim/device-types", "dcim.devicetype", &["model", "slug"]),
    ("dcim/device-roles", "dcim.devicerole", &["name", "slug"]),
    ("virtualization/virtual-machines", "virtualization.virtualmachine", &["name"]),
    ("virtualization/clusters", "virtualization.cluster", &["name"]),
    ("virtualization/interfaces", "virtualization.vminterface", &["virtual_machine", "name"]),
    ("ipam/ip-addresses", "ipam.ipaddress", &["address"]),
    ("ipam/services", "ipam.service", &["name", "protocol", "ports", "parent_object_type", "parent_object_id"]),
    ("tenancy/contacts", "tenancy.contact", &["name"]),
    ("tenancy/contact-assignments", "tenancy.contactassignment", &["object_type", "object_id", "contact"]),
    ("extras/tags", "extras.tag", &["name", "slug"]),
    ("extras/custom-fields", "extras.customfield", &["name", "type", "object_types"]),
    ("extras/journal-entries", "extras.journalentry", &["assigned_object_type", "assigned_object_id", "comments"]),
    ("core/object-changes", "core.objectchange", &[]),
];

/// Fields that point to another model.
const REFERENCES: [(&str, &str); 14] = [
    ("site", "dcim/sites"),
    ("device", "dcim/devices"),
    ("device_type", "dcim/device-types"),
    ("role", "dcim/device-roles"),
    ("cluster", "virtualization/clusters"),
    ("virtual_machine", "virtualization/virtual-machines"),
    ("contact", "tenancy/contacts"),
    ("primary_ip4", "ipam/ip-addresses"),
    ("primary_ip", "ipam/ip-addresses"),
    ("cable", "dcim/cables"),
    ("tags", "extras/tags"),
    ("ipaddresses", "ipam/ip-addresses"),
    ("scope", "dcim/sites"),
    ("interface", "dcim/interfaces"),
];

/// The path name of a model, if it is served.
pub(super) fn model(app: &str, name: &str) -> Option<&'static str> {
    MODELS.iter().find(|(path, ..)| path.split_once('/') == Some((app, name))).map(|(path, ..)| *path)
}

/// The path of a model named as in a change log (`dcim.device`).
pub(super) fn by_type(object_type: &str) -> Option<&'static str> {
    MODELS.iter().find(|(_, t, _)| *t == object_type).map(|(path, ..)| *path)
}

/// Name of a model in change logs.
pub(super) fn type_of(model: &str) -> &'static str {
    MODELS.iter().find(|(path, ..)| *path == model).map_or("", |(_, t, _)| t)
}

/// All rows.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) rows: BTreeMap<&'static str, BTreeMap<u64, Map<String, Value>>>,
    next: BTreeMap<&'static str, u64>,
    last_stamp: Option<Timestamp>,
}

impl Store {
    /// A stamp later than every one before it, so that an ETag never repeats.
    pub(super) fn stamp(&mut self, now: Timestamp) -> String {
        let floor = self.last_stamp.and_then(|last| last.saturating_add(SignedDuration::from_micros(1)).ok());
        let stamp = floor.map_or(now, |floor| now.max(floor));
        self.last_stamp = Some(stamp);
        stamp.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
    }

    /// Stores a row under the next id.
    pub(super) fn insert(&mut self, model: &'static str, mut row: Map<String, Value>, stamp: &str) -> u64 {
        let id = self.next.entry(model).or_default();
        *id += 1;
        let id = *id;
        row.insert("id".into(), id.into());
        row.insert("created".into(), stamp.into());
        row.insert("last_updated".into(), stamp.into());
        self.rows.entry(model).or_default().insert(id, row);
        id
    }

    pub(super) fn get(&self, model: &str, id: u64) -> Option<&Map<String, Value>> {
        self.rows.get(model)?.get(&id)
    }

    /// Turns references given as id, `{"id":n}` or attributes into ids; the error is NetBox's field error.
    pub(super) fn resolve(&self, row: &mut Map<String, Value>) -> Result<(), Value> {
        for (field, target) in REFERENCES {
            let Some(value) = row.get(field) else { continue };
            // A scalar list stays one; a VM's `role` text or a cable's terminations are not references.
            let resolved = match value {
                Value::Array(many) => Value::Array(many.iter().map(|one| self.reference(field, target, one)).collect::<Result<_, _>>()?),
                one => self.reference(field, target, one)?,
            };
            row.insert(field.to_owned(), resolved);
        }
        Ok(())
    }

    fn reference(&self, field: &str, target: &'static str, value: &Value) -> Result<Value, Value> {
        let problem = |text: String| json!({field: [text]});
        let by_id = |id: u64| match self.get(target, id) {
            Some(_) => Ok(json!(id)),
            None => Err(problem(format!("Related object not found using the provided numeric ID: {id}"))),
        };
        match value {
            Value::Null => Ok(Value::Null),
            Value::Number(n) => by_id(n.as_u64().unwrap_or(0)),
            Value::Object(attributes) => {
                if let Some(id) = attributes.get("id").and_then(Value::as_u64) {
                    return by_id(id);
                }
                let rows = self.rows.get(target).into_iter().flatten();
                let hits: Vec<u64> = rows.filter(|(_, r)| attributes.iter().all(|(k, v)| r.get(k) == Some(v))).map(|(id, _)| *id).collect();
                match hits.as_slice() {
                    [one] => Ok(json!(one)),
                    [] => Err(problem("Related object not found using the provided attributes".into())),
                    _ => Err(problem("Multiple objects match the provided attributes".into())),
                }
            }
            _ => Err(problem("Related objects must be referenced by numeric ID or by dictionary of attributes.".into())),
        }
    }

    /// A row as NetBox shows it: references opened, choices as `{value,label}`, URL and display added.
    pub(super) fn show(&self, model: &'static str, id: u64, base: &str) -> Value {
        let Some(row) = self.get(model, id) else { return Value::Null };
        let mut out = Map::new();
        out.insert("id".into(), id.into());
        out.insert("url".into(), format!("{base}/api/{model}/{id}/").into());
        out.insert("display".into(), self.display(model, id).into());
        for (field, value) in row {
            let target = REFERENCES.iter().find(|(name, _)| name == field).map(|(_, target)| *target);
            let shown = match (target, value) {
                (Some(target), Value::Number(n)) => self.brief(target, n.as_u64().unwrap_or(0), base),
                (Some(target), Value::Array(many)) => many.iter().filter_map(Value::as_u64).map(|id| self.brief(target, id, base)).collect(),
                (_, Value::String(text)) if is_choice(model, field) => json!({"value": text, "label": label(text)}),
                _ => value.clone(),
            };
            out.insert(field.clone(), shown);
        }
        if model == "dcim/devices" || model == "virtualization/virtual-machines" {
            out.insert("primary_ip".into(), out.get("primary_ip4").cloned().unwrap_or_default());
        }
        if model == "dcim/interfaces" {
            let (cable, ends) = self.far_ends(id, base);
            out.insert("cable".into(), cable);
            out.insert("connected_endpoints_type".into(), if ends.is_empty() { Value::Null } else { "dcim.interface".into() });
            out.insert("connected_endpoints_reachable".into(), (!ends.is_empty()).into());
            out.insert("connected_endpoints".into(), if ends.is_empty() { Value::Null } else { Value::Array(ends.clone()) });
            out.insert("link_peers".into(), Value::Array(ends));
        }
        for side in ["a_terminations", "b_terminations"] {
            for termination in out.get_mut(side).and_then(Value::as_array_mut).into_iter().flatten() {
                let kind = by_type(termination["object_type"].as_str().unwrap_or_default());
                if let (Some(kind), Some(id)) = (kind, termination["object_id"].as_u64()) {
                    termination["object"] = self.brief_interface(kind, id, base);
                }
            }
        }
        for (kind, id, shown) in [
            ("parent_object_type", "parent_object_id", "parent"),
            ("assigned_object_type", "assigned_object_id", "assigned_object"),
            ("object_type", "object_id", "object"),
        ] {
            let kind = out.get(kind).and_then(Value::as_str).and_then(by_type);
            if let (Some(kind), Some(id)) = (kind, out.get(id).and_then(Value::as_u64)) {
                out.insert(shown.into(), self.brief_interface(kind, id, base));
            }
        }
        Value::Object(out)
    }

    /// The short form of a related object.
    pub(super) fn brief(&self, model: &'static str, id: u64, base: &str) -> Value {
        let Some(row) = self.get(model, id) else { return Value::Null };
        let mut out = json!({"id": id, "url": format!("{base}/api/{model}/{id}/"), "display": self.display(model, id)});
        for field in ["name", "slug", "address", "model", "color", "description"] {
            if let Some(value) = row.get(field) {
                out[field] = value.clone();
            }
        }
        out
    }

    /// The short form of an object; an interface also shows its device.
    fn brief_interface(&self, model: &'static str, id: u64, base: &str) -> Value {
        let mut out = self.brief(model, id, base);
        for (field, target) in [("device", "dcim/devices"), ("virtual_machine", "virtualization/virtual-machines")] {
            let owner = self.get(model, id).and_then(|r| r.get(field)).and_then(Value::as_u64);
            if let (Some(owner), true) = (owner, out.is_object()) {
                out[field] = self.brief(target, owner, base);
            }
        }
        out
    }

    fn display(&self, model: &str, id: u64) -> String {
        let row = self.get(model, id);
        let text = |field: &str| row.and_then(|r| r.get(field)).and_then(Value::as_str).map(str::to_owned);
        text("name").or_else(|| text("address")).or_else(|| text("model")).or_else(|| text("label")).unwrap_or_else(|| format!("#{id}"))
    }

    /// The cable on an interface and what hangs on its other end.
    fn far_ends(&self, interface: u64, base: &str) -> (Value, Vec<Value>) {
        let on = |cable: &Map<String, Value>, side: &str| -> Vec<u64> {
            let all = cable.get(side).and_then(Value::as_array).into_iter().flatten();
            all.filter(|t| t["object_type"] == "dcim.interface").filter_map(|t| t["object_id"].as_u64()).collect()
        };
        for (id, cable) in self.rows.get("dcim/cables").into_iter().flatten() {
            let (a, b) = (on(cable, "a_terminations"), on(cable, "b_terminations"));
            let far = if a.contains(&interface) {
                b
            } else if b.contains(&interface) {
                a
            } else {
                continue;
            };
            let ends = far.into_iter().map(|i| self.brief_interface("dcim/interfaces", i, base)).collect();
            return (self.brief("dcim/cables", *id, base), ends);
        }
        (Value::Null, Vec::new())
    }

    /// What still points at an object and keeps it from being deleted.
    pub(super) fn dependants(&self, model: &str, id: u64) -> Vec<String> {
        let fields: Vec<&str> = REFERENCES
            .iter()
            .filter(|(f, t)| *t == model && !["tags", "ipaddresses", "primary_ip4", "primary_ip"].contains(f))
            .map(|(f, _)| *f)
            .collect();
        let mut out = Vec::new();
        // Components go with their device; sites, clusters, roles and types are protected.
        if ["dcim/devices", "virtualization/virtual-machines"].contains(&model) {
            return out;
        }
        for (other, rows) in &self.rows {
            for (row_id, row) in rows {
                if fields.iter().any(|f| row.get(*f).and_then(Value::as_u64) == Some(id)) {
                    out.push(format!("{} ({})", self.display(other, *row_id), type_of(other)));
                }
            }
        }
        out
    }
}

fn is_choice(model: &str, field: &str) -> bool {
    match field {
        "status" | "protocol" | "priority" => true,
        "kind" => model == "extras/journal-entries",
        "type" => ["dcim/interfaces", "dcim/cables", "extras/custom-fields"].contains(&model),
        "action" => model == "core/object-changes",
        _ => false,
    }
}

fn label(value: &str) -> String {
    match value {
        "tcp" | "udp" => value.to_uppercase(),
        _ => {
            let mut chars = value.chars();
            chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
        }
    }
}

//! iTop's objects as the fake keeps them, seeded with the shared topology: classes that extend each other, values that are texts, impacts. It
//! refuses to talk HTTP.

use crate::vendors::topology::{CLUSTERS, DEPENDS_ON, DEVICES, MACHINES, SERVICES};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A class and the one it extends.
const CLASSES: [(&str, &str); 17] = [
    ("FunctionalCI", ""),
    ("PhysicalDevice", "FunctionalCI"),
    ("DatacenterDevice", "PhysicalDevice"),
    ("Server", "DatacenterDevice"),
    ("NetworkDevice", "DatacenterDevice"),
    ("StorageSystem", "DatacenterDevice"),
    ("VirtualDevice", "FunctionalCI"),
    ("VirtualMachine", "VirtualDevice"),
    ("Hypervisor", "VirtualDevice"),
    ("Farm", "VirtualDevice"),
    ("ApplicationSolution", "FunctionalCI"),
    ("BusinessProcess", "FunctionalCI"),
    ("Ticket", ""),
    ("UserRequest", "Ticket"),
    ("Organization", ""),
    ("Team", ""),
    ("lnkFunctionalCIToTicket", ""),
];

/// The class's own name, if it is served.
pub(super) fn class(name: &str) -> Option<&'static str> {
    CLASSES.iter().find(|(class, _)| *class == name).map(|(class, _)| *class)
}

/// Whether a class is, or extends, another.
pub(super) fn extends(class: &str, base: &str) -> bool {
    let mut at = class;
    while !at.is_empty() {
        if at == base {
            return true;
        }
        at = CLASSES.iter().find(|(class, _)| *class == at).map_or("", |(_, parent)| *parent);
    }
    false
}

pub(super) fn is_ci(class: &str) -> bool {
    extends(class, "FunctionalCI")
}

/// A value as text; iTop's values are texts.
pub(super) fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Everything, by id. Ids are unique over all classes.
#[derive(Debug, Default)]
pub(super) struct Store {
    rows: BTreeMap<u64, (&'static str, Map<String, Value>)>,
    impacts: Vec<(u64, u64)>,
    next: u64,
    tickets: u64,
}

impl Store {
    pub(super) fn insert(&mut self, class: &'static str, mut fields: Map<String, Value>) -> u64 {
        self.next += 1;
        if is_ci(class) {
            fields.entry("status").or_insert_with(|| "production".into());
        }
        if extends(class, "Ticket") {
            self.tickets += 1;
            fields.entry("ref").or_insert_with(|| format!("R-{:06}", self.tickets).into());
            fields.entry("status").or_insert_with(|| "new".into());
        }
        self.rows.insert(self.next, (class, fields));
        self.next
    }

    pub(super) fn get(&self, base: &str, id: &str) -> Option<u64> {
        let id = id.parse().ok()?;
        self.rows.get(&id).filter(|(class, _)| extends(class, base)).map(|_| id)
    }

    pub(super) fn ids(&self, base: &'static str) -> impl Iterator<Item = u64> {
        self.rows.iter().filter(move |(_, (class, _))| extends(class, base)).map(|(id, _)| *id)
    }

    pub(super) fn class_of(&self, id: u64) -> &'static str {
        self.rows.get(&id).map_or("", |(class, _)| *class)
    }

    pub(super) fn update(&mut self, id: u64, fields: Map<String, Value>) {
        if let Some((_, row)) = self.rows.get_mut(&id) {
            row.extend(fields);
        }
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.rows.remove(&id);
        self.impacts.retain(|(source, sink)| *source != id && *sink != id);
    }

    /// Source and what it impacts.
    pub(super) fn impacts(&self) -> &[(u64, u64)] {
        &self.impacts
    }

    /// A field's text, also of those that iTop works out.
    pub(super) fn value(&self, id: u64, name: &str) -> String {
        match name {
            "id" => id.to_string(),
            _ => text(self.fields(id).get(name)),
        }
    }

    /// The fields as they are shown: all values are texts, and external keys bring the names of what they point at.
    pub(super) fn fields(&self, id: u64) -> Map<String, Value> {
        let Some((class, row)) = self.rows.get(&id) else { return Map::new() };
        let mut fields = Map::from_iter([("id".to_owned(), Value::from(id.to_string())), ("finalclass".to_owned(), (*class).into())]);
        for (name, value) in row {
            let value = if value.is_array() { value.clone() } else { text(Some(value)).into() };
            fields.insert(name.clone(), value);
        }
        let of = |key: &str, field: &str| {
            let target = text(row.get(key)).parse::<u64>().ok()?;
            self.rows.get(&target).map(|(_, row)| text(row.get(field)))
        };
        let friendly = row.get("name").or_else(|| row.get("ref")).map(|name| text(Some(name))).unwrap_or_default();
        fields.insert("friendlyname".into(), friendly.into());
        for (key, field, shown) in
            [("org_id", "name", "organization_name"), ("functionalci_id", "name", "functionalci_name"), ("ticket_id", "ref", "ticket_ref")]
        {
            if let Some(name) = of(key, field) {
                fields.insert(shown.into(), name.into());
            }
        }
        fields
    }

    pub(super) fn seed(&mut self) {
        let mut ids: BTreeMap<&str, u64> = BTreeMap::new();
        for device in &DEVICES {
            let class = match device.role {
                "switch" | "firewall" => "NetworkDevice",
                "storage" => "StorageSystem",
                _ => "Server",
            };
            let row = json!({"name": device.name, "serialnumber": device.serial, "managementip": device.ip, "status": "production"});
            ids.insert(device.name, self.insert(class, object(row)));
        }
        let organization = self.insert("Organization", object(json!({"name": "Acme"})));
        let mut teams: BTreeMap<&str, u64> = BTreeMap::new();
        for device in &DEVICES {
            let team = *teams.entry(device.owner).or_insert_with(|| self.insert("Team", object(json!({"name": device.owner}))));
            let contacts = json!([{"contact_id": team.to_string(), "contact_name": device.owner}]);
            self.update(ids[device.name], object(json!({"org_id": organization, "contacts_list": contacts})));
        }
        for (name, _) in CLUSTERS {
            ids.insert(name, self.insert("Farm", object(json!({"name": name, "org_id": organization}))));
        }
        for (name, _, _, ip) in MACHINES {
            ids.insert(name, self.insert("VirtualMachine", object(json!({"name": name, "org_id": organization, "managementip": ip}))));
        }
        for (name, ..) in SERVICES {
            ids.insert(name, self.insert("ApplicationSolution", object(json!({"name": name, "org_id": organization}))));
        }
        let machines = MACHINES.iter().flat_map(|(name, cluster, host, _)| [(*name, *host), (*name, *cluster)]);
        let services = SERVICES.iter().map(|(name, parent, _)| (*name, *parent));
        for (dependent, on) in DEPENDS_ON.iter().copied().chain(machines).chain(services) {
            self.impacts.push((ids[on], ids[dependent]));
        }
        let ticket = json!({"title": "Checkout is slow", "description": "The shop answers after ten seconds.", "org_id": organization});
        self.insert("UserRequest", object(ticket));
    }
}

fn object(row: Value) -> Map<String, Value> {
    match row {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

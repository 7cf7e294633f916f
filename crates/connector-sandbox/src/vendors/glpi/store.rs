//! GLPI's items as the fake keeps them, seeded with the shared topology. It refuses to talk HTTP.

use super::text;
use crate::vendors::topology::{CLUSTERS, DEPENDS_ON, DEVICES, MACHINES, SERVICES};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Types of assets.
pub(super) const ASSETS: [&str; 4] = ["Computer", "NetworkEquipment", "Cluster", "Appliance"];
/// Other types.
pub(super) const OTHERS: [&str; 5] = ["ImpactRelation", "Item_Ticket", "Ticket", "State", "Group"];

/// Everything, by type and id.
#[derive(Debug, Default)]
pub(super) struct Store {
    rows: BTreeMap<&'static str, BTreeMap<u64, Map<String, Value>>>,
    logs: Vec<(String, Value)>,
}

impl Store {
    pub(super) fn insert(&mut self, kind: &'static str, mut row: Map<String, Value>, now: Timestamp) -> u64 {
        let rows = self.rows.entry(kind).or_default();
        let id = rows.keys().next_back().copied().unwrap_or(0) + 1;
        row.insert("id".into(), id.into());
        if ASSETS.contains(&kind) {
            for (name, value) in [("serial", json!("")), ("states_id", json!(0)), ("groups_id_tech", json!(0)), ("users_id_tech", json!(0))] {
                row.entry(name).or_insert(value);
            }
            row.insert("date_mod".into(), stamp(now).into());
        }
        rows.insert(id, row);
        id
    }

    pub(super) fn get(&self, kind: &str, id: &str) -> Option<&Map<String, Value>> {
        self.rows.get(kind)?.get(&id.parse().ok()?)
    }

    pub(super) fn all(&self, kind: &str) -> impl Iterator<Item = &Map<String, Value>> {
        self.rows.get(kind).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn update(&mut self, kind: &str, id: &str, input: Map<String, Value>, now: Timestamp) {
        let Some(row) = id.parse().ok().and_then(|id: u64| self.rows.get_mut(kind)?.get_mut(&id)) else { return };
        for (name, value) in input {
            // Numbers may come as texts.
            let number = value.as_str().and_then(|text| text.parse::<u64>().ok()).filter(|_| name.contains("_id"));
            let value = number.map_or(value, Value::from);
            let before = row.insert(name.clone(), value.clone()).unwrap_or_default();
            let entry = json!({"id": self.logs.len() + 1, "date_mod": stamp(now), "user_name": "glpi (2)", "field": name, "old_value": before, "new_value": value});
            self.logs.push((format!("{kind}:{id}"), entry));
        }
        row.insert("date_mod".into(), stamp(now).into());
    }

    pub(super) fn remove(&mut self, kind: &str, id: &str) {
        if let (Some(rows), Ok(id)) = (self.rows.get_mut(kind), id.parse::<u64>()) {
            rows.remove(&id);
        }
    }

    pub(super) fn log(&self, kind: &str, id: &str) -> Vec<Value> {
        let of = format!("{kind}:{id}");
        self.logs.iter().rev().filter(|(target, _)| *target == of).map(|(_, entry)| entry.clone()).collect()
    }

    /// Whether there is an impact relation between the same items.
    pub(super) fn relates(&self, input: &Map<String, Value>) -> bool {
        let keys = ["itemtype_source", "items_id_source", "itemtype_impacted", "items_id_impacted"];
        self.all("ImpactRelation").any(|row| keys.iter().all(|key| text(row, key) == text(input, key)))
    }

    /// A row as it is shown: with names in place of dropdown ids if asked.
    pub(super) fn shown(&self, row: &Map<String, Value>, expand: bool) -> Value {
        let mut row = row.clone();
        if expand {
            for (field, kind) in [("states_id", "State"), ("groups_id_tech", "Group")] {
                if let Some(name) = self.get(kind, &text(&row, field)).map(|dropdown| text(dropdown, "name")) {
                    row.insert(field.into(), name.into());
                }
            }
        }
        Value::Object(row)
    }

    pub(super) fn seed(&mut self, now: Timestamp) {
        let mut ids: BTreeMap<&str, (&'static str, u64)> = BTreeMap::new();
        for name in ["In use", "Retired"] {
            self.insert("State", object(json!({"name": name})), now);
        }
        let mut groups: BTreeMap<&str, u64> = BTreeMap::new();
        for device in &DEVICES {
            let group = *groups.entry(device.owner).or_insert_with(|| self.rows.get("Group").map_or(0, BTreeMap::len) as u64 + 1);
            if self.get("Group", &group.to_string()).is_none() {
                self.insert("Group", object(json!({"name": device.owner})), now);
            }
            let kind = if matches!(device.role, "switch" | "firewall") { "NetworkEquipment" } else { "Computer" };
            let row = json!({"name": device.name, "serial": device.serial, "states_id": 1, "groups_id_tech": group});
            ids.insert(device.name, (kind, self.insert(kind, object(row), now)));
        }
        for (name, _) in CLUSTERS {
            ids.insert(name, ("Cluster", self.insert("Cluster", object(json!({"name": name, "states_id": 1})), now)));
        }
        for (name, ..) in MACHINES {
            ids.insert(name, ("Computer", self.insert("Computer", object(json!({"name": name, "states_id": 1})), now)));
        }
        for (name, ..) in SERVICES {
            ids.insert(name, ("Appliance", self.insert("Appliance", object(json!({"name": name, "states_id": 1})), now)));
        }
        let machines = MACHINES.iter().flat_map(|(name, cluster, host, _)| [(*name, *host), (*name, *cluster)]);
        let services = SERVICES.iter().map(|(name, parent, _)| (*name, *parent));
        for (impacted, source) in DEPENDS_ON.iter().copied().chain(machines).chain(services) {
            let ((source_type, source), (impacted_type, impacted)) = (ids[source], ids[impacted]);
            let row =
                json!({"itemtype_source": source_type, "items_id_source": source, "itemtype_impacted": impacted_type, "items_id_impacted": impacted});
            self.insert("ImpactRelation", object(row), now);
        }
        self.insert("Ticket", object(json!({"name": "Checkout is slow", "content": "The shop answers after ten seconds.", "status": 1})), now);
    }
}

/// `YYYY-MM-DD HH:MM:SS`.
fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn object(row: Value) -> Map<String, Value> {
    match row {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

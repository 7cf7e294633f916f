//! The shared topology written down the ServiceNow way: CI classes, relation rows with typed directions, groups and one incident.

use super::store::{Row, Store};
use crate::vendors::topology::{CABLES, CLUSTERS, DEPENDS_ON, DEVICES, MACHINES, SERVICES};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Relation types; the first name reads from parent to child.
pub(super) const RELATIONS: [&str; 4] = ["Depends on::Used by", "Runs on::Runs", "Connects to::Connected by", "Cluster of::Cluster"];

/// Fills an empty store.
pub(super) fn fill(store: &mut Store, now: Timestamp) {
    let types: BTreeMap<&str, String> = RELATIONS
        .iter()
        .map(|name| {
            let (parent, child) = name.split_once("::").unwrap_or((name, ""));
            let row = row(&[("name", name), ("parent_descriptor", parent), ("child_descriptor", child)]);
            (*name, store.insert("cmdb_rel_type", row, now))
        })
        .collect();
    let mut groups: BTreeMap<&str, String> = BTreeMap::new();
    let mut cis: BTreeMap<&str, String> = BTreeMap::new();
    for device in &DEVICES {
        let group = groups.entry(device.owner).or_insert_with(|| store.insert("sys_user_group", row(&[("name", device.owner)]), now)).clone();
        let class = match device.role {
            "switch" | "firewall" => "cmdb_ci_netgear",
            "storage" => "cmdb_ci_storage_server",
            _ => "cmdb_ci_linux_server",
        };
        let fields = row(&[
            ("name", device.name),
            ("serial_number", device.serial),
            ("ip_address", device.ip),
            ("support_group", &group),
            ("location", device.site),
            ("short_description", ""),
            ("correlation_id", ""),
        ]);
        cis.insert(device.name, store.insert(class, fields, now));
    }
    for (name, site) in CLUSTERS {
        cis.insert(name, store.insert("cmdb_ci_cluster", row(&[("name", name), ("location", site), ("ip_address", "")]), now));
    }
    for (name, _, _, ip) in MACHINES {
        cis.insert(name, store.insert("cmdb_ci_vm_instance", row(&[("name", name), ("ip_address", ip), ("serial_number", "")]), now));
    }
    for (name, _, port) in SERVICES {
        let port = port.to_string();
        cis.insert(name, store.insert("cmdb_ci_service", row(&[("name", name), ("port", &port), ("ip_address", "")]), now));
    }
    let mut relate = |parent: &str, kind: &str, child: &str| {
        store.insert("cmdb_rel_ci", row(&[("parent", &cis[parent]), ("child", &cis[child]), ("type", &types[kind])]), now);
    };
    for (from, to) in DEPENDS_ON {
        relate(from, "Depends on::Used by", to);
    }
    for (name, cluster, host, _) in MACHINES {
        relate(name, "Runs on::Runs", host);
        relate(cluster, "Cluster of::Cluster", name);
    }
    for (name, parent, _) in SERVICES {
        relate(name, "Runs on::Runs", parent);
    }
    for (a, b) in CABLES {
        relate(a, "Connects to::Connected by", b);
    }
    let caller = store.insert("sys_user", row(&[("name", "Ada Abel"), ("user_name", "ada.abel"), ("email", "ada.abel@acme.example")]), now);
    let fields = [
        ("short_description", "Checkout is slow"),
        ("description", "The shop answers after ten seconds."),
        ("impact", "2"),
        ("cmdb_ci", &cis["shop"]),
        ("caller_id", &caller),
        ("correlation_id", ""),
    ];
    store.insert("incident", row(&fields), now);
}

fn row(fields: &[(&str, &str)]) -> Row {
    fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

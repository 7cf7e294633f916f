//! The shared topology written down the NetBox way: devices with one interface per cable, addresses, services on their parents.

use super::store::Store;
use crate::vendors::topology::{CABLES, CLUSTERS, DEPENDS_ON, DEVICES, MACHINES, SERVICES, SITES};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const ROLES: [(&str, &str); 5] =
    [("Server", "server"), ("Hypervisor", "hypervisor"), ("Switch", "switch"), ("Firewall", "firewall"), ("Storage", "storage")];

/// Fills an empty store; `stamp` is the moment everything was made.
pub(super) fn fill(store: &mut Store, stamp: &str) {
    let sites: BTreeMap<&str, u64> =
        SITES.iter().map(|(name, slug)| (*slug, put(store, "dcim/sites", json!({"name": name, "slug": slug, "status": "active"}), stamp))).collect();
    let roles: BTreeMap<&str, u64> = ROLES
        .iter()
        .map(|(name, slug)| (*slug, put(store, "dcim/device-roles", json!({"name": name, "slug": slug, "color": "2196f3"}), stamp)))
        .collect();
    let kind = put(store, "dcim/device-types", json!({"model": "Generic 1U", "slug": "generic-1u"}), stamp);
    let tag = put(store, "extras/tags", json!({"name": "production", "slug": "production", "color": "f44336"}), stamp);
    for (name, label, data_type, types) in [
        ("tickets", "Tickets", "text", json!(["dcim.device", "virtualization.virtualmachine"])),
        ("depends_on", "Depends on", "json", json!(["dcim.device", "ipam.service"])),
    ] {
        put(store, "extras/custom-fields", json!({"name": name, "label": label, "type": data_type, "object_types": types}), stamp);
    }
    let mut owners = BTreeMap::new();
    for device in &DEVICES {
        owners.entry(device.owner).or_insert_with(|| put(store, "tenancy/contacts", json!({"name": device.owner}), stamp));
    }
    let mut devices = BTreeMap::new();
    for device in &DEVICES {
        let id = put(
            store,
            "dcim/devices",
            json!({"name": device.name, "device_type": kind, "role": roles[device.role], "site": sites[device.site],
                "tenant": null, "status": "active", "serial": device.serial, "asset_tag": null, "primary_ip4": null, "virtual_chassis": null,
                "cluster": null, "comments": "", "description": "", "tags": [tag],
                "custom_fields": {"tickets": null, "depends_on": depends_on(device.name)}}),
            stamp,
        );
        devices.insert(device.name, id);
        let port = interface(store, id, "mgmt0", stamp);
        let address = address(store, device.ip, "dcim.interface", port, stamp);
        set(store, "dcim/devices", id, "primary_ip4", json!(address));
        put(
            store,
            "tenancy/contact-assignments",
            json!({"object_type": "dcim.device", "object_id": id, "contact": owners[device.owner], "priority": "primary", "role": null}),
            stamp,
        );
    }
    let clusters: BTreeMap<&str, u64> = CLUSTERS
        .iter()
        .map(|(name, site)| {
            let row = json!({"name": name, "status": "active", "scope_type": "dcim.site", "scope_id": sites[site]});
            (*name, put(store, "virtualization/clusters", row, stamp))
        })
        .collect();
    let mut machines = BTreeMap::new();
    for (name, cluster, host, ip) in MACHINES {
        let id = put(
            store,
            "virtualization/virtual-machines",
            json!({"name": name, "tenant": null, "status": "active", "cluster": clusters[cluster], "device": devices[host], "vcpus": 4.0,
                "memory": 8192, "disk": 40_000, "primary_ip4": null, "serial": "", "comments": "", "description": "", "tags": [tag],
                "custom_fields": {"tickets": null}}),
            stamp,
        );
        machines.insert(name, id);
        let row = json!({"virtual_machine": id, "name": "eth0", "enabled": true});
        let port = put(store, "virtualization/interfaces", row, stamp);
        let address = address(store, ip, "virtualization.vminterface", port, stamp);
        set(store, "virtualization/virtual-machines", id, "primary_ip4", json!(address));
    }
    for host in ["hv01", "hv02"] {
        let cluster = if host == "hv01" { "kube-prod" } else { "vmw-ams" };
        set(store, "dcim/devices", devices[host], "cluster", json!(clusters[cluster]));
    }
    for (name, parent, port) in SERVICES {
        let (kind, id) = match machines.get(parent) {
            Some(id) => ("virtualization.virtualmachine", *id),
            None => ("dcim.device", devices[parent]),
        };
        put(
            store,
            "ipam/services",
            json!({"name": name, "protocol": "tcp", "ports": [port], "parent_object_type": kind, "parent_object_id": id,
                "ipaddresses": [], "description": "", "comments": "", "tags": [], "custom_fields": {"depends_on": depends_on(name)}}),
            stamp,
        );
    }
    for (n, (a, b)) in CABLES.iter().enumerate() {
        let near = interface(store, devices[a], &format!("eth{}/{n}", n / 8), stamp);
        let far = interface(store, devices[b], &format!("eth{}/{n}", n / 8), stamp);
        let end = |id: u64| json!([{"object_type": "dcim.interface", "object_id": id}]);
        let row = json!({"type": "cat6", "status": "connected", "label": format!("C-{:03}", n + 1),
            "a_terminations": end(near), "b_terminations": end(far)});
        put(store, "dcim/cables", row, stamp);
    }
}

fn depends_on(name: &str) -> Value {
    DEPENDS_ON.iter().filter(|(from, _)| *from == name).map(|(_, to)| *to).collect()
}

fn interface(store: &mut Store, device: u64, name: &str, stamp: &str) -> u64 {
    put(store, "dcim/interfaces", json!({"device": device, "name": name, "type": "1000base-t", "enabled": true}), stamp)
}

fn address(store: &mut Store, ip: &str, kind: &str, port: u64, stamp: &str) -> u64 {
    let row = json!({"address": format!("{ip}/24"), "status": "active", "dns_name": "", "assigned_object_type": kind, "assigned_object_id": port});
    put(store, "ipam/ip-addresses", row, stamp)
}

fn put(store: &mut Store, model: &'static str, row: Value, stamp: &str) -> u64 {
    store.insert(model, object(row), stamp)
}

fn set(store: &mut Store, model: &'static str, id: u64, field: &str, value: Value) {
    if let Some(row) = store.rows.get_mut(model).and_then(|r| r.get_mut(&id)) {
        row.insert(field.to_owned(), value);
    }
}

fn object(row: Value) -> Map<String, Value> {
    match row {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

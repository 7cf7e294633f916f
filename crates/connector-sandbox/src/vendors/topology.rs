//! The invented data centre both CMDB fakes show: two sites, two clusters, hosts, machines, switches, services, their dependencies, and
//! one cycle (`shop` needs `billing-api`, which calls back into `shop`). It refuses to know how a CMDB stores any of it.

/// Site: name, slug.
pub(crate) const SITES: [(&str, &str); 2] = [("Frankfurt 1", "fra1"), ("Amsterdam 1", "ams1")];

/// Cluster: name, site slug.
pub(crate) const CLUSTERS: [(&str, &str); 2] = [("kube-prod", "fra1"), ("vmw-ams", "ams1")];

/// A piece of hardware.
pub(crate) struct Device {
    pub(crate) name: &'static str,
    /// Role slug: server, hypervisor, switch, firewall, storage.
    pub(crate) role: &'static str,
    pub(crate) site: &'static str,
    pub(crate) serial: &'static str,
    pub(crate) ip: &'static str,
    pub(crate) owner: &'static str,
}

const fn device(name: &'static str, role: &'static str, site: &'static str, serial: &'static str, ip: &'static str, owner: &'static str) -> Device {
    Device { name, role, site, serial, ip, owner }
}

pub(crate) const DEVICES: [Device; 13] = [
    device("web01", "server", "fra1", "SN-W001", "10.1.2.3", "Web Operations"),
    device("web02", "server", "fra1", "SN-W002", "10.1.2.4", "Web Operations"),
    device("app01", "server", "fra1", "SN-A001", "10.1.3.11", "Platform"),
    device("app02", "server", "ams1", "SN-A002", "10.2.3.12", "Platform"),
    device("db01", "server", "fra1", "SN-D001", "10.1.4.21", "Databases"),
    device("db02", "server", "ams1", "SN-D002", "10.2.4.22", "Databases"),
    device("hv01", "hypervisor", "fra1", "SN-H001", "10.1.5.31", "Platform"),
    device("hv02", "hypervisor", "ams1", "SN-H002", "10.2.5.32", "Platform"),
    device("sw-core01", "switch", "fra1", "SN-S001", "10.1.0.1", "Network"),
    device("sw-core02", "switch", "ams1", "SN-S002", "10.2.0.1", "Network"),
    device("sw-acc01", "switch", "fra1", "SN-S003", "10.1.0.2", "Network"),
    device("fw01", "firewall", "fra1", "SN-F001", "10.1.0.254", "Network"),
    device("stor01", "storage", "fra1", "SN-T001", "10.1.6.41", "Databases"),
];

/// A virtual machine: name, cluster, host device, address.
pub(crate) const MACHINES: [(&str, &str, &str, &str); 6] = [
    ("vm-shop-1", "kube-prod", "hv01", "10.1.7.51"),
    ("vm-shop-2", "kube-prod", "hv01", "10.1.7.52"),
    ("vm-billing-1", "kube-prod", "hv01", "10.1.7.53"),
    ("vm-auth-1", "vmw-ams", "hv02", "10.2.7.54"),
    ("vm-search-1", "vmw-ams", "hv02", "10.2.7.55"),
    ("vm-mail-1", "vmw-ams", "hv02", "10.2.7.56"),
];

/// A service: name, the device or machine it runs on, port.
pub(crate) const SERVICES: [(&str, &str, u16); 8] = [
    ("shop", "vm-shop-1", 443),
    ("billing-api", "vm-billing-1", 8443),
    ("auth", "vm-auth-1", 8443),
    ("search", "vm-search-1", 9200),
    ("mail-relay", "vm-mail-1", 587),
    ("storefront-cdn", "web01", 443),
    ("postgres-orders", "db01", 5432),
    ("postgres-identity", "db02", 5432),
];

/// `.0` depends on `.1`; by name.
pub(crate) const DEPENDS_ON: [(&str, &str); 12] = [
    ("storefront-cdn", "shop"),
    ("shop", "billing-api"),
    ("shop", "auth"),
    ("shop", "search"),
    ("billing-api", "postgres-orders"),
    ("billing-api", "auth"),
    // The callback that closes the cycle.
    ("billing-api", "shop"),
    ("auth", "postgres-identity"),
    ("mail-relay", "auth"),
    ("search", "app02"),
    ("app01", "db01"),
    ("db01", "stor01"),
];

/// A cable between two devices.
pub(crate) const CABLES: [(&str, &str); 11] = [
    ("sw-core01", "sw-core02"),
    ("sw-core01", "sw-acc01"),
    ("sw-core02", "sw-acc01"),
    ("sw-core01", "fw01"),
    ("sw-acc01", "web01"),
    ("sw-acc01", "web02"),
    ("sw-acc01", "app01"),
    ("sw-core01", "db01"),
    ("sw-core01", "hv01"),
    ("sw-core02", "hv02"),
    ("sw-core01", "stor01"),
];

/// Every CI's name, as both CMDBs show it.
pub(crate) fn names() -> Vec<&'static str> {
    let devices = DEVICES.iter().map(|d| d.name);
    let machines = MACHINES.iter().map(|(name, ..)| *name);
    let services = SERVICES.iter().map(|(name, ..)| *name);
    devices.chain(machines).chain(services).chain(CLUSTERS.iter().map(|(name, _)| *name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_edge_names_a_known_ci_once() {
        let names = names();
        let known: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(known.len(), names.len(), "two CIs share a name");
        for (a, b) in DEPENDS_ON.iter().chain(&CABLES) {
            assert!(known.contains(a) && known.contains(b), "{a} - {b}");
        }
        for (_, parent, _) in SERVICES {
            assert!(known.contains(parent), "{parent}");
        }
    }
}

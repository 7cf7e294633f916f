//! The guard as a whole: hosts as URLs spell them, allow-lists, addresses behind names.

use super::*;

fn verdict(policy: &EgressPolicy, url: &str) -> Result<()> {
    policy.check_url(&Url::parse(url).unwrap())
}

#[track_caller]
fn allowed(policy: &EgressPolicy, urls: &[&str]) {
    for url in urls {
        verdict(policy, url).unwrap_or_else(|error| panic!("{url} must be allowed: {error}"));
    }
}

#[track_caller]
fn refused(policy: &EgressPolicy, urls: &[&str]) {
    for url in urls {
        let error = verdict(policy, url).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Denied, "{url}");
    }
}

#[test]
fn the_default_is_https_to_public_hosts_at_the_usual_ports() {
    let policy = EgressPolicy::new();
    allowed(
        &policy,
        &["https://api.hubapi.com/x", "https://api.hubapi.com:80/", "https://8.8.8.8/", "https://[2606:4700::1111]/", "https://a.internal/"],
    );
    refused(
        &policy,
        &["http://api.hubapi.com/", "https://api.hubapi.com:22/", "https://api.hubapi.com:8443/", "ftp://api.hubapi.com/", "http://8.8.8.8/"],
    );
}

#[test]
fn hosts_are_judged_as_parsed_whatever_they_are_spelled_like() {
    refused(
        &EgressPolicy::new(),
        &[
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://①②⑦.0.0.1/",
            "https://127.0.0.1./",
            "https://0/",
            "https://0x7f000001/",
            "https://017700000001/",
            "https://127.0.0.1%2e/",
            "https://169.254.169.254/",
            "https://0xa9fea9fe/",
            "https://2852039166/",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:a00:1]/",
            "https://[::127.0.0.1]/",
            "https://[64:ff9b::10.0.0.1]/",
            "https://[2002:7f00:1::]/",
            "https://[2001:0:1::1]/",
            "https://[fec0::1]/",
            "https://[fd00:ec2::254]/",
            "https://localhost/",
            "https://LOCALHOST/",
            "https://localhost./",
            "https://a.localhost/",
            "https://a.localhost./",
            "https://localhost.localdomain/",
            "https://ip6-localhost/",
            "https://metadata/",
            "https://metadata.google.internal/",
            "https://METADATA.google.internal./",
            "https://metadata.goog/",
            "https://instance-data.ec2.internal/",
            "https://user@10.0.0.1/",
            "https://api.example@10.0.0.1/",
            "https://10.0.0.1#api.example/",
            "https://10.0.0.1/?api.example",
        ],
    );
}

#[test]
fn loopback_opens_this_machine_only() {
    let policy = EgressPolicy::new().allow_loopback();
    allowed(&policy, &["http://127.0.0.1:4711/", "http://localhost:80/", "https://[::1]:9000/", "http://[::ffff:127.0.0.1]:9/", "http://127.0.0.2/"]);
    refused(&policy, &["http://10.0.0.1/", "http://169.254.169.254/", "https://0.0.0.0/", "http://api.hubapi.com/"]);
    policy.check_address("localhost", "127.0.0.1".parse().unwrap()).unwrap();
    policy.check_address("localhost", "10.0.0.1".parse().unwrap()).unwrap_err();
}

#[test]
fn an_allowed_host_may_be_internal_but_never_leads_to_the_machine_or_the_cloud() {
    let policy = EgressPolicy::new().allow_host("ERP.internal:8443").unwrap().allow_host("10.1.2.3").unwrap().allow_host("[fd12::1]:443").unwrap();
    allowed(&policy, &["https://erp.internal:8443/", "http://erp.internal.:8443/", "http://10.1.2.3/", "https://10.1.2.3/", "https://[fd12::1]/"]);
    refused(&policy, &["http://erp.internal/", "https://erp.internal:9000/", "https://10.1.2.4/", "https://10.1.2.3:8443/", "http://[fd12::1]/"]);
    for (ip, open) in [
        ("10.9.9.9", true),
        ("fd12::7", true),
        ("8.8.8.8", true),
        ("127.0.0.1", false),
        ("169.254.169.254", false),
        ("::1", false),
        ("fd00:ec2::254", false),
    ] {
        assert_eq!(policy.check_address("erp.internal", ip.parse().unwrap()).is_ok(), open, "{ip}");
    }
    policy.check_address("other.internal", "10.9.9.9".parse().unwrap()).unwrap_err();
    let sidecar = EgressPolicy::new().allow_host("localhost:3000").unwrap();
    allowed(&sidecar, &["http://localhost:3000/"]);
    refused(&sidecar, &["http://localhost:3001/", "http://127.0.0.1:3000/"]);
    sidecar.check_address("localhost", "127.0.0.1".parse().unwrap()).unwrap();
    sidecar.check_address("localhost", "10.0.0.1".parse().unwrap()).unwrap_err();
}

#[test]
fn an_allowed_network_opens_its_addresses_for_literals_and_names() {
    let policy = EgressPolicy::new().allow_cidr("10.20.0.0/16").unwrap().allow_cidr("64:ff9b::/96").unwrap().allow_port(8443);
    allowed(&policy, &["https://10.20.3.4/", "https://10.20.3.4:8443/", "https://[64:ff9b::808:808]/", "https://api.example:8443/"]);
    refused(&policy, &["https://10.21.0.1/", "http://10.20.3.4/", "https://10.20.3.4:9000/"]);
    policy.check_address("any.example", "10.20.9.9".parse().unwrap()).unwrap();
}

#[test]
fn entries_that_are_no_host_or_network_are_config_errors() {
    for host in ["", " ", "a b", "a/b", "u@h", "h?x", "h#x", "http://h", "h:99999", "::1"] {
        assert_eq!(EgressPolicy::new().allow_host(host).expect_err(host).kind(), ErrorKind::Config, "{host}");
    }
    for cidr in ["", "10.0.0.0/33", "erp.internal", "10.0.0/8"] {
        assert_eq!(EgressPolicy::new().allow_cidr(cidr).expect_err(cidr).kind(), ErrorKind::Config, "{cidr}");
    }
}

#[test]
fn a_setting_extends_a_policy_entry_by_entry() {
    let policy = EgressPolicy::new().extended("erp.internal:8443, 10.20.0.0/16,loopback,").unwrap();
    let same = EgressPolicy::new().allow_host("erp.internal:8443").unwrap().allow_cidr("10.20.0.0/16").unwrap().allow_loopback();
    assert_eq!(policy, same);
    let error = EgressPolicy::new().extended("erp.internal, 10.0.0.0/99").unwrap_err();
    assert!(error.message().contains("10.0.0.0/99"), "{error}");
}

#[test]
fn the_peer_must_be_who_the_url_says() {
    let policy = EgressPolicy::new();
    let check = |url: &str, peer: &str| policy.check_peer(&Url::parse(url).unwrap(), peer.parse().unwrap());
    check("https://api.example/", "8.8.8.8").unwrap();
    check("https://8.8.8.8/", "8.8.8.8").unwrap();
    check("https://8.8.8.8/", "8.8.4.4").unwrap_err();
    let error = check("https://api.example/?key=canary", "10.0.0.1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the egress guard refuses `api.example`: a private address; an administrator can allow it with `egress_allow` (denied, host api.example)"
    );
}

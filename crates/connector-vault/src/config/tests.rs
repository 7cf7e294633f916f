//! What the section accepts and refuses.

use super::*;

fn parse(yaml: &str) -> VaultConfig {
    serde_saphyr::from_str(yaml).unwrap()
}

fn problems(yaml: &str) -> Vec<(String, String)> {
    parse(yaml).problems()
}

/// The keys of the problems alone.
fn keys(yaml: &str) -> Vec<String> {
    problems(yaml).into_iter().map(|(key, _)| key).collect()
}

const FULL: &str = r#"
keys:
  - { id: k3, from: "transit:https://bao.internal:8200/transit/connectors", approle: { role_id: r1, secret_id: "${BAO_SECRET_ID}" }, namespace: team/eu }
  - { id: k2, from: "aws-kms:alias/connectors?region=eu-central-1" }
  - { id: k1, from: "env:CONNECTORS_MASTER_KEY" }
  - { id: k0, from: "${OLD_KEY_PLACE}" }
stores:
  corp: { kind: hashicorp, url: "https://bao.internal:8200", mount: secret, path: "connectors/{tenant}/{name}", token: "${VAULT_TOKEN}" }
  aws: { kind: aws_secrets_manager, region: eu-central-1 }
  files: { kind: file, dir: /run/secrets/connectors }
  env: { kind: env, prefix: CRED_, fields: [region_code] }
keep_for: 90s
"#;

#[test]
fn a_full_section_is_read_and_nothing_is_wrong_with_it() {
    let config = parse(FULL);
    assert_eq!(config.problems(), []);
    assert_eq!(config.keys.len(), 4);
    assert_eq!(config.stores["files"], StoreConfig::File(FileConfig { dir: "/run/secrets/connectors".into() }));
    assert_eq!(config.keep(), Some(Duration::from_secs(90)));
    assert_eq!(VaultConfig::default().problems(), []);
    assert_eq!(VaultConfig::default().keep(), Some(KEEP_FOR));
}

#[test]
fn unknown_keys_and_kinds_are_refused_everywhere() {
    for yaml in [
        "key: []",
        "keys: [{ id: a, from: 'env:A', value: x }]",
        "stores: { a: { kind: hashicorp, url: 'https://b', token: '${T}', tokens: x } }",
        "stores: { a: { kind: aws_secrets_manager, secret_access_key: x } }",
        "stores: { a: { kind: file, dir: /a, path: x } }",
        "stores: { a: { kind: env, prefix: A_, dir: x } }",
        "stores: { a: { kind: azure } }",
        "stores: { a: { dir: /a } }",
    ] {
        assert!(serde_saphyr::from_str::<VaultConfig>(yaml).is_err(), "{yaml}");
    }
}

#[test]
fn a_secret_in_the_file_is_refused_with_the_safer_way_and_never_shown() {
    let yaml = r#"
keys: [{ id: k, from: "transit:https://bao/transit/k", token: hvs.canary }]
stores:
  corp: { kind: hashicorp, url: "https://bao", token: "hvs.canary${X}" }
  role: { kind: hashicorp, url: "https://bao", approle: { role_id: r, secret_id: canary } }
"#;
    let found = problems(yaml);
    let places: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(places, ["vault.keys[0].token", "vault.stores.corp.token", "vault.stores.role.approle.secret_id"]);
    let shown = format!("{found:?} {:?}", parse(yaml));
    assert!(!shown.contains("canary"), "{shown}");
    assert!(found[1].1.ends_with("set an environment variable and write \"${CORP_TOKEN}\""), "{found:?}");
    assert!(found[2].1.contains("${ROLE_SECRET_ID}"), "{found:?}");
}

#[test]
fn a_secret_that_is_a_number_is_not_quoted_by_the_reader() {
    for yaml in ["keys: [{ id: k, from: 'env:A', token: [4711] }]", "stores: { corp: { kind: hashicorp, url: 'https://b', token: { a: 4711 } } }"] {
        let error = serde_saphyr::from_str::<VaultConfig>(yaml).unwrap_err();
        assert!(!error.without_snippet().to_string().contains("4711"), "{error}");
    }
    let config = serde_saphyr::from_str::<VaultConfig>("stores: { corp: { kind: hashicorp, url: 'https://b', token: 4711 } }");
    let shown = config.map_or_else(|error| error.without_snippet().to_string(), |config| format!("{config:?} {:?}", config.problems()));
    assert!(!shown.contains("4711"), "{shown}");
}

#[test]
fn ids_places_logins_paths_and_times_are_checked_with_their_keys() {
    assert_eq!(keys("keys: [{ id: k, from: 'env:A' }, { id: k, from: 'env:B' }]"), ["vault.keys[1].id"]);
    assert_eq!(keys("keys: [{ id: 'K 1', from: 'env:A' }]"), ["vault.keys[0].id"]);
    assert_eq!(keys("keys: [{ id: k, from: 'vault:A' }]"), ["vault.keys[0].from"]);
    assert_eq!(keys("keys: [{ id: k, from: 'env:A', token: '${T}', namespace: x }]"), ["vault.keys[0].token", "vault.keys[0].namespace"]);
    assert_eq!(keys("keys: [{ id: k, from: 'transit:https://bao/transit/k' }]"), ["vault.keys[0]"]);
    assert_eq!(keys("stores: { corp: { kind: hashicorp, url: 'https://b' } }"), ["vault.stores.corp"]);
    assert_eq!(
        keys("stores: { corp: { kind: hashicorp, url: 'https://b', token: '${T}', approle: { role_id: r, secret_id: '${S}' } } }"),
        ["vault.stores.corp.approle"]
    );
    assert_eq!(keys("stores: { Corp: { kind: file, dir: /a } }"), ["vault.stores.Corp"]);
    assert_eq!(keys("stores: { aws: { kind: aws_secrets_manager, path: '../{name}' } }"), ["vault.stores.aws.path"]);
    for wrong in ["0s", "2h", "5", "m", "5 m", "-1s", "99999999999999999999h"] {
        assert_eq!(keys(&format!("keep_for: '{wrong}'")), ["vault.keep_for"], "{wrong}");
    }
    for right in ["1s", "5m", "5min", "1h", "3600s"] {
        assert!(keys(&format!("keep_for: '{right}'")).is_empty(), "{right}");
    }
}

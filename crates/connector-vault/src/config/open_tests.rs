//! Opening a vault as a configuration says, without a network.

use std::{collections::HashMap, sync::Arc};

use connector_core::{ErrorKind, TenantId, clock::SystemClock};
use connector_state::MemoryState;
use connector_testkit::transport::Never;
use secrecy::SecretString;
use tempfile::TempDir;

use super::*;
use crate::{NewCredential, Vault, key::MasterKey as _};

const KEY: &str = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=";
const OTHER: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

fn deps(store: &Arc<MemoryState>, vars: &[(&str, &str)], data_dir: Option<&TempDir>) -> OpenDeps {
    let vars: HashMap<String, String> = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    OpenDeps {
        store: store.clone(),
        transport: Arc::new(Never),
        env: Arc::new(move |name| vars.get(name).cloned()),
        data_dir: data_dir.map(|dir| dir.path().to_owned()),
        clock: Arc::new(SystemClock),
    }
}

fn config(yaml: &str) -> VaultConfig {
    serde_saphyr::from_str(yaml).unwrap()
}

async fn keep(vault: &Vault) -> String {
    let fields = [("token".to_owned(), SecretString::from("t"))].into();
    vault.set(&TenantId::default(), "crm", NewCredential { fields, ..NewCredential::default() }).await.unwrap().key_id
}

async fn refusal(yaml: &str, vars: &[(&str, &str)]) -> String {
    let error = open(&config(yaml), deps(&Arc::default(), vars, None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(KEY) && !shown.contains("canary"), "{shown}");
    error.to_string()
}

#[tokio::test]
async fn without_a_configuration_the_variable_holds_the_key() {
    let store = Arc::default();
    let vault = open(&VaultConfig::default(), deps(&store, &[(MASTER_KEY, KEY)], None)).await.unwrap();
    let id = keep(&vault).await;
    let again = open(&VaultConfig::default(), deps(&store, &[(MASTER_KEY, KEY)], None)).await.unwrap();
    assert_eq!(again.verify().await.unwrap().opened, 1);
    let error = open(&VaultConfig::default(), deps(&store, &[(MASTER_KEY, OTHER)], None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(&id), "it names the key that is missing: {error}");
}

#[cfg(unix)]
#[tokio::test]
async fn without_a_variable_a_key_file_is_made_once_and_kept() {
    use std::os::unix::fs::PermissionsExt as _;

    let (dir, store) = (TempDir::new().unwrap(), Arc::default());
    let vault = open(&VaultConfig::default(), deps(&store, &[(MASTER_KEY, "")], Some(&dir))).await.unwrap();
    let id = keep(&vault).await;
    let file = dir.path().join("master.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let again = open(&VaultConfig::default(), deps(&store, &[], Some(&dir))).await.unwrap();
    assert_eq!(again.verify().await.unwrap().by_key, [(id.clone(), 1)].into());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
    // The same key from elsewhere is the same key.
    let moved = open(&VaultConfig::default(), deps(&store, &[(MASTER_KEY, text.trim())], None)).await.unwrap();
    assert_eq!(moved.verify().await.unwrap().by_key, [(id, 1)].into());

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = open(&VaultConfig::default(), deps(&store, &[], Some(&dir))).await.unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    // A link to nowhere is not replaced by a new key.
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(dir.path().join("gone"), &file).unwrap();
    assert!(open(&VaultConfig::default(), deps(&store, &[], Some(&dir))).await.is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn two_that_start_at_once_agree_on_one_key() {
    let (dir, store) = (TempDir::new().unwrap(), Arc::<MemoryState>::default());
    let path = dir.path().join("master.key");
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || super::open::found_or_made(&path).unwrap().id().to_owned())
        })
        .collect();
    let ids: std::collections::BTreeSet<String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(open(&VaultConfig::default(), deps(&store, &[], Some(&dir))).await.is_ok());
}

#[tokio::test]
async fn the_first_key_seals_and_the_others_open() {
    let store = Arc::default();
    let vars = [("OLD", KEY), ("NEW", OTHER)];
    let old = config("keys: [{ id: k1, from: 'env:OLD' }]");
    assert_eq!(keep(&open(&old, deps(&store, &vars, None)).await.unwrap()).await, "k1");
    let both = config("keys: [{ id: k2, from: '${PLACE}' }, { id: k1, from: 'env:OLD' }]");
    let with_place = [("OLD", KEY), ("NEW", OTHER), ("PLACE", "env:NEW")];
    let vault = open(&both, deps(&store, &with_place, None)).await.unwrap();
    assert_eq!(vault.verify().await.unwrap().by_key, [("k1".to_owned(), 1)].into());
    vault.rotate_key(&|_| {}).await.unwrap();
    let new = config("keys: [{ id: k2, from: 'env:NEW' }]");
    assert_eq!(open(&new, deps(&store, &vars, None)).await.unwrap().verify().await.unwrap().opened, 1);
}

#[tokio::test]
async fn what_is_wrong_is_said_at_once_with_its_key() {
    let text = refusal("", &[]).await;
    assert!(text.contains(MASTER_KEY) && text.contains("`keyring:SERVICE/ACCOUNT`"), "{text}");
    let text = refusal("keys: [{ id: k, from: 'base64:q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=' }, { id: k, from: 'env:A' }]", &[]).await;
    assert!(text.contains("`vault.keys[0].from`: this is not a place of a key") && text.contains("`vault.keys[1].id`: two keys"), "{text}");
    let yaml = r#"
keys: [{ id: k, from: "transit:https://bao/transit/k", token: "${TOKEN_A}" }]
stores: { corp: { kind: hashicorp, url: "https://${HOST}", approle: { role_id: r, secret_id: "${SECRET_B}" } } }
"#;
    let text = refusal(yaml, &[]).await;
    for missing in ["`TOKEN_A` is not set; `vault.keys[0].token`", "`HOST` is not set; `vault.stores.corp.url`", "`SECRET_B` is not set"] {
        assert!(text.contains(missing), "{text}");
    }
    for (yaml, vars, key) in [
        ("keys: [{ id: k, from: 'env:A' }]", &[][..], "`vault.keys[0].from`: the environment variable `A` is not set"),
        ("keys: [{ id: k, from: 'env:A' }]", &[("A", "canary")], "`vault.keys[0].from`: the master key in environment variable A"),
        ("keys: [{ id: k, from: '${A}' }]", &[("A", KEY)], "`vault.keys[0].from`: this is not a place"),
        ("keys: [{ id: k, from: 'file:/nowhere/master.key' }]", &[], "`vault.keys[0].from`: the master key file /nowhere/master.key"),
        ("keys: [{ id: k, from: 'aws-kms:alias/c' }]", &[], "`vault.keys[0].from`: the AWS region is not known"),
        ("keys: [{ id: k, from: 'aws-kms:alias/c?region=no region' }]", &[], "`vault.keys[0].from`: `no region` is not an AWS region"),
        ("keys: [{ id: k, from: 'transit:http://bao.internal:8200/transit/k', token: '${A}' }]", &[("A", "t")], "without encryption"),
        (
            "stores: { corp: { kind: hashicorp, url: 'http://bao.internal', token: '${A}' } }",
            &[("A", "t"), (MASTER_KEY, KEY)],
            "`vault.stores.corp`: Vault/OpenBao at `http://bao.internal` would be reached without encryption",
        ),
        ("stores: { e: { kind: env, prefix: '' } }", &[(MASTER_KEY, KEY)], "`vault.stores.e`: the prefix"),
    ] {
        let text = refusal(yaml, vars).await;
        assert!(text.contains(key), "{yaml}: {text}");
    }
}

#[tokio::test]
async fn stores_are_reached_by_their_names() {
    use connector_core::{
        CallCx, Connection,
        credential::{CredentialQuery, CredentialStore as _},
    };

    let store = Arc::default();
    let vars = [(MASTER_KEY, KEY), ("CRED_CRM_TOKEN", "from-env")];
    let vault = open(&config("stores: { env: { kind: env, prefix: CRED_ } }"), deps(&store, &vars, None)).await.unwrap();
    let cx = CallCx::new(Arc::new(Connection::new("crm", "https://crm.example").unwrap()));
    let found = vault.get(&CredentialQuery::of(&cx, "env:crm")).await.unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(found.field("token").unwrap()), "from-env");
    assert_eq!(vault.get(&CredentialQuery::of(&cx, "env:other")).await.unwrap_err().kind(), ErrorKind::Config);
}

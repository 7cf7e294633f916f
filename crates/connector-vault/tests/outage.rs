//! Key services and secret managers that are away for a while, and what is kept in memory meanwhile.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use common::{Place, RemoteKey, ask, ask_for, fields, key, new, value};
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    credential::CredentialStore as _,
    state::{AuditOutcome, Condition},
    token::{TokenFacts, TokenRecord, TokenSet, TokenStore as _},
};
use connector_vault::{
    Vault,
    manager::{ManagedSecret, SecretManager},
};

on_both_stores!(
    a_key_service_that_is_away_for_ten_minutes,
    what_is_old_is_opened_anew_before_it_is_needed,
    a_local_key_opens_once_in_five_minutes,
    a_short_keep_for_is_kept,
    many_callers_open_once,
    a_manager_is_read_for_its_lease_and_used_while_it_is_away,
    a_manager_is_asked_for_its_own_tenant,
);

const MINUTE: Duration = Duration::from_secs(60);

fn tokens(access: &str) -> TokenRecord {
    TokenRecord { tokens: TokenSet { access: access.into(), refresh: None }, facts: TokenFacts::default() }
}

async fn a_key_service_that_is_away_for_ten_minutes(place: Place) {
    let kms = RemoteKey::new(7);
    let vault = place.vault_under(vec![kms.clone()]).await.unwrap();
    let tenant = TenantId::from("acme");
    for name in ["used", "unused"] {
        vault.set(&tenant, name, new([("token", "s3cret")])).await.unwrap();
    }
    vault.save(&ask("acme", "used").query(), &tokens("acc3ss"), Condition::Absent).await.unwrap();
    vault.get(&ask("acme", "used").query()).await.unwrap();
    let other = place.vault_under(vec![kms.clone()]).await.unwrap();
    kms.set_away(true);
    let (mut served, mut refused) = (0, 0);
    for second in 0..600_u64 {
        let given = vault.get(&ask("acme", "used").query()).await;
        let row = vault.load(&ask("acme", "used").query()).await;
        // What was opened serves for five minutes, and then nothing does: there is no other way to the secret.
        if second < 300 {
            assert_eq!(value(&given.unwrap(), "token"), "s3cret", "second {second}");
            assert!(row.unwrap().is_some());
            served += 1;
        } else {
            for error in [given.unwrap_err(), row.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Transient, "second {second}");
                assert!(
                    error.to_string().contains("the master key `kms` (key service of the test) cannot be reached since 2027-01-15T08:0"),
                    "{error}"
                );
            }
            refused += 1;
        }
        place.pass(Duration::from_secs(1)).await;
    }
    assert_eq!((served, refused), (300, 300));
    // What nobody used is not in memory, and nothing can be sealed.
    assert_eq!(other.get(&ask("acme", "unused").query()).await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(vault.set(&tenant, "later", new([("token", "x")])).await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(vault.save(&ask("acme", "used").query(), &tokens("x"), Condition::Any).await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(vault.seal(&tenant, "pkce", "1", b"x").await.unwrap_err().kind(), ErrorKind::Transient);
    assert!(!vault.exists(&tenant, "later").await.unwrap());
    kms.set_away(false);
    for name in ["used", "unused"] {
        assert_eq!(value(&vault.get(&ask("acme", name).query()).await.unwrap(), "token"), "s3cret");
    }
    let failed = place.trail("acme").await.iter().filter(|entry| entry.record.outcome == AuditOutcome::Failed).count();
    assert!(failed > 0);
}

async fn what_is_old_is_opened_anew_before_it_is_needed(place: Place) {
    let kms = RemoteKey::new(7);
    let vault = place.vault_under(vec![kms.clone()]).await.unwrap();
    vault.set(&"acme".into(), "crm", new([("token", "s3cret")])).await.unwrap();
    let before = kms.unwraps.load(Ordering::SeqCst);
    let opens = || kms.unwraps.load(Ordering::SeqCst) - before;
    for _ in 0..239 {
        vault.get(&ask("acme", "crm").query()).await.unwrap();
        place.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(opens(), 1);
    place.pass(Duration::from_secs(1)).await;
    vault.get(&ask("acme", "crm").query()).await.unwrap();
    assert_eq!(opens(), 2);
    // So an outage that starts then is not noticed for five minutes; while it lasts the key is asked now and then, not for each call.
    kms.set_away(true);
    place.pass(Duration::from_secs(240)).await;
    for _ in 0..59 {
        vault.get(&ask("acme", "crm").query()).await.unwrap();
        place.pass(Duration::from_secs(1)).await;
    }
    let failed = place.trail("acme").await.iter().filter(|entry| entry.record.outcome == AuditOutcome::Failed).count();
    assert_eq!(failed, 12);
    kms.set_away(false);
    place.pass(Duration::from_secs(1)).await;
    vault.get(&ask("acme", "crm").query()).await.unwrap();
    assert_eq!(opens(), 3);
}

async fn a_local_key_opens_once_in_five_minutes(place: Place) {
    let vault = place.vault().await;
    vault.set(&"acme".into(), "crm", new([("token", "s3cret"), ("second", "x")])).await.unwrap();
    for _ in 0..600 {
        vault.get(&ask("acme", "crm").query()).await.unwrap();
        place.pass(Duration::from_secs(1)).await;
    }
    let trail = place.trail("acme").await;
    assert_eq!(trail.len(), 2);
    let record = &trail[0].record;
    assert_eq!((&*record.operation, record.connection.as_str(), &*record.connector), ("crm_get_contact", "crm-main", "crm"));
    assert_eq!((record.credential.as_deref(), record.actor.as_str(), record.correlation_id.as_str()), (Some("crm"), "user:ada", "corr-1"));
    assert_eq!((record.outcome, record.args_digest.as_str(), record.at), (AuditOutcome::Ok, "", common::START * 1000));
    // Looking at it is not opening it.
    vault.show(&"acme".into(), "crm").await.unwrap();
    vault.grant(&"acme".into(), "crm", vec!["*".into()]).await.unwrap();
    assert_eq!(place.trail("acme").await.len(), 2);
    vault.verify().await.unwrap();
    let last = place.trail("acme").await.pop().unwrap().record;
    assert_eq!((&*last.operation, last.credential.as_deref(), last.actor.as_str()), ("vault.verify", Some("crm"), "system"));
    assert!(place.store.audit_verify(&"acme".into()).await.unwrap().first_bad.is_none());
}

async fn a_short_keep_for_is_kept(place: Place) {
    let vault =
        Vault::builder(place.store.clone()).key(key(1)).clock(Arc::new(place.clock.clone())).keep_for(Duration::from_secs(10)).open().await.unwrap();
    vault.set(&"acme".into(), "crm", new([("token", "s3cret")])).await.unwrap();
    for _ in 0..3 {
        vault.get(&ask("acme", "crm").query()).await.unwrap();
        place.pass(Duration::from_secs(5)).await;
    }
    assert_eq!(place.trail("acme").await.len(), 2);
}

async fn many_callers_open_once(place: Place) {
    let kms = RemoteKey::new(7);
    let vault = place.vault_under(vec![kms.clone()]).await.unwrap();
    vault.set(&"acme".into(), "crm", new([("token", "s3cret")])).await.unwrap();
    let before = kms.unwraps.load(Ordering::SeqCst);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let vault = vault.clone();
        tasks.spawn(async move { value(&vault.get(&ask("acme", "crm").query()).await.unwrap(), "token") });
    }
    assert!(tasks.join_all().await.iter().all(|token| token == "s3cret"));
    assert_eq!((kms.unwraps.load(Ordering::SeqCst) - before, place.trail("acme").await.len()), (1, 1));
}

/// A secret manager that does what it is told.
#[derive(Debug, Default)]
struct Manager {
    answer: Mutex<Answer>,
    reads: AtomicU64,
}

#[derive(Debug, Default, Clone)]
enum Answer {
    #[default]
    Nothing,
    Away,
    Refuses,
    Secret {
        version: u64,
        lease: Option<Duration>,
    },
}

impl Manager {
    fn says(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl SecretManager for Manager {
    fn place(&self) -> String {
        "a manager of the test".into()
    }

    async fn read(&self, tenant: &TenantId, name: &str) -> Result<Option<ManagedSecret>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        match self.answer.lock().unwrap().clone() {
            Answer::Nothing => Ok(None),
            Answer::Away => Err(Error::new(ErrorKind::Timeout, "no answer from the manager")),
            Answer::Refuses => Err(Error::config("the manager refuses us")),
            Answer::Secret { version, lease } => Ok(Some(ManagedSecret {
                fields: fields([("token", &format!("{tenant}/{name} v{version}"))]),
                version,
                previous: (version > 1).then(|| fields([("token", &format!("{tenant}/{name} v{}", version - 1))])),
                lease,
            })),
        }
    }
}

async fn with_manager(place: &Place) -> (Vault, Arc<Manager>) {
    let manager = Arc::new(Manager::default());
    let builder = Vault::builder(place.store.clone()).key(key(1)).clock(Arc::new(place.clock.clone()));
    (builder.manager("bao", manager.clone()).open().await.unwrap(), manager)
}

async fn a_manager_is_read_for_its_lease_and_used_while_it_is_away(place: Place) {
    let (vault, manager) = with_manager(&place).await;
    let asked = ask_for("acme", "bao:team/crm", "ws");
    let get = async || vault.get(&asked.query()).await.map(|given| value(&given, "token"));
    assert_eq!(get().await.unwrap_err().to_string(), asked.query().missing().to_string());
    manager.says(Answer::Secret { version: 1, lease: Some(MINUTE) });
    for _ in 0..60 {
        assert_eq!(get().await.unwrap(), "acme/team/crm v1");
        place.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(manager.reads(), 2);
    manager.says(Answer::Secret { version: 2, lease: None });
    let given = vault.get(&asked.query()).await.unwrap();
    assert_eq!((given.version, value(given.previous.as_ref().unwrap(), "token").as_str()), (2, "acme/team/crm v1"));
    // Without a lease it is the vault's own time: asked again a little before it is over, used until it is.
    manager.says(Answer::Away);
    for second in 0..300 {
        assert_eq!(get().await.unwrap(), "acme/team/crm v2", "second {second}");
        place.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(manager.reads(), 3 + 12);
    let error = get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().contains("credential `bao:team/crm` cannot be read from a manager of the test"), "{error}");
    // A refusal is not an outage: what it gave before is not used any longer.
    manager.says(Answer::Secret { version: 3, lease: Some(MINUTE) });
    assert_eq!(get().await.unwrap(), "acme/team/crm v3");
    place.pass(MINUTE).await;
    manager.says(Answer::Refuses);
    assert_eq!(get().await.unwrap_err().kind(), ErrorKind::Config);
    manager.says(Answer::Away);
    assert_eq!(get().await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(place.trail("acme").await[0].record.credential.as_deref(), Some("bao:team/crm"));
}

async fn a_manager_is_asked_for_its_own_tenant(place: Place) {
    let (vault, manager) = with_manager(&place).await;
    manager.says(Answer::Secret { version: 1, lease: None });
    for tenant in ["acme", "other"] {
        let given = vault.get(&ask(tenant, "bao:crm").query()).await.unwrap();
        assert_eq!(value(&given, "token"), format!("{tenant}/crm v1"));
    }
    let error = vault.get(&ask("acme", "vaultx:crm").query()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("there is no secret manager `vaultx`"), "{error}");
    assert!(vault.exists(&"acme".into(), "bao:crm").await.unwrap());
    // A person's tokens for a client that lies with a manager lie here.
    let asked = ask("acme", "bao:crm");
    vault.save(&asked.query(), &tokens("acc3ss"), Condition::Absent).await.unwrap().unwrap();
    assert!(vault.load(&asked.query()).await.unwrap().is_some());
    assert!(vault.load(&ask("other", "bao:crm").query()).await.unwrap().is_none());
    assert_eq!(vault.tenants().await.unwrap(), [TenantId::from("acme")]);
}

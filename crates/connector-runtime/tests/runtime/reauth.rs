//! Connections that need a person: told once, shown everywhere until somebody connects again.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use connector_core::{
    ErrorKind, Result, TenantId,
    state::{EventFilter, StoredEvent},
};
use connector_runtime::{AuthState, CredentialCheck, EventHandler, HealthState, REAUTH_REQUIRED, Runtime};
use serde_json::json;

use crate::{
    fixture::{call, value},
    signin::{World, ask, back, connected, hub, manifest},
};

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<StoredEvent>>);

#[async_trait]
impl EventHandler for Heard {
    async fn handle(&self, event: &StoredEvent, _: u32) -> Result<()> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }
}

async fn auth(runtime: &Runtime) -> (AuthState, HealthState) {
    let health = runtime.health().await.into_iter().find(|health| health.connection == "main").unwrap();
    (health.auth, health.state)
}

/// The refresh token is over and so is the access token.
async fn lapse(world: &World) {
    *world.vendor.refuses.lock().unwrap() = Some((400, "invalid_grant"));
    tokio::time::advance(Duration::from_secs(3_700)).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_told_once_whoever_and_however_many_meet_it() {
    let world = World::new();
    let one = connected(&world).await;
    let two = world.runtime(hub()).await;
    lapse(&world).await;
    let asked = world.vendor.sent("/token").len();
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let runtime = if n % 2 == 0 { one.clone() } else { two.clone() };
            tokio::spawn(async move { runtime.call(call("crm_list", json!({}))).await.unwrap_err().kind() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), ErrorKind::AuthExpired);
    }
    assert_eq!(world.vendor.sent("/token").len(), asked + 1, "one renewal, never repeated");
    let tenant = TenantId::from("acme");
    let events = world.opened().await.events(&tenant, EventFilter::default()).await.unwrap();
    let told: Vec<&StoredEvent> = events.iter().filter(|event| &*event.event_type == REAUTH_REQUIRED).collect();
    assert_eq!(told.len(), 1);
    let payload: serde_json::Value = serde_json::from_slice(&told[0].payload).unwrap();
    assert_eq!(
        (payload["credential"].as_str(), payload["connections"][0].as_str(), payload["reason"].as_str()),
        (Some("main"), Some("main"), Some("invalid_grant"))
    );
    assert!(told[0].event_id.starts_with("reauth:main:") && &*told[0].connector == "crm");
    assert!(!String::from_utf8_lossy(&told[0].payload).contains("canary"));

    for runtime in [&one, &two] {
        assert_eq!(auth(runtime).await, (AuthState::Reauth, HealthState::Down));
    }
    assert_eq!(serde_json::to_value(AuthState::Reauth).unwrap(), "reauth_required");
    // Nothing is asked any more, also not to find out.
    let checked = one.validate_credentials(&tenant, "main").await.unwrap();
    assert_eq!((checked.outcome, checked.kind), (CredentialCheck::Refused, Some(ErrorKind::AuthExpired)));
    assert_eq!(world.vendor.sent("/token").len(), asked + 1);

    // A restart knows it without asking anybody.
    drop((one, two));
    let three = world.runtime(hub()).await;
    assert_eq!(auth(&three).await.0, AuthState::Reauth);

    // Somebody connects.
    *world.vendor.refuses.lock().unwrap() = None;
    let start = three.begin_connect(ask("acme")).await.unwrap();
    assert_eq!(three.finish_connect(back(&start)).await.unwrap().checked, None);
    assert_eq!(auth(&three).await.0, AuthState::Ok);
    assert_eq!(value(&three, call("crm_list", json!({}))).await["id"], "1");

    // The next time is another trouble.
    lapse(&world).await;
    three.call(call("crm_list", json!({}))).await.unwrap_err();
    let events = world.store.events(&tenant, EventFilter::default()).await.unwrap();
    assert_eq!(events.iter().filter(|event| &*event.event_type == REAUTH_REQUIRED).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_programs_own_handler_hears_of_it_like_of_any_event() {
    let world = World::new();
    drop(connected(&world).await);
    let heard = Arc::new(Heard::default());
    let builder = world.builder(hub()).await.builtin("crm", manifest(), connector_manifest::Hooks::new()).on_event(heard.clone());
    let runtime = builder.build().await.unwrap();
    let tasks = runtime.start();
    lapse(&world).await;
    runtime.call(call("crm_list", json!({}))).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(heard.0.lock().unwrap().iter().map(|event| event.event_type.to_string()).collect::<Vec<_>>(), [REAUTH_REQUIRED]);
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
}

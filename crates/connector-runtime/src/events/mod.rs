//! Events here: what happens to a persisted one, and those the hub itself has to tell.
//!
//! The order: stale cache entries are dropped, the people in charge hear of what the hub tells, rules run, the program's own handler sees it.
//! An event that nothing is declared for costs three look-ups and is not parsed.

use std::sync::Arc;

use async_trait::async_trait;
use connector_core::{
    Result, TenantId, WorkspaceId,
    clock::{Clock, unix_millis},
    state::{Appended, EventLog, NewEvent, StoredEvent},
};
use connector_webhook::{
    dispatch::EventHandler,
    rules::{AlertLevel, Facts},
    work::Waker,
};
use serde_json::Value;

use crate::{
    Runtime,
    alerts::Alert,
    canonical,
    config::AlertOn,
    effects::{EFFECT_TTL, Effects, Mark, Outcome},
    reauth::REAUTH_REQUIRED,
    rotation::{CREDENTIAL_EXPIRING, ROTATION_DUE},
    subscriptions::{SUBSCRIPTION_LOST, SUBSCRIPTION_QUIET},
    tags,
};

/// The connection that the hub's own events come over. No connection can be called so.
pub(crate) const HUB: &str = "$hub";

/// What the runtime's dispatcher does with an event.
#[derive(Debug)]
pub(crate) struct Events {
    effects: Effects,
}

impl Events {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self { effects: Effects { runtime } }
    }

    fn runtime(&self) -> &Runtime {
        &self.effects.runtime
    }

    /// The templates of the tags that events of this kind make stale.
    fn stale(&self, event: &StoredEvent) -> Vec<String> {
        let catalogue = self.runtime().0.shared.catalogue.load();
        let Some(connector) = catalogue.registry.get(&event.connector) else { return Vec::new() };
        let kind = connector.spec().events.iter().find(|kind| kind.name == event.event_type);
        kind.map(|kind| kind.invalidates.clone()).unwrap_or_default()
    }

    /// Drops the replies that the event makes stale. Doing it twice does no harm.
    fn invalidate(&self, event: &StoredEvent, templates: &[String], payload: &Value) {
        for template in templates {
            match tags::of_event(template, payload) {
                Some(tag) => self.runtime().0.shared.cache.invalidate(&event.tenant, &event.connector, &tag),
                None => {
                    tracing::debug!(connector = %event.connector, event_type = %event.event_type, template, "an event names nothing to invalidate")
                }
            }
        }
    }

    /// The program's own handler. `owed`: rules of this event exist, so it may come again for one of them; then a handler that is done is not
    /// asked again.
    async fn program(&self, event: &StoredEvent, attempt: u32, owed: bool, rules: Result<()>) -> Result<()> {
        let inner = &self.runtime().0;
        let Some(handler) = &inner.handler else { return rules };
        if !owed {
            return handler.handle(event, attempt).await;
        }
        let key = format!("handler_{}", identity(event));
        let is_done = inner.marks.get(&event.tenant, &key).await?.is_some();
        let handled = if is_done { Ok(()) } else { handler.handle(event, attempt).await };
        match (&rules, &handled) {
            (Err(_), Ok(())) if !is_done => inner.marks.put(&event.tenant, &key, &Mark::of(Outcome::Done), Some(EFFECT_TTL)).await?,
            // All is done: who replays the event wants the handler to see it once more.
            (Ok(()), Ok(())) if is_done => inner.marks.forget(&event.tenant, &key).await?,
            _ => {}
        }
        // A failure that may pass decides that the event comes again.
        match (rules, handled) {
            (Err(rules), Err(handled)) if !rules.kind().is_passing() && rules.retry_after().is_none() => Err(handled),
            (Err(rules), _) => Err(rules),
            (Ok(()), handled) => handled,
        }
    }
}

/// What tells an event from all others, in hex.
fn identity(event: &StoredEvent) -> String {
    let mut digest = canonical::hex_digest(&[event.tenant.as_str().as_bytes(), event.connection.as_bytes(), event.event_id.as_bytes()]);
    digest.truncate(40);
    digest
}

#[async_trait]
impl EventHandler for Events {
    async fn handle(&self, event: &StoredEvent, attempt: u32) -> Result<()> {
        let inner = &self.runtime().0;
        let templates = self.stale(event);
        let rules = inner.rules.set();
        let owed = rules.concerns(event);
        let told = (&*event.connection == HUB).then(|| of_hub(event)).flatten();
        let mut result = Ok(());
        if owed || !templates.is_empty() {
            let facts = Facts::of(event)?;
            self.invalidate(event, &templates, facts.payload());
            if owed {
                result = self.effects.run(event, &facts, &rules).await;
            }
        }
        if let Some(alert) = told {
            inner.alerts.raise(&alert, Some(EFFECT_TTL)).await?;
        }
        self.program(event, attempt, owed, result).await
    }
}

/// The alert that an event of the hub's own is worth.
fn of_hub(event: &StoredEvent) -> Option<Alert> {
    let (kind, level, what) = match &*event.event_type {
        REAUTH_REQUIRED => (AlertOn::ReauthRequired, AlertLevel::Critical, "needs a person: connect it again"),
        CREDENTIAL_EXPIRING => (AlertOn::CredentialDue, AlertLevel::Warning, "expires soon"),
        ROTATION_DUE => (AlertOn::CredentialDue, AlertLevel::Warning, "is due to be rotated by hand"),
        SUBSCRIPTION_LOST => (AlertOn::SubscriptionLost, AlertLevel::Warning, "was lost and is made anew"),
        SUBSCRIPTION_QUIET => (AlertOn::SubscriptionLost, AlertLevel::Warning, "is silent; look whether it is still switched on at the vendor"),
        _ => return None,
    };
    let payload: Value = serde_json::from_slice(&event.payload).unwrap_or_default();
    let named = |what: &str| payload.get(what).and_then(Value::as_str).map(|name| format!("{what} `{name}`"));
    let about = named("credential").or_else(|| named("subscription")).unwrap_or_default();
    let reason = payload.get("reason").and_then(Value::as_str).map(|reason| format!(" ({reason})")).unwrap_or_default();
    Some(Alert {
        tenant: event.tenant.clone(),
        workspace: event.workspace.clone(),
        kind,
        level,
        text: format!("{about} of `{}` {what}{reason}", event.connector),
        key: format!("hub_{}", identity(event)),
    })
}

/// Something the hub itself has to tell, once.
pub(crate) struct HubEvent<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) workspace: WorkspaceId,
    /// The connector it is about.
    pub(crate) connector: &'a str,
    pub(crate) event_type: &'a str,
    /// Told once under this id.
    pub(crate) event_id: String,
    /// What it is about (a credential): events about the same thing are handled in order.
    pub(crate) about: &'a str,
    /// Never a secret.
    pub(crate) payload: Value,
}

/// Writes the hub's own events into the log, from where they are dispatched like a vendor's.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) waker: Waker,
}

impl Teller {
    /// `true`: it was not told before.
    pub(crate) async fn tell(&self, event: HubEvent<'_>) -> Result<bool> {
        let new = NewEvent {
            tenant: event.tenant.clone(),
            workspace: event.workspace,
            connector: event.connector.into(),
            connection: HUB.into(),
            event_id: event.event_id,
            event_type: event.event_type.into(),
            order_key: Some(format!("credential:{}", event.about)),
            flags: Vec::new(),
            payload: event.payload.to_string().into(),
            digest: None,
            received_at: unix_millis(self.clock.wall()),
        };
        let appended = self.log.append(vec![new]).await?;
        let is_new = matches!(appended.first(), Some(Appended::New { .. }));
        if is_new {
            self.waker.wake();
        }
        Ok(is_new)
    }
}

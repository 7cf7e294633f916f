//! Looking after the subscriptions, by one hub of a fleet: what is due is done, one row's trouble does not keep it from the others.

use std::time::Duration;

use connector_core::{ErrorKind, Result, TenantId};
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use super::{
    SUBSCRIPTION_LOST, SUBSCRIPTION_QUIET,
    lease::Lease,
    row::{Held, SubscriptionState},
    vendor::{About, is_over},
};
use crate::{events::HubEvent, runtime::Runtime};

/// How often they are looked at if nothing wakes us. Well below the lease, so that whoever leads goes on leading.
const EVERY: Duration = Duration::from_secs(20);
/// The first wait after a failure; it doubles up to [`LONGEST`].
const BACKOFF: u64 = 30_000;
/// The longest wait between two tries.
const LONGEST: u64 = 30 * 60_000;

/// What one look did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SubscriptionsTended {
    /// Another hub is at it; nothing was done here.
    pub elsewhere: bool,
    /// Made at the vendor.
    pub created: u64,
    /// Taken over as they were found.
    pub adopted: u64,
    /// Renewed.
    pub renewed: u64,
    /// Second ones of the same that were ended.
    pub duplicates: u64,
    /// Found to be over at the vendor.
    pub lost: u64,
    /// Taken down.
    pub removed: u64,
    /// Gaps closed.
    pub gaps: u64,
    /// Changes found that no notification told of.
    pub found: u64,
    /// Sources read as a whole.
    pub resyncs: u64,
    /// What failed and is tried again.
    pub failed: u64,
}

/// Looks after subscriptions until `stop`.
pub(crate) async fn run(runtime: Runtime, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow_and_update() {
        if let Err(error) = runtime.tend_subscriptions().await {
            tracing::error!(%error, "subscriptions could not be looked after; it is tried again in a moment");
        }
        let pause = EVERY.mul_f64(0.9 + runtime.0.rng.unit() * 0.2);
        tokio::select! {
            changed = stop.changed() => if changed.is_err() { break },
            () = runtime.0.subscriptions.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    if let Err(error) = runtime.release_subscriptions().await {
        tracing::warn!(%error, "the lease of the subscriptions could not be given back; it ends by itself within a minute");
    }
}

impl Runtime {
    /// Looks after the subscriptions now, as the running hub does by itself: makes, adopts, renews and ends them, acts on the vendors' notices,
    /// closes gaps.
    ///
    /// # Errors
    /// What keeps the state store from looking. Trouble with one subscription is counted, and shown by [`Runtime::subscription`], not an error.
    pub async fn tend_subscriptions(&self) -> Result<SubscriptionsTended> {
        let mut done = SubscriptionsTended::default();
        let _one_at_a_time = self.0.subscriptions.working.lock().await;
        if self.lead_subscriptions().await?.is_none() {
            return Ok(SubscriptionsTended { elsewhere: true, ..done });
        }
        for (entry, error) in self.plan_subscriptions().await? {
            done.failed += 1;
            let said = self.0.subscriptions.complaints.insert(entry.clone(), error.to_string());
            if said.as_deref() != Some(&error.to_string()) {
                tracing::error!(%error, entry, "an entry under `subscriptions` of hub.yaml cannot be done");
            }
        }
        let mut states = std::collections::BTreeMap::<(String, SubscriptionState), u32>::new();
        for tenant in self.subscription_tenants() {
            for held in self.subscription_rows(&tenant, "").await? {
                let lease = match self.keep_leading().await {
                    Ok(lease) => lease,
                    Err(error) if error.kind() == ErrorKind::Conflict => return Ok(SubscriptionsTended { elsewhere: true, ..done }),
                    Err(error) => return Err(error),
                };
                // Read again: what was done for another one may have renewed this one as well.
                let Some(held) = self.subscription_row(&tenant, &held.row.id).await? else { continue };
                let (id, connector) = (held.row.id.clone(), held.row.connector.clone());
                if let Err(error) = self.tend_subscription(held, &lease, &mut done).await {
                    done.failed += 1;
                    tracing::warn!(%error, tenant = tenant.as_str(), subscription = id, "a subscription could not be looked after; it is tried again");
                }
                if let Some(held) = self.subscription_row(&tenant, &id).await? {
                    *states.entry((connector, held.row.state)).or_default() += 1;
                }
            }
        }
        for ((connector, state), count) in states {
            let state = serde_json::to_value(state).ok().and_then(|state| state.as_str().map(str::to_owned)).unwrap_or_default();
            metrics::gauge!("integration_subscriptions", "connector" => connector, "state" => state).set(f64::from(count));
        }
        Ok(done)
    }

    /// Looks at one subscription now, whatever its waits say: tries again what failed, and reads its stream of changes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has none of this id; [`ErrorKind::Conflict`] if another hub is at it; what the vendor reports.
    pub async fn sync_subscription(&self, tenant: &TenantId, id: &str) -> Result<SubscriptionsTended> {
        let mut done = SubscriptionsTended::default();
        let _one_at_a_time = self.0.subscriptions.working.lock().await;
        let Some(lease) = self.lead_subscriptions().await? else {
            let message = "another hub looks after the subscriptions; ask that one, or wait a minute";
            return Err(connector_core::Error::new(ErrorKind::Conflict, message));
        };
        let mut held = self.subscription_row(tenant, id).await?.ok_or_else(|| super::desired::not_found(id))?;
        (held.row.retry_at, held.row.catch_up_retry_at) = (0, 0);
        held.row.gap.get_or_insert_with(|| "asked_for".to_owned());
        self.tend_subscription(held, &lease, &mut done).await?;
        Ok(done)
    }

    async fn tend_subscription(&self, mut held: Held, lease: &Lease, done: &mut SubscriptionsTended) -> Result<()> {
        let before = held.row.vendor.as_ref().map(super::row::Granted::id_text);
        let notices = self.apply_notices(&mut held).await?;
        if self.reseal_subscription_secrets(&mut held).await? || !notices.is_empty() {
            self.save_subscription(&mut held, Some(lease)).await?;
            self.forget_notices(&held.tenant, &notices).await?;
        }
        if held.row.state == SubscriptionState::Ending {
            return self.end_subscription(held, lease, done).await;
        }
        if held.row.vendor.is_none()
            && let Some(gone) = before
        {
            self.tell_lost(&held, &gone, "the vendor ended it", done).await?;
        }
        let about = match self.about_subscription(&held) {
            Ok(about) => about,
            Err(error) => return self.note_failure(held, lease, error).await,
        };
        if about.kind.by_hand {
            return self.watch_by_hand(held, &about, lease).await;
        }
        let mut trouble = None;
        if self.wall_ms() >= held.row.retry_at {
            // What was there before is read before the subscription is made, so that nothing falls between the two.
            if about.kind.catch_up.is_some() && held.row.cursor.is_none() && self.catch_up_is_due(&held) {
                self.catch_up(&mut held, &about, lease, done).await?;
            }
            if let Err(error) = self.keep_alive(&mut held, &about, lease, done).await {
                if error.kind() == ErrorKind::Conflict {
                    return Err(error);
                }
                trouble = Some(error);
            }
        }
        // Also while there is no subscription: then reading is all there is.
        if self.catch_up_is_due(&held) && (held.row.cursor.is_some() || about.kind.catch_up.is_none()) {
            let found = done.found;
            let read = match self.catch_up(&mut held, &about, lease, done).await {
                Ok(()) if done.found > found => self.doubt(&mut held, &about, lease, done).await,
                other => other,
            };
            match read {
                Err(error) if error.kind() == ErrorKind::Conflict => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, subscription = held.row.id, "the stream of changes could not be read; it is tried again");
                    done.failed += 1;
                }
                Ok(()) => {}
            }
        }
        match trouble {
            Some(error) => self.note_failure(held, lease, error).await,
            // What failed before was nothing that had to be done again.
            None if held.row.fails > 0 && self.wall_ms() >= held.row.retry_at => self.note_success(&mut held, lease).await,
            None => Ok(()),
        }
    }

    /// Something changed and nobody told: perhaps a lost notification, perhaps the vendor has no subscription any more and did not say so.
    async fn doubt(&self, held: &mut Held, about: &About, lease: &Lease, done: &mut SubscriptionsTended) -> Result<()> {
        let Some(id) = held.row.vendor.as_ref().map(super::row::Granted::id_text) else { return Ok(()) };
        if about.kind.list.is_none() || self.list_subscriptions(held, about).await?.iter().any(|one| one.id_text() == id) {
            return Ok(());
        }
        held.row.retire("vanished");
        self.save_subscription(held, Some(lease)).await?;
        self.tell_lost(held, &id, "the vendor does not list it any more", done).await?;
        self.ensure_subscription(held, about, lease, done).await?;
        self.note_success(held, lease).await
    }

    /// Makes, confirms, renews or makes anew.
    async fn keep_alive(&self, held: &mut Held, about: &About, lease: &Lease, done: &mut SubscriptionsTended) -> Result<()> {
        let now = self.wall_ms();
        if let Some(granted) = held.row.vendor.clone()
            && granted.expires_at.is_some_and(|end| end <= now)
        {
            held.row.retire("expired");
            self.save_subscription(held, Some(lease)).await?;
            self.tell_lost(held, &granted.id_text(), "it ran out before it could be renewed", done).await?;
        }
        let Some(granted) = held.row.vendor.clone() else {
            self.ensure_subscription(held, about, lease, done).await?;
            return self.note_success(held, lease).await;
        };
        let due = self.renew_at(&held.row, &granted).is_some_and(|at| at <= now);
        if !due && !held.row.reauthorize {
            return Ok(());
        }
        match self.renew(held, about, lease, done).await {
            Ok(()) => self.note_success(held, lease).await,
            Err(error) if is_over(&error) => {
                metrics::counter!("integration_subscription_renewals_total", "connector" => held.row.connector.clone(), "outcome" => "refused")
                    .increment(1);
                held.row.retire("renewal_refused");
                self.save_subscription(held, Some(lease)).await?;
                self.tell_lost(held, &granted.id_text(), "the vendor refused to renew it", done).await?;
                self.ensure_subscription(held, about, lease, done).await?;
                self.note_success(held, lease).await
            }
            Err(error) => {
                metrics::counter!("integration_subscription_renewals_total", "connector" => held.row.connector.clone(), "outcome" => "failed")
                    .increment(1);
                Err(error)
            }
        }
    }

    async fn renew(&self, held: &mut Held, about: &About, lease: &Lease, done: &mut SubscriptionsTended) -> Result<()> {
        if held.row.reauthorize {
            self.reauthorize_subscription(held, about).await?;
        }
        let renew = about.kind.renew.as_ref();
        if renew.is_some_and(|renew| renew.replace) {
            self.replace_subscription(held, about, lease, done).await?;
        } else if let Some(renew) = renew {
            // Renewing confirms access as well, so it follows a confirmation at once.
            let mut others = Vec::new();
            if renew.many > 1 {
                let rows = self.subscription_rows(&held.tenant, &format!("{}.{}.", held.row.connection, held.row.kind)).await?;
                others = rows.into_iter().filter(|other| other.row.id != held.row.id && other.row.vendor.is_some()).take(renew.many - 1).collect();
            }
            let ids = std::iter::once(&*held).chain(&others).filter_map(|one| one.row.vendor.as_ref().map(|granted| granted.id.clone())).collect();
            let end = self.renew_subscription(held, about, ids).await?;
            let now = self.wall_ms();
            for one in &mut others {
                if let Some(granted) = &mut one.row.vendor {
                    (granted.granted_at, granted.expires_at) = (now, end);
                }
                one.row.counts.renewed += 1;
                done.renewed += 1;
                self.save_subscription(one, Some(lease)).await?;
            }
            if let Some(granted) = &mut held.row.vendor {
                (granted.granted_at, granted.expires_at) = (now, end);
            }
        }
        held.row.reauthorize = false;
        held.row.counts.renewed += 1;
        done.renewed += 1;
        metrics::counter!("integration_subscription_renewals_total", "connector" => held.row.connector.clone(), "outcome" => "ok").increment(1);
        Ok(())
    }

    async fn note_success(&self, held: &mut Held, lease: &Lease) -> Result<()> {
        (held.row.fails, held.row.retry_at, held.row.last_error) = (0, 0, None);
        self.save_subscription(held, Some(lease)).await
    }

    /// Notes a failure and when to try again: soon at first, then less often, but never so seldom that the rest of the life passes unused.
    async fn note_failure(&self, mut held: Held, lease: &Lease, error: connector_core::Error) -> Result<()> {
        let now = self.wall_ms();
        held.row.fails = held.row.fails.saturating_add(1);
        let doubled = BACKOFF.saturating_mul(1 << (held.row.fails - 1).min(10)).min(LONGEST);
        let left = held.row.vendor.as_ref().and_then(|granted| granted.expires_at).map(|end| end.saturating_sub(now));
        let wait = left.map_or(doubled, |left| doubled.min((left / 8).max(BACKOFF)));
        let asked = error.retry_after().map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        held.row.retry_at = now.saturating_add(wait.max(asked));
        held.row.last_error = Some(connector_core::redact::printable(&error.to_string(), 300));
        self.save_subscription(&mut held, Some(lease)).await?;
        Err(error)
    }

    async fn end_subscription(&self, held: Held, lease: &Lease, done: &mut SubscriptionsTended) -> Result<()> {
        if self.wall_ms() < held.row.retry_at {
            return Ok(());
        }
        let gone = match self.about_subscription(&held) {
            Ok(about) => match &held.row.vendor {
                Some(granted) => self.delete_subscription(&held, &about, granted).await,
                None => Ok(()),
            },
            // Without its connection there is nobody to ask; the vendor's own end comes.
            Err(error) => {
                tracing::warn!(%error, subscription = held.row.id, "a subscription cannot be ended at the vendor; it runs out there by itself");
                Ok(())
            }
        };
        match gone {
            Ok(()) => {
                self.forget_subscription(&held).await?;
                done.removed += 1;
                Ok(())
            }
            Err(error) => self.note_failure(held, lease, error).await,
        }
    }

    /// A subscription that a person made: all the hub can see is whether something comes.
    async fn watch_by_hand(&self, mut held: Held, about: &About, lease: &Lease) -> Result<()> {
        let Some(most) = about.kind.quiet_after else { return Ok(()) };
        let now = self.wall_ms();
        let since = self.last_heard(&held.tenant, &held.row.id).await?.unwrap_or(held.row.created_at);
        let quiet = now.saturating_sub(since) > u64::try_from(most.0.as_millis()).unwrap_or(u64::MAX);
        if quiet && held.row.quiet_told != since {
            held.row.quiet_told = since;
            held.row.last_error = Some(format!("nothing came for {}; look whether it is still switched on at the vendor", String::from(most)));
            let more = json!({ "since": since, "instructions": about.kind.instructions });
            self.tell_subscription(&held, SUBSCRIPTION_QUIET, format!("quiet:{}:{since}", held.row.id), more).await?;
            self.save_subscription(&mut held, Some(lease)).await?;
        } else if !quiet && held.row.last_error.is_some() {
            held.row.last_error = None;
            self.save_subscription(&mut held, Some(lease)).await?;
        }
        Ok(())
    }

    async fn tell_lost(&self, held: &Held, vendor_id: &str, why: &str, done: &mut SubscriptionsTended) -> Result<()> {
        done.lost += 1;
        metrics::counter!("integration_subscription_lost_total", "connector" => held.row.connector.clone()).increment(1);
        let kind = self.subscription_kind(&held.row.connector, &held.row.kind)?;
        let more = json!({ "vendor_id": vendor_id, "reason": why, "gap_can_be_closed": kind.catch_up.is_some() });
        self.tell_subscription(held, SUBSCRIPTION_LOST, format!("lost:{}:{vendor_id}", held.row.id), more).await
    }

    async fn tell_subscription(&self, held: &Held, event_type: &str, event_id: String, more: serde_json::Value) -> Result<()> {
        let row = &held.row;
        let mut payload =
            json!({ "subscription": row.id, "connection": row.connection, "connector": row.connector, "kind": row.kind, "resource": row.resource });
        if let (serde_json::Value::Object(payload), serde_json::Value::Object(more)) = (&mut payload, more) {
            payload.extend(more);
        }
        let event = HubEvent {
            tenant: &held.tenant,
            workspace: row.workspace.as_str().into(),
            connector: &row.connector,
            event_type,
            event_id,
            about: &row.id,
            payload,
        };
        if self.0.teller.tell(event).await? {
            tracing::warn!(tenant = held.tenant.as_str(), subscription = row.id, event_type, "a subscription needs attention or was made anew");
        }
        Ok(())
    }
}

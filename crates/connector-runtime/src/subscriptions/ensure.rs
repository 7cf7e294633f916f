//! Seeing to it that the vendor has the subscription exactly once: adopt what is ours, make what is missing, end what is double.
//!
//! Refuses to adopt one whose secret this hub does not hold: its notifications could not be believed. Such a one is ended after the new one is
//! there, so that nothing is missed in between.

use connector_core::{ErrorKind, Result};

use super::{
    lease::Lease,
    row::{Granted, Held, SubscriptionState},
    tend::SubscriptionsTended,
    vendor::{About, Found},
};
use crate::runtime::Runtime;

impl Runtime {
    /// Makes or adopts the one subscription of a row that has none.
    pub(super) async fn ensure_subscription(&self, held: &mut Held, about: &About, lease: &Lease, done: &mut SubscriptionsTended) -> Result<()> {
        let now = self.wall_ms();
        let listed = self.list_subscriptions(held, about).await?;
        let held_secret = held.row.creating || !about.kind.secret;
        let former = held.row.former.clone();
        let usable = |one: &Found| held_secret && one.fits && one.expires_at.is_none_or(|end| end > now) && !former.contains(&one.id_text());
        let (mut ours, mut extras): (Vec<Found>, Vec<Found>) = listed.into_iter().partition(usable);
        ours.sort_by_key(|one| std::cmp::Reverse(one.expires_at));
        let granted = if ours.is_empty() {
            self.make_subscription(held, about, lease, done).await?
        } else {
            let kept = ours.remove(0);
            done.adopted += 1;
            held.row.counts.adopted += 1;
            // Vendors do not tell when one was made; the life that is asked for says it.
            let life = about.wanted_end(0).unwrap_or(0);
            let granted_at = kept.expires_at.map_or(now, |end| end.saturating_sub(life).min(now));
            tracing::info!(subscription = held.row.id, vendor_id = kept.id_text(), "a subscription that was there already was taken over");
            Granted { id: kept.id, granted_at, expires_at: kept.expires_at, kept: std::collections::BTreeMap::new() }
        };
        extras.extend(ours);
        let mine = granted.id_text();
        held.row.vendor = Some(granted.clone());
        (held.row.state, held.row.creating, held.row.asked) = (SubscriptionState::Active, false, None);
        if held.row.cursor.is_some() {
            held.row.gap.get_or_insert_with(|| "made_anew".to_owned());
        }
        if let Err(error) = self.save_subscription(held, Some(lease)).await {
            // Another hub took over while this one was asking: what it makes is the one, so this one goes.
            if error.kind() == ErrorKind::Conflict
                && let Err(left) = self.delete_subscription(held, about, &granted).await
            {
                tracing::warn!(error = %left, subscription = held.row.id, "a subscription that another hub made as well could not be ended; it runs out by itself");
            }
            return Err(error);
        }
        for extra in extras.iter().filter(|extra| extra.id_text() != mine) {
            let gone = Granted { id: extra.id.clone(), ..Granted::default() };
            self.delete_subscription(held, about, &gone).await?;
            done.duplicates += 1;
            held.row.counts.duplicates += 1;
        }
        Ok(())
    }

    /// Makes a new one, with a new secret unless one was begun that nobody knows the end of.
    async fn make_subscription(&self, held: &mut Held, about: &About, lease: &Lease, done: &mut SubscriptionsTended) -> Result<Granted> {
        let mut fill = about.fill.clone();
        if about.kind.secret {
            let secret = match self.subscription_secret(held).await? {
                Some(secret) if held.row.creating => secret,
                _ => self.renew_subscription_secret(held).await?,
            };
            fill.set("secret", secrecy::ExposeSecret::expose_secret(&secret));
        }
        held.row.creating = true;
        let asked = match held.row.asked {
            Some(asked) if asked > self.wall_ms() => Some(asked),
            _ => about.wanted_end(self.wall_ms()),
        };
        // An approval is for exact arguments: until it is decided the same end is asked for.
        held.row.asked = asked;
        // On disk before the call leaves: the first notification may come before the answer, and must be believed.
        self.save_subscription(held, Some(lease)).await?;
        match self.create_subscription(held, about, fill, asked).await {
            Ok(granted) => {
                done.created += 1;
                held.row.counts.created += 1;
                tracing::info!(subscription = held.row.id, vendor_id = granted.id_text(), "a subscription was made");
                Ok(granted)
            }
            Err(error) => {
                if error.kind() != ErrorKind::ApprovalRequired {
                    held.row.asked = None;
                }
                // An answer that says no leaves nothing behind at the vendor.
                if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Forbidden | ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Config) {
                    held.row.creating = false;
                    if about.kind.secret {
                        held.row.secrets.pop();
                    }
                }
                Err(error)
            }
        }
    }

    /// Replaces one that cannot be renewed (Google's channels): the new one first, then the old one goes.
    pub(super) async fn replace_subscription(&self, held: &mut Held, about: &About, lease: &Lease, done: &mut SubscriptionsTended) -> Result<()> {
        let Some(old) = held.row.vendor.clone() else { return Ok(()) };
        held.row.creating = false;
        let granted = self.make_subscription(held, about, lease, done).await?;
        let id = old.id_text();
        held.row.former.insert(0, id);
        held.row.vendor = Some(granted);
        (held.row.creating, held.row.asked) = (false, None);
        self.save_subscription(held, Some(lease)).await?;
        self.delete_subscription(held, about, &old).await
    }
}

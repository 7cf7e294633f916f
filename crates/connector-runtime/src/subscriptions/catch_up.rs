//! Closing gaps: the stream of changes is read from the last good cursor, and what no notification told becomes an event like any other.
//!
//! Events are on disk before the cursor is. A cursor the vendor forgot leads to a reading of the whole source beside the old cursor, at most
//! every 15 minutes; what is no longer there then is told as deleted. Refuses to tell what was there before the subscription.

use std::{collections::HashSet, sync::Arc, time::Duration};

use connector_core::{
    Actor, CallCx, Connector, Cursor, Error, ErrorKind, Result,
    delta::Change as Found,
    spec::CatchUpSpec,
    state::{Appended, NewEvent},
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::{
    RESYNC_EVERY, fill,
    lease::Lease,
    row::Held,
    seen::{Change, Mark},
    tend::SubscriptionsTended,
    vendor::About,
};
use crate::{audit::Errand, runtime::Runtime};

/// The errand.
const ERRAND: &str = "subscription.catch_up";
/// The flag of an event that a reading found.
pub(super) const FOUND: &str = "catch_up";
/// What such an event's reading knew, as a flag: the number of the event after which it looked.
pub(super) const AFTER: &str = "after:";
/// A stream that does not end is a fault.
const MOST_PAGES: usize = 100_000;
/// Records that are remembered side by side in the first reading.
const AT_ONCE: usize = 16;
/// Marks read, and events written, at once.
const PAGE: usize = 200;
/// The first wait after a reading that failed; it doubles.
const AGAIN: Duration = Duration::from_secs(60);

/// What a reading is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// What was there before the subscription: remembered, not told.
    First,
    /// From the last good cursor.
    Changes,
    /// Everything, because the cursor is gone.
    Whole,
}

/// The source as one reading needs it.
struct Source<'a> {
    spec: &'a CatchUpSpec,
    about: &'a About,
    connector: Arc<dyn Connector>,
    cx: CallCx,
    stream: String,
}

impl Runtime {
    /// Whether the row's stream is to be read now.
    pub(super) fn catch_up_is_due(&self, held: &Held) -> bool {
        let (row, now) = (&held.row, self.wall_ms());
        let routine = row.every > 0 && now.saturating_sub(row.caught_up_at) >= row.every;
        (row.gap.is_some() || row.cursor.is_none() || routine) && now >= row.catch_up_retry_at
    }

    /// Reads the stream of changes of a row, if its kind has one, and tells what is news.
    pub(super) async fn catch_up(&self, held: &mut Held, about: &About, lease: &Lease, done: &mut SubscriptionsTended) -> Result<()> {
        let Some(spec) = &about.kind.catch_up else {
            if let Some(why) = held.row.gap.take() {
                tracing::warn!(
                    subscription = held.row.id,
                    why,
                    "changes may have been missed, and this kind of subscription has no stream to look them up in"
                );
                self.save_subscription(held, Some(lease)).await?;
            }
            return Ok(());
        };
        let connector = self.0.shared.catalogue.load().registry.require(&about.connection.connector)?.clone();
        let workspace = held.row.workspace.as_str();
        let cx = CallCx::new(about.connection.clone()).with_workspace(workspace.into()).with_actor(Actor::System).with_operation(ERRAND);
        let source = Source { spec, about, connector, cx, stream: about.fill.fill_text(&spec.stream)? };
        let reading = if held.row.cursor.is_none() { Reading::First } else { Reading::Changes };
        let gap = held.row.gap.clone();
        let mut result = self.read(held, &source, reading, lease, done).await;
        if let Err(error) = &result
            && error.kind() == ErrorKind::CursorExpired
            && reading == Reading::Changes
        {
            result = self.read_whole(held, &source, lease, done).await;
        }
        if gap.is_some() || reading == Reading::First || result.is_err() {
            self.record_reading(held, about, &result).await;
        }
        let now = self.wall_ms();
        match &result {
            Ok(()) => {
                if let Some(why) = held.row.gap.take() {
                    held.row.counts.gaps += 1;
                    done.gaps += 1;
                    metrics::counter!("integration_subscription_gaps_total", "connector" => held.row.connector.clone(), "reason" => why).increment(1);
                }
                held.row.catch_up_retry_at = 0;
                if held.row.fails == 0 {
                    held.row.last_error = None;
                }
            }
            Err(error) => {
                held.row.gap.get_or_insert_with(|| error.kind().as_str().to_owned());
                held.row.last_error = Some(connector_core::redact::printable(&error.to_string(), 300));
                let jitter = 1.0 + self.0.rng.unit() * 0.2;
                let wait = error.retry_after().unwrap_or_default().max(AGAIN.mul_f64(jitter));
                held.row.catch_up_retry_at = held.row.catch_up_retry_at.max(now.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
            }
        }
        self.save_subscription(held, Some(lease)).await?;
        result
    }

    /// Reads the whole source beside the old cursor, unless that was done a moment ago.
    async fn read_whole(&self, held: &mut Held, source: &Source<'_>, lease: &Lease, done: &mut SubscriptionsTended) -> Result<()> {
        let now = self.wall_ms();
        let free = held.row.resynced_at.saturating_add(u64::try_from(RESYNC_EVERY.as_millis()).unwrap_or(u64::MAX));
        held.row.gap.get_or_insert_with(|| "cursor_expired".to_owned());
        if held.row.resynced_at > 0 && now < free {
            held.row.catch_up_retry_at = free;
            return Err(Error::new(
                ErrorKind::CursorExpired,
                "the vendor forgot where we were; the whole source is read again when 15 minutes are over",
            ));
        }
        held.row.resynced_at = now;
        held.row.counts.resyncs += 1;
        done.resyncs += 1;
        // Before the reading: a hub that dies in it does not start over at once.
        self.save_subscription(held, Some(lease)).await?;
        let result = self.read(held, source, Reading::Whole, lease, done).await;
        if result.is_err() {
            held.row.catch_up_retry_at = free.max(now.saturating_add(u64::try_from(RESYNC_EVERY.as_millis()).unwrap_or(u64::MAX)));
        }
        result
    }

    async fn read(&self, held: &mut Held, source: &Source<'_>, reading: Reading, lease: &Lease, done: &mut SubscriptionsTended) -> Result<()> {
        let Some(delta) = source.connector.delta() else {
            return Err(Error::unsupported(format!("`{}` has no streams that can be followed", source.about.connection.connector)));
        };
        let started = self.wall_ms();
        let mut cursor = if reading == Reading::Changes { held.row.cursor.as_deref().map(Cursor::new) } else { None };
        let mut there = HashSet::new();
        for _ in 0..MOST_PAGES {
            let page = delta.changes(&source.cx, &source.stream, cursor).await?;
            if reading == Reading::First {
                self.remember(held, source, page.changes).await?;
            } else {
                if reading == Reading::Whole {
                    there.extend(page.changes.iter().map(|change| match change {
                        Found::Upsert { key, .. } | Found::Delete { key } => key.clone(),
                    }));
                }
                let events = self.news(held, source, page.changes).await?;
                self.tell_found(held, events, done).await?;
            }
            let next = page.next.as_str().to_owned();
            if !page.more {
                if reading == Reading::Whole {
                    self.sweep(held, source, &there, started, done).await?;
                }
                (held.row.cursor, held.row.caught_up_at) = (Some(next), started);
                return Ok(());
            }
            if reading == Reading::Changes {
                held.row.cursor = Some(next.clone());
                self.save_subscription(held, Some(lease)).await?;
            }
            self.keep_leading().await?;
            cursor = Some(Cursor::new(next));
        }
        Err(Error::protocol(format!("the stream `{}` does not end within {MOST_PAGES} pages", source.stream)))
    }

    /// The first reading: nothing of it is news.
    async fn remember(&self, held: &Held, source: &Source<'_>, changes: Vec<Found>) -> Result<()> {
        let found = changes.into_iter().filter_map(|change| match change {
            Found::Upsert { key, record } => Some((key, record)),
            Found::Delete { .. } => None,
        });
        futures_util::stream::iter(found.map(Ok))
            .try_for_each_concurrent(AT_ONCE, |(key, record)| async move {
                let version = version(source.spec, &record)?;
                self.mark_before(&held.tenant, &held.row.id, &key, version.as_deref()).await
            })
            .await
    }

    /// The events that a page of changes makes.
    async fn news(&self, held: &Held, source: &Source<'_>, changes: Vec<Found>) -> Result<Vec<NewEvent>> {
        let looked: Vec<Result<Option<NewEvent>>> = futures_util::stream::iter(changes)
            .map(|change| async move {
                let (key, found) = match change {
                    Found::Upsert { key, record } => (key, Some(version(source.spec, &record)?)),
                    Found::Delete { key } => (key, None),
                };
                let mark = self.mark(&held.tenant, &held.row.id, &key).await?;
                let Some(version) = found else {
                    let there = mark.and_then(|mark| mark.there());
                    return there.map_or(Ok(None), |after| self.found_event(held, source, &key, Change::Deleted, None, after, false));
                };
                let Some(change) = Mark::news(mark.as_ref(), version.as_deref()) else { return Ok(None) };
                // A version that an event carried already, of a record that counts as gone: that event's id must not swallow this one.
                let again = change == Change::Created && mark.as_ref().zip(version.as_deref()).is_some_and(|(mark, version)| mark.knows(version));
                let after = mark.map_or(0, |mark| mark.ended());
                self.found_event(held, source, &key, change, version.as_deref(), after, again)
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        looked.into_iter().filter_map(Result::transpose).collect()
    }

    /// What was there and is not any more, after a reading of everything.
    async fn sweep(&self, held: &mut Held, source: &Source<'_>, there: &HashSet<String>, started: u64, done: &mut SubscriptionsTended) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let marks = self.marks(&held.tenant, &held.row.id, after.as_deref(), PAGE).await?;
            let full = marks.len() == PAGE;
            after = marks.last().map(|(place, _)| place.clone());
            let gone = marks.into_iter().filter(|(_, mark)| mark.is_there_since_before(started) && !there.contains(&mark.key));
            let gone = gone.filter_map(|(_, mark)| mark.there().map(|after| (mark.key, after)));
            let events = gone.map(|(key, after)| self.found_event(held, source, &key, Change::Deleted, None, after, false));
            let events: Vec<NewEvent> = events.filter_map(Result::transpose).collect::<Result<_>>()?;
            self.tell_found(held, events, done).await?;
            if !full {
                return Ok(());
            }
        }
    }

    async fn tell_found(&self, held: &mut Held, events: Vec<NewEvent>, done: &mut SubscriptionsTended) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let appended = self.0.store.append(events).await?;
        let found = appended.iter().filter(|one| matches!(one, Appended::New { .. })).count() as u64;
        if found > 0 {
            held.row.counts.found += found;
            done.found += found;
            metrics::counter!("integration_subscription_found_total", "connector" => held.row.connector.clone()).increment(found);
            self.0.waker.wake();
        }
        Ok(())
    }

    /// The event of one change, as it would have come by webhook. `None`: the kind has no event for it.
    #[allow(clippy::too_many_arguments, reason = "one event, and what the reading knew")]
    fn found_event(
        &self,
        held: &Held,
        source: &Source<'_>,
        key: &str,
        change: Change,
        version: Option<&str>,
        after: u64,
        again: bool,
    ) -> Result<Option<NewEvent>> {
        let Some(events) = &source.about.kind.events else { return Ok(None) };
        let name = match change {
            Change::Created => events.created.as_ref().or(events.updated.as_ref()),
            Change::Updated => events.updated.as_ref(),
            Change::Deleted => events.deleted.as_ref(),
        };
        let Some(name) = name else { return Ok(None) };
        let mut fill = match &held.row.vendor {
            Some(granted) => source.about.with(granted),
            // Between two of the vendor's: the name of the last one.
            None => {
                let mut fill = source.about.fill.clone();
                fill.set("id", held.row.former.first().cloned().unwrap_or_default());
                fill
            }
        };
        fill.set("key", key);
        fill.set("change", change.as_str());
        if let Some(version) = version {
            fill.set("version", version);
        }
        let payload = fill.fill_value(&source.spec.payload)?;
        let now = self.wall_ms();
        match version {
            // A record that is gone has no version: the reading stands for it.
            None => fill.set("version", format!("{FOUND}-{now}")),
            Some(version) if again => fill.set("version", format!("{version}:{FOUND}-{now}")),
            Some(_) => {}
        }
        Ok(Some(NewEvent {
            tenant: held.tenant.clone(),
            workspace: held.row.workspace.as_str().into(),
            connector: held.row.connector.as_str().into(),
            connection: held.row.connection.as_str().into(),
            event_id: fill.fill_text(&source.spec.event_id)?,
            event_type: name.as_str().into(),
            order_key: Some(key.to_owned()),
            flags: if change == Change::Updated { vec![FOUND.to_owned()] } else { vec![FOUND.to_owned(), format!("{AFTER}{after}")] },
            payload: payload.to_string().into(),
            digest: None,
            received_at: now,
        }))
    }

    async fn record_reading<T>(&self, held: &Held, about: &About, result: &Result<T>) {
        let errand = Errand {
            tenant: &held.tenant,
            workspace: held.row.workspace.as_str().into(),
            actor: &Actor::System,
            connector: &about.connection.connector,
            connection: &held.row.connection,
            operation: ERRAND,
            credential: about.connection.credential.as_deref(),
            correlation_id: &uuid::Uuid::new_v4().to_string(),
            args_digest: "",
        };
        self.record_end(&errand, result).await;
    }
}

fn version(spec: &CatchUpSpec, record: &[u8]) -> Result<Option<String>> {
    let Some(path) = &spec.version else { return Ok(None) };
    let record: Value = serde_json::from_slice(record).map_err(|error| Error::protocol("a record of the stream is not JSON").with_source(error))?;
    fill::select_text(path, &record)
}

//! What was read and opened lately, in memory: the last known row of a credential, its opened fields, its opened tokens.
//!
//! Owns how long opened secrets stay in memory. Refuses to decide who may see them: every use checks the row again.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use connector_core::{TenantId, clock::Instant, credential::Credential, state::Entry, token::TokenRow};

use crate::record::Row;

/// A row is believed for so long without asking the store.
pub(crate) const BELIEVED: Duration = Duration::from_secs(1);
/// So many credentials are kept opened. More are dropped oldest first: it costs an unwrap, never an answer.
const MOST: usize = 10_000;

/// An opened credential.
#[derive(Clone)]
pub(crate) struct Opened {
    /// The credential's version; it never names two contents.
    pub(crate) version: u64,
    pub(crate) at: Instant,
    /// Unix milliseconds until which the version before is handed out too.
    pub(crate) until: Option<u64>,
    /// With the version before, if there is one.
    pub(crate) both: Arc<Credential>,
    /// Without it.
    pub(crate) alone: Arc<Credential>,
}

impl Opened {
    /// What is accepted at this time (Unix milliseconds).
    pub(crate) fn at(&self, now: u64) -> Arc<Credential> {
        if self.until.is_some_and(|until| now < until) { self.both.clone() } else { self.alone.clone() }
    }
}

/// Opened tokens.
#[derive(Clone)]
pub(crate) struct OpenedTokens {
    pub(crate) at: Instant,
    pub(crate) row: Arc<TokenRow>,
}

#[derive(Default)]
pub(crate) struct State {
    row: Option<Arc<Row>>,
    checked: Option<Instant>,
    pub(crate) opened: Option<Opened>,
    pub(crate) tokens: Option<OpenedTokens>,
    /// A renewal of what is opened is not tried before this time.
    pub(crate) retry_at: Option<Instant>,
    /// The store's version at which it did not open.
    pub(crate) unreadable: Option<u64>,
}

/// One credential's place.
#[derive(Default)]
pub(crate) struct Slot {
    /// Held while something is opened, so that callers do not all open it at once.
    pub(crate) gate: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

impl Slot {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row, if it was checked lately.
    pub(crate) fn believed(&self, now: Instant) -> Option<Arc<Row>> {
        let state = self.state();
        state.checked.filter(|checked| now.saturating_duration_since(*checked) < BELIEVED)?;
        state.row.clone()
    }

    /// Takes what the store had at `asked`. An answer that is older than what is known is not believed.
    pub(crate) fn confirm(&self, entry: &Entry, asked: Instant) -> Arc<Row> {
        let mut state = self.state();
        let known = state.row.clone();
        let row = match known {
            Some(row) if row.version >= entry.version => row,
            _ => Arc::new(Row::read(entry)),
        };
        state.renew(row.clone());
        state.checked = state.checked.max(Some(asked));
        row
    }

    /// Takes what this process wrote just now.
    pub(crate) fn wrote(&self, row: Arc<Row>, now: Instant) {
        let mut state = self.state();
        if state.row.as_ref().is_none_or(|known| known.version < row.version) {
            state.renew(row);
            state.checked = state.checked.max(Some(now));
        }
    }
}

impl State {
    fn renew(&mut self, row: Arc<Row>) {
        let version = row.record.as_ref().filter(|record| !record.is_revoked()).map(|record| record.version);
        if self.opened.as_ref().is_some_and(|opened| Some(opened.version) != version) {
            self.opened = None;
        }
        if version.is_none() {
            self.tokens = None;
        }
        self.row = Some(row);
    }

    pub(crate) fn row(&self) -> Option<&Arc<Row>> {
        self.row.as_ref()
    }
}

type ByName = HashMap<Box<str>, Arc<Slot>>;

/// All places.
#[derive(Default)]
pub(crate) struct Cache {
    slots: RwLock<HashMap<TenantId, ByName>>,
    count: AtomicUsize,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("credentials", &self.count.load(Ordering::Relaxed)).finish_non_exhaustive()
    }
}

impl Cache {
    pub(crate) fn find(&self, tenant: &TenantId, name: &str) -> Option<Arc<Slot>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(tenant).and_then(|own| own.get(name)).cloned()
    }

    pub(crate) fn find_or_add(&self, tenant: &TenantId, name: &str) -> Arc<Slot> {
        if let Some(slot) = self.find(tenant, name) {
            return slot;
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let own = slots.entry(tenant.clone()).or_default();
        if let Some(slot) = own.get(name) {
            return slot.clone();
        }
        let slot = Arc::<Slot>::default();
        own.insert(name.into(), slot.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
        slot
    }

    pub(crate) fn forget(&self, tenant: &TenantId, name: &str) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.get_mut(tenant).is_some_and(|own| own.remove(name).is_some()) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Drops what was opened longer than `keep_for` ago and places nobody needs; if that leaves too many, the oldest too.
    pub(crate) fn purge(&self, now: Instant, keep_for: Duration) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let old = |at: Instant, limit: Duration| now.saturating_duration_since(at) >= limit;
        let mut ages = Vec::new();
        for own in slots.values_mut() {
            own.retain(|_, slot| {
                let mut state = slot.state();
                state.opened.take_if(|opened| old(opened.at, keep_for));
                state.tokens.take_if(|tokens| old(tokens.at, keep_for));
                let used = state.opened.is_some() || state.tokens.is_some();
                if used {
                    ages.push(state.opened.as_ref().map_or(now, |opened| opened.at));
                }
                // A place somebody holds is in use; one whose row is not believed any more holds nothing of worth.
                used || Arc::strong_count(slot) > 1 || state.checked.is_some_and(|checked| !old(checked, BELIEVED))
            });
        }
        if ages.len() > MOST {
            let surplus = ages.len() - MOST * 3 / 4;
            let (_, limit, _) = ages.select_nth_unstable(surplus);
            let limit = *limit;
            for own in slots.values_mut() {
                own.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.state().opened.as_ref().is_some_and(|opened| opened.at > limit));
            }
        }
        slots.retain(|_, own| !own.is_empty());
        self.count.store(slots.values().map(HashMap::len).sum(), Ordering::Relaxed);
    }

    /// Whether a purge is due before its time.
    pub(crate) fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) > MOST
    }
}

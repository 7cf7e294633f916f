//! Whether somebody's clock is wrong: how many deliveries in a row were genuine and outside the replay window, by connection.
//!
//! Costs one look at a counter while nothing is stale.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use connector_core::TenantId;

/// So many stale deliveries in a row are no replay but a wrong clock, ours or the vendor's.
pub const CLOCK_SUSPECT: u32 = 20;

/// Streaks of stale deliveries. Bounded by the number of connections that are configured.
#[derive(Debug, Default)]
pub(super) struct Skew {
    streaks: Mutex<HashMap<(TenantId, Arc<str>), u32>>,
    /// How many there are.
    any: AtomicUsize,
    /// Whose clock was suspected and is good again, until somebody asks.
    recovered: Mutex<Vec<(TenantId, Arc<str>)>>,
    any_recovered: AtomicBool,
}

impl Skew {
    /// A delivery was genuine and stale.
    pub(super) fn stale(&self, tenant: &TenantId, connection: &Arc<str>) {
        let mut streaks = self.streaks.lock().unwrap_or_else(PoisonError::into_inner);
        let streak = streaks.entry((tenant.clone(), connection.clone())).or_default();
        *streak = streak.saturating_add(1);
        if *streak == CLOCK_SUSPECT {
            tracing::error!(
                target: "connectors::webhook", %tenant, connection = &**connection,
                "clock skew suspected: {CLOCK_SUSPECT} genuine deliveries in a row were too old or too new; check this machine's time"
            );
        }
        self.any.store(streaks.len(), Relaxed);
    }

    /// A delivery was genuine and on time.
    pub(super) fn fresh(&self, tenant: &TenantId, connection: &Arc<str>) {
        if self.any.load(Relaxed) == 0 {
            return;
        }
        let mut streaks = self.streaks.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.clone(), connection.clone());
        let suspected = streaks.remove(&key).is_some_and(|streak| streak >= CLOCK_SUSPECT);
        self.any.store(streaks.len(), Relaxed);
        drop(streaks);
        if suspected {
            self.recovered.lock().unwrap_or_else(PoisonError::into_inner).push(key);
            self.any_recovered.store(true, Relaxed);
        }
    }

    /// Whose clock is good again since the last time somebody asked.
    pub(super) fn take_recovered(&self) -> Vec<(TenantId, Arc<str>)> {
        if !self.any_recovered.load(Relaxed) {
            return Vec::new();
        }
        let mut recovered = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
        self.any_recovered.store(false, Relaxed);
        std::mem::take(&mut *recovered)
    }

    /// How many in a row so far.
    pub(super) fn streak(&self, tenant: &TenantId, connection: &str) -> u32 {
        if self.any.load(Relaxed) == 0 {
            return 0;
        }
        let streaks = self.streaks.lock().unwrap_or_else(PoisonError::into_inner);
        streaks.get(&(tenant.clone(), Arc::from(connection))).copied().unwrap_or_default()
    }
}

//! The breakers of all scopes: one tenant's dead credential or host never opens another's breaker.

use std::{collections::BTreeMap, sync::Arc};

use super::{Breaker, BreakerSnapshot};
use crate::{
    clock::{Clock, Rng},
    resilience::{keyed::Keyed, policy::BreakerPolicy},
};

/// Breakers by scope ([`crate::Connection::scope`]: tenant, connector, host). Idle ones are forgotten.
#[derive(Debug)]
pub struct Breakers {
    by_scope: Keyed<Arc<str>, Breaker>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl Breakers {
    /// No breakers yet.
    pub fn new(clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        Self { by_scope: Keyed::default(), clock, rng }
    }

    /// The breaker of a scope, made with `policy` if there is none yet.
    pub fn of(&self, scope: &Arc<str>, policy: &BreakerPolicy) -> Arc<Breaker> {
        self.by_scope.get_or_insert(scope, || Breaker::with_clock(*policy, self.clock.clone(), self.rng.clone()))
    }

    /// The breaker of a scope, if it was used lately.
    pub fn get(&self, scope: &Arc<str>) -> Option<Arc<Breaker>> {
        self.by_scope.get(scope)
    }

    /// All breakers by scope, for health pages.
    pub fn snapshot(&self) -> BTreeMap<Arc<str>, BreakerSnapshot> {
        let mut all = BTreeMap::new();
        self.by_scope.for_each(|scope, breaker| {
            all.insert(scope.clone(), breaker.snapshot());
        });
        all
    }
}

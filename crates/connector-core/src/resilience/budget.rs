//! A retry budget: all calls to one host may retry a tenth of their number, plus a few saved up, and no more.
//!
//! In a total outage N calls make at most `1.1 · N + 10` sends, whatever the retry policy says.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    keyed::{Idle, Keyed},
    policy::BudgetPolicy,
};

/// One retry, in the budget's small change.
const RETRY: u64 = 1_000;

/// The retries that calls of one scope may still make.
#[derive(Debug)]
pub struct RetryBudget {
    left: AtomicU64,
    earned: u64,
    cap: u64,
}

impl RetryBudget {
    /// A full budget.
    pub fn new(policy: BudgetPolicy) -> Self {
        let cap = u64::from(policy.burst) * RETRY;
        Self { left: AtomicU64::new(cap), earned: u64::from(policy.percent) * RETRY / 100, cap }
    }

    /// Notes a first send, which earns a part of a retry.
    pub fn first_send(&self) {
        let mut left = self.left.load(Ordering::Relaxed);
        while left < self.cap {
            let next = (left + self.earned).min(self.cap);
            match self.left.compare_exchange_weak(left, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => left = now,
            }
        }
    }

    /// Takes one retry; `false` if there is none left.
    #[must_use]
    pub fn take_retry(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(RETRY)).is_ok()
    }

    /// Whole retries left.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed) / RETRY
    }
}

impl Idle for RetryBudget {
    fn is_idle(&self) -> bool {
        self.left.load(Ordering::Relaxed) >= self.cap
    }
}

/// The budgets of all scopes.
#[derive(Debug, Default)]
pub struct Budgets(Keyed<Arc<str>, RetryBudget>);

impl Budgets {
    /// Notes a first send in the budget of a scope.
    pub fn first_send(&self, scope: &Arc<str>, policy: &BudgetPolicy) {
        if self.0.with(scope, RetryBudget::first_send).is_none() {
            self.of(scope, policy).first_send();
        }
    }

    /// The budget of a scope ([`crate::Connection::scope`]), made with `policy` if there is none yet.
    pub fn of(&self, scope: &Arc<str>, policy: &BudgetPolicy) -> Arc<RetryBudget> {
        self.0.get_or_insert(scope, || RetryBudget::new(*policy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_budget_bounds_amplification() {
        for calls in [100u64, 1_000, 10_000] {
            let budget = RetryBudget::new(BudgetPolicy::default());
            let mut sends = 0;
            for _ in 0..calls {
                budget.first_send();
                sends += 1;
                // Two more sends would follow each failure if the budget allowed them.
                sends += (0..2).filter(|_| budget.take_retry()).count() as u64;
            }
            assert!(sends <= calls + calls / 10 + 10, "{sends} sends for {calls} calls");
            assert!(sends >= calls + calls / 10, "the budget is there to be used: {sends} sends for {calls} calls");
        }
    }

    #[test]
    fn it_recovers_when_all_is_well_and_never_beyond_its_cap() {
        let budget = RetryBudget::new(BudgetPolicy { percent: 10, burst: 2 });
        assert!(budget.take_retry() && budget.take_retry() && !budget.take_retry());
        (0..9).for_each(|_| budget.first_send());
        assert!(!budget.take_retry());
        budget.first_send();
        assert!(budget.take_retry());
        (0..1_000).for_each(|_| budget.first_send());
        assert_eq!(budget.left(), 2);
    }

    #[test]
    fn a_budget_of_nothing_allows_no_retry() {
        let budget = RetryBudget::new(BudgetPolicy { percent: 0, burst: 0 });
        budget.first_send();
        assert!(!budget.take_retry());
    }

    #[test]
    fn scopes_do_not_share() {
        let budgets = Budgets::default();
        let (a, b) = ("a".into(), "b".into());
        let policy = BudgetPolicy { percent: 10, burst: 1 };
        assert!(budgets.of(&a, &policy).take_retry());
        assert!(!budgets.of(&a, &policy).take_retry());
        assert!(budgets.of(&b, &policy).take_retry());
    }
}

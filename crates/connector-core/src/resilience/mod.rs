//! What keeps calls going when a vendor does not: retry with a budget, breaker, limiter, single-flight, micro-batching.
//!
//! Each primitive works alone on any async function; [`crate::layer`] stacks them around a connector in one fixed order.
//! The numbers are in [`Resilience`], where they came from in [`ResilienceSource`].

pub mod backoff;
pub mod batching;
pub mod breaker;
pub mod budget;
mod keyed;
pub mod limiter;
mod policy;
pub mod retry;
pub mod retry_after;
pub mod single_flight;
mod source;

pub use batching::Batcher;
pub use breaker::{Breaker, BreakerSnapshot, BreakerState, Breakers, Outcome, Permit};
pub use budget::{Budgets, RetryBudget};
pub use limiter::{
    Counting, FleetQuotas, GateSnapshot, LimitGate, LimitPermit, LimitSnapshot, Limiter, Limits, PauseNotice, Paused, WindowSnapshot, share_pauses,
};
pub use policy::{BreakerPolicy, BudgetPolicy, LimitPolicy, Resilience, RetryPolicy, TimeoutPolicy};
pub use retry::{Attempt, Retryable, with_retry, with_retry_using};
pub use single_flight::SingleFlight;
pub use source::{Explained, ResilienceSource};

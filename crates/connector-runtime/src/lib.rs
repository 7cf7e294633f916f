#![doc = include_str!("../README.md")]

mod access;
mod approval;
mod audit;
mod builder;
mod cache;
mod canonical;
mod catalogue;
pub mod config;
mod connection;
mod events;
mod health;
mod idempotency;
mod outbox;
mod reload;
mod request;
mod runtime;
mod send;
mod stack;
mod stats;
mod tags;
mod tasks;
mod validate;

pub use approval::{APPROVAL_TTL, Approval, ApprovalState};
pub use builder::RuntimeBuilder;
pub use cache::{Cache, CacheStats};
pub use config::HubConfig;
pub use connector_core::layer::StackParts;
pub use connector_webhook::{
    dispatch::EventHandler,
    ingress::{IngressAnswer, Outcome},
    reload::Problem,
};
pub use health::{AuthState, ConnectionHealth, HealthState, LastError};
pub use idempotency::KEY_TTL;
pub use outbox::QUEUE as OUTBOX_QUEUE;
pub use request::{CallOutcome, CallRequest, Role};
pub use runtime::Runtime;
pub use stats::{CallsSaved, Stats};
pub use tasks::RuntimeTasks;

#![doc = include_str!("../README.md")]

mod accept;
mod access;
mod alerts;
mod approval;
mod audit;
mod builder;
mod cache;
mod canonical;
mod catalogue;
pub mod config;
mod connect;
mod connection;
mod credentials;
mod deliveries;
mod effects;
mod events;
mod fleet;
mod forward;
mod health;
mod idempotency;
mod outbox;
mod push;
mod reauth;
mod reload;
mod request;
mod rotation;
mod runtime;
mod sealed;
mod send;
mod stack;
mod stats;
mod subscriptions;
mod tags;
mod tasks;
mod tokens;
mod validate;
mod vaulted;
mod views;
mod webhook_secrets;

pub use alerts::QUEUE as ALERTS_QUEUE;
pub use approval::{APPROVAL_TTL, Approval, ApprovalState};
pub use builder::RuntimeBuilder;
pub use cache::{Cache, CacheStats};
pub use config::HubConfig;
pub use connect::{
    ConnectAsk, ConnectBack, ConnectReport, ConnectStart, ConnectorScopes, CredentialCheck, CredentialReport, DeviceStart, Disconnected, STATE_TTL,
    ScopeDiff, ScopeReport,
};
pub use connector_core::layer::StackParts;
pub use connector_webhook::{
    dispatch::{DispatchPolicy, EventHandler},
    ingress::{IngressAnswer, Outcome},
    reload::Problem,
    rules::Problem as RuleProblem,
};
pub use forward::QUEUE as FORWARD_QUEUE;
pub use health::{AuthState, ConnectionHealth, HealthState, LastError};
pub use idempotency::KEY_TTL;
pub use outbox::QUEUE as OUTBOX_QUEUE;
pub use push::{MOST_PUSH, MOST_TOPIC, NewPush, PUSH_NOTICE, PUSH_TTL, PushLog, Pushed, Standing, TopicPattern, check_topic, read_notice};
pub use reauth::REAUTH_REQUIRED;
pub use request::{CallOutcome, CallRequest, Role};
pub use rotation::{CREDENTIAL_EXPIRING, OVERLAP, ROTATION_DUE, Tended};
pub use runtime::Runtime;
pub use stats::{CallsSaved, Stats};
pub use subscriptions::{
    CATCH_UP_EVERY, Counts, Origin, RESYNC_EVERY, SUBSCRIPTION_LOST, SUBSCRIPTION_QUIET, SubscriptionConfig, SubscriptionState, SubscriptionView,
    SubscriptionsTended,
};
pub use tasks::RuntimeTasks;
pub use views::{AvailableView, ViewOver};

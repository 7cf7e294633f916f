//! Inert data that describes a connector: what it can do, how it authenticates, what it may be asked for and how often.
//!
//! Everything a person, an agent or a layer wants to know about a connector is read from here; nothing here does anything.

mod auth;
mod connector;
mod event;
mod lazy;
mod limits;
mod op;
mod subscription;
pub mod views;

pub use auth::{
    ApiKeyPlace, AssertionSpec, AuthSpec, BasicEncoding, ClientAuth, HmacSpec, JwtAlgorithm, OAuth2Flow, OAuth2Spec, ScopeSeparator, TokenBody,
};
pub use connector::{ConnectorSpec, ErrorRow, Status};
pub use event::{EventSpec, StreamSpec, WebhookSpec};
pub use lazy::Lazy;
pub use limits::{LimitKey, LimitSpec, Window};
pub use op::{Approval, BatchSpec, CacheSpec, Effect, Example, InverseSpec, LookupSpec, OpSpec, PageSpec, ParamSpec, Repeat, TimeoutClass};
pub use subscription::{
    CatchUpSpec, CreateSpec, ExpiresAs, LifecycleMeaning, ListSpec, OpRef, RenewSpec, Span, SubscriptionEvents, SubscriptionParam, SubscriptionSpec,
};

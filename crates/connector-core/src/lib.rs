#![doc = include_str!("../README.md")]

mod args;
pub mod auth;
pub mod client;
pub mod clock;
pub mod connector;
pub mod context;
pub mod credential;
pub mod delta;
pub mod error;
pub mod fleet;
mod hash;
pub mod layer;
pub mod operation;
pub mod redact;
pub mod registry;
pub mod resilience;
pub mod rotation;
pub mod spec;
pub mod state;
pub mod suggest;
pub mod token;
pub mod transport;
pub mod webhook;

pub use client::Client;
pub use connector::{Connector, Cursor, OpCall, OpReply, ReplyBody};
pub use context::{Actor, CallCx, Connection, ConnectionId, TenantId, WorkspaceId};
pub use error::{Error, ErrorKind, Result, Retry};
pub use operation::{Call, ListOperation, Operation};
pub use registry::Registry;

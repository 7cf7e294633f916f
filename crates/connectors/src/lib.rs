#![doc = include_str!("../README.md")]

mod builtin;
mod exports;
pub mod views;

pub use builtin::{Builtin, builtins};
pub use connector_core::{
    self as core, Actor, Call, CallCx, Client, Connection, ConnectionId, Connector, Cursor, Error, ErrorKind, ListOperation, OpCall, OpReply,
    Operation, Registry, Result, Retry, TenantId, WorkspaceId,
};
#[cfg(feature = "http")]
pub use connector_http as http;
pub use connector_manifest as manifest;
#[cfg(feature = "runtime")]
pub use connector_runtime as runtime;
#[cfg(any(feature = "runtime", feature = "sqlite"))]
pub use connector_state as state;
#[cfg(feature = "vault")]
pub use connector_vault as vault;
#[cfg(feature = "webhook")]
pub use connector_webhook as webhook;
pub use exports::*;

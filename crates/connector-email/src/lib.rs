#![doc = include_str!("../README.md")]

mod client;
mod delta;
pub mod generated;
mod imap;
mod mail;
mod native;
mod net;
mod settings;
mod smtp;
pub mod watch;

use std::sync::Arc;

use connector_core::{Result, auth::AuthProvider, transport::Transport};
use connector_manifest::{Engine, Hooks};

pub use client::{Email, EmailBuilder};
pub use generated::{manifest, models, ops};
pub use watch::{Sink, Watch, WatchPlace, WatchPolicy};

/// The connector's id: crate suffix, feature, folder and tool prefix.
pub const ID: &str = "email";

/// The operations and the stream, over one pool of sessions.
pub fn hooks() -> Hooks {
    let pool = Arc::new(imap::pool::Pool::default());
    native::hooks(&pool).delta(delta::MailDelta { pool })
}

/// The connector itself, without retries, limits or breakers around it: for a runtime that brings its own.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if manifest and hooks do not fit, which a test rules out.
pub fn engine(transport: Arc<dyn Transport>, auth: Arc<dyn AuthProvider>) -> Result<Engine> {
    Engine::builder(manifest()).hooks(hooks()).transport(transport).auth(auth).build()
}

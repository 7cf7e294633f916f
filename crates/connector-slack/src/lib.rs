#![doc = include_str!("../README.md")]

mod client;
pub mod generated;
mod odd;
#[cfg(feature = "socket-mode")]
pub mod socket;

use std::sync::Arc;

use connector_core::{Result, auth::AuthProvider, transport::Transport};
use connector_manifest::{Engine, Hooks};

pub use client::{Slack, SlackBuilder};
pub use generated::{manifest, models, ops};
pub use odd::{signature::SlackSignature, text::escape};

/// The connector's id: crate suffix, feature, folder and tool prefix.
pub const ID: &str = "slack";

/// What Slack does that the manifest cannot say.
pub fn hooks() -> Hooks {
    Hooks::new()
        .native("send_once", odd::send_once::SendOnce)
        .native("find_channel", odd::find_channel::FindChannel)
        .native("upload_file", odd::upload_file::UploadFile)
        .native("respond", odd::respond::Respond::default())
        .webhook(SlackSignature::default())
}

/// The connector itself, without retries, limits or breakers around it: for a runtime that brings its own.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if manifest and hooks do not fit, which a test rules out.
pub fn engine(transport: Arc<dyn Transport>, auth: Arc<dyn AuthProvider>) -> Result<Engine> {
    Engine::builder(manifest()).hooks(hooks()).transport(transport).auth(auth).build()
}

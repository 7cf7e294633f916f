#![doc = include_str!("../README.md")]

mod client;
mod config;
pub mod generated;
mod odd;

use std::sync::Arc;

use connector_core::{Connector, Result, auth::AuthProvider, layer::StackParts, transport::Transport};
use connector_manifest::{Engine, Hooks, assemble};

pub use client::{Builder, MsGraph};
pub use config::Config;
pub use generated::{manifest, models, ops};
#[cfg(feature = "rich-notifications")]
pub use odd::rich::SigningKeys;
pub use odd::{
    notifications::ClientState,
    threading::{ThreadKey, base_subject, thread_key},
};

/// The connector's id.
pub const ID: &str = "msgraph";

/// What Rust adds to the manifest.
pub fn hooks() -> Hooks {
    hooks_around(ClientState::default())
}

/// As [`hooks`], with Microsoft's signing keys for the validation tokens of rich notifications. Keep a clone and exchange the keys about once a
/// day; without keys encrypted content stays closed.
#[cfg(feature = "rich-notifications")]
pub fn hooks_with(keys: SigningKeys) -> Hooks {
    hooks_around(ClientState::default().with_signing_keys(keys))
}

fn hooks_around(notifications: ClientState) -> Hooks {
    use odd::{
        batch, categories, copy_item, create_event, create_team, delegated, delta, drive_items, drive_upload, large_upload, outgoing,
        reply_in_thread, rotate_secret, send_message, subscriptions, teams_message,
    };
    Hooks::new()
        .native("reply_in_thread", reply_in_thread::ReplyInThread)
        .native("send_message", send_message::SendMessage)
        .native("send_draft", outgoing::SendDraft)
        .native("large_upload", large_upload::LargeUpload)
        .native("ensure_subscription", subscriptions::EnsureSubscription)
        .native("add_categories", categories::Categories::Add)
        .native("remove_categories", categories::Categories::Remove)
        .native("batch", batch::Batch)
        .native("get_messages", batch::Bulk::Get)
        .native("update_messages", batch::Bulk::Update)
        .native("move_messages", batch::Bulk::Move)
        .native("create_event", create_event::CreateEvent)
        .native("create_team", create_team::CreateTeam)
        .native("send_channel_message", teams_message::SendOnce::Channel)
        .native("send_chat_message", teams_message::SendOnce::Chat)
        .native("drive_item_by_path", drive_items::ByPath)
        .native("download_file", drive_items::Download)
        .native("upload_file", drive_upload::UploadFile)
        .native("copy_drive_item", copy_item::CopyItem)
        .native("copy_status", copy_item::CopyStatus)
        .guard(delegated::guard)
        .delta(delta::GraphDelta)
        .webhook(notifications)
        .rotator(rotate_secret::RotateSecret)
}

/// The connector with its inner layers, for programs with many connections: each call names its own in the context.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if a native operation has no hook, which a test of this crate rules out.
pub fn connector(transport: Arc<dyn Transport>, auth: Arc<dyn AuthProvider>, parts: &StackParts) -> Result<Arc<dyn Connector>> {
    let engine = Engine::builder(manifest()).hooks(hooks()).transport(transport).auth(auth).clock(parts.clock.clone()).build()?;
    Ok(assemble(engine, parts))
}

//! What Graph does that a request template cannot say, one file per oddity.

pub(crate) mod args;
pub(crate) mod batch;
pub(crate) mod categories;
pub(crate) mod compose;
pub(crate) mod copy_item;
pub(crate) mod create_event;
pub(crate) mod create_team;
pub(crate) mod delegated;
pub(crate) mod delta;
pub(crate) mod drive_items;
pub(crate) mod drive_upload;
pub(crate) mod guid;
pub(crate) mod large_upload;
pub(crate) mod marker;
pub(crate) mod notifications;
pub(crate) mod outgoing;
pub(crate) mod reply_in_thread;
#[cfg(feature = "rich-notifications")]
pub(crate) mod rich;
pub(crate) mod rotate_secret;
pub(crate) mod send_message;
pub(crate) mod subscriptions;
pub(crate) mod teams_message;
pub(crate) mod threading;
pub(crate) mod upload_session;

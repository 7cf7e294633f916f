//! Following a collection by its changes.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{connector::Cursor, context::CallCx, error::Result};

/// Gives the changes of a connector's streams.
#[async_trait]
pub trait DeltaSource: Debug + Send + Sync + 'static {
    /// One page of changes of `stream` since `cursor` (`None`: from the beginning).
    ///
    /// # Errors
    /// [`crate::ErrorKind::CursorExpired`] if the vendor no longer knows the cursor: start again without one and mark and sweep.
    async fn changes(&self, cx: &CallCx, stream: &str, cursor: Option<Cursor>) -> Result<DeltaPage>;
}

/// A page of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaPage {
    /// The changes, oldest first where the vendor orders them. A record may come twice; apply by key.
    pub changes: Vec<Change>,
    /// Where to go on. Save it only after the changes are saved.
    pub next: Cursor,
    /// More is there right now; otherwise `next` is where the next round starts.
    pub more: bool,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The record is new or changed. It may be partial where the vendor sends only changed fields.
    Upsert {
        /// The record's key.
        key: String,
        /// The record as JSON.
        record: Bytes,
    },
    /// The record is gone.
    Delete {
        /// The record's key.
        key: String,
    },
}

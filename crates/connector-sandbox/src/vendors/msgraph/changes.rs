//! What changed in the mailboxes, whoever was told of it, and the things a test does to them and to subscriptions from outside. It refuses to
//! notify by itself: every change goes the way a request's would.

use super::subscriptions::Event;
use super::{MsGraph, State};
use crate::exchange::Req;
use crate::ledger::lock;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Serialize;
use serde_json::{Value, json};

/// A change of a message, in the order they were made. The truth a receiver of notifications is judged by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NotedChange {
    /// The mailbox's address in lower case.
    pub mailbox: String,
    /// The folder's id.
    pub folder: String,
    /// The message's immutable id.
    pub id: String,
    /// Its version after the change; before it for a removal.
    pub etag: String,
    /// `created`, `updated` or `deleted`, as seen from the folder.
    pub change: &'static str,
}

/// How subscriptions misbehave, and what was noted.
#[derive(Debug, Default)]
pub(super) struct Notes {
    changes: Vec<NotedChange>,
    /// Renewals still to be refused with 403.
    refuse_renewals: u32,
    /// The longest life that is granted, minutes; absent: what was asked for.
    longest_min: Option<i64>,
}

impl MsGraph {
    pub(super) fn note_changes(&self, user: &str, events: &[Event]) {
        let noted = events.iter().map(|event| event.noted(user));
        lock(&self.notes).changes.extend(noted);
    }

    /// Whether this renewal is refused.
    pub(super) fn refuses_renewal(&self) -> bool {
        let mut notes = lock(&self.notes);
        let refused = notes.refuse_renewals > 0;
        notes.refuse_renewals = notes.refuse_renewals.saturating_sub(1);
        refused
    }

    /// The longest life that is granted now, minutes.
    pub(super) fn longest_life(&self) -> Option<i64> {
        lock(&self.notes).longest_min
    }

    /// Every change of every message so far.
    pub fn changes(&self) -> Vec<NotedChange> {
        lock(&self.notes).changes.clone()
    }

    /// Answers the next `times` renewals of subscriptions with 403.
    pub fn refuse_renewals(&self, times: u32) {
        lock(&self.notes).refuse_renewals = times;
    }

    /// Grants lives of at most so many minutes, whatever is asked for. Graph may grant less than its published maximum.
    pub fn grant_at_most(&self, minutes: i64) {
        lock(&self.notes).longest_min = Some(minutes);
    }

    /// Ends every subscription without telling anybody.
    pub fn drop_subscriptions(&self) {
        lock(&self.state).subscriptions.clear();
    }

    /// The immutable ids of the messages in a folder (id or well-known name), oldest first.
    pub fn ids_in(&self, user: &str, folder: &str) -> Vec<String> {
        let state = lock(&self.state);
        let Some(mailbox) = state.user(user).ok().and_then(|user| state.mailboxes.get(&user)) else { return Vec::new() };
        let Some(folder) = mailbox.folder_id(folder) else { return Vec::new() };
        mailbox.messages.values().filter(|m| m.folder == folder).map(|m| mailbox.immutable_id(m.key)).collect()
    }

    /// The messages in a folder as they are: immutable id and version.
    pub fn versions_in(&self, user: &str, folder: &str) -> Vec<(String, String)> {
        let state = lock(&self.state);
        let Some(mailbox) = state.user(user).ok().and_then(|user| state.mailboxes.get(&user)) else { return Vec::new() };
        let Some(folder) = mailbox.folder_id(folder) else { return Vec::new() };
        mailbox.messages.values().filter(|m| m.folder == folder).map(|m| (mailbox.immutable_id(m.key), m.etag())).collect()
    }

    /// The id of a folder (id or well-known name).
    pub fn folder_id(&self, user: &str, folder: &str) -> Option<String> {
        let state = lock(&self.state);
        let mailbox = state.mailboxes.get(&state.user(user).ok()?)?;
        mailbox.folder_id(folder)
    }

    /// Somebody reads or unreads a message. `false`: there is none.
    pub fn touch(&self, user: &str, id: &str, is_read: bool) -> bool {
        self.done_by_somebody(user, Method::PATCH, &json!({ "isRead": is_read }), |graph, state, user, req| graph.patch_message(state, user, id, req))
    }

    /// Somebody moves a message into a folder (id or well-known name). `false`: there is none.
    pub fn shift(&self, user: &str, id: &str, folder: &str) -> bool {
        let body = json!({ "destinationId": folder });
        self.done_by_somebody(user, Method::POST, &body, |graph, state, user, req| graph.relocate(state, user, id, false, req))
    }

    /// Somebody deletes a message. `false`: there is none.
    pub fn discard(&self, user: &str, id: &str) -> bool {
        self.done_by_somebody(user, Method::DELETE, &Value::Null, |graph, state, user, req| graph.delete_message(state, user, id, req))
    }

    fn done_by_somebody(
        &self,
        user: &str,
        method: Method,
        body: &Value,
        act: impl FnOnce(&Self, &mut State, &str, &Req) -> crate::exchange::Answer,
    ) -> bool {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        let req = Req::new(method, String::new(), "", headers, body);
        let mut state = lock(&self.state);
        let Ok(user) = state.user(user) else { return false };
        act(self, &mut state, &user, &req).is_ok()
    }
}

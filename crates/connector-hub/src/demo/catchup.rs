//! The closing round: what is in the mailbox is compared with what was handled, so that a notification that never came loses nothing.
//!
//! A message found this way becomes an event like any other, with the same dispatcher, retries and dead letters. Refuses to handle
//! messages itself.

use std::{collections::BTreeMap, sync::Arc};

use connector_core::{
    Error, ErrorKind, Result, TenantId, WorkspaceId,
    state::{EventFilter, JobFilter, JobState, NewEvent, Store},
};
use serde_json::json;

use super::{
    book::Book,
    caller::{Desk, WORKSPACE},
    mail::text,
    story::{ARRIVED, message_id},
};

/// How often the listing is started again when Graph forgets where we were.
const ROUNDS: u32 = 5;
/// A mailbox that does not end is a fault.
const MOST_PAGES: u32 = 1_000;

/// Everything in the inbox: Graph's id and the Message-ID of each.
pub(super) async fn inbox(desk: &Desk) -> Result<BTreeMap<String, String>> {
    for _ in 1..ROUNDS {
        match round(desk).await {
            // 410: the token is gone, and what was read so far proves nothing. Start over.
            Err(error) if error.kind() == ErrorKind::CursorExpired => {}
            other => return other,
        }
    }
    round(desk).await
}

async fn round(desk: &Desk) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut cursor = None;
    for _ in 0..MOST_PAGES {
        let args = json!({ "folder": "inbox", "select": ["id", "internetMessageId"], "page_size": 200 });
        let (page, next) = desk.page("msgraph_delta_messages", args, cursor).await?;
        for message in page["value"].as_array().into_iter().flatten() {
            let Some(id) = text(message, "id") else { continue };
            if message.get("@removed").is_some_and(|removed| !removed.is_null()) {
                found.remove(id);
            } else if let Some(message_id) = text(message, "internetMessageId") {
                found.insert(id.to_owned(), message_id.to_owned());
            }
        }
        cursor = match next {
            Some(next) => Some(next),
            None => return Ok(found),
        };
    }
    Err(Error::protocol("the listing of the inbox does not end"))
}

/// Makes an event of every message that has none. Returns how many.
pub(super) async fn missed(store: &Arc<dyn Store>, book: &Book, inbox: &BTreeMap<String, String>) -> Result<usize> {
    let told = told(store).await?;
    let mut events = Vec::new();
    for id in inbox.keys() {
        if told.contains_key(id) || book.outcome(id).await?.is_some() {
            continue;
        }
        let payload = json!({ "changeType": "created", "resourceData": { "@odata.type": "#Microsoft.Graph.Message", "id": id } });
        events.push(NewEvent {
            tenant: TenantId::default(),
            workspace: WorkspaceId::from(WORKSPACE),
            connector: "msgraph".into(),
            connection: "msgraph".into(),
            event_id: format!("catch-up:{id}"),
            event_type: ARRIVED.into(),
            order_key: Some(id.clone()),
            flags: vec!["catch_up".into()],
            payload: payload.to_string().into(),
            digest: None,
            received_at: book.now(),
        });
    }
    let count = events.len();
    if count > 0 {
        store.append(events).await?;
    }
    Ok(count)
}

/// The messages there are events for, each with its event's number.
async fn told(store: &Arc<dyn Store>) -> Result<BTreeMap<String, u64>> {
    let mut told = BTreeMap::new();
    let mut after = None;
    loop {
        let filter = EventFilter { connector: Some("msgraph".into()), event_type: Some(ARRIVED.into()), after, limit: 500, heads: false };
        let page = store.events(&TenantId::default(), filter).await?;
        let Some(last) = page.last() else { return Ok(told) };
        after = Some(last.seq);
        for event in &page {
            if let Ok(id) = message_id(event) {
                told.insert(id, event.seq);
            }
        }
    }
}

/// Dead letters of mail: the message's Graph id and the reason.
pub(super) async fn dead(store: &Arc<dyn Store>) -> Result<BTreeMap<String, String>> {
    let mut dead = BTreeMap::new();
    let mut after = None;
    loop {
        let filter = JobFilter { queue: Some("events".into()), state: Some(JobState::Dead), after, limit: 500 };
        let page = store.jobs(&TenantId::default(), filter).await?;
        let Some(last) = page.last() else { return Ok(dead) };
        after = Some(last.id);
        for job in &page {
            let reason = job.last_error.as_ref().map_or_else(|| "no reason was kept".to_owned(), |error| error.message.clone());
            let seq = std::str::from_utf8(&job.payload).ok().and_then(|text| text.parse().ok());
            let event = match seq {
                Some(seq) => store.event(&TenantId::default(), seq).await?,
                None => None,
            };
            let id = event.as_ref().and_then(|event| message_id(event).ok()).unwrap_or_else(|| format!("job {}", job.id));
            dead.insert(id, reason);
        }
    }
}

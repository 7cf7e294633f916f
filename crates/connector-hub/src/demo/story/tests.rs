//! The story told to a script instead of vendors.

use std::sync::{Mutex, PoisonError};

use connector_core::{OpReply, ReplyBody, TenantId, WorkspaceId, clock::SystemClock};
use connector_runtime::CallRequest;
use connector_state::MemoryState;

use super::*;
use crate::demo::{caller::Caller, tally::of};

/// Answers as the vendors would, remembers every call, and fails where it is told to.
#[derive(Debug, Default)]
struct Script {
    messages: Mutex<Vec<Value>>,
    calls: Mutex<Vec<(String, Option<String>)>>,
    /// The tool that fails next, and how.
    failing: Mutex<Option<(&'static str, ErrorKind)>>,
    tickets: Mutex<Vec<String>>,
}

impl Script {
    fn of(messages: impl IntoIterator<Item = Value>) -> Arc<Self> {
        Arc::new(Self { messages: Mutex::new(messages.into_iter().collect()), ..Self::default() })
    }

    fn writes(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|(_, key)| key.is_some()).map(|(tool, _)| tool.clone()).collect()
    }

    fn count(&self, tool: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|(name, _)| name == tool).count()
    }
}

#[async_trait]
impl Caller for Script {
    async fn call(&self, request: CallRequest) -> Result<OpReply> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push((request.tool.clone(), request.idempotency_key.clone()));
        let failure = self.failing.lock().unwrap().take_if(|(tool, _)| *tool == request.tool);
        if let Some((_, kind)) = failure {
            return Err(Error::new(kind, "as the script says"));
        }
        let reply = match request.tool.as_str() {
            "msgraph_get_message" => {
                let messages = self.messages.lock().unwrap();
                let found = messages.iter().find(|message| message["id"] == request.params["message_id"]);
                found.cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, "no such message"))?
            }
            "hubspot_get_contact_by_email" => json!({ "id": "512" }),
            "hubspot_company_tier" => json!({ "tier": "gold", "source": "company", "company_name": "Acme" }),
            "hubspot_is_prospect" => json!({ "prospect": false }),
            "cmdb_find_ci_by_name" if request.params["name"] == "web01" => json!({ "id": "dcim.device:1", "name": "web01" }),
            "cmdb_find_ci_by_name" => Value::Null,
            "cmdb_dependents" => json!({ "nodes": [{ "id": "ipam.service:6" }] }),
            "ticketing_create_ticket" => {
                let key = request.idempotency_key.unwrap_or_default();
                let mut tickets = self.tickets.lock().unwrap();
                let at = tickets.iter().position(|known| *known == key).unwrap_or_else(|| {
                    tickets.push(key);
                    tickets.len() - 1
                });
                json!({ "id": format!("TICKET-{}", at + 1) })
            }
            _ => json!({}),
        };
        // Others may go on between any two calls.
        tokio::task::yield_now().await;
        Ok(OpReply::new(ReplyBody::Value(reply)))
    }
}

fn message(id: &str, message_id: &str, conversation: &str) -> Value {
    json!({
        "id": id, "@odata.etag": "W/\"1\"", "internetMessageId": message_id, "conversationId": conversation, "subject": "web01 is slow",
        "body": { "contentType": "text", "content": "Since noon." }, "categories": ["Own"],
        "from": { "emailAddress": { "name": "Ada", "address": "ada@acme.example" } }, "internetMessageHeaders": [],
    })
}

fn story(script: &Arc<Script>) -> Story {
    let book = Book::new(Arc::new(MemoryState::default()), SystemClock::shared());
    Story::new(Desk::new(script.clone()), book, Arc::new(Tally::default()), "support@contoso.example")
}

fn event(id: &str) -> StoredEvent {
    StoredEvent {
        seq: 1,
        tenant: TenantId::default(),
        workspace: WorkspaceId::default(),
        connector: "msgraph".into(),
        connection: "msgraph".into(),
        event_id: id.into(),
        event_type: ARRIVED.into(),
        order_key: None,
        flags: Vec::new(),
        payload: json!({ "changeType": "created", "resourceData": { "id": id } }).to_string().into(),
        received_at: 0,
        duplicates: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_becomes_a_ticket_a_link_an_answer_and_a_tag_once() {
    let script = Script::of([message("m1", "<1@acme.example>", "c1")]);
    let story = story(&script);
    story.handle(&event("m1"), 1).await.unwrap();
    let writes = ["ticketing_create_ticket", "cmdb_link_ticket", "msgraph_reply_in_thread", "msgraph_set_categories"];
    assert_eq!(script.writes(), writes);
    // The same event again, as Graph sometimes does.
    story.handle(&event("m1"), 1).await.unwrap();
    assert_eq!(script.writes(), writes);
    assert_eq!((of(&story.tally.tickets), of(&story.tally.replies), story.tally.handled()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_after_a_failure_uses_the_same_keys_and_the_same_plan() {
    let script = Script::of([message("m1", "<1@acme.example>", "c1")]);
    let story = story(&script);
    *script.failing.lock().unwrap() = Some(("msgraph_reply_in_thread", ErrorKind::Unknown));
    assert_eq!(story.handle(&event("m1"), 1).await.unwrap_err().kind(), ErrorKind::Unknown);
    story.handle(&event("m1"), 2).await.unwrap();
    let calls = script.calls.lock().unwrap();
    let keys = |tool: &str| calls.iter().filter(|(name, _)| name == tool).map(|(_, key)| key.clone()).collect::<Vec<_>>();
    let replies = keys("msgraph_reply_in_thread");
    assert!(replies.len() == 2 && replies[0] == replies[1], "{replies:?}");
    assert_eq!(keys("ticketing_create_ticket").len(), 1, "the thread has its ticket");
    assert_eq!(keys("hubspot_company_tier").len(), 1, "the plan is not made again");
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_asked_again_under_the_same_key() {
    let script = Script::of([message("m1", "<1@acme.example>", "c1")]);
    *script.failing.lock().unwrap() = Some(("ticketing_create_ticket", ErrorKind::Transient));
    story(&script).handle(&event("m1"), 1).await.unwrap();
    assert_eq!((script.count("ticketing_create_ticket"), script.tickets.lock().unwrap().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_thread_that_come_together_make_one_ticket() {
    let letters = (1..=5).map(|n| message(&format!("m{n}"), &format!("<{n}@acme.example>"), "c1"));
    let script = Script::of(letters);
    let story = story(&script);
    let events: Vec<StoredEvent> = (1..=5).rev().map(|n| event(&format!("m{n}"))).collect();
    let all = futures_util::future::join_all(events.iter().map(|event| story.handle(event, 1))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!((script.count("ticketing_create_ticket"), script.count("ticketing_add_comment"), script.count("msgraph_reply_in_thread")), (1, 4, 5));
}

#[tokio::test(start_paused = true)]
async fn a_second_delivery_of_the_same_letter_is_only_tagged() {
    let script = Script::of([message("m1", "<1@acme.example>", "c1"), message("m2", "<1@acme.example>", "c1")]);
    let story = story(&script);
    story.handle(&event("m1"), 1).await.unwrap();
    let before = script.writes().len();
    story.handle(&event("m2"), 1).await.unwrap();
    assert_eq!(script.writes()[before..], ["msgraph_set_categories"]);
}

#[tokio::test(start_paused = true)]
async fn machines_are_tagged_and_never_answered() {
    let mut automatic = message("m1", "<1@acme.example>", "c1");
    automatic["internetMessageHeaders"] = json!([{ "name": "Auto-Submitted", "value": "auto-replied" }]);
    let script = Script::of([automatic]);
    story(&script).handle(&event("m1"), 1).await.unwrap();
    assert_eq!(script.writes(), ["msgraph_set_categories"]);
}

#[tokio::test(start_paused = true)]
async fn mail_that_cannot_be_handled_fails_for_good_with_the_reason_and_writes_nothing() {
    let mut anonymous = message("m1", "<1@acme.example>", "c1");
    anonymous["from"] = Value::Null;
    let script = Script::of([anonymous]);
    let error = story(&script).handle(&event("m1"), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "a permanent class: a dead letter at once");
    assert!(error.message().contains("no sender"));
    assert!(script.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_somebody_touched_meanwhile_keeps_their_categories() {
    let script = Script::of([message("m1", "<1@acme.example>", "c1")]);
    *script.failing.lock().unwrap() = Some(("msgraph_set_categories", ErrorKind::Conflict));
    story(&script).handle(&event("m1"), 1).await.unwrap();
    assert_eq!(script.writes().last().map(String::as_str), Some("msgraph_add_categories"));
}

#[tokio::test(start_paused = true)]
async fn a_crm_that_is_down_costs_the_facts_and_not_the_answer() {
    let script = Script::of([message("m1", "<1@acme.example>", "c1")]);
    *script.failing.lock().unwrap() = Some(("hubspot_company_tier", ErrorKind::CircuitOpen));
    let story = story(&script);
    story.handle(&event("m1"), 1).await.unwrap();
    assert_eq!((of(&story.tally.missed), of(&story.tally.replies)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_deleted_needs_nothing() {
    let script = Script::of([]);
    story(&script).handle(&event("m1"), 1).await.unwrap();
    assert!(script.writes().is_empty());
}

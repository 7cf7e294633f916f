//! A mailbox in memory that answers what replying, sending and batching ask, and transports that lose answers at a chosen request.
//!
//! It knows the little of Graph these tests need and refuses the rest with 404. The whole fake is in `connector-sandbox`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "support of tests, where a panic is the failure")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use connector_core::{
    CallCx, Error, ErrorKind, Result,
    auth::NoAuth,
    layer::stack::StackParts,
    transport::{Body, Request, Response, Transport},
};
use connector_msgraph::{Config, MsGraph};
use http::Method;
use serde_json::{Value, json};

pub(crate) const MAILBOX: &str = "support@contoso.com";

/// The mailbox.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) messages: BTreeMap<String, Value>,
    /// Ids of messages that left, once per time they left.
    pub(crate) sent: Vec<String>,
    pub(crate) requests: Vec<String>,
    made: u32,
}

/// Shared by the fake and the test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mailbox(Arc<Mutex<State>>);

impl Mailbox {
    /// A mailbox with one message from a customer. Without a conversation, as Graph is allowed to leave it out.
    pub(crate) fn with_message(conversation: Option<&str>) -> Self {
        let mailbox = Self::default();
        let message = json!({ "id": "m1", "subject": "Printer down", "conversationId": conversation, "internetMessageId": "<1@client.example>",
            "from": { "emailAddress": { "address": "ann@client.example" } }, "isDraft": false, "folder": "inbox", "body": { "contentType": "html", "content": "It burns." } });
        mailbox.state().messages.insert("m1".into(), message);
        mailbox
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What left, as far as a reader of Sent Items sees it.
    pub(crate) fn sent(&self) -> Vec<Value> {
        let state = self.state();
        state.sent.iter().map(|id| state.messages[id].clone()).collect()
    }

    fn answer(&self, method: &Method, path: &str, query: &BTreeMap<String, String>, body: &Value) -> (u16, Value) {
        let mut state = self.state();
        state.requests.push(format!("{method} {path}"));
        let path = path.trim_start_matches("/v1.0").to_owned();
        let parts: Vec<String> = path.trim_start_matches('/').split('/').map(str::to_owned).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (method.as_str(), parts.as_slice()) {
            ("POST", ["$batch"]) => {
                drop(state);
                let requests = body["requests"].as_array().cloned().unwrap_or_default();
                assert!(requests.len() <= 20, "a batch of {}", requests.len());
                let responses: Vec<Value> = requests
                    .iter()
                    .map(|request| {
                        let url = url::Url::parse(&format!("https://x.example{}", request["url"].as_str().unwrap())).unwrap();
                        let method = request["method"].as_str().unwrap().parse().unwrap();
                        let (status, body) = self.answer(&method, &decoded(url.path()), &pairs(&url), &request["body"]);
                        json!({ "id": request["id"], "status": status, "headers": {}, "body": body })
                    })
                    .collect();
                (200, json!({ "responses": responses }))
            }
            ("GET", ["users", _, "messages"]) => {
                let wanted =
                    query.get("$filter").and_then(|filter| filter.strip_prefix("conversationId eq '")?.strip_suffix('\'')).map(str::to_owned);
                let found = state.messages.values().filter(|one| one["conversationId"].as_str() == wanted.as_deref()).map(listed);
                (200, json!({ "value": found.collect::<Vec<_>>() }))
            }
            ("GET", ["users", _, "mailFolders", folder, "messages"]) => {
                let found = state.messages.values().filter(|one| one["folder"] == *folder).map(listed);
                (200, json!({ "value": found.collect::<Vec<_>>() }))
            }
            ("POST", ["users", _, "messages"]) => (201, state.draft(body, None)),
            ("GET", ["users", _, "messages", id]) => state.messages.get(*id).map_or_else(gone, |one| (200, one.clone())),
            ("PATCH", ["users", _, "messages", id]) => match state.messages.get_mut(*id) {
                None => gone(),
                Some(one) => {
                    for (name, value) in body.as_object().into_iter().flatten() {
                        one[name] = value.clone();
                    }
                    (200, one.clone())
                }
            },
            ("POST", ["users", _, "messages", id, "createReply"]) => match state.messages.get(*id).cloned() {
                None => gone(),
                Some(original) => (201, state.draft(&body["message"], Some(&original))),
            },
            ("POST", ["users", _, "messages", id, "send"]) => match state.messages.get_mut(*id) {
                None => gone(),
                Some(one) if one["isDraft"] == false => (400, error("ErrorInvalidRequest")),
                Some(one) => {
                    one["isDraft"] = false.into();
                    one["folder"] = "sentitems".into();
                    state.sent.push((*id).to_owned());
                    (202, Value::Null)
                }
            },
            ("GET", ["users", _, "messages", id, "attachments"]) => {
                (200, json!({ "value": state.messages[*id]["files"].as_array().cloned().unwrap_or_default() }))
            }
            ("POST", ["users", _, "messages", id, "attachments"]) => {
                let size = body["contentBytes"].as_str().map_or(0, |text| text.len() * 3 / 4);
                let file = json!({ "id": "a1", "name": body["name"], "size": size });
                let one = state.messages.get_mut(*id).expect("the draft is there");
                if !one["files"].is_array() {
                    one["files"] = json!([]);
                }
                one["files"].as_array_mut().unwrap().push(file.clone());
                (201, file)
            }
            _ => gone(),
        }
    }
}

impl State {
    fn draft(&mut self, given: &Value, original: Option<&Value>) -> Value {
        self.made += 1;
        let id = format!("d{}", self.made);
        let mut draft = json!({ "id": id, "isDraft": true, "folder": "drafts", "internetMessageId": format!("<{id}@contoso.com>"),
            "lastModifiedDateTime": format!("2026-11-21T00:00:{:02}Z", self.made), "from": { "emailAddress": { "address": MAILBOX } } });
        for (name, value) in given.as_object().into_iter().flatten() {
            draft[name] = value.clone();
        }
        if let Some(original) = original {
            draft["subject"] = format!("RE: {}", original["subject"].as_str().unwrap()).into();
            draft["conversationId"] = original["conversationId"].clone();
            draft["toRecipients"] = json!([original["from"]]);
            draft["body"] = json!({ "contentType": "html", "content": "<html><body><hr>It burns.</body></html>" });
        }
        self.messages.insert(id, draft.clone());
        draft
    }
}

/// A message in a listing: headers only come on a single get.
fn listed(message: &Value) -> Value {
    let mut listed = message.clone();
    listed.as_object_mut().unwrap().remove("internetMessageHeaders");
    listed
}

fn gone() -> (u16, Value) {
    (404, error("ErrorItemNotFound"))
}

fn error(code: &str) -> Value {
    json!({ "error": { "code": code, "message": "no" } })
}

fn pairs(url: &url::Url) -> BTreeMap<String, String> {
    url.query_pairs().into_owned().collect()
}

fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8().unwrap().into_owned()
}

/// What happens to the request of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// It is carried out, but the answer is lost.
    AnswerLost,
    /// It is carried out, but the answer is a 504.
    GatewayTimeout,
    /// It never arrives.
    NotSent,
    /// It is carried out, and then nothing ever comes: the caller's process dies waiting.
    Silence,
}

/// A transport to the mailbox with one mishap. Requests are counted from 1 over its whole life.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) mailbox: Mailbox,
    pub(crate) at: usize,
    pub(crate) mishap: Mishap,
    pub(crate) count: Mutex<usize>,
}

impl Line {
    pub(crate) fn new(mailbox: Mailbox, at: usize, mishap: Mishap) -> Arc<Self> {
        Arc::new(Self { mailbox, at, mishap, count: Mutex::new(0) })
    }
}

#[async_trait]
impl Transport for Line {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        let number = {
            let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
            *count += 1;
            *count
        };
        let hit = number == self.at;
        if hit && self.mishap == Mishap::NotSent {
            return Err(Error::new(ErrorKind::NotSent, "connection refused"));
        }
        let url = request.head.url;
        let body = request.body.collect(usize::MAX).await?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let (status, answer) = self.mailbox.answer(&request.head.method, &decoded(url.path()), &pairs(&url), &body);
        if hit {
            match self.mishap {
                Mishap::Silence => std::future::pending().await,
                Mishap::GatewayTimeout => return Ok(http::Response::builder().status(504).body(Body::Empty).unwrap()),
                _ => return Err(Error::new(ErrorKind::Transient, "connection reset")),
            }
        }
        let bytes = if answer.is_null() { Body::Empty } else { Body::Bytes(answer.to_string().into()) };
        Ok(http::Response::builder().status(status).header("content-type", "application/json").body(bytes).unwrap())
    }
}

/// A client with its layers, fresh state, over this transport.
pub(crate) fn client(transport: Arc<dyn Transport>) -> MsGraph {
    let config = Config { mailbox: Some(MAILBOX.into()), ..Config::default() };
    MsGraph::builder(config).transport(transport).auth(Arc::new(NoAuth)).resilience(StackParts::default()).build().unwrap()
}

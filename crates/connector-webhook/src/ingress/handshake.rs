//! Answers to vendors that check whether an address is ours.
//!
//! Refuses to echo anything but short plain text: an echo is the one place where a stranger chooses what we send.

use bytes::Bytes;
use connector_core::webhook::HandshakeReply;
use serde_json::Value;

/// The longest token that is echoed.
const MAX_TOKEN: usize = 1024;

/// A 200 with `token` as plain text; `None` if it is empty, long, or not printable ASCII.
pub fn echo(token: &str) -> Option<HandshakeReply> {
    let sound = !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    sound.then(|| HandshakeReply { status: 200, content_type: "text/plain; charset=utf-8", body: Bytes::copy_from_slice(token.as_bytes()) })
}

/// Whether this is Notion's first message, which carries the token that all later ones are signed with, and is signed with it too.
// https://developers.notion.com/reference/webhooks
pub(crate) fn is_notion_verification(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|tree| tree.get("verification_token").is_some_and(Value::is_string) && tree.get("type").is_none())
}

/// The answer to Slack's `url_verification`, if `body` is one.
// https://docs.slack.dev/reference/events/url_verification
pub(crate) fn slack_challenge(body: &[u8]) -> Option<HandshakeReply> {
    let tree: Value = serde_json::from_slice(body).ok()?;
    (tree.get("type")? == "url_verification").then(|| tree.get("challenge")?.as_str().and_then(echo)).flatten()
}

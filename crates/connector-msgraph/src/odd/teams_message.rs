//! Posting into a channel or a chat once: `msgraph_send_channel_message`, `msgraph_send_chat_message`.
//!
//! Teams has no idempotency key. After an unclear answer the newest messages of the place are read: a card is known by the id of its
//! attachment, which is ours; a text by its words, since this call began. Owns the making of adaptive cards: the content is JSON in a text,
//! and the body must name the attachment. <https://learn.microsoft.com/graph/api/resources/chatmessageattachment>
//!
//! Weak where two people write the same words in the same minute while the answer to ours is lost: then ours counts as posted.

use std::time::Duration;

use async_trait::async_trait;
use connector_core::{CallCx, Error, ErrorKind, OpCall, OpReply, Result, clock::unix_seconds};
use connector_manifest::{Engine, NativeOperation};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    args::{arguments, items, may_have_happened, pause, text},
    guid::guid,
};

/// What an adaptive card's attachment is called.
const CARD: &str = "application/vnd.microsoft.card.adaptive";
/// How long Teams is given to show what it took.
const SETTLE: Duration = Duration::from_secs(2);
/// Clocks need not agree to the second.
const CLOCKS: u64 = 60;
/// About the most one message takes, bytes (unverified).
const MOST: usize = 28 * 1024;
/// Messages that are read to find ours.
const RECENT: u32 = 50;

/// The native operations.
#[derive(Debug)]
pub(crate) enum SendOnce {
    /// `msgraph_send_channel_message`.
    Channel,
    /// `msgraph_send_chat_message`.
    Chat,
}

#[derive(Deserialize)]
struct Args {
    team_id: Option<String>,
    channel_id: Option<String>,
    chat_id: Option<String>,
    reply_to: Option<String>,
    content: Option<String>,
    #[serde(default = "html")]
    content_type: String,
    card: Option<Value>,
    subject: Option<String>,
    importance: Option<String>,
    mentions: Option<Value>,
}

fn html() -> String {
    "html".into()
}

/// Where a message goes: the tool that posts, the one that reads, and what both need.
struct Place {
    post: &'static str,
    read: &'static str,
    args: Value,
}

impl Place {
    fn of(args: &Args) -> Self {
        match (&args.chat_id, &args.reply_to) {
            (Some(chat), _) => Self { post: "msgraph_post_chat_message", read: "msgraph_list_chat_messages", args: json!({ "chat_id": chat }) },
            (None, Some(message)) => Self {
                post: "msgraph_post_channel_reply",
                read: "msgraph_list_channel_replies",
                args: json!({ "team_id": args.team_id, "channel_id": args.channel_id, "message_id": message }),
            },
            (None, None) => Self {
                post: "msgraph_post_channel_message",
                read: "msgraph_list_channel_messages",
                args: json!({ "team_id": args.team_id, "channel_id": args.channel_id }),
            },
        }
    }

    fn with(&self, more: Value) -> Value {
        let mut args = self.args.clone();
        if let (Some(args), Value::Object(more)) = (args.as_object_mut(), more) {
            args.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        args
    }
}

/// How our message is known again.
struct Ours {
    words: String,
    card: Option<String>,
    since: u64,
}

impl Ours {
    fn is(&self, message: &Value) -> bool {
        if message["deletedDateTime"].is_string() {
            return false;
        }
        if let Some(card) = &self.card {
            return items_of(message, "attachments").iter().any(|attachment| text(attachment, "id") == Some(card));
        }
        let made = text(message, "createdDateTime").and_then(|made| made.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_second);
        u64::try_from(made).is_ok_and(|made| made + CLOCKS >= self.since)
            && words(text(&message["body"], "content").unwrap_or_default(), message["body"]["contentType"] == "html") == self.words
    }
}

#[async_trait]
impl NativeOperation for SendOnce {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: Args = arguments(&call)?;
        let place = Place::of(&args);
        let since = unix_seconds(engine.clock().wall());
        let (message, ours) = compose(cx, &call.operation, &place, args, since)?;
        // A card carries its mark for good, so a run that died after posting is seen.
        if ours.card.is_some()
            && cx.idempotency_key.is_some()
            && let Some(found) = find(engine, cx, &place, &ours).await?
        {
            return sent(&call, found, true);
        }
        let mut unclear = None;
        for again in [true, false] {
            match engine.call_value(cx, place.post, message.clone()).await {
                Ok(posted) => return sent(&call, posted, false),
                Err(error) if may_have_happened(&error) => {
                    let looked = match pause(cx, SETTLE).await {
                        Ok(()) => find(engine, cx, &place, &ours).await,
                        Err(why) => Err(why),
                    };
                    match looked {
                        Ok(Some(found)) => return sent(&call, found, true),
                        Ok(None) if again => unclear = Some(error),
                        Ok(None) => return Err(error.with_kind(ErrorKind::Transient)),
                        Err(why) => return Err(unknown(&error, why)),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(unclear.unwrap_or_else(|| Error::internal("posting a message ended without an outcome")))
    }
}

/// The arguments of the posting tool, and how the message is known again.
fn compose(cx: &CallCx, operation: &str, place: &Place, args: Args, since: u64) -> Result<(Value, Ours)> {
    let (mut content, mut content_type) = (args.content.unwrap_or_default(), args.content_type);
    let mut attachments = Value::Null;
    let mut card = None;
    if let Some(body) = args.card {
        let id = guid(cx, operation, &place.args.to_string());
        if content_type == "text" {
            content = escape(&content);
            content_type = html();
        }
        content.push_str(&format!("<attachment id=\"{id}\"></attachment>"));
        attachments = json!([{ "id": id, "contentType": CARD, "content": body.to_string() }]);
        card = Some(id);
    } else if content.is_empty() {
        return Err(Error::invalid("a message needs `content` or `card`"));
    }
    if content.len() + attachments.to_string().len() > MOST {
        return Err(Error::invalid("the message is larger than the 28 KB Teams takes; share a file and link it"));
    }
    let words = words(&content, content_type == "html");
    let message = place.with(json!({
        "content": content, "content_type": content_type, "attachments": attachments, "mentions": args.mentions, "importance": args.importance,
        "subject": args.subject,
    }));
    Ok((message, Ours { words, card, since }))
}

/// Our message among the newest ones.
async fn find(engine: &Engine, cx: &CallCx, place: &Place, ours: &Ours) -> Result<Option<Value>> {
    // The look belongs to no key of the caller's: it is a read.
    let cx = CallCx { idempotency_key: None, ..cx.clone() };
    let page = engine.call_value(&cx, place.read, place.with(json!({ "top": RECENT }))).await?;
    Ok(items(&page).iter().find(|message| ours.is(message)).cloned())
}

fn sent(call: &OpCall, message: Value, reconciled: bool) -> Result<OpReply> {
    OpReply::from_value(json!({ "message": message, "reconciled": reconciled }), call.decode)
}

fn unknown(unclear: &Error, why: Error) -> Error {
    Error::new(ErrorKind::Unknown, "the message may have been posted; the place could not be read to find out")
        .with_source(why)
        .with_context("first_failure", unclear.kind().as_str())
}

fn items_of<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The words of a text, tags and spacing aside: Teams writes HTML anew.
fn words(text: &str, is_html: bool) -> String {
    let mut plain = String::with_capacity(text.len());
    if is_html {
        let mut inside = false;
        for c in text.chars() {
            match c {
                '<' => {
                    inside = true;
                    plain.push(' ');
                }
                '>' if inside => inside = false,
                c if !inside => plain.push(c),
                _ => {}
            }
        }
        for (entity, c) in [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")] {
            plain = plain.replace(entity, c);
        }
    } else {
        plain.push_str(text);
    }
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_however_teams_writes_the_html() {
        assert_eq!(words("Disk full on <b>db-3</b>", true), words("<div><p>Disk full on&nbsp;<strong>db-3</strong></p></div>", true));
        assert_eq!(words("a < b\n c", false), "a < b c");
        assert_eq!(words("a &lt; b", true), "a < b");
    }

    #[test]
    fn a_deleted_or_older_message_is_not_ours() {
        let ours = Ours { words: "On it".into(), card: None, since: 1_795_219_200 };
        let message = |made: &str| json!({ "createdDateTime": made, "body": { "contentType": "html", "content": "<p>On it</p>" } });
        assert!(ours.is(&message("2026-11-21T00:00:00Z")));
        assert!(!ours.is(&message("2026-11-20T23:58:00Z")));
        let mut deleted = message("2026-11-21T00:00:00Z");
        deleted["deletedDateTime"] = "2026-11-21T00:00:01Z".into();
        assert!(!ours.is(&deleted));
    }
}

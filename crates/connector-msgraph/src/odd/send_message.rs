//! A new message exactly once: `msgraph_send_message`. A draft with a marker, then the sending that replies use too.

use std::time::Duration;

use async_trait::async_trait;
use connector_core::{CallCx, Error, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    args::{arguments, mailbox, may_have_happened, pause, text},
    marker::{self, Marker},
    outgoing::{self, File, FileArgs},
    threading::thread_key,
};

/// How long a draft is given to show up after an unclear answer.
const SETTLE: Duration = Duration::from_secs(2);

/// The native operation.
#[derive(Debug)]
pub(crate) struct SendMessage;

#[derive(Deserialize)]
struct Args {
    user: Option<String>,
    to: Vec<String>,
    #[serde(default)]
    cc: Vec<String>,
    #[serde(default)]
    bcc: Vec<String>,
    subject: String,
    body: String,
    #[serde(default = "html")]
    body_type: String,
    importance: Option<String>,
    #[serde(default)]
    attachments: Vec<FileArgs>,
}

fn html() -> String {
    "html".into()
}

#[async_trait]
impl NativeOperation for SendMessage {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let mut args: Args = arguments(&call)?;
        let user = mailbox(cx, args.user.as_deref())?;
        let files = std::mem::take(&mut args.attachments).into_iter().map(File::of).collect::<Result<Vec<_>>>()?;
        let marker = Marker::of(cx, &call.operation, &user, &call.args);
        let (draft, found) = match marker::find(engine, cx, &user, &marker, outgoing::recent(&args.subject)).await? {
            Some(found) if found["isDraft"] == Value::Bool(false) => {
                let key = thread_key(&found).map(|key| key.to_string());
                return OpReply::from_value(outgoing::sent(&found, key, true), call.decode);
            }
            Some(draft) => (draft, true),
            None => draft(engine, cx, &user, &args, &marker).await?,
        };
        let id = text(&draft, "id").ok_or_else(|| Error::protocol("the draft has no id"))?.to_owned();
        outgoing::attach(engine, cx, &user, &id, &files, found).await?;
        let was_sent = outgoing::send(engine, cx, &user, &id, Some(&marker)).await?;
        let key = thread_key(&draft).map(|key| key.to_string());
        OpReply::from_value(outgoing::sent(&draft, key, found || was_sent), call.decode)
    }
}

/// A new draft; `true`: it turned out to be there already.
async fn draft(engine: &Engine, cx: &CallCx, user: &str, args: &Args, marker: &Marker) -> Result<(Value, bool)> {
    let recipients = |list: &[String]| list.iter().map(|address| json!({ "emailAddress": { "address": address } })).collect::<Vec<_>>();
    let request = json!({
        "user": user, "subject": args.subject, "body": args.body, "body_type": args.body_type, "importance": args.importance,
        "to": recipients(&args.to), "cc": recipients(&args.cc), "bcc": recipients(&args.bcc), "headers": marker.header(),
    });
    for again in [true, false] {
        match engine.call_value(cx, "msgraph_create_draft", request.clone()).await {
            Ok(draft) => return Ok((draft, false)),
            Err(error) if may_have_happened(&error) => {
                pause(cx, SETTLE).await?;
                if let Some(found) = marker::find(engine, cx, user, marker, outgoing::recent(&args.subject)).await? {
                    return Ok((found, true));
                }
                if !again {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::internal("making a draft ended without an outcome"))
}

//! Finding a channel by its name. Slack can only list them, so the list is walked through until the name comes by.

use async_trait::async_trait;
use connector_core::{CallCx, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::arguments;

/// A workspace with more channels than this many pages of 999 is searched by somebody else.
const PAGES: usize = 50;

/// The native operation `slack_find_channel`.
#[derive(Debug)]
pub(crate) struct FindChannel;

#[derive(Deserialize)]
struct Args {
    name: String,
    private: Option<bool>,
}

#[async_trait]
impl NativeOperation for FindChannel {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: Args = arguments(&call)?;
        let wanted = args.name.trim().trim_start_matches('#').to_lowercase();
        let types: &[&str] = if args.private == Some(true) { &["public_channel", "private_channel"] } else { &["public_channel"] };
        let mut cursor = None;
        for _ in 0..PAGES {
            let reply = engine.call_inner(cx, "slack_list_channels", json!({ "types": types, "limit": 999 }), cursor.take()).await?;
            let next = reply.next.clone();
            let mut page = reply.body.to_value()?;
            let channels = page["channels"].as_array_mut().map(std::mem::take).unwrap_or_default();
            if let Some(found) = channels.into_iter().find(|channel| channel["name"].as_str().is_some_and(|name| name.to_lowercase() == wanted)) {
                return OpReply::from_value(found, call.decode);
            }
            match next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        OpReply::from_value(Value::Null, call.decode)
    }
}

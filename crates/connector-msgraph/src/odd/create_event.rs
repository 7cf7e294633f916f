//! An appointment exactly once: `msgraph_create_event`. Graph takes two creations with one `transactionId` for one appointment
//! (<https://learn.microsoft.com/graph/api/resources/event>), so the id is kept over every try and follows from the idempotency key.

use async_trait::async_trait;
use connector_core::{CallCx, ErrorKind, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use serde_json::{Map, Value, json};

use super::{
    args::{items, mailbox, text},
    guid::guid,
};

/// How many of the newest appointments are looked through for one that is there already.
const RECENT: u32 = 50;

/// The native operation.
#[derive(Debug)]
pub(crate) struct CreateEvent;

#[async_trait]
impl NativeOperation for CreateEvent {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let mut args: Map<String, Value> = call.args.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let user = mailbox(cx, args.get("user").and_then(Value::as_str))?;
        let id = guid(cx, "msgraph_create_event", &user.to_lowercase());
        args.insert("user".into(), user.as_str().into());
        args.insert("transaction_id".into(), id.as_str().into());
        let made = match engine.call_value(cx, "msgraph_post_event", Value::Object(args)).await {
            Err(error) if error.kind() == ErrorKind::Conflict => match find(engine, cx, &user, &id).await? {
                Some(made) => made,
                None => return Err(error),
            },
            other => other?,
        };
        OpReply::from_value(made, call.decode)
    }
}

/// The appointment with this `transactionId` among those made last.
async fn find(engine: &Engine, cx: &CallCx, user: &str, id: &str) -> Result<Option<Value>> {
    let args = json!({ "user": user, "orderby": "createdDateTime desc", "top": RECENT });
    let page = engine.call_value(cx, "msgraph_list_events", args).await?;
    Ok(items(&page).iter().find(|event| text(event, "transactionId") == Some(id)).cloned())
}

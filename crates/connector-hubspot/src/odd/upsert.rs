//! One record created or changed by a unique property. HubSpot upserts in batches only, so this sends a batch of one and makes its item error
//! the error of the call.
//!
//! <https://developers.hubspot.com/docs/guides/api/crm/objects/contacts>

use async_trait::async_trait;
use connector_core::{CallCx, Error, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use serde_json::{Value, json};

/// The default property of the contact upsert; the others have none.
const CONTACT_KEY: &str = "email";

/// An upsert of one record by the batch operation it names.
#[derive(Debug)]
pub(crate) struct UpsertOne(pub(crate) &'static str);

#[async_trait]
impl NativeOperation for UpsertOne {
    async fn call(&self, engine: &Engine, cx: &CallCx, mut call: OpCall) -> Result<OpReply> {
        let mut take = |name: &str| call.args.remove(name).unwrap_or_default();
        let id_property = match take("id_property") {
            Value::Null => CONTACT_KEY.into(),
            given => given,
        };
        let input = json!({ "id": take("value"), "idProperty": id_property, "properties": take("properties") });
        let reply = engine.call_inner(cx, self.0, json!({ "inputs": [input] }), None).await?;
        if let Some(failed) = reply.partial.first() {
            let error = Error::new(failed.kind, failed.message.clone());
            return Err(match &failed.vendor_code {
                Some(code) => error.with_vendor_code(code.clone()),
                None => error,
            });
        }
        let record = reply.body.to_value()?.pointer_mut("/results/0").map(Value::take);
        let record = record.ok_or_else(|| Error::protocol("the batch of one has neither a result nor an error"))?;
        OpReply::from_value(record, call.decode)
    }
}

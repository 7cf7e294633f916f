//! A custom property must exist before the first write that uses it. Looks, creates, and if somebody else was faster, looks again.
//! It refuses to change a property that is there: its differences are told, not repaired.
//!
//! <https://developers.hubspot.com/docs/guides/api/crm/properties>

use async_trait::async_trait;
use connector_core::{CallCx, Error, ErrorKind, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use serde_json::{Value, json};

/// What is compared: our argument and the vendor's field.
const COMPARED: [(&str, &str); 3] = [("type", "type"), ("field_type", "fieldType"), ("has_unique_value", "hasUniqueValue")];

/// `hubspot_ensure_property`.
#[derive(Debug)]
pub(crate) struct EnsureProperty;

#[async_trait]
impl NativeOperation for EnsureProperty {
    async fn call(&self, engine: &Engine, cx: &CallCx, mut call: OpCall) -> Result<OpReply> {
        for (name, default) in [("type", "string"), ("field_type", "text")] {
            let value = call.args.entry(name).or_insert(Value::Null);
            if value.is_null() {
                *value = default.into();
            }
        }
        let which = json!({ "object_type": call.args.get("object_type"), "name": call.args.get("name") });
        let mut found = engine.call_value(cx, "hubspot_get_property", which.clone()).await?;
        let mut created = false;
        if found.is_null() {
            match engine.call_value(cx, "hubspot_create_property", call.args.clone().into()).await {
                Ok(property) => {
                    found = property;
                    created = true;
                }
                // Somebody else created it between the look and the write.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    found = engine.call_value(cx, "hubspot_get_property", which).await?;
                    if found.is_null() {
                        return Err(Error::new(
                            ErrorKind::Conflict,
                            "the property exists but cannot be read; an archived property keeps its name, so restore it or choose another",
                        ));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let differs: Vec<&str> = COMPARED
            .iter()
            .filter(|(ours, theirs)| {
                let wanted = call.args.get(*ours).filter(|wanted| !wanted.is_null());
                !created && wanted.is_some_and(|wanted| found.get(*theirs).is_some_and(|is| is != wanted))
            })
            .map(|(_, theirs)| *theirs)
            .collect();
        OpReply::from_value(json!({ "created": created, "property": found, "differs": differs }), call.decode)
    }
}

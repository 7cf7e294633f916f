//! What a call would do, for dry runs: which server is spoken to, and for what is sent the message as it would be. Nothing is looked up, so an
//! answer's parent and a draft's content stay out of it.

use connector_core::{CallCx, OpCall, Result, redact};
use connector_manifest::engine::RenderedRequest;
use serde_json::{Map, Value, json};

use super::Operation;
use crate::{
    mail::{
        address,
        compose::{Making, Outgoing},
    },
    settings::{Security, Settings},
};

/// What stands for the sender where only the credential knows who that is.
const SENDER: &str = "you@localhost";

impl Operation {
    /// The server and what goes to it.
    pub(super) fn show(self, cx: &CallCx, call: &OpCall) -> Result<RenderedRequest> {
        let settings = Settings::of(cx)?;
        let sends = matches!(self, Self::Send | Self::Reply(_) | Self::Forward | Self::SendDraft);
        let (server, protocol) = if sends { (&settings.smtp, "smtp") } else { (&settings.imap, "imap") };
        let secure = if server.security == Security::Tls { "s" } else { "" };
        let mut headers = Map::new();
        headers.insert("authorization".to_owned(), redact::REDACTED.into());
        let args = Value::from(call.args.clone());
        let body = if matches!(self, Self::Send | Self::Draft) { message(&settings, &args, self)? } else { args };
        Ok(RenderedRequest {
            method: if sends { "SEND" } else { "IMAP" }.to_owned(),
            url: format!("{protocol}{secure}://{}:{}", server.host, server.port),
            headers,
            body,
        })
    }
}

/// The message as it would be built, its header as it stands. The date and the Message-ID are another's each time.
fn message(settings: &Settings, args: &Value, operation: Operation) -> Result<Value> {
    let given = args.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let given: Map<String, Value> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    let outgoing: Outgoing = serde_json::from_value(Value::Object(given))
        .map_err(|error| connector_core::Error::invalid("the arguments do not fit together").with_source(error))?;
    let making = Making {
        sender: Some(address::mailbox(settings.address.as_deref().unwrap_or(SENDER), "address")?),
        seed: "dry run",
        now: std::time::SystemTime::UNIX_EPOCH,
        max_bytes: settings.max_message,
        keep_bcc: matches!(operation, Operation::Draft),
        needs_recipients: matches!(operation, Operation::Send),
    };
    let composed = outgoing.compose(&making)?;
    let text = String::from_utf8_lossy(&composed.bytes);
    let header: Vec<&str> = text.split("\r\n\r\n").next().unwrap_or_default().lines().filter(|line| !line.starts_with("Date:")).collect();
    Ok(json!({ "from": composed.envelope.from, "to": composed.envelope.to, "header": header, "bytes": composed.bytes.len() }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use connector_core::{Connection, Connector as _};
    use connector_manifest::Engine;

    use super::*;

    fn engine() -> Engine {
        Engine::builder(crate::manifest()).hooks(crate::hooks()).build().unwrap()
    }

    fn cx() -> CallCx {
        let connection =
            Connection::new("email", "https://gmail").unwrap().with_setting("preset", "gmail").with_setting("address", "ann@example.test");
        CallCx::new(Arc::new(connection))
    }

    #[test]
    fn every_operation_can_be_shown_without_being_made() {
        let engine = engine();
        for op in engine.spec().operations() {
            let shown = engine.render(&cx(), &OpCall::new(op.name.clone(), op.example.args.clone())).unwrap();
            assert!(shown.url == "imaps://imap.gmail.com:993" || shown.url == "smtps://smtp.gmail.com:465", "{}: {}", op.name, shown.url);
        }
    }

    #[test]
    fn what_would_be_sent_is_shown_and_what_is_wrong_is_told() {
        let show = |args: Value| engine().render(&cx(), &OpCall::new("email_send", args.as_object().cloned().unwrap()));
        let shown = show(json!({ "to": ["bob@example.test"], "bcc": ["eve@example.test"], "subject": "Hi", "text": "Hello" })).unwrap();
        assert_eq!((&shown.body["from"], &shown.body["to"]), (&json!("ann@example.test"), &json!(["bob@example.test", "eve@example.test"])));
        assert!(shown.body["header"].as_array().unwrap().contains(&json!("Subject: Hi")) && !shown.body["header"].to_string().contains("eve"));
        assert!(show(json!({ "to": ["bob@example.test"], "subject": "x\r\nBcc: eve@example.test" })).is_err());
    }
}

//! Outbound messages: SOAP that a workflow or flow posts. Salesforce does not sign them, so the proof is ours: a long random token in the query of
//! the endpoint's address (`?token=…`), which only Salesforce is told, and the org's id inside the message. Both stand in the connection's webhook
//! secret, `ORGANIZATION_ID:TOKEN`. Where a proxy checks Salesforce's client certificate too, so much the better; it cannot be seen here.
//!
//! Refuses document types and entities, and forgets the session id that a message may carry.
//!
//! <https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_om_outboundmessaging_understanding.htm>

use std::time::SystemTime;

use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result,
    webhook::{HandshakeReply, IncomingEvent, Ingress, RawWebhook, WebhookVerifier},
};
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;

/// The answer without which Salesforce sends a message again for 24 hours.
const ACK: &str = r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body><notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse></soapenv:Body></soapenv:Envelope>"#;
/// A token under this many characters can be guessed.
const SHORTEST_TOKEN: usize = 24;
/// Salesforce sends 100 notifications at most.
const MOST: usize = 100;
/// A message is flat; anything deeper is not one.
const DEEPEST: usize = 12;

/// Verifies outbound messages. Secrets are `ORGANIZATION_ID:TOKEN`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutboundMessages;

impl WebhookVerifier for OutboundMessages {
    fn scheme(&self) -> &'static str {
        "salesforce_outbound_message"
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["text/xml", "application/xml"]
    }

    fn acknowledgement(&self) -> Option<HandshakeReply> {
        Some(HandshakeReply { status: 200, content_type: "text/xml; charset=utf-8", body: Bytes::from_static(ACK.as_bytes()) })
    }

    fn verify(&self, request: &RawWebhook<'_>, secrets: &[SecretString], _: SystemTime) -> Result<Ingress> {
        if secrets.is_empty() {
            return Err(Error::config("no webhook secret is configured for Salesforce; it is ORGANIZATION_ID:TOKEN"));
        }
        let keys = secrets.iter().map(|secret| key(secret.expose_secret())).collect::<Result<Vec<_>>>()?;
        let mut tokens = url::form_urlencoded::parse(request.query.as_bytes()).filter(|(name, _)| name == "token").map(|(_, value)| value);
        let given = tokens.next().ok_or_else(|| denied("missing", "the delivery has no `token` in its address"))?;
        if tokens.next().is_some() {
            return Err(denied("malformed", "the delivery has several `token` in its address"));
        }
        // Nothing of the body is looked at before the address has proven that somebody knows the token. All are compared, whichever fits.
        let known: Vec<&str> = keys.iter().filter(|(_, token)| bool::from(token.as_bytes().ct_eq(given.as_bytes()))).map(|(org, _)| *org).collect();
        if known.is_empty() {
            return Err(denied("mismatch", "the token in the delivery's address is not the configured one"));
        }
        let message = read(request.body)?;
        if !known.iter().any(|org| same_id(org, &message.organization)) {
            return Err(denied("mismatch", "the delivery is of another organisation than the configured one"));
        }
        message.events().map(Ingress::Events)
    }
}

/// The two parts of a secret.
fn key(secret: &str) -> Result<(&str, &str)> {
    let (org, token) = secret.split_once(':').unwrap_or_default();
    let is_org = org.starts_with("00D") && matches!(org.len(), 15 | 18) && org.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_org || token.len() < SHORTEST_TOKEN {
        return Err(Error::config(format!(
            "the webhook secret of a Salesforce connection is ORGANIZATION_ID:TOKEN: the org's id (00D..), a colon, and {SHORTEST_TOKEN} or more random characters"
        )));
    }
    Ok((org, token))
}

/// 15 and 18 characters are the same id; the last three only tell upper case from lower.
fn same_id(one: &str, other: &str) -> bool {
    one.len() >= 15 && other.len() >= 15 && one.as_bytes()[..15] == other.as_bytes()[..15]
}

/// A message, read.
#[derive(Debug, Default)]
struct Message {
    organization: String,
    action: String,
    notifications: Vec<Notification>,
}

#[derive(Debug, Default)]
struct Notification {
    id: String,
    object: String,
    fields: Map<String, Value>,
}

impl Message {
    fn events(self) -> Result<Vec<IncomingEvent>> {
        let event = |one: Notification| {
            let record = one.fields.get("Id").and_then(Value::as_str).unwrap_or_default().to_owned();
            let kind = event_type(&one.object);
            let payload = json!({
                "notification_id": one.id, "organization_id": self.organization, "action_id": self.action, "event_type": kind,
                "object": one.object, "record_id": record, "record": one.fields,
            });
            let payload =
                serde_json::to_vec(&payload).map_err(|error| Error::internal("an event could not be written as JSON").with_source(error))?;
            Ok(IncomingEvent {
                id: Some(one.id),
                event_type: kind.into(),
                occurred_at: None,
                order_key: (!record.is_empty()).then(|| format!("{}:{record}", self.organization)),
                payload: payload.into(),
            })
        };
        self.notifications.into_iter().map(event).collect()
    }
}

/// What the event is called.
fn event_type(object: &str) -> &'static str {
    match object {
        "Account" => "account.changed",
        "Contact" => "contact.changed",
        "Lead" => "lead.changed",
        "Opportunity" => "opportunity.changed",
        "Case" => "case.changed",
        _ => "record.changed",
    }
}

/// Reads the envelope. Prefixes are the sender's choice, so names are compared without them.
fn read(body: &[u8]) -> Result<Message> {
    let unreadable = || Error::invalid("the delivery is genuine but is not an outbound message");
    let text = std::str::from_utf8(body).map_err(|error| unreadable().with_source(error))?;
    let mut reader = Reader::from_str(text);
    let mut path: Vec<String> = Vec::new();
    let mut content = String::new();
    let mut message = Message::default();
    loop {
        match reader.read_event().map_err(|error| unreadable().with_source(error))? {
            Event::Start(start) => {
                open(&start, &mut path, &mut message)?;
                content.clear();
            }
            Event::Empty(start) => {
                open(&start, &mut path, &mut message)?;
                close(&mut path, "", is_nil(&start), &mut message)?;
                content.clear();
            }
            Event::End(_) => {
                close(&mut path, &content, false, &mut message)?;
                content.clear();
            }
            Event::Text(part) => content.push_str(&part),
            Event::CData(part) => content.push_str(&part),
            // Only the five that XML itself has, and characters by number. Anything else would have to be declared.
            Event::GeneralRef(name) => {
                let known = match name.resolve_char_ref().map_err(|error| unreadable().with_source(error))? {
                    Some(c) => Some(c),
                    None => match &*name {
                        "lt" => Some('<'),
                        "gt" => Some('>'),
                        "amp" => Some('&'),
                        "quot" => Some('"'),
                        "apos" => Some('\''),
                        _ => None,
                    },
                };
                content.push(known.ok_or_else(|| Error::invalid("the delivery uses an entity, which outbound messages never do"))?);
            }
            Event::DocType(_) => return Err(Error::invalid("the delivery declares a document type, which outbound messages never do")),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    let whole = path.is_empty() && !message.organization.is_empty() && !message.notifications.is_empty();
    let named = message.notifications.iter().all(|one| !one.id.is_empty() && !one.object.is_empty());
    if whole && named { Ok(message) } else { Err(unreadable()) }
}

const NOTIFICATIONS: [&str; 3] = ["Envelope", "Body", "notifications"];

/// Where an element stands, below `Envelope/Body/notifications`.
fn below(path: &[String]) -> Option<Vec<&str>> {
    let rest = path.get(NOTIFICATIONS.len()..)?;
    path.iter().zip(NOTIFICATIONS).all(|(is, wanted)| is == wanted).then(|| rest.iter().map(String::as_str).collect())
}

fn open(start: &BytesStart<'_>, path: &mut Vec<String>, message: &mut Message) -> Result<()> {
    if path.len() >= DEEPEST {
        return Err(Error::invalid("the delivery is nested deeper than an outbound message"));
    }
    path.push(start.local_name().as_ref().to_owned());
    match below(path).as_deref() {
        Some(["Notification"]) if message.notifications.len() >= MOST => {
            Err(Error::invalid("the delivery holds more notifications than Salesforce sends at once"))
        }
        Some(["Notification"]) => {
            message.notifications.push(Notification::default());
            Ok(())
        }
        // `<sObject xsi:type="sf:Contact">`
        Some(["Notification", "sObject"]) => {
            let kind = start.attributes().flatten().find(|attribute| attribute.key.local_name().as_ref() == "type");
            let kind = kind.map(|kind| kind.value.into_owned()).unwrap_or_default();
            let object = kind.rsplit(':').next().unwrap_or_default();
            crate::soql::identifier(object).map_err(|_| Error::invalid("a notification does not say what its record is"))?;
            if let Some(last) = message.notifications.last_mut() {
                last.object = object.to_owned();
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn close(path: &mut Vec<String>, text: &str, nil: bool, message: &mut Message) -> Result<()> {
    if let Some(place) = below(path) {
        match (place.as_slice(), message.notifications.last_mut()) {
            (["OrganizationId"], _) => message.organization = text.to_owned(),
            (["ActionId"], _) => message.action = text.to_owned(),
            (["Notification", "Id"], Some(last)) => last.id = text.to_owned(),
            (["Notification", "sObject", field], Some(last)) => {
                let value = if nil { Value::Null } else { text.into() };
                last.fields.insert((*field).to_owned(), value);
            }
            // Session id and addresses are not kept.
            _ => {}
        }
    }
    path.pop().map(drop).ok_or_else(|| Error::invalid("the delivery closes what it never opened"))
}

/// `xsi:nil="true"`.
fn is_nil(start: &BytesStart<'_>) -> bool {
    start.attributes().flatten().any(|attribute| attribute.key.local_name().as_ref() == "nil" && attribute.value.as_ref() == "true")
}

fn denied(reason: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::Denied, message).with_context("reason", reason)
}

#[cfg(test)]
mod tests;

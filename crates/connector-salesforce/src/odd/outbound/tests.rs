//! Tests of the verifier of outbound messages.

use http::{HeaderMap, Method};

use super::*;

const ORG: &str = "00Dxx0000001gPLEAY";
const TOKEN: &str = "9f86d081884c7d659a2feaa0c55ad015";

fn envelope(org: &str, notifications: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
 <soapenv:Body><notifications xmlns="http://soap.sforce.com/2005/09/outbound">
  <OrganizationId>{org}</OrganizationId><ActionId>04kxx0000000001AAA</ActionId><SessionId>never-kept</SessionId>
  <EnterpriseUrl>https://acme.my.salesforce.com/services/Soap/c/66.0</EnterpriseUrl><PartnerUrl>https://x</PartnerUrl>
  {notifications}
 </notifications></soapenv:Body></soapenv:Envelope>"#
    )
}

fn notification(id: &str, kind: &str, fields: &str) -> String {
    format!(
        r#"<Notification><Id>{id}</Id><sObject xsi:type="sf:{kind}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">{fields}</sObject></Notification>"#
    )
}

fn one() -> String {
    let fields = "<sf:Id>003xx000004TmiQAAS</sf:Id><sf:LastName>O&apos;Hara &amp; Söhne &#x41;</sf:LastName><sf:Phone xsi:nil=\"true\"/>";
    envelope(ORG, &notification("04lxx0000000001AAA", "Contact", fields))
}

fn verify(body: &str, query: &str, secrets: &[&str]) -> Result<Vec<IncomingEvent>> {
    let (headers, body) = (HeaderMap::new(), Bytes::from(body.to_owned()));
    let request = RawWebhook { method: &Method::POST, url: "https://hub.example/api", query, headers: &headers, body: &body };
    let secrets: Vec<SecretString> = secrets.iter().map(|secret| (*secret).into()).collect();
    match OutboundMessages.verify(&request, &secrets, SystemTime::UNIX_EPOCH)? {
        Ingress::Events(events) => Ok(events),
        Ingress::Handshake(_) => panic!("there is no handshake"),
    }
}

fn reason(body: &str, query: &str, secret: &str) -> String {
    let error = verify(body, query, &[secret]).unwrap_err();
    assert!(!format!("{error:?}").contains(TOKEN), "the token is in no error");
    error.context_value("reason").unwrap_or(error.kind().as_str()).to_owned()
}

#[test]
fn a_message_with_token_and_org_is_an_event_without_its_session() {
    let secret = format!("{ORG}:{TOKEN}");
    let events = verify(&one(), &format!("a=b&token={TOKEN}"), &["00Dxx0000009999EAY:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &secret]).unwrap();
    let [event] = &events[..] else { panic!("one event") };
    assert_eq!((event.id.as_deref(), &*event.event_type), (Some("04lxx0000000001AAA"), "contact.changed"));
    assert_eq!(event.order_key.as_deref(), Some("00Dxx0000001gPLEAY:003xx000004TmiQAAS"));
    let payload: Value = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!(payload["record"], json!({ "Id": "003xx000004TmiQAAS", "LastName": "O'Hara & Söhne A", "Phone": null }));
    assert_eq!(payload["object"], "Contact");
    assert!(!String::from_utf8_lossy(&event.payload).contains("never-kept"));
}

#[test]
fn fifteen_characters_name_the_same_org() {
    assert!(verify(&one(), &format!("token={TOKEN}"), &[&format!("{}:{TOKEN}", &ORG[..15])]).is_ok());
}

#[test]
fn without_token_with_a_wrong_one_or_from_another_org_nothing_is_believed() {
    let secret = format!("{ORG}:{TOKEN}");
    assert_eq!(reason(&one(), "", &secret), "missing");
    assert_eq!(reason(&one(), "token=wrong", &secret), "mismatch");
    assert_eq!(reason(&one(), &format!("token={TOKEN}&token=x"), &secret), "malformed");
    assert_eq!(reason(&one().replace(ORG, "00Dxx0000002gPLEAY"), &format!("token={TOKEN}"), &secret), "mismatch");
    for weak in ["", TOKEN, "00Dxx0000001gPLEAY:short", &format!("acme:{TOKEN}")] {
        assert_eq!(reason(&one(), &format!("token={TOKEN}"), weak), "config", "{weak}");
    }
}

#[test]
fn entities_document_types_and_half_messages_are_refused() {
    let (query, secret) = (format!("token={TOKEN}"), format!("{ORG}:{TOKEN}"));
    let bomb = one().replace("<soapenv:Envelope", "<!DOCTYPE x [<!ENTITY a \"b\">]><soapenv:Envelope");
    let half = &one()[..one().len() - 20];
    let nobody = envelope(ORG, "");
    let nameless = envelope(ORG, &notification("", "Contact", "<sf:Id>003</sf:Id>"));
    let deep = envelope(ORG, &notification("1", "Contact", &"<a>".repeat(20)));
    let many = envelope(ORG, &notification("1", "Contact", "").repeat(101));
    for body in [&*bomb, &one().replace("&amp;", "&other;"), half, &nobody, &nameless, &deep, &many, "{}", ""] {
        assert_eq!(reason(body, &query, &secret), "invalid", "{body:.80}");
    }
}

#[test]
fn the_acknowledgement_is_the_vendor_s() {
    let reply = OutboundMessages.acknowledgement().unwrap();
    assert!(reply.status == 200 && reply.content_type.starts_with("text/xml"));
    assert!(std::str::from_utf8(&reply.body).unwrap().contains("<Ack>true</Ack>"));
}

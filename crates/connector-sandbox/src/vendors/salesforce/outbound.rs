//! Outbound messages: SOAP about each record that was created or changed, up to 100 in one. The org has one for accounts, contacts, leads,
//! opportunities and cases. Unlike the vendor, which sends a session id when asked to, the fake sends an empty one.

use super::{State, oauth::ORG};
use crate::notify::{Delivery, Signing};
use crate::vendors::Shared;
use serde_json::Value;
use std::fmt::Write as _;

/// Object types that have an outbound message.
const TELLING: [&str; 5] = ["Account", "Contact", "Lead", "Opportunity", "Case"];

/// Sends what changed during a request.
pub(super) fn flush(state: &mut State, shared: &Shared) {
    let told = std::mem::take(&mut state.store.told);
    let Some(url) = state.webhook.clone() else { return };
    let mut notifications = Vec::new();
    for id in &told {
        let Some(record) = state.store.records.get(id).filter(|record| TELLING.contains(&record.kind.name)) else { continue };
        let (kind, mut fields) = (record.kind, String::new());
        for field in kind.fields.iter().filter(|field| field.kind != "address") {
            if let Some(text) = shown(&record.get(field.name)) {
                // Writing to a String cannot fail.
                write!(fields, "<sf:{0}>{text}</sf:{0}>", field.name).unwrap_or_default();
            }
        }
        notifications.push((kind.name, id.clone(), fields));
    }
    for chunk in notifications.chunks(100) {
        let mut inside = String::new();
        for (kind, id, fields) in chunk {
            let notification = state.store.id("04l");
            write!(
                inside,
                "<Notification><Id>{notification}</Id><sObject xsi:type=\"sf:{kind}\" xmlns:sf=\"urn:sobject.enterprise.soap.sforce.com\"><sf:Id>{id}</sf:Id>{fields}</sObject></Notification>"
            )
            .unwrap_or_default();
        }
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body>\
             <notifications xmlns=\"http://soap.sforce.com/2005/09/outbound\"><OrganizationId>{ORG}</OrganizationId><ActionId>04kxx0000000001AAA</ActionId>\
             <SessionId xsi:nil=\"true\"/><EnterpriseUrl>https://acme.my.salesforce.com/services/Soap/c/66.0</EnterpriseUrl>\
             <PartnerUrl>https://acme.my.salesforce.com/services/Soap/u/66.0</PartnerUrl>{inside}</notifications></soapenv:Body></soapenv:Envelope>"
        );
        shared.notifier.enqueue(Delivery { vendor: "salesforce", url: url.clone(), body: Value::String(body), signing: Signing::Soap });
    }
}

/// A value as XML text; `None` if the field is empty.
fn shown(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some(text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
}

//! The schemes of single vendors, against vectors their libraries or pages give, and against what must not pass.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use bytes::Bytes;
use common::{URL, headers, webhook};
use connector_core::{
    Error, ErrorKind,
    webhook::{IncomingEvent, Ingress, RawWebhook},
};
use connector_webhook::schemes;
use http::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

/// Verifies a delivery at a Unix second.
fn verify(scheme: &str, secrets: &[&str], sent: &[(&str, &str)], body: &[u8], at: u64) -> Result<Ingress, Error> {
    let verifier = schemes::verifier(&webhook(json!({ "verify": { "scheme": scheme } })), &[]).unwrap();
    assert_eq!(verifier.scheme(), scheme);
    let map = headers(&sent.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>());
    let body = Bytes::copy_from_slice(body);
    let secrets: Vec<_> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
    verifier.verify(&RawWebhook { method: &Method::POST, url: URL, query: "", headers: &map, body: &body }, &secrets, now)
}

fn events(result: Result<Ingress, Error>) -> Vec<IncomingEvent> {
    match result.unwrap() {
        Ingress::Events(events) => events,
        other => panic!("{other:?}"),
    }
}

fn refusal(result: Result<Ingress, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    error.context_value("reason").unwrap().to_owned()
}

/// A genuine delivery: scheme, secret, headers, body, the second it was sent.
struct Vector {
    scheme: &'static str,
    secret: &'static str,
    sent: Vec<(&'static str, &'static str)>,
    body: &'static str,
    at: u64,
}

const ZENDESK_BODY: &str = r#"{"type":"zen:event-type:ticket.created","account_id":123456,"id":"0d0c1b2a-1111-4222-8333-444455556666","time":"2026-01-01T00:00:00.000Z","subject":"zen:ticket:70042"}"#;
const LINEAR_BODY: &str = r#"{"action":"update","type":"Issue","createdAt":"2026-01-01T00:00:00.000Z","data":{"id":"7b1d4a52-0c3e-4f0e-9c1d-2f6a8b9c0d11","identifier":"HUB-7"},"webhookTimestamp":1767225600000}"#;
const NOTION_BODY: &str = r#"{"id":"367cba44-b6f3-4c92-81e7-6a2e9659efd4","timestamp":"2026-11-21T12:00:00.000Z","type":"page.content_updated","attempt_number":1,"entity":{"id":"153104cd-477e-809d-8dc4-ff2d96ae3090","type":"page"}}"#;
const INTUIT_LEGACY: &str = r#"{"eventNotifications":[{"realmId":"4620816365006511290","dataChangeEvent":{"entities":[{"name":"Invoice","id":"145","operation":"Update","lastUpdated":"2026-11-21T12:00:00.000Z"}]}}]}"#;
const INTUIT_CLOUD: &str = r#"[{"specversion":"1.0","id":"6f9c2f0a-1b7d-4f6e-9a53-0d3d1b0a7a11","source":"intuit.dGVzdA==","type":"qbo.invoice.updated.v1","datacontenttype":"application/json","time":"2026-11-21T12:00:00.000Z","intuitentityid":"145","intuitaccountid":"4620816365006511290","data":{}}]"#;
const NETBOX_BODY: &str = r#"{"event": "updated", "timestamp": "2026-11-21T12:00:00+00:00", "object_type": "dcim.device", "username": "svc", "data": {"id": 7, "name": "fra1-sw01"}}"#;
const NEW_YEAR: u64 = 1_767_225_600;
const NOON: u64 = 1_795_262_400;

/// The worked vectors of the vendors' pages, recomputed.
fn vectors() -> Vec<Vector> {
    vec![
        Vector {
            scheme: "zendesk",
            secret: "zd-signing-secret-5b0f",
            sent: vec![
                ("X-Zendesk-Webhook-Signature", "1z3CM8bZnFDyx+vQPPRaueaZ8QSEHdY7MgIv7Ybi3Zs="),
                ("X-Zendesk-Webhook-Signature-Timestamp", "2026-01-01T00:00:00Z"),
            ],
            body: ZENDESK_BODY,
            at: NEW_YEAR,
        },
        Vector {
            scheme: "linear",
            secret: "lin_wh_test_9d2e",
            sent: vec![("Linear-Signature", "524a8dbd5f5d225b703085416539a64414cd5680ae18c873e93a40e00ffe6bc7")],
            body: LINEAR_BODY,
            at: NEW_YEAR,
        },
        Vector {
            scheme: "notion",
            secret: "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl",
            sent: vec![("X-Notion-Signature", "sha256=d19443132215f90520749183be813efdc9b3003e5977a1d18ff8a6a266aab171")],
            body: NOTION_BODY,
            at: NOON,
        },
        Vector {
            scheme: "jira",
            secret: "jira-hook-secret-31c4",
            sent: vec![("X-Hub-Signature", "sha256=5ed80a4920d236f57517bd1d142bc387eb8baa0b0d5ceaf878f51c00b9058dc7")],
            body: r#"{"timestamp":1767225600000,"webhookEvent":"jira:issue_updated","issue":{"id":"10042","key":"HUB-7"}}"#,
            at: NEW_YEAR,
        },
        Vector {
            scheme: "intuit",
            secret: "9d8f7c1e-vrf-test-token",
            sent: vec![("intuit-signature", "RUChHbg9yNEWidkKa6gAuRXEtisn6/mHUibZp7w31mE=")],
            body: INTUIT_LEGACY,
            at: NOON,
        },
        Vector {
            scheme: "intuit",
            secret: "9d8f7c1e-vrf-test-token",
            sent: vec![("intuit-signature", "8/HklxrXQ7W6wj/3YRCuyrox8GvMXDIywl75sjlbZUw=")],
            body: INTUIT_CLOUD,
            at: NOON,
        },
        Vector {
            scheme: "netbox",
            secret: "netbox-hook-secret-01",
            sent: vec![(
                "X-Hook-Signature",
                "7c05e8d9b7806bad4f235f258f07a550fb4a57bc19c128e9067b4dc79ab6d3292951b4394c3687e4b98d699e2779dc6a7b982b6e2a9e0e19c217433d00c16cd1",
            )],
            body: NETBOX_BODY,
            at: NOON,
        },
        Vector {
            scheme: "standard_webhooks",
            secret: "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
            sent: vec![
                ("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"),
                ("webhook-timestamp", "1795262400"),
                ("webhook-signature", "v1,q94lp4BjFpDQDmQihOobLx3wBMSc71Dooc2dBZ2ZJ3E="),
            ],
            body: r#"{"type":"contact.created","timestamp":"2026-11-21T12:00:00Z","data":{"id":"1f81eb52"}}"#,
            at: NOON,
        },
        Vector {
            scheme: "standard_webhooks",
            secret: "whpk_ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ=",
            sent: vec![
                ("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"),
                ("webhook-timestamp", "1795262400"),
                ("webhook-signature", "v1a,n6OlxNMGqz6P7uk3Rp8i7ugQ6fhEYEr9+NmTTSOlKprKsw8ROkgVoy7BRRidIuXXH2zrV9D2VfM1w23xz5ErCA=="),
            ],
            body: r#"{"type":"contact.created","timestamp":"2026-11-21T12:00:00Z","data":{"id":"1f81eb52"}}"#,
            at: NOON,
        },
    ]
}

#[test]
fn the_vectors_of_the_vendors_pages_are_accepted_and_one_changed_bit_is_not() {
    for Vector { scheme, secret, sent, body, at } in vectors() {
        let found = events(verify(scheme, &[secret], &sent, body.as_bytes(), at));
        assert_eq!(found.len(), 1, "{scheme}");
        let other = match scheme {
            "standard_webhooks" => "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            _ => "another-secret",
        };
        assert_eq!(events(verify(scheme, &[other, secret], &sent, body.as_bytes(), at)), found, "{scheme}: with the new secret and the old one");
        assert_eq!(refusal(verify(scheme, &[other], &sent, body.as_bytes(), at)), "mismatch", "{scheme}");
        for place in [0, body.len() / 2, body.len() - 1] {
            let mut changed = body.as_bytes().to_vec();
            changed[place] ^= 1;
            assert_eq!(refusal(verify(scheme, &[secret], &sent, &changed, at)), "mismatch", "{scheme}, byte {place}");
        }
        for hidden in 0..sent.len() {
            let fewer: Vec<_> = sent.iter().enumerate().filter(|(place, _)| *place != hidden).map(|(_, pair)| *pair).collect();
            assert_eq!(refusal(verify(scheme, &[secret], &fewer, body.as_bytes(), at)), "missing", "{scheme} without {}", sent[hidden].0);
        }
    }
}

#[test]
fn a_time_inside_the_signed_body_ends_the_replay() {
    let windows = [("linear", 60), ("notion", 86_400), ("jira", 86_400), ("zendesk", 300)];
    for Vector { scheme, secret, sent, body, at } in vectors() {
        let Some((_, window)) = windows.iter().find(|(name, _)| *name == scheme) else { continue };
        for apart in [*window, window - 1] {
            assert!(verify(scheme, &[secret], &sent, body.as_bytes(), at + apart).is_ok(), "{scheme}, {apart} s later");
        }
        assert_eq!(refusal(verify(scheme, &[secret], &sent, body.as_bytes(), at + window + 1)), "stale", "{scheme}");
        assert_eq!(refusal(verify(scheme, &[secret], &sent, body.as_bytes(), at - window - 1)), "stale", "{scheme}");
    }
}

#[test]
fn events_are_told_apart_by_what_the_signature_covers() {
    let by_scheme = |wanted: &str| {
        let vector = vectors().into_iter().find(|vector| vector.scheme == wanted).unwrap();
        events(verify(vector.scheme, &[vector.secret], &vector.sent, vector.body.as_bytes(), vector.at)).remove(0)
    };
    let zendesk = by_scheme("zendesk");
    assert_eq!((zendesk.id.as_deref(), &*zendesk.event_type), (Some("0d0c1b2a-1111-4222-8333-444455556666"), "zen:event-type:ticket.created"));
    let notion = by_scheme("notion");
    assert_eq!((notion.id.as_deref(), &*notion.event_type), (Some("367cba44-b6f3-4c92-81e7-6a2e9659efd4"), "page.content_updated"));
    assert_eq!((by_scheme("jira").id, &*by_scheme("jira").event_type), (None, "jira:issue_updated"), "nothing in it is an id: its hash will be");
    assert_eq!(by_scheme("linear").id, None, "without a webhook id the hash stands in");
}

#[test]
fn both_formats_of_intuit_name_an_event_alike() {
    let read = |at: usize| {
        let vector = vectors().into_iter().filter(|vector| vector.scheme == "intuit").nth(at).unwrap();
        events(verify("intuit", &[vector.secret], &vector.sent, vector.body.as_bytes(), vector.at)).remove(0)
    };
    let (legacy, cloud) = (read(0), read(1));
    assert_eq!((&*legacy.event_type, &*cloud.event_type), ("qbo.invoice.updated.v1", "qbo.invoice.updated.v1"));
    assert_eq!(legacy.order_key, cloud.order_key);
    assert_eq!(legacy.id.as_deref(), Some("4620816365006511290:Invoice:145:Update:2026-11-21T12:00:00.000Z"));
    assert_eq!(cloud.id.as_deref(), Some("4620816365006511290:6f9c2f0a-1b7d-4f6e-9a53-0d3d1b0a7a11"));
    let payload: Value = serde_json::from_slice(&legacy.payload).unwrap();
    assert_eq!(payload["realmId"], "4620816365006511290");
}

#[test]
fn a_signed_body_that_is_none_of_intuits_is_refused_as_unreadable() {
    for body in ["7", "[7]", "[{}]", "{\"a\":", "\"x\""] {
        let mut mac = <hmac::Hmac<sha2::Sha256> as hmac::KeyInit>::new_from_slice(b"token").unwrap();
        hmac::Mac::update(&mut mac, body.as_bytes());
        let signature = base64::engine::general_purpose::STANDARD.encode(hmac::Mac::finalize(mac).into_bytes());
        let error = verify("intuit", &["token"], &[("intuit-signature", &signature)], body.as_bytes(), NOON).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{body}");
    }
}

#[test]
fn the_public_vector_of_jira_is_recomputed() {
    let sent = [("X-Hub-Signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9")];
    let error = verify("jira", &["It's a Secret to Everybody"], &sent, b"Hello World!", NOON).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "genuine, and not JSON: {error}");
}

#[test]
fn zendesks_test_secret_is_refused_because_everybody_knows_it() {
    let secret = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==";
    let sent = [
        ("X-Zendesk-Webhook-Signature", "S/RDdU2ERmj7LHDDoWJ2onPYH+t7/f2+LTM4dL7UiLM="),
        ("X-Zendesk-Webhook-Signature-Timestamp", "2021-03-25T05:09:27Z"),
    ];
    let error = verify("zendesk", &[secret], &sent, br#"{"event":"ticket.updated","id":123}"#, 1_616_648_967).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("everybody knows"), "{error}");
}

#[test]
fn notions_first_message_is_a_handshake_once_its_token_is_known() {
    let body = br#"{"verification_token":"secret_first"}"#;
    let signature = format!("sha256={}", common::sign("secret_first", body));
    let sent = [("X-Notion-Signature", signature.as_str())];
    assert!(matches!(verify("notion", &["secret_first"], &sent, body, NOON), Ok(Ingress::Handshake(reply)) if reply.status == 200));
    assert_eq!(refusal(verify("notion", &["secret_other"], &sent, body, NOON)), "mismatch");
}

#[test]
fn googles_channels_are_known_by_their_token_and_told_by_their_headers() {
    let sent = |state: &'static str, token: &'static str| {
        vec![
            ("X-Goog-Channel-ID", "9f1c"),
            ("X-Goog-Message-Number", "12"),
            ("X-Goog-Resource-ID", "o3hg"),
            ("X-Goog-Resource-State", state),
            ("X-Goog-Resource-URI", "https://www.googleapis.com/calendar/v3/calendars/x/events?alt=json"),
            ("X-Goog-Channel-Token", token),
        ]
    };
    let found = events(verify("google_channel", &["channel-token"], &sent("exists", "channel-token"), b"", NOON)).remove(0);
    assert_eq!((found.id.as_deref(), &*found.event_type, found.order_key.as_deref()), (Some("9f1c:12"), "channel.exists", Some("o3hg")));
    assert!(matches!(verify("google_channel", &["channel-token"], &sent("sync", "channel-token"), b"", NOON), Ok(Ingress::Handshake(_))));
    assert_eq!(refusal(verify("google_channel", &["channel-token"], &sent("exists", "channel-tokem"), b"", NOON)), "mismatch");
    assert_eq!(refusal(verify("google_channel", &["channel-token"], &sent("sync", "other"), b"", NOON)), "mismatch", "also a handshake");
    let mut odd = sent("exists", "channel-token");
    odd[1].1 = "-1";
    assert_eq!(refusal(verify("google_channel", &["channel-token"], &odd, b"", NOON)), "malformed");
}

#[test]
fn a_public_key_that_is_none_is_a_mistake_of_ours() {
    let vector = vectors().into_iter().find(|vector| vector.secret.starts_with("whpk_")).unwrap();
    for secret in ["whpk_", "whpk_!!", "whpk_AAAA"] {
        let error = verify(vector.scheme, &[secret], &vector.sent, vector.body.as_bytes(), vector.at).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{secret}");
    }
}

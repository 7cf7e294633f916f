//! The verification schemes against vectors made by the vendors' own libraries, and against everything that must not pass.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use common::{NOW, SECRET, URL, headers, sign, signed_at, webhook};
use connector_core::{
    ErrorKind,
    webhook::{Ingress, RawWebhook},
};
use connector_webhook::schemes::{self, StandardWebhooks};
use http::Method;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Value, json};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// `Ok`, or the reason of the refusal.
fn verify_at(section: &Value, body: &[u8], pairs: &[(String, String)], secrets: &[&str], now: SystemTime) -> Result<Ingress, String> {
    let verifier = schemes::verifier(&webhook(json!({ "verify": section })), &[]).unwrap();
    let headers = headers(pairs);
    let body = Bytes::copy_from_slice(body);
    let secrets: Vec<_> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
    let request = RawWebhook { method: &Method::POST, url: URL, query: "", headers: &headers, body: &body };
    verifier.verify(&request, &secrets, now).map_err(|error| {
        assert!(error.kind() == ErrorKind::Denied, "{error}");
        error.context_value("reason").unwrap().to_owned()
    })
}

fn pairs(map: &Value) -> Vec<(String, String)> {
    map.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

#[test]
fn signatures_of_the_vendors_libraries_are_accepted() {
    let Some(text) = common::shared("specs/webhook_vectors.json") else { return };
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let sections = [
        ("stripe", json!({ "scheme": "stripe" })),
        ("slack", json!({ "scheme": "slack_v0" })),
        ("standard_webhooks", json!({ "scheme": "standard_webhooks" })),
        ("notion", json!({ "kind": "hmac_sha256", "header": "X-Notion-Signature", "prefix": "sha256=" })),
        ("linear", json!({ "kind": "hmac_sha256", "header": "Linear-Signature" })),
        (
            "hubspot_v3",
            json!({ "kind": "hmac_sha256", "header": "X-HubSpot-Signature-v3", "message": "{method}{url}{body}{timestamp}",
                    "encoding": "base64", "timestamp": "X-HubSpot-Request-Timestamp" }),
        ),
    ];
    for (name, section) in sections {
        let vector = &vectors[name];
        let (body, secret) = (vector["body"].as_str().unwrap().as_bytes(), vector["secret"].as_str().unwrap());
        let sent = pairs(&vector["headers"]);
        let verify = |body: &[u8], secrets: &[&str]| {
            let verifier = schemes::verifier(&webhook(json!({ "verify": section })), &[]).unwrap();
            let headers = headers(&sent);
            let body = Bytes::copy_from_slice(body);
            let secrets: Vec<_> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
            let url = vector["uri"].as_str().unwrap_or(URL);
            let request = RawWebhook { method: &Method::POST, url, query: "", headers: &headers, body: &body };
            verifier.verify(&request, &secrets, now())
        };
        assert!(verify(body, &[secret]).is_ok(), "{name}: {:?}", verify(body, &[secret]));
        let other = if name == "standard_webhooks" { "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" } else { "another-secret" };
        assert!(verify(body, &[other, secret]).is_ok(), "{name}: with the new secret and the old one");
        assert!(verify(body, &[other]).is_err(), "{name}: with another secret");
        let mut changed = body.to_vec();
        changed[3] ^= 1;
        assert!(verify(&changed, &[secret]).is_err(), "{name}: with a changed body");
    }
}

#[test]
fn stripe_accepts_either_secret_while_one_is_rolled() {
    let body = br#"{"id":"evt_1TestAAA","object":"event","type":"payment_intent.succeeded","livemode":false}"#;
    let new = "06a3848f523f9d69b7cda7ba862a107d4505b36d71fee043e52f5e35fe93774f";
    let old = "d8c5666efd2cf3a2da74cd00c7debd2f198a3e9f55c15c4cbe6d12cdef1f3e73";
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400);
    let verify = |header: String, secret: &str| {
        verify_at(&json!({ "scheme": "stripe" }), body, &[("Stripe-Signature".to_owned(), header)], &[secret], at).map(|_| ())
    };
    for secret in ["whsec_test_3q2bT0ZkJcY1", "whsec_old_9Zy8Xw7Vu6"] {
        assert_eq!(verify(format!("t=1795262400,v1={new},v1={old},v0=junk"), secret), Ok(()), "{secret}");
    }
    assert_eq!(verify(format!("t=1795262400,v1={new}"), "whsec_old_9Zy8Xw7Vu6"), Err("mismatch".to_owned()));
    assert_eq!(verify(format!("t=1795262400,v0={new}"), "whsec_test_3q2bT0ZkJcY1"), Err("malformed".to_owned()), "a downgrade");
    assert_eq!(verify(format!("t=1795262400,t=1,v1={new}"), "whsec_test_3q2bT0ZkJcY1"), Err("malformed".to_owned()), "two times");
    assert_eq!(verify(format!("v1={new}"), "whsec_test_3q2bT0ZkJcY1"), Err("malformed".to_owned()), "no time");
}

#[test]
fn the_replay_window_is_300_seconds_in_both_directions() {
    let described = json!({ "kind": "hmac_sha256", "header": "X-Signature", "timestamp": "X-Timestamp" });
    let at = |at: u64| verify_at(&described, b"{}", &signed_at(at, b"{}"), &[SECRET], now()).map(|_| ());
    for apart in [0, 299, 300] {
        assert_eq!((at(NOW - apart), at(NOW + apart)), (Ok(()), Ok(())), "{apart} s");
    }
    for apart in [301, 86_400] {
        assert_eq!((at(NOW - apart), at(NOW + apart)), (Err("stale".to_owned()), Err("stale".to_owned())), "{apart} s");
    }
    let tight = json!({ "kind": "hmac_sha256", "header": "X-Signature", "timestamp": "X-Timestamp", "tolerance": "60s" });
    let tight = |at: u64| verify_at(&tight, b"{}", &signed_at(at, b"{}"), &[SECRET], now()).map(|_| ());
    assert_eq!((tight(NOW - 60), tight(NOW - 61)), (Ok(()), Err("stale".to_owned())));

    let stripe = |at: u64| {
        let signature = sign(SECRET, format!("{at}.{{}}").as_bytes());
        verify_at(&json!({ "scheme": "stripe" }), b"{}", &[("stripe-signature".to_owned(), format!("t={at},v1={signature}"))], &[SECRET], now())
            .map(|_| ())
    };
    assert_eq!((stripe(NOW - 299), stripe(NOW - 301)), (Ok(()), Err("stale".to_owned())));
    assert_eq!((stripe(NOW + 299), stripe(NOW + 301)), (Ok(()), Err("stale".to_owned())));

    let slack = |at: u64| {
        let signature = sign(SECRET, format!("v0:{at}:{{}}").as_bytes());
        let pairs = [("x-slack-request-timestamp".to_owned(), at.to_string()), ("x-slack-signature".to_owned(), format!("v0={signature}"))];
        verify_at(&json!({ "scheme": "slack_v0" }), b"{}", &pairs, &[SECRET], now()).map(|_| ())
    };
    assert_eq!((slack(NOW - 299), slack(NOW - 301)), (Ok(()), Err("stale".to_owned())));
    assert_eq!((slack(NOW + 299), slack(NOW + 301)), (Ok(()), Err("stale".to_owned())));
}

#[test]
fn a_timestamp_is_digits_and_plausible() {
    let described = json!({ "kind": "hmac_sha256", "header": "X-Signature", "timestamp": "X-Timestamp" });
    for text in ["-1", "1795230000.5", "1000000000000000000", "+1795230000", "0x6b", "1e9", "soon", "99999999999999999999999999"] {
        let pairs = [("x-timestamp".to_owned(), text.to_owned()), ("x-signature".to_owned(), sign(SECRET, format!("{text}.{{}}").as_bytes()))];
        assert_eq!(verify_at(&described, b"{}", &pairs, &[SECRET], now()).map(|_| ()), Err("malformed".to_owned()), "{text}");
    }
    let millis = format!("{NOW}999");
    let pairs = [("x-timestamp".to_owned(), millis.clone()), ("x-signature".to_owned(), sign(SECRET, format!("{millis}.{{}}").as_bytes()))];
    assert!(verify_at(&described, b"{}", &pairs, &[SECRET], now()).is_ok(), "milliseconds are fine");
}

#[test]
fn only_the_first_ten_signatures_are_tried() {
    let described = json!({ "kind": "hmac_sha256", "header": "X-Signature" });
    let good = sign(SECRET, b"{}");
    let with = |bad: usize| {
        let list = vec!["ab".repeat(32); bad].into_iter().chain([good.clone()]).collect::<Vec<_>>().join(",");
        verify_at(&described, b"{}", &[("x-signature".to_owned(), list)], &[SECRET], now()).map(|_| ())
    };
    assert_eq!(with(9), Ok(()));
    assert_eq!(with(10), Err("mismatch".to_owned()));
    assert_eq!(with(100), Err("malformed".to_owned()), "so long a header is not even read");
}

#[test]
fn a_signature_that_cannot_be_read_is_malformed() {
    let described = json!({ "kind": "hmac_sha256", "header": "X-Signature", "prefix": "sha256=" });
    let with = |value: &str| verify_at(&described, b"{}", &[("x-signature".to_owned(), value.to_owned())], &[SECRET], now()).map(|_| ());
    assert_eq!(verify_at(&described, b"{}", &[], &[SECRET], now()).map(|_| ()), Err("missing".to_owned()));
    assert_eq!(with(""), Err("missing".to_owned()));
    for value in ["sha256=", "sha256=zz", "sha1=abcd", &sign(SECRET, b"{}"), &"a".repeat(8192)] {
        assert_eq!(with(value), Err("malformed".to_owned()), "{value}");
    }
    assert_eq!(with(&format!("sha256={}", &sign(SECRET, b"{}")[..62])), Err("mismatch".to_owned()), "cut short");
    let twice = [signed_at(NOW, b"{}"), signed_at(NOW, b"{}")].concat();
    let mut map = http::HeaderMap::new();
    for (name, value) in &twice {
        map.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    let verifier = schemes::verifier(&common::described(), &[]).unwrap();
    let request = RawWebhook { method: &Method::POST, url: URL, query: "", headers: &map, body: &Bytes::from_static(b"{}") };
    let error = verifier.verify(&request, &[SecretString::from(SECRET)], now()).unwrap_err();
    assert_eq!(error.context_value("reason"), Some("malformed"), "two signature headers leave open which one counts");
}

#[test]
fn standard_webhooks_ids_must_not_move_the_border() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let pairs = |id: &str, signature: &str| {
        vec![
            ("webhook-id".to_owned(), id.to_owned()),
            ("webhook-timestamp".to_owned(), NOW.to_string()),
            ("webhook-signature".to_owned(), signature.to_owned()),
        ]
    };
    let section = json!({ "scheme": "standard_webhooks" });
    assert_eq!(verify_at(&section, b"{}", &pairs("a.b", "v1,AAAA"), &[secret], now()).map(|_| ()), Err("malformed".to_owned()));
    for downgrade in ["v0,AAAA", "v1a,AAAA", "AAAA", "v1,"] {
        assert!(verify_at(&section, b"{}", &pairs("m", downgrade), &[secret], now()).is_err(), "{downgrade}");
    }
    let verifier = schemes::verifier(&webhook(json!({ "verify": section })), &[]).unwrap();
    let map = headers(&pairs("m", "v1,AAAA"));
    let request = RawWebhook { method: &Method::POST, url: URL, query: "", headers: &map, body: &Bytes::from_static(b"{}") };
    let error = verifier.verify(&request, &[SecretString::from("whsec_dG9vLXNob3J0")], now()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "a short secret is refused");
    assert!(!error.to_string().contains("dG9v"), "{error}");
}

#[test]
fn a_manifest_that_protects_nothing_is_refused() {
    for (section, says) in [
        (json!({}), "needs `scheme` or `kind`"),
        (json!({ "scheme": "strip" }), "did you mean `stripe`?"),
        (json!({ "scheme": "stripe", "kind": "hmac_sha256" }), "keep one"),
        (json!({ "kind": "hmac_sha256" }), "`webhook.verify.header`"),
        (json!({ "kind": "hmac_sha256", "header": "a b" }), "not the name of a header"),
        (json!({ "kind": "hmac_sha256", "header": "X-S", "message": "{timestamp}" }), "does not hold {body}"),
        (json!({ "kind": "hmac_sha256", "header": "X-S", "message": "{timestamp}.{body}" }), "which header carries it"),
        (json!({ "kind": "hmac_sha256", "header": "X-S", "message": "{body}", "timestamp": "X-T" }), "anybody could change it"),
        (json!({ "kind": "hmac_sha256", "header": "X-S", "message": "{boddy}" }), "names `{boddy}`"),
    ] {
        let error = schemes::proof(&serde_json::from_value(section).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(says), "{error}");
    }
}

#[test]
fn without_a_secret_nothing_is_believed() {
    let verifier = schemes::verifier(&common::described(), &[]).unwrap();
    let map = headers(&signed_at(NOW, b"{}"));
    let request = RawWebhook { method: &Method::POST, url: URL, query: "", headers: &map, body: &Bytes::from_static(b"{}") };
    for secrets in [vec![], vec![SecretString::from("")], vec![SecretString::from(SECRET), SecretString::from("  ")]] {
        assert_eq!(verifier.verify(&request, &secrets, now()).unwrap_err().kind(), ErrorKind::Config);
    }
    assert_eq!(verifier.scheme(), "hmac_sha256");
    assert_eq!(connector_webhook::schemes::Proof::scheme(&StandardWebhooks), "standard_webhooks");
}

#[test]
fn events_are_found_where_the_manifest_says() {
    let read = |mut section: Value, body: &str| {
        section["verify"] = json!({ "kind": "hmac_sha256", "header": "X-Signature" });
        let verifier = schemes::verifier(&webhook(section), &[]).unwrap();
        let map = headers(&[("x-signature".to_owned(), sign(SECRET, body.as_bytes()))]);
        let request = RawWebhook { method: &Method::POST, url: URL, query: "", headers: &map, body: &Bytes::copy_from_slice(body.as_bytes()) };
        match verifier.verify(&request, &[SecretString::from(SECRET)], now()).unwrap() {
            Ingress::Events(events) => events,
            other => panic!("{other:?}"),
        }
    };
    // A bare array; ids from two places; every digit kept.
    let section = json!({ "event_id": [".eventId", ".attempt"], "event_type": ".kind", "order_by": ".obj.id", "occurred_at": ".at" });
    let events = read(section, r#"[{"eventId":1,"attempt":"a:b","kind":"x","obj":{"id":7},"at":1795230000000,"amount":1.10},{"eventId":2}]"#);
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].id.as_deref(), Some("1:a%3Ab"));
    assert_eq!((&*events[0].event_type, events[0].order_key.as_deref(), events[0].occurred_at), ("x", Some("7"), Some(now())));
    assert!(events[0].payload.ends_with(br#""amount":1.10}"#));
    assert_eq!((events[1].id.as_deref(), &*events[1].event_type), (None, "unknown"));

    let events = read(json!({ "events_at": ".value", "event_id": ".id" }), r#"{"value":[{"id":"a"},{"id":"b"}],"id":"not me"}"#);
    assert_eq!(events.iter().filter_map(|event| event.id.as_deref()).collect::<Vec<_>>(), ["a", "b"]);
    let events = read(json!({ "events_at": ".data.items[0]", "event_id": ".id" }), r#"{"data":{"items":[{"id":"a"},{"id":"b"}]}}"#);
    assert_eq!(events.iter().filter_map(|event| event.id.as_deref()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(read(json!({ "events_at": ".value" }), r#"{"other":1}"#), []);
    let events = read(json!({ "occurred_at": ".when" }), r#"{"event":"ticket.created","when":"2026-11-21T03:00:00Z"}"#);
    assert_eq!((&*events[0].event_type, events[0].occurred_at), ("ticket.created", Some(now())));
}

proptest! {
    #[test]
    fn one_changed_bit_is_enough(body in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let section = json!({ "kind": "hmac_sha512", "header": "X-Signature" });
        let proof = schemes::proof(&serde_json::from_value(section).unwrap()).unwrap();
        let mut mac = <hmac::Hmac<sha2::Sha512> as hmac::KeyInit>::new_from_slice(SECRET.as_bytes()).unwrap();
        hmac::Mac::update(&mut mac, &body);
        let signature = hmac::Mac::finalize(mac).into_bytes();
        let prove = |body: &[u8], signature: &[u8]| {
            let map = headers(&[("x-signature".to_owned(), hex::encode(signature))]);
            let body = Bytes::copy_from_slice(body);
            let request = RawWebhook { method: &Method::POST, url: URL, query: "", headers: &map, body: &body };
            proof.prove(&request, &[SecretString::from(SECRET)], now()).is_ok()
        };
        prop_assert!(prove(&body, &signature));
        let mut changed = body.clone();
        changed[at.index(body.len())] ^= 1 << bit;
        prop_assert!(!prove(&changed, &signature));
        let mut forged = signature.to_vec();
        let place = at.index(forged.len());
        forged[place] ^= 1 << bit;
        prop_assert!(!prove(&body, &forged));
    }

    #[test]
    fn no_header_makes_a_scheme_panic(value in "\\PC{0,80}", time in "\\PC{0,20}") {
        for section in [json!({ "scheme": "stripe" }), json!({ "scheme": "slack_v0" }), json!({ "scheme": "standard_webhooks" }), json!({ "scheme": "bearer" })] {
            let verifier = schemes::verifier(&webhook(json!({ "verify": section })), &[]).unwrap();
            let mut map = http::HeaderMap::new();
            for name in ["stripe-signature", "x-slack-signature", "webhook-signature", "webhook-id", "authorization"] {
                map.insert(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap_or(http::HeaderValue::from_static("x")));
            }
            for name in ["x-slack-request-timestamp", "webhook-timestamp"] {
                map.insert(name, http::HeaderValue::from_bytes(time.as_bytes()).unwrap_or(http::HeaderValue::from_static("1")));
            }
            let request = RawWebhook { method: &Method::POST, url: URL, query: "", headers: &map, body: &Bytes::from_static(b"{}") };
            let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
            prop_assert_eq!(verifier.verify(&request, &[secret], now()).unwrap_err().kind(), ErrorKind::Denied);
        }
    }
}

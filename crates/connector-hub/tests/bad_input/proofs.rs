//! 11 to 19: proofs, replays, ids.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use connector_core::{TenantId, state::AuditFilter};

use super::{
    UNAUTHORIZED,
    wire::{CANARY, CRM, Hub, NOW, STANDARD, mac, pairs, request, secret, sign},
};

const BODY: &[u8] = br#"{"id":"canary-5e1f","type":"contact.created"}"#;

fn crm(signature: &str, at: &str) -> Vec<u8> {
    request("POST", CRM, &pairs(&[("x-signature", signature), ("x-timestamp", at)]), BODY)
}

/// What a Standard Webhooks sender signs, as it writes it.
fn standard_mac(id: &str, at: &str, body: &[u8]) -> String {
    BASE64_STANDARD.encode(mac(&secret(), &[id.as_bytes(), b".", at.as_bytes(), b".", body].concat()))
}

fn standard(id: &str, at: &str, signature: &str) -> Vec<u8> {
    request("POST", STANDARD, &pairs(&[("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", signature)]), BODY)
}

#[tokio::test]
async fn item_11_missing_empty_long_or_unreadable_signature_is_401_all_alike() {
    let hub = Hub::start().await;
    let now = NOW.to_string();
    let long = "a".repeat(8 << 10);
    for bytes in [
        request("POST", CRM, &[], BODY),
        crm("", &now),
        crm(" ", &now),
        crm(&long, &now),
        crm("not hex", &now),
        crm("%%%=", &now),
        request("POST", CRM, &pairs(&[("x-signature", "ab"), ("x-signature", "ab"), ("x-timestamp", &now)]), BODY),
        standard("msg_1", &now, "v1,not base64!"),
        standard("msg_1", &now, ""),
        standard("msg_1", &now, &format!("v1,{long}")),
    ] {
        hub.refuses(&bytes, 401, UNAUTHORIZED).await;
    }
}

#[tokio::test]
async fn item_12_the_secret_of_another_tenant_proves_nothing() {
    let hub = Hub::start().await;
    let message = [NOW.to_string().as_bytes(), b".", BODY].concat();
    hub.refuses(&crm(&sign(&format!("{CANARY}-of-another-tenant"), &message), &NOW.to_string()), 401, UNAUTHORIZED).await;
    assert!(hub.store.events(&TenantId::from("b"), Default::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn item_13_downgrades_and_unknown_schemes_beside_a_bad_signature_are_401() {
    let hub = Hub::start().await;
    let now = NOW.to_string();
    let good = standard_mac("msg_1", &now, BODY);
    let bad = standard_mac("msg_1", &now, b"{}");
    for signature in [
        format!("v0,{good}"),
        format!("v0,{good} v1,{bad}"),
        format!("v2,{good} v1,{bad}"),
        format!("v1a,{good} v1,{bad}"),
        format!(",{good} v1,{bad}"),
        format!("V1,{good} v1,{bad}"),
        good.clone(),
    ] {
        hub.refuses(&standard("msg_1", &now, &signature), 401, UNAUTHORIZED).await;
    }
    assert_eq!(hub.send(&standard("msg_1", &now, &format!("v0,{bad} v1,{good}"))).await.status, 202);
}

#[tokio::test]
async fn item_14_only_ten_of_a_hundred_signatures_are_tried() {
    let hub = Hub::start().await;
    let now = NOW.to_string();
    let (good, bad) = (standard_mac("msg_1", &now, BODY), standard_mac("msg_1", &now, b"{}"));
    let hundred = |at: usize| (0..100).map(|n| format!("v1,{}", if n == at { &good } else { &bad })).collect::<Vec<_>>().join(" ");
    // A header of a hundred is long enough to be refused for its length; eleven are not.
    for signatures in [hundred(99), hundred(0), (0..11).map(|n| format!("v1,{}", if n == 10 { &good } else { &bad })).collect::<Vec<_>>().join(" ")] {
        hub.refuses(&standard("msg_1", &now, &signatures), 401, UNAUTHORIZED).await;
    }
    let ten = (0..10).map(|n| format!("v1,{}", if n == 9 { &good } else { &bad })).collect::<Vec<_>>().join(" ");
    assert_eq!(hub.send(&standard("msg_1", &now, &ten)).await.status, 202);
}

#[tokio::test]
async fn item_15_timestamps_outside_the_window_or_no_timestamps_are_401() {
    let hub = Hub::start().await;
    for at in [NOW - 301, NOW + 301] {
        hub.refuses(&Hub::signed(BODY, at, &[]), 401, UNAUTHORIZED).await;
    }
    assert!(hub.seen.value("integration_webhook_events_total{connector=crm,outcome=valid-signature-but-stale}") > 1.9);
    for at in ["-1795230000", "1000000000000000000", "1795230000.5", "1.79e9", "", "now", "0x6b01"] {
        let signature = sign(&secret(), &[at.as_bytes(), b".", BODY].concat());
        hub.refuses(&crm(&signature, at), 401, UNAUTHORIZED).await;
    }
    for at in [NOW - 299, NOW + 299] {
        assert_eq!(hub.send(&Hub::signed(BODY, at, &[])).await.status, 202, "{at}");
    }
}

#[tokio::test]
async fn item_16_exact_replay_inside_the_window_is_accepted_and_has_no_effect() {
    let hub = Hub::start().await;
    let delivery = Hub::delivery(BODY);
    let first = hub.send(&delivery).await;
    hub.clock.advance(Duration::from_secs(250));
    let again = hub.send(&delivery).await;
    assert_eq!((first.status, &first.body), (202, &again.body));
    assert_eq!(again.status, 202);
    let kept = hub.kept().await;
    assert_eq!((kept.len(), kept[0].duplicates), (1, 1));
    hub.told_nothing(&again);
}

#[tokio::test]
async fn item_17_same_id_with_another_body_is_409_and_told_and_the_first_wins() {
    let hub = Hub::start().await;
    assert_eq!(hub.send(&Hub::delivery(br#"{"id":"e1","amount":1}"#)).await.status, 202);
    hub.refuses(&Hub::delivery(br#"{"id":"e1","amount":2,"note":"canary-5e1f"}"#), 409, r#"{"status":"conflict"}"#).await;
    assert_eq!(hub.kept().await[0].payload, br#"{"id":"e1","amount":1}"#.as_slice());
    assert!((hub.seen.value("integration_webhook_events_total{connector=crm,outcome=mismatch}") - 1.0).abs() < 0.1);
    assert!(hub.logs().contains("an event came again with another payload"), "somebody is told");
    let trail = hub.runtime.audit_tail(&TenantId::default(), AuditFilter::default()).await.unwrap();
    assert_eq!((&*trail[0].record.operation, trail[0].record.error.as_deref()), ("webhook.receive", Some("conflict")));
}

#[tokio::test]
async fn item_18_without_a_usable_id_the_digest_is_the_id_and_flagged() {
    let hub = Hub::start().await;
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(4096));
    let bodies = [r#"{"n":1}"#, r#"{"id":"","n":2}"#, r#"{"id":"None","n":3}"#, r#"{"id":null,"n":4}"#, r#"{"id":"a\u001b[0m","n":5}"#, &long];
    for body in bodies {
        assert_eq!(hub.send(&Hub::delivery(body.as_bytes())).await.status, 202, "{body}");
    }
    assert_eq!(hub.send(&Hub::delivery(bodies[0].as_bytes())).await.status, 202, "the same again is a duplicate");
    let kept = hub.kept().await;
    assert_eq!(kept.len(), bodies.len());
    assert!(kept.iter().all(|event| event.flags.contains(&"no_event_id".to_owned()) && event.event_id.starts_with("sha256:")), "{kept:?}");
}

#[tokio::test]
async fn item_19_an_id_with_a_dot_is_an_id_and_never_moves_the_border_of_what_is_signed() {
    let hub = Hub::start().await;
    assert_eq!(hub.send(&Hub::delivery(br#"{"id":"evt.1.2"}"#)).await.status, 202);
    assert_eq!(hub.kept().await[0].event_id, "evt.1.2");
    // In a scheme that signs `id.timestamp.body` a dot in the id could be the border: `msg.1` and `…` would be signed like `msg` and `1.…`.
    let now = NOW.to_string();
    let body = [now.as_bytes(), b".", BODY].concat();
    let of_body = BASE64_STANDARD.encode(mac(&secret(), &[b"msg.".as_slice(), now.as_bytes(), b".", &body].concat()));
    let shifted = request(
        "POST",
        STANDARD,
        &pairs(&[("webhook-id", &format!("msg.{now}")), ("webhook-timestamp", &now), ("webhook-signature", &format!("v1,{of_body}"))]),
        BODY,
    );
    hub.refuses(&shifted, 401, UNAUTHORIZED).await;
    hub.refuses(&standard("msg.1", &now, &format!("v1,{}", standard_mac("msg.1", &now, BODY))), 401, UNAUTHORIZED).await;
}

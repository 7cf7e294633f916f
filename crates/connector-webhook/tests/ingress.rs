//! The ingress pipeline: every bad input by name, and what is kept of the good ones.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use common::{Bench, NOW, SECRET, described, event, sign, signed_at, spec, webhook};
use connector_core::{
    Error, Result, TenantId,
    clock::ManualClock,
    error::{ErrorKind, Retry},
    state::{Appended, EventFilter, EventLog, JobId, NewEvent, StoredEvent},
};
use connector_webhook::ingress::{IngressAnswer, IngressLimits, IngressPipeline, Outcome, Strictness};
use secrecy::SecretString;
use serde_json::json;

fn check(answer: &IngressAnswer, status: u16, outcome: Outcome) {
    assert_eq!((answer.status, answer.outcome), (status, outcome), "{answer:?}");
}

#[tokio::test]
async fn a_good_delivery_is_durable_before_it_is_accepted() {
    let bench = Bench::new(&described());
    let answer = bench.deliver(br#"{"id":"e1","type":"contact.created","contact":7}"#).await;
    check(&answer, 202, Outcome::Accepted);
    assert_eq!((answer.content_type, &answer.body[..]), ("application/json", &br#"{"status":"accepted"}"#[..]));
    let kept = bench.kept().await;
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].event_id.as_str(), &*kept[0].event_type, kept[0].order_key.as_deref()), ("e1", "contact.created", Some("7")));
    assert_eq!((kept[0].flags.len(), kept[0].received_at, &*kept[0].connector), (0, NOW * 1000, "crm"));
    assert_eq!(answer.events, [Appended::New { seq: kept[0].seq, job: JobId(1) }]);
}

#[tokio::test]
async fn dedup_exact_replay_is_accepted_and_has_no_effect() {
    let bench = Bench::new(&described());
    let body = br#"{"id":"e1","type":"contact.created"}"#;
    check(&bench.deliver(body).await, 202, Outcome::Accepted);
    bench.clock.advance(Duration::from_secs(250));
    check(&bench.send(body, &signed_at(NOW, body)).await, 202, Outcome::Duplicate);
    let kept = bench.kept().await;
    assert_eq!((kept.len(), kept[0].duplicates), (1, 1));
}

#[tokio::test]
async fn dedup_ten_concurrent_duplicates_are_ten_acceptances_and_one_event() {
    let bench = Bench::new(&described());
    let answers = futures_util::future::join_all((0..10).map(|_| bench.deliver(br#"{"id":"e1","type":"x"}"#))).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    assert_eq!(answers.iter().filter(|answer| answer.outcome == Outcome::Accepted).count(), 1);
    assert_eq!(bench.kept().await.len(), 1);
}

#[tokio::test]
async fn dedup_the_same_id_with_another_body_is_a_conflict_and_the_first_wins() {
    let bench = Bench::new(&described());
    check(&bench.deliver(br#"{"id":"e1","amount":1}"#).await, 202, Outcome::Accepted);
    check(&bench.deliver(br#"{"id":"e1","amount":2}"#).await, 409, Outcome::Mismatch);
    let kept = bench.kept().await;
    assert_eq!((kept.len(), &kept[0].payload[..]), (1, &br#"{"id":"e1","amount":1}"#[..]));
}

#[tokio::test]
async fn dedup_an_unusable_id_becomes_a_digest_and_shows() {
    let bench = Bench::new(&described());
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(4096));
    let bodies = [r#"{"n":1}"#, r#"{"id":"","n":2}"#, r#"{"id":"None","n":3}"#, r#"{"id":null,"n":4}"#, &long];
    for body in bodies {
        check(&bench.deliver(body.as_bytes()).await, 202, Outcome::Accepted);
    }
    check(&bench.deliver(bodies[0].as_bytes()).await, 202, Outcome::Duplicate);
    let kept = bench.kept().await;
    assert_eq!(kept.len(), bodies.len());
    assert!(kept.iter().all(|event| event.flags == ["no_event_id"] && event.event_id.starts_with("sha256:")));
}

#[tokio::test]
async fn an_id_with_a_dot_is_an_id() {
    let bench = Bench::new(&described());
    check(&bench.deliver(br#"{"id":"evt.1"}"#).await, 202, Outcome::Accepted);
    assert_eq!(bench.kept().await[0].event_id, "evt.1");
}

#[tokio::test]
async fn one_byte_over_the_cap_is_too_large() {
    let bench = Bench::new(&described());
    let body = |size: usize| format!(r#"{{"id":"e1","fill":"{}"}}"#, "x".repeat(size - r#"{"id":"e1","fill":""}"#.len()));
    check(&bench.deliver(body((1 << 20) + 1).as_bytes()).await, 413, Outcome::TooLarge);
    check(&bench.deliver(body(1 << 20).as_bytes()).await, 202, Outcome::Accepted);
}

#[tokio::test]
async fn too_many_or_too_long_headers_are_refused() {
    let bench = Bench::new(&described());
    let mut many = signed_at(NOW, b"{}");
    many.extend((0..99).map(|n| (format!("x-fill-{n}"), "v".to_owned())));
    check(&bench.send(b"{}", &many).await, 431, Outcome::HeadersTooLarge);
    let mut long = signed_at(NOW, b"{}");
    long.push(("x-fill".to_owned(), "v".repeat(33 << 10)));
    check(&bench.send(b"{}", &long).await, 431, Outcome::HeadersTooLarge);
}

#[tokio::test]
async fn packed_bodies_are_refused_unopened() {
    let bench = Bench::new(&described());
    for encoding in ["gzip", "br", "gzip, gzip, gzip", "GZIP", "x"] {
        let mut pairs = signed_at(NOW, b"{}");
        pairs.push(("content-encoding".to_owned(), encoding.to_owned()));
        check(&bench.send(b"{}", &pairs).await, 415, Outcome::Encoded);
    }
    let mut pairs = signed_at(NOW, b"{}");
    pairs.push(("content-encoding".to_owned(), "identity".to_owned()));
    check(&bench.send(b"{}", &pairs).await, 202, Outcome::Accepted);
}

#[tokio::test]
async fn genuine_bodies_of_a_bad_shape_are_refused_and_not_kept() {
    let bench = Bench::new(&described());
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    let keys = format!("{{{}}}", (0..100_000).map(|n| format!("\"{n:x}\":0")).collect::<Vec<_>>().join(","));
    let bodies: Vec<Vec<u8>> = vec![
        deep,
        [br#"{"a":"#.repeat(65), b"1".to_vec(), b"}".repeat(65)].concat(),
        keys.into_bytes(),
        br#"{"id":"e1","id":"e2"}"#.to_vec(),
        br#"{"id":"e1","n":1e400}"#.to_vec(),
        br#"{"id":"e1","n":1234567890123456789012345678901234567890}"#.to_vec(),
        br#"{"id":"e1","n":NaN}"#.to_vec(),
        b"{\"id\":\"\xff\xfe\"}".to_vec(),
        br#"{"id":"\ud800"}"#.to_vec(),
        b"\xef\xbb\xbf{\"id\":\"e1\"}".to_vec(),
        b"{\"id\":\"a\0b\"}".to_vec(),
        br#"{"id":"a\u0000b"}"#.to_vec(),
        b"".to_vec(),
        b"hello".to_vec(),
        br#"{"id":"e1""#.to_vec(),
    ];
    for body in bodies {
        let answer = bench.deliver(&body).await;
        check(&answer, 400, Outcome::Invalid);
        assert_eq!(&answer.body[..], br#"{"status":"invalid"}"#);
    }
    assert!(bench.kept().await.is_empty());
}

#[tokio::test]
async fn a_body_that_says_it_is_something_else_is_refused_after_the_proof() {
    let bench = Bench::new(&described());
    for (kind, status) in [
        ("text/html", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json; charset=utf-8", 202),
        ("application/cloudevents+json", 202),
    ] {
        let mut pairs = signed_at(NOW, b"{}");
        pairs.push(("content-type".to_owned(), kind.to_owned()));
        assert_eq!(bench.send(b"{}", &pairs).await.status, status, "{kind}");
    }
    let answer = bench.send(b"{}", &[("content-type".to_owned(), "text/html".to_owned())]).await;
    check(&answer, 401, Outcome::MissingProof);
}

#[tokio::test]
async fn every_unproven_delivery_gets_the_same_answer() {
    let bench = Bench::new(&described());
    let body = br#"{"id":"e1"}"#;
    let with = |signature: &str, at: &str| vec![("x-signature".to_owned(), signature.to_owned()), ("x-timestamp".to_owned(), at.to_owned())];
    let good = sign(SECRET, &[NOW.to_string().as_bytes(), b".", body].concat());
    let foreign = sign("secret-of-another-tenant", &[NOW.to_string().as_bytes(), b".", body].concat());
    let now = NOW.to_string();
    let cases = [
        (vec![], Outcome::MissingProof),
        (with("", &now), Outcome::MissingProof),
        (with(&good, ""), Outcome::MissingProof),
        (with("not hex", &now), Outcome::MalformedProof),
        (with(&"a".repeat(8192), &now), Outcome::MalformedProof),
        (with(&good, "-5"), Outcome::MalformedProof),
        (with(&good, "1795230000.5"), Outcome::MalformedProof),
        (with(&good, "1000000000000000000"), Outcome::MalformedProof),
        (with(&foreign, &now), Outcome::WrongProof),
        (with(&format!("v0,{}", "ab".repeat(32)), &now), Outcome::WrongProof),
        (signed_at(NOW - 301, body), Outcome::Stale),
        (signed_at(NOW + 301, body), Outcome::Stale),
    ];
    for (pairs, outcome) in cases {
        let answer = bench.send(body, &pairs).await;
        check(&answer, 401, outcome);
        assert_eq!(&answer.body[..], br#"{"status":"unauthorized"}"#);
        assert_eq!((answer.content_type, answer.retry_after, answer.events.len()), ("application/json", None, 0));
    }
    assert!(bench.kept().await.is_empty());
}

#[tokio::test]
async fn two_secrets_are_valid_during_a_rotation() {
    let mut bench = Bench::new(&described());
    bench.secrets = vec![SecretString::from("the-new-one"), SecretString::from(SECRET)];
    check(&bench.deliver(br#"{"id":"e1"}"#).await, 202, Outcome::Accepted);
    bench.secrets = vec![SecretString::from("the-new-one")];
    check(&bench.deliver(br#"{"id":"e2"}"#).await, 401, Outcome::WrongProof);
}

#[tokio::test]
async fn without_a_secret_the_vendor_is_asked_to_come_again() {
    let mut bench = Bench::new(&described());
    for secrets in [vec![], vec![SecretString::from("")]] {
        bench.secrets = secrets;
        let answer = bench.deliver(br#"{"id":"e1"}"#).await;
        check(&answer, 503, Outcome::Misconfigured);
        assert_eq!(answer.retry_after, Some(30));
    }
    assert!(bench.kept().await.is_empty());
}

#[tokio::test]
async fn slacks_challenge_is_echoed_only_when_it_is_signed() {
    let bench = Bench::new(&webhook(json!({ "verify": { "scheme": "slack_v0" } })));
    let body = br#"{"token":"x","challenge":"hubChallenge01","type":"url_verification"}"#;
    let signed = |body: &[u8]| {
        let signature = sign(SECRET, &[format!("v0:{NOW}:").as_bytes(), body].concat());
        vec![("x-slack-request-timestamp".to_owned(), NOW.to_string()), ("x-slack-signature".to_owned(), format!("v0={signature}"))]
    };
    let answer = bench.send(body, &signed(body)).await;
    check(&answer, 200, Outcome::Handshake);
    assert_eq!((answer.content_type, &answer.body[..]), ("text/plain; charset=utf-8", &b"hubChallenge01"[..]));
    check(&bench.send(body, &[]).await, 401, Outcome::MissingProof);

    let body = br#"{"type":"event_callback","event_id":"Ev1","event_time":1795230000,"event":{"type":"message"}}"#;
    check(&bench.send(body, &signed(body)).await, 202, Outcome::Accepted);
    let kept = bench.kept().await;
    assert_eq!((kept[0].event_id.as_str(), &*kept[0].event_type), ("Ev1", "message"));
}

#[tokio::test]
async fn a_static_bearer_works_as_written_and_is_flagged() {
    let bench = Bench::new(&webhook(json!({ "verify": { "scheme": "bearer" } })));
    let body = br#"{"event":"ticket.created","data":{"id":"T-1"}}"#;
    let with = |value: &str| vec![("authorization".to_owned(), value.to_owned())];
    check(&bench.send(body, &with(&format!("Bearer {SECRET}"))).await, 202, Outcome::Accepted);
    check(&bench.send(body, &with("Bearer wrong")).await, 401, Outcome::WrongProof);
    check(&bench.send(body, &with(SECRET)).await, 401, Outcome::MalformedProof);
    check(&bench.send(body, &with("Bearer ")).await, 401, Outcome::MalformedProof);
    let kept = bench.kept().await;
    assert_eq!((&*kept[0].event_type, &kept[0].flags[..]), ("ticket.created", &["no_event_id".to_owned(), "legacy_scheme".to_owned()][..]));
}

#[tokio::test]
async fn the_signed_delivery_id_of_standard_webhooks_is_the_event_id() {
    use base64::Engine as _;
    use hmac::{KeyInit as _, Mac as _};
    let mut bench = Bench::new(&webhook(json!({ "verify": { "scheme": "standard_webhooks" } })));
    let key = [7_u8; 24];
    let text = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    bench.secrets = vec![SecretString::from(format!("whsec_{}", text(&key)))];
    let body = br#"{"type":"contact.created"}"#;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("msg_1.{NOW}.").as_bytes());
    mac.update(body);
    let pairs = [
        ("webhook-id".to_owned(), "msg_1".to_owned()),
        ("webhook-timestamp".to_owned(), NOW.to_string()),
        ("webhook-signature".to_owned(), format!("v1,{}", text(&mac.finalize().into_bytes()))),
    ];
    check(&bench.send(body, &pairs).await, 202, Outcome::Accepted);
    let kept = bench.kept().await;
    assert_eq!((kept[0].event_id.as_str(), &*kept[0].event_type, kept[0].flags.len()), ("msg_1", "contact.created", 0));
}

#[tokio::test]
async fn events_are_compared_with_their_declared_shape() {
    let mut bench = Bench::new(&described());
    let schema = json!({ "type": "object", "required": ["contact"], "properties": { "contact": { "type": "integer" } } });
    bench.spec = spec(vec![event("contact.created", Some(schema)), event("contact.deleted", None)]);
    for body in [
        r#"{"id":"1","type":"contact.created","contact":7}"#,
        r#"{"id":"2","type":"contact.created","contact":"x"}"#,
        r#"{"id":"3","type":"contact.deleted"}"#,
        r#"{"id":"4","type":"contact.merged"}"#,
    ] {
        check(&bench.deliver(body.as_bytes()).await, 202, Outcome::Accepted);
    }
    let flags: Vec<_> = bench.kept().await.into_iter().map(|event| event.flags.join(",")).collect();
    assert_eq!(flags, ["", "schema_violation", "", "unknown_type"]);

    bench.schema = Strictness::Refuse;
    check(&bench.deliver(br#"{"id":"5","type":"contact.created"}"#).await, 400, Outcome::Invalid);
    check(&bench.deliver(br#"{"id":"6","type":"contact.merged"}"#).await, 202, Outcome::Accepted);
}

#[tokio::test]
async fn a_schema_that_cannot_be_used_loses_no_event() {
    let mut bench = Bench::new(&described());
    let mut nested = json!({});
    for _ in 0..40 {
        nested = json!({ "properties": { "a": nested } });
    }
    for schema in [json!({ "$ref": "https://schemas.example/x.json" }), json!({ "type": "nonsense" }), nested] {
        bench.spec = spec(vec![event("contact.created", Some(schema))]);
        let error = connector_webhook::ingress::EventSchemas::compile(&bench.spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("`contact.created`"), "{error}");
        check(
            &bench.deliver(format!(r#"{{"id":"{}","type":"contact.created"}}"#, bench.kept().await.len()).as_bytes()).await,
            202,
            Outcome::Accepted,
        );
    }
    assert!(bench.kept().await.iter().all(|event| event.flags == ["schema_unchecked"]));
}

#[tokio::test]
async fn a_delivery_of_many_events_keeps_each_once() {
    let bench = Bench::new(&described());
    let answer = bench.deliver(br#"[{"id":"a"},{"id":"b"},{"id":"a"}]"#).await;
    check(&answer, 202, Outcome::Accepted);
    assert!(matches!(answer.events[..], [Appended::New { .. }, Appended::New { .. }, Appended::Duplicate { .. }]));
    let answer = bench.deliver(br#"[{"id":"c"},{"id":"a","changed":true}]"#).await;
    check(&answer, 409, Outcome::Mismatch);
    assert_eq!(bench.kept().await.len(), 3, "the good one of a bad delivery is kept: it was genuine");
    check(&bench.deliver(b"[]").await, 202, Outcome::Accepted);
    let many = format!("[{}]", (0..1001).map(|n| format!(r#"{{"id":"n{n}"}}"#)).collect::<Vec<_>>().join(","));
    check(&bench.deliver(many.as_bytes()).await, 400, Outcome::Invalid);
}

/// A log that fails with this error, or never answers.
#[derive(Debug)]
struct BrokenLog(Option<Error>);

#[async_trait]
impl EventLog for BrokenLog {
    async fn append(&self, _: Vec<NewEvent>) -> Result<Vec<Appended>> {
        match &self.0 {
            Some(error) => Err(error.clone()),
            None => std::future::pending().await,
        }
    }

    async fn event(&self, _: &TenantId, _: u64) -> Result<Option<StoredEvent>> {
        Ok(None)
    }

    async fn events(&self, _: &TenantId, _: EventFilter) -> Result<Vec<StoredEvent>> {
        Ok(Vec::new())
    }

    async fn replay(&self, _: &TenantId, _: u64) -> Result<Option<JobId>> {
        Ok(None)
    }

    async fn prune_events(&self, _: u64) -> Result<u64> {
        Ok(0)
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_durable_is_never_acknowledged() {
    let locked = Error::new(ErrorKind::Transient, "locked").with_retry(Retry::After(Duration::from_millis(4_500)));
    for (log, retry_after) in [(BrokenLog(Some(locked)), 5), (BrokenLog(Some(Error::internal("broken"))), 30), (BrokenLog(None), 5)] {
        let mut bench = Bench::new(&described());
        bench.pipeline = IngressPipeline::new(Arc::new(log), Arc::new(ManualClock::at_unix(NOW)), IngressLimits::default());
        let answer = bench.deliver(br#"{"id":"e1"}"#).await;
        check(&answer, 503, Outcome::NotPersisted);
        assert_eq!(answer.retry_after, Some(retry_after));
    }
}

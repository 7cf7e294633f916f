//! Every vector that a vendor's own library made, through the verifier that would see it: taken as it is, refused with any one bit changed,
//! under another secret, by another scheme, in an older scheme's clothes, and outside the window.
//!
//! What counts as refused is an error; where the kind matters (stale, not merely wrong) the reason is compared.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use common::{NOW, URL, webhook};
use connector_core::{
    ErrorKind, Result,
    webhook::{Ingress, RawWebhook, WebhookVerifier},
};
use connector_hubspot::HubSpotSignature;
use connector_webhook::schemes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::SecretString;
use serde_json::{Value, json};

/// How a signature is written.
#[derive(Clone, Copy)]
enum Written {
    Hex,
    Base64,
}

/// One genuine delivery and who checks it.
struct Vector {
    name: &'static str,
    verifier: Arc<dyn WebhookVerifier>,
    secret: String,
    method: Method,
    url: String,
    body: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    /// The header with the signature, the text before it, and how it is written.
    signature: (&'static str, &'static str, Written),
    /// How far from the signed time it may be checked, in seconds; `None` where no time is signed.
    window: Option<u64>,
}

/// Who checks which vector: name, scheme, signature header and prefix, writing, window.
type Judge = (&'static str, Arc<dyn WebhookVerifier>, (&'static str, &'static str, Written), Option<u64>);

fn judges() -> Vec<Judge> {
    let named = |scheme: &str| schemes::verifier(&webhook(json!({ "verify": { "scheme": scheme } })), &[]).unwrap();
    let legacy = || Arc::new(HubSpotSignature::new().with_legacy());
    vec![
        ("stripe", named("stripe"), ("Stripe-Signature", "t=1795230000,v1=", Written::Hex), Some(300)),
        ("slack", named("slack_v0"), ("X-Slack-Signature", "v0=", Written::Hex), Some(300)),
        ("hubspot_v1", legacy(), ("X-HubSpot-Signature", "", Written::Hex), None),
        ("hubspot_v2", legacy(), ("X-HubSpot-Signature", "", Written::Hex), None),
        ("hubspot_v3", Arc::new(HubSpotSignature::new()), ("X-HubSpot-Signature-v3", "", Written::Base64), Some(300)),
        ("standard_webhooks", named("standard_webhooks"), ("webhook-signature", "v1,", Written::Base64), Some(300)),
        ("linear", named("linear"), ("Linear-Signature", "", Written::Hex), Some(60)),
        // The vector's body has no `timestamp`, so nothing of it is a time.
        ("notion", named("notion"), ("X-Notion-Signature", "sha256=", Written::Hex), None),
    ]
}

/// The vectors; `None`, said aloud, where they are not there (never in CI).
fn vectors() -> Option<Vec<Vector>> {
    let all: BTreeMap<String, Value> = serde_json::from_str(&common::shared("specs/webhook_vectors.json")?).unwrap();
    let judges = judges();
    let known: Vec<&str> = judges.iter().map(|(name, ..)| *name).collect();
    let unknown: Vec<&String> = all.keys().filter(|name| !known.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "vectors that nothing checks: {unknown:?}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let vector = |(name, verifier, signature, window)| {
        let given = &all[name];
        Vector {
            name,
            verifier,
            signature,
            window,
            secret: text(&given["secret"]),
            method: given["method"].as_str().map_or(Method::POST, |method| method.parse().unwrap()),
            url: given["uri"].as_str().unwrap_or(URL).to_owned(),
            body: text(&given["body"]).into_bytes(),
            headers: given["headers"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value).into_bytes())).collect(),
        }
    };
    Some(judges.into_iter().map(vector).collect())
}

/// A delivery as it is put to a verifier; made from a vector and then changed.
#[derive(Clone)]
struct Attempt {
    verifier: Arc<dyn WebhookVerifier>,
    secrets: Vec<String>,
    method: Method,
    url: String,
    body: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    now: i64,
}

impl Attempt {
    fn of(vector: &Vector) -> Self {
        Self {
            verifier: vector.verifier.clone(),
            secrets: vec![vector.secret.clone()],
            method: vector.method.clone(),
            url: vector.url.clone(),
            body: vector.body.clone(),
            headers: vector.headers.clone(),
            now: i64::try_from(NOW).unwrap(),
        }
    }

    /// `None` if a header could never arrive like this.
    fn try_verify(&self) -> Option<Result<Ingress>> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).ok()?);
        }
        let body = Bytes::from(self.body.clone());
        let secrets: Vec<SecretString> = self.secrets.iter().map(|secret| secret.as_str().into()).collect();
        let request = RawWebhook { method: &self.method, url: &self.url, query: "", headers: &headers, body: &body };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(self.now.try_into().unwrap());
        Some(self.verifier.verify(&request, &secrets, now))
    }

    fn verify(&self) -> Result<Ingress> {
        self.try_verify().unwrap()
    }

    /// The reason of a refusal; an error of another kind gives its name.
    #[track_caller]
    fn refusal(&self, what: &str) -> String {
        let error = self.verify().map(|_| ()).expect_err(what);
        error.context_value("reason").map_or_else(|| format!("{:?}", error.kind()), str::to_owned)
    }

    fn header_mut(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.headers.iter_mut().find(|(one, _)| one.eq_ignore_ascii_case(name)).unwrap().1
    }
}

/// What was tried with one vector.
#[derive(Default)]
struct Counts {
    signature_bits: usize,
    header_bits: usize,
    body_bits: usize,
    secret_bits: usize,
    request_bits: usize,
    /// Flips that no HTTP header or secret text can hold, or that are the same hexadecimal digit in upper case.
    not_a_change: usize,
}

/// A flip of the case of a hexadecimal digit of the signature: the same bytes, written otherwise.
fn same_hex(vector: &Vector, header: &str, before: &[u8], after: &[u8]) -> bool {
    let (name, prefix, written) = vector.signature;
    let differs = before.iter().zip(after).position(|(a, b)| a != b).unwrap();
    matches!(written, Written::Hex) && name.eq_ignore_ascii_case(header) && differs >= prefix.len() && before.eq_ignore_ascii_case(after)
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}

fn every_bit(vector: &Vector) -> Counts {
    let (genuine, mut counts, name) = (Attempt::of(vector), Counts::default(), vector.name);
    // The bits of the signature itself, written anew.
    let (header, prefix, written) = vector.signature;
    let value = String::from_utf8(genuine.clone().header_mut(header).clone()).unwrap();
    let encoded = value.strip_prefix(prefix).unwrap();
    let signature = match written {
        Written::Hex => hex::decode(encoded).unwrap(),
        Written::Base64 => STANDARD.decode(encoded).unwrap(),
    };
    assert_eq!(signature.len(), 32, "{name}");
    for bit in 0..signature.len() * 8 {
        let changed = flipped(&signature, bit);
        let text = match written {
            Written::Hex => hex::encode(changed),
            Written::Base64 => STANDARD.encode(changed),
        };
        let mut attempt = genuine.clone();
        *attempt.header_mut(header) = format!("{prefix}{text}").into_bytes();
        assert_eq!(attempt.refusal(&format!("{name}: signature bit {bit}")), "mismatch", "{name}: signature bit {bit}");
        counts.signature_bits += 1;
    }
    // The bits of the headers as they are written: timestamps, ids, prefixes and the signature's text.
    for (header, before) in &vector.headers {
        for bit in 0..before.len() * 8 {
            let mut attempt = genuine.clone();
            let after = flipped(before, bit);
            attempt.header_mut(header).clone_from(&after);
            match attempt.try_verify() {
                None => counts.not_a_change += 1,
                Some(Ok(_)) if same_hex(vector, header, before, &after) => counts.not_a_change += 1,
                Some(outcome) => {
                    let error = outcome.expect_err(&format!("{name}: {header}, bit {bit}"));
                    assert_eq!(error.kind(), ErrorKind::Denied, "{name}: {header}, bit {bit}: {error}");
                    counts.header_bits += 1;
                }
            }
        }
    }
    for bit in 0..vector.body.len() * 8 {
        let attempt = Attempt { body: flipped(&vector.body, bit), ..genuine.clone() };
        assert_eq!(attempt.refusal(&format!("{name}: body bit {bit}")), "mismatch", "{name}: body bit {bit}");
        counts.body_bits += 1;
    }
    for bit in 0..vector.secret.len() * 8 {
        let Ok(secret) = String::from_utf8(flipped(vector.secret.as_bytes(), bit)) else {
            counts.not_a_change += 1;
            continue;
        };
        let attempt = Attempt { secrets: vec![secret], ..genuine.clone() };
        // A secret that is none of the scheme's any more (`whsec_` broken) is a mistake of ours, and proves nothing either.
        let why = attempt.refusal(&format!("{name}: secret bit {bit}"));
        assert!(["mismatch", "Config"].contains(&why.as_str()), "{name}: secret bit {bit}: {why}");
        counts.secret_bits += 1;
    }
    // Where method and URL are signed, they are protected as well.
    if ["hubspot_v2", "hubspot_v3"].contains(&name) {
        assert_eq!(Attempt { method: Method::PUT, ..genuine.clone() }.refusal(name), "mismatch");
        for bit in 0..vector.url.len() * 8 {
            let Ok(url) = String::from_utf8(flipped(vector.url.as_bytes(), bit)) else {
                counts.not_a_change += 1;
                continue;
            };
            assert_eq!(Attempt { url, ..genuine.clone() }.refusal(name), "mismatch", "{name}: URL bit {bit}");
            counts.request_bits += 1;
        }
    }
    counts
}

#[test]
fn every_vector_is_taken_and_every_flipped_bit_is_refused() {
    let Some(vectors) = vectors() else { return };
    let mut table = String::from("vector signature headers body secret url | no change\n");
    for vector in &vectors {
        let name = vector.name;
        match Attempt::of(vector).verify() {
            Ok(Ingress::Events(events)) => assert_eq!(events.len(), 1, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        let Counts { signature_bits, header_bits, body_bits, secret_bits, request_bits, not_a_change } = every_bit(vector);
        writeln!(table, "{name} {signature_bits} {header_bits} {body_bits} {secret_bits} {request_bits} | {not_a_change}").unwrap();
    }
    insta::assert_snapshot!(table, @r"
    vector signature headers body secret url | no change
    stripe 256 562 544 70 0 | 88
    slack 256 540 544 224 0 | 108
    hubspot_v1 256 448 544 70 0 | 74
    hubspot_v2 256 448 544 70 427 | 135
    hubspot_v3 256 416 544 70 427 | 111
    standard_webhooks 256 455 544 266 0 | 79
    linear 256 448 816 91 0 | 77
    notion 256 500 264 70 0 | 78
    ");
}

#[test]
fn a_wrong_secret_proves_nothing_and_any_right_one_among_several_does() {
    let Some(vectors) = vectors() else { return };
    for vector in &vectors {
        let other = if vector.name == "standard_webhooks" { "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" } else { "another-secret" };
        let genuine = Attempt::of(vector);
        let with = |secrets: &[&str]| Attempt { secrets: secrets.iter().map(|&secret| secret.into()).collect(), ..genuine.clone() };
        assert_eq!(with(&[other]).refusal(vector.name), "mismatch", "{}", vector.name);
        assert!(with(&[other, &vector.secret]).verify().is_ok(), "{}: old and new", vector.name);
        assert!(with(&[&vector.secret, other]).verify().is_ok(), "{}: new and old", vector.name);
        assert_eq!(with(&[]).refusal(vector.name), "Config", "{}: no secret", vector.name);
    }
}

#[test]
fn no_scheme_takes_what_another_one_signed() {
    let Some(vectors) = vectors() else { return };
    let mut refused = 0;
    for vector in &vectors {
        for (judge, verifier, ..) in judges() {
            // The older HubSpot schemes share a header and a verifier, which takes either.
            if judge == vector.name || (judge.starts_with("hubspot_v") && vector.name.starts_with("hubspot_v") && judge != "hubspot_v3") {
                continue;
            }
            let why = Attempt { verifier, ..Attempt::of(vector) }.refusal(&format!("{} by {judge}", vector.name));
            // `Config`: the secret is not even one of that scheme's, which is only looked at where its headers are there.
            assert!(["missing", "malformed"].contains(&why.as_str()), "{} by {judge}: {why}", vector.name);
            refused += 1;
        }
    }
    assert_eq!(refused, 8 * 7 - 4, "pairs that were tried");
}

#[test]
fn older_schemes_do_not_slip_in() {
    let Some(vectors) = vectors() else { return };
    let of = |name: &str| Attempt::of(vectors.iter().find(|vector| vector.name == name).unwrap());
    let with = |name: &str, header: &str, change: &dyn Fn(&str) -> String| {
        let mut attempt = of(name);
        let value = attempt.header_mut(header);
        *value = change(std::str::from_utf8(value).unwrap()).into_bytes();
        attempt.refusal(&format!("{name}: {header} = {}", String::from_utf8_lossy(attempt.clone().header_mut(header))))
    };
    // The right code under the name of another version.
    assert_eq!(with("stripe", "Stripe-Signature", &|text| text.replace("v1=", "v0=")), "malformed");
    assert_eq!(with("stripe", "Stripe-Signature", &|text| text.replace("v1=", "v2=")), "malformed");
    assert_eq!(with("stripe", "Stripe-Signature", &|text| text.replace("t=1795230000", "t=1795230000,t=1795230001")), "malformed");
    assert_eq!(with("stripe", "Stripe-Signature", &|text| format!("v1={},{}", "0".repeat(64), text.replace("v1=", "v0="))), "mismatch");
    assert_eq!(with("slack", "X-Slack-Signature", &|text| text.replace("v0=", "v1=")), "malformed");
    assert_eq!(with("slack", "X-Slack-Signature", &|text| text.replace("v0=", "")), "malformed");
    assert_eq!(with("standard_webhooks", "webhook-signature", &|text| text.replace("v1,", "v1a,")), "mismatch");
    assert_eq!(with("standard_webhooks", "webhook-signature", &|text| text.replace("v1,", "v0,")), "malformed");
    assert_eq!(with("notion", "X-Notion-Signature", &|text| text.replace("sha256=", "sha1=")), "malformed");
    assert_eq!(with("notion", "X-Notion-Signature", &|text| text.replace("sha256=", "")), "malformed");
    // A shortened code is not a code.
    for (name, header, keep) in [("stripe", "Stripe-Signature", 18), ("slack", "X-Slack-Signature", 5), ("linear", "Linear-Signature", 2)] {
        assert_eq!(with(name, header, &|text| text[..keep].to_owned()), "mismatch", "{name}");
    }
    // HubSpot: without the opt-in v1 and v2 are nothing; with it, a wrong v3 is not made good by a right v1 or v2.
    for version in ["hubspot_v1", "hubspot_v2"] {
        let strict = Attempt { verifier: Arc::new(HubSpotSignature::new()), ..of(version) };
        assert_eq!(strict.refusal(version), "missing", "{version}");
        let mut mixed = of("hubspot_v3");
        mixed.verifier = Arc::new(HubSpotSignature::new().with_legacy());
        assert!(mixed.verify().is_ok(), "{version}: v3 is taken with the opt-in, too");
        mixed.headers.extend(of(version).headers);
        *mixed.header_mut("X-HubSpot-Signature-v3") = STANDARD.encode([0; 32]).into_bytes();
        assert_eq!(mixed.refusal(version), "mismatch", "{version}: a wrong v3 beside it");
        let other = if version == "hubspot_v1" { "v2" } else { "v1" };
        let mut misnamed = of(version);
        misnamed.headers.push(("X-HubSpot-Signature-Version".into(), other.into()));
        assert_eq!(misnamed.refusal(version), "mismatch", "{version} called {other}");
    }
}

#[test]
fn a_replay_ends_at_the_window_in_both_directions() {
    let Some(vectors) = vectors() else { return };
    let mut timed = Vec::new();
    for vector in &vectors {
        let at = |apart: i64| {
            let attempt = Attempt::of(vector);
            Attempt { now: attempt.now + apart, ..attempt }
        };
        let Some(window) = vector.window.map(u64::cast_signed) else {
            // Nothing signed says when: only the dedupe by id or digest ends a replay.
            assert!(at(301).verify().is_ok() && at(-301).verify().is_ok(), "{}", vector.name);
            continue;
        };
        timed.push(vector.name);
        for apart in [window - 1, window, 1 - window, -window] {
            assert!(at(apart).verify().is_ok(), "{}: {apart} s", vector.name);
        }
        for apart in [window + 1, -window - 1, 86_400, -86_400] {
            assert_eq!(at(apart).refusal(vector.name), "stale", "{}: {apart} s", vector.name);
        }
        if window == 300 {
            assert!(at(299).verify().is_ok() && at(-299).verify().is_ok(), "{}", vector.name);
            assert_eq!((at(301).refusal(vector.name), at(-301).refusal(vector.name)), ("stale".into(), "stale".into()), "{}", vector.name);
        }
    }
    assert_eq!(timed, ["stripe", "slack", "hubspot_v3", "standard_webhooks", "linear"]);
}

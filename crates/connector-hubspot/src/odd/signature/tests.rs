//! The vendor's own vectors, ours, and every way a signature can be wrong.

use http::{HeaderMap, HeaderName, Method};

use super::*;

const OFFICIAL_SECRET: &str = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy";
const OFFICIAL_URL: &str = "https://www.example.com/webhook_uri";
const OFFICIAL_BODY: &str = "{'example_field':'example_value'}";
const OFFICIAL_MS: u64 = 1_693_657_560_000;

const SECRET: &str = "hs-client-secret-0f3a9c";
const URL: &str = "https://hooks.acme.test/in/hubspot?tenant=t1";
const BODY: &str = r#"[{"eventId":100,"subscriptionId":7001,"portalId":424242,"appId":9001,"occurredAt":1767225600000,"subscriptionType":"contact.propertyChange","attemptNumber":0,"objectId":512,"propertyName":"lifecyclestage","propertyValue":"customer","changeSource":"CRM"}]"#;
const MS: u64 = 1_767_225_600_123;
const V3: &str = "hPQVqyVjdLHSAtXNp/SDf9dvV5tiuIMBWbjurL0vMH0=";

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

struct Delivery<'a> {
    verifier: HubSpotSignature,
    url: &'a str,
    body: &'a str,
    headers: &'a [(&'a str, &'a str)],
    secrets: &'a [&'a str],
    now: u64,
}

impl Delivery<'_> {
    fn verify(&self) -> Result<Ingress> {
        let (headers, body) = (headers(self.headers), Bytes::copy_from_slice(self.body.as_bytes()));
        let request = RawWebhook { method: &Method::POST, url: self.url, query: "", headers: &headers, body: &body };
        let secrets: Vec<SecretString> = self.secrets.iter().map(|secret| SecretString::from(*secret)).collect();
        self.verifier.verify(&request, &secrets, at(self.now))
    }

    fn reason(&self) -> String {
        let error = self.verify().unwrap_err();
        format!("{:?} {}", error.kind(), error.context_value("reason").unwrap_or_default())
    }
}

fn own() -> Delivery<'static> {
    Delivery {
        verifier: HubSpotSignature::new(),
        url: URL,
        body: BODY,
        headers: &[("x-hubspot-signature-v3", V3), ("x-hubspot-request-timestamp", "1767225600123")],
        secrets: &[SECRET],
        now: MS,
    }
}

#[test]
fn a_v3_delivery_becomes_events() {
    let Ok(Ingress::Events(events)) = own().verify() else { panic!("not accepted") };
    let [event] = &events[..] else { panic!("one event") };
    assert_eq!(event.id.as_deref(), Some("424242:contact.propertyChange:512:100:1767225600000"));
    assert_eq!(&*event.event_type, "contact.updated");
    assert_eq!(event.occurred_at, Some(at(1_767_225_600_000)));
    assert_eq!(event.order_key.as_deref(), Some("424242:512"));
    // A redelivery differs only in its attempt number and must be recognised as the same event.
    assert_eq!(event.payload, BODY.trim_matches(['[', ']']).replace("\"attemptNumber\":0,", "").as_bytes());
}

#[test]
fn the_vendor_s_own_v3_vector_is_accepted_up_to_its_body() {
    // The SDK's body is not JSON, so a genuine signature ends in "unreadable", a wrong one in "denied".
    let official = Delivery {
        verifier: HubSpotSignature::new(),
        url: OFFICIAL_URL,
        body: OFFICIAL_BODY,
        headers: &[("x-hubspot-signature-v3", "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="), ("x-hubspot-request-timestamp", "1693657560000")],
        secrets: &[OFFICIAL_SECRET],
        now: OFFICIAL_MS,
    };
    assert_eq!(official.reason(), "Invalid ");
    assert_eq!(Delivery { secrets: &["other"], ..official }.reason(), "Denied mismatch");
}

#[test]
fn v1_and_v2_need_an_opt_in() {
    let signed = [
        ("v2", "4a1b0acdf53dda79a1a7a926bc0ad3842f3a08ca7aa0c1a5b752b4760f699bd9"),
        ("v1", "e22c0f5dc46e2392c8d541a0c72b6880384a475ec2ce486ba7ca84a7d9a6cea5"),
    ];
    for (version, signature) in signed {
        let headers = [("x-hubspot-signature", signature), ("x-hubspot-signature-version", version)];
        let strict = Delivery { headers: &headers, ..own() };
        assert_eq!(strict.reason(), "Denied missing", "{version}");
        let legacy = HubSpotSignature::new().with_legacy();
        assert!(Delivery { verifier: legacy, headers: &headers, ..own() }.verify().is_ok(), "{version}");
        // Without the version header both are tried; with the other one's name it does not fit.
        assert!(Delivery { verifier: legacy, headers: &headers[..1], ..own() }.verify().is_ok(), "{version}");
        let other = if version == "v1" { "v2" } else { "v1" };
        let swapped = [headers[0], ("x-hubspot-signature-version", other)];
        assert_eq!(Delivery { verifier: legacy, headers: &swapped, ..own() }.reason(), "Denied mismatch", "{version}");
    }
    let official = [
        ("v2", "4fe4e3a7d3cf09db53be39d0a58130e2aaba074ec123a9e355b876a689a1c383"),
        ("v1", "69fc6631a867edd4f9e9e627fc5c1148e3fbdd8b21837b6d2b8901c1fa57f750"),
    ];
    for (version, signature) in official {
        let headers = [("x-hubspot-signature", signature), ("x-hubspot-signature-version", version)];
        let delivery = Delivery {
            verifier: HubSpotSignature::new().with_legacy(),
            url: OFFICIAL_URL,
            body: OFFICIAL_BODY,
            headers: &headers,
            secrets: &[OFFICIAL_SECRET],
            now: OFFICIAL_MS,
        };
        assert_eq!(delivery.reason(), "Invalid ", "{version}: genuine, but not JSON");
    }
}

#[test]
fn five_minutes_either_way_and_not_a_millisecond_more() {
    for (now, accepted) in [(MS + 300_000, true), (MS - 300_000, true), (MS + 300_001, false), (MS - 300_001, false)] {
        let delivery = Delivery { now, ..own() };
        if accepted { assert!(delivery.verify().is_ok(), "{now}") } else { assert_eq!(delivery.reason(), "Denied stale", "{now}") }
    }
}

#[test]
fn whatever_was_touched_is_refused() {
    let touched = BODY.replace("customer", "lead");
    assert_eq!(Delivery { body: &touched, ..own() }.reason(), "Denied mismatch");
    assert_eq!(Delivery { url: "https://hooks.acme.test/in/hubspot?tenant=t2", ..own() }.reason(), "Denied mismatch");
    assert_eq!(Delivery { headers: &[("x-hubspot-signature-v3", V3)], ..own() }.reason(), "Denied missing");
    assert_eq!(Delivery { headers: &[], ..own() }.reason(), "Denied missing");
    let garbage = [("x-hubspot-signature-v3", "%%%"), ("x-hubspot-request-timestamp", "1767225600123")];
    assert_eq!(Delivery { headers: &garbage, ..own() }.reason(), "Denied malformed");
    let late = [("x-hubspot-signature-v3", V3), ("x-hubspot-request-timestamp", "yesterday")];
    assert_eq!(Delivery { headers: &late, ..own() }.reason(), "Denied malformed");
    let twice = [("x-hubspot-signature-v3", V3), ("x-hubspot-signature-v3", V3), ("x-hubspot-request-timestamp", "1767225600123")];
    let mut map = HeaderMap::new();
    for (name, value) in twice {
        map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let body = Bytes::from_static(BODY.as_bytes());
    let request = RawWebhook { method: &Method::POST, url: URL, query: "", headers: &map, body: &body };
    assert!(HubSpotSignature::new().verify(&request, &[SECRET.into()], at(MS)).is_err(), "two signatures are none");
}

#[test]
fn any_of_several_secrets_is_enough_and_none_is_a_mistake() {
    assert!(Delivery { secrets: &["new-one", SECRET], ..own() }.verify().is_ok());
    assert_eq!(Delivery { secrets: &[], ..own() }.reason(), "Config ");
}

#[test]
fn an_escaped_url_may_be_signed_as_it_is_or_decoded() {
    let escaped = "https://hooks.acme.test/in?next=%2Fa%20b";
    for signed in [escaped, "https://hooks.acme.test/in?next=/a%20b"] {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("POST{signed}{BODY}{MS}").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let headers = [("x-hubspot-signature-v3", signature.as_str()), ("x-hubspot-request-timestamp", "1767225600123")];
        assert!(Delivery { url: escaped, headers: &headers, ..own() }.verify().is_ok(), "{signed}");
        assert_eq!(Delivery { url: "https://hooks.acme.test/in?next=%2Fa+b", headers: &headers, ..own() }.reason(), "Denied mismatch", "{signed}");
    }
}

#[test]
fn only_the_listed_escapes_are_undone_and_only_once() {
    assert_eq!(signed_url("https%3A%2F%2Fa/%3F%40%21%24%27%28%29%2A%2C%3B"), "https://a/?@!$'()*,;");
    assert_eq!(signed_url("https://a/%20%26%3d%2f%253A%"), "https://a/%20%26%3d%2f%253A%");
    assert_eq!(signed_url("https://a/%E2%9C%93?x=%2Fa"), "https://a/%E2%9C%93?x=/a");
}

#[test]
fn events_are_named_as_this_connector_names_them() {
    for (kind, object_type, name) in [
        ("contact.creation", None, "contact.created"),
        ("company.merge", None, "company.merged"),
        ("deal.associationChange", None, "deal.association_changed"),
        ("ticket.deletion", None, "ticket.deleted"),
        ("contact.privacyDeletion", None, "contact.privacy_deleted"),
        ("object.propertyChange", Some("0-5"), "ticket.updated"),
        ("object.creation", Some("2-77"), "object.creation"),
        ("conversation.newMessage", None, "conversation.newMessage"),
        ("odd", None, "odd"),
    ] {
        assert_eq!(event_name(kind, object_type), name);
    }
}

#[test]
fn several_portals_in_one_delivery_stay_apart() {
    let body = Bytes::from_static(br#" [ {"eventId":1,"portalId":1,"objectId":5,"subscriptionType":"deal.creation"}, {"eventId":1,"portalId":2,"objectId":5,"subscriptionType":"deal.creation"},{"portalId":2} ]"#);
    let events = events(&body).unwrap();
    assert_eq!(events.iter().map(|event| event.order_key.as_deref()).collect::<Vec<_>>(), [Some("1:5"), Some("2:5"), None]);
    assert_ne!(events[0].id, events[1].id);
    assert_eq!(events[2].id, None, "without an event id the pipeline falls back to a hash of the payload");
    for unreadable in ["", "{", "[1]", "7", "null"] {
        assert_eq!(super::events(&Bytes::from_static(unreadable.as_bytes())).unwrap_err().kind(), ErrorKind::Invalid, "{unreadable}");
    }
}

#[test]
fn signatures_made_by_the_vendor_s_own_client_are_accepted() {
    let shared =
        std::env::var_os("CONNECTORS_SHARED").map_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), Into::into);
    let Ok(text) = std::fs::read_to_string(shared.join("specs/webhook_vectors.json")) else {
        assert!(std::env::var_os("CI").is_none(), "the shared vectors are needed in CI; set CONNECTORS_SHARED");
        eprintln!("skipped: the shared webhook vectors are not here");
        return;
    };
    let vectors: Value = serde_json::from_str(&text).unwrap();
    for version in ["v1", "v2", "v3"] {
        let vector = &vectors[format!("hubspot_{version}")];
        let headers: Vec<(String, String)> =
            vector["headers"].as_object().unwrap().iter().map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap().to_owned())).collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let delivery = Delivery {
            verifier: HubSpotSignature::new().with_legacy(),
            url: vector["uri"].as_str().unwrap(),
            body: vector["body"].as_str().unwrap(),
            headers: &headers,
            secrets: &[vector["secret"].as_str().unwrap()],
            now: 1_795_230_000_000,
        };
        assert!(matches!(delivery.verify(), Ok(Ingress::Events(events)) if events.len() == 1), "{version}");
        assert_eq!(Delivery { secrets: &["another"], ..delivery }.reason(), "Denied mismatch", "{version}");
    }
}

//! The schemes on real heads, how one is chosen, and that secrets stay where they belong.

use connector_core::{clock::ManualClock, context::Connection, credential::MemoryCredentials, error::ErrorKind};
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::*;
use crate::testing::FakeEndpoint;

/// Authenticates a POST with the credential of these fields, and gives back its headers.
async fn headers(specs: Value, fields: &[(&str, &str)]) -> Result<HeaderMap> {
    authorize(specs, fields, &[]).await.map(|(headers, _)| headers)
}

async fn authorize(specs: Value, fields: &[(&str, &str)], settings: &[(&str, &str)]) -> Result<(HeaderMap, CredentialUse)> {
    let connection = Connection::new("erp", "https://api.example").unwrap().with_credential("crm");
    let connection = settings.iter().fold(connection, |connection, (key, value)| connection.with_setting(*key, *value));
    let store = MemoryCredentials::with("crm", Credential::new(fields.iter().copied()));
    authorize_over(connection, specs, store).await
}

async fn authorize_over(connection: Connection, specs: Value, store: MemoryCredentials) -> Result<(HeaderMap, CredentialUse)> {
    let specs: Vec<AuthSpec> = serde_json::from_value(specs).unwrap();
    let mut deps = AuthDeps::new(FakeEndpoint::issuing(3600));
    deps.clock = Arc::new(ManualClock::at_unix(1_700_000_000));
    let auth = Auth::for_spec(&specs, Arc::new(store), deps);
    let mut head = Head { method: Method::POST, url: "https://api.example/v1/tx?a=1&b=%2F#f".parse().unwrap(), headers: HeaderMap::new() };
    head.headers.insert("authorization", HeaderValue::from_static("placed before"));
    let outcome = auth.authorize(&CallCx::new(Arc::new(connection)), &mut head, &Bytes::from_static(br#"{"a":1}"#)).await;
    if outcome.is_err() {
        assert_eq!((head.headers.len(), sent(&head.headers, "authorization")), (1, "placed before"), "a failure leaves the head as it was");
    }
    outcome.map(|used| (head.headers, used))
}

#[track_caller]
fn sent<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers[name].to_str().unwrap()
}

#[tokio::test]
async fn a_bearer_token_has_its_word_before_it() {
    for (spec, expected) in [
        (json!([{ "type": "bearer" }]), "Bearer tok-canary"),
        (json!([{ "type": "bearer", "prefix": "Token" }]), "Token tok-canary"),
        (json!([{ "type": "bearer", "prefix": "Token " }]), "Token tok-canary"),
    ] {
        let headers = headers(spec, &[("token", "tok-canary")]).await.unwrap();
        assert_eq!(sent(&headers, "authorization"), expected);
        assert!(headers["authorization"].is_sensitive() && !format!("{headers:?}").contains("canary"));
    }
}

#[tokio::test]
async fn an_api_key_goes_into_its_header() {
    let headers = headers(json!([{ "type": "api_key", "header": "X-Api-Key", "prefix": "GenieKey " }]), &[("key", "k")]).await.unwrap();
    assert_eq!(sent(&headers, "x-api-key"), "GenieKey k");
    assert!(headers["x-api-key"].is_sensitive());
}

#[tokio::test]
async fn basic_is_base64_of_utf8() {
    let headers = headers(json!([{ "type": "basic" }]), &[("username", "ada"), ("password", "pä:ss")]).await.unwrap();
    assert_eq!(sent(&headers, "authorization"), "Basic YWRhOnDDpDpzcw==");
    assert!(headers["authorization"].is_sensitive());
    let key_alone = self::headers(json!([{ "type": "basic" }]), &[("username", "ada"), ("password", "")]).await.unwrap();
    assert_eq!(sent(&key_alone, "authorization"), "Basic YWRhOg==");
}

#[tokio::test]
async fn secrets_a_header_cannot_carry_are_named_and_not_shown() {
    let bearer = json!([{ "type": "bearer" }]);
    let basic = json!([{ "type": "basic" }]);
    for (spec, fields, hint) in [
        (&bearer, vec![("token", "tok-canary\n")], "white space or a line break at its end"),
        (&bearer, vec![("token", "tok\r\nx-evil: canary")], "a control character"),
        (&bearer, vec![("token", "  ")], "is empty"),
        (&basic, vec![("username", "a:b-canary"), ("password", "p")], "has a colon"),
        (&basic, vec![("username", "a"), ("password", "p-canary\n")], "`password` has a control character"),
    ] {
        let error = headers(spec.clone(), &fields).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(hint) && error.message().contains("`crm`"), "{error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn a_request_is_signed_as_the_manifest_says() {
    let spec = |more: Value| {
        let mut spec = json!({
            "type": "hmac", "header": "X-Signature", "message": "{timestamp}.{method}.{path}.{body}",
            "timestamp_header": "X-Timestamp", "key_id_header": "X-Key-Id",
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([spec])
    };
    let fields = [("secret", "k3y"), ("key_id", "k1")];
    // Computed with Python's hmac: sha256 over `1700000000.POST./v1/tx?a=1&b=%2F.{"a":1}`.
    let hex = headers(spec(json!({ "prefix": "v1=" })), &fields).await.unwrap();
    assert_eq!(sent(&hex, "x-signature"), "v1=040fbb4df5be69f5ae44696fb914cbd4e6498de9a341c00c9046a327d0fd4499");
    assert_eq!((sent(&hex, "x-timestamp"), sent(&hex, "x-key-id")), ("1700000000", "k1"));
    let base64 = headers(spec(json!({ "encoding": "base64" })), &fields).await.unwrap();
    assert_eq!(sent(&base64, "x-signature"), "BA+7TfW+afWuRGlvuRTL1OZJjemjQcAMkEajJ9D9RJk=");
    assert_eq!(sent(&base64, "authorization"), "placed before");
}

#[tokio::test]
async fn a_nonce_is_new_each_time_and_part_of_the_message() {
    let spec = json!([{ "type": "hmac", "header": "X-Signature", "message": "{nonce}", "nonce_header": "X-Nonce" }]);
    let first = headers(spec.clone(), &[("secret", "k")]).await.unwrap();
    let second = headers(spec, &[("secret", "k")]).await.unwrap();
    assert_eq!(sent(&first, "x-nonce").len(), 32);
    assert_ne!(sent(&first, "x-nonce"), sent(&second, "x-nonce"));
    assert_ne!(sent(&first, "x-signature"), sent(&second, "x-signature"));
}

#[tokio::test]
async fn a_signature_can_be_added_to_another_scheme() {
    let spec = json!([{ "type": "hmac", "header": "X-HMAC-Signature", "message": "{body}",
        "also": { "type": "oauth2", "flow": "client_credentials", "token_url": "/token" } }]);
    let fields = [("secret", "k"), ("client_id", "id"), ("client_secret", "s")];
    let (headers, used) = authorize(spec, &fields, &[]).await.unwrap();
    assert_eq!(sent(&headers, "authorization"), "Bearer t1");
    assert_eq!(sent(&headers, "x-hmac-signature").len(), 64);
    assert!(used.generation > 0);
}

#[tokio::test]
async fn mistakes_in_a_scheme_are_config_errors_when_it_is_used() {
    for (spec, hint) in [
        (json!({ "type": "api_key", "header": "not a header" }), "`not a header` is not a header name"),
        (json!({ "type": "hmac", "header": "X-S", "message": "{timestamp}" }), "`timestamp_header`"),
        (json!({ "type": "hmac", "header": "X-S", "message": "{nonce}" }), "`nonce_header`"),
        (json!({ "type": "hmac", "header": "X-S", "message": "{host}" }), "knows no `{host}`"),
        (json!({ "type": "hmac", "header": "X-S", "message": "{body" }), "without its `}`"),
        (json!({ "type": "hmac", "header": "X-S", "message": "" }), "is empty"),
    ] {
        let error = headers(json!([spec]), &[("key", "k"), ("secret", "s")]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(hint), "{error}");
    }
}

fn hubspot() -> Value {
    json!([
        { "type": "bearer", "label": "private app token" },
        { "type": "basic" },
        { "type": "oauth2", "flow": "client_credentials", "token_url": "/token" },
    ])
}

const EVERYTHING: [(&str, &str); 5] = [("token", "tok"), ("username", "u"), ("password", "p"), ("client_id", "c"), ("client_secret", "s")];

#[tokio::test]
async fn the_first_scheme_that_fits_is_used_unless_the_connection_names_one() {
    for (fields, settings, expected) in [
        (&EVERYTHING[..], &[][..], "Bearer tok"),
        (&EVERYTHING[1..], &[], "Basic dTpw"),
        (&EVERYTHING[3..], &[], "Bearer t1"),
        (&EVERYTHING, &[("auth", "basic")], "Basic dTpw"),
        (&EVERYTHING, &[("auth", "oauth2")], "Bearer t1"),
        (&EVERYTHING, &[("auth", "client_credentials")], "Bearer t1"),
        (&EVERYTHING, &[("auth", "none")], "placed before"),
    ] {
        let (headers, _) = authorize(hubspot(), fields, settings).await.unwrap();
        assert_eq!(sent(&headers, "authorization"), expected);
    }
}

#[tokio::test]
async fn what_is_missing_is_said_in_the_vendors_words() {
    let incomplete = authorize(hubspot(), &[("client_id", "id-canary")], &[]).await.unwrap_err();
    assert_eq!(
        incomplete.message(),
        "credential `crm` has `client_id`; erp needs `token` (private app token), or `username` and `password` (HTTP Basic), \
         or `client_id` and `client_secret` (OAuth 2.0 client credentials)"
    );
    let unknown = authorize(hubspot(), &EVERYTHING, &[("auth", "kerberos")]).await.unwrap_err();
    assert_eq!(unknown.message(), "connection `erp` asks for `auth: kerberos`; erp offers `bearer`, `basic`, `oauth2`");
    let nameless = Connection::new("erp", "https://api.example").unwrap();
    let unnamed = authorize_over(nameless, hubspot(), MemoryCredentials::new()).await.unwrap_err();
    assert!(unnamed.message().starts_with("connection `erp` names no credential; erp needs `token`"), "{unnamed}");
}

#[tokio::test]
async fn without_a_credential_an_open_api_is_called_as_it_is() {
    let nameless = || Connection::new("erp", "https://api.example").unwrap();
    for specs in [json!([]), json!([{ "type": "none" }]), json!([{ "type": "bearer" }, { "type": "none" }])] {
        let (headers, used) = authorize_over(nameless(), specs, MemoryCredentials::new()).await.unwrap();
        assert_eq!((sent(&headers, "authorization"), used), ("placed before", CredentialUse::FIXED));
    }
    // A hub's connection always names one, also where there is none to keep.
    let named = || Connection::new("erp", "https://api.example").unwrap().with_credential("erp");
    let (headers, used) = authorize_over(named(), json!([{ "type": "none" }]), MemoryCredentials::new()).await.unwrap();
    assert_eq!((sent(&headers, "authorization"), used), ("placed before", CredentialUse::FIXED));
    let error = authorize_over(named(), json!([{ "type": "bearer" }, { "type": "none" }]), MemoryCredentials::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "one that is named for a choice must be there");
}

#[tokio::test]
async fn a_scheme_that_needs_a_person_is_passed_over_or_says_so() {
    let code = json!({ "type": "oauth2", "flow": "authorization_code", "token_url": "/t" });
    let fields = [("client_id", "c"), ("client_secret", "s")];
    let error = headers(json!([code]), &fields).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with("erp is not connected yet"), "{error}");
    let both = json!([code, { "type": "oauth2", "flow": "client_credentials", "token_url": "/token" }]);
    assert_eq!(sent(&headers(both.clone(), &fields).await.unwrap(), "authorization"), "Bearer t1");
    let consented = [fields[0], fields[1], ("access_token", "consented")];
    assert_eq!(sent(&headers(both, &consented).await.unwrap(), "authorization"), "Bearer consented");
}

/// A provider whose credential has a version before this one.
struct Overlapping {
    auth: Arc<dyn AuthProvider>,
    cx: CallCx,
}

impl Overlapping {
    fn new(spec: &Value, new: &[(&str, &str)], old: &[(&str, &str)]) -> Self {
        let mut credential = Credential::new(new.iter().copied()).with_previous(Some(Arc::new(Credential::new(old.iter().copied()))));
        credential.version = 2;
        let specs: Vec<AuthSpec> = serde_json::from_value(json!([spec])).unwrap();
        let auth = Auth::for_spec(&specs, Arc::new(MemoryCredentials::with("crm", credential)), AuthDeps::new(FakeEndpoint::issuing(1)));
        Self { auth, cx: CallCx::new(Arc::new(Connection::new("erp", "https://api.example").unwrap().with_credential("crm"))) }
    }

    async fn ask(&self) -> (HeaderMap, CredentialUse) {
        let mut head = Head { method: Method::POST, url: "https://api.example/".parse().unwrap(), headers: HeaderMap::new() };
        let used = self.auth.authorize(&self.cx, &mut head, &Bytes::new()).await.unwrap();
        (head.headers, used)
    }

    /// One call to a vendor that takes what `accepts` says: how many requests it took, and whether it worked.
    async fn call(&self, accepts: impl Fn(&HeaderMap) -> bool) -> (u32, bool) {
        let (headers, used) = self.ask().await;
        if accepts(&headers) {
            return (1, true);
        }
        if !self.auth.rejected(&self.cx, &used).await.unwrap() {
            return (1, false);
        }
        (2, accepts(&self.ask().await.0))
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_rotation_the_version_before_is_tried_once_and_goes_first_for_a_minute() {
    let hmac = json!({ "type": "hmac", "header": "x-key", "message": "{method}" });
    for (spec, header, new, old, right) in [
        (json!({ "type": "bearer" }), "authorization", vec![("token", "new")], vec![("token", "old")], "Bearer old"),
        (json!({ "type": "api_key", "header": "x-key" }), "x-key", vec![("key", "new")], vec![("key", "old")], "old"),
        (
            json!({ "type": "basic" }),
            "authorization",
            vec![("username", "u"), ("password", "n")],
            vec![("username", "u"), ("password", "o")],
            "Basic dTpv",
        ),
        // Computed with Python's hmac: sha256 over `POST` with the key `old`.
        (hmac, "x-key", vec![("secret", "new")], vec![("secret", "old")], "a3593fd3b31987d47045225d1169f6f5bad24d50ad04d648c7a30c55b19a8838"),
    ] {
        let rig = Overlapping::new(&spec, &new, &old);
        let vendor_keeps_old = |headers: &HeaderMap| sent(headers, header) == right;
        let vendor_took_new = |headers: &HeaderMap| sent(headers, header) != right;
        assert_eq!(rig.call(vendor_keeps_old).await, (2, true), "{spec}");
        assert_eq!(rig.call(vendor_keeps_old).await, (1, true), "remembered");
        assert_eq!(rig.call(vendor_took_new).await, (2, true), "the other way round");
        assert_eq!(rig.call(vendor_took_new).await, (1, true));
        assert_eq!(rig.call(vendor_keeps_old).await, (2, true));
        tokio::time::sleep(std::time::Duration::from_secs(61)).await;
        assert_eq!(rig.call(vendor_took_new).await, (1, true), "after a minute the newest goes first again");
        assert_eq!(rig.call(|_| false).await, (2, false), "one failed attempt more than without a rotation");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_before_that_is_the_same_here_is_not_worth_a_request() {
    let rig = Overlapping::new(&json!({ "type": "bearer" }), &[("token", "same"), ("webhook_secret", "new")], &[("token", "same")]);
    assert_eq!(rig.call(|_| false).await, (1, false));
}

#[tokio::test]
async fn a_fixed_secret_is_worth_a_retry_only_if_a_new_one_was_stored() {
    let store = Arc::new(MemoryCredentials::with("crm", Credential::new([("token", "old")])));
    let specs: Vec<AuthSpec> = serde_json::from_value(json!([{ "type": "bearer" }])).unwrap();
    let auth = Auth::for_spec(&specs, store.clone(), AuthDeps::new(FakeEndpoint::issuing(1)));
    let cx = CallCx::new(Arc::new(Connection::new("erp", "https://api.example").unwrap().with_credential("crm")));
    let mut head = Head { method: Method::GET, url: "https://api.example/".parse().unwrap(), headers: HeaderMap::new() };
    let used = auth.authorize(&cx, &mut head, &Bytes::new()).await.unwrap();
    assert!(!auth.rejected(&cx, &used).await.unwrap());
    store.set("default".into(), "crm", Credential::new([("token", "new")]));
    assert!(auth.rejected(&cx, &used).await.unwrap());
}

#[test]
fn debug_shows_kinds_only() {
    let specs: Vec<AuthSpec> = serde_json::from_value(hubspot()).unwrap();
    let store = Arc::new(MemoryCredentials::with("crm", Credential::new([("token", "tok-canary")])));
    let auth = Auth::for_spec(&specs, store, AuthDeps::new(FakeEndpoint::issuing(1)));
    assert_eq!(format!("{auth:?}"), r#"Auth(["bearer", "basic", "oauth2"])"#);
}

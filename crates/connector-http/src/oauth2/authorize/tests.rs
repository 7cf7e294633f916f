//! The way to the vendor's sign-in page and back, with everything that can be wrong about it.

use std::collections::{BTreeMap, HashSet};

use connector_core::error::ErrorKind;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;

fn spec(more: Value) -> OAuth2Spec {
    let mut spec = json!({ "flow": "authorization_code", "authorize_url": "https://id.example/{org}/authorize?tenant=1",
        "base_scopes": ["offline_access"], "scopes": ["{root}/read"], "authorize_params": { "access_type": "offline", "audience": "{root}" } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn connection() -> Connection {
    Connection::new("crm", "https://api.example/v1").unwrap().with_setting("org", "acme/../x").with_setting("root", "https://graph.example")
}

fn ask<'a>(scopes: &'a [String]) -> AuthorizeAsk<'a> {
    AuthorizeAsk { redirect_uri: "http://127.0.0.1:8912/oauth/callback", state: "s-canary", scopes, resource: None }
}

fn query(url: &Url) -> BTreeMap<String, String> {
    let pairs: Vec<_> = url.query_pairs().into_owned().collect();
    let map: BTreeMap<_, _> = pairs.iter().cloned().collect();
    assert_eq!(map.len(), pairs.len(), "no parameter comes twice");
    map
}

#[test]
fn the_vector_of_rfc_7636() {
    assert_eq!(challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

#[test]
fn a_request_says_everything_once_and_settings_stay_in_their_place() {
    let wanted = ["tickets".to_owned(), "offline_access".to_owned(), "tickets".to_owned()];
    let mut asked = ask(&wanted);
    asked.resource = Some("https://api.example/");
    let request = authorize_request(&spec(json!({})), &connection(), "app&x=1", None, &asked).unwrap();
    assert_eq!((request.url.host_str(), request.url.path()), (Some("id.example"), "/acme%2F..%2Fx/authorize"));
    let query = query(&request.url);
    let expected = [
        ("tenant", "1"),
        ("response_type", "code"),
        ("client_id", "app&x=1"),
        ("redirect_uri", "http://127.0.0.1:8912/oauth/callback"),
        ("scope", "offline_access tickets"),
        ("state", "s-canary"),
        ("code_challenge", &challenge(request.verifier.expose_secret())),
        ("code_challenge_method", "S256"),
        ("resource", "https://api.example/"),
        ("access_type", "offline"),
        ("audience", "https://graph.example"),
    ];
    assert_eq!(query, expected.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
    assert_eq!(request.verifier.expose_secret().len(), 64);
    let shown = format!("{request:?}");
    assert!(!shown.contains("canary") && !shown.contains(request.verifier.expose_secret()), "{shown}");
}

#[test]
fn separators_defaults_and_servers_without_pkce() {
    let comma = authorize_request(&spec(json!({ "scope_separator": "comma", "without_pkce": true })), &connection(), "app", None, &ask(&[])).unwrap();
    let query = query(&comma.url);
    assert_eq!(query["scope"], "offline_access,https://graph.example/read");
    assert!(!query.contains_key("code_challenge") && comma.verifier.expose_secret().is_empty());
    let wanted = ["Mail.Read".to_owned(), "Mail.ReadBasic.All".to_owned(), "Mail.ReadBasic".to_owned()];
    let named = spec(json!({ "scope_names": { "Mail.ReadBasic.All": "Mail.ReadBasic" } }));
    let named = authorize_request(&named, &connection(), "app", None, &ask(&wanted)).unwrap();
    assert_eq!(named.scopes, ["offline_access", "Mail.Read", "Mail.ReadBasic"]);
    let none = spec(json!({ "base_scopes": [], "scopes": [] }));
    let none = authorize_request(&none, &connection(), "app", None, &ask(&[])).unwrap();
    assert!(!none.url.query_pairs().any(|(name, _)| name == "scope"));
}

#[test]
fn only_web_addresses_are_opened_and_only_safe_ones_returned_to() {
    let error = |more: Value| authorize_request(&spec(more), &connection(), "app", None, &ask(&[])).unwrap_err();
    for bad in ["javascript:alert(1)", "http://id.example/a", "https://u:p@id.example/a", "https://{nobody}/a", "file:///a"] {
        assert_eq!(error(json!({ "authorize_url": bad })).kind(), ErrorKind::Config, "{bad}");
    }
    assert!(error(json!({ "authorize_url": null })).message().contains("names no authorization URL"));
    assert!(error(json!({ "authorize_params": { "state": "x" } })).message().contains("`state`"));
    for bad in ["http://hub.example/cb", "https://hub.example/cb#x", "/oauth/callback", "https://Hub.example/cb", "javascript:1"] {
        let asked = AuthorizeAsk { redirect_uri: bad, ..ask(&[]) };
        assert_eq!(authorize_request(&spec(json!({})), &connection(), "app", None, &asked).unwrap_err().kind(), ErrorKind::Config, "{bad}");
    }
}

#[test]
fn a_sandboxs_sign_in_page_stands_for_the_vendors() {
    let connection = connection().with_setting(AUTHORIZE_URL_SETTING, "http://127.0.0.1:4010/oauth/authorize");
    let request = authorize_request(&spec(json!({})), &connection, "app", None, &ask(&[])).unwrap();
    assert!(request.url.as_str().starts_with("http://127.0.0.1:4010/oauth/authorize?response_type=code"), "{}", request.url);
}

#[test]
fn states_and_verifiers_never_repeat() {
    let states: HashSet<_> = (0..256).map(|_| new_state().unwrap()).collect();
    assert!(states.len() == 256 && states.iter().all(|state| state.len() == 43));
    let verifiers: HashSet<_> = (0..256).map(|_| verifier().unwrap()).collect();
    assert_eq!(verifiers.len(), 256);
}

fn pairs(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

#[test]
fn a_code_comes_back() {
    let RedirectAnswer::Code(code) =
        read_redirect(&pairs("code=c1&state=s&session_state=x&iss=https://id.example"), Some("https://id.example"), true).unwrap()
    else {
        panic!("a code was expected")
    };
    assert_eq!(code.expose_secret(), "c1");
    assert_eq!(redirect_state(&pairs("state=s")).unwrap(), "s");
    // Who asked without knowing the issuer cannot compare it.
    assert!(read_redirect(&pairs("code=c1&state=s&iss=https://id.example"), None, false).is_ok());
}

#[test]
fn a_redirect_that_is_not_clear_is_dropped_without_being_shown() {
    for (query, required) in [
        ("", false),
        ("state=s-canary", false),
        ("code=c-canary", false),
        ("code=&state=s", false),
        ("code=c-canary&code=d-canary&state=s", false),
        ("code=c-canary&state=s&state=t", false),
        ("code=c-canary&state=s&error=access_denied", false),
        ("code=c-canary&state=s&iss=https://evil-canary.example", false),
        ("code=c-canary&state=s&iss=https://id.example/", false),
        ("code=c-canary&state=s&iss=https://id.example&iss=https://id.example", false),
        ("error=access_denied&state=s&iss=https://evil-canary.example", false),
        ("code=c-canary&state=s", true),
    ] {
        let error = read_redirect(&pairs(query), Some("https://id.example"), required).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{query}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}

#[test]
fn a_vendors_refusal_is_told_in_scrubbed_words() {
    let query = "state=s&error=access_denied%1b%5b2J&error_description=ana%40acme.test+said+no%0a%1b%5d0%3bx+key%3Dabcdef0123456789abcdef";
    let RedirectAnswer::Refused { error, description } = read_redirect(&pairs(query), None, false).unwrap() else { panic!("a refusal was expected") };
    let description = description.unwrap();
    assert!(error.starts_with("access_denied") && !error.contains('\u{1b}'), "{error}");
    assert!(!description.contains("ana@") && !description.contains("abcdef0123") && !description.chars().any(char::is_control), "{description}");
    assert!(description.contains("said no"), "{description}");
}

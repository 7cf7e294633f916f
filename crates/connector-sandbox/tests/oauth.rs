//! Consent at the fakes, as a browser and a client see it: codes, PKCE, renewal in its three kinds, burnt tokens, revocation, scopes.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod support;

use base64::Engine as _;
use connector_sandbox::{EffectKind, Renewal, Sandbox, WallClock, known};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use support::{Caller, Got, bearer};

const REDIRECT: &str = "http://127.0.0.1:8912/oauth/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const SCOPES: &str = "oauth crm.objects.contacts.read tickets";

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn browser() -> Caller {
    Caller::new("", &[("content-type", "application/x-www-form-urlencoded")])
}

fn asked() -> Vec<(&'static str, String)> {
    let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    vec![
        ("response_type", "code".into()),
        ("client_id", known::HUBSPOT_CLIENT_ID.into()),
        ("redirect_uri", REDIRECT.into()),
        ("scope", SCOPES.into()),
        ("state", "st\"<ate".into()),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256".into()),
    ]
}

/// Presses a button on the consent page and gives the parameters of the redirect.
async fn decide(sandbox: &Sandbox, vendor: &str, more: &[(&str, &str)], asked: &[(&str, String)]) -> Vec<(String, String)> {
    let mut pairs: Vec<(&str, &str)> = asked.iter().map(|(key, value)| (*key, value.as_str())).collect();
    pairs.extend_from_slice(more);
    let got = browser().raw("POST", &sandbox.authorize_url(vendor).unwrap(), form(&pairs)).await.unwrap();
    assert_eq!(got.status, 302, "{}", String::from_utf8_lossy(&got.bytes));
    let url = url::Url::parse(got.header("location")).unwrap();
    assert!(url.as_str().starts_with(REDIRECT));
    url.query_pairs().into_owned().collect()
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> &'a str {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
}

async fn code(sandbox: &Sandbox) -> String {
    let granted = [("decision", "allow"), ("granted", "oauth"), ("granted", "crm.objects.contacts.read")];
    value(&decide(sandbox, "hubspot", &granted, &asked()).await, "code").to_owned()
}

async fn token(sandbox: &Sandbox, more: &[(&str, &str)]) -> Got {
    let mut pairs = vec![("client_id", known::HUBSPOT_CLIENT_ID), ("client_secret", known::HUBSPOT_CLIENT_SECRET)];
    pairs.extend_from_slice(more);
    browser().raw("POST", &sandbox.token_url("hubspot").unwrap(), form(&pairs)).await.unwrap()
}

async fn redeem(sandbox: &Sandbox, code: &str) -> Got {
    let pairs = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", REDIRECT), ("code_verifier", VERIFIER)];
    token(sandbox, &pairs).await
}

async fn renew(sandbox: &Sandbox, refresh: &str) -> Got {
    token(sandbox, &[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await
}

fn text(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap().to_owned()
}

async fn start() -> Sandbox {
    Sandbox::builder().start("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn the_consent_page_shows_what_is_asked_and_escapes_it() {
    let sandbox = start().await;
    let pairs = asked();
    let query = form(&pairs.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>());
    let got = browser().get(&format!("{}?{query}", sandbox.authorize_url("hubspot").unwrap())).await;
    let html = String::from_utf8(got.bytes.to_vec()).unwrap();
    assert_eq!(got.status, 200);
    assert!(html.contains("value=\"crm.objects.contacts.read\" checked") && html.contains("st&quot;&lt;ate") && !html.contains("st\"<ate"), "{html}");
    assert!(got.header("content-security-policy").starts_with("default-src 'none'"));
    // Nobody is sent off this machine, and no unknown app asks.
    for (key, bad) in [("redirect_uri", "https://evil.example/cb"), ("redirect_uri", "javascript:alert(1)"), ("client_id", "x")] {
        let mut pairs: Vec<_> = asked();
        pairs.iter_mut().find(|(name, _)| *name == key).unwrap().1 = bad.into();
        let query = form(&pairs.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>());
        let got = browser().get(&format!("{}?{query}", sandbox.authorize_url("hubspot").unwrap())).await;
        assert_eq!((got.status, got.header("location")), (400, ""), "{bad}");
    }
}

#[tokio::test]
async fn a_code_is_good_once_with_its_verifier_and_redirect() {
    let sandbox = start().await;
    let body = redeem(&sandbox, &code(&sandbox).await).await.expect(200);
    assert_eq!((&body["hub_id"], &body["scopes"]), (&json!(424_242), &json!(["oauth", "crm.objects.contacts.read"])));
    let caller = bearer(sandbox.base_url("hubspot"), &text(&body, "access_token"));
    assert_eq!(caller.get("/crm/v3/objects/contacts").await.status, 200);
    // What was not granted is refused by name.
    let missing = caller.get("/crm/v3/objects/tickets").await.expect(403);
    assert_eq!((&missing["category"], &missing["errors"][0]["context"]["requiredGranularScopes"]), (&json!("MISSING_SCOPES"), &json!(["tickets"])));
    assert_eq!(caller.post("/crm/v3/objects/contacts/search", json!({"limit": 1})).await.status, 200);
    assert_eq!(caller.post("/crm/v3/objects/contacts", json!({"properties": {}})).await.status, 403);

    for wrong in [("code_verifier", "x"), ("redirect_uri", "http://127.0.0.1:8912/other")] {
        let code = code(&sandbox).await;
        let mut pairs = vec![("grant_type", "authorization_code"), ("code", &*code), ("redirect_uri", REDIRECT), ("code_verifier", VERIFIER)];
        pairs.iter_mut().find(|(name, _)| *name == wrong.0).unwrap().1 = wrong.1;
        assert_eq!(token(&sandbox, &pairs).await.expect(400)["error"], "invalid_grant");
        // A wrong try spends it.
        assert_eq!(redeem(&sandbox, &code).await.status, 400);
    }
    // A code used twice ends what the first use gave.
    let twice = code(&sandbox).await;
    let first = redeem(&sandbox, &twice).await.expect(200);
    assert_eq!(redeem(&sandbox, &twice).await.expect(400)["status"], "BAD_AUTH_CODE");
    assert_eq!(renew(&sandbox, &text(&first, "refresh_token")).await.expect(400)["status"], "BAD_REFRESH_TOKEN");
    assert_eq!(bearer(sandbox.base_url("hubspot"), &text(&first, "access_token")).get("/crm/v3/objects/contacts").await.status, 401);
}

#[tokio::test]
async fn saying_no_comes_back_as_an_error_with_the_state() {
    let sandbox = start().await;
    let pairs = decide(&sandbox, "hubspot", &[("decision", "deny")], &asked()).await;
    assert_eq!((value(&pairs, "error"), value(&pairs, "state"), value(&pairs, "code")), ("access_denied", "st\"<ate", ""));
    let mut plain = asked();
    plain.iter_mut().find(|(name, _)| *name == "code_challenge_method").unwrap().1 = "plain".into();
    assert_eq!(value(&decide(&sandbox, "hubspot", &[("decision", "allow")], &plain).await, "error"), "invalid_request");
    assert_eq!(sandbox.ledger().count(EffectKind::ConsentGiven), 0);
}

#[tokio::test]
async fn renewals_keep_add_or_burn_and_a_burnt_token_ends_the_grant() {
    let sandbox = start().await;
    let first = text(&redeem(&sandbox, &code(&sandbox).await).await.expect(200), "refresh_token");
    assert_eq!(text(&renew(&sandbox, &first).await.expect(200), "refresh_token"), first, "HubSpot keeps it");

    sandbox.hubspot().set_renewal(Renewal::Adds);
    let second = text(&renew(&sandbox, &first).await.expect(200), "refresh_token");
    assert_ne!(second, first);
    assert_eq!(renew(&sandbox, &first).await.status, 200, "the old one still works");

    sandbox.hubspot().set_renewal(Renewal::Burns);
    let third = renew(&sandbox, &second).await.expect(200);
    let reuse = renew(&sandbox, &second).await.expect(400);
    assert_eq!(reuse["error"], "invalid_grant");
    assert_eq!(renew(&sandbox, &text(&third, "refresh_token")).await.status, 400, "the family is gone");
    assert_eq!(bearer(sandbox.base_url("hubspot"), &text(&third, "access_token")).get("/crm/v3/objects/contacts").await.status, 401);

    let grants = |kind| sandbox.ledger().of_kind(kind).iter().map(|effect| effect.target.clone()).collect::<Vec<_>>();
    assert_eq!(grants(EffectKind::TokenIssued), ["authorization_code", "refresh_token", "refresh_token", "refresh_token", "refresh_token"]);
    assert_eq!(grants(EffectKind::TokenRefused), ["refresh_token", "refresh_token"]);
    let shown = serde_json::to_string(&sandbox.ledger().effects()).unwrap();
    assert!(!shown.contains(&first) && !shown.contains(known::HUBSPOT_CLIENT_SECRET), "the ledger holds no tokens");
}

#[tokio::test]
async fn revocation_ends_a_grant_and_unknown_tokens_are_no_error() {
    let sandbox = start().await;
    let body = redeem(&sandbox, &code(&sandbox).await).await.expect(200);
    let url = format!("{}/revoke", sandbox.token_url("hubspot").unwrap());
    let revoke = async |token: &str, secret: &str| {
        let pairs = [("token", token), ("client_id", known::HUBSPOT_CLIENT_ID), ("client_secret", secret)];
        browser().raw("POST", &url, form(&pairs)).await.unwrap().status
    };
    assert_eq!(revoke(&text(&body, "refresh_token"), "wrong").await, 400);
    assert_eq!(renew(&sandbox, &text(&body, "refresh_token")).await.status, 200);
    assert_eq!(revoke("nobody knows it", known::HUBSPOT_CLIENT_SECRET).await, 200);
    assert_eq!(revoke(&text(&body, "refresh_token"), known::HUBSPOT_CLIENT_SECRET).await, 200);
    assert_eq!(renew(&sandbox, &text(&body, "refresh_token")).await.expect(400)["error"], "invalid_grant");
    assert_eq!(bearer(sandbox.base_url("hubspot"), &text(&body, "access_token")).get("/crm/v3/objects/contacts").await.status, 401);
    assert_eq!(sandbox.ledger().count(EffectKind::GrantRevoked), 1);
    // The consent from before the start goes when all are taken back, over the control API as well.
    assert_eq!(renew(&sandbox, known::HUBSPOT_REFRESH_TOKEN).await.status, 200);
    assert_eq!(browser().raw("POST", &format!("http://{}/_sandbox/revoke-grants", sandbox.addr()), "").await.unwrap().status, 200);
    assert_eq!(renew(&sandbox, known::HUBSPOT_REFRESH_TOKEN).await.status, 400);
}

#[tokio::test]
async fn access_tokens_and_codes_expire_on_the_sandboxs_clock() {
    let now = Arc::new(AtomicI64::new(1_800_000_000));
    let shown = now.clone();
    let clock = WallClock::from_fn(move || jiff::Timestamp::from_second(shown.load(Ordering::SeqCst)).unwrap());
    let sandbox = Sandbox::builder().clock(clock).token_lifetime_s(60).start("127.0.0.1:0").await.unwrap();
    let late = code(&sandbox).await;
    let body = redeem(&sandbox, &code(&sandbox).await).await.expect(200);
    assert_eq!(body["expires_in"], 60);
    let caller = bearer(sandbox.base_url("hubspot"), &text(&body, "access_token"));
    assert_eq!(caller.get("/crm/v3/objects/contacts").await.status, 200);
    now.fetch_add(61, Ordering::SeqCst);
    assert_eq!(caller.get("/crm/v3/objects/contacts").await.status, 401);
    let renewed = renew(&sandbox, &text(&body, "refresh_token")).await.expect(200);
    assert_eq!(bearer(sandbox.base_url("hubspot"), &text(&renewed, "access_token")).get("/crm/v3/objects/contacts").await.status, 200);
    now.fetch_add(600, Ordering::SeqCst);
    assert_eq!(redeem(&sandbox, &late).await.status, 400);
}

#[tokio::test]
async fn microsoft_gives_a_refresh_token_for_offline_access_and_another_with_each_renewal() {
    let sandbox = start().await;
    let mut pairs = asked();
    for (key, value) in [("client_id", known::GRAPH_CLIENT_ID), ("scope", "offline_access Mail.Read")] {
        pairs.iter_mut().find(|(name, _)| *name == key).unwrap().1 = value.into();
    }
    let consent = async |granted: &[(&str, &str)]| {
        let mut more = vec![("decision", "allow")];
        more.extend_from_slice(granted);
        value(&decide(&sandbox, "msgraph", &more, &pairs).await, "code").to_owned()
    };
    let url = sandbox.token_url("msgraph").unwrap();
    let post = async |more: &[(&str, &str)]| {
        let mut pairs = vec![("client_id", known::GRAPH_CLIENT_ID), ("client_secret", known::GRAPH_CLIENT_SECRET)];
        pairs.extend_from_slice(more);
        browser().raw("POST", &url, form(&pairs)).await.unwrap()
    };
    let redeem = |code: String| {
        let post = &post;
        async move {
            post(&[("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", REDIRECT), ("code_verifier", VERIFIER)]).await.expect(200)
        }
    };
    let body = redeem(consent(&[("granted", "offline_access"), ("granted", "Mail.Read")]).await).await;
    assert_eq!(body["scope"], "Mail.Read");
    let first = text(&body, "refresh_token");
    let second = post(&[("grant_type", "refresh_token"), ("refresh_token", &first)]).await.expect(200);
    assert_ne!(text(&second, "refresh_token"), first);
    assert_eq!(post(&[("grant_type", "refresh_token"), ("refresh_token", &first)]).await.status, 200, "the old one stays usable");
    let folder = format!("/users/{}/mailFolders/inbox", known::GRAPH_MAILBOX);
    assert_eq!(bearer(sandbox.base_url("msgraph"), &text(&second, "access_token")).get(&folder).await.status, 200);

    let brief = redeem(consent(&[("granted", "Mail.Read")]).await).await;
    assert!(brief.get("refresh_token").is_none());
    sandbox.msgraph().revoke_grants();
    let gone = post(&[("grant_type", "refresh_token"), ("refresh_token", &first)]).await.expect(400);
    assert_eq!((&gone["error"], &gone["error_codes"]), (&json!("invalid_grant"), &json!([50_173])));
}

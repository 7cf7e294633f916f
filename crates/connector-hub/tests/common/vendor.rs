//! A vendor of our own: it signs people in, gives tokens, and answers one call. Strict about what it was promised, and it counts.

use std::sync::{Arc, Mutex};

use axum::{
    Form, Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use serde_json::{Value, json};

/// What tokens of this vendor begin with; nothing that is printed may hold it.
pub(crate) const CANARY: &str = "canary-7f3a";

/// A custom connector of this vendor.
pub(crate) const MANIFEST: &str = r#"
connector: webhook
id: acme
name: Acme
version: 0.1.0
doc: A vendor made for tests.
base_url: https://acme.example.com
auth:
  - type: oauth2
    flow: authorization_code
    authorize_url: /oauth/authorize
    token_url: /oauth/token
    client_id_env: ACME_CLIENT_ID
    client_secret_env: ACME_CLIENT_SECRET
    scopes: [me.read, things.write]
  - { type: api_key, header: X-Key, key_env: ACME_KEY }
probe: { tool: acme_me }
tools:
  - name: acme_me
    doc: Tells who is signed in.
    method: GET
    path: /me
    scopes: [me.read]
    example: { reply: { id: "7" } }
  - name: acme_make_thing
    doc: Makes a thing.
    method: POST
    path: /things
    scopes: [things.write]
    params: [ { name: name, type: string, required: true, doc: Its name. } ]
    body: { name: "{name}" }
    approval_required: true
    example: { args: { name: x }, reply: { id: "8" } }
"#;

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Token requests: grant type and code.
    pub(crate) tokens: Vec<(String, String)>,
    /// What a sign-in is answered with.
    pub(crate) grants: String,
    /// Calls with a good token.
    pub(crate) calls: usize,
}

#[derive(Clone, Default)]
pub(crate) struct Vendor(pub(crate) Arc<Mutex<Seen>>);

impl Vendor {
    /// Starts it; gives its address. `grants` are the scopes it grants, whatever was asked for.
    pub(crate) async fn start(grants: &str) -> (Self, String) {
        let vendor = Self::default();
        vendor.0.lock().unwrap().grants = grants.to_owned();
        let router = Router::new().route("/oauth/token", post(token)).route("/me", get(me)).with_state(vendor.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (vendor, address)
    }
}

async fn token(State(vendor): State<Vendor>, Form(form): Form<std::collections::HashMap<String, String>>) -> (StatusCode, Json<Value>) {
    let value = |name: &str| form.get(name).cloned().unwrap_or_default();
    let mut seen = vendor.0.lock().unwrap();
    seen.tokens.push((value("grant_type"), value("code")));
    let good = value("client_secret") == format!("{CANARY}-app") && !value("code_verifier").is_empty() && value("code") == "good-code";
    if !good {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant", "error_description": format!("<script>{CANARY}</script>") })));
    }
    let tokens = json!({ "access_token": format!("{CANARY}-access"), "refresh_token": format!("{CANARY}-refresh"), "token_type": "Bearer",
        "expires_in": 3600, "scope": seen.grants });
    (StatusCode::OK, Json(tokens))
}

async fn me(State(vendor): State<Vendor>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let shown = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if shown("authorization") == format!("Bearer {CANARY}-access") || shown("x-key") == format!("{CANARY}-key") {
        vendor.0.lock().unwrap().calls += 1;
        return (StatusCode::OK, Json(json!({ "id": "7" })));
    }
    (StatusCode::UNAUTHORIZED, Json(json!({ "error": "who are you" })))
}

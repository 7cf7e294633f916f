//! The ways to authenticate: complete, and naming variables instead of holding values.

use connector_core::spec::{AuthSpec, ClientAuth, HmacSpec, OAuth2Flow, OAuth2Spec};

use super::{Check, address, head::env_use, shown};
use crate::{
    env,
    sources::{child, item},
    template::Template,
};

/// Parameters of token and authorization requests that follow from other keys.
const TOKEN_PARAMS: &[&str] = &[
    "grant_type",
    "client_id",
    "client_secret",
    "scope",
    "code",
    "code_verifier",
    "redirect_uri",
    "refresh_token",
    "device_code",
    "token",
    "assertion",
    "client_assertion",
    "client_assertion_type",
];
const AUTHORIZE_PARAMS: &[&str] = &["response_type", "client_id", "redirect_uri", "state", "scope", "code_challenge", "code_challenge_method"];

/// What an assertion's texts may take from the credential.
const CREDENTIAL_FACTS: [&str; 3] = ["client_id", "subject", "client_email"];

pub(super) fn check(check: &mut Check<'_>) {
    let manifest = check.manifest;
    for (at, way) in manifest.auth.iter().enumerate() {
        one(check, &item("auth", at), way);
    }
    for (at, field) in manifest.rotatable.iter().enumerate() {
        if manifest.connector == "webhook" {
            check.error(item("rotatable", at), "a custom connector has no code that replaces secrets; leave `rotatable` out");
        } else if !manifest.auth.iter().any(|way| way.fields().iter().any(|(name, _)| name == field)) {
            check.error(item("rotatable", at), format!("no way to authenticate has the field `{}`", shown(field)));
        }
    }
    if manifest.auth.is_empty() && manifest.base_url.is_some() {
        check.hint("connector", "there is no `auth`, so nothing is sent to prove who calls; say `auth: { type: none }` if that is meant");
    }
}

fn one(check: &mut Check<'_>, key: &str, way: &AuthSpec) {
    for (name, variable) in way.fields() {
        if let Some(variable) = variable
            && !env::is_variable(variable)
        {
            check.error(
                child(key, &format!("{name}_env")),
                format!("`{name}_env` names an environment variable (letters, digits and `_`), never the value itself"),
            );
        }
    }
    match way {
        AuthSpec::ApiKey { header, .. } => check.header(child(key, "header"), header),
        AuthSpec::OAuth2(oauth2) => self::oauth2(check, key, oauth2),
        AuthSpec::Hmac(hmac) => self::hmac(check, key, hmac),
        AuthSpec::All { of, .. } => self::all(check, key, of),
        _ => {}
    }
}

/// Ways that are used together must not want the same field or fill the same header.
fn all(check: &mut Check<'_>, key: &str, of: &[AuthSpec]) {
    let mut fields = Vec::new();
    for (at, way) in of.iter().enumerate() {
        let key = item(&child(key, "of"), at);
        if matches!(way, AuthSpec::OAuth2(_) | AuthSpec::All { .. } | AuthSpec::None) {
            check.error(&key, format!("`{}` cannot be one of several; accepted: bearer, api_key, basic, hmac", way.kind()));
        }
        for (field, _) in way.fields() {
            if fields.contains(&field) {
                check.error(&key, format!("two ways take the field `{field}` of the credential; choose ways with different fields"));
            }
            fields.push(field);
        }
        one(check, &key, way);
    }
}

fn oauth2(check: &mut Check<'_>, key: &str, oauth2: &OAuth2Spec) {
    let mut url = |name: &str, text: &str| {
        let key = child(key, name);
        check.settings_in(&key, text);
        env_use(check, &key, text);
        if !text.starts_with('/') {
            address::report(check, &key, text);
        }
    };
    if !oauth2.token_url.is_empty() {
        url("token_url", &oauth2.token_url);
    }
    let places = [
        ("authorize_url", &oauth2.authorize_url),
        ("device_url", &oauth2.device_url),
        ("revoke_url", &oauth2.revoke_url),
        ("issuer", &oauth2.issuer),
    ];
    for (name, text) in places {
        if let Some(text) = text {
            url(name, text);
        }
    }
    let mut needs = |name: &str, is_there: bool, why: &str| {
        if !is_there && oauth2.issuer.is_none() {
            check.error(key, format!("`{name}` is missing: {why}; or name the `issuer` whose metadata says it"));
        }
    };
    needs("token_url", !oauth2.token_url.is_empty(), "tokens come from there");
    if oauth2.flow == OAuth2Flow::AuthorizationCode {
        needs("authorize_url", oauth2.authorize_url.is_some(), "`flow: authorization_code` sends a person there to sign in");
    }
    if oauth2.flow == OAuth2Flow::DeviceCode {
        needs("device_url", oauth2.device_url.is_some(), "`flow: device_code` gets its codes there");
    }
    for (name, scopes) in [("scopes", &oauth2.scopes), ("base_scopes", &oauth2.base_scopes)] {
        for (at, scope) in scopes.iter().enumerate() {
            check.settings_in(&item(&child(key, name), at), scope);
        }
    }
    for (name, params, ours) in [("params", &oauth2.params, TOKEN_PARAMS), ("authorize_params", &oauth2.authorize_params, AUTHORIZE_PARAMS)] {
        for (param, value) in params {
            let key = child(&child(key, name), param);
            check.settings_in(&key, value);
            if let Err(message) = env::references(value) {
                check.error(&key, message);
            }
            if ours.contains(&param.as_str()) {
                check.error(&key, format!("`{}` cannot be set in `{name}`; it follows from the other keys", shown(param)));
            }
        }
    }
    combinations(check, key, oauth2);
    if let Some(assertion) = &oauth2.assertion {
        let key = child(key, "assertion");
        for (name, text) in [("issuer", &assertion.issuer), ("subject", &assertion.subject), ("audience", &assertion.audience)] {
            if let Some(text) = text {
                // Three facts come from the credential and not from the settings.
                let settings = CREDENTIAL_FACTS.iter().fold(text.clone(), |text, fact| text.replace(&format!("{{{fact}}}"), ""));
                check.settings_in(&child(&key, name), &settings);
            }
        }
    }
}

/// Keys that do nothing in this flow, or need another one.
fn combinations(check: &mut Check<'_>, key: &str, oauth2: &OAuth2Spec) {
    let flow = oauth2.flow;
    let signs = flow == OAuth2Flow::JwtBearer || oauth2.client_auth == ClientAuth::PrivateKeyJwt;
    if signs && oauth2.assertion.is_none() {
        let why = if flow == OAuth2Flow::JwtBearer { "`flow: jwt_bearer`" } else { "`client_auth: private_key_jwt`" };
        check.error(key, format!("`assertion` is missing: {why} signs one; `assertion: {{ algorithm: RS256 }}` is the least"));
    }
    if !signs && oauth2.assertion.is_some() {
        check.error(child(key, "assertion"), "nothing is signed: that needs `flow: jwt_bearer` or `client_auth: private_key_jwt`");
    }
    if flow == OAuth2Flow::ClientCredentials && oauth2.client_auth == ClientAuth::None {
        check.error(child(key, "client_auth"), "`flow: client_credentials` has nothing but the client to prove; it cannot be `none`");
    }
    let consent = [
        ("authorize_params", !oauth2.authorize_params.is_empty(), flow == OAuth2Flow::AuthorizationCode),
        ("authorize_url", oauth2.authorize_url.is_some(), flow == OAuth2Flow::AuthorizationCode),
        ("without_pkce", oauth2.without_pkce, flow == OAuth2Flow::AuthorizationCode),
        ("device_url", oauth2.device_url.is_some(), flow == OAuth2Flow::DeviceCode),
        ("token_at", oauth2.token_at.is_some(), flow.has_consent()),
        ("rotates", oauth2.rotates, flow.has_consent()),
        ("rotation_grace", oauth2.rotation_grace > 0, flow.has_consent()),
        ("scope_on_refresh", oauth2.scope_on_refresh, flow.has_consent()),
    ];
    for (name, is_there, fits) in consent {
        if is_there && !fits {
            check.error(child(key, name), format!("`{name}` means nothing with `flow: {}`", flow.as_str()));
        }
    }
    if oauth2.rotation_grace > 0 && !oauth2.rotates {
        check.error(child(key, "rotation_grace"), "there is nothing to forgive unless `rotates: true`");
    }
    if oauth2.without_pkce {
        check.hint(
            child(key, "without_pkce"),
            "codes of this server can be stolen on their way; leave it out unless the server refuses PKCE parameters",
        );
    }
    if let Some(at) = &oauth2.token_at
        && (at.is_empty() || !at.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
    {
        check.error(child(key, "token_at"), "`token_at` is the name of one member of the answer, for example `authed_user`");
    }
    if let Some(member) = &oauth2.base_from {
        if !oauth2.keep.contains(member) {
            check.error(child(key, "base_from"), format!("`{}` is not in `keep`, so nothing remembers it", shown(member)));
        }
        if oauth2.base_hosts.is_empty() {
            check.error(child(key, "base_from"), "`base_hosts` is missing: the vendor's own domains, outside of which no credential goes");
        }
    }
    for (at, name) in oauth2.keep.iter().enumerate() {
        // What the one place of redaction calls a secret must not become a fact that is shown.
        if connector_core::redact::is_secret_name(name) {
            check.error(item(&child(key, "keep"), at), format!("`{}` is a secret; kept members are shown to people", shown(name)));
        }
    }
}

fn hmac(check: &mut Check<'_>, key: &str, hmac: &HmacSpec) {
    let headers = [
        ("header", Some(&hmac.header)),
        ("timestamp_header", hmac.timestamp_header.as_ref()),
        ("nonce_header", hmac.nonce_header.as_ref()),
        ("key_id_header", hmac.key_id_header.as_ref()),
    ];
    for (name, header) in headers {
        if let Some(header) = header {
            check.header(child(key, name), header);
        }
    }
    let template = Template::parse(&hmac.message);
    for name in template.placeholders() {
        if !["method", "path", "timestamp", "nonce", "body"].contains(&name) {
            let message = format!("`{{{}}}` cannot be signed; accepted: {{method}}, {{path}}, {{timestamp}}, {{nonce}}, {{body}}", shown(name));
            check.error(child(key, "message"), message);
        }
    }
    if template.as_literal().is_some() {
        check.error(
            child(key, "message"),
            "the signed `message` has no placeholder, so every request has the same signature; write for example `{timestamp}.{body}`",
        );
    }
    for (name, header) in [("timestamp", &hmac.timestamp_header), ("nonce", &hmac.nonce_header)] {
        if template.placeholders().any(|used| used == name) && header.is_none() {
            check.error(key, format!("the message signs `{{{name}}}`, so `{name}_header` must say which header carries it"));
        }
    }
    if let Some(also) = &hmac.also {
        one(check, &child(key, "also"), also);
    }
}

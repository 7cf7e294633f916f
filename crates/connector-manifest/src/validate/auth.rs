//! The ways to authenticate: complete, and naming variables instead of holding values.

use connector_core::spec::{AuthSpec, HmacSpec, OAuth2Flow, OAuth2Spec};

use super::{Check, address, head::env_use, shown};
use crate::{
    env,
    sources::{child, item},
    template::Template,
};

pub(super) fn check(check: &mut Check<'_>) {
    let manifest = check.manifest;
    for (at, way) in manifest.auth.iter().enumerate() {
        one(check, &item("auth", at), way);
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
        _ => {}
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
    for (at, scope) in oauth2.scopes.iter().enumerate() {
        check.settings_in(&item(&child(key, "scopes"), at), scope);
    }
    for (name, value) in &oauth2.params {
        let key = child(&child(key, "params"), name);
        check.settings_in(&key, value);
        if let Err(message) = env::references(value) {
            check.error(key, message);
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

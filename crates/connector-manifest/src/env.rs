//! `${VAR}` in a manifest, resolved when a connection is configured.
//!
//! Owns where variables may stand: `base_url`, `headers`, defaults of `settings`, and the addresses, scopes and parameters of `auth`;
//! never inside a tool, whose templates see only what a caller gives. `${secret:name}` is left as it stands, and only in
//! `auth`: the vault fills it where the credential is used. Refuses nested and default forms (`${A:-b}`).

use std::collections::BTreeMap;

use connector_core::{Error, Result, spec::AuthSpec};

use crate::{
    diagnostic::Severity,
    model::{Manifest, OneOrMany},
    sources::{child, item},
    validate::check_address,
};

/// One `${...}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) is_secret: bool,
}

/// Whether this can name an environment variable.
pub(crate) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The `${...}` of a text, in order.
pub(crate) fn references(text: &str) -> Result<Vec<Reference>, String> {
    pieces(text).map(|pieces| {
        pieces
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Reference(reference) => Some(reference),
                Piece::Text(_) => None,
            })
            .collect()
    })
}

enum Piece<'t> {
    Text(&'t str),
    Reference(Reference),
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        found.push(Piece::Text(&rest[..at]));
        let (inside, after) = rest[at + 2..].split_once('}').ok_or_else(|| "`${` is not closed by `}`".to_owned())?;
        let (name, is_secret) = inside.strip_prefix("secret:").map_or((inside, false), |name| (name, true));
        let good =
            if is_secret { !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b)) } else { is_variable(name) };
        if !good {
            let shown = connector_core::redact::printable(inside, 40);
            return Err(format!("`${{{shown}}}` is neither `${{VARIABLE}}` nor `${{secret:name}}`"));
        }
        found.push(Piece::Reference(Reference { name: name.to_owned(), is_secret }));
        rest = after;
    }
    found.push(Piece::Text(rest));
    Ok(found)
}

/// The manifest with every `${VAR}` filled from `lookup`. Values are taken as they are and never expanded again.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] that names every missing variable with the connector and key that need it, a value with
/// control characters, or a base URL that is refused. Values are never shown.
pub fn resolve(manifest: &Manifest, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Manifest> {
    let mut resolved = manifest.clone();
    let mut resolver = Resolver { connector: manifest.id.as_deref().unwrap_or(&manifest.connector), lookup, problems: Vec::new() };
    if let Some(base) = &mut resolved.base_url {
        let had = base.contains("${");
        resolver.fill("base_url", base, false);
        if had && resolver.problems.is_empty() {
            let refused = check_address(base).into_iter().filter(|(severity, _)| *severity == Severity::Error);
            resolver.problems.extend(refused.map(|(_, message)| format!("`base_url`: {message}")));
        }
    }
    resolver.map("headers", &mut resolved.headers, false);
    for (at, setting) in resolved.settings.iter_mut().enumerate() {
        if let Some(default) = &mut setting.default {
            resolver.fill(&format!("{}.default", item("settings", at)), default, false);
        }
    }
    let OneOrMany(ways) = &mut resolved.auth;
    for (at, way) in ways.iter_mut().enumerate() {
        resolver.auth(&item("auth", at), way);
    }
    for (at, tool) in manifest.tools.iter().enumerate() {
        let text = serde_json::to_string(&(&tool.path, &tool.query, &tool.headers, &tool.body)).unwrap_or_default();
        if text.contains("${") {
            resolver.problems.push(format!("`{}`: `${{...}}` is never filled inside a tool; declare a parameter or a setting", item("tools", at)));
        }
    }
    if resolver.problems.is_empty() {
        return Ok(resolved);
    }
    Err(Error::config(format!("connector `{}` cannot be configured: {}", resolver.connector, resolver.problems.join("; "))))
}

struct Resolver<'a> {
    connector: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl Resolver<'_> {
    fn fill(&mut self, key: &str, text: &mut String, secrets: bool) {
        if !text.contains("${") {
            return;
        }
        let pieces = match pieces(text) {
            Ok(pieces) => pieces,
            Err(message) => return self.problems.push(format!("`{key}`: {message}")),
        };
        let mut filled = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Reference(Reference { name, is_secret: true }) if secrets => filled.push_str(&format!("${{secret:{name}}}")),
                Piece::Reference(Reference { name, is_secret: true }) => {
                    self.problems.push(format!("`{key}`: `${{secret:{name}}}` stands only in `auth`"));
                }
                Piece::Reference(Reference { name, .. }) => match (self.lookup)(&name) {
                    Some(value) if value.chars().any(char::is_control) => {
                        self.problems.push(format!("`{key}`: the environment variable `{name}` has a line break or another control character"));
                    }
                    Some(value) => filled.push_str(&value),
                    None => self.problems.push(format!("`{key}` needs the environment variable `{name}`, which is not set")),
                },
            }
        }
        *text = filled;
    }

    fn map(&mut self, key: &str, map: &mut BTreeMap<String, String>, secrets: bool) {
        for (name, value) in map {
            self.fill(&child(key, name), value, secrets);
        }
    }

    fn auth(&mut self, key: &str, way: &mut AuthSpec) {
        match way {
            AuthSpec::OAuth2(oauth2) => {
                self.fill(&child(key, "token_url"), &mut oauth2.token_url, false);
                let places = [
                    ("authorize_url", &mut oauth2.authorize_url),
                    ("device_url", &mut oauth2.device_url),
                    ("revoke_url", &mut oauth2.revoke_url),
                    ("issuer", &mut oauth2.issuer),
                ];
                for (name, url) in places {
                    if let Some(url) = url {
                        self.fill(&child(key, name), url, false);
                    }
                }
                for (name, scopes) in [("scopes", &mut oauth2.scopes), ("base_scopes", &mut oauth2.base_scopes)] {
                    for (at, scope) in scopes.iter_mut().enumerate() {
                        self.fill(&item(&child(key, name), at), scope, false);
                    }
                }
                self.map(&child(key, "params"), &mut oauth2.params, true);
                self.map(&child(key, "authorize_params"), &mut oauth2.authorize_params, false);
                if let Some(assertion) = &mut oauth2.assertion {
                    let key = child(key, "assertion");
                    let texts = [("issuer", &mut assertion.issuer), ("subject", &mut assertion.subject), ("audience", &mut assertion.audience)];
                    for (name, text) in texts {
                        if let Some(text) = text {
                            self.fill(&child(&key, name), text, false);
                        }
                    }
                }
            }
            AuthSpec::Hmac(hmac) => {
                if let Some(also) = &hmac.also {
                    let mut inner = AuthSpec::clone(also);
                    self.auth(&child(key, "also"), &mut inner);
                    hmac.also = Some(inner.into());
                }
            }
            // The others hold only names of headers and variables.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Manifest {
        crate::parse("erp.yaml", text).unwrap().manifest
    }

    #[test]
    fn variables_are_filled_once_and_secrets_stay() {
        let manifest = manifest(
            "connector: webhook\nid: erp\nname: ERP\nbase_url: https://${HOST}/api\nheaders: { X-Team: '${TEAM}' }\nauth: { type: oauth2, flow: client_credentials, token_url: 'https://${HOST}/token', params: { assertion: '${secret:erp}' } }\n",
        );
        let resolved = resolve(&manifest, &|name| Some(if name == "HOST" { "erp.example.com".into() } else { "${HOST}".into() })).unwrap();
        assert_eq!(resolved.base_url.as_deref(), Some("https://erp.example.com/api"));
        assert_eq!(resolved.headers["X-Team"], "${HOST}");
        let AuthSpec::OAuth2(oauth2) = &resolved.auth[0] else { panic!("oauth2") };
        assert_eq!((oauth2.token_url.as_str(), oauth2.params["assertion"].as_str()), ("https://erp.example.com/token", "${secret:erp}"));
    }

    #[test]
    fn missing_variables_are_named_with_who_needs_them() {
        let manifest = manifest("connector: webhook\nid: erp\nname: ERP\nbase_url: https://${HOST}/api\nheaders: { X-Team: '${TEAM}' }\n");
        let error = resolve(&manifest, &|_| None).unwrap_err();
        assert_eq!(error.kind(), connector_core::ErrorKind::Config);
        assert_eq!(
            error.message(),
            "connector `erp` cannot be configured: `base_url` needs the environment variable `HOST`, which is not set; `headers.X-Team` needs the environment variable `TEAM`, which is not set"
        );
    }

    #[test]
    fn a_value_cannot_break_a_header_or_point_inside() {
        let manifest = manifest("connector: webhook\nid: erp\nname: ERP\nbase_url: ${URL}\nheaders: { X-Team: '${TEAM}' }\n");
        for (url, team) in [("file:///etc/passwd", "a"), ("http://169.254.169.254", "a"), ("https://erp.example.com", "a\r\nX-Evil: 1")] {
            let error = resolve(&manifest, &|name| Some(if name == "URL" { url.into() } else { team.into() })).unwrap_err();
            assert!(!error.message().contains("Evil") && !error.message().contains("passwd"), "{error}");
        }
    }

    #[test]
    fn nothing_is_filled_inside_a_tool() {
        let manifest = manifest(
            "connector: webhook\nid: erp\nname: ERP\nbase_url: https://x.example\ntools: [{ name: erp_a, method: POST, path: /a, body: { k: '${KEY}' } }]\n",
        );
        assert!(resolve(&manifest, &|_| Some("x".into())).unwrap_err().message().contains("never filled inside a tool"));
    }
}

//! Filling `{name}` placeholders of an oauth2 section from a connection's settings and a credential's public facts.
//!
//! Refuses placeholders that nothing fills, and values that would change the shape of a URL.

use connector_core::{
    context::Connection,
    error::{Error, Result},
    redact::printable,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

/// What may stand in a URL unencoded, RFC 3986 §2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Replaces each `{name}` by the connection's setting of that name.
pub(super) fn fill(template: &str, connection: &Connection, encode: impl Fn(&str) -> Option<String>) -> Result<String> {
    fill_with(template, connection, &[], encode)
}

/// As [`fill`], with facts that come before the settings (`client_id`, `subject`).
pub(super) fn fill_with(template: &str, connection: &Connection, facts: &[(&str, &str)], encode: impl Fn(&str) -> Option<String>) -> Result<String> {
    if !template.contains('{') {
        return Ok(template.to_owned());
    }
    let mut filled = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let (name, after) =
            after.split_once('}').ok_or_else(|| Error::config(format!("`{}` has a `{{` without its `}}`", printable(template, 120))))?;
        let fact = facts.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let value = fact.or_else(|| connection.setting(name)).and_then(&encode).ok_or_else(|| {
            Error::config(format!(
                "connection `{}` needs the setting `{}` to fill `{}`",
                connection.id,
                printable(name, 40),
                printable(template, 120)
            ))
        })?;
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Fills a URL's text: values are one path segment or one host label, never more. Relative to the base URL if it starts with `/`.
pub(super) fn fill_url(template: &str, connection: &Connection) -> Result<String> {
    let filled = fill(template, connection, |value| match value {
        "" | "." | ".." => None,
        value => Some(utf8_percent_encode(value, ESCAPED).to_string()),
    })?;
    Ok(if filled.starts_with('/') { format!("{}{filled}", connection.base()) } else { filled })
}

/// A text that must not be empty where it is used.
pub(super) fn fill_text(template: &str, connection: &Connection) -> Result<String> {
    fill(template, connection, |value| (!value.is_empty()).then(|| value.to_owned()))
}

/// Reads an endpoint that a browser or this program is sent to: `https`, or `http` on this machine; no user info, no fragment.
///
/// `what` names it in the error. The text itself is not shown: a metadata document may hold anything.
pub(super) fn endpoint(text: &str, what: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|_| Error::config(format!("{what} is not an absolute URL")))?;
    if !(url.scheme() == "https" || (url.scheme() == "http" && is_this_machine(&url))) {
        return Err(Error::config(format!("{what} must start with https:// (http:// only on this machine)")));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(Error::config(format!("{what} must have neither a user name nor a fragment")));
    }
    Ok(url)
}

/// A literal loopback address or `localhost`.
pub(super) fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.') == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_before_settings_and_what_nobody_fills_is_named() {
        let connection =
            Connection::new("x", "https://x.example").unwrap().with_setting("client_id", "of the settings").with_setting("host", "login");
        let text = |template: &str| fill_with(template, &connection, &[("client_id", "app")], |value| Some(value.to_owned()));
        assert_eq!(text("{client_id}@{host}").unwrap(), "app@login");
        assert!(text("{nobody}").unwrap_err().message().contains("needs the setting `nobody`"));
        assert!(text("{open").unwrap_err().message().contains("without its"));
    }

    #[test]
    fn only_https_and_this_machine_are_endpoints() {
        for good in ["https://id.example/authorize?x=1", "http://127.0.0.1:9/a", "http://localhost/a", "http://[::1]:1/a"] {
            assert!(endpoint(good, "it").is_ok(), "{good}");
        }
        for bad in [
            "javascript:alert(1)",
            "http://id.example/",
            "http://localhost.evil.example/",
            "ftp://id.example",
            "/authorize",
            "https://u:p@id.example/",
            "https://id.example/#f",
            "data:text/html,x",
        ] {
            assert!(endpoint(bad, "it").is_err(), "{bad}");
        }
    }
}

//! Where the API of a token is, for vendors that say so with the token (Salesforce's `instance_url`).
//!
//! Refuses every address outside the domains of the manifest, and to lead a connection away that names another host itself: whoever can
//! change a token endpoint's answer must not be able to choose where credentials go.

use std::{collections::BTreeMap, sync::Arc};

use connector_core::{
    context::CallCx,
    error::{Error, ErrorKind, Result},
    spec::OAuth2Spec,
};
use url::{Host, Url};

use super::request::{self, Place};

/// The kept member that tells it.
pub(super) fn kept(spec: &OAuth2Spec, keep: &BTreeMap<String, String>) -> Option<Arc<str>> {
    keep.get(spec.base_from.as_ref()?).map(|text| text.as_str().into())
}

/// The address to send to instead of the connection's own; `None`: that one is right.
///
/// # Errors
/// [`ErrorKind::Denied`] if the vendor names a host that is not one of its own, or not the one the connection names.
pub(super) fn of(spec: &OAuth2Spec, cx: &CallCx, told: Option<&str>) -> Result<Option<Url>> {
    let (Some(member), Some(told)) = (&spec.base_from, told) else { return Ok(None) };
    let unusable = || Error::protocol(format!("`{member}` of the token endpoint's answer is not an https address"));
    let told = Url::parse(told).map_err(|_| unusable())?;
    let own = &cx.connection.base_url;
    if told.origin() == own.origin() {
        return Ok(None);
    }
    let Some(Host::Domain(host)) = told.host() else { return Err(unusable()) };
    if told.scheme() != "https" || !told.username().is_empty() || told.password().is_some() {
        return Err(unusable());
    }
    if !is_allowed(&spec.base_hosts, host) {
        let message = format!("`{member}` of the token endpoint's answer is not one of the vendor's own hosts; nothing was sent there");
        return Err(Error::new(ErrorKind::Denied, message).with_context("host", host));
    }
    // Only a connection that stands where tokens come from waits to be told where its API is.
    let login = match request::target(spec, &cx.connection)?.place {
        Place::Url(url) => Url::parse(&url).ok(),
        Place::Issuer(issuer) => Url::parse(&issuer).ok(),
    };
    if login.is_none_or(|login| login.origin() != own.origin()) {
        let message = format!(
            "the token is for another account than the connection: correct `base_url`, or leave it out so that `{member}` decides; nothing was sent"
        );
        return Err(Error::new(ErrorKind::Denied, message).with_context("token_host", host));
    }
    Ok(Some(told))
}

/// Whether a host is one of these domains or below one; the first that fits decides.
fn is_allowed(domains: &[String], host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let fits = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    domains
        .iter()
        .find_map(|domain| match domain.strip_prefix('!') {
            Some(refused) => fits(refused).then_some(false),
            None => fits(domain).then_some(true),
        })
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use connector_core::Connection;
    use serde_json::json;

    use super::*;

    fn home(base: &str, told: &str) -> Result<Option<String>> {
        let spec: OAuth2Spec = serde_json::from_value(json!({
            "flow": "authorization_code", "token_url": "https://login.crm.example/token", "keep": ["instance_url"], "base_from": "instance_url",
            "base_hosts": ["!pages.crm.example", "crm.example"],
        }))
        .unwrap();
        let cx = CallCx::new(Arc::new(Connection::new("crm", base).unwrap()));
        of(&spec, &cx, Some(told)).map(|url| url.map(String::from))
    }

    #[test]
    fn a_connection_at_the_login_host_goes_where_the_token_is_good() {
        let told = home("https://login.crm.example/v1", "https://acme.my.crm.example").unwrap();
        assert_eq!(told.as_deref(), Some("https://acme.my.crm.example/"));
        assert_eq!(home("https://acme.my.crm.example/v1", "https://acme.my.crm.example/any").unwrap(), None);
    }

    #[test]
    fn foreign_hosts_addresses_and_schemes_are_refused() {
        let told = [
            "https://evil.example",
            "https://crm.example.evil.example",
            "https://evilcrm.example",
            "https://acme.pages.crm.example",
            "http://acme.crm.example",
            "https://user@acme.crm.example",
            "https://127.0.0.1",
            "acme",
        ];
        for told in told {
            let error = home("https://login.crm.example/v1", told).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::Protocol), "{told}: {error}");
        }
    }

    #[test]
    fn a_connection_that_names_its_host_is_not_led_away() {
        let error = home("https://acme.my.crm.example/v1", "https://other.my.crm.example").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("another account"), "{error}");
    }
}

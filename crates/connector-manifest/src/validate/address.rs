//! Addresses a manifest may name: what is refused at load, and what the transport will refuse unless the connection allows it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::Check;
use crate::diagnostic::Severity;

/// Ports that browsers and the fetch standard never speak HTTP to and that vendors never use. https://fetch.spec.whatwg.org/#port-blocking
const FOREIGN_PORTS: [u16; 20] = [7, 9, 19, 20, 21, 22, 23, 25, 53, 69, 110, 111, 119, 123, 137, 139, 143, 389, 445, 465];

/// Reports what is wrong with an address.
pub(super) fn report(to: &mut Check<'_>, key: &str, text: &str) {
    for (severity, message) in check(text) {
        to.report(severity, key, message);
    }
}

/// What is wrong with an address. `{setting}` placeholders are allowed; with `${VAR}` in it, only what can be known is said.
pub(crate) fn check(text: &str) -> Vec<(Severity, String)> {
    let error = |message: &str| vec![(Severity::Error, message.to_owned())];
    if text.contains("${") {
        return Vec::new();
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) || text.contains('\\') {
        return error("the address has blanks, control characters or backslashes in it");
    }
    let plain = fill(text);
    // An address that a setting starts is whole only when it is filled in; the connection checks it then.
    if text.starts_with('{') {
        return Vec::new();
    }
    let Some((scheme, rest)) = plain.split_once("://") else {
        return match Url::parse(&plain) {
            Ok(url) if !plain.starts_with("http") => {
                error(&format!("the scheme `{}:` is refused; only https (and http) addresses are called", url.scheme()))
            }
            _ => error("this is not an address; write `https://host/path`"),
        };
    };
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        return error(&format!("the scheme `{}:` is refused; only https (and http) addresses are called", super::shown(scheme)));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return error("the address has a user or password before `@`; credentials belong into `auth`");
    }
    let url = match Url::parse(&plain) {
        Ok(url) => url,
        Err(why) => return error(&format!("this is not an address: {why}")),
    };
    if url.query().is_some() || url.fragment().is_some() {
        return error("the address has `?` or `#`; parameters belong into a tool's `query`");
    }
    let mut found = Vec::new();
    let mut host_of = |host: Option<Host<&str>>, written: &str| match host {
        None => found.push((Severity::Error, "the address has no host".to_owned())),
        Some(Host::Domain(name)) => domain(name, &mut found),
        Some(Host::Ipv4(ip)) => literal(IpAddr::V4(ip), written == ip.to_string(), &mut found),
        Some(Host::Ipv6(ip)) => literal(IpAddr::V6(ip), written.starts_with('['), &mut found),
    };
    // The host as it is written, to see forms that only mean an address.
    let written = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((inner, _)) => format!("[{inner}]"),
        None => authority.split(':').next().unwrap_or_default().to_owned(),
    };
    host_of(url.host(), &written);
    match url.port() {
        Some(port) if FOREIGN_PORTS.contains(&port) => {
            found.push((Severity::Error, format!("port {port} belongs to another protocol and is refused")))
        }
        Some(port) if !matches!(port, 80 | 443) => {
            found.push((Severity::Warning, format!("port {port} will be refused unless the connection's allow-list names it")));
        }
        _ => {}
    }
    let warned = found.iter().any(|(_, message)| message.contains("allow-list names this"));
    if url.scheme() == "http" && !warned && !found.iter().any(|(severity, _)| *severity == Severity::Error) {
        found.push((
            Severity::Warning,
            "plain http sends the credential unencrypted and will be refused unless the connection's allow-list names the host".into(),
        ));
    }
    found
}

/// Placeholders replaced by something harmless.
fn fill(text: &str) -> String {
    crate::template::Template::parse(text).fill(|_| Some("x".into())).unwrap_or_default()
}

fn domain(name: &str, found: &mut Vec<(Severity, String)>) {
    if name.ends_with('.') {
        found.push((Severity::Error, format!("the host `{}` ends with a dot; leave it out", super::shown(name))));
    } else if name == "localhost" || name.ends_with(".localhost") {
        found.push((Severity::Warning, "this machine's own address will be refused unless the connection's allow-list names this host".into()));
    } else if matches!(name, "metadata" | "metadata.google.internal" | "instance-data") {
        found.push((Severity::Error, format!("`{name}` is a cloud's metadata service and is always refused")));
    }
}

fn literal(ip: IpAddr, is_plain: bool, found: &mut Vec<(Severity, String)>) {
    if !is_plain {
        found.push((Severity::Error, format!("the host is a disguised form of {ip}; write addresses plainly")));
        return;
    }
    let inner = match ip {
        IpAddr::V6(v6) => embedded(v6),
        IpAddr::V4(_) => None,
    };
    if let Some(inner) = inner {
        found.push((Severity::Error, format!("the host hides {inner} in an IPv6 address; write it plainly")));
        return;
    }
    let (never, private) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast(), is_private(v4)),
        IpAddr::V6(v6) => (
            v6.is_unspecified() || v6.is_multicast() || (v6.segments()[0] & 0xffc0) == 0xfe80,
            v6.is_loopback() || (v6.segments()[0] & 0xfe00) == 0xfc00 || (v6.segments()[0] & 0xffc0) == 0xfec0,
        ),
    };
    if never {
        found.push((Severity::Error, format!("{ip} is no vendor's address (link-local, unspecified or multicast) and is always refused")));
    } else if private {
        found.push((Severity::Warning, format!("{ip} is a private address and will be refused unless the connection's allow-list names this host")));
    }
}

fn is_private(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_private()
        || ip.is_loopback()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (18..20).contains(&b))
}

/// The IPv4 address inside an IPv6 one: mapped, compatible, NAT64, 6to4 or Teredo.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) => Some(join(g, h)),
        (0, 0, 0, 0, 0, 0) if (g, h) != (0, 0) && (g, h) != (0, 1) => Some(join(g, h)),
        (0x64, 0xff9b, ..) => Some(join(g, h)),
        (0x2002, high, low, ..) => Some(join(high, low)),
        (0x2001, 0, ..) => Some(join(!g, !h)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(text: &str) -> Option<Severity> {
        check(text).into_iter().map(|(severity, _)| severity).min()
    }

    #[test]
    fn addresses_of_vendors_pass() {
        for text in [
            "https://api.hubapi.com",
            "https://{subdomain}.zendesk.com/api/v2",
            "https://graph.microsoft.com:443/v1.0",
            "${ERP_URL}/api",
            "{login_url}/{tenant}/oauth2/v2.0/token",
            "https://[2a00:1450:4001:810::200e]/",
            "https://8.8.8.8/",
        ] {
            assert_eq!(worst(text), None, "{text}: {:?}", check(text));
        }
    }

    #[test]
    fn what_is_never_a_vendor_is_refused() {
        for text in [
            "file:///etc/passwd",
            "gopher://x",
            "ftp://example.com",
            "javascript:alert(1)",
            "example.com/api",
            "https://",
            "http://169.254.169.254/latest",
            "http://[::ffff:10.0.0.1]/",
            "http://[64:ff9b::a00:1]/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://①②⑦.0.0.1/",
            "http://localhost./",
            "http://a@evil.example/",
            "http://evil.example:22/",
            "http://metadata.google.internal/",
            "http://0.0.0.0/",
            "https://x.example/?a=b",
            "https://x.example/#a",
            "https://x.example/a b",
            "https://good.example\\@evil.example/",
        ] {
            assert_eq!(worst(text), Some(Severity::Error), "{text}");
        }
    }

    #[test]
    fn what_only_some_may_call_is_a_warning() {
        for text in [
            "http://10.1.2.3/",
            "https://127.0.0.1:8443/",
            "http://localhost:8080",
            "https://erp.example:8443",
            "http://erp.example",
            "https://[fd00::1]/",
        ] {
            assert_eq!(worst(text), Some(Severity::Warning), "{text}");
        }
    }
}

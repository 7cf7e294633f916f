//! Who may speak to the hub at all: the names it may be called by, the origins a browser may come from, the proxies that are believed.
//!
//! Owns the check of `Host` and `Origin` (DNS rebinding, cross-site requests) and the reading of `X-Forwarded-*`. Refuses to believe a header
//! that anybody can write: forwarded ones count only when the peer itself is a proxy that the configuration names.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use connector_core::{Error, Result};
use connector_runtime::HubConfig;
use ipnet::IpNet;
use url::Url;

/// The loopback's names.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How many addresses of a forwarding chain are looked at.
const MOST_HOPS: usize = 10;

/// Why a caller is turned away. Says nothing of what it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// There is no usable `Host`.
    NoHost,
    /// The hub is not called by this name.
    Host,
    /// The page the request comes from is another site's.
    Origin,
}

impl Turned {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::NoHost => StatusCode::BAD_REQUEST,
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::NoHost => "the request must say once which host it is for",
            Self::Host => "the hub is not called by this name; name it under `server.hosts` in hub.yaml, or use its `public_url`",
            Self::Origin => "the request comes from another site's page",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoHost => "no_host",
            Self::Host => "host",
            Self::Origin => "origin",
        }
    }
}

/// The names and networks that are accepted.
#[derive(Debug, Clone, Default)]
pub struct Callers {
    /// Names and addresses, lower case; with a port if the configuration gave one.
    hosts: Vec<String>,
    /// The origin of `public_url`, as browsers write it.
    origin: Option<String>,
    proxies: Vec<IpNet>,
}

impl Callers {
    /// From the configuration: the hosts of `public_url` and of the connections' own public addresses, `server.hosts`, the proxies.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] for a network or an address that cannot be read.
    pub fn of(config: &HubConfig, public_url: Option<&Url>, env: impl Fn(&str) -> Option<String> + Clone + Send + Sync + 'static) -> Result<Self> {
        let mut hosts: Vec<String> = config.server.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        hosts.extend(public_url.and_then(bare));
        let own = config.connections.iter().filter_map(|(id, connection)| Some((id, connection.webhook.as_ref()?.public_url.as_ref()?)));
        for (id, text) in own {
            let key = format!("connections.{id}.webhook.public_url");
            let filled = HubConfig::fill(&key, text, env.clone())?;
            let url =
                Url::parse(&filled).map_err(|_| Error::config(format!("`{key}` in hub.yaml is not an address such as https://hooks.example.com")))?;
            hosts.extend(bare(&url));
        }
        let network = |text: &String| {
            let read = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            read.map_err(|_| Error::config(format!("`server.trusted_proxies` in hub.yaml: `{text}` is no network such as 10.0.0.0/8")))
        };
        let proxies = config.server.trusted_proxies.iter().map(network).collect::<Result<_>>()?;
        Ok(Self { hosts, origin: public_url.map(|url| url.origin().ascii_serialization()), proxies })
    }

    /// Whether the peer is a proxy whose headers count.
    pub(super) fn believes(&self, peer: IpAddr) -> bool {
        !self.proxies.is_empty() && self.proxies.iter().any(|network| network.contains(&peer.to_canonical()))
    }

    /// Who calls, for logs: the peer, or whom the nearest proxies that are believed name.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        if !self.believes(peer) {
            return client;
        }
        let texts: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
        for hop in texts.iter().rev().flat_map(|text| text.rsplit(',')).take(MOST_HOPS) {
            let Ok(address) = hop.trim().parse() else { break };
            client = address;
            if !self.believes(client) {
                break;
            }
        }
        client
    }

    /// Lets a request in by the name it is for and, where it changes something, by the page it comes from.
    ///
    /// `local` is the address of ours that it came to; `signed` says that the request is proven by a signature, which no page can make.
    pub(super) fn admit(&self, peer: IpAddr, local: IpAddr, method: &Method, uri: &Uri, headers: &HeaderMap, signed: bool) -> Result<(), Turned> {
        let host = self.host(peer, uri, headers)?;
        let name = name_of(host).ok_or(Turned::NoHost)?;
        let listed = |known: &String| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host);
        let ours =
            || LOOPBACK.iter().any(|known| known.eq_ignore_ascii_case(name)) || name.parse::<IpAddr>().is_ok_and(|name| name == local.to_canonical());
        if !self.hosts.iter().any(listed) && !ours() {
            return Err(Turned::Host);
        }
        let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if changes && !signed && headers.contains_key(header::ORIGIN) && !self.same_site(host, headers) {
            return Err(Turned::Origin);
        }
        Ok(())
    }

    /// Whether the one `Origin` is this hub's: its public one, or the very host that is asked.
    fn same_site(&self, host: &str, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let (Some(Ok(origin)), None) = (origins.next().map(|value| value.to_str()), origins.next()) else { return false };
        let of_host = || origin.split_once("://").is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && rest.eq_ignore_ascii_case(host));
        self.origin.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(origin)) || of_host()
    }

    /// The host the request is for. One in the request line and one in a header must be the same.
    fn host<'r>(&self, peer: IpAddr, uri: &'r Uri, headers: &'r HeaderMap) -> Result<&'r str, Turned> {
        let mut named = headers.get_all(header::HOST).iter();
        let in_header = named.next().map(|value| value.to_str().map_err(|_| Turned::NoHost)).transpose()?;
        if named.next().is_some() {
            return Err(Turned::NoHost);
        }
        let in_line = uri.authority().map(axum::http::uri::Authority::as_str);
        let direct = match (in_line, in_header) {
            (Some(line), Some(header)) if !line.eq_ignore_ascii_case(header) => return Err(Turned::NoHost),
            (Some(host), _) | (None, Some(host)) => host,
            (None, None) => return Err(Turned::NoHost),
        };
        if !self.believes(peer) {
            return Ok(direct);
        }
        let forwarded = headers.get_all("x-forwarded-host").iter().next_back().and_then(|value| value.to_str().ok());
        Ok(forwarded.and_then(|text| text.rsplit(',').next()).map_or(direct, str::trim))
    }
}

/// The host of an address, without brackets.
fn bare(url: &Url) -> Option<String> {
    Some(url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase())
}

/// The name in `name:port`, `[address]:port`; `None` if it is none.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            (address, port)
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let sound = !name.is_empty()
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
        && !name.bytes().any(|byte| matches!(byte, b'@' | b'/' | b' ' | b'\\'));
    // A dot at the end is the same name to a resolver.
    sound.then(|| name.strip_suffix('.').unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "203.0.113.7";
    const PROXY: &str = "10.1.2.3";

    fn callers() -> Callers {
        let yaml = "public_url: https://hub.example\nserver: { hosts: [hub.internal, 'odd:8443'], trusted_proxies: [10.0.0.0/8] }\n\
                    connections:\n  crm: { connector: crm, webhook: { secrets: ['${S}'], public_url: 'https://${HOOKS}/x' } }\n";
        let config = HubConfig::parse("hub.yaml", yaml).unwrap();
        let env = |name: &str| (name == "HOOKS").then(|| "hooks.example".to_owned());
        Callers::of(&config, Some(&Url::parse("https://hub.example").unwrap()), env).unwrap()
    }

    fn ask(peer: &str, method: Method, uri: &str, pairs: &[(&'static str, &str)]) -> Result<(), Turned> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        callers().admit(peer.parse().unwrap(), "192.0.2.1".parse().unwrap(), &method, &uri.parse().unwrap(), &headers, false)
    }

    fn host(name: &str) -> Result<(), Turned> {
        ask(PEER, Method::GET, "/", &[("host", name)])
    }

    #[test]
    fn the_hub_answers_to_its_own_names_only() {
        for good in [
            "hub.example",
            "HUB.example:443",
            "hub.example.",
            "hooks.example",
            "hub.internal:4000",
            "odd:8443",
            "localhost:4000",
            "127.0.0.1",
            "[::1]:4000",
            "192.0.2.1:80",
        ] {
            assert_eq!(host(good), Ok(()), "{good}");
        }
        for bad in ["evil.example", "hub.example.evil.example", "odd", "odd:1", "192.0.2.2", "169.254.169.254", "xhub.example", "[::2]"] {
            assert_eq!(host(bad), Err(Turned::Host), "{bad}");
        }
        for bad in ["", ":80", "hub.example:x", "a@hub.example", "[::1", "[::1]x", "hub.example/x"] {
            assert_eq!(host(bad), Err(Turned::NoHost), "{bad}");
        }
        assert_eq!(ask(PEER, Method::GET, "/", &[]), Err(Turned::NoHost));
        assert_eq!(ask(PEER, Method::GET, "/", &[("host", "hub.example"), ("host", "hub.example")]), Err(Turned::NoHost));
        assert_eq!(ask(PEER, Method::GET, "http://hub.example/", &[("host", "hub.internal")]), Err(Turned::NoHost));
        assert_eq!(ask(PEER, Method::GET, "http://evil.example/", &[("host", "evil.example")]), Err(Turned::Host));
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let with = |method: Method, origin: &str| ask(PEER, method, "/", &[("host", "hub.internal:4000"), ("origin", origin)]);
        for good in ["https://hub.example", "http://hub.internal:4000", "https://hub.internal:4000"] {
            assert_eq!(with(Method::POST, good), Ok(()), "{good}");
        }
        for bad in [
            "null",
            "https://evil.example",
            "http://hub.internal",
            "http://hub.internal:4001",
            "ftp://hub.internal:4000",
            "https://hub.example.evil.example",
            "",
        ] {
            assert_eq!(with(Method::POST, bad), Err(Turned::Origin), "{bad}");
            assert_eq!(with(Method::GET, bad), Ok(()), "a read changes nothing: {bad}");
        }
        let two = [("host", "hub.internal"), ("origin", "https://hub.example"), ("origin", "https://hub.example")];
        assert_eq!(ask(PEER, Method::DELETE, "/", &two), Err(Turned::Origin));
    }

    #[test]
    fn forwarded_headers_count_from_a_named_proxy_only() {
        let pairs = [("host", "evil.example"), ("x-forwarded-host", "hub.example")];
        assert_eq!(ask(PEER, Method::GET, "/", &pairs), Err(Turned::Host));
        assert_eq!(ask(PROXY, Method::GET, "/", &pairs), Ok(()));
        assert_eq!(ask(PROXY, Method::GET, "/", &[("host", "hub.example"), ("x-forwarded-host", "evil.example")]), Err(Turned::Host));
        let client = |peer: &str, chain: &str| {
            let headers = HeaderMap::from_iter([(header::HeaderName::from_static("x-forwarded-for"), chain.parse().unwrap())]);
            callers().client(peer.parse().unwrap(), &headers).to_string()
        };
        assert_eq!(client(PEER, "127.0.0.1"), PEER, "anybody can write this header");
        assert_eq!(client(PROXY, "127.0.0.1, 198.51.100.4, 10.9.9.9"), "198.51.100.4", "what stands before the first stranger is hearsay");
        assert_eq!(client(PROXY, "junk"), PROXY);
    }
}

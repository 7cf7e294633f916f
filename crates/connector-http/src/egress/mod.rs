//! Where requests may go: the guard against server-side request forgery.
//!
//! Owns the policy and its three checks: the literal host of a URL, the addresses a name resolves to, and the peer of the
//! connection an answer came over. Refuses strings: hosts are judged as the URL parser understood them, because `2130706433`,
//! `0x7f.1` and `①②⑦.0.0.1` are all 127.0.0.1.

mod address;
mod resolve;

use std::{collections::BTreeSet, fmt, net::IpAddr};

use connector_core::error::{Error, ErrorKind, Result};
use ipnet::IpNet;
use url::{Host, Url};

pub(crate) use resolve::{GuardedResolver, Lookup, SystemLookup};

/// The connection setting that extends the policy: hosts (`erp.internal:8443`), networks (`10.20.0.0/16`) or `loopback`, separated by commas.
pub const EGRESS_ALLOW: &str = "egress_allow";

/// Names by which clouds serve credentials to whoever asks.
const METADATA_NAMES: [&str; 6] =
    ["metadata.google.internal", "metadata.goog", "metadata", "instance-data", "instance-data.ec2.internal", "metadata.azure.internal"];

/// Where requests may go.
///
/// The default allows `https` to public addresses on ports 80 and 443 and refuses everything else: private, loopback, link-local,
/// shared, multicast, reserved and documentation addresses, IPv4 in IPv6 clothing (mapped, compatible, NAT64, 6to4, Teredo),
/// `localhost` and the clouds' metadata names. Redirects are never followed, so there is nothing to check after one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    loopback: bool,
    hosts: BTreeSet<AllowedHost>,
    networks: Vec<IpNet>,
    ports: BTreeSet<u16>,
    trusts_settings: bool,
}

/// A host that is allowed by name, at any scheme.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct AllowedHost {
    host: String,
    /// `None` stands for 80 and 443.
    port: Option<u16>,
}

impl EgressPolicy {
    /// The default policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also allows this machine, over `http` and at any port. For tests, sandboxes and sidecars.
    #[must_use]
    pub fn allow_loopback(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// Also allows one host (`erp.internal`, `erp.internal:8443`, `10.1.2.3`, `[fd12::1]:443`), over `http` too and at a private address.
    /// Without a port, 80 and 443 are meant. A name never leads to loopback (except `localhost`), link-local or metadata addresses, allowed or not.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if this is not a host with an optional port.
    pub fn allow_host(mut self, host: &str) -> Result<Self> {
        let refuse = || {
            Error::config(format!("`{}` is not a host the egress guard can allow; write it like `erp.internal` or `erp.internal:8443`", shown(host)))
        };
        let text = host.trim();
        // The URL parser decides what a host is, so that the entry and the URL it is compared with were read by the same rules.
        let url = Url::parse(&format!("guard://{text}/")).map_err(|_| refuse())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
        let host = Url::parse(&format!("https://{}/", url.host_str().ok_or_else(refuse)?)).map_err(|_| refuse())?;
        if !bare || text.is_empty() {
            return Err(refuse());
        }
        let host = host.host_str().ok_or_else(refuse)?.trim_end_matches('.').to_owned();
        self.hosts.insert(AllowedHost { host, port: url.port() });
        Ok(self)
    }

    /// Also allows the addresses of a network (`10.20.0.0/16`) or one address, at the allowed ports and for names that lead there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if this is not a network in CIDR notation.
    pub fn allow_cidr(mut self, cidr: &str) -> Result<Self> {
        let text = cidr.trim();
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| Error::config(format!("`{}` is not a network; write it like `10.20.0.0/16`", shown(cidr))))?;
        self.networks.push(network.trunc());
        Ok(self)
    }

    /// Also allows this port at every host that is allowed.
    #[must_use]
    pub fn allow_port(mut self, port: u16) -> Self {
        self.ports.insert(port);
        self
    }

    /// Whether a connection's setting [`EGRESS_ALLOW`] may extend this policy. Say `true` where only an administrator can write
    /// connection settings, `false` (the default) where a tenant can.
    #[must_use]
    pub fn trust_connection_settings(mut self, trust: bool) -> Self {
        self.trusts_settings = trust;
        self
    }

    /// Whether connection settings may extend it.
    pub fn trusts_connection_settings(&self) -> bool {
        self.trusts_settings
    }

    /// This policy with the entries of an [`EGRESS_ALLOW`] setting added.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the entry that cannot be read.
    pub fn extended(&self, setting: &str) -> Result<Self> {
        setting.split(',').map(str::trim).filter(|entry| !entry.is_empty()).try_fold(self.clone(), |policy, entry| match entry {
            "loopback" => Ok(policy.allow_loopback()),
            network if network.contains('/') => policy.allow_cidr(network),
            host => policy.allow_host(host),
        })
    }

    /// Judges a URL by what it says, before anything is resolved or sent.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] that names the host and the reason.
    #[inline]
    pub fn check_url(&self, url: &Url) -> Result<()> {
        let Some(host) = url.host() else { return Err(Blocked::new("", "it has no host").into_error()) };
        let port = url.port_or_known_default().unwrap_or(0);
        let secure = url.scheme() == "https";
        // The everyday case first: https to a name at 443, which only the resolver can judge further.
        if let Host::Domain(name) = host
            && secure
            && port == 443
            && is_plain_name(name)
        {
            return Ok(());
        }
        self.judge(&host, url.scheme(), port).map_err(|reason| Blocked::new(&host.to_string(), reason).into_error())
    }

    /// Judges where a call over another protocol with TLS goes, before anything is resolved: as a request, but with `usual` for 80 and 443.
    pub(crate) fn check_destination(&self, host: &Host<String>, port: u16, usual: &[u16]) -> Result<()> {
        let borrowed = match host {
            Host::Domain(name) => Host::Domain(name.as_str()),
            Host::Ipv4(ip) => Host::Ipv4(*ip),
            Host::Ipv6(ip) => Host::Ipv6(*ip),
        };
        let judged = match self.judge(&borrowed, "https", port) {
            Err(_) if usual.contains(&port) => self.judge(&borrowed, "https", 443),
            Err("only the ports 80 and 443 are allowed") => Err("the protocol is not served at this port"),
            judged => judged,
        };
        judged.map_err(|reason| Blocked::new(&format!("{host}:{port}"), reason).into_error())
    }

    fn judge(&self, host: &Host<&str>, scheme: &str, port: u16) -> Result<(), &'static str> {
        if !matches!(scheme, "http" | "https") {
            return Err("only https and http are spoken");
        }
        if self.lists(host, port) {
            return Ok(());
        }
        let ip = match host {
            Host::Domain(name) => {
                let name = name.trim_end_matches('.');
                if is_localhost(name) {
                    return if self.loopback { Ok(()) } else { Err("it is this machine") };
                }
                if METADATA_NAMES.contains(&name) {
                    return Err("it is a cloud's metadata service");
                }
                None
            }
            Host::Ipv4(ip) => Some(IpAddr::V4(*ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(*ip)),
        };
        if let Some(ip) = ip {
            if self.loopback && is_loopback(ip) {
                return Ok(());
            }
            if !self.networks_hold(ip)
                && let Some(reason) = address::not_public(ip)
            {
                return Err(reason);
            }
        }
        if scheme != "https" {
            return Err("only https is allowed");
        }
        if !matches!(port, 80 | 443) && !self.ports.contains(&port) {
            return Err("only the ports 80 and 443 are allowed");
        }
        Ok(())
    }

    /// Judges an address that `name` resolved to, or that a connection to it ended at.
    pub(crate) fn check_address(&self, name: &str, ip: IpAddr) -> Result<(), &'static str> {
        let Some(reason) = address::not_public(ip) else { return Ok(()) };
        if self.networks_hold(ip) || (self.loopback && is_loopback(ip)) {
            return Ok(());
        }
        let name = name.trim_end_matches('.');
        let may_be_listed = if is_localhost(name) { is_loopback(ip) } else { address::is_internal(ip) };
        if may_be_listed && self.hosts.iter().any(|entry| entry.host == name) { Ok(()) } else { Err(reason) }
    }

    /// Judges the peer that answered a request to `url`.
    #[inline]
    pub(crate) fn check_peer(&self, url: &Url, peer: IpAddr) -> Result<()> {
        let checked = match url.host() {
            Some(Host::Domain(name)) => self.check_address(name, peer),
            // A literal was judged as it stands, and a connection to a literal ends there.
            Some(Host::Ipv4(ip)) if IpAddr::V4(ip) == peer => Ok(()),
            Some(Host::Ipv6(ip)) if IpAddr::V6(ip) == peer => Ok(()),
            _ => Err("the answer came from another address"),
        };
        checked.map_err(|reason| Blocked::new(url.host_str().unwrap_or_default(), reason).into_error())
    }

    fn lists(&self, host: &Host<&str>, port: u16) -> bool {
        if self.hosts.is_empty() {
            return false;
        }
        let host = host.to_string();
        let host = host.trim_end_matches('.');
        self.hosts
            .iter()
            .any(|entry| entry.host == host && entry.port.map_or(matches!(port, 80 | 443) || self.ports.contains(&port), |allowed| allowed == port))
    }

    fn networks_hold(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&ip))
    }
}

/// A host or address the guard refused; travels through the HTTP client as an error source.
#[derive(Debug, Clone)]
pub(crate) struct Blocked {
    host: String,
    reason: &'static str,
}

impl Blocked {
    pub(crate) fn new(host: &str, reason: &'static str) -> Self {
        Self { host: shown(host), reason }
    }

    pub(crate) fn into_error(self) -> Error {
        Error::new(ErrorKind::Denied, format!("{self}; an administrator can allow it with `{EGRESS_ALLOW}`")).with_context("host", self.host)
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the egress guard refuses `{}`: {}", self.host, self.reason)
    }
}

impl std::error::Error for Blocked {}

fn shown(text: &str) -> String {
    connector_core::redact::printable(text, 120)
}

/// A name with a dot that does not end like this machine or a metadata service might.
#[inline]
fn is_plain_name(name: &str) -> bool {
    // Metadata names and `localhost` end in one of these, or have no dot at all.
    const SUSPECT: [&str; 5] = ["localhost", "localdomain", "internal", "goog", "."];
    name.contains('.') && !SUSPECT.iter().any(|end| name.ends_with(end))
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost") || name == "localhost.localdomain" || name == "ip6-localhost"
}

/// This machine, also as `::ffff:127.0.0.1`.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests;

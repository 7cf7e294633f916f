//! The `server:` section of `hub.yaml`: who may reach the hub over HTTP, how much at once, and how it stops.
//!
//! Owns the keys and their defaults; the program that serves reads them. Refuses values that would leave the hub unreachable.

use connector_manifest::model::DurationText;
use serde::Deserialize;
use std::time::Duration;

/// How the hub's HTTP server treats its callers. Every number has a default that fits one machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Names callers may use in `Host` besides the host of `public_url`, the listen address and the names of this machine's loopback.
    pub hosts: Vec<String>,
    /// Networks of proxies in front of the hub (`10.0.0.0/8`). Only their `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<String>,
    /// Open connections: 4,096. Above it those that wait for a request longest are closed for new ones.
    pub max_connections: usize,
    /// Requests being worked on: 1,024. From three quarters of it reads are told to come again, at it all but health and approvals.
    pub max_requests: usize,
    /// Webhook deliveries being worked on: 512.
    pub max_ingress: usize,
    /// How long the hub still accepts after a stop was asked for, so that load balancers notice first: 5 s.
    pub drain_delay: DurationText,
    /// How long requests in flight may take after that: 20 s.
    pub drain_timeout: DurationText,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            max_connections: 4_096,
            max_requests: 1_024,
            max_ingress: 512,
            drain_delay: DurationText(Duration::from_secs(5)),
            drain_timeout: DurationText(Duration::from_secs(20)),
        }
    }
}

/// The longest a stop may take, in all: orchestrators kill after 30 s.
const MOST_DRAIN: Duration = Duration::from_secs(28);

impl ServerConfig {
    /// What is wrong, each with the path of its key.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (key, value) in [("max_connections", self.max_connections), ("max_requests", self.max_requests), ("max_ingress", self.max_ingress)] {
            if value == 0 {
                found.push((format!("server.{key}"), "at least 1; with none the hub could not be reached".to_owned()));
            }
        }
        for (at, network) in self.trusted_proxies.iter().enumerate() {
            let sound = network.split_once('/').map_or_else(
                || network.parse::<std::net::IpAddr>().is_ok(),
                |(address, bits)| {
                    let most = address.parse::<std::net::IpAddr>().map(|address| if address.is_ipv4() { 32 } else { 128 });
                    bits.parse::<u8>().is_ok_and(|bits| most.is_ok_and(|most| bits <= most))
                },
            );
            if !sound {
                found.push((format!("server.trusted_proxies[{at}]"), "this is no network such as `10.0.0.0/8` and no address".to_owned()));
            }
        }
        for (at, host) in self.hosts.iter().enumerate() {
            let sound = !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']'));
            if !sound {
                found.push((format!("server.hosts[{at}]"), "a host's name as it stands in `Host`, without scheme and path".to_owned()));
            }
        }
        if self.drain_delay.0 + self.drain_timeout.0 > MOST_DRAIN {
            let message = format!(
                "`drain_delay` and `drain_timeout` are more than {} s together; the hub would be killed before it is done",
                MOST_DRAIN.as_secs()
            );
            found.push(("server.drain_timeout".to_owned(), message));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use crate::HubConfig;

    #[test]
    fn the_section_has_defaults_and_refuses_what_would_leave_the_hub_unreachable() {
        let config = HubConfig::parse("hub.yaml", "server:\n  hosts: [hub.internal]\n  drain_delay: 250ms\n").unwrap();
        assert_eq!((config.server.max_connections, config.server.drain_delay.0.as_millis()), (4_096, 250));
        let wrong = "server:\n  max_requests: 0\n  trusted_proxies: [10.0.0.0/33, proxy]\n  hosts: ['http://x/']\n  drain_timeout: 60s\n";
        let error = HubConfig::parse("hub.yaml", wrong).unwrap_err();
        let keys: Vec<String> = error.0.iter().map(|one| format!("{}:{}", one.line, one.key)).collect();
        assert_eq!(
            keys,
            ["2:server.max_requests", "3:server.trusted_proxies[0]", "3:server.trusted_proxies[1]", "4:server.hosts[0]", "5:server.drain_timeout"]
        );
        assert!(HubConfig::parse("hub.yaml", "server: { hostz: [] }").is_err());
    }
}

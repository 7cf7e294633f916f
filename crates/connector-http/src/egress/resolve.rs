//! The second check: names are resolved here, and addresses the policy refuses are never dialled.
//!
//! The HTTP client connects to exactly the addresses this resolver returns, so a name that answers differently the second time
//! (rebinding) gains nothing. Refuses caching: every new connection asks again.

use std::{fmt::Debug, io, net::IpAddr, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{Blocked, EgressPolicy};

/// Turns a name into addresses.
#[async_trait]
pub(crate) trait Lookup: Debug + Send + Sync + 'static {
    /// All addresses of `name`.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// A resolver that lets only allowed addresses through.
#[derive(Debug, Clone)]
pub(crate) struct GuardedResolver {
    pub(crate) policy: Arc<EgressPolicy>,
    pub(crate) lookup: Arc<dyn Lookup>,
}

impl GuardedResolver {
    /// The allowed addresses of `name`; empty if it has none at all.
    pub(crate) async fn allowed(&self, name: &str, port: u16) -> io::Result<Result<Vec<SocketAddr>, Blocked>> {
        let found = self.lookup.lookup(name).await?;
        let mut refused = None;
        let mut allowed = Vec::with_capacity(found.len());
        for ip in found {
            match self.policy.check_address(name, ip) {
                Ok(()) => allowed.push(SocketAddr::new(ip, port)),
                Err(reason) => refused = Some(reason),
            }
        }
        Ok(match refused {
            Some(reason) if allowed.is_empty() => Err(Blocked::new(name, reason)),
            _ => Ok(allowed),
        })
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            // Port 0 leaves the port to the URL.
            let allowed = this.allowed(name.as_str(), 0).await??;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

//! The transport: one pooled HTTP client per distinct egress policy, and nothing that decides.
//!
//! Owns connections, TLS, decompression and the mapping of failures. Refuses retries, redirects, cookies, `Referer` and proxies from
//! the environment: a request goes exactly once, exactly where its URL says.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    net::SocketAddr,
    ops::Deref,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use connector_core::{
    context::CallCx,
    error::{Error, ErrorKind, Result},
    transport::{Body, Request, Response, Transport},
};
use http::{HeaderValue, Method, header};
use rustls::{ClientConfig, pki_types::CertificateDer};
use url::Host;

use crate::{
    body_cap::{self, StallGuard},
    egress::{Blocked, EGRESS_ALLOW, EgressPolicy, GuardedResolver, Lookup, SystemLookup},
    fault, tls,
};

/// How many distinct `egress_allow` settings are kept with a client of their own. More than that is a mistake in a hub file.
const MAX_POLICIES: usize = 256;

/// Sends requests with pooled connections, HTTP/1.1 or HTTP/2 over TLS ≥ 1.2, to where the [`EgressPolicy`] allows.
///
/// Bounds what only it can see: the time to connect and the pace at which an answer arrives. How long to wait for an answer to begin is
/// the timeout layer's to say; a caller who uses a transport alone wraps it in a timeout.
pub struct HttpTransport {
    base: Guarded,
    settings: Settings,
    /// Clients of connections whose `egress_allow` extends the policy, by that setting.
    extended: RwLock<HashMap<Box<str>, Arc<Guarded>>>,
}

/// A client whose resolver enforces this policy.
struct Guarded {
    client: reqwest::Client,
    policy: Arc<EgressPolicy>,
}

/// What it takes to make another client.
struct Settings {
    tls: ClientConfig,
    lookup: Arc<dyn Lookup>,
    user_agent: HeaderValue,
    connect_timeout: Duration,
    idle_per_host: usize,
    stall: StallGuard,
}

impl HttpTransport {
    /// A transport with the default policy, to be adjusted.
    pub fn builder() -> HttpTransportBuilder {
        HttpTransportBuilder {
            egress: EgressPolicy::default(),
            connect_timeout: Duration::from_secs(5),
            user_agent: concat!("connectors/", env!("CARGO_PKG_VERSION")).to_owned(),
            idle_per_host: 64,
            extra_roots: Vec::new(),
            stall: StallGuard::STANDARD,
            lookup: Arc::new(SystemLookup),
        }
    }

    /// The transport with the default settings that all connectors of a program share, and with it one connection pool.
    ///
    /// # Errors
    /// As [`HttpTransportBuilder::build`].
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Option<Arc<HttpTransport>>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some(transport) => Ok(transport.clone()),
            None => Ok(shared.insert(Arc::new(Self::builder().build()?)).clone()),
        }
    }

    /// The policy requests are judged by, for checking a URL when it is configured rather than when it is called.
    pub fn egress(&self) -> &EgressPolicy {
        &self.base.policy
    }

    /// The client for a call.
    fn chosen(&self, cx: &CallCx) -> Result<Chosen<'_>> {
        let setting = if self.base.policy.trusts_connection_settings() { cx.connection.setting(EGRESS_ALLOW) } else { None };
        match setting {
            None => Ok(Chosen::Base(&self.base)),
            Some(setting) => self.extended(setting).map(Chosen::Extended),
        }
    }

    /// The client for a connection with its own allow-list.
    fn extended(&self, setting: &str) -> Result<Arc<Guarded>> {
        let known = self.extended.read().unwrap_or_else(PoisonError::into_inner).get(setting).cloned();
        if let Some(guarded) = known {
            return Ok(guarded);
        }
        let guarded = Arc::new(Guarded::new(self.base.policy.extended(setting)?, &self.settings)?);
        let mut map = self.extended.write().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= MAX_POLICIES && !map.contains_key(setting) {
            return Err(Error::config(format!(
                "more than {MAX_POLICIES} different `{EGRESS_ALLOW}` settings; give connections that may reach the same hosts the same text"
            )));
        }
        Ok(map.entry(setting.into()).or_insert(guarded).clone())
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("egress", &self.base.policy)
            .field("connect_timeout", &self.settings.connect_timeout)
            .field("idle_per_host", &self.settings.idle_per_host)
            .finish_non_exhaustive()
    }
}

impl Transport for HttpTransport {
    // Written out, so that all that needs no waiting is done before the future is made: what remains is small to keep and to move.
    fn send<'life0, 'life1, 'async_trait>(
        &'life0 self,
        cx: &'life1 CallCx,
        request: Request,
    ) -> Pin<Box<dyn Future<Output = Result<Response>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        let stall = self.settings.stall;
        let prepared = self.chosen(cx).and_then(|guarded| guarded.outgoing(request).map(|outgoing| (guarded, outgoing)));
        match prepared {
            Ok((guarded, outgoing)) => {
                let pending = guarded.client.execute(outgoing);
                Box::pin(async move { guarded.incoming(pending.await, stall) })
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn resolve<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        cx: &'life1 CallCx,
        host: &'life2 str,
        port: u16,
        usual: &'static [u16],
    ) -> Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let shown = connector_core::redact::printable(host, 120);
            let host = Host::parse(host).map_err(|_| Error::config(format!("`{shown}` is not a host")))?;
            let policy = self.chosen(cx)?.policy.clone();
            policy.check_destination(&host, port, usual)?;
            let unknown = || Error::new(ErrorKind::NotSent, format!("`{shown}` has no address")).with_context("host", shown.clone());
            let allowed = match host {
                Host::Ipv4(ip) => vec![SocketAddr::from((ip, port))],
                Host::Ipv6(ip) => vec![SocketAddr::from((ip, port))],
                Host::Domain(name) => {
                    let resolver = GuardedResolver { policy, lookup: self.settings.lookup.clone() };
                    let found = resolver.allowed(&name, port).await.map_err(|error| unknown().with_source(error))?;
                    found.map_err(Blocked::into_error)?
                }
            };
            if allowed.is_empty() { Err(unknown()) } else { Ok(allowed) }
        })
    }
}

/// The client a request goes through: the transport's own, or that of a connection with an allow-list of its own.
enum Chosen<'a> {
    Base(&'a Guarded),
    Extended(Arc<Guarded>),
}

impl Deref for Chosen<'_> {
    type Target = Guarded;

    fn deref(&self) -> &Guarded {
        match self {
            Self::Base(guarded) => guarded,
            Self::Extended(guarded) => guarded,
        }
    }
}

impl Guarded {
    fn new(policy: EgressPolicy, settings: &Settings) -> Result<Self> {
        let policy = Arc::new(policy);
        let resolver = GuardedResolver { policy: policy.clone(), lookup: settings.lookup.clone() };
        // This is the door the lint on `reqwest::Client::builder` points at.
        let client = reqwest::ClientBuilder::new()
            .tls_backend_preconfigured(settings.tls.clone())
            .dns_resolver(resolver)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .user_agent(settings.user_agent.clone())
            .connect_timeout(settings.connect_timeout)
            .pool_max_idle_per_host(settings.idle_per_host)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| Error::internal("the HTTP client could not be made").with_source(error.without_url()))?;
        Ok(Self { client, policy })
    }

    /// The request as the client takes it.
    fn outgoing(&self, request: Request) -> Result<reqwest::Request> {
        let Request { head, body } = request;
        self.policy.check_url(&head.url)?;
        let wants_length = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        let mut outgoing = reqwest::Request::new(head.method, head.url);
        *outgoing.headers_mut() = head.headers;
        match body {
            // Without a body the client announces no length, and some vendors then answer 411.
            Body::Empty if wants_length => {
                outgoing.headers_mut().entry(header::CONTENT_LENGTH).or_insert(const { HeaderValue::from_static("0") });
            }
            Body::Empty => {}
            Body::Bytes(bytes) => *outgoing.body_mut() = Some(bytes.into()),
            Body::Stream { chunks, length } => {
                if let Some(length) = length {
                    outgoing.headers_mut().insert(header::CONTENT_LENGTH, length.into());
                }
                *outgoing.body_mut() = Some(reqwest::Body::wrap_stream(chunks));
            }
        }
        Ok(outgoing)
    }

    /// What came back, judged and with its body still to be read.
    fn incoming(&self, answer: reqwest::Result<reqwest::Response>, stall: StallGuard) -> Result<Response> {
        let mut incoming = answer.map_err(|error| {
            let host = error.url().and_then(|url| url.host_str()).unwrap_or_default().to_owned();
            fault::sending(error, &host)
        })?;
        // The resolver and the literal check decide what is dialled; this one holds even if a client were to dial something else.
        match incoming.remote_addr() {
            Some(peer) => self.policy.check_peer(incoming.url(), peer.ip())?,
            None => return Err(Error::internal("the HTTP client does not say which address answered")),
        }
        let mut response = http::Response::new(Body::Empty);
        *response.status_mut() = incoming.status();
        *response.version_mut() = incoming.version();
        *response.headers_mut() = std::mem::take(incoming.headers_mut());
        *response.body_mut() = body_cap::read(incoming, stall);
        Ok(response)
    }
}

/// Settings of an [`HttpTransport`].
#[derive(Debug)]
pub struct HttpTransportBuilder {
    egress: EgressPolicy,
    connect_timeout: Duration,
    user_agent: String,
    idle_per_host: usize,
    extra_roots: Vec<u8>,
    stall: StallGuard,
    lookup: Arc<dyn Lookup>,
}

impl HttpTransportBuilder {
    /// Where requests may go. Default: public addresses over `https` at 80 and 443.
    #[must_use]
    pub fn egress(mut self, policy: EgressPolicy) -> Self {
        self.egress = policy;
        self
    }

    /// The time for DNS, TCP and TLS together. Default: 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The `User-Agent` of requests that do not bring one. Default: `connectors/<version>`.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// How many idle connections are kept for each host. Default: 64.
    #[must_use]
    pub fn pool_idle_per_host(mut self, connections: usize) -> Self {
        self.idle_per_host = connections;
        self
    }

    /// Also trusts these root certificates (PEM), for example a company's own.
    #[must_use]
    pub fn extra_root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.extra_roots = pem.into();
        self
    }

    /// How slowly an answer may arrive: fewer than `bytes_per_second` over a whole `window` is a timeout. Default: 1 KiB/s over 20 s.
    #[must_use]
    pub fn stall_limit(mut self, bytes_per_second: u64, window: Duration) -> Self {
        self.stall = StallGuard::slower_than(bytes_per_second, window);
        self
    }

    /// Replaces the system's resolver.
    #[cfg(test)]
    pub(crate) fn lookup(mut self, lookup: Arc<dyn Lookup>) -> Self {
        self.lookup = lookup;
        self
    }

    /// Makes the transport. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](connector_core::ErrorKind::Config) for a user agent or root certificates that cannot be used.
    pub fn build(self) -> Result<HttpTransport> {
        let extra: Vec<CertificateDer<'static>> = if self.extra_roots.is_empty() { Vec::new() } else { tls::certificates(&self.extra_roots)? };
        let settings = Settings {
            tls: tls::client_config(&extra)?,
            lookup: self.lookup,
            user_agent: HeaderValue::from_str(&self.user_agent)
                .map_err(|_| Error::config("the user agent has characters that a header cannot carry"))?,
            connect_timeout: self.connect_timeout,
            idle_per_host: self.idle_per_host,
            stall: self.stall,
        };
        Ok(HttpTransport { base: Guarded::new(self.egress, &settings)?, settings, extended: RwLock::default() })
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

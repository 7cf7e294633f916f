//! Where the Redis server is, and a connection to it: TCP, TLS or a socket of this machine.
//!
//! Owns the reading of the URL. Refuses to show it: it holds a password. Refuses TLS that does not check the certificate (`#insecure`).

use std::{io, path::PathBuf, sync::Arc};

use connector_core::error::{Error, Result};
use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use rustls::{
    ClientConfig,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use rustls_platform_verifier::Verifier;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

/// A connection of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

#[derive(Clone)]
enum Place {
    Tcp(String, u16),
    Tls(String, u16, TlsConnector, ServerName<'static>),
    Unix(PathBuf),
}

/// The server and how to speak to it.
#[derive(Clone)]
pub(super) struct Target {
    place: Place,
    /// Database, user and password.
    pub(super) login: RedisConnectionInfo,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match &self.place {
            Place::Tcp(host, port) => format!("{host}:{port}"),
            Place::Tls(host, port, ..) => format!("{host}:{port} over TLS"),
            Place::Unix(path) => path.display().to_string(),
        };
        f.debug_struct("Target").field("place", &place).finish_non_exhaustive()
    }
}

impl Target {
    /// Reads the URL.
    pub(super) fn parse(url: &SecretString) -> Result<Self> {
        let wrong = || {
            Error::config(
                "the URL of the Redis server is not valid: redis://user:password@host:port/database, rediss:// for TLS, special characters as %XX",
            )
        };
        let url = url.expose_secret();
        // The crate speaks TLS with a process-wide provider; here it is this workspace's own.
        let (plain, tls) = match (url.strip_prefix("rediss://"), url.strip_prefix("valkeys://")) {
            (Some(rest), _) | (_, Some(rest)) => (format!("redis://{rest}"), true),
            _ => (url.to_owned(), false),
        };
        if plain.contains('#') {
            return Err(Error::config("the URL of the Redis server must have no `#…`: TLS always checks the certificate"));
        }
        // The parser's error may quote what it could not read, and that may be a part of a password.
        let info = plain.as_str().into_connection_info().map_err(|_| wrong())?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) if tls => {
                let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
                Place::Tls(host.clone(), *port, TlsConnector::from(Arc::new(client_config()?)), name)
            }
            ConnectionAddr::Tcp(host, port) => Place::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            _ => return Err(wrong()),
        };
        Ok(Self { place, login: info.redis_settings().clone() })
    }

    /// Opens a connection. Bounds no time.
    pub(super) async fn open(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = async |host: &str, port: u16| {
            let stream = TcpStream::connect((host, port)).await?;
            // A question is one small packet that somebody waits for.
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        match &self.place {
            Place::Tcp(host, port) => Ok(Box::new(tcp(host, *port).await?)),
            Place::Tls(host, port, connector, name) => Ok(Box::new(connector.connect(name.clone(), tcp(host, *port).await?).await?)),
            Place::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        }
    }
}

/// TLS 1.2 and 1.3 with ring and the machine's authorities, handed over explicitly: no process-wide default is read or set.
fn client_config() -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(provider.clone())
        .map_err(|error| Error::config("this machine has no usable certificate store, which rediss:// needs").with_source(error))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| Error::internal("the TLS provider lacks TLS 1.2 and 1.3").with_source(error))?;
    // The name of rustls' door for any verifier of one's own; this one is the platform's and checks chain, name and dates.
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target> {
        Target::parse(&SecretString::from(url))
    }

    #[test]
    fn a_url_says_the_place_and_never_shows_its_password() {
        let shown = |url: &str| format!("{:?}", parse(url).unwrap());
        assert!(shown("redis://:hush@cache.example:6380/2").contains("cache.example:6380\""));
        assert!(shown("redis://localhost").contains("localhost:6379"));
        assert!(shown("unix:///run/redis.sock").contains("/run/redis.sock"));
        assert!(!shown("redis://user:hush@cache.example").contains("hush"));
    }

    #[test]
    fn a_url_that_will_not_do_is_refused_without_being_quoted() {
        for url in ["", "hush", "postgres://hush@x", "redis://user:hush@x:notaport", "rediss://:hush@x#insecure", "redis://:hush@x#insecure"] {
            let error = parse(url).unwrap_err();
            assert!(error.kind() == connector_core::ErrorKind::Config && !format!("{error:?} {error}").contains("hush"), "{url}: {error}");
        }
    }
}

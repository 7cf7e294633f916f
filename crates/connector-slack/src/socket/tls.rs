//! The socket under a connection: TCP, and TLS with the machine's roots. The provider is handed over explicitly, as in `connector-http`.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use connector_core::{Error, ErrorKind, Result};
use rustls::{
    ClientConfig,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::Url;

/// Opens sockets.
#[derive(Clone)]
pub(super) struct Connector(TlsConnector);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    pub(super) fn new() -> Result<Self> {
        let unusable = |error: rustls::Error| Error::config("TLS for Socket Mode cannot be set up on this machine").with_source(error);
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(unusable)?
            .with_platform_verifier()
            .map_err(unusable)?
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// A socket to the URL's host; with TLS for `wss`.
    pub(super) async fn open(&self, url: &Url) -> Result<Socket> {
        let failed = |error: io::Error| Error::new(ErrorKind::NotSent, "Slack's Socket Mode host cannot be reached").with_source(error);
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default().unwrap_or(443);
        let tcp = TcpStream::connect((host, port)).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        if url.scheme() != "wss" {
            return Ok(Socket::Plain(tcp));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::protocol("Slack's Socket Mode host has no usable name"))?;
        Ok(Socket::Tls(Box::new(self.0.connect(name, tcp).await.map_err(failed)?)))
    }
}

/// With or without TLS.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! either {
    ($self:expr, $socket:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain(plain) => {
                let $socket = Pin::new(plain);
                $call
            }
            Self::Tls(tls) => {
                let $socket = Pin::new(tls.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, socket => socket.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_shutdown(cx))
    }
}

//! One socket: dialled where the guard allows, with TLS from the start, after STARTTLS, or (loopback only, and only if said) without.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use connector_core::{CallCx, Error, ErrorKind, Result, Retry};
use connector_manifest::Engine;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::settings::{Security, Server};

/// The ports that mail is served at, RFC 8314 and RFC 9051: the guard takes them as it takes 443 for HTTP.
const MAIL_PORTS: &[u16] = &[143, 465, 587, 993];
/// How long connecting and the handshake may take, each.
const CONNECT: Duration = Duration::from_secs(10);

/// What is needed to open sockets to one server.
pub(crate) struct Dial {
    addresses: Vec<SocketAddr>,
    name: ServerName<'static>,
    tls: TlsConnector,
    security: Security,
}

impl Dial {
    /// Asks the guard where the server is.
    pub(crate) async fn new(engine: &Engine, cx: &CallCx, server: &Server, tls: TlsConnector) -> Result<Self> {
        let addresses = engine.transport().resolve(cx, &server.host, server.port, MAIL_PORTS).await?;
        let all_local = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
        if server.security == Security::Plain && !all_local {
            return Err(Error::new(ErrorKind::Denied, "a connection without TLS is only made to this machine itself; use `tls` or `starttls`")
                .with_context("host", &*server.host));
        }
        let bare = server.host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(bare).map_err(|_| Error::config(format!("`{}` is no host a certificate can be for", server.host)))?;
        Ok(Self { addresses, name, tls, security: server.security })
    }

    /// Opens a socket; with TLS if that comes first.
    pub(crate) async fn open(&self) -> Result<Socket> {
        let mut last = None;
        for address in &self.addresses {
            match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    tcp.set_nodelay(true).map_err(|error| unreachable(Some(error)))?;
                    let socket = Socket::Plain(tcp);
                    return if self.security == Security::Tls { self.secure(socket).await } else { Ok(socket) };
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = None,
            }
        }
        Err(unreachable(last))
    }

    /// The same socket with TLS: chain, name and dates of the certificate are verified.
    pub(crate) async fn secure(&self, socket: Socket) -> Result<Socket> {
        let Socket::Plain(tcp) = socket else { return Err(Error::internal("a socket that has TLS was to get it again")) };
        match tokio::time::timeout(CONNECT, self.tls.connect(self.name.clone(), tcp)).await {
            Ok(Ok(stream)) => Ok(Socket::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                let certificate = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                let untrusted = matches!(certificate, Some(rustls::Error::InvalidCertificate(_)));
                let what = if untrusted {
                    "the mail server's certificate is not trusted; for a private CA name its file in `ca_file`"
                } else {
                    "the mail server did not take part in TLS"
                };
                let mapped = Error::new(ErrorKind::NotSent, what).with_source(error);
                // A certificate does not get better by asking again.
                Err(if untrusted { mapped.with_retry(Retry::Never) } else { mapped })
            }
            Err(_) => Err(Error::new(ErrorKind::NotSent, "the TLS handshake with the mail server took too long")),
        }
    }

    /// How the server is spoken to.
    pub(crate) fn security(&self) -> Security {
        self.security
    }
}

fn unreachable(error: Option<io::Error>) -> Error {
    let what = match &error {
        Some(error) => format!("the mail server cannot be reached: {}", error.kind()),
        None => "the mail server cannot be reached: it took too long".to_owned(),
    };
    let mapped = Error::new(ErrorKind::NotSent, what);
    match error {
        Some(error) => mapped.with_source(error),
        None => mapped,
    }
}

/// With or without TLS.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP alone: before STARTTLS, or on loopback.
    Plain(TcpStream),
    /// Over TLS.
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

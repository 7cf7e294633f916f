//! Accepting connections until told to stop, then ending every session. It refuses to know what the sessions talk about.

use super::shared::Shared;
use super::wire::Io;
use super::{imap, smtp};
use std::io;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Which protocol a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Imap,
    Smtp,
}

/// Serves one listener. With `implicit`, TLS comes before the first word.
pub(crate) async fn serve(listener: TcpListener, protocol: Protocol, implicit: bool, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            // An error means the handle is gone, which also ends the service.
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => { sessions.spawn(session(socket, protocol, implicit, shared.clone())); }
                Err(error) => tracing::debug!(%error, "the fake mail server could not accept a connection"),
            },
        }
    }
    drop(listener);
    sessions.shutdown().await;
}

async fn session(socket: TcpStream, protocol: Protocol, implicit: bool, shared: Arc<Shared>) {
    if let Err(error) = talk(socket, protocol, implicit, shared).await {
        // A client that goes away in the middle is its own business; the level says so.
        tracing::debug!(%error, ?protocol, "a session of the fake mail server ended early");
    }
}

async fn talk(socket: TcpStream, protocol: Protocol, implicit: bool, shared: Arc<Shared>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let io: Box<dyn Io> = if implicit { protect(Box::new(socket), &shared).await? } else { Box::new(socket) };
    match protocol {
        Protocol::Imap => imap::run(io, implicit, shared).await,
        Protocol::Smtp => smtp::run(io, implicit, shared).await,
    }
}

/// Puts TLS over a connection.
pub(crate) async fn protect(io: Box<dyn Io>, shared: &Shared) -> io::Result<Box<dyn Io>> {
    let Some(config) = shared.tls.clone() else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the fake mail server was started without a certificate"));
    };
    Ok(Box::new(TlsAcceptor::from(config).accept(io).await?))
}

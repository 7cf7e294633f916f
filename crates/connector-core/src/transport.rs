//! How bytes reach a vendor: the port that `connector-http` implements with reqwest and tests implement with a table.

use std::{fmt::Debug, net::SocketAddr};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt as _};
use http::{HeaderMap, Method};
use url::Url;

use crate::{
    context::CallCx,
    error::{Error, Result},
};

/// Sends one HTTP request. Retries, limits and breakers are layers above; implementations send exactly once.
#[async_trait]
pub trait Transport: Debug + Send + Sync + 'static {
    /// Sends the request and gives the response once its head has arrived.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotSent`] if the vendor certainly never saw the request, [`crate::ErrorKind::Timeout`] or
    /// [`crate::ErrorKind::Transient`] if it may have. An HTTP error status is a response, not an error.
    async fn send(&self, cx: &CallCx, request: Request) -> Result<Response>;

    /// The addresses that a call over another protocol (IMAP, SMTP) may be made to, judged by the rules that requests are judged by. The
    /// caller dials exactly these, so that a name that answers differently the second time gains nothing.
    ///
    /// `usual` are the ports that the protocol is served at: what 80 and 443 are for HTTP. The caller speaks TLS there, or refuses to go on.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Denied`] if the rules refuse the host, [`crate::ErrorKind::NotSent`] if it has no address. A transport that has
    /// no such rules refuses every host ([`crate::ErrorKind::Unsupported`]).
    async fn resolve(&self, cx: &CallCx, host: &str, port: u16, usual: &'static [u16]) -> Result<Vec<SocketAddr>> {
        let _ = (cx, host, port, usual);
        Err(Error::unsupported("this transport only sends HTTP requests; it has no rules for where another protocol may go"))
    }
}

/// Method, URL and headers of a request; what authentication may change.
#[derive(Debug, Clone)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The full URL.
    pub url: Url,
    /// The headers. Values that authenticate are marked sensitive.
    pub headers: HeaderMap,
}

/// A request. The URL is parsed once, by whoever builds it.
#[derive(Debug)]
pub struct Request {
    /// Method, URL and headers.
    pub head: Head,
    /// The body.
    pub body: Body,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        Self { head: Head { method, url, headers: HeaderMap::new() }, body: Body::Empty }
    }
}

/// A response: status and headers, and a body that is still to be read.
pub type Response = http::Response<Body>;

/// A body.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// All at once.
    Bytes(Bytes),
    /// Piece by piece, with the total length if it is known.
    Stream {
        /// The pieces.
        chunks: BoxStream<'static, Result<Bytes>>,
        /// The announced length in bytes.
        length: Option<u64>,
    },
}

impl Body {
    /// Reads all of it, but no more than `cap` bytes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Protocol`] if it is longer than `cap`; whatever the stream reports otherwise.
    pub async fn collect(self, cap: usize) -> Result<Bytes> {
        let too_long = || Error::protocol(format!("the vendor's answer is longer than {cap} bytes")).with_context("cap", cap.to_string());
        match self {
            Self::Empty => Ok(Bytes::new()),
            Self::Bytes(bytes) if bytes.len() > cap => Err(too_long()),
            Self::Bytes(bytes) => Ok(bytes),
            Self::Stream { mut chunks, length } => {
                if length.is_some_and(|length| length > cap as u64) {
                    return Err(too_long());
                }
                let Some(first) = chunks.next().await.transpose()? else { return Ok(Bytes::new()) };
                if first.len() > cap {
                    return Err(too_long());
                }
                let Some(second) = chunks.next().await.transpose()? else { return Ok(first) };
                // The announced length is only a hint: it was checked against the cap above, so it bounds this allocation.
                let hint = usize::try_from(length.unwrap_or(0)).unwrap_or(0).max(first.len() + second.len());
                let mut all = BytesMut::with_capacity(hint.min(cap));
                all.extend_from_slice(&first);
                let mut next = Some(second);
                while let Some(chunk) = next {
                    if all.len() + chunk.len() > cap {
                        return Err(too_long());
                    }
                    all.extend_from_slice(&chunk);
                    next = chunks.next().await.transpose()?;
                }
                Ok(all.freeze())
            }
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Bytes(bytes) }
    }
}

impl Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Body(empty)"),
            Self::Bytes(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Self::Stream { length: Some(length), .. } => write!(f, "Body(stream of {length} bytes)"),
            Self::Stream { length: None, .. } => f.write_str("Body(stream)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(chunks: &[&'static str], length: Option<u64>) -> Body {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        Body::Stream { chunks: futures_util::stream::iter(chunks).boxed(), length }
    }

    #[tokio::test]
    async fn a_body_is_collected_up_to_its_cap() {
        assert_eq!(stream(&["ab", "cd", "ef"], None).collect(6).await.unwrap(), "abcdef");
        assert_eq!(stream(&[], None).collect(6).await.unwrap(), "");
        for body in [stream(&["ab", "cd", "ef"], None), stream(&["abcdef"], None), stream(&["a"], Some(10_000_000_000))] {
            assert_eq!(body.collect(5).await.unwrap_err().kind(), crate::ErrorKind::Protocol);
        }
    }
}

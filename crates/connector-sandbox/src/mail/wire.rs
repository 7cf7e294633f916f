//! One connection's bytes: lines that end in CRLF, counted octets, and a collected answer. It refuses to know a protocol. Reading may be
//! dropped half way (IDLE waits for two things at once): what was read stays in the buffer.

use bytes::{Buf as _, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A connection, plain or under TLS.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection with a buffer each way.
pub(crate) struct Wire {
    io: Box<dyn Io>,
    read: BytesMut,
    out: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(io: Box<dyn Io>) -> Self {
        Self { io, read: BytesMut::new(), out: Vec::new() }
    }

    /// The next line without its CRLF; `None` when the client is gone. A line over `limit` octets is an error.
    pub(crate) async fn line(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut looked = 0;
        loop {
            if let Some(at) = find(&self.read[looked..], b"\r\n") {
                let line = self.read.split_to(looked + at).to_vec();
                self.read.advance(2);
                return Ok(Some(line));
            }
            looked = self.read.len().saturating_sub(1);
            if self.read.len() > limit {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line of more than {limit} octets")));
            }
            if self.io.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next `count` octets; `None` when the client went before they were all there.
    pub(crate) async fn exact(&mut self, count: usize) -> io::Result<Option<Vec<u8>>> {
        while self.read.len() < count {
            if self.io.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(self.read.split_to(count).to_vec()))
    }

    /// Puts text into the answer.
    pub(crate) fn put(&mut self, text: impl AsRef<[u8]>) {
        self.out.extend_from_slice(text.as_ref());
    }

    /// Puts one line into the answer.
    pub(crate) fn say(&mut self, line: impl AsRef<str>) {
        self.put(line.as_ref());
        self.put("\r\n");
    }

    /// Sends a long answer on its way early.
    pub(crate) async fn flush_if_long(&mut self) -> io::Result<()> {
        if self.out.len() > 64 * 1024 { self.flush().await } else { Ok(()) }
    }

    /// Sends the answer.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.io.write_all(&self.out).await?;
            self.out.clear();
        }
        self.io.flush().await
    }

    /// The bare connection, for TLS. What the client sent ahead in plain text is thrown away: it must not speak for the protected session
    /// (RFC 3501 §6.2.1, command injection).
    pub(crate) fn into_io(self) -> Box<dyn Io> {
        self.io
    }
}

/// Where `needle` starts in `hay`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_crlf_ends_a_line_and_counted_octets_may_hold_any() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut wire = Wire::new(Box::new(server));
        client.write_all(b"one\ntwo\r\n\r\n\r\nrest").await.unwrap();
        drop(client);
        assert_eq!(wire.line(100).await.unwrap().unwrap(), b"one\ntwo");
        assert_eq!(wire.exact(4).await.unwrap().unwrap(), b"\r\n\r\n");
        assert_eq!(wire.line(100).await.unwrap(), None, "a line that never ended is none");
    }

    #[tokio::test]
    async fn an_endless_line_is_refused() {
        let (mut client, server) = tokio::io::duplex(4096);
        let mut wire = Wire::new(Box::new(server));
        client.write_all(&[b'a'; 2000]).await.unwrap();
        assert_eq!(wire.line(1000).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

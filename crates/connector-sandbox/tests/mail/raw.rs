//! A client that says what a test writes and reads what comes back: nothing between the test and the wire.

use connector_sandbox::mail::{MailServer, known};
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) struct Raw(BufReader<Box<dyn Stream>>);

impl Raw {
    /// Connects and reads the greeting.
    pub(crate) async fn connect(addr: SocketAddr) -> (Self, String) {
        let mut raw = Self::over(TcpStream::connect(addr).await.unwrap());
        let greeting = raw.line().await.unwrap_or_default();
        (raw, greeting)
    }

    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    pub(crate) fn into_inner(self) -> Box<dyn Stream> {
        assert!(self.0.buffer().is_empty(), "the server spoke ahead");
        self.0.into_inner()
    }

    /// The next line; `None` when the server closed.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        // A reset is a close too.
        let count = self.0.read_until(b'\n', &mut line).await.unwrap_or(0);
        (count > 0).then(|| String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    }

    /// One IMAP command: every line up to its tagged answer. Literals after a go-ahead are separate elements.
    pub(crate) async fn imap(&mut self, command: &str) -> Vec<String> {
        let tag = command.split(' ').next().unwrap().to_owned();
        self.send(command).await;
        self.until(&format!("{tag} ")).await
    }

    pub(crate) async fn until(&mut self, start: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            let last = line.starts_with(start);
            lines.push(line);
            if last {
                break;
            }
        }
        lines
    }

    /// One SMTP command: its reply, lines joined.
    pub(crate) async fn smtp(&mut self, command: &str) -> String {
        self.send(command).await;
        self.reply().await
    }

    pub(crate) async fn reply(&mut self) -> String {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if last {
                break;
            }
        }
        lines.join("\n")
    }
}

/// Alice, logged in.
pub(crate) async fn alice(server: &MailServer) -> Raw {
    let mut raw = Raw::connect(server.imap()).await.0;
    let answer = raw.imap(&format!("l LOGIN {} {}", known::ALICE, known::ALICE_PASSWORD)).await;
    assert!(answer[0].starts_with("l OK"), "{answer:?}");
    raw
}

/// Alice, logged in to submit.
pub(crate) async fn submit(server: &MailServer) -> Raw {
    use base64::Engine as _;
    let mut raw = Raw::connect(server.smtp()).await.0;
    raw.smtp("EHLO client.example").await;
    let plain = base64::engine::general_purpose::STANDARD.encode(format!("\0{}\0{}", known::ALICE, known::ALICE_PASSWORD));
    assert_eq!(raw.smtp(&format!("AUTH PLAIN {plain}")).await, "235 2.7.0 Authentication successful");
    raw
}

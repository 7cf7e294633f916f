//! Bytes to answers: one whole answer at a time, with its literals, never more than was agreed. Owns framing. Refuses lines without end,
//! literals beyond the cap, silence, and whatever is no IMAP.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use connector_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::value::{Value, words};
use crate::net::Socket;

/// How long nothing at all may come while an answer is awaited.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest answer without the body of a message: enough for the UIDs of two million messages.
pub(crate) const ANSWER_CAP: usize = 16 * 1024 * 1024;

/// OK, NO, BAD, BYE or PREAUTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ok,
    No,
    Bad,
    Bye,
    PreAuth,
}

/// `[UIDVALIDITY 7]` of a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Code {
    /// In upper case.
    pub(crate) name: String,
    /// What follows it.
    pub(crate) values: Vec<Value>,
}

/// How something went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) kind: Kind,
    pub(crate) code: Option<Code>,
    /// The server's words for people. Never decides anything but throttling, where servers say it in no other way.
    pub(crate) text: String,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The end of the command with this tag.
    Tagged(String, Status),
    /// A status of its own (`* OK [ALERT] ..`, `* BYE ..`).
    Status(Status),
    /// Data.
    Data(Vec<Value>),
    /// The server wants more (`+`), with what it says.
    Continue(Bytes),
}

/// The socket with what was read ahead.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    buffer: BytesMut,
    cap: usize,
}

impl Wire {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, buffer: BytesMut::with_capacity(16 * 1024), cap: ANSWER_CAP }
    }

    /// The longest answer from now on.
    pub(crate) fn set_cap(&mut self, bytes: usize) {
        self.cap = bytes;
    }

    /// The socket, for TLS. Nothing may have been read ahead: what comes before TLS and is used after it was put there by somebody else.
    pub(crate) fn into_socket(self) -> Result<Socket> {
        if self.buffer.is_empty() {
            Ok(self.socket)
        } else {
            Err(Error::protocol(
                "the mail server sent data between STARTTLS and TLS, which anybody on the way could have put there; nothing was sent",
            )
            .with_vendor_code("STARTTLS_INJECTION"))
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        };
        match tokio::time::timeout(SILENCE, sent).await {
            Ok(sent) => sent.map_err(|error| lost().with_source(error)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "the mail server stopped taking what was sent")),
        }
    }

    /// The next answer, within the usual patience.
    pub(crate) async fn answer(&mut self) -> Result<Answer> {
        let late = |_| Error::new(ErrorKind::Timeout, "the mail server did not answer in time");
        let frame = tokio::time::timeout(SILENCE.saturating_mul(2), self.frame()).await.map_err(late)??;
        understand(frame)
    }

    /// The next answer, however long it takes; for IDLE. Cancelling it loses nothing.
    pub(crate) async fn answer_whenever(&mut self) -> Result<Answer> {
        understand(self.frame().await?)
    }

    /// One whole answer without its last line end. What was read stays in the buffer until the whole is there, so this can be cancelled.
    async fn frame(&mut self) -> Result<Bytes> {
        let mut from = 0;
        loop {
            let Some(end) = self.buffer[from..].iter().position(|byte| *byte == b'\n').map(|at| from + at) else {
                if self.buffer.len() > self.cap {
                    return Err(too_long(self.cap));
                }
                self.fill(1).await?;
                continue;
            };
            let line = self.buffer[..end].strip_suffix(b"\r").unwrap_or(&self.buffer[..end]);
            let Some(length) = announced(line) else {
                let whole = line.len();
                let mut frame = self.buffer.split_to(end + 1);
                frame.truncate(whole);
                return Ok(frame.freeze());
            };
            let wanted = end.saturating_add(1).saturating_add(length);
            if wanted > self.cap {
                return Err(too_long(self.cap));
            }
            while self.buffer.len() < wanted {
                self.fill(wanted - self.buffer.len()).await?;
            }
            from = wanted;
        }
    }

    async fn fill(&mut self, wanted: usize) -> Result<()> {
        self.buffer.reserve(wanted.clamp(16 * 1024, 1024 * 1024));
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(0) => Err(lost()),
            Ok(_) => Ok(()),
            Err(error) => Err(lost().with_source(error)),
        }
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Transient, "the connection to the mail server ended")
}

fn too_long(cap: usize) -> Error {
    Error::protocol(format!("the mail server's answer is longer than {cap} bytes")).with_context("cap", cap.to_string())
}

/// The length of the literal that a line announces at its end. The words of a status are for people and announce nothing.
fn announced(line: &[u8]) -> Option<usize> {
    let inner = line.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|byte| *byte == b'{')?;
    let digits = &inner[open + 1..];
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) || !line.starts_with(b"* ") {
        return None;
    }
    if status(line, 2).is_some() {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn understand(frame: Bytes) -> Result<Answer> {
    if let Some(rest) = frame.strip_prefix(b"+") {
        let blank = usize::from(rest.first() == Some(&b' '));
        return Ok(Answer::Continue(frame.slice(1 + blank..)));
    }
    if frame.starts_with(b"* ") {
        if let Some(status) = status(&frame, 2) {
            return Ok(Answer::Status(status));
        }
        return words(&frame, 2).map(Answer::Data).ok_or_else(|| Error::protocol("the mail server's answer is not IMAP"));
    }
    let tagged = frame.iter().position(|byte| *byte == b' ').and_then(|at| {
        let tag = std::str::from_utf8(&frame[..at]).ok().filter(|tag| !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric()))?;
        Some(Answer::Tagged(tag.to_owned(), status(&frame, at + 1)?))
    });
    tagged.ok_or_else(|| Error::protocol("what answers at this port is not an IMAP server"))
}

/// The status that stands at `at`, if one does.
fn status(line: &[u8], at: usize) -> Option<Status> {
    let line = line.get(at..)?;
    let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let kind = match line[..end].to_ascii_uppercase().as_slice() {
        b"OK" => Kind::Ok,
        b"NO" => Kind::No,
        b"BAD" => Kind::Bad,
        b"BYE" => Kind::Bye,
        b"PREAUTH" => Kind::PreAuth,
        _ => return None,
    };
    let rest = line.get(end + 1..).unwrap_or_default();
    let (code, text) = match rest.strip_prefix(b"[").and_then(|inside| Some((inside, closing(inside)?))) {
        Some((inside, close)) => (code(&inside[..close]), inside.get(close + 1..).unwrap_or_default()),
        None => (None, rest),
    };
    Some(Status { kind, code, text: String::from_utf8_lossy(text.trim_ascii()).into_owned() })
}

/// Where the code ends: the first `]` outside quotes.
fn closing(inside: &[u8]) -> Option<usize> {
    let mut quoted = false;
    let mut at = 0;
    while let Some(byte) = inside.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b']' if !quoted => return Some(at),
            _ => {}
        }
        at += 1;
    }
    inside.iter().position(|byte| *byte == b']')
}

fn code(inside: &[u8]) -> Option<Code> {
    let end = inside.iter().position(|byte| *byte == b' ').unwrap_or(inside.len());
    let name = std::str::from_utf8(&inside[..end]).ok()?.to_ascii_uppercase();
    let values = words(&Bytes::copy_from_slice(inside.get(end + 1..).unwrap_or_default()), 0).unwrap_or_default();
    Some(Code { name, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(line: &'static str) -> Answer {
        understand(Bytes::from_static(line.as_bytes())).unwrap()
    }

    #[test]
    fn statuses_keep_their_code_and_their_words() {
        let Answer::Tagged(tag, status) = understood("a7 OK [COPYUID 432432 42:69 1202:1229] Done") else { panic!() };
        let code = status.code.unwrap();
        assert_eq!((tag.as_str(), status.kind, code.name.as_str(), code.values.len(), status.text.as_str()), ("a7", Kind::Ok, "COPYUID", 3, "Done"));
        let Answer::Status(status) = understood("* NO [ALERT]\u{e9} [x] {5}") else { panic!() };
        assert_eq!((status.kind, status.text.as_str()), (Kind::No, "\u{e9} [x] {5}"));
        let Answer::Status(status) = understood("* OK [BADCHARSET (\"a]b\")] x") else { panic!() };
        assert_eq!(status.code.unwrap().values[0].list()[0].text().as_deref(), Some("a]b"));
        assert!(matches!(understood("a1 NO"), Answer::Tagged(_, Status { kind: Kind::No, code: None, .. })));
        assert_eq!(understood("+"), Answer::Continue(Bytes::new()));
        assert_eq!(understood("+ idling"), Answer::Continue(Bytes::from_static(b"idling")));
    }

    #[test]
    fn what_answers_at_the_port_may_be_no_imap_server() {
        for line in ["HTTP/1.1 400 Bad Request", "220 smtp.example ESMTP", "", "SSH-2.0-x"] {
            assert_eq!(understand(Bytes::from_static(line.as_bytes())).unwrap_err().kind(), ErrorKind::Protocol, "{line}");
        }
    }

    #[test]
    fn only_data_announces_literals() {
        assert_eq!(announced(b"* 1 FETCH (BODY[] {12}"), Some(12));
        for line in [&b"* OK see {12}"[..], b"a1 OK {12}", b"* 1 FETCH {x}", b"* 1 FETCH {}", b"+ {3}"] {
            assert_eq!(announced(line), None);
        }
    }
}

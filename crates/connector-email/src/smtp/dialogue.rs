//! The dialogue of one submission: greeting, EHLO, STARTTLS that is never left out, AUTH, envelope, message, QUIT.
//!
//! Owns the order and the patience of each step. Everything before the last dot is certainly not done when it fails; what fails after it is
//! [`Failed::Unclear`], and the caller looks before anything is sent again. Refuses plaintext, injected replies and what the server cannot take.

use std::{collections::HashMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use connector_core::{Error, ErrorKind, Result};
use connector_manifest::engine::Authorization;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::reply::Reply;
use crate::{
    imap::login,
    net::{Dial, Socket},
    settings::{Mechanism, Security, Settings},
};

/// The patience for a step before the message (RFC 5321 §4.5.3.2 says five minutes; a caller does not wait that long).
const STEP: Duration = Duration::from_secs(60);
/// The longest reply.
const REPLY_CAP: usize = 64 * 1024;

/// Who it is from and to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
}

/// A recipient the server did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) address: String,
    pub(crate) reply: Reply,
}

/// The server has taken the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) accepted: Vec<String>,
    pub(crate) refused: Vec<Refused>,
}

/// Why it was not, or may not have been.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Certainly not sent.
    Before(Error),
    /// The connection was lost after the last dot: the server may have it.
    Unclear(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        // Nothing is done before the last dot, so a lost connection is no riddle.
        let lost = matches!(error.kind(), ErrorKind::Transient | ErrorKind::Timeout);
        Self::Before(if lost { error.with_kind(ErrorKind::NotSent) } else { error })
    }
}

/// An open submission session.
#[derive(Debug)]
pub(crate) struct Submission {
    socket: Socket,
    buffer: BytesMut,
    /// Keywords of EHLO in upper case, with what follows them.
    extensions: HashMap<String, String>,
}

impl Submission {
    /// Connects and authenticates.
    pub(crate) async fn open(dial: &Dial, settings: &Settings, authorization: &Authorization) -> Result<Self> {
        let mut this = Self { socket: dial.open().await?, buffer: BytesMut::new(), extensions: HashMap::new() };
        let greeting = this.reply(STEP).await?;
        if greeting.code != 220 {
            return Err(greeting.error("the connection"));
        }
        this.hello().await?;
        if dial.security() == Security::StartTls {
            if !this.extensions.contains_key("STARTTLS") {
                return Err(Error::new(
                    ErrorKind::Denied,
                    "the mail server does not offer STARTTLS, or somebody on the way took the offer out; no credential was sent",
                )
                .with_vendor_code("STARTTLS_MISSING"));
            }
            this.expect("STARTTLS", "STARTTLS").await?;
            if !this.buffer.is_empty() {
                return Err(Error::protocol(
                    "the mail server sent data between STARTTLS and TLS, which anybody on the way could have put there; nothing was sent",
                )
                .with_vendor_code("STARTTLS_INJECTION"));
            }
            let socket = dial.secure(this.socket).await?;
            this = Self { socket, buffer: BytesMut::new(), extensions: HashMap::new() };
            this.hello().await?;
        }
        this.authenticate(settings, authorization).await?;
        Ok(this)
    }

    async fn hello(&mut self) -> Result<()> {
        let reply = self.expect("EHLO [127.0.0.1]", "EHLO").await?;
        self.extensions = reply
            .lines
            .iter()
            .skip(1)
            .map(|line| {
                let (word, rest) = line.split_once([' ', '=']).unwrap_or((line, ""));
                (word.to_ascii_uppercase(), rest.to_ascii_uppercase())
            })
            .collect();
        Ok(())
    }

    /// The longest message the server says it takes.
    pub(crate) fn longest(&self) -> Option<usize> {
        self.extensions.get("SIZE")?.trim().parse().ok().filter(|size| *size > 0)
    }

    async fn authenticate(&mut self, settings: &Settings, authorization: &Authorization) -> Result<()> {
        let offered: Vec<String> = self.extensions.get("AUTH").map(|words| words.split([' ', '=']).map(str::to_owned).collect()).unwrap_or_default();
        let mechanism = login::choose(settings.mechanism, authorization, |name| offered.iter().any(|offer| offer == name), "SMTP")?;
        if let (Mechanism::Login, Authorization::Password { username, password }) = (mechanism, authorization) {
            return self.auth_login(username, password.expose_secret()).await;
        }
        let secret = login::initial(mechanism, settings, &settings.smtp, authorization)?;
        let line = Zeroizing::new(format!("AUTH {} {}", mechanism.name(), &*Zeroizing::new(STANDARD.encode(secret.as_bytes()))));
        let mut reply = self.command(&line).await?;
        if reply.code == 334 {
            reply = self.command(login::after_refusal(mechanism)).await?;
        }
        if reply.code == 235 { Ok(()) } else { Err(reply.error("the credential")) }
    }

    async fn auth_login(&mut self, username: &str, password: &str) -> Result<()> {
        let mut reply = self.command("AUTH LOGIN").await?;
        for secret in [username, password] {
            if reply.code != 334 {
                return Err(reply.error("the credential"));
            }
            reply = self.command(&Zeroizing::new(STANDARD.encode(secret))).await?;
        }
        if reply.code == 235 { Ok(()) } else { Err(reply.error("the credential")) }
    }

    /// Sends one message. `patience`: how long the reply to the last dot is waited for.
    pub(crate) async fn send(&mut self, envelope: &Envelope, message: &[u8], patience: Duration) -> Result<Taken, Failed> {
        let body = wire_form(message)?;
        if let Some(longest) = self.longest().filter(|longest| body.len() > *longest) {
            return Err(Error::invalid(format!("the message has {} bytes; the mail server takes {longest}", body.len())).into());
        }
        let international = !envelope.from.is_ascii() || envelope.to.iter().any(|to| !to.is_ascii());
        let eight_bit = !message.is_ascii();
        for (needed, extension, what) in [(international, "SMTPUTF8", "addresses beyond ASCII"), (eight_bit, "8BITMIME", "messages beyond ASCII")] {
            if needed && !self.extensions.contains_key(extension) {
                return Err(Error::invalid(format!("the mail server does not take {what} ({extension})")).into());
            }
        }
        let mut from = format!("MAIL FROM:<{}>", path(&envelope.from)?);
        if self.extensions.contains_key("SIZE") {
            from.push_str(&format!(" SIZE={}", body.len()));
        }
        if eight_bit {
            from.push_str(" BODY=8BITMIME");
        }
        if international {
            from.push_str(" SMTPUTF8");
        }
        self.expect(&from, "the sender").await?;
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for to in &envelope.to {
            let reply = self.command(&format!("RCPT TO:<{}>", path(to)?)).await?;
            if reply.is_ok() { accepted.push(to.clone()) } else { refused.push(Refused { address: to.clone(), reply }) }
        }
        if accepted.is_empty() {
            // If any of them may do later, all of it may: the others are told again then.
            let first = refused.iter().find(|refused| refused.reply.is_passing()).or(refused.first());
            let error = first.map_or_else(|| Error::invalid("the message has no recipients"), |refused| refused.reply.error("every recipient"));
            return Err(Failed::Before(error.with_context("recipients", refused.len().to_string())));
        }
        let reply = self.command("DATA").await?;
        if reply.code != 354 {
            return Err(reply.error("the message").into());
        }
        self.write(&body).await?;
        // From here on the server may have all of it.
        let end = async {
            self.write(b".\r\n").await?;
            self.reply(patience).await
        };
        let reply = end.await.map_err(Failed::Unclear)?;
        if !reply.is_ok() {
            return Err(Failed::Before(reply.error("the message")));
        }
        Ok(Taken { accepted, refused })
    }

    /// Says goodbye. What the server thinks of that does not matter.
    pub(crate) async fn quit(mut self) {
        tokio::time::timeout(Duration::from_secs(2), self.command("QUIT")).await.ok();
    }

    async fn expect(&mut self, line: &str, what: &str) -> Result<Reply> {
        let reply = self.command(line).await?;
        if reply.is_ok() { Ok(reply) } else { Err(reply.error(what)) }
    }

    async fn command(&mut self, line: &str) -> Result<Reply> {
        let line = Zeroizing::new(format!("{line}\r\n"));
        self.write(line.as_bytes()).await?;
        self.reply(STEP).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(256 * 1024) {
            let sent = tokio::time::timeout(STEP.saturating_mul(3), async {
                self.socket.write_all(chunk).await?;
                self.socket.flush().await
            });
            match sent.await {
                Ok(sent) => sent.map_err(|error| lost().with_source(error))?,
                Err(_) => return Err(Error::new(ErrorKind::Timeout, "the mail server stopped taking what was sent")),
            }
        }
        Ok(())
    }

    async fn reply(&mut self, patience: Duration) -> Result<Reply> {
        let late = |_| Error::new(ErrorKind::Timeout, "the mail server did not answer in time");
        tokio::time::timeout(patience, self.read_reply()).await.map_err(late)?
    }

    async fn read_reply(&mut self) -> Result<Reply> {
        let strange = || Error::protocol("what answers at this port is not an SMTP server");
        let (mut code, mut lines, mut read) = (None, Vec::new(), 0);
        loop {
            let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
                if self.buffer.len() > REPLY_CAP {
                    return Err(strange());
                }
                match self.socket.read_buf(&mut self.buffer).await {
                    Ok(0) => return Err(lost()),
                    Ok(_) => continue,
                    Err(error) => return Err(lost().with_source(error)),
                }
            };
            let line = self.buffer.split_to(end + 1);
            read += line.len();
            let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            let (number, rest) = line.split_at_checked(3).ok_or_else(strange)?;
            let number: u16 = number.parse().ok().filter(|number| (200..600).contains(number)).ok_or_else(strange)?;
            if *code.get_or_insert(number) != number || read > REPLY_CAP {
                return Err(strange());
            }
            let more = rest.starts_with('-');
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if !more {
                return Ok(Reply { code: number, lines });
            }
        }
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Transient, "the connection to the mail server ended")
}

/// An address as it may stand between angle brackets.
fn path(address: &str) -> Result<&str> {
    let sound = !address.is_empty() && !address.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>'));
    if sound { Ok(address) } else { Err(Error::invalid("an address has a character that no address has; nothing was sent")) }
}

/// The message as it goes: CR LF at every line's end whatever it had, a leading dot doubled, no line beyond 998 octets.
pub(crate) fn wire_form(message: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 64 + 2);
    let mut rest = message;
    while !rest.is_empty() {
        // A bare CR or LF is a line end to some servers and none to others, which is how messages are smuggled.
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
        let line = &rest[..end];
        if line.len() > 998 {
            return Err(Error::invalid("the message has a line of more than 998 bytes, which SMTP does not carry; nothing was sent"));
        }
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
        rest = match rest.get(end..) {
            Some([b'\r', b'\n', rest @ ..] | [_, rest @ ..]) => rest,
            _ => &[],
        };
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_ends_before_its_end() {
        for (message, wire) in [
            ("a\r\n.\r\nb", "a\r\n..\r\nb\r\n"),
            ("a\n.\nQUIT", "a\r\n..\r\nQUIT\r\n"),
            ("a\r.\rb", "a\r\n..\r\nb\r\n"),
            ("..a\r\n\r\n", "...a\r\n\r\n"),
            ("", ""),
        ] {
            assert_eq!(wire_form(message.as_bytes()).unwrap(), wire.as_bytes(), "{message:?}");
        }
        assert!(wire_form(&[b'a'; 999]).is_err());
    }

    #[test]
    fn an_address_cannot_end_its_command() {
        for evil in ["a@b>\r\nDATA", "a@b> SIZE=1", "", "a b@c", "<a@b>"] {
            assert!(path(evil).is_err(), "{evil:?}");
        }
        assert_eq!(path("a@b.example").unwrap(), "a@b.example");
    }
}

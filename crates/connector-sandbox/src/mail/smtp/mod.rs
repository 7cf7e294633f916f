//! One SMTP submission session (RFC 5321, RFC 6409, RFC 4954): greeting to QUIT, with each scripted reply at its stage. Taking responsibility for
//! a message is in `deliver`.

mod deliver;

use super::faults::{AfterDot, Stage};
use super::listen;
use super::sasl::{self, MECHANISMS, Mechanism, Proof};
use super::shared::Shared;
use super::wire::{Io, Wire};
use std::io;
use std::sync::Arc;

/// A command line; the AUTH exchange is allowed this much (RFC 4954 §4).
const LONGEST_LINE: usize = 12_288;
/// A line of a message with its CRLF (RFC 5321 §4.5.3.1.6).
const LONGEST_TEXT_LINE: usize = 1000;

/// A message on its way in.
#[derive(Debug, Default)]
struct Envelope {
    from: String,
    recipients: Vec<String>,
    utf8: bool,
    chunks: Vec<u8>,
}

struct Session {
    shared: Arc<Shared>,
    wire: Wire,
    tls: bool,
    greeted: bool,
    account: Option<String>,
    envelope: Option<Envelope>,
}

/// Whether the session goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

/// Talks to one client until it leaves.
pub(super) async fn run(io: Box<dyn Io>, tls: bool, shared: Arc<Shared>) -> io::Result<()> {
    let mut wire = Wire::new(io);
    let place = shared.enter("smtp".to_owned());
    if let Some(reply) = shared.faults.next_smtp(Stage::Greeting) {
        wire.say(&reply);
        if !reply.starts_with("220") {
            return wire.flush().await;
        }
    } else if place.is_none() {
        wire.say("421 4.3.2 Too many connections, try again later");
        return wire.flush().await;
    } else {
        wire.say("220 mail.example.test ESMTP connectors sandbox ready");
    }
    wire.flush().await?;
    let mut session = Session { shared, wire, tls, greeted: false, account: None, envelope: None };
    loop {
        let line = match session.wire.line(LONGEST_LINE).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                session.wire.say("500 5.5.6 Line too long");
                return session.wire.flush().await;
            }
            line => line?,
        };
        let Some(line) = line else { return Ok(()) };
        let next = session.command(&line).await?;
        session.wire.flush().await?;
        if next == Next::Stop {
            return Ok(());
        }
    }
}

impl Session {
    async fn command(&mut self, line: &[u8]) -> io::Result<Next> {
        let Ok(line) = std::str::from_utf8(line) else { return self.reply("500 5.5.2 That is not a command") };
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" if rest.is_empty() => self.reply("501 5.5.4 A name is needed"),
            "EHLO" => self.ehlo(rest),
            "HELO" => {
                self.greeted = true;
                self.envelope = None;
                self.reply("250 mail.example.test")
            }
            "STARTTLS" => self.starttls().await,
            "AUTH" => self.auth(rest).await,
            "MAIL" => self.mail(rest),
            "RCPT" => self.rcpt(rest),
            "DATA" => self.data().await,
            "BDAT" => self.bdat(rest).await,
            "RSET" => {
                self.envelope = None;
                self.reply("250 2.0.0 OK")
            }
            "NOOP" => self.reply("250 2.0.0 OK"),
            "VRFY" => self.reply("252 2.5.1 Send it and see"),
            "QUIT" => {
                self.wire.say("221 2.0.0 Bye");
                Ok(Next::Stop)
            }
            _ => self.reply("500 5.5.1 Command unknown"),
        }
    }

    /// A reply line; 421 announces the end of the session.
    fn reply(&mut self, line: &str) -> io::Result<Next> {
        self.wire.say(line);
        Ok(if line.starts_with("421") { Next::Stop } else { Next::Go })
    }

    /// The scripted reply for a stage, if one waits.
    fn scripted(&mut self, stage: Stage) -> Option<io::Result<Next>> {
        let reply = self.shared.faults.next_smtp(stage)?;
        Some(self.reply(&reply))
    }

    fn may_starttls(&self) -> bool {
        self.shared.tls.is_some() && !self.tls && !self.shared.faults.starttls_stripped()
    }

    fn ehlo(&mut self, name: &str) -> io::Result<Next> {
        self.greeted = true;
        self.envelope = None;
        let mut lines = vec![format!("mail.example.test greets {name}"), format!("SIZE {}", self.shared.traits.message_limit)];
        let offers = |name: &&str| self.shared.traits.offers(name);
        lines.extend(
            ["8BITMIME", "ENHANCEDSTATUSCODES", "PIPELINING", "CHUNKING", "SMTPUTF8"]
                .iter()
                .filter(|name| offers(name))
                .map(|name| (*name).to_owned()),
        );
        if self.may_starttls() {
            lines.push("STARTTLS".to_owned());
        } else {
            let names: Vec<&str> =
                MECHANISMS.iter().map(|(name, _)| *name).filter(|name| self.shared.traits.offers(&format!("AUTH={name}"))).collect();
            lines.push(format!("AUTH {}", names.join(" ")));
        }
        let last = lines.len() - 1;
        for (at, line) in lines.iter().enumerate() {
            self.wire.say(format!("250{}{line}", if at == last { ' ' } else { '-' }));
        }
        Ok(Next::Go)
    }

    async fn starttls(&mut self) -> io::Result<Next> {
        if !self.may_starttls() {
            return self.reply("502 5.5.1 STARTTLS is not offered here");
        }
        self.wire.say("220 2.0.0 Ready to start TLS");
        if self.shared.faults.injects_after_starttls() {
            self.wire.say("250-injected\r\n250 AUTH PLAIN");
        }
        self.wire.flush().await?;
        let (near, _) = tokio::io::duplex(1);
        let plain = std::mem::replace(&mut self.wire, Wire::new(Box::new(near)));
        self.wire = Wire::new(listen::protect(plain.into_io(), &self.shared).await?);
        // The session starts anew under TLS (RFC 3207 §4.2).
        (self.tls, self.greeted, self.account, self.envelope) = (true, false, None, None);
        Ok(Next::Go)
    }

    async fn auth(&mut self, rest: &str) -> io::Result<Next> {
        if !self.greeted || self.account.is_some() || self.envelope.is_some() {
            return self.reply("503 5.5.1 AUTH does not belong here");
        }
        if self.may_starttls() {
            return self.reply("538 5.7.11 Encryption required for the requested authentication mechanism");
        }
        if let Some(done) = self.scripted(Stage::Auth) {
            return done;
        }
        let (name, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let offered = self.shared.traits.offers(&format!("AUTH={}", name.to_ascii_uppercase()));
        let Some(mechanism) = Mechanism::named(name).filter(|_| offered) else {
            return self.reply("504 5.5.4 Unrecognized authentication type");
        };
        let prompt = if mechanism == Mechanism::Login { sasl::encode(b"Username:") } else { String::new() };
        let first = if initial.is_empty() { self.ask(&prompt).await? } else { Some(initial.as_bytes().to_vec()) };
        let Some(first) = first else { return Ok(Next::Stop) };
        if first == b"*" {
            return self.reply("501 5.7.0 Authentication cancelled");
        }
        let Some(first) = sasl::decode(&first) else { return self.reply("501 5.5.2 That is not base64") };
        let proof = if mechanism == Mechanism::Login {
            let Some(password) = self.ask(&sasl::encode(b"Password:")).await? else { return Ok(Next::Stop) };
            let text = |octets: Vec<u8>| String::from_utf8(octets).ok();
            text(first).zip(sasl::decode(&password).and_then(text)).map(|(user, password)| Proof::Password(user, password))
        } else {
            mechanism.read(&first)
        };
        self.account = proof.and_then(|proof| self.shared.login(&proof));
        if self.account.is_some() {
            return self.reply("235 2.7.0 Authentication successful");
        }
        if let Some(challenge) = mechanism.challenge() {
            // The client answers the reason before it is refused.
            if self.ask(&challenge).await?.is_none() {
                return Ok(Next::Stop);
            }
        }
        self.reply("535 5.7.8 Authentication credentials invalid")
    }

    async fn ask(&mut self, challenge: &str) -> io::Result<Option<Vec<u8>>> {
        self.wire.say(format!("334 {challenge}"));
        self.wire.flush().await?;
        self.wire.line(LONGEST_LINE).await
    }

    fn mail(&mut self, rest: &str) -> io::Result<Next> {
        if self.account.is_none() {
            return self.reply(if self.may_starttls() {
                "530 5.7.0 Must issue a STARTTLS command first"
            } else {
                "530 5.7.0 Authentication required"
            });
        }
        if self.envelope.is_some() {
            return self.reply("503 5.5.1 A sender was given already");
        }
        if let Some(done) = self.scripted(Stage::Mail) {
            return done;
        }
        let Some((from, params)) = path(rest, "FROM:") else { return self.reply("501 5.5.4 Syntax: MAIL FROM:<address>") };
        let mut utf8 = false;
        for param in params.split_ascii_whitespace() {
            let (name, value) = param.split_once('=').unwrap_or((param, ""));
            match name.to_ascii_uppercase().as_str() {
                "SIZE" if value.parse::<usize>().is_ok_and(|size| size > self.shared.traits.message_limit) => {
                    return self.reply("552 5.3.4 Message size exceeds fixed limit");
                }
                "SIZE" if value.parse::<usize>().is_err() => return self.reply("501 5.5.4 SIZE is a number"),
                "SIZE" | "BODY" | "AUTH" => {}
                "SMTPUTF8" => utf8 = true,
                _ => return self.reply("555 5.5.4 Unknown parameter"),
            }
        }
        if !from.is_empty() && !is_address(&from, utf8) {
            return self.reply("501 5.1.7 That is not an address");
        }
        self.envelope = Some(Envelope { from, utf8, ..Envelope::default() });
        self.reply("250 2.1.0 OK")
    }

    fn rcpt(&mut self, rest: &str) -> io::Result<Next> {
        let limit = self.shared.traits.recipient_limit;
        let Some(envelope) = &self.envelope else { return self.reply("503 5.5.1 MAIL first") };
        let (utf8, full) = (envelope.utf8, envelope.recipients.len() >= limit);
        let Some((to, _)) = path(rest, "TO:") else { return self.reply("501 5.5.4 Syntax: RCPT TO:<address>") };
        if let Some(done) = self.scripted(Stage::Rcpt) {
            return done;
        }
        if let Some(reply) = self.shared.faults.next_recipient(&to) {
            return self.reply(&reply);
        }
        if full {
            return self.reply("452 4.5.3 Too many recipients");
        }
        if !utf8 && !to.is_ascii() {
            return self.reply("553 5.6.7 Non-ASCII addresses need SMTPUTF8");
        }
        if !is_address(&to, utf8) {
            return self.reply("501 5.1.3 That is not an address");
        }
        if let Some(refusal) = self.refuses(&to) {
            return self.reply(refusal);
        }
        if let Some(envelope) = &mut self.envelope {
            envelope.recipients.push(to);
        }
        self.reply("250 2.1.5 OK")
    }

    async fn data(&mut self) -> io::Result<Next> {
        if self.envelope.as_ref().is_none_or(|envelope| envelope.recipients.is_empty()) {
            return self.reply(if self.envelope.is_some() { "554 5.5.1 No valid recipients" } else { "503 5.5.1 MAIL first" });
        }
        if let Some(done) = self.scripted(Stage::Data) {
            self.envelope = None;
            return done;
        }
        self.wire.say("354 Start mail input; end with <CRLF>.<CRLF>");
        self.wire.flush().await?;
        let limit = self.shared.traits.message_limit;
        let (mut message, mut too_long) = (Vec::new(), false);
        loop {
            // A line far over the limit is still read to its end, so that what follows is not taken for commands.
            let Some(line) = self.wire.line(limit.max(LONGEST_TEXT_LINE)).await? else { return Ok(Next::Stop) };
            if line == b"." {
                break;
            }
            too_long |= line.len() + 2 > LONGEST_TEXT_LINE;
            if message.len() <= limit {
                message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                message.extend_from_slice(b"\r\n");
            }
        }
        self.finish(message, too_long).await
    }

    /// A counted piece of a message (RFC 3030).
    async fn bdat(&mut self, rest: &str) -> io::Result<Next> {
        let (count, last) = rest.split_once(' ').map_or((rest, false), |(count, word)| (count, word.eq_ignore_ascii_case("LAST")));
        let Ok(count) = count.parse::<usize>() else { return self.reply("501 5.5.4 Syntax: BDAT count [LAST]") };
        if count > self.shared.traits.message_limit {
            self.wire.say("552 5.3.4 Message size exceeds fixed limit");
            return Ok(Next::Stop);
        }
        let Some(chunk) = self.wire.exact(count).await? else { return Ok(Next::Stop) };
        let Some(envelope) = self.envelope.as_mut().filter(|envelope| !envelope.recipients.is_empty()) else {
            return self.reply("503 5.5.1 MAIL and RCPT first");
        };
        let first = envelope.chunks.is_empty();
        envelope.chunks.extend_from_slice(&chunk);
        let too_big = envelope.chunks.len() > self.shared.traits.message_limit;
        if first && let Some(done) = self.scripted(Stage::Data) {
            self.envelope = None;
            return done;
        }
        if too_big {
            self.envelope = None;
            return self.reply("552 5.3.4 Message size exceeds fixed limit");
        }
        if !last {
            return self.reply(&format!("250 2.0.0 {count} octets received"));
        }
        let message = self.envelope.as_mut().map(|envelope| std::mem::take(&mut envelope.chunks)).unwrap_or_default();
        self.finish(message, false).await
    }

    /// The end of a message: refuse it, or take it and say so, or only one of both.
    async fn finish(&mut self, message: Vec<u8>, too_long: bool) -> io::Result<Next> {
        let (Some(envelope), Some(account)) = (self.envelope.take(), self.account.clone()) else { return self.reply("503 5.5.1 MAIL first") };
        if message.len() > self.shared.traits.message_limit {
            return self.reply("552 5.3.4 Message size exceeds fixed limit");
        }
        if too_long {
            return self.reply("554 5.6.0 A line of the message is longer than 998 octets");
        }
        match self.shared.faults.next_after_dot(&envelope.recipients) {
            Some(AfterDot::NotAccepted) => Ok(Next::Stop),
            Some(AfterDot::Refused(reply)) => self.reply(&reply),
            fate => {
                let number = self.accept(&account, &envelope, &message);
                match fate {
                    Some(AfterDot::AcceptedReplyLost) => Ok(Next::Stop),
                    Some(AfterDot::AcceptedSilent) => {
                        // Silent until the client has enough of it.
                        while self.wire.line(LONGEST_LINE).await?.is_some() {}
                        Ok(Next::Stop)
                    }
                    _ => self.reply(&format!("250 2.0.0 OK queued as {number:06}")),
                }
            }
        }
    }
}

/// `FROM:<address> params`.
fn path<'a>(rest: &'a str, keyword: &str) -> Option<(String, &'a str)> {
    let (word, rest) = rest.split_at_checked(keyword.len())?;
    let (address, params) = rest.trim_start().strip_prefix('<')?.split_once('>')?;
    word.eq_ignore_ascii_case(keyword).then(|| (address.to_owned(), params))
}

fn is_address(address: &str, utf8: bool) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let fine = |char: char| !char.is_control() && !char.is_whitespace() && !matches!(char, '<' | '>');
    !local.is_empty() && domain.contains('.') && address.chars().all(fine) && (utf8 || address.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_and_an_address_is_judged() {
        assert_eq!(path("FROM:<ann@x.test> SIZE=10", "FROM:"), Some(("ann@x.test".to_owned(), " SIZE=10")));
        assert_eq!(path("from: <>", "FROM:"), Some((String::new(), "")));
        assert_eq!(path("ann@x.test", "FROM:"), None);
        assert!(is_address("ann@x.test", false) && !is_address("ann", false) && !is_address("j\u{fc}rgen@x.test", false));
        assert!(is_address("j\u{fc}rgen@x.test", true) && !is_address("a b@x.test", true));
    }
}

//! Getting into an account: STARTTLS, LOGIN, AUTHENTICATE, ID, ENABLE.

use super::parse::{Args, Word};
use super::{LONGEST_LINE, Refusal, Session, bad, no};
use crate::mail::listen;
use crate::mail::sasl::{self, Mechanism, Proof};
use crate::mail::wire::Wire;

const REFUSED: &str = "[AUTHENTICATIONFAILED] Invalid credentials (Failure)";

impl Session {
    pub(super) fn identify(&mut self, mut args: Args) -> Result<String, Refusal> {
        if !self.shared.traits.offers("ID") {
            return bad("ID is not offered here");
        }
        match args.word() {
            Some(Word::List(_)) => {}
            Some(Word::Atom(nil)) if nil.eq_ignore_ascii_case("NIL") => {}
            _ => return bad("expected a list or NIL"),
        }
        self.wire.say(r#"* ID ("name" "connectors-sandbox" "vendor" "connectors")"#);
        Ok("ID completed".to_owned())
    }

    pub(super) async fn starttls(&mut self, tag: &str) -> Result<String, Refusal> {
        if self.shared.tls.is_none() || self.tls || self.shared.faults.starttls_stripped() {
            return bad("STARTTLS is not offered here");
        }
        self.wire.say(format!("{tag} OK Begin TLS negotiation now"));
        if self.shared.faults.injects_after_starttls() {
            self.wire.say("* CAPABILITY IMAP4rev1 AUTH=PLAIN INJECTED");
        }
        self.wire.flush().await?;
        let (near, _) = tokio::io::duplex(1);
        let plain = std::mem::replace(&mut self.wire, Wire::new(Box::new(near)));
        self.wire = Wire::new(listen::protect(plain.into_io(), &self.shared).await?);
        self.tls = true;
        // The tagged answer went out before the handshake; under TLS the client speaks first.
        Err(Refusal::Answered)
    }

    pub(super) fn login(&mut self, mut args: Args) -> Result<String, Refusal> {
        let (user, password) = (args.text("a user name")?, args.text("a password")?);
        args.end()?;
        self.refuse_unprotected()?;
        self.enter(&Proof::Password(user, password))
    }

    fn refuse_unprotected(&self) -> Result<(), Refusal> {
        if self.account.is_some() {
            return bad("this session has logged in already");
        }
        if self.shared.tls.is_some() && !self.tls && !self.shared.faults.starttls_stripped() {
            return no("[PRIVACYREQUIRED] Plaintext authentication needs TLS here");
        }
        Ok(())
    }

    fn enter(&mut self, proof: &Proof) -> Result<String, Refusal> {
        let Some(account) = self.shared.login(proof) else { return no(REFUSED) };
        let Some(place) = self.shared.enter(format!("imap {account}")) else {
            return no("[ALERT] Too many simultaneous connections. (Failure)");
        };
        self.place = Some(place);
        self.account = Some(account.clone());
        Ok(format!("[CAPABILITY {}] {account} authenticated (Success)", self.capabilities()))
    }

    pub(super) async fn authenticate(&mut self, mut args: Args) -> Result<String, Refusal> {
        let name = args.atom("a mechanism")?.to_ascii_uppercase();
        self.refuse_unprotected()?;
        let mechanism = Mechanism::named(&name).filter(|mechanism| *mechanism != Mechanism::Login);
        let Some(mechanism) = mechanism.filter(|_| self.shared.traits.offers(&format!("AUTH={name}"))) else {
            return no(format!("[CANNOT] mechanism {name} is not offered here"));
        };
        let first = match args.word() {
            Some(Word::Atom(first)) if self.shared.traits.offers("SASL-IR") => first.into_bytes(),
            Some(_) => return bad("an initial response is not offered here"),
            None => self.ask("").await?,
        };
        if first == b"*" {
            return bad("AUTHENTICATE cancelled by the client");
        }
        let Some(response) = sasl::decode(&first) else { return bad("that is not base64") };
        let entered = match mechanism.read(&response) {
            Some(proof) => self.enter(&proof),
            None => no("[AUTHENTICATIONFAILED] that is not a response of this mechanism"),
        };
        if entered.is_err()
            && let Some(challenge) = mechanism.challenge()
        {
            // The reason comes as a challenge; the client must answer it (with nothing, or 0x01) before it is refused.
            self.ask(&challenge).await?;
        }
        entered
    }

    async fn ask(&mut self, challenge: &str) -> Result<Vec<u8>, Refusal> {
        self.wire.say(format!("+ {challenge}"));
        self.wire.flush().await?;
        self.wire.line(LONGEST_LINE).await?.ok_or(Refusal::End(String::new()))
    }

    pub(super) fn enable(&mut self, mut args: Args) -> Result<String, Refusal> {
        if !self.shared.traits.offers("ENABLE") {
            return bad("ENABLE is not offered here");
        }
        let mut enabled = Vec::new();
        while args.peek().is_some() {
            match args.atom("a capability")?.to_ascii_uppercase().as_str() {
                "CONDSTORE" if self.shared.traits.offers("CONDSTORE") => {
                    self.condstore = true;
                    enabled.push("CONDSTORE");
                }
                "QRESYNC" if self.shared.traits.offers("QRESYNC") && !self.shared.traits.gmail => {
                    (self.condstore, self.qresync) = (true, true);
                    enabled.push("QRESYNC");
                }
                // What is not known is not enabled and not an error (RFC 5161 §3.1).
                _ => {}
            }
        }
        let space = if enabled.is_empty() { "" } else { " " };
        self.wire.say(format!("* ENABLED{space}{}", enabled.join(" ")));
        Ok("ENABLE completed".to_owned())
    }
}

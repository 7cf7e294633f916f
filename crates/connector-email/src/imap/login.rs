//! From a socket to an authenticated session: greeting, STARTTLS that is never left out, SASL.
//!
//! Facts: RFC 9051 §6.2, RFC 4616 (PLAIN), RFC 7628 (OAUTHBEARER), Google's and Microsoft's XOAUTH2; fact sheet §2 and §3.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use connector_core::{Error, ErrorKind, Result};
use connector_manifest::engine::Authorization;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::{
    command::Command,
    failure::{self, Errand},
    session::{Done, Session},
    wire::{Answer, Kind, Wire},
};
use crate::{
    net::Dial,
    settings::{Mechanism, Security, Server, Settings},
};

/// An authenticated session.
pub(crate) async fn open(dial: &Dial, settings: &Settings, authorization: &Authorization) -> Result<Session> {
    let mut session = Session::new(Wire::new(dial.open().await?));
    greeting(&mut session).await?;
    if session.capabilities().is_empty() {
        session.ask_capabilities().await?;
    }
    if dial.security() == Security::StartTls {
        if !session.has("STARTTLS") {
            return Err(Error::new(
                ErrorKind::Denied,
                "the mail server does not offer STARTTLS, or somebody on the way took the offer out; no credential was sent",
            )
            .with_vendor_code("STARTTLS_MISSING"));
        }
        session.simple(Errand::Other, Command::new("STARTTLS")).await?;
        let socket = session.into_wire().into_socket()?;
        session = Session::new(Wire::new(dial.secure(socket).await?));
        session.forget_capabilities();
        session.ask_capabilities().await?;
    }
    authenticate(&mut session, settings, authorization).await?;
    if session.capabilities().is_empty() {
        session.ask_capabilities().await?;
    }
    if session.has("ID") {
        // Gmail asks clients to say who they are; what the server says about itself does not matter.
        let id = Command::new(concat!("ID (\"name\" \"connectors\" \"version\" \"", env!("CARGO_PKG_VERSION"), "\")"));
        match session.simple(Errand::Other, id).await {
            Err(error) if !session.is_clean() => return Err(error),
            _ => {}
        }
    }
    Ok(session)
}

async fn greeting(session: &mut Session) -> Result<()> {
    match session.wire().answer().await? {
        Answer::Status(status) if status.kind == Kind::Ok => {
            if let Some(code) = status.code.filter(|code| code.name == "CAPABILITY") {
                session.learn(&code.values);
            }
            Ok(())
        }
        // A session that is authenticated before TLS is another man's.
        Answer::Status(status) if status.kind == Kind::PreAuth => {
            Err(Error::protocol("the mail server says that we are logged in already; that is refused").with_vendor_code("PREAUTH"))
        }
        Answer::Status(status) if status.kind == Kind::Bye => Err(failure::of(&status, Errand::Other).with_kind(ErrorKind::NotSent)),
        _ => Err(Error::protocol("what answers at this port is not an IMAP server")),
    }
}

/// The mechanism to use: the one the connection insists on, or the best of those that are offered and fit the credential.
pub(crate) fn choose(
    wanted: Option<Mechanism>,
    authorization: &Authorization,
    offers: impl Fn(&str) -> bool,
    server: &'static str,
) -> Result<Mechanism> {
    let fitting: &[Mechanism] = match authorization {
        Authorization::Bearer { .. } => &[Mechanism::OAuthBearer, Mechanism::XOAuth2],
        _ => &[Mechanism::Plain, Mechanism::Login],
    };
    if let Some(wanted) = wanted {
        return if fitting.contains(&wanted) {
            Ok(wanted)
        } else {
            let has = if matches!(authorization, Authorization::Bearer { .. }) { "a token" } else { "a password" };
            Err(Error::config(format!("`mechanism` says {}, which does not go with {has}", wanted.name())))
        };
    }
    fitting.iter().copied().find(|mechanism| offers(mechanism.name())).ok_or_else(|| {
        let names = fitting.iter().map(|mechanism| mechanism.name()).collect::<Vec<_>>().join(" or ");
        let advice = if matches!(authorization, Authorization::Bearer { .. }) { "store a password instead" } else { "it may take OAuth tokens only" };
        Error::config(format!("the {server} server offers no {names} for this credential; {advice}"))
    })
}

/// What a mechanism says first, before base64.
pub(crate) fn initial(mechanism: Mechanism, settings: &Settings, server: &Server, authorization: &Authorization) -> Result<Zeroizing<String>> {
    Ok(Zeroizing::new(match (mechanism, authorization) {
        (Mechanism::Plain | Mechanism::Login, Authorization::Password { username, password }) => {
            format!("\0{username}\0{}", password.expose_secret())
        }
        (Mechanism::XOAuth2, Authorization::Bearer { token }) => format!("user={}\x01auth=Bearer {}\x01\x01", user(settings)?, token.expose_secret()),
        (Mechanism::OAuthBearer, Authorization::Bearer { token }) => {
            let host = server.host.trim_matches(['[', ']']);
            format!("n,a={},\x01host={host}\x01port={}\x01auth=Bearer {}\x01\x01", user(settings)?, server.port, token.expose_secret())
        }
        _ => return Err(Error::internal("a mechanism was chosen that the credential does not fit")),
    }))
}

/// The user of a token: the mailbox's address.
fn user(settings: &Settings) -> Result<&str> {
    let address = settings.address.as_deref().ok_or_else(|| Error::config("a token needs to know whose it is: set `address` on the connection"))?;
    // RFC 5801 wants these escaped; no address that works has them.
    if address.chars().any(|c| c.is_control() || matches!(c, ',' | '=')) {
        return Err(Error::config("the setting `address` has a character that no mailbox's address has"));
    }
    Ok(address)
}

/// What is said after a challenge that tells why: nothing for XOAUTH2, a single 0x01 for OAUTHBEARER (RFC 7628 §3.2.3).
pub(crate) fn after_refusal(mechanism: Mechanism) -> &'static str {
    if mechanism == Mechanism::OAuthBearer { "AQ==" } else { "" }
}

async fn authenticate(session: &mut Session, settings: &Settings, authorization: &Authorization) -> Result<()> {
    let offers = |session: &Session, name: &str| session.has(&format!("AUTH={name}")) || (name == "LOGIN" && !session.has("LOGINDISABLED"));
    let mechanism = choose(settings.mechanism, authorization, |name| offers(session, name), "IMAP")?;
    if mechanism == Mechanism::Login {
        return login(session, authorization).await;
    }
    let secret = initial(mechanism, settings, &settings.imap, authorization)?;
    let encoded = Zeroizing::new(STANDARD.encode(secret.as_bytes()));
    let tag = session.next_tag();
    let inline = session.has("SASL-IR");
    session.forget_capabilities();
    session.spoil();
    let name = mechanism.name();
    let line = Zeroizing::new(if inline { format!("{tag} AUTHENTICATE {name} {}\r\n", &*encoded) } else { format!("{tag} AUTHENTICATE {name}\r\n") });
    session.wire().write(line.as_bytes()).await?;
    let mut said = inline;
    loop {
        match session.wire().answer().await? {
            Answer::Continue(_) if !said => {
                said = true;
                let line = Zeroizing::new(format!("{}\r\n", &*encoded));
                session.wire().write(line.as_bytes()).await?;
            }
            // Why it refused: JSON for machines that get another token; the NO that follows is what counts.
            Answer::Continue(_) => session.wire().write(format!("{}\r\n", after_refusal(mechanism)).as_bytes()).await?,
            Answer::Tagged(found, status) if found == tag => return settle(session, status),
            Answer::Status(status) if status.kind == Kind::Bye => return Err(failure::of(&status, Errand::Login)),
            Answer::Data(words) if words.first().is_some_and(|word| word.is("CAPABILITY")) => session.learn(&words[1..]),
            Answer::Status(_) | Answer::Data(_) => {}
            Answer::Tagged(..) => return Err(Error::protocol("the mail server answered a command that was not sent")),
        }
    }
}

fn settle(session: &mut Session, status: super::wire::Status) -> Result<()> {
    if status.kind != Kind::Ok {
        return Err(failure::of(&status, Errand::Login));
    }
    if let Some(code) = status.code.filter(|code| code.name == "CAPABILITY") {
        session.learn(&code.values);
    }
    session.ready();
    Ok(())
}

/// The command LOGIN, for servers without SASL PLAIN.
async fn login(session: &mut Session, authorization: &Authorization) -> Result<()> {
    let Authorization::Password { username, password } = authorization else {
        return Err(Error::internal("LOGIN was chosen for a token"));
    };
    if session.has("LOGINDISABLED") {
        return Err(Error::config("the mail server does not take a password here (LOGINDISABLED)"));
    }
    let command = Command::new("LOGIN").value(username)?.value(password.expose_secret())?;
    session.forget_capabilities();
    let _: Done = session.run(Errand::Login, command, &mut |_| Ok(())).await?;
    Ok(())
}

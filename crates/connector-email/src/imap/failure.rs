//! What a server's NO, BAD and BYE mean, in our error classes. Facts: RFC 5530 and RFC 9051 §7.1; fact sheet §3.11.

use std::time::Duration;

use connector_core::{Error, ErrorKind, Retry, redact};

use super::wire::{Kind, Status};

/// What a command was about; a NO without a code means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Logging in.
    Login,
    /// Something with a mailbox that is named.
    Mailbox,
    /// Anything else.
    Other,
}

/// How long to leave a server alone that says in words that it is too much.
const THROTTLED: Duration = Duration::from_secs(60);

/// The error that a status other than OK stands for.
pub(crate) fn of(status: &Status, errand: Errand) -> Error {
    let code = status.code.as_ref().map(|code| code.name.as_str());
    let (kind, message) = match (status.kind, code) {
        (Kind::Bye, _) => (ErrorKind::Transient, "the mail server ended the connection"),
        (_, Some("AUTHENTICATIONFAILED" | "EXPIRED")) => (ErrorKind::AuthExpired, "the mail server did not accept the credential"),
        (_, Some("AUTHORIZATIONFAILED")) => (ErrorKind::Forbidden, "the credential is good, but not for this mailbox"),
        (_, Some("PRIVACYREQUIRED")) => (ErrorKind::Config, "the mail server wants TLS first"),
        (_, Some("UNAVAILABLE")) => (ErrorKind::Transient, "a part of the mail server is not available"),
        (_, Some("INUSE")) => (ErrorKind::Transient, "the mailbox is in use by somebody else"),
        (_, Some("SERVERBUG")) => (ErrorKind::Transient, "the mail server has a fault"),
        (_, Some("EXPUNGEISSUED")) => (ErrorKind::Transient, "a message was removed meanwhile"),
        (_, Some("LIMIT")) => (ErrorKind::Throttled, "the mail server's limit was reached"),
        (_, Some("OVERQUOTA")) if is_throttle(&status.text) => (ErrorKind::Throttled, "the account's bandwidth is used up for now"),
        (_, Some("OVERQUOTA")) => (ErrorKind::Quota, "the mailbox is full"),
        (_, Some("TOOBIG")) => (ErrorKind::Invalid, "the message is too large for the mail server"),
        (_, Some("CORRUPTION")) => (ErrorKind::Conflict, "the mail server says that the mailbox is damaged; its administrator has to look"),
        (_, Some("CONTACTADMIN")) => (ErrorKind::Forbidden, "the mail server wants you to ask its administrator"),
        (_, Some("NOPERM")) => (ErrorKind::Forbidden, "the mailbox does not allow this"),
        (_, Some("CANNOT")) => (ErrorKind::Invalid, "the mail server never does this"),
        (_, Some("NONEXISTENT" | "TRYCREATE")) => (ErrorKind::NotFound, "there is no such folder"),
        (_, Some("ALREADYEXISTS")) => (ErrorKind::Conflict, "there is such a folder already"),
        (_, Some("BADCHARSET")) => (ErrorKind::Invalid, "the mail server cannot search for characters beyond ASCII"),
        (Kind::Bad, _) => (ErrorKind::Invalid, "the mail server did not understand the command"),
        _ if is_throttle(&status.text) => (ErrorKind::Throttled, "the mail server says that it is too much at once"),
        _ => match errand {
            Errand::Login => (ErrorKind::AuthExpired, "the mail server did not accept the credential"),
            Errand::Mailbox => (ErrorKind::NotFound, "the mail server does not open this folder; is there one of this name?"),
            Errand::Other => (ErrorKind::Invalid, "the mail server refused"),
        },
    };
    let mut error = Error::new(kind, message);
    if kind == ErrorKind::Throttled {
        error = error.with_retry(Retry::After(THROTTLED));
    }
    if let Some(code) = code {
        error = error.with_vendor_code(redact::printable(code, 40));
    }
    // Its own words help where the request was wrong, and after a login they could quote what was sent.
    if matches!(kind, ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Forbidden) && !status.text.is_empty() {
        error = error.with_context("server", redact::scrub(&status.text, 160));
    }
    error
}

/// Throttling is told in words only: Gmail and Exchange have no code for it (fact sheet §3.11).
fn is_throttle(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["too many", "bandwidth", "rate limit", "throttl", "try again later"].iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::wire::Code;

    fn kind(code: Option<&str>, text: &str, errand: Errand) -> ErrorKind {
        let code = code.map(|name| Code { name: name.into(), values: Vec::new() });
        of(&Status { kind: Kind::No, code, text: text.into() }, errand).kind()
    }

    #[test]
    fn no_without_a_code_depends_on_what_was_asked() {
        assert_eq!(kind(None, "Login failed.", Errand::Login), ErrorKind::AuthExpired);
        assert_eq!(kind(None, "Mailbox doesn't exist", Errand::Mailbox), ErrorKind::NotFound);
        assert_eq!(kind(None, "No.", Errand::Other), ErrorKind::Invalid);
    }

    #[test]
    fn codes_go_before_words_and_unknown_ones_are_passed_over() {
        assert_eq!(kind(Some("AUTHENTICATIONFAILED"), "", Errand::Other), ErrorKind::AuthExpired);
        assert_eq!(kind(Some("OVERQUOTA"), "Account exceeded command or bandwidth limits", Errand::Other), ErrorKind::Throttled);
        assert_eq!(kind(Some("OVERQUOTA"), "Mailbox is full", Errand::Other), ErrorKind::Quota);
        assert_eq!(kind(Some("X-NEW"), "Too many simultaneous connections", Errand::Login), ErrorKind::Throttled);
        assert_eq!(kind(Some("X-NEW"), "", Errand::Mailbox), ErrorKind::NotFound);
    }
}

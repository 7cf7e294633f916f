//! What an SMTP server answers, in our error classes. Facts: RFC 5321 §4.2, RFC 3463, RFC 4954 §6; fact sheet §4.1.

use std::time::Duration;

use connector_core::{Error, ErrorKind, Retry, redact};

/// One reply, all its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    /// The lines without the code.
    pub(crate) lines: Vec<String>,
}

impl Reply {
    pub(crate) fn is_ok(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// `5.7.8`, if the first line begins with one.
    pub(crate) fn enhanced(&self) -> Option<&str> {
        let word = self.lines.first()?.split(' ').next()?;
        let mut numbers = word.split('.');
        let valid = numbers
            .by_ref()
            .take(3)
            .filter(|number| !number.is_empty() && number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit()))
            .count()
            == 3;
        (valid && numbers.next().is_none() && matches!(word.as_bytes()[0], b'2' | b'4' | b'5')).then_some(word)
    }

    /// The code as people look it up: `550 5.1.1`.
    pub(crate) fn shown(&self) -> String {
        match self.enhanced() {
            Some(enhanced) => format!("{} {enhanced}", self.code),
            None => self.code.to_string(),
        }
    }

    /// Whether it may pass.
    pub(crate) fn is_passing(&self) -> bool {
        match self.enhanced().map(|code| code.as_bytes()[0]) {
            Some(class) => class == b'4' || self.code == 550 && self.enhanced() == Some("5.4.5"),
            None => (400..500).contains(&self.code),
        }
    }

    /// The class of a reply that is no success, and how long to wait where that is known.
    pub(crate) fn kind(&self) -> (ErrorKind, Option<Duration>) {
        let minutes = |minutes: u64| Some(Duration::from_secs(minutes * 60));
        match (self.code, self.enhanced()) {
            // Gmail's daily quota comes as permanent and is not (fact sheet §4.1).
            (_, Some("5.4.5")) => (ErrorKind::Quota, Some(Duration::from_secs(24 * 3600))),
            (432, Some("4.7.12")) | (534 | 535, _) => (ErrorKind::AuthExpired, None),
            (_, Some("5.7.30")) => (ErrorKind::AuthExpired, None),
            (454, _) => (ErrorKind::Throttled, minutes(1)),
            (530 | 538, _) => (ErrorKind::Config, None),
            (421, Some("4.3.2" | "4.7.0")) | (432, _) => (ErrorKind::Throttled, minutes(1)),
            // Greylisting: come back in a while (RFC 6647).
            (450 | 451, Some("4.7.0" | "4.7.1")) => (ErrorKind::Throttled, minutes(5)),
            (452, _) => (ErrorKind::Throttled, minutes(5)),
            (_, Some("5.2.252" | "5.7.60")) => (ErrorKind::Forbidden, None),
            (_, Some(code)) if code.starts_with("5.7.") => (ErrorKind::Forbidden, None),
            _ if self.is_passing() => (ErrorKind::Transient, None),
            _ => (ErrorKind::Invalid, None),
        }
    }

    /// The error it stands for. `what` says what was refused.
    pub(crate) fn error(&self, what: &str) -> Error {
        let (kind, wait) = self.kind();
        let mut error = Error::new(kind, format!("the mail server refused {what}")).with_vendor_code(self.shown());
        if let Some(wait) = wait {
            error = error.with_retry(Retry::After(wait));
        } else if kind == ErrorKind::Transient {
            // It said no: nothing was done, and a later try may do better.
            error = error.with_kind(ErrorKind::Throttled).with_retry(Retry::After(Duration::from_secs(60)));
        }
        if kind != ErrorKind::AuthExpired {
            error = error.with_context("server", redact::scrub(&self.lines.join(" "), 160));
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, line: &str) -> Reply {
        Reply { code, lines: vec![line.into()] }
    }

    #[test]
    fn the_enhanced_code_goes_before_the_first_digit() {
        for (code, line, kind) in [
            (421, "4.7.0 try later", ErrorKind::Throttled),
            (450, "mailbox busy", ErrorKind::Transient),
            (451, "4.7.1 greylisted", ErrorKind::Throttled),
            (452, "4.5.3 too many recipients", ErrorKind::Throttled),
            (454, "4.7.0 later", ErrorKind::Throttled),
            (535, "5.7.8 no", ErrorKind::AuthExpired),
            (534, "5.7.9 app password", ErrorKind::AuthExpired),
            (550, "5.7.30 Basic authentication is not supported for Client Submission", ErrorKind::AuthExpired),
            (530, "5.7.0 STARTTLS first", ErrorKind::Config),
            (550, "5.1.1 unknown", ErrorKind::Invalid),
            (550, "relay not permitted", ErrorKind::Invalid),
            (550, "5.7.26 DMARC", ErrorKind::Forbidden),
            (554, "5.2.252 SendAsDenied", ErrorKind::Forbidden),
            (550, "5.4.5 daily sending quota exceeded", ErrorKind::Quota),
            (550, "4.2.1 odd", ErrorKind::Transient),
            (552, "5.3.4 too big", ErrorKind::Invalid),
        ] {
            assert_eq!(reply(code, line).kind().0, kind, "{code} {line}");
        }
    }

    #[test]
    fn only_three_numbers_are_an_enhanced_code() {
        for line in ["5.7 x", "5.7.8.9 x", "a.b.c", "", "9.1.1 x", "5..1 x", "5.7.1234 x"] {
            assert_eq!(reply(550, line).enhanced(), None, "{line}");
        }
        assert_eq!(reply(550, "5.1.1 x").shown(), "550 5.1.1");
    }

    #[test]
    fn words_of_the_server_are_scrubbed() {
        let error = reply(550, "5.1.1 <bob@example.test>: unknown\u{1b}[31m").error("the recipient");
        assert!(!error.to_string().contains("bob@example.test") && !error.to_string().contains('\u{1b}'), "{error}");
    }
}

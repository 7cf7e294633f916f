//! Where a sign-in may come back to, and where a person may be sent afterwards.
//!
//! Refuses everything that is not exactly one of the two kinds: the hub's own callback, or a callback on this machine for a command line.

use connector_core::{Error, Result};
use url::{Host, Url};

/// The path of the hub's callback.
const CALLBACK: &str = "/oauth/callback";
/// The longest path a person is sent to.
const LONGEST: usize = 512;

/// Refuses an address the vendor must not be told. Both texts are compared letter by letter, as the vendor does it.
pub(super) fn check_redirect(public_url: Option<&str>, redirect_uri: &str) -> Result<()> {
    let ours = public_url.map(|base| format!("{}{CALLBACK}", base.trim_end_matches('/')));
    if ours.as_deref() == Some(redirect_uri) || is_loopback(redirect_uri) {
        return Ok(());
    }
    let expected = ours.map_or_else(|| "set `public_url` in hub.yaml, or come back to".to_owned(), |ours| format!("it is `{ours}`, or"));
    Err(Error::invalid(format!(
        "this address is not one a sign-in may come back to; {expected} `http://127.0.0.1:PORT/callback` on the same machine"
    )))
}

/// RFC 8252 §7.3: the literal address, any port; a name could lead elsewhere.
fn is_loopback(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        url.scheme() == "http"
            && url.host() == Some(Host::Ipv4(std::net::Ipv4Addr::LOCALHOST))
            && url.port().is_some()
            && url.path().ends_with("/callback")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            // What is compared later is the text, so there must be one way to write it.
            && url.as_str() == text
    })
}

/// Refuses a `next` that could lead off the hub.
pub(super) fn check_next(next: Option<&str>) -> Result<()> {
    let Some(next) = next else { return Ok(()) };
    // Browsers drop tabs and line ends, and take a backslash for a slash.
    let is_path = next.starts_with('/')
        && !next.starts_with("//")
        && next.len() <= LONGEST
        && !next.chars().any(|c| c == '\\' || c.is_control() || c.is_whitespace());
    if is_path { Ok(()) } else { Err(Error::invalid("`next` must be a path on the hub, such as `/connections`")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_callbacks_are_told_to_a_vendor() {
        let public = Some("https://hub.example/");
        for good in ["https://hub.example/oauth/callback", "http://127.0.0.1:4711/callback", "http://127.0.0.1:1/oauth/callback"] {
            assert!(check_redirect(public, good).is_ok(), "{good}");
        }
        let bad = [
            "https://hub.example/oauth/callback/",
            "https://hub.example/oauth/callback?x=1",
            "https://hub.example.evil.example/oauth/callback",
            "https://HUB.example/oauth/callback",
            "http://hub.example/oauth/callback",
            "http://localhost:4711/callback",
            "http://127.0.0.1.evil.example:1/callback",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:80/callback",
            "http://127.0.0.2:4711/callback",
            "http://user@127.0.0.1:4711/callback",
            "http://127.0.0.1:4711/callback#x",
            "http://127.0.0.1:4711/call\tback",
            "http://127.1:4711/callback",
            "https://127.0.0.1:4711/callback",
            "javascript:alert(1)//callback",
            "",
        ];
        for bad in bad {
            assert!(check_redirect(public, bad).is_err(), "{bad}");
        }
        let message = check_redirect(None, "https://hub.example/oauth/callback").unwrap_err().message().to_owned();
        assert!(message.contains("set `public_url`"), "{message}");
    }

    #[test]
    fn a_person_is_only_sent_on_to_a_path() {
        for good in [None, Some("/"), Some("/connections?of=crm#here")] {
            assert!(check_next(good).is_ok(), "{good:?}");
        }
        for bad in ["", "connections", "//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "javascript:alert(1)", " /"] {
            assert!(check_next(Some(bad)).is_err(), "{bad}");
        }
        assert!(check_next(Some(&format!("/{}", "a".repeat(600)))).is_err());
    }
}

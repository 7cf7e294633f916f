//! The SASL mechanisms both listeners speak: PLAIN, LOGIN, XOAUTH2 and OAUTHBEARER (RFC 4616, RFC 7628, Google's XOAUTH2 description). It
//! judges a client's words and refuses to know how a protocol carries them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a client proved, or tried to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// User and password.
    Password(String, String),
    /// User and access token; a user may be empty where the token alone says who it is.
    Token(String, String),
}

/// A mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    Login,
    Xoauth2,
    Oauthbearer,
}

/// In the order they are announced.
pub(crate) const MECHANISMS: [(&str, Mechanism); 4] =
    [("PLAIN", Mechanism::Plain), ("LOGIN", Mechanism::Login), ("XOAUTH2", Mechanism::Xoauth2), ("OAUTHBEARER", Mechanism::Oauthbearer)];

impl Mechanism {
    pub(crate) fn named(name: &str) -> Option<Self> {
        MECHANISMS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, mechanism)| *mechanism)
    }

    /// Reads an initial response. LOGIN has none of its own: what comes is the user name, and the password is asked for.
    pub(crate) fn read(self, response: &[u8]) -> Option<Proof> {
        match self {
            Self::Plain => {
                let mut parts = response.split(|byte| *byte == 0).map(|part| String::from_utf8(part.to_vec()));
                let (authzid, user, password) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
                (parts.next().is_none() && (authzid.is_empty() || authzid == user)).then_some(Proof::Password(user, password))
            }
            Self::Login => None,
            Self::Xoauth2 => {
                let text = std::str::from_utf8(response).ok()?;
                let text = text.strip_suffix("\u{1}\u{1}")?;
                let (user, bearer) = text.split_once('\u{1}')?;
                Some(Proof::Token(user.strip_prefix("user=")?.to_owned(), bearer.strip_prefix("auth=Bearer ")?.to_owned()))
            }
            Self::Oauthbearer => {
                let text = std::str::from_utf8(response).ok()?;
                let mut fields = text.strip_suffix("\u{1}\u{1}")?.split('\u{1}');
                let user = fields.next()?.strip_prefix("n,")?.strip_suffix(',')?;
                let user = if user.is_empty() { "" } else { user.strip_prefix("a=")? };
                let token = fields.find_map(|field| field.strip_prefix("auth=Bearer "))?;
                Some(Proof::Token(user.replace("=2C", ",").replace("=3D", "="), token.to_owned()))
            }
        }
    }

    /// What a refused client is told before it may be refused: it must answer this first.
    pub(crate) fn challenge(self) -> Option<String> {
        match self {
            Self::Xoauth2 => Some(encode(br#"{"status":"400","schemes":"Bearer","scope":"https://mail.example.test/"}"#)),
            Self::Oauthbearer => Some(encode(
                br#"{"status":"invalid_token","scope":"mail","openid-configuration":"https://example.test/.well-known/openid-configuration"}"#,
            )),
            Self::Plain | Self::Login => None,
        }
    }
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Base64 of one line; `=` stands for an empty response (RFC 4954 §4, RFC 4959 §3).
pub(crate) fn decode(line: &[u8]) -> Option<Vec<u8>> {
    if line == b"=" { Some(Vec::new()) } else { STANDARD.decode(line).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(user: &str, token: &str) -> Option<Proof> {
        Some(Proof::Token(user.to_owned(), token.to_owned()))
    }

    #[test]
    fn every_mechanism_is_read_as_its_description_says() {
        assert!(Mechanism::Plain.read(b"\0ann\0secret") == Some(Proof::Password("ann".into(), "secret".into())));
        assert!(Mechanism::Plain.read(b"ann\0secret").is_none());
        assert!(Mechanism::Xoauth2.read(b"user=ann@x.test\x01auth=Bearer t0k\x01\x01") == token("ann@x.test", "t0k"));
        assert!(Mechanism::Xoauth2.read(b"user=ann@x.test\x01auth=Bearer t0k").is_none(), "both ends are needed");
        assert!(Mechanism::Oauthbearer.read(b"n,a=ann@x.test,\x01host=h\x01port=993\x01auth=Bearer t0k\x01\x01") == token("ann@x.test", "t0k"));
        assert!(Mechanism::Oauthbearer.read(b"n,,\x01auth=Bearer t0k\x01\x01") == token("", "t0k"));
    }
}

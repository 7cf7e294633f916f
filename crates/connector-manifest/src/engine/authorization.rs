//! The credential itself, for native operations that speak another protocol than HTTP.
//!
//! Owns asking the same provider that authorises requests, so that environment, vault, OAuth renewal, access and audit are the same for
//! every protocol. Refuses schemes that sign requests or use a header of their own: only a user with a password or a token can be handed on.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{
    CallCx, Error, Result,
    auth::CredentialUse,
    transport::{Head, Transport},
};
use http::{HeaderMap, Method, header};
use secrecy::{SecretBox, SecretString};
use std::{fmt, sync::Arc};

use super::Engine;

/// What the connection's credential says, whatever it came from.
#[non_exhaustive]
pub enum Authorization {
    /// A user and a password.
    Password {
        /// The user, as the server knows them.
        username: String,
        /// The password, or what a vendor takes for one.
        password: SecretString,
    },
    /// A token that stands for a person or a machine; who that is, the connection has to say where the protocol asks.
    Bearer {
        /// The token.
        token: SecretString,
    },
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Authorization::Password",
            Self::Bearer { .. } => "Authorization::Bearer",
        })
    }
}

impl Engine {
    /// The credential of the call's connection, for a protocol that is not HTTP, and which version of it this is.
    ///
    /// The provider is asked to authorise a request that is never sent, and its `Authorization` header is read. Hold the result no longer than
    /// a login takes: the next call asks again and gets what is fresh then.
    ///
    /// # Errors
    /// What the provider reports; [`connector_core::ErrorKind::Config`] if the scheme is neither a password nor a token.
    pub async fn authorization(&self, cx: &CallCx) -> Result<(Authorization, CredentialUse)> {
        let mut head = Head { method: Method::GET, url: cx.connection.base_url.clone(), headers: HeaderMap::new() };
        let used = self.auth.authorize(cx, &mut head, &Bytes::new()).await?;
        let other = || {
            Error::config(format!(
                "the credential of connection `{}` is neither a user with a password nor a token, which is all that can be used here",
                cx.connection.id
            ))
        };
        let value = head.headers.get(header::AUTHORIZATION).ok_or_else(other)?;
        Ok((read(value.as_bytes()).ok_or_else(other)?, used))
    }

    /// Tells the provider that the server refused a credential. `true`: something fresher is at hand, and [`Engine::authorization`] gives it.
    /// Ask once for each refusal and try once more; a second refusal is the answer.
    ///
    /// # Errors
    /// What the provider reports.
    pub async fn rejected(&self, cx: &CallCx, used: &CredentialUse) -> Result<bool> {
        self.auth.rejected(cx, used).await
    }

    /// How requests are sent, and where calls may go ([`Transport::resolve`]).
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }
}

/// Reads the value of an `Authorization` header.
fn read(value: &[u8]) -> Option<Authorization> {
    let at = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = (&value[..at], value[at..].trim_ascii_start());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        let token = std::str::from_utf8(rest).ok().filter(|token| !token.is_empty())?;
        return Some(Authorization::Bearer { token: SecretString::from(token) });
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    // Wiped when it goes, also where it turns out to be unusable.
    let pair = SecretBox::new(Box::new(STANDARD.decode(rest).ok()?));
    let pair = std::str::from_utf8(secrecy::ExposeSecret::expose_secret(&pair)).ok()?;
    let (username, password) = pair.split_once(':')?;
    Some(Authorization::Password { username: username.to_owned(), password: SecretString::from(password) })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn passwords_and_tokens_are_read_and_nothing_else() {
        let Some(Authorization::Password { username, password }) = read(b"Basic YWRhQGV4YW1wbGUudGVzdDpwYTpzcw==") else { panic!() };
        assert_eq!((username.as_str(), password.expose_secret()), ("ada@example.test", "pa:ss"));
        let Some(Authorization::Bearer { token }) = read(b"bearer ya29.x") else { panic!() };
        assert_eq!(token.expose_secret(), "ya29.x");
        for other in ["", "Bearer", "Bearer ", "Basic !", "Basic YWRh", "Token abc", "Signature a=b"] {
            assert!(read(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn nothing_of_it_is_shown() {
        assert_eq!(format!("{:?}", read(b"Bearer canary")), "Some(Authorization::Bearer)");
    }
}

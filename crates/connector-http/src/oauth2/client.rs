//! What a connect flow asks of the authorization server: a code exchanged, tokens kept, tokens revoked.
//!
//! Owns these errands, each of them one request. Refuses to repeat any: a code works once, and who is asked again decides a person.

use std::fmt;

use connector_core::{
    context::CallCx,
    credential::{Credential, CredentialQuery},
    error::{Error, ErrorKind, Result, Retry},
    spec::OAuth2Spec,
    state::Condition,
    token::{CredentialNotice, TokenFacts, TokenRecord, TokenSet},
};
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::{
    exchange::Endpoint,
    refresh::row::{self, Origin},
    refusal::{self, Failed},
    request::{self, Form},
    token::Answer,
};
use crate::auth::{AuthDeps, Overlap};

/// What the hub's own look at a credential's tokens is called in the audit while a person connects or disconnects.
const ERRAND: &str = "token.connect";

/// How often a consent is written, should somebody else be faster each time.
const WRITES: u32 = 16;

/// What a vendor calls a token that does not work any more: there is nothing left to revoke.
const GONE: [&str; 3] = ["invalid_token", "token_revoked", "invalid_grant"];

/// Talks to the authorization server of one oauth2 section, for whoever connects and disconnects people.
pub struct OAuth2Client {
    pub(super) endpoint: Endpoint,
}

/// A code that came back with a person. `Debug` shows neither code nor verifier.
#[derive(Clone, Copy)]
pub struct CodeExchange<'a> {
    /// The code.
    pub code: &'a SecretString,
    /// Where it came back to, exactly as in the authorization request.
    pub redirect_uri: &'a str,
    /// The PKCE verifier of the authorization request; empty where the server takes none.
    pub verifier: &'a SecretString,
}

impl fmt::Debug for CodeExchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeExchange").field("redirect_uri", &self.redirect_uri).finish_non_exhaustive()
    }
}

impl OAuth2Client {
    /// A client for this section. The transport of `deps` sends, its token store keeps.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the section's further parameters overwrite the grant, or it would keep a secret where facts are kept.
    pub fn new(spec: OAuth2Spec, deps: AuthDeps) -> Result<Self> {
        let overlap = Overlap::new(deps.clock.clone());
        Ok(Self { endpoint: Endpoint::new(spec, deps, overlap)? })
    }

    /// Exchanges a code for tokens (RFC 6749 §4.1.3, RFC 7636 §4.5): exactly one request, whatever comes of it. Keep the record with
    /// [`OAuth2Client::keep`].
    ///
    /// # Errors
    /// What the endpoint answers, never worth repeating with the same code: [`ErrorKind::AuthExpired`] if the code or the client is refused,
    /// [`ErrorKind::Timeout`] or [`ErrorKind::Transient`] if nobody knows, [`ErrorKind::Config`] for what is set up wrongly.
    pub async fn exchange(&self, cx: &CallCx, credential: &Credential, code: CodeExchange<'_>) -> Result<TokenRecord> {
        let target = request::target(&self.endpoint.spec, &cx.connection)?;
        let url = self.endpoint.token_url(cx, &target.place).await?;
        let mut form = Form::of("authorization_code").with("code", code.code.clone()).with("redirect_uri", code.redirect_uri);
        if !code.verifier.expose_secret().is_empty() {
            form = form.with("code_verifier", code.verifier.clone());
        }
        let request = self.endpoint.client(cx, credential).request(&url, form)?;
        let wall = self.endpoint.wall_millis();
        let answer = self.endpoint.ask(cx, request).await.map_err(|failed| failed.error.with_retry(Retry::Never))?;
        Ok(self.record(cx, credential, answer, wall))
    }

    /// What a consent gave, as the first record of a row.
    pub(super) fn record(&self, cx: &CallCx, credential: &Credential, answer: Answer, wall: u64) -> TokenRecord {
        let name = cx.connection.credential.as_deref().unwrap_or_default();
        row::first(&self.endpoint.spec, answer, Origin::of(cx.tenant(), name, credential), None, wall)
    }

    /// Keeps what a consent gave, in place of what was there, and tells the watch that somebody connected. Calls use it from then on; a
    /// renewal of the tokens before that is under way throws away what it gets.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the connection names no credential, [`ErrorKind::Conflict`] if others do not stop writing, and what the store
    /// reports.
    pub async fn keep(&self, cx: &CallCx, mut record: TokenRecord) -> Result<TokenFacts> {
        let query = query(cx)?;
        let tokens = &self.endpoint.deps.tokens;
        for _ in 0..WRITES {
            let before = tokens.load(&query).await?;
            record.facts.serial = row::next_serial(before.as_ref().map(|row| row.record.facts.serial), record.facts.obtained_at);
            let condition = before.map_or(Condition::Absent, |row| Condition::Is(row.version));
            // Refused: somebody wrote in between, and what they wrote is older than this consent.
            if tokens.save(&query, &record, condition).await?.is_some() {
                if let Some(watch) = &self.endpoint.deps.watch {
                    watch.notice(&query, CredentialNotice::Connected { serial: record.facts.serial }).await;
                }
                return Ok(record.facts);
            }
        }
        Err(Error::new(ErrorKind::Conflict, "the tokens of this credential are being written by somebody else all the time"))
    }

    /// What is known about the tokens of the connection's credential: scopes, end, and the members of the token answer that the spec keeps
    /// (`instance_url`). No secret is in it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the connection names no credential, and what the store reports.
    pub async fn facts(&self, cx: &CallCx) -> Result<Option<TokenFacts>> {
        Ok(self.endpoint.deps.tokens.load(&query(cx)?).await?.map(|row| row.record.facts))
    }

    /// Revokes tokens at the vendor (RFC 7009): the refresh token, then the access token. `false`: the vendor has no place to do so. A token
    /// the vendor does not know counts as revoked.
    ///
    /// # Errors
    /// [`ErrorKind::NotSent`], [`ErrorKind::Timeout`], [`ErrorKind::Transient`] or [`ErrorKind::Throttled`]: a token may still work, revoke
    /// again later; otherwise what the vendor refuses, if it refuses every token.
    pub async fn revoke(&self, cx: &CallCx, credential: &Credential, tokens: &TokenSet) -> Result<bool> {
        let spec = &self.endpoint.spec;
        let place = match request::place(spec, &cx.connection, spec.revoke_url.as_deref())? {
            Some(place) => place,
            None => return Ok(false),
        };
        let url = match self.endpoint.url(cx, &place, "revocation endpoint", |metadata| metadata.revocation_endpoint.as_ref()).await {
            Ok(url) => url,
            // A server without the endpoint publishes none.
            Err(error) if error.kind() == ErrorKind::Config && spec.revoke_url.is_none() => return Ok(false),
            Err(error) => return Err(error),
        };
        let access = Some(&tokens.access).filter(|access| !access.expose_secret().is_empty());
        let each = [("refresh_token", tokens.refresh.as_ref()), ("access_token", access)];
        let (mut done, mut refused) = (false, None);
        for (hint, token) in each.into_iter().filter_map(|(hint, token)| Some((hint, token?))) {
            let form = Form::default().with("token", token.clone()).with("token_type_hint", hint);
            let request = self.endpoint.client(cx, credential).bare_request(&url, form)?;
            match self.revoke_one(cx, request).await {
                Ok(()) => done = true,
                Err(error) if error.kind().is_passing() => return Err(error),
                // Some vendors revoke one kind of token only, and all that came with it.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) if !done => Err(error),
            _ => Ok(done),
        }
    }

    async fn revoke_one(&self, cx: &CallCx, request: connector_core::transport::Request) -> Result<()> {
        let outcome = match self.endpoint.send(cx, request).await {
            Ok((status, body)) => refused_with_success(status, &body),
            Err(Failed { error, .. }) => Err(error),
        };
        outcome.or_else(|error| if error.vendor_code().is_some_and(|code| GONE.contains(&code)) { Ok(()) } else { Err(error) })
    }
}

/// Slack answers 200 to everything and says in the body whether it meant it.
fn refused_with_success(status: StatusCode, body: &[u8]) -> Result<()> {
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    match answer {
        Some(answer) if answer.get("ok") == Some(&Value::Bool(false)) => {
            Err(refusal::error(status, answer.get("error").and_then(refusal::code_of).as_deref(), None))
        }
        _ => Ok(()),
    }
}

/// The connection's tokens.
fn query(cx: &CallCx) -> Result<CredentialQuery<'_>> {
    match &cx.connection.credential {
        Some(name) => Ok(CredentialQuery::of(cx, name).for_errand(ERRAND)),
        None => Err(Error::config(format!("connection `{}` names no credential; nothing can be connected", cx.connection.id))),
    }
}

impl fmt::Debug for OAuth2Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OAuth2Client").field(&self.endpoint).finish()
    }
}

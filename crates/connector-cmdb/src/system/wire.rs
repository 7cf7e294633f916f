//! Requests of systems that are not plain REST: a POST to one address with the credential inside, and sessions. Owns both; which requests
//! there are is the profile's.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result, Retry, redact,
    transport::{Head, Request},
};
use connector_manifest::RawReply;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use super::{System, request::Pairs};
use crate::profile::{Session, Wire, WireError, WireKind};

/// Sessions of more connections than these are started anew.
const MOST_SESSIONS: usize = 1_024;

/// The sessions of the connections of this process.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, SecretString>>);

impl Sessions {
    fn get(&self, key: &str) -> Option<SecretString> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: &str, token: SecretString) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_SESSIONS {
            all.clear();
        }
        all.insert(key.to_owned(), token);
    }

    /// Forgets a session, unless another one took its place already.
    fn forget(&self, key: &str, ended: &SecretString) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(key).is_some_and(|token| token.expose_secret() == ended.expose_secret()) {
            all.remove(key);
        }
    }
}

impl System<'_> {
    /// Sends a request the way the profile's system wants its credential.
    pub(super) async fn dispatch(&self, request: Request) -> Result<RawReply> {
        match &self.profile.session {
            Some(session) => self.in_session(session, request).await,
            None => self.engine.send_raw(self.cx, request, true).await,
        }
    }

    /// Sends a request within the connection's session. One that ended is started again, once.
    async fn in_session(&self, session: &Session, request: Request) -> Result<RawReply> {
        let key = format!("{}\n{}\n{}", self.cx.connection.tenant, self.cx.connection.id, self.cx.connection.base());
        let Request { head, body } = request;
        let body = body.collect(usize::MAX).await?;
        let mut again = true;
        loop {
            let token = match self.sessions.get(&key) {
                Some(token) => token,
                None => {
                    let token = self.start(session).await?;
                    self.sessions.put(&key, token.clone());
                    token
                }
            };
            let name = header_name(&session.header)?;
            let place = |proof: &HeaderMap, head: &mut Head| {
                for kept in &session.keep {
                    if let Some(value) = proof.get(kept.as_str()) {
                        head.headers.insert(header_name(kept)?, value.clone());
                    }
                }
                let mut value =
                    HeaderValue::from_str(token.expose_secret()).map_err(|_| Error::protocol("the session's token cannot be sent as a header"))?;
                value.set_sensitive(true);
                head.headers.insert(name.clone(), value);
                Ok(body.clone())
            };
            let reply = self.engine.send_placed(self.cx, head.clone(), place).await?;
            let ended = !reply.is_success()
                && session
                    .code
                    .get_in_text(&reply.body)
                    .and_then(|code| code.as_str().map(str::to_owned))
                    .is_some_and(|code| session.ended.contains(&code));
            if !ended || !again {
                return Ok(reply);
            }
            again = false;
            self.sessions.forget(&key, &token);
        }
    }

    /// Exchanges the credential for a session.
    async fn start(&self, session: &Session) -> Result<SecretString> {
        let vars = self.vars();
        let url = self.url(&self.path(&session.path, &vars)?, &self.pairs(&[&session.query], &vars))?;
        let mut request = Request::new(Method::GET, url);
        request.head.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let reply = self.engine.send_raw(self.cx, request, true).await?;
        if !reply.is_success() {
            return Err(self.engine.error_for(self.cx, &reply));
        }
        let token = session.token.get_in_text(&reply.body).and_then(|token| token.as_str().map(SecretString::from));
        token.ok_or_else(|| Error::protocol(format!("{} gave no session token; are base URL and profile right?", self.profile.name)))
    }

    /// Posts members to the one address of the system.
    pub(super) async fn post(&self, wire: &Wire, members: Map<String, Value>) -> Result<RawReply> {
        let pairs: Pairs = wire.query.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut head = Request::new(Method::POST, self.url(&wire.path, &pairs)?).head;
        head.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let kind = match wire.kind {
            WireKind::Form => "application/x-www-form-urlencoded",
            WireKind::Json => "application/json",
        };
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let place = |proof: &HeaderMap, _: &mut Head| {
            let mut members = members.clone();
            let mut secrets = Vec::new();
            for (name, source) in &wire.credential {
                secrets.push((name.clone(), secret(proof, source)?));
            }
            let write = |members: &Map<String, Value>| {
                serde_json::to_string(members).map_err(|error| Error::internal("a body could not be written as JSON").with_source(error))
            };
            match wire.kind {
                WireKind::Json => {
                    members.extend(secrets.into_iter().map(|(name, secret)| (name, secret.expose_secret().into())));
                    write(&members).map(Bytes::from)
                }
                WireKind::Form => {
                    let mut form = url::form_urlencoded::Serializer::new(String::new());
                    for (name, secret) in &secrets {
                        form.append_pair(name, secret.expose_secret());
                    }
                    form.append_pair(wire.field.as_deref().unwrap_or("json_data"), &write(&members)?);
                    Ok(form.finish().into())
                }
            }
        };
        self.engine.send_placed(self.cx, head, place).await
    }

    /// Whether an answer with a good status is a success at all.
    pub(super) fn accepted(&self, wire: &Wire, value: &Value, writes: bool) -> Result<()> {
        let good = |expected: &crate::profile::At, is: &[String]| expected.text(value).is_some_and(|text| is.contains(&text));
        if wire.ok.iter().all(|expected| good(&expected.at, &expected.is)) {
            return Ok(());
        }
        let code = wire.code.text(value).unwrap_or_default();
        let said = wire.message.as_ref().and_then(|at| at.text(value)).unwrap_or_default();
        let class = wire.errors.iter().find(|(_, codes)| codes.contains(&code)).map(|(class, _)| *class);
        let kind = match class {
            Some(WireError::Auth) => ErrorKind::AuthExpired,
            Some(WireError::Forbidden) => ErrorKind::Forbidden,
            Some(WireError::Invalid) => ErrorKind::Invalid,
            Some(WireError::Config) => ErrorKind::Config,
            Some(WireError::NotFound) => ErrorKind::NotFound,
            Some(WireError::UnknownOutcome) if writes => ErrorKind::Unknown,
            Some(WireError::Transient | WireError::UnknownOutcome) => ErrorKind::Transient,
            None => ErrorKind::Invalid,
        };
        let said = if said.is_empty() { "no message".to_owned() } else { redact::printable(&said, 200) };
        let error = Error::new(kind, format!("{} answered with code {}: {said}", self.profile.name, redact::printable(&code, 40)))
            .with_vendor_code(redact::printable(&code, 40));
        Err(if kind == ErrorKind::Unknown { error.with_retry(Retry::Never) } else { error })
    }
}

/// Members with dots in their names are nested, those that come twice are lists.
pub(super) fn members(fixed: &Map<String, Value>, pairs: &[(String, String)]) -> Map<String, Value> {
    let mut all = fixed.clone();
    for (name, text) in pairs {
        put(&mut all, name, text);
    }
    all
}

fn put(members: &mut Map<String, Value>, name: &str, text: &str) {
    if let Some((outer, inner)) = name.split_once('.') {
        let nested = members.entry(outer).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(nested) = nested {
            put(nested, inner, text);
        }
        return;
    }
    match members.get_mut(name) {
        Some(Value::Array(list)) => list.push(text.into()),
        Some(one) => *one = Value::Array(vec![one.take(), text.into()]),
        None => {
            members.insert(name.to_owned(), text.into());
        }
    }
}

/// A part of what authentication would have put into headers.
fn secret(proof: &HeaderMap, source: &str) -> Result<SecretString> {
    let missing = || Error::config(format!("the credential has no `{source}`, which the profile sends in the body"));
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).map_err(|_| missing());
    let authorization = || text(proof.get(header::AUTHORIZATION).ok_or_else(missing)?);
    let basic = || {
        let pair = authorization()?.strip_prefix("Basic ").and_then(|pair| STANDARD.decode(pair).ok()).ok_or_else(missing)?;
        String::from_utf8(pair).map_err(|_| missing())
    };
    let found = match source {
        "username" => basic()?.split_once(':').ok_or_else(missing)?.0.to_owned(),
        "password" => basic()?.split_once(':').ok_or_else(missing)?.1.to_owned(),
        "token" => authorization()?.strip_prefix("Bearer ").ok_or_else(missing)?.to_owned(),
        name => text(proof.get(name).ok_or_else(missing)?)?,
    };
    Ok(found.into())
}

fn header_name(name: &str) -> Result<HeaderName> {
    HeaderName::try_from(name).map_err(|_| Error::internal("a header's name passed the check"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dots_nest_and_names_that_come_twice_are_lists() {
        let pairs =
            [("operation", "core/get"), ("key.name", "x' OR 1=1"), ("ids", "1"), ("ids", "2")].map(|(name, text)| (name.to_owned(), text.to_owned()));
        let fixed = Map::from_iter([("encrypted".to_owned(), "N".into())]);
        let all = serde_json::to_string(&members(&fixed, &pairs)).unwrap();
        assert_eq!(all, r#"{"encrypted":"N","operation":"core/get","key":{"name":"x' OR 1=1"},"ids":["1","2"]}"#);
    }

    #[test]
    fn a_password_with_a_colon_is_whole() {
        let mut proof = HeaderMap::new();
        proof.insert("authorization", format!("Basic {}", STANDARD.encode("ws:a:b")).parse().unwrap());
        proof.insert("x-access-token", "t1".parse().unwrap());
        let shown = |source: &str| secret(&proof, source).map(|secret| secret.expose_secret().to_owned());
        assert_eq!(
            (shown("username").unwrap(), shown("password").unwrap(), shown("x-access-token").unwrap()),
            ("ws".into(), "a:b".into(), "t1".into())
        );
        assert_eq!(shown("token").unwrap_err().kind(), ErrorKind::Config);
    }
}

//! Salesforce's OAuth: the consent page, the web server, refresh, client credentials and JWT bearer flows, revocation and userinfo. Assertions are
//! read and their claims judged; the signature is not, because the fake has no certificate of the caller.

use super::{Salesforce, not_found};
use crate::auth::known;
use crate::exchange::{Answer, Reply, Req, field};
use crate::grants::Denied;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The org.
pub(super) const ORG: &str = "00Dxx0000001gPLEAY";
/// The user all tokens stand for.
const USER: &str = "005xx0000000001AAA";
const USERNAME: &str = "integration@acme.example";
/// An assertion may end at most this far ahead, in seconds.
const ASSERTION: i64 = 180;

impl Salesforce {
    pub(super) fn oauth(&self, req: &Req, path: &[&str]) -> Answer {
        match (req.method.as_str(), path) {
            ("GET" | "POST", ["authorize"]) => Ok(self.grants.authorize(req)),
            ("POST", ["token"]) => self.token(req),
            ("POST", ["revoke"]) => {
                let form = req.form();
                let token = field(&form, "token").unwrap_or_default();
                if self.tokens.revoke(token) || self.grants.revoke(&form, &self.tokens) {
                    Ok(Reply::empty(200))
                } else {
                    Err(refused("unsupported_token_type", "this token type is not supported"))
                }
            }
            ("GET", ["userinfo"]) => {
                if !req.bearer().is_some_and(|token| token == known::SALESFORCE_TOKEN || self.tokens.accepts(token)) {
                    return Err(Reply::bytes(403, "text/plain", "Bad_OAuth_Token".into()));
                }
                let sub = format!("https://login.salesforce.com/id/{ORG}/{USER}");
                Ok(Reply::json(
                    200,
                    &json!({"sub": sub, "user_id": USER, "organization_id": ORG, "preferred_username": USERNAME, "name": "Integration",
                    "email": USERNAME, "zoneinfo": "Europe/Berlin", "locale": "en_US"}),
                ))
            }
            _ => Err(not_found()),
        }
    }

    fn token(&self, req: &Req) -> Answer {
        let form = req.form();
        let text = |name: &str| field(&form, name).unwrap_or_default();
        let (access, refresh, scopes) = match text("grant_type") {
            "client_credentials" => {
                let basic = crate::auth::basic(req.header("authorization"));
                let (id, secret) = basic.unwrap_or_else(|| (text("client_id").to_owned(), text("client_secret").to_owned()));
                if id != known::SALESFORCE_CLIENT_ID || secret != known::SALESFORCE_CLIENT_SECRET {
                    self.grants.tell("client_credentials", Err("client".to_owned()));
                    return Err(refused("invalid_client", "invalid client credentials"));
                }
                self.grants.tell("client_credentials", Ok(Vec::new()));
                (self.tokens.issue(), None, "api".to_owned())
            }
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                self.judge(text("assertion"))?;
                self.grants.tell("jwt_bearer", Ok(Vec::new()));
                (self.tokens.issue(), None, "api".to_owned())
            }
            _ => {
                let granted = self.grants.token(&form, &self.tokens).map_err(denied)?;
                (granted.access, Some(granted.refresh), granted.scopes.join(" "))
            }
        };
        // The answer names no lifetime.
        let issued = self.shared.clock.now().as_millisecond().to_string();
        let mut body = json!({"access_token": access, "instance_url": req.base, "id": format!("https://login.salesforce.com/id/{ORG}/{USER}"),
            "token_type": "Bearer", "issued_at": issued, "signature": "not-checked-by-anybody", "scope": scopes});
        if let Some(refresh) = refresh {
            body["refresh_token"] = refresh.into();
        }
        Ok(Reply::json(200, &body).with("cache-control", "no-store"))
    }

    /// The claims of an assertion.
    fn judge(&self, assertion: &str) -> Result<(), Reply> {
        let mut parts = assertion.split('.');
        let claims =
            parts.nth(1).and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok()).and_then(|claims| serde_json::from_slice::<Value>(&claims).ok());
        let invalid = |what: &str| refused("invalid_grant", what);
        let claims = claims.filter(|_| parts.next().is_some_and(|signature| !signature.is_empty())).ok_or_else(|| invalid("invalid assertion"))?;
        let now = self.shared.clock.now().as_second();
        let end = claims["exp"].as_i64().unwrap_or_default();
        let audience = claims["aud"].as_str().unwrap_or_default();
        if claims["iss"] != known::SALESFORCE_CLIENT_ID {
            return Err(refused("invalid_client_id", "client identifier invalid"));
        }
        if claims["sub"] != USERNAME {
            return Err(invalid("user hasn't approved this consumer"));
        }
        if !["https://login.salesforce.com", "https://test.salesforce.com"].contains(&audience) {
            return Err(invalid("audience is invalid"));
        }
        if end <= now || end - now > ASSERTION {
            return Err(invalid("expired authorization code"));
        }
        Ok(())
    }
}

fn denied(denied: Denied) -> Reply {
    match denied {
        Denied::Client => refused("invalid_client", "invalid client credentials"),
        Denied::Code => refused("invalid_grant", "expired authorization code"),
        Denied::RefreshToken => refused("invalid_grant", "expired access/refresh token"),
        Denied::GrantType => refused("unsupported_grant_type", "grant type not supported"),
    }
}

fn refused(code: &str, what: &str) -> Reply {
    Reply::json(400, &json!({"error": code, "error_description": what}))
}

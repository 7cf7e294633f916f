//! HubSpot's OAuth: the consent page, tokens, revocation, and what a token's scopes allow. It refuses introspection.

use super::{CORRELATION, HubSpot, PORTAL, error, unknown_path, unversioned};
use crate::exchange::{Answer, Reply, Req};
use crate::grants::Denied;
use serde_json::json;

impl HubSpot {
    /// `GET|POST /oauth/authorize`, `POST /oauth/v3/token` (or the older v1), `POST /oauth/v3/token/revoke`; parameters must be in the body.
    pub(super) fn oauth(&self, req: &Req) -> Answer {
        match (req.method.as_str(), req.path().as_slice()) {
            ("GET" | "POST", ["oauth", "authorize"]) => Ok(self.grants.authorize(req)),
            ("POST", ["oauth", "v1" | "v3", "token"]) => self.token(req),
            ("POST", ["oauth", "v3", "token", "revoke"]) => match self.grants.revoke(&req.form(), &self.tokens) {
                true => Ok(Reply::empty(200)),
                false => Err(refusal(Denied::Client)),
            },
            _ => Err(unknown_path()),
        }
    }

    fn token(&self, req: &Req) -> Answer {
        let granted = self.grants.token(&req.form(), &self.tokens).map_err(refusal)?;
        let body = json!({"token_type": "bearer", "access_token": granted.access, "refresh_token": granted.refresh,
            "expires_in": self.tokens.lifetime_s(), "hub_id": PORTAL, "scopes": granted.scopes});
        Ok(Reply::json(200, &body).with("cache-control", "no-store"))
    }

    /// Refuses what the token was not granted. The private app has every scope.
    pub(super) fn allowed(&self, req: &Req) -> Result<(), Reply> {
        let Some(scopes) = req.bearer().and_then(|token| self.grants.scopes(token)) else { return Ok(()) };
        let Some(needed) = needed(req).filter(|needed| !scopes.contains(needed)) else { return Ok(()) };
        let message = "This app hasn't been granted all required scopes to make this call.";
        let Reply { body, .. } = error(403, "MISSING_SCOPES", message);
        let mut body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        // The context's key is unverified.
        body["errors"] = json!([{"message": "One or more of the following scopes are required.", "context": {"requiredGranularScopes": [needed]}}]);
        Err(Reply::json(403, &body))
    }
}

/// The scope a request needs, for what a support connector uses.
fn needed(req: &Req) -> Option<String> {
    let path = unversioned(req);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["crm", "owners", ..] => Some("crm.objects.owners.read".to_owned()),
        ["crm", "objects", "tickets" | "ticket" | "0-5", ..] => Some("tickets".to_owned()),
        ["crm", "objects", kind, rest @ ..] => {
            let reads = req.method == http::Method::GET || matches!(rest, ["search"] | ["batch", "read"]);
            let kind = super::object_type(kind).filter(|kind| matches!(*kind, "contacts" | "companies" | "deals"))?;
            Some(format!("crm.objects.{kind}.{}", if reads { "read" } else { "write" }))
        }
        _ => None,
    }
}

/// A refused token request: RFC 6749's code, and HubSpot's own word beside it.
fn refusal(denied: Denied) -> Reply {
    let (code, status) = match denied {
        Denied::Client => ("invalid_client", "BAD_CLIENT_SECRET"),
        Denied::Code => ("invalid_grant", "BAD_AUTH_CODE"),
        Denied::RefreshToken => ("invalid_grant", "BAD_REFRESH_TOKEN"),
        Denied::GrantType => ("unsupported_grant_type", "BAD_GRANT_TYPE"),
    };
    let message = "the grant or the client is not valid";
    Reply::json(400, &json!({"error": code, "error_description": message, "status": status, "message": message, "correlationId": CORRELATION}))
}

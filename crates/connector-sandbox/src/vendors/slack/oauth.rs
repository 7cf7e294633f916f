//! `oauth.v2.access`: codes and refresh tokens for rotating tokens. A refresh token is burnt by its use.
//! <https://docs.slack.dev/authentication/using-token-rotation>

use super::{APP, BOT_USER, Outcome, Refusal, Slack, TEAM};
use crate::auth::basic;
use crate::exchange::{Req, field};
use crate::grants::Denied;
use serde_json::json;

impl Slack {
    pub(super) fn access(&self, req: &Req) -> Outcome {
        let mut form = req.form();
        if let Some((id, secret)) = basic(req.header("authorization")) {
            form.push(("client_id".into(), id));
            form.push(("client_secret".into(), secret));
        }
        // Slack's own form leaves the grant out where a code is exchanged.
        if field(&form, "grant_type").is_none() {
            form.push(("grant_type".into(), "authorization_code".into()));
        }
        let granted = self.grants.token(&form, &self.tokens).map_err(|denied| {
            Refusal::from(match denied {
                Denied::Client => "invalid_client_id",
                Denied::Code => "invalid_code",
                Denied::RefreshToken => "invalid_refresh_token",
                Denied::GrantType => "invalid_grant_type",
            })
        })?;
        Ok(json!({
            "app_id": APP, "access_token": granted.access, "token_type": "bot", "scope": granted.scopes.join(","), "bot_user_id": BOT_USER,
            "team": {"id": TEAM, "name": "Acme"}, "enterprise": null, "is_enterprise_install": false, "authed_user": {"id": "U0ANN"},
            "expires_in": self.tokens.lifetime_s(), "refresh_token": granted.refresh,
        }))
    }
}

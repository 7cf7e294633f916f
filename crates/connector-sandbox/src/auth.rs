//! Tokens the fakes hand out and the fixed test credentials they accept. Tokens really expire on the sandbox's wall clock and can be
//! revoked early. Nothing here is secret: every value is a published constant that opens only a fake on loopback.

use crate::clock::WallClock;
use crate::ledger::lock;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The credentials every sandbox accepts.
pub mod known {
    /// Directory (tenant) id of the fake Microsoft tenant.
    pub const GRAPH_TENANT: &str = "5a2b0c1e-0000-4000-8000-00000000c0de";
    /// Application (client) id registered in it.
    pub const GRAPH_CLIENT_ID: &str = "5a2b0c1e-0000-4000-8000-0000000000a1";
    /// Its client secret.
    pub const GRAPH_CLIENT_SECRET: &str = "sandbox-graph~secret/1+1";
    /// The shared mailbox that exists from the start.
    pub const GRAPH_MAILBOX: &str = "support@contoso.example";
    /// Graph: the person who signs in, also the owner of the team.
    pub const GRAPH_PERSON: &str = "5a2b0c1e-0000-4000-8000-000000000101";
    /// Graph: the team that is there from the start.
    pub const GRAPH_TEAM: &str = "7a1d3c52-0000-4000-8000-000000000001";
    /// Graph: its channel Alerts.
    pub const GRAPH_CHANNEL: &str = "19:ops@thread.tacv2";
    /// Graph: a group chat.
    pub const GRAPH_CHAT: &str = "19:desk@thread.v2";
    /// Graph: a site.
    pub const GRAPH_SITE: &str = "contoso.sharepoint.example,7a1d3c52-0000-4000-8000-0000000000a1,7a1d3c52-0000-4000-8000-0000000000a2";
    /// Graph: the site's list Tickets.
    pub const GRAPH_LIST: &str = "7a1d3c52-0000-4000-8000-0000000000b1";
    /// Graph: the site's document library.
    pub const GRAPH_DRIVE: &str = "b!desk";
    /// HubSpot private-app token.
    pub const HUBSPOT_TOKEN: &str = "sandbox-hubspot-private-app-token";
    /// HubSpot OAuth client id.
    pub const HUBSPOT_CLIENT_ID: &str = "sandbox-hubspot-client";
    /// HubSpot OAuth client secret; also the webhook signing key.
    pub const HUBSPOT_CLIENT_SECRET: &str = "sandbox-hubspot-client-secret";
    /// HubSpot refresh token.
    pub const HUBSPOT_REFRESH_TOKEN: &str = "sandbox-hubspot-refresh-token";
    /// Slack bot token; good without end.
    pub const SLACK_BOT_TOKEN: &str = "sandbox-slack-bot-token";
    /// Slack user token of Ann, for search; good without end.
    pub const SLACK_USER_TOKEN: &str = "sandbox-slack-user-token";
    /// Slack app-level token, for Socket Mode.
    pub const SLACK_APP_TOKEN: &str = "sandbox-slack-app-token";
    /// Slack OAuth client id.
    pub const SLACK_CLIENT_ID: &str = "sandbox-slack-client";
    /// Slack OAuth client secret.
    pub const SLACK_CLIENT_SECRET: &str = "sandbox-slack-client-secret";
    /// Slack refresh token; burnt by its first use.
    pub const SLACK_REFRESH_TOKEN: &str = "sandbox-slack-refresh-token";
    /// What Slack signs its deliveries with.
    pub const SLACK_SIGNING_SECRET: &str = "sandbox-slack-signing-secret";
    /// Salesforce access token; good without end.
    pub const SALESFORCE_TOKEN: &str = "00Dxx0000001gPL!sandbox-salesforce-token";
    /// Salesforce consumer key.
    pub const SALESFORCE_CLIENT_ID: &str = "sandbox-salesforce-client";
    /// Salesforce consumer secret.
    pub const SALESFORCE_CLIENT_SECRET: &str = "sandbox-salesforce-client-secret";
    /// Salesforce refresh token; burnt by its first use, as in orgs that have them rotate.
    pub const SALESFORCE_REFRESH_TOKEN: &str = "sandbox-salesforce-refresh-token";
    /// Salesforce org and token of outbound messages, as a connection's webhook secret.
    pub const SALESFORCE_WEBHOOK_SECRET: &str = "00Dxx0000001gPLEAY:sandbox-salesforce-webhook-token";
    /// NetBox v2 token (the part after `Bearer `).
    pub const NETBOX_TOKEN: &str = "nbt_sandbox.netbox-token";
    /// ServiceNow user.
    pub const SERVICENOW_USER: &str = "sandbox.integration";
    /// ServiceNow password.
    pub const SERVICENOW_PASSWORD: &str = "sandbox-servicenow-password";
    /// ServiceNow OAuth client id.
    pub const SERVICENOW_CLIENT_ID: &str = "sandbox-servicenow-client";
    /// ServiceNow OAuth client secret.
    pub const SERVICENOW_CLIENT_SECRET: &str = "sandbox-servicenow-secret";
    /// GLPI user token; exchanged for a session.
    pub const GLPI_USER_TOKEN: &str = "sandbox-glpi-user-token";
    /// GLPI app token, of the API client.
    pub const GLPI_APP_TOKEN: &str = "sandbox-glpi-app-token";
    /// GLPI user, the other way to start a session.
    pub const GLPI_USER: &str = "sandbox-glpi";
    /// GLPI password.
    pub const GLPI_PASSWORD: &str = "sandbox-glpi-password";
    /// iTop user with the profile `REST Services User`.
    pub const ITOP_USER: &str = "sandbox-itop";
    /// iTop password.
    pub const ITOP_PASSWORD: &str = "sandbox-itop-password";
    /// Valuemation web service client's access token.
    pub const VALUEMATION_TOKEN: &str = "sandbox-valuemation-client";
    /// Valuemation user.
    pub const VALUEMATION_USER: &str = "sandbox-valuemation";
    /// Valuemation password.
    pub const VALUEMATION_PASSWORD: &str = "sandbox-valuemation-password";
    /// Ticketing API key.
    pub const TICKETING_API_KEY: &str = "sandbox-ticketing-key";
    /// ERP bearer token.
    pub const ERP_TOKEN: &str = "sandbox-erp-token";
}

/// Bearer tokens with an end.
#[derive(Debug)]
pub(crate) struct Tokens {
    prefix: &'static str,
    lifetime_s: i64,
    clock: WallClock,
    issued: AtomicU64,
    live: Mutex<HashMap<String, Timestamp>>,
}

impl Tokens {
    pub(crate) fn new(prefix: &'static str, lifetime_s: i64, clock: WallClock) -> Self {
        Self { prefix, lifetime_s, clock, issued: AtomicU64::new(0), live: Mutex::default() }
    }

    /// A fresh token.
    pub(crate) fn issue(&self) -> String {
        let n = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        let token = format!("{}.{n:06}", self.prefix);
        let mut live = lock(&self.live);
        let now = self.clock.now();
        live.retain(|_, end| *end > now);
        live.insert(token.clone(), now.saturating_add(SignedDuration::from_secs(self.lifetime_s)).unwrap_or(now));
        token
    }

    /// Lifetime of a new token in seconds.
    pub(crate) fn lifetime_s(&self) -> i64 {
        self.lifetime_s
    }

    /// Whether the token is good now.
    pub(crate) fn accepts(&self, token: &str) -> bool {
        lock(&self.live).get(token).is_some_and(|end| *end > self.clock.now())
    }

    /// Ends a token early; false if it was not live.
    pub(crate) fn revoke(&self, token: &str) -> bool {
        lock(&self.live).remove(token).is_some()
    }

    /// Ends every token.
    pub(crate) fn revoke_all(&self) {
        lock(&self.live).clear();
    }

    /// How many tokens were ever handed out; a client that shares one refresh asks once.
    pub(crate) fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }
}

/// User and password of an `Authorization: Basic …` header.
pub(crate) fn basic(header: Option<&str>) -> Option<(String, String)> {
    use base64::Engine as _;
    let encoded = header?.strip_prefix("Basic ")?;
    let text = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

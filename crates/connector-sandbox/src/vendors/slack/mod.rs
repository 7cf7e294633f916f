//! A stateful fake of a Slack workspace: channels, messages, threads, reactions, pins, bookmarks, files, people, views, search, OAuth with
//! rotating tokens, signed events, slash commands and interactions, and Socket Mode. It refuses administration and everything below Enterprise.
//!
//! As Slack does, it answers failures with 200 and `ok: false`, wants the token in the header, takes JSON only where a method writes, and
//! limits each method by its tier when limits are enforced.

mod args;
mod chat;
mod conversations;
mod events;
mod files;
mod history;
mod limits;
mod marks;
mod oauth;
mod people;
mod seed;
pub(crate) mod socket;
mod store;
mod views;

use crate::auth::{Tokens, known};
use crate::exchange::{Reply, Req};
use crate::grants::{Grants, Renewal};
use crate::ledger::lock;
use crate::vendors::{Shared, Vendor};
use args::Args;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;
use store::Store;

pub use socket::Acked;

/// The workspace.
const TEAM: &str = "T0ACME";
/// The app.
const APP: &str = "A0HUB";
/// The app's own user and bot.
const BOT_USER: &str = "U0BOT";
const BOT: &str = "B0HUB";

/// A refusal: Slack's code, and what stands beside it.
#[derive(Debug)]
struct Refusal {
    code: String,
    more: Value,
}

impl From<&str> for Refusal {
    fn from(code: &str) -> Self {
        Self { code: code.to_owned(), more: Value::Null }
    }
}

/// What a method gives: the reply without `ok`, or a refusal.
type Outcome = Result<Value, Refusal>;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Caller {
    /// `U…` of the bot or the person.
    user: &'static str,
    /// `xoxb`: the app; `xoxp`: a person; `xapp`: the app as such.
    kind: Kind,
    /// The scopes granted; `None`: all of its kind.
    scopes: Option<Vec<String>>,
    token: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bot,
    Person,
    App,
}

/// The fake Slack.
#[derive(Debug)]
pub struct Slack {
    shared: Shared,
    tokens: Tokens,
    grants: Grants,
    enforce_limits: bool,
    /// `http://host/slack`, where people's answers go.
    base: String,
    store: Mutex<Store>,
    revoked: Mutex<BTreeSet<String>>,
    limits: Mutex<limits::Limits>,
    sockets: socket::Sockets,
}

impl Slack {
    pub(crate) fn new(shared: Shared, token_lifetime_s: i64, enforce_limits: bool, base: String) -> Self {
        let tokens = Tokens::new("sandbox-slack", token_lifetime_s, shared.clock.clone());
        let grants = Grants::new("slack", (known::SLACK_CLIENT_ID, known::SLACK_CLIENT_SECRET), Renewal::Burns, shared.clone());
        grants.seed(known::SLACK_REFRESH_TOKEN, &["chat:write", "channels:read", "channels:history", "reactions:write", "users:read"]);
        let store = Mutex::new(seed::filled(shared.clock.now()));
        Self {
            shared,
            tokens,
            grants,
            enforce_limits,
            base,
            store,
            revoked: Mutex::default(),
            limits: Mutex::default(),
            sockets: socket::Sockets::default(),
        }
    }

    /// Where signed events, slash commands and interactions go from now on, while no Socket Mode connection is open.
    pub fn set_webhook(&self, url: impl Into<String>) {
        lock(&self.store).webhook = Some(url.into());
    }

    /// Treats the app as one that is sold outside the Marketplace: one `conversations.history` or `.replies` a minute and 15 messages each,
    /// whether limits are enforced or not.
    pub fn restrict_history(&self, on: bool) {
        lock(&self.limits).restricted = on;
    }

    /// Ends every rotating access token; the fixed ones stay.
    pub fn expire_tokens(&self) {
        self.tokens.revoke_all();
    }

    /// What a renewal does with the refresh token from now on. Slack burns it.
    pub fn set_renewal(&self, renewal: Renewal) {
        self.grants.set_renewal(renewal);
    }

    /// Takes every consent back, as if the app had been uninstalled.
    pub fn revoke_grants(&self) {
        self.grants.revoke_all(&self.tokens);
    }

    fn caller(&self, req: &Req) -> Result<Caller, Refusal> {
        let token = req.bearer().ok_or("not_authed")?.to_owned();
        if lock(&self.revoked).contains(&token) {
            return Err("token_revoked".into());
        }
        let caller = |user, kind| Caller { user, kind, scopes: None, token: token.clone() };
        match token.as_str() {
            known::SLACK_BOT_TOKEN => return Ok(caller(BOT_USER, Kind::Bot)),
            known::SLACK_USER_TOKEN => return Ok(caller("U0ANN", Kind::Person)),
            known::SLACK_APP_TOKEN => return Ok(caller(BOT_USER, Kind::App)),
            _ => {}
        }
        if self.tokens.accepts(&token) {
            let scopes = self.grants.scopes(&token);
            return Ok(Caller { scopes, ..caller(BOT_USER, Kind::Bot) });
        }
        // Only what this fake once issued can have expired.
        Err(if token.starts_with("sandbox-slack.") { "token_expired".into() } else { "invalid_auth".into() })
    }

    /// Whether this kind of token with these scopes may use the method.
    fn allowed(caller: &Caller, method: &str) -> Result<(), Refusal> {
        let fits = match method {
            "apps.connections.open" => caller.kind == Kind::App,
            "search.messages" => caller.kind == Kind::Person,
            "auth.test" | "auth.revoke" => true,
            _ => caller.kind != Kind::App,
        };
        if !fits {
            return Err("not_allowed_token_type".into());
        }
        match (&caller.scopes, scope(method)) {
            (Some(granted), Some(needed)) if !granted.iter().any(|scope| scope == needed) => {
                Err(Refusal { code: "missing_scope".into(), more: json!({"needed": needed, "provided": granted.join(",")}) })
            }
            _ => Ok(()),
        }
    }

    fn api(&self, method: &str, req: &Req) -> Result<Value, Reply> {
        let now = self.shared.clock.now();
        let refuse = |refusal: Refusal| failed(&refusal);
        if method == "oauth.v2.access" {
            return self.access(req).map_err(refuse);
        }
        let caller = self.caller(req).map_err(refuse)?;
        let known = limits::tier(method).ok_or_else(|| failed(&"unknown_method".into()))?;
        Self::allowed(&caller, method).map_err(refuse)?;
        let args = Args::read(req, limits::is_read(method)).map_err(refuse)?;
        lock(&self.limits).admit(known, method, &args, now, self.enforce_limits).map_err(|wait| self.throttled(wait))?;
        let mut store = lock(&self.store);
        self.post_due(&mut store);
        let outcome = self.method(&mut store, method, &caller, &args, req);
        self.flush(&mut store);
        outcome.map_err(refuse)
    }

    fn method(&self, store: &mut Store, method: &str, caller: &Caller, args: &Args, req: &Req) -> Outcome {
        let (family, name) = method.split_once('.').unwrap_or((method, ""));
        match (family, name) {
            ("chat", _) => self.chat(store, name, caller, args),
            ("conversations", "history") => history::history(store, caller, args, lock(&self.limits).restricted),
            ("conversations", "replies") => history::replies(store, caller, args, lock(&self.limits).restricted),
            ("conversations", _) => self.conversations(store, name, caller, args),
            ("reactions" | "pins" | "bookmarks", _) => self.marks(store, family, name, caller, args),
            ("users", "conversations") => conversations::list(store, caller, args, true),
            ("users" | "team", _) => people::people(store, family, name, caller, args),
            ("search", "messages") => history::search(store, caller, args),
            ("files", _) => self.files(store, name, caller, args, req),
            ("views", _) => views::views(store, name, args, self.shared.clock.now()),
            ("auth", "test") => Ok(json!({
                "url": "https://acme.slack.com/", "team": "Acme", "user": store.user(caller.user).map_or("hub", |user| user.name.as_str()),
                "team_id": TEAM, "user_id": caller.user, "bot_id": (caller.kind == Kind::Bot).then_some(BOT), "is_enterprise_install": false,
            })),
            ("auth", "revoke") => {
                if args.flag("test") != Some(true) && !self.tokens.revoke(&caller.token) {
                    lock(&self.revoked).insert(caller.token.clone());
                }
                Ok(json!({"revoked": args.flag("test") != Some(true)}))
            }
            ("apps", "connections.open") => Ok(self.open_socket(req)),
            _ => Err("unknown_method".into()),
        }
    }

    fn answer(&self, req: &Req) -> Reply {
        match (req.method.as_str(), req.path().as_slice()) {
            ("GET" | "POST", ["api", method]) => match self.api(method, req) {
                Ok(mut body) => {
                    let mut reply = json!({"ok": true});
                    if let (Some(reply), Some(body)) = (reply.as_object_mut(), body.as_object_mut()) {
                        reply.extend(std::mem::take(body));
                    }
                    Reply::json(200, &reply)
                }
                Err(reply) => reply,
            },
            ("POST", ["upload", "v1", ticket]) => self.upload(ticket, &req.body),
            ("POST", ["hooks", "response", ticket]) => self.respond(ticket, req),
            (_, ["oauth", "v2", "authorize"]) => self.grants.authorize(req),
            _ => Reply::bytes(404, "text/html; charset=utf-8", bytes::Bytes::from_static(b"<!DOCTYPE html><title>Not here</title>")),
        }
    }
}

/// The scope a method needs from a token that has only some.
fn scope(method: &str) -> Option<&'static str> {
    Some(match method {
        "conversations.history" | "conversations.replies" => "channels:history",
        "conversations.list" | "conversations.info" | "conversations.members" | "users.conversations" => "channels:read",
        "conversations.open" => "im:write",
        "conversations.join" => "channels:join",
        "conversations.setTopic" => "channels:write.topic",
        "chat.unfurl" => "links:write",
        "chat.getPermalink" => return None,
        "users.lookupByEmail" => "users:read.email",
        "users.profile.get" => "users.profile:read",
        "reactions.add" | "reactions.remove" => "reactions:write",
        "pins.add" | "pins.remove" => "pins:write",
        "pins.list" => "pins:read",
        "files.info" | "files.list" => "files:read",
        "team.info" => "team:read",
        _ => match method.split_once('.')?.0 {
            "chat" => "chat:write",
            "conversations" => "channels:manage",
            "users" => "users:read",
            "files" => "files:write",
            "reactions" => "reactions:read",
            "bookmarks" => "bookmarks:write",
            _ => return None,
        },
    })
}

/// A failure as Slack writes it: 200 and `ok: false`.
fn failed(refusal: &Refusal) -> Reply {
    let mut body = json!({"ok": false, "error": refusal.code});
    if let (Some(body), Some(more)) = (body.as_object_mut(), refusal.more.as_object()) {
        body.extend(more.clone());
    }
    Reply::json(200, &body)
}

#[async_trait]
impl Vendor for Slack {
    fn id(&self) -> &'static str {
        "slack"
    }

    async fn handle(&self, req: Req) -> Reply {
        self.answer(&req)
    }

    fn throttled(&self, retry_after: u64) -> Reply {
        Reply::json(429, &json!({"ok": false, "error": "ratelimited"})).with("retry-after", &retry_after.to_string())
    }

    fn unavailable(&self) -> Reply {
        Reply::json(503, &json!({"ok": false, "error": "service_unavailable"}))
    }

    fn revoke(&self, req: &Req) -> bool {
        req.bearer().is_some_and(|token| self.tokens.revoke(token))
    }

    fn presents_cursor(&self, _req: &Req) -> bool {
        false
    }

    fn spared(&self, req: &Req) -> bool {
        matches!(req.path().as_slice(), ["oauth", ..] | ["api", "oauth.v2.access"])
    }
}

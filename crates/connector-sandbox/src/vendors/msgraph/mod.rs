//! A stateful fake of Microsoft Graph: Entra token endpoint, mailboxes, calendars, Teams, SharePoint lists and drives, delta, subscriptions that
//! really call back, upload sessions and `$batch`. One folder or file per subject. It refuses everything the connector does not use.

mod access;
mod attach;
mod batch;
mod calendar;
mod changes;
mod compose;
mod delta;
mod drives;
mod filter;
mod mime;
mod model;
mod read;
mod rows;
mod sites;
mod subscriptions;
mod teams;
mod wire;

pub use changes::NotedChange;
pub use subscriptions::LifecycleEvent;

use crate::auth::{Tokens, known};
use crate::exchange::{Answer, Reply, Req, field};
use crate::grants::{Denied, Grants, Renewal};
use crate::ledger::{EffectKind, lock};
use crate::vendors::{Shared, Vendor};
use async_trait::async_trait;
use attach::Upload;
use bytes::Bytes;
use compose::{Answering, json_body};
use model::{Mailbox, Origin};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use subscriptions::{Service, Subscription, Watched};
use wire::{bad_request, error, not_found};

/// The fake Microsoft Graph.
#[derive(Debug)]
pub struct MsGraph {
    shared: Shared,
    tokens: Tokens,
    grants: Grants,
    hide_conversation_every: usize,
    access: Mutex<access::Access>,
    state: Mutex<State>,
    notes: Mutex<changes::Notes>,
}

#[derive(Debug, Default)]
struct State {
    mailboxes: BTreeMap<String, Mailbox>,
    subscriptions: BTreeMap<String, Subscription>,
    uploads: HashMap<String, Upload>,
    calendars: BTreeMap<String, calendar::Calendars>,
    teams: teams::Teams,
    sites: sites::Sites,
    drives: drives::Drives,
    next_id: u64,
    injected: usize,
}

impl State {
    /// A mailbox the router found before.
    fn mailbox(&mut self, user: &str) -> &mut Mailbox {
        self.mailboxes.get_mut(user).expect("the router resolved the mailbox under the same lock")
    }

    /// The key of a mailbox named by address or user id.
    fn user(&self, name: &str) -> Result<String, Reply> {
        let lower = name.to_lowercase();
        if self.mailboxes.contains_key(&lower) {
            return Ok(lower);
        }
        let by_id = self.mailboxes.iter().find(|(_, m)| m.user_id == name).map(|(key, _)| key.clone());
        by_id.ok_or_else(|| error(404, "ResourceNotFound", &format!("Resource '{name}' does not exist.")))
    }

    /// What a subscription resource is about.
    fn resource(&self, text: &str) -> Result<Watched, Reply> {
        let req = Req::new(http::Method::GET, String::new(), text, http::HeaderMap::new(), Bytes::new());
        let path = odata_path(&req);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["users", user, "messages"] => Ok(Watched::Mail(self.user(user)?, None)),
            ["users", user, "mailFolders", folder, "messages"] => {
                let user = self.user(user)?;
                let folder = self.mailboxes[&user].folder_id(folder).ok_or_else(not_found)?;
                Ok(Watched::Mail(user, Some(folder)))
            }
            ["users", user, "events"] => Ok(Watched::Topic(format!("users/{}/events", self.user(user)?), Service::Outlook)),
            ["teams", team, "channels", channel, "messages"] => {
                Ok(Watched::Topic(format!("teams/{team}/channels/{channel}/messages"), Service::Teams))
            }
            ["chats", chat, "messages"] => Ok(Watched::Topic(format!("chats/{chat}/messages"), Service::Teams)),
            ["drives", drive, "root"] => Ok(Watched::Topic(format!("drives/{drive}/root"), Service::Files)),
            ["sites", site, "lists", list] => Ok(Watched::Topic(format!("sites/{site}/lists/{list}"), Service::Files)),
            _ => Err(bad_request("This resource cannot be subscribed to here.")),
        }
    }
}

impl MsGraph {
    pub(crate) fn new(shared: Shared, token_lifetime_s: i64, hide_conversation_every: usize) -> Self {
        let tokens = Tokens::new("sandbox-graph", token_lifetime_s, shared.clock.clone());
        let client = (known::GRAPH_CLIENT_ID, known::GRAPH_CLIENT_SECRET);
        let grants = Grants::new("msgraph", client, Renewal::Adds, shared.clone());
        Self { shared, tokens, grants, hide_conversation_every, access: Mutex::default(), state: Mutex::default(), notes: Mutex::default() }
    }

    /// Makes an empty mailbox; one that exists stays as it is.
    pub fn add_mailbox(&self, address: &str) {
        let mut state = lock(&self.state);
        let number = state.mailboxes.len() + 1;
        state.mailboxes.entry(address.to_lowercase()).or_insert_with(|| Mailbox::new(address, number));
    }

    /// Lets a message arrive as RFC 5322 bytes in a folder (id or well-known name), however broken it is, and notifies subscribers.
    /// Returns its default id, or `None` if mailbox or folder do not exist.
    pub fn inject_mime(&self, user: &str, folder: &str, bytes: &[u8]) -> Option<String> {
        let now = self.shared.clock.now();
        let mut state = lock(&self.state);
        let user = state.user(user).ok()?;
        let folder = state.mailbox(&user).folder_id(folder)?;
        let mut message = mime::read(&Bytes::copy_from_slice(bytes), now, Origin::Inbound);
        state.injected += 1;
        message.hide_conversation = self.hide_conversation_every > 0 && state.injected.is_multiple_of(self.hide_conversation_every);
        let key = self.store(&mut state, &user, message, folder, EffectKind::MailReceived);
        let mailbox = state.mailbox(&user);
        Some(mailbox.default_id(&mailbox.messages[&key]))
    }

    /// Makes every delta cursor of a mailbox stale: the next use answers 410.
    pub fn expire_delta(&self, user: &str) {
        let mut state = lock(&self.state);
        if let Ok(user) = state.user(user) {
            state.mailbox(&user).delta_epoch += 1;
        }
    }

    /// Ends every access token.
    pub fn expire_tokens(&self) {
        self.tokens.revoke_all();
    }

    /// What a renewal does with the refresh token from now on. Microsoft adds one; the others are for trying out stricter vendors.
    pub fn set_renewal(&self, renewal: Renewal) {
        self.grants.set_renewal(renewal);
    }

    /// Takes every consent back, as if the person had removed the app.
    pub fn revoke_grants(&self) {
        self.grants.revoke_all(&self.tokens);
    }

    /// How many access tokens were ever issued.
    pub fn tokens_issued(&self) -> u64 {
        self.tokens.issued()
    }

    /// Messages in a folder (id or well-known name).
    pub fn count_in(&self, user: &str, folder: &str) -> usize {
        let state = lock(&self.state);
        let Some(mailbox) = state.user(user).ok().and_then(|u| state.mailboxes.get(&u)) else { return 0 };
        let Some(folder) = mailbox.folder_id(folder) else { return 0 };
        mailbox.messages.values().filter(|m| m.folder == folder).count()
    }

    /// `POST /{tenant}/oauth2/v2.0/token`: client credentials, codes and refresh tokens.
    /// <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>,
    /// <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow>
    fn token(&self, tenant: &str, req: &Req) -> Reply {
        let fail = |status: u16, error: &str, code: u32, text: &str| {
            let id = "00000000-0000-4000-8000-00000000feed";
            Reply::json(
                status,
                &json!({"error": error, "error_description": format!("AADSTS{code}: {text}"), "error_codes": [code],
                    "timestamp": "2026-11-21 00:00:00Z", "trace_id": id, "correlation_id": id}),
            )
        };
        if tenant != known::GRAPH_TENANT {
            return fail(400, "invalid_request", 90_002, "Tenant not found.");
        }
        let form = req.form();
        let grant = field(&form, "grant_type").unwrap_or_default();
        let consented = matches!(grant, "authorization_code" | "refresh_token");
        if !consented && grant != "client_credentials" {
            return fail(400, "unsupported_grant_type", 70_003, "The app requested an unsupported grant type.");
        }
        if field(&form, "client_id") != Some(known::GRAPH_CLIENT_ID) {
            return fail(400, "unauthorized_client", 700_016, "Application was not found in the directory.");
        }
        if field(&form, "client_secret") != Some(known::GRAPH_CLIENT_SECRET) {
            return fail(401, "invalid_client", 7_000_215, "Invalid client secret provided.");
        }
        let life = self.tokens.lifetime_s();
        if consented {
            return match self.grants.token(&form, &self.tokens) {
                Ok(granted) => {
                    self.signed_in(&granted.access, &granted.scopes);
                    // The refresh token stands for `offline_access`, which the answer does not name (unverified).
                    let scope = granted.scopes.iter().filter(|scope| *scope != "offline_access").map(String::as_str).collect::<Vec<_>>().join(" ");
                    let mut body =
                        json!({"token_type": "Bearer", "scope": scope, "expires_in": life, "ext_expires_in": life, "access_token": granted.access});
                    if granted.scopes.iter().any(|scope| scope == "offline_access") {
                        body["refresh_token"] = granted.refresh.into();
                    }
                    Reply::json(200, &body)
                }
                Err(Denied::Code) => fail(400, "invalid_grant", 54_005, "The authorization code was already redeemed or is not valid."),
                Err(_) => fail(400, "invalid_grant", 50_173, "The provided grant has expired due to it being revoked."),
            };
        }
        if !field(&form, "scope").is_some_and(|s| s.ends_with("/.default")) {
            self.grants.tell(grant, Err("Scope".to_owned()));
            return fail(400, "invalid_scope", 70_011, "The provided value for scope is not valid.");
        }
        self.grants.tell(grant, Ok(Vec::new()));
        let body = json!({"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": self.tokens.issue()});
        Reply::json(200, &body)
    }

    async fn route(&self, req: &Req) -> Answer {
        let path = req.path();
        match (req.method.as_str(), path.as_slice()) {
            ("GET" | "POST", [tenant, "oauth2", "v2.0", "authorize"]) if *tenant == known::GRAPH_TENANT => return Ok(self.grants.authorize(req)),
            ("POST", [tenant, "oauth2", "v2.0", "token"]) => return Ok(self.token(tenant, req)),
            (_, ["upload", session]) => return self.upload(&mut lock(&self.state), session, req),
            (_, ["drive-upload", session]) => return self.drive_upload(&mut lock(&self.state), session, req),
            ("GET", ["download", token]) => return self.download(&mut lock(&self.state), token, req),
            ("GET", ["monitor", copy]) => return self.monitor(&mut lock(&self.state), copy, req),
            (_, ["v1.0", ..]) => {}
            _ => return Err(error(404, "ResourceNotFound", "Invalid version.")),
        }
        if !req.bearer().is_some_and(|t| self.tokens.accepts(t)) {
            let message = if req.bearer().is_some() { "Lifetime validation failed, the token is expired." } else { "Access token is empty." };
            return Err(error(401, "InvalidAuthenticationToken", message).with("www-authenticate", "Bearer realm=\"\""));
        }
        self.graph(req).await
    }

    /// Everything below `/v1.0`, already authorised.
    async fn graph(&self, req: &Req) -> Answer {
        let path = odata_path(req);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let method = req.method.as_str();
        match (method, path.get(1..).unwrap_or_default()) {
            ("POST", ["$batch"]) => self.batch(req).await,
            ("POST", ["subscriptions"]) => self.subscribe(req).await,
            ("GET", ["subscriptions"]) => self.subscription(&mut lock(&self.state), None, "GET", req),
            ("GET" | "PATCH" | "DELETE", ["subscriptions", id]) => self.subscription(&mut lock(&self.state), Some(id), method, req),
            ("POST", ["subscriptions", id, "reauthorize"]) => self.subscription(&mut lock(&self.state), Some(id), "reauthorize", req),
            (_, ["users", user, rest @ ..]) => {
                let mut state = lock(&self.state);
                let user = state.user(user)?;
                self.mailbox(&mut state, &user, method, rest, req)
            }
            (_, ["teams", rest @ ..]) => self.teams(&mut lock(&self.state), method, rest, req),
            (_, ["chats", rest @ ..]) => self.chats(&mut lock(&self.state), method, rest, req),
            (_, ["sites", rest @ ..]) => self.sites(&mut lock(&self.state), method, rest, req),
            (_, ["drives" | "shares", ..]) => self.drives(&mut lock(&self.state), method, req.path().get(1..).unwrap_or_default(), req),
            (_, ["me", ..]) => Err(error(400, "BadRequest", "/me request is only valid with delegated authentication flow.")),
            _ => Err(error(400, "BadRequest", "Resource not found for the segment.")),
        }
    }

    fn mailbox(&self, state: &mut State, user: &str, method: &str, rest: &[&str], req: &Req) -> Answer {
        let others = [Self::calendar, Self::teams_of, Self::drives_of];
        if let Some(answer) = others.iter().find_map(|subject| subject(self, state, user, method, rest, req)) {
            return answer;
        }
        let mailbox = state.mailbox(user);
        match (method, rest) {
            ("GET", []) => self.get_user(state, user),
            ("POST", ["sendMail"]) => self.send_mail(state, user, req),
            ("POST", ["translateExchangeIds"]) => self.translate_ids(mailbox, &json_body(req)?),
            ("GET" | "POST", ["outlook", "masterCategories"]) => {
                let body = json_body(req)?;
                self.master_categories(mailbox, req, &body)
            }
            ("GET", ["mailFolders"]) => self.list_folders(mailbox, &mailbox.well_known("msgfolderroot"), req),
            ("POST", ["mailFolders"]) => {
                let root = mailbox.well_known("msgfolderroot");
                self.create_folder(mailbox, &root, &json_body(req)?)
            }
            ("GET", ["mailFolders", "delta"]) => self.folders_delta(mailbox, req),
            (_, ["mailFolders", folder, rest @ ..]) => {
                let folder = mailbox.folder_id(folder).ok_or_else(not_found)?;
                match (method, rest) {
                    ("GET", []) => self.get_folder(mailbox, &folder, req),
                    ("PATCH", []) => self.rename_folder(mailbox, &folder, &json_body(req)?),
                    ("DELETE", []) => self.delete_folder(state, user, &folder),
                    ("GET", ["childFolders"]) => self.list_folders(mailbox, &folder, req),
                    ("POST", ["childFolders"]) => self.create_folder(mailbox, &folder, &json_body(req)?),
                    ("GET", ["messages"]) => self.list_messages(mailbox, Some(&folder), req),
                    ("POST", ["messages"]) => self.create_draft(state, user, Some(&folder), req),
                    ("GET", ["messages", "delta"]) => self.messages_delta(mailbox, &folder, req),
                    (_, ["messages", id, rest @ ..]) => self.message(state, user, method, id, rest, req),
                    _ => Err(unknown_segment()),
                }
            }
            ("GET", ["messages"]) => self.list_messages(mailbox, None, req),
            ("POST", ["messages"]) => self.create_draft(state, user, None, req),
            (_, ["messages", id, rest @ ..]) => self.message(state, user, method, id, rest, req),
            _ => Err(unknown_segment()),
        }
    }

    fn message(&self, state: &mut State, user: &str, method: &str, id: &str, rest: &[&str], req: &Req) -> Answer {
        let mailbox = state.mailbox(user);
        match (method, rest) {
            ("GET", []) => self.get_message(mailbox, id, req),
            ("PATCH", []) => self.patch_message(state, user, id, req),
            ("DELETE", []) => self.delete_message(state, user, id, req),
            ("GET", ["$value"]) => self.message_mime(mailbox, id),
            ("POST", ["send"]) => self.send_draft(state, user, id),
            ("POST", ["move"]) => self.relocate(state, user, id, false, req),
            ("POST", ["copy"]) => self.relocate(state, user, id, true, req),
            ("GET", ["attachments"]) => self.list_attachments(mailbox, id, req),
            ("POST", ["attachments"]) => self.add_attachment(state, user, id, req),
            ("POST", ["attachments", "createUploadSession"]) => self.create_upload(state, user, id, req),
            ("GET", ["attachments", aid]) => self.get_attachment(mailbox, id, aid, false, req),
            ("GET", ["attachments", aid, "$value"]) => self.get_attachment(mailbox, id, aid, true, req),
            ("DELETE", ["attachments", aid]) => self.remove_attachment(state, user, id, aid),
            ("POST", [action]) => match Answering::of(action) {
                Some(how) => self.answer(state, user, id, how, req),
                None => Err(unknown_segment()),
            },
            _ => Err(unknown_segment()),
        }
    }
}

fn unknown_segment() -> Reply {
    error(400, "BadRequest", "Resource not found for the segment or method not allowed.")
}

/// Path segments with OData's function notation opened: `mailFolders('inbox')` is `mailFolders`, `inbox`; `delta()` is `delta`.
/// Names of collections are matched without case, as Graph does.
fn odata_path(req: &Req) -> Vec<String> {
    const NAMES: [&str; 14] = [
        "users",
        "mailFolders",
        "messages",
        "attachments",
        "childFolders",
        "subscriptions",
        "teams",
        "channels",
        "chats",
        "sites",
        "lists",
        "drives",
        "events",
        "calendarView",
    ];
    let mut out = Vec::new();
    for segment in &req.segments {
        let (name, argument) = match segment.split_once('(') {
            Some((name, rest)) if rest.ends_with(')') => (name, rest.trim_end_matches(')').trim_matches('\'')),
            _ => (segment.as_str(), ""),
        };
        let name = name.strip_prefix("microsoft.graph.").unwrap_or(name);
        out.push(NAMES.iter().find(|n| n.eq_ignore_ascii_case(name)).map_or_else(|| name.to_owned(), |n| (*n).to_owned()));
        if !argument.is_empty() {
            out.push(argument.to_owned());
        }
    }
    out
}

#[async_trait]
impl Vendor for MsGraph {
    fn id(&self) -> &'static str {
        "msgraph"
    }

    async fn handle(&self, req: Req) -> Reply {
        self.route(&req).await.unwrap_or_else(|reply| reply)
    }

    fn throttled(&self, retry_after: u64) -> Reply {
        error(429, "TooManyRequests", "Too many requests.").with("retry-after", &retry_after.to_string())
    }

    fn unavailable(&self) -> Reply {
        error(503, "serviceNotAvailable", "The service is temporarily unavailable.")
    }

    /// Four requests at a time per app and mailbox. <https://learn.microsoft.com/graph/throttling-limits#outlook-service-limits>
    fn lane(&self, req: &Req) -> Option<(String, usize)> {
        match req.path().as_slice() {
            ["v1.0", "users", user, ..] => Some((user.to_lowercase(), 4)),
            _ => None,
        }
    }

    fn crowded(&self) -> Reply {
        error(429, "ApplicationThrottled", "Application is over its MailboxConcurrency limit.").with("retry-after", "1")
    }

    fn revoke(&self, req: &Req) -> bool {
        req.bearer().is_some_and(|token| self.tokens.revoke(token))
    }

    fn presents_cursor(&self, req: &Req) -> bool {
        let is_file_delta = req.q("token").is_some() && req.segments.last().is_some_and(|last| last.starts_with("delta"));
        req.q("$deltatoken").is_some() || req.q("$skiptoken").is_some() || is_file_delta
    }

    fn spared(&self, req: &Req) -> bool {
        req.segments.get(1).is_some_and(|s| s == "oauth2")
    }
}

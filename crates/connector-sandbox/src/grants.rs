//! People's consent as the fakes keep it: a consent page, codes, refresh tokens by family, revocation. It refuses to know a vendor's error
//! bodies, and to send anybody's browser to another machine than this one.

use crate::auth::Tokens;
use crate::exchange::{Reply, Req, field};
use crate::ledger::{EffectKind, Entry, lock};
use crate::vendors::Shared;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::Mutex;
use url::{Host, Url};

/// Seconds a code is good.
const CODE_LIFETIME: i64 = 600;

/// What a renewal does with the refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewal {
    /// It stays the only one (HubSpot).
    Keeps,
    /// A new one is given and the old one goes on working (Microsoft).
    Adds,
    /// A new one is given and the old one is burnt: whoever uses it again ends the whole grant (Slack, Jira, Linear).
    Burns,
}

/// Why a token request is refused, in the words of RFC 6749.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Client,
    Code,
    RefreshToken,
    GrantType,
}

/// A granted token request.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) scopes: Vec<String>,
}

/// The registered client and everything people granted it.
#[derive(Debug)]
pub(crate) struct Grants {
    vendor: &'static str,
    client_id: &'static str,
    client_secret: &'static str,
    shared: Shared,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    renewal: Renewal,
    /// Numbers codes, refresh tokens and families.
    last: u64,
    codes: HashMap<String, Code>,
    refresh: HashMap<String, Refresh>,
    families: HashMap<u64, Family>,
}

#[derive(Debug)]
struct Code {
    family: u64,
    redirect_uri: String,
    challenge: Option<String>,
    until: Timestamp,
    used: bool,
}

#[derive(Debug)]
struct Refresh {
    family: u64,
    burnt: bool,
}

/// One consent and what came of it.
#[derive(Debug, Default)]
struct Family {
    scopes: Vec<String>,
    dead: bool,
    access: Vec<String>,
}

impl Grants {
    pub(crate) fn new(vendor: &'static str, client: (&'static str, &'static str), renewal: Renewal, shared: Shared) -> Self {
        let state = State { renewal, last: 0, codes: HashMap::new(), refresh: HashMap::new(), families: HashMap::new() };
        Self { vendor, client_id: client.0, client_secret: client.1, shared, state: Mutex::new(state) }
    }

    /// A consent given before the sandbox started, with this refresh token.
    pub(crate) fn seed(&self, refresh: &str, scopes: &[&str]) {
        let mut state = lock(&self.state);
        let family = state.next();
        state.families.insert(family, Family { scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(), ..Family::default() });
        state.refresh.insert(refresh.to_owned(), Refresh { family, burnt: false });
    }

    /// What renewals do from now on.
    pub(crate) fn set_renewal(&self, renewal: Renewal) {
        lock(&self.state).renewal = renewal;
    }

    /// Takes every consent back: refresh tokens stop working and so do their access tokens.
    pub(crate) fn revoke_all(&self, tokens: &Tokens) {
        let mut state = lock(&self.state);
        let families: Vec<u64> = state.families.keys().copied().collect();
        for family in families {
            state.end(family, tokens);
        }
    }

    /// The consent page (GET) and what the person decided on it (POST).
    pub(crate) fn authorize(&self, req: &Req) -> Reply {
        let posted = req.method == http::Method::POST;
        let form = if posted { req.form() } else { req.query.clone() };
        let text = |name: &str| field(&form, name).unwrap_or_default();
        if text("client_id") != self.client_id {
            return page(400, "Unknown app", "<p>No app with this client id is registered here.</p>");
        }
        // Nobody is sent anywhere before this is settled.
        let Some(redirect) = own_machine(text("redirect_uri")) else {
            return page(
                400,
                "Refused",
                "<p>The sandbox sends people only to this machine: the redirect must be http on 127.0.0.1, [::1] or localhost.</p>",
            );
        };
        let back = |pairs: &[(&str, &str)]| {
            let mut url = redirect.clone();
            url.query_pairs_mut().extend_pairs(pairs).append_pair("state", text("state"));
            Reply::empty(302).with("location", url.as_str()).with("cache-control", "no-store")
        };
        let plain = field(&form, "code_challenge").is_some() && text("code_challenge_method") != "S256";
        if text("response_type") != "code" || plain {
            return back(&[("error", "invalid_request"), ("error_description", "response_type must be code, and a challenge S256")]);
        }
        let asked: Vec<&str> = text("scope").split([' ', ',']).filter(|scope| !scope.is_empty()).collect();
        if !posted {
            return self.consent_page(&form, &asked);
        }
        if text("decision") != "allow" {
            return back(&[("error", "access_denied"), ("error_description", "The person said no.")]);
        }
        let granted = |scope: &&str| form.iter().any(|(name, value)| name == "granted" && value == scope);
        let scopes: Vec<String> = asked.into_iter().filter(granted).map(str::to_owned).collect();
        let code = {
            let mut state = lock(&self.state);
            let family = state.next();
            let code = format!("sandbox-{}-code-{family:06}", self.vendor);
            let challenge = field(&form, "code_challenge").map(str::to_owned);
            let until = self.shared.clock.after(CODE_LIFETIME);
            state.codes.insert(code.clone(), Code { family, redirect_uri: text("redirect_uri").to_owned(), challenge, until, used: false });
            state.families.insert(family, Family { scopes: scopes.clone(), ..Family::default() });
            code
        };
        let entry = Entry::new(self.vendor, EffectKind::ConsentGiven, self.client_id).detail(json!({"scopes": scopes}));
        self.shared.record(entry);
        back(&[("code", &code)])
    }

    fn consent_page(&self, form: &[(String, String)], asked: &[&str]) -> Reply {
        let hidden = form.iter().map(|(name, value)| format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">", escaped(name), escaped(value)));
        let scopes = asked.iter().map(|scope| {
            let scope = escaped(scope);
            format!("<li><label><input type=\"checkbox\" name=\"granted\" value=\"{scope}\" checked> {scope}</label></li>")
        });
        let body = format!(
            "<p>An app asks for access to this fake {} account. Take a tick away to grant less.</p>\
             <form method=\"post\" action=\"authorize\">{}<ul>{}</ul>\
             <button name=\"decision\" value=\"allow\">Allow</button> <button name=\"decision\" value=\"deny\">Deny</button></form>",
            self.vendor,
            hidden.collect::<String>(),
            scopes.collect::<String>()
        );
        page(200, "Consent", &body)
    }

    /// Whether the form proves the registered client.
    fn proves(&self, form: &[(String, String)]) -> bool {
        field(form, "client_id") == Some(self.client_id) && field(form, "client_secret") == Some(self.client_secret)
    }

    /// Answers a code or a refresh token.
    pub(crate) fn token(&self, form: &[(String, String)], tokens: &Tokens) -> Result<Granted, Denied> {
        let grant = field(form, "grant_type").unwrap_or_default();
        let outcome = if !self.proves(form) {
            Err(Denied::Client)
        } else {
            let mut state = lock(&self.state);
            match grant {
                "authorization_code" => state.redeem(form, tokens, self.shared.clock.now()),
                "refresh_token" => state.renew(form, tokens),
                _ => Err(Denied::GrantType),
            }
            .map(|(family, refresh)| state.issue(self.vendor, family, refresh, tokens))
        };
        self.tell(grant, outcome.as_ref().map(|granted| granted.scopes.clone()).map_err(|denied| format!("{denied:?}")));
        outcome
    }

    /// Writes a token request into the ledger.
    pub(crate) fn tell(&self, grant: &str, outcome: Result<Vec<String>, String>) {
        // The grant is the caller's text; only the known ones are worth a line of their own.
        let grant = ["authorization_code", "refresh_token", "client_credentials"].into_iter().find(|known| *known == grant).unwrap_or("other");
        let (kind, detail) = match outcome {
            Ok(scopes) => (EffectKind::TokenIssued, json!({"scopes": scopes})),
            Err(why) => (EffectKind::TokenRefused, json!({"why": why})),
        };
        self.shared.record(Entry::new(self.vendor, kind, grant).detail(detail));
    }

    /// Ends the grant a token belongs to (RFC 7009). `false`: the client is not the registered one; an unknown token is no error.
    pub(crate) fn revoke(&self, form: &[(String, String)], tokens: &Tokens) -> bool {
        if !self.proves(form) {
            return false;
        }
        let token = field(form, "token").unwrap_or_default();
        let mut state = lock(&self.state);
        let by_access = || state.families.iter().find(|(_, family)| family.access.iter().any(|one| one == token)).map(|(id, _)| *id);
        let family = state.refresh.get(token).map(|refresh| refresh.family).or_else(by_access);
        if let Some(family) = family {
            state.end(family, tokens);
            drop(state);
            self.shared.record(Entry::new(self.vendor, EffectKind::GrantRevoked, self.client_id));
        }
        true
    }

    /// The scopes an access token of a consent has; `None`: it is not from one.
    pub(crate) fn scopes(&self, access: &str) -> Option<Vec<String>> {
        let state = lock(&self.state);
        state.families.values().find(|family| family.access.iter().any(|one| one == access)).map(|family| family.scopes.clone())
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn redeem(&mut self, form: &[(String, String)], tokens: &Tokens, now: Timestamp) -> Result<(u64, Option<String>), Denied> {
        let code = self.codes.get_mut(field(form, "code").unwrap_or_default()).ok_or(Denied::Code)?;
        let verifier = field(form, "code_verifier");
        let proven = match (&code.challenge, verifier) {
            (Some(challenge), Some(verifier)) => URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == *challenge,
            (None, None) => true,
            _ => false,
        };
        let (family, fresh) = (code.family, !code.used && now < code.until);
        let fits = proven && field(form, "redirect_uri") == Some(code.redirect_uri.as_str());
        if code.used {
            // Somebody else has it too (RFC 6749 §4.1.2).
            self.end(family, tokens);
        } else {
            // One try, whoever makes it.
            code.used = true;
        }
        if fresh && fits { Ok((family, None)) } else { Err(Denied::Code) }
    }

    fn renew(&mut self, form: &[(String, String)], tokens: &Tokens) -> Result<(u64, Option<String>), Denied> {
        let given = field(form, "refresh_token").unwrap_or_default();
        let renewal = self.renewal;
        let refresh = self.refresh.get_mut(given).ok_or(Denied::RefreshToken)?;
        let family = refresh.family;
        if refresh.burnt {
            self.end(family, tokens);
            return Err(Denied::RefreshToken);
        }
        if self.families.get(&family).is_none_or(|family| family.dead) {
            return Err(Denied::RefreshToken);
        }
        refresh.burnt = renewal == Renewal::Burns;
        Ok((family, (renewal == Renewal::Keeps).then(|| given.to_owned())))
    }

    fn issue(&mut self, vendor: &str, family: u64, refresh: Option<String>, tokens: &Tokens) -> Granted {
        let refresh = refresh.unwrap_or_else(|| {
            let token = format!("sandbox-{vendor}-refresh-{:06}", self.next());
            self.refresh.insert(token.clone(), Refresh { family, burnt: false });
            token
        });
        let access = tokens.issue();
        let own = self.families.entry(family).or_default();
        own.access.push(access.clone());
        Granted { access, refresh, scopes: own.scopes.clone() }
    }

    fn end(&mut self, family: u64, tokens: &Tokens) {
        if let Some(family) = self.families.get_mut(&family) {
            family.dead = true;
            for access in family.access.drain(..) {
                tokens.revoke(&access);
            }
        }
    }
}

/// The URL, if it leads to this machine.
fn own_machine(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let own = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    (url.scheme() == "http" && own && url.fragment().is_none()).then_some(url)
}

fn page(status: u16, title: &str, body: &str) -> Reply {
    let html = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sandbox: {title}</title></head>\
         <body><h1>{title}</h1>{body}<p>This is a sandbox on your machine, not the vendor.</p></body></html>"
    );
    Reply::bytes(status, "text/html; charset=utf-8", Bytes::from(html))
        .with("content-security-policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
        .with("cache-control", "no-store")
}

/// Text inside HTML, also inside a quoted attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

//! Signing in with a browser: where a person sets out to a vendor, and where the vendor sends them back.
//!
//! Owns the browser session: a cookie of its own for each sign-in, so that two at a time do not disturb each other. Refuses to take an answer
//! in another browser than the one that asked, and to show anything a vendor said without escaping it.

use axum::{
    extract::{OriginalUri, Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use connector_core::{Error, ErrorKind, Result};
use connector_runtime::{ConnectAsk, ConnectBack, ConnectReport, Role, STATE_TTL};
use serde::Deserialize;

use super::{
    App,
    body::{Query, Shape},
    caller::Caller,
    connect::list,
    problem::Problem,
    tickets::{self, Ticket},
};
use crate::{
    keys::{hash, random},
    page::{self, Connected},
};

/// Begins the name of a sign-in's cookie.
const COOKIE: &str = "connectors_signin_";
/// The path of the answer.
const CALLBACK: &str = "/oauth/callback";

/// Where somebody sets out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Start {
    ticket: Option<String>,
    connection: Option<String>,
    tools: String,
    scopes: String,
    next: Option<String>,
}

impl Shape for Start {
    const SHAPE: &'static str = "?ticket=…, or with an API key ?connection=…&tools=a,b&scopes=a,b&next=/path, all optional";
}

pub(super) async fn start(
    State(app): State<App>,
    method: Method,
    Path(connector): Path<String>,
    Query(start): Query<Start>,
    headers: HeaderMap,
) -> Response {
    // Whoever only looks ahead must not use the link up.
    let ahead = headers.get("sec-purpose").and_then(|purpose| purpose.to_str().ok()).is_some_and(|purpose| purpose.contains("prefetch"));
    if method == Method::HEAD || ahead {
        return StatusCode::NO_CONTENT.into_response();
    }
    match set_out(&app, &connector, start, &headers).await {
        Ok(response) => response,
        Err(Refusal::Unknown(problem)) => problem.into_response(),
        Err(Refusal::Because(error)) => sorry(&error),
    }
}

/// Why nobody sets out.
enum Refusal {
    /// Nobody showed who they are.
    Unknown(Problem),
    Because(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Because(error)
    }
}

async fn set_out(app: &App, connector: &str, start: Start, headers: &HeaderMap) -> Result<Response, Refusal> {
    let caller = Caller::of(app, headers).await.map_err(Refusal::Unknown)?;
    let redirect_uri = format!("{}{CALLBACK}", app.base()?);
    let ticket = match (start.ticket, caller) {
        (Some(text), caller) => tickets::redeem(app.runtime().store(), &text, connector, caller.as_ref().map(Caller::tenant)).await?,
        (None, Some(caller)) => {
            caller.at_least(Role::Operator)?;
            Ticket {
                tenant: caller.tenant().clone(),
                actor: caller.actor(),
                role: caller.role(),
                connector: connector.to_owned(),
                connection: start.connection,
                tools: list(&start.tools),
                scopes: list(&start.scopes),
                next: start.next,
            }
        }
        (None, None) => return Err(Refusal::Unknown(Caller::unknown())),
    };
    let session = hex::encode(random::<32>()?);
    let ask = ConnectAsk {
        tenant: ticket.tenant,
        session: session.clone(),
        actor: ticket.actor,
        role: ticket.role,
        connector: ticket.connector,
        connection: ticket.connection,
        tools: ticket.tools,
        scopes: ticket.scopes,
        redirect_uri,
        next: ticket.next,
    };
    let begun = app.runtime().begin_connect(ask).await?;
    let secure = if app.public_url()?.scheme() == "https" { "; Secure" } else { "" };
    let age = STATE_TTL.as_secs();
    let cookie = format!("{}={session}; Path={CALLBACK}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}", cookie_name(&begun.state));
    let unusable = |_| Error::internal("the vendor's sign-in address cannot stand in a header");
    let location = HeaderValue::try_from(begun.authorize_url.as_str()).map_err(unusable)?;
    let cookie = HeaderValue::try_from(cookie).map_err(|_| Error::internal("a cookie cannot stand in a header"))?;
    let headers = [(header::LOCATION, location), (header::SET_COOKIE, cookie)];
    Ok((StatusCode::SEE_OTHER, quiet(), headers).into_response())
}

pub(super) async fn callback(State(app): State<App>, OriginalUri(uri): OriginalUri, headers: HeaderMap) -> Response {
    let query: Vec<(String, String)> = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let state = query.iter().find(|(name, _)| name == "state").map(|(_, value)| value.as_str()).unwrap_or_default();
    let name = cookie_name(state);
    let Some(session) = cookie(&headers, &name) else {
        return sorry(&Error::new(ErrorKind::Denied, "this browser did not set out for this sign-in, or that was more than ten minutes ago"));
    };
    let redirect_uri = match app.base() {
        Ok(base) => format!("{base}{CALLBACK}"),
        Err(error) => return sorry(&error),
    };
    let mut response = match app.runtime().finish_connect(ConnectBack { session, query, redirect_uri }).await {
        Ok(report) => (StatusCode::OK, quiet(), Html(page::connected(&shown(report)))).into_response(),
        Err(error) => sorry(&error),
    };
    // Used, whatever came of it.
    if let Ok(gone) = HeaderValue::try_from(format!("{name}=; Path={CALLBACK}; Max-Age=0; HttpOnly; SameSite=Lax")) {
        response.headers_mut().insert(header::SET_COOKIE, gone);
    }
    response
}

/// A report for the page.
pub(crate) fn shown(report: ConnectReport) -> Connected {
    let note = match (report.note, report.checked) {
        (note, None) => note,
        (None, Some(why)) => Some(format!("The first call over it did not work yet: {why}")),
        (Some(note), Some(why)) => Some(format!("{note} The first call over it did not work yet: {why}")),
    };
    Connected {
        connector: report.connector,
        connection: report.connection,
        granted: report.granted,
        missing: report.missing,
        unusable_tools: report.unusable_tools,
        note,
        next: report.next,
    }
}

/// What to do about a sign-in that did not work.
pub(crate) fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Config => "an administrator has to correct the hub's configuration; then ask for a new link",
        kind if kind.is_passing() => "wait a minute, then ask for a new link and try again",
        ErrorKind::Forbidden => "sign in with an account that may grant this, or ask an administrator of the vendor's side",
        _ => "ask for a new link and open it in this browser",
    }
}

fn sorry(error: &Error) -> Response {
    let status = match error.kind() {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        kind if kind.is_passing() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    (status, quiet(), Html(page::failed(error.message(), advice(error.kind())))).into_response()
}

/// What every answer of a sign-in carries: nobody keeps it, nobody is told where it came from.
fn quiet() -> [(HeaderName, HeaderValue); 4] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::CSP)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ]
}

/// The cookie of the sign-in with this state. Only part of a hash: the state itself stays out of the jar's names.
fn cookie_name(state: &str) -> String {
    let digest = hash(state);
    format!("{COOKIE}{}", &digest[digest.len() - 16..])
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, value)| *found == name && !value.is_empty()).map(|(_, value)| value.to_owned())
}

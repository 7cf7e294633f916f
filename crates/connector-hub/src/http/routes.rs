//! The one table of what is served: method, path, who may, which ids it takes. The router is built from it, and the tenant matrix of the
//! tests walks it, so a route that is not in here does not exist and one that is cannot be forgotten.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, delete, get, post},
};
use connector_core::{Error, ErrorKind};
use connector_runtime::Role;

use super::{
    App, approvals, audit, caller::Caller, catalogue, connect, credentials, dashboard, health, ingress, keys, oauth, openapi, problem::Problem,
    queue, stream, subscriptions, tools, ws,
};

/// The longest request body a tool call may have, in bytes. Ingress has its own, smaller cap.
const MOST_BODY: usize = 4 * 1024 * 1024;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anybody who reaches the hub. Such a route shows nothing of a tenant.
    Public,
    /// An API key of this role or above; what is seen and done is bound to the key's tenant and workspaces.
    Key(Role),
    /// The sender's signature over the body.
    Signature,
    /// A one-time ticket, an API key, or the session a ticket opened.
    Session,
}

/// What an id in a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdKind {
    /// A connector; the same for all tenants.
    Connector,
    /// A tool; the same for all tenants.
    Tool,
    /// A connection.
    Connection,
    /// A credential, by name.
    Credential,
    /// An approval.
    Approval,
    /// A dead letter.
    DeadLetter,
    /// An event.
    Event,
    /// An API key, by its public id.
    Key,
    /// A subscription of a vendor.
    Subscription,
    /// A one-time ticket.
    Ticket,
    /// The state of a sign-in.
    SignIn,
}

/// Where an id stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path, under this parameter.
    Path(&'static str),
    /// In the query, under this name.
    Query(&'static str),
    /// In the JSON body, under this member.
    Body(&'static str),
}

/// One route.
#[derive(Clone, Copy)]
pub struct Route {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// Its path, parameters in braces.
    pub path: &'static str,
    /// Who may call it.
    pub needs: Needs,
    /// The ids it takes.
    pub ids: &'static [(IdKind, Place)],
    make: fn() -> MethodRouter<App>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.method, self.path, self.needs)
    }
}

const VIEWER: Needs = Needs::Key(Role::Viewer);
const OPERATOR: Needs = Needs::Key(Role::Operator);
const APPROVER: Needs = Needs::Key(Role::Approver);
const ADMIN: Needs = Needs::Key(Role::Admin);

const CONNECTOR: (IdKind, Place) = (IdKind::Connector, Place::Path("id"));
const CONNECTION: (IdKind, Place) = (IdKind::Connection, Place::Path("id"));
/// A filter of a listing.
const OF_CONNECTION: (IdKind, Place) = (IdKind::Connection, Place::Query("connection"));
/// A filter of something that is done to many.
const IN_CONNECTION: (IdKind, Place) = (IdKind::Connection, Place::Body("connection"));
const LETTER: (IdKind, Place) = (IdKind::DeadLetter, Place::Path("id"));
const EVENT: (IdKind, Place) = (IdKind::Event, Place::Path("seq"));
const CREDENTIAL: (IdKind, Place) = (IdKind::Credential, Place::Path("name"));
const APPROVAL: (IdKind, Place) = (IdKind::Approval, Place::Path("id"));
const SUBSCRIPTION: (IdKind, Place) = (IdKind::Subscription, Place::Path("id"));
const KEY: (IdKind, Place) = (IdKind::Key, Place::Path("id"));

const fn route(method: &'static str, path: &'static str, needs: Needs, ids: &'static [(IdKind, Place)], make: fn() -> MethodRouter<App>) -> Route {
    Route { method, path, needs, ids, make }
}

/// Everything the hub serves.
pub const ROUTES: &[Route] = &[
    route("GET", "/", Needs::Public, &[], || get(dashboard::page)),
    route("GET", "/healthz", Needs::Public, &[], || get(health::alive)),
    route("GET", "/readyz", Needs::Public, &[], || get(health::ready)),
    route("GET", "/openapi.json", Needs::Public, &[], || get(openapi::serve)),
    route("GET", "/metrics", Needs::Public, &[], || get(health::metrics)),
    route("GET", "/api/connectors", VIEWER, &[], || get(catalogue::list)),
    route("GET", "/api/connectors/health", VIEWER, &[], || get(health::connections)),
    route("GET", "/api/connectors/{id}", VIEWER, &[CONNECTOR], || get(catalogue::one)),
    route("GET", "/api/v1/tools", VIEWER, &[], || get(tools::list)),
    // A viewer may call what only reads; the call path refuses the rest.
    route(
        "POST",
        "/api/v1/tools/{tool}/execute",
        VIEWER,
        &[(IdKind::Tool, Place::Path("tool")), (IdKind::Connection, Place::Body("connection"))],
        || post(tools::execute),
    ),
    route("GET", "/api/v1/connections", VIEWER, &[], || get(catalogue::connections)),
    route("DELETE", "/api/v1/connections/{id}", OPERATOR, &[CONNECTION], || delete(connect::disconnect)),
    route("POST", "/api/v1/connections/{id}/validate", OPERATOR, &[CONNECTION], || post(connect::validate_connection)),
    route("GET", "/api/v1/connections/{id}/scopes", VIEWER, &[CONNECTION], || get(connect::scope_diff)),
    route("GET", "/api/v1/scopes", VIEWER, &[], || get(connect::scopes)),
    route(
        "POST",
        "/api/v1/connect/{connector}",
        OPERATOR,
        &[(IdKind::Connector, Place::Path("connector")), (IdKind::Connection, Place::Body("connection"))],
        || post(connect::link),
    ),
    route(
        "GET",
        "/oauth/start/{connector}",
        Needs::Session,
        &[(IdKind::Connector, Place::Path("connector")), (IdKind::Ticket, Place::Query("ticket")), (IdKind::Connection, Place::Query("connection"))],
        || get(oauth::start),
    ),
    route("GET", "/oauth/callback", Needs::Session, &[(IdKind::SignIn, Place::Query("state"))], || get(oauth::callback)),
    route("GET", "/api/v1/dlq", VIEWER, &[OF_CONNECTION], || get(queue::dead_letters)),
    route("POST", "/api/v1/dlq/retry", OPERATOR, &[IN_CONNECTION], || post(queue::retry_many)),
    route("POST", "/api/v1/dlq/discard", OPERATOR, &[IN_CONNECTION], || post(queue::discard_many)),
    route("GET", "/api/v1/dlq/{id}", VIEWER, &[LETTER], || get(queue::dead_letter)),
    route("POST", "/api/v1/dlq/{id}/retry", OPERATOR, &[LETTER], || post(queue::retry)),
    route("POST", "/api/v1/dlq/{id}/discard", OPERATOR, &[LETTER], || post(queue::discard)),
    route("GET", "/api/v1/events", VIEWER, &[OF_CONNECTION], || get(queue::events)),
    route("POST", "/api/v1/events/replay", OPERATOR, &[IN_CONNECTION], || post(queue::replay_many)),
    route("GET", "/api/v1/events/{seq}", VIEWER, &[EVENT], || get(queue::event)),
    route("POST", "/api/v1/events/{seq}/replay", OPERATOR, &[EVENT], || post(queue::replay)),
    route("GET", "/api/v1/stream", VIEWER, &[], || get(stream::sse)),
    route("GET", "/api/v1/ws", VIEWER, &[], || get(ws::upgrade)),
    route("GET", "/api/v1/subscriptions", VIEWER, &[], || get(subscriptions::list)),
    route("POST", "/api/v1/subscriptions", ADMIN, &[IN_CONNECTION], || post(subscriptions::add)),
    route("GET", "/api/v1/subscriptions/{id}", VIEWER, &[SUBSCRIPTION], || get(subscriptions::one)),
    route("DELETE", "/api/v1/subscriptions/{id}", ADMIN, &[SUBSCRIPTION], || delete(subscriptions::remove)),
    route("POST", "/api/v1/subscriptions/{id}/sync", OPERATOR, &[SUBSCRIPTION], || post(subscriptions::sync)),
    route("GET", "/api/v1/credentials", OPERATOR, &[], || get(credentials::list)),
    route("POST", "/api/v1/credentials", ADMIN, &[], || post(credentials::set)),
    route("GET", "/api/v1/credentials/{name}", OPERATOR, &[CREDENTIAL], || get(credentials::one)),
    route("DELETE", "/api/v1/credentials/{name}", ADMIN, &[CREDENTIAL], || delete(credentials::revoke)),
    route("POST", "/api/v1/credentials/{name}/grant", ADMIN, &[CREDENTIAL], || post(credentials::grant)),
    route("POST", "/api/v1/credentials/{name}/rotate", ADMIN, &[CREDENTIAL], || post(credentials::rotate)),
    route("POST", "/api/v1/credentials/{name}/validate", OPERATOR, &[CREDENTIAL], || post(connect::validate_credential)),
    route("GET", "/api/v1/approvals", OPERATOR, &[], || get(approvals::list)),
    route("GET", "/api/v1/approvals/{id}", OPERATOR, &[APPROVAL], || get(approvals::one)),
    route("POST", "/api/v1/approvals/{id}/approve", APPROVER, &[APPROVAL], || post(approvals::approve)),
    route("POST", "/api/v1/approvals/{id}/deny", APPROVER, &[APPROVAL], || post(approvals::deny)),
    route(
        "GET",
        "/api/v1/audit",
        ADMIN,
        &[(IdKind::Credential, Place::Query("credential")), (IdKind::Connection, Place::Query("connection"))],
        || get(audit::tail),
    ),
    route("GET", "/api/v1/audit/verify", ADMIN, &[], || get(audit::verify)),
    route("GET", "/api/v1/keys", ADMIN, &[], || get(keys::list)),
    route("POST", "/api/v1/keys", ADMIN, &[], || post(keys::create)),
    route("DELETE", "/api/v1/keys/{id}", ADMIN, &[KEY], || delete(keys::revoke)),
    // The ingress reads its body itself, up to its own cap, before anything is parsed.
    route("POST", "/api/v1/webhooks/{*target}", Needs::Signature, &[], || post(ingress::receive).get(ingress::receive)),
];

/// All routes, guarded as the table says.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let made = (route.make)();
        let guarded = match route.needs {
            Needs::Key(role) => made.route_layer(from_fn_with_state((app.clone(), role), guard)),
            Needs::Public | Needs::Signature | Needs::Session => made,
        };
        router = router.route(route.path, guarded);
    }
    router
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is no such route") })
        .method_not_allowed_fallback(|| async { refuse(StatusCode::METHOD_NOT_ALLOWED, "this route does not take this method") })
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .with_state(app)
}

fn refuse(status: StatusCode, message: &str) -> Response {
    Problem::with_status(Error::new(ErrorKind::NotFound, message), status).into_response()
}

/// Lets in who shows a key of the route's role, before anything of the request is looked at.
async fn guard(State((app, role)): State<(App, Role)>, mut request: Request, next: Next) -> Response {
    let caller = match Caller::of(&app, request.headers()).await {
        Ok(Some(caller)) => caller,
        Ok(None) => return Caller::unknown().into_response(),
        Err(problem) => return problem.into_response(),
    };
    if let Err(error) = caller.at_least(role) {
        return Problem::from(error).into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

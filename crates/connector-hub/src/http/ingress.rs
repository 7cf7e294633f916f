//! Webhook ingress: the raw bytes go to the runtime, which proves, keeps and only then says yes.

use std::time::{Duration, Instant};

use axum::{
    BoxError,
    body::{Body, Bytes, HttpBody},
    extract::{OriginalUri, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use connector_core::webhook::RawWebhook;
use connector_webhook::ingress::{IngressAnswer, IngressLimits, Outcome, route::IngressRoute};
use http_body_util::BodyExt as _;

use super::{
    App,
    guard_load::{Class, Held, Load, count_shed},
    server::TooSlow,
};

/// When a sender should come again for whose body there was no room, in seconds.
const COME_AGAIN: u64 = 1;
/// How long a body may take while the hub is under pressure. With the 2.5 s that the write may take, the answer is in time for the strictest
/// vendors (3 s).
const IN_TIME: Duration = Duration::from_millis(400);

/// The route, for servers that are not the hub's own.
pub(super) async fn receive(State(app): State<App>, method: Method, OriginalUri(uri): OriginalUri, headers: HeaderMap, body: Body) -> Response {
    deliver(&app, &method, &uri, &headers, body, None).await
}

/// Takes one delivery. `load` has the room for its body.
pub(super) async fn deliver<B>(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap, body: B, load: Option<&Load>) -> Response
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let Some(route) = IngressRoute::parse(uri.path()) else { return answer(IngressAnswer::of(Outcome::NotFound)) };
    let began = Instant::now();
    let refused = |outcome: Outcome| {
        let retry_after = (outcome == Outcome::Overloaded).then_some(COME_AGAIN);
        answer(IngressAnswer { retry_after, ..IngressAnswer::of(outcome) })
    };
    let (body, _held) = match read(body, load).await {
        Ok(read) => read,
        Err(outcome) => return refused(outcome),
    };
    // A sender whose body was slow because of us has waited already; with the write on top the answer would come too late for it.
    if load.is_some_and(Load::is_pressed) && began.elapsed() > IN_TIME {
        count_shed(Class::Ingress);
        return refused(Outcome::Overloaded);
    }
    let query = uri.query().unwrap_or_default();
    // Where the runtime knows its public address it uses that; a signature over the URL never depends on what a sender claims.
    let url = uri.path_and_query().map_or("/", axum::http::uri::PathAndQuery::as_str);
    let raw = RawWebhook { method, url, query, headers, body: &body };
    let tenant = app.runtime().tenant_of_webhook(&route.connector, &route.workspace);
    answer(app.runtime().receive(&tenant, &route.connector, &route.workspace, raw).await)
}

/// Reads a body up to the ingress cap and no further. One that arrived as a piece is not copied.
async fn read<'l, B>(mut body: B, load: Option<&'l Load>) -> Result<(Bytes, Option<Held<'l>>), Outcome>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let cap = IngressLimits::default().body;
    // What it announces is not read at all if it is too much.
    if body.size_hint().lower() > cap as u64 {
        return Err(Outcome::TooLarge);
    }
    let mut held = match load {
        Some(load) => Some(load.hold(0).ok_or(Outcome::Overloaded)?),
        None => None,
    };
    let (mut whole, mut more) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|error| unreadable(error.into()))?.into_data() else { continue };
        if whole.len().max(more.len()) + piece.len() > cap {
            return Err(Outcome::TooLarge);
        }
        if held.as_mut().is_some_and(|held| !held.more(piece.len())) {
            return Err(Outcome::Overloaded);
        }
        if whole.is_empty() && more.is_empty() {
            whole = piece;
            continue;
        }
        if more.is_empty() {
            let announced = usize::try_from(body.size_hint().lower()).unwrap_or_default();
            more.reserve((whole.len() + piece.len() + announced).min(cap));
            more.extend_from_slice(&whole);
        }
        more.extend_from_slice(&piece);
    }
    Ok((if more.is_empty() { whole } else { Bytes::from(more) }, held))
}

/// A body that came too slowly, was cut off, or was not framed as it should be.
fn unreadable(error: BoxError) -> Outcome {
    if is_too_slow(&*error) { Outcome::TooSlow } else { Outcome::Invalid }
}

/// Whether somewhere below this error a body was too slow.
pub(super) fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(found) = cause {
        if found.is::<TooSlow>() {
            return true;
        }
        cause = found.source();
    }
    false
}

pub(super) fn answer(answer: IngressAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, answer.body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    if let Some(seconds) = answer.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

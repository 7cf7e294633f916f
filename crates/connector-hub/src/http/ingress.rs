//! Webhook ingress: the raw bytes go to the runtime, which proves, keeps and only then says yes.

use axum::{
    body::{Body, Bytes},
    extract::{OriginalUri, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use connector_core::{TenantId, webhook::RawWebhook};
use connector_webhook::ingress::{IngressAnswer, IngressLimits, Outcome, route::IngressRoute};
use http_body_util::{BodyExt as _, Limited};

use super::App;

/// How long a sender may take for its body.
const BODY_TIME: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) async fn receive(State(app): State<App>, method: Method, OriginalUri(uri): OriginalUri, headers: HeaderMap, body: Body) -> Response {
    let Some(route) = IngressRoute::parse(uri.path()) else { return answer(IngressAnswer::of(Outcome::NotFound)) };
    let body = match read(body).await {
        Ok(body) => body,
        Err(outcome) => return answer(IngressAnswer::of(outcome)),
    };
    let query = uri.query().unwrap_or_default();
    // Where the runtime knows its public address it uses that; a signature over the URL never depends on what a sender claims.
    let url = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let raw = RawWebhook { method: &method, url: &url, query, headers: &headers, body: &body };
    answer(app.runtime().receive(&TenantId::default(), &route.connector, &route.workspace, raw).await)
}

/// Reads a body up to the ingress cap and no further. A sender that dawdles is told that its delivery is no good.
async fn read(body: Body) -> Result<Bytes, Outcome> {
    let limited = Limited::new(body, IngressLimits::default().body);
    match tokio::time::timeout(BODY_TIME, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(_)) => Err(Outcome::TooLarge),
        Err(_) => Err(Outcome::Invalid),
    }
}

fn answer(answer: IngressAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, answer.body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    if let Some(seconds) = answer.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

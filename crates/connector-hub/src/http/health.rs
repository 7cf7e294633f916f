//! Probes, metrics and the health of every connection.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use connector_runtime::ConnectionHealth;

use super::{App, caller::Caller};

/// The columns of [`row`].
pub(crate) const HEALTH_COLUMNS: [&str; 8] = ["connection", "connector", "state", "auth", "breaker", "errors", "p50 / p95", "last error"];

/// A connection's health as a table row.
pub(crate) fn row(health: &ConnectionHealth) -> Vec<String> {
    let latency = match (health.p50_ms, health.p95_ms) {
        (Some(p50), Some(p95)) => format!("{p50} / {p95} ms"),
        _ => "–".into(),
    };
    let errors = if health.calls == 0 { "–".into() } else { format!("{:.0} % of {}", health.error_rate * 100.0, health.calls) };
    vec![
        health.connection.clone(),
        health.connector.clone(),
        word(&health.state),
        word(&health.auth),
        health.breaker.as_ref().map_or_else(|| "–".into(), |breaker| word(&breaker.state)),
        errors,
        latency,
        // What is wrong now before what went wrong last.
        health.warnings.iter().cloned().chain(health.last_error.as_ref().map(|error| error.message.clone())).collect::<Vec<_>>().join("; "),
    ]
}

/// A state as the API writes it.
fn word(state: &impl serde::Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The process is there.
pub(super) async fn alive() -> &'static str {
    "ok"
}

/// The process takes work: it is not stopping, and its store answers.
pub(super) async fn ready(State(app): State<App>) -> Response {
    if app.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping").into_response();
    }
    match app.runtime().store().depth("events").await {
        Ok(_) => "ready".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("the store does not answer: {}", error.kind())).into_response(),
    }
}

pub(super) async fn metrics(State(app): State<App>) -> Response {
    match app.metrics() {
        Some(handle) => {
            if let Err(error) = app.runtime().measure_dead_letters().await {
                tracing::warn!(%error, "the dead letters could not be counted");
            }
            ([("content-type", "text/plain; version=0.0.4")], handle.render()).into_response()
        }
        None => (StatusCode::NOT_FOUND, "this hub does not count").into_response(),
    }
}

pub(super) async fn connections(State(app): State<App>, caller: Caller) -> Json<Vec<ConnectionHealth>> {
    let mut health = app.runtime().health().await;
    health.retain(|connection| connection.tenant == *caller.tenant());
    Json(health)
}

//! Errors as RFC 9457 problems: what happened, which class, what to do, and when to come back.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use connector_core::{Error, ErrorKind};
use serde_json::{Map, json};

/// An error on its way to an HTTP caller, with the status it is answered with.
#[derive(Debug)]
pub(super) struct Problem {
    error: Error,
    status: StatusCode,
}

impl Problem {
    /// The caller did not show who it is.
    pub(super) fn unauthorized(message: &str) -> Self {
        Self::with_status(Error::new(ErrorKind::Denied, message), StatusCode::UNAUTHORIZED)
    }

    /// An error whose class says less than the status.
    pub(super) fn with_status(error: Error, status: StatusCode) -> Self {
        Self { error, status }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { status: status(error.kind()), error }
    }
}

/// The status a class of errors is answered with.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Denied | ErrorKind::Forbidden | ErrorKind::ApprovalRequired => StatusCode::FORBIDDEN,
        ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Config => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::CursorExpired => StatusCode::GONE,
        ErrorKind::Throttled | ErrorKind::Quota | ErrorKind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::CircuitOpen | ErrorKind::NotSent | ErrorKind::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_GATEWAY,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { error, status } = self;
        let context: Map<_, _> = error.context().iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
        let body = json!({
            "type": format!("urn:connectors:problem:{}", error.kind()), "title": error.kind().as_str(), "status": status.as_u16(),
            "detail": error.message(), "advice": error.kind().advice(), "connector": error.connector(), "operation": error.operation(),
            "vendor_status": error.status(), "vendor_code": error.vendor_code(), "vendor_request_id": error.request_id(), "context": context,
        });
        let mut response = (status, Json(body)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(delay) = error.retry_after() {
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

//! What comes in: JSON bodies and queries, refused without repeating any of it.

use std::fmt;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, request::Parts},
};
use connector_core::Error;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::{App, ingress::is_too_slow, problem::Problem};

/// A type that says how its JSON looks, for people who got it wrong.
pub(super) trait Shape: DeserializeOwned {
    /// For example `{name, workspaces?}`.
    const SHAPE: &'static str;
}

/// A JSON body. Nothing at all counts as `{}`.
pub(super) struct Body<T>(pub(super) T);

impl<T: Shape> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Self::Rejection> {
        let bytes = Bytes::from_request(request, app).await.map_err(|rejection| {
            let late = is_too_slow(&rejection);
            let status = if late { StatusCode::REQUEST_TIMEOUT } else { rejection.status() };
            let message = match status {
                StatusCode::PAYLOAD_TOO_LARGE => "the body is too large",
                StatusCode::REQUEST_TIMEOUT => "the body took too long to arrive",
                _ => "the body could not be read",
            };
            Problem::with_status(Error::invalid(message), status)
        })?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        // serde's own words quote what they stumble over, which may be a secret.
        serde_json::from_slice(text).map(Self).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Error::invalid(format!("the body must be JSON: {}; it is not at {place}", T::SHAPE)).into()
        })
    }
}

/// A query string.
pub(super) struct Query<T>(pub(super) T);

impl<T: Shape> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Self::Rejection> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|_| Error::invalid(format!("the query must be {}", T::SHAPE)).into())
    }
}

/// A secret on its way in.
#[derive(Clone)]
pub(super) struct Secret(pub(super) SecretString);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretString::from(text)))
    }
}

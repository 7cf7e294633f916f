//! `Authorization: Bearer {token}`, or another word before the token.

use connector_core::{credential::Credential, error::Result};
use http::{HeaderValue, header};

use super::value;

/// A token in the `Authorization` header.
#[derive(Debug)]
pub(super) struct Bearer {
    prefix: Box<str>,
}

impl Bearer {
    pub(super) fn new(prefix: Option<&str>) -> Self {
        Self { prefix: format!("{} ", prefix.unwrap_or("Bearer").trim()).into() }
    }

    pub(super) fn header(&self, credential: &Credential, name: &str) -> Result<(http::HeaderName, HeaderValue)> {
        Ok((header::AUTHORIZATION, value::secret_header(credential, name, "token", &self.prefix)?))
    }
}

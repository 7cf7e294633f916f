//! A key in a header of the vendor's choice. Keys in URLs are refused: they end in logs.

use connector_core::{
    credential::Credential,
    error::{Error, Result},
    spec::ApiKeyPlace,
};
use http::{HeaderName, HeaderValue};

use super::value;

/// A key in a header.
#[derive(Debug)]
pub(super) struct ApiKey {
    header: HeaderName,
    prefix: Box<str>,
}

impl ApiKey {
    pub(super) fn new(header: &str, place: ApiKeyPlace, prefix: Option<&str>) -> Result<Self> {
        if !matches!(place, ApiKeyPlace::Header) {
            return Err(Error::config("an API key can only be sent in a header; keys in URLs end in logs"));
        }
        // Unlike a bearer prefix, this one is taken as it is written: `Token token=` needs no space, `GenieKey ` brings its own.
        Ok(Self { header: value::header_name(header)?, prefix: prefix.unwrap_or_default().into() })
    }

    pub(super) fn header(&self, credential: &Credential, name: &str) -> Result<(HeaderName, HeaderValue)> {
        Ok((self.header.clone(), value::secret_header(credential, name, "key", &self.prefix)?))
    }
}

//! How a connector authenticates, and which fields its credential must have.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

/// One way to authenticate. The secret values come from the credential's fields, named in each variant's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuthSpec {
    /// `Authorization: Bearer {token}`. Credential field: `token`.
    Bearer {
        /// The environment variable a single-connection program reads the token from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token_env: Option<String>,
        /// The word before the token, `Bearer` if not said (NetBox v1 tokens use `Token`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// What the vendor calls it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// A key in a header. Credential field: `key`.
    ApiKey {
        /// The header's name.
        header: String,
        /// Where the key goes; only headers are supported, keys in URLs leak into logs.
        #[serde(default)]
        place: ApiKeyPlace,
        /// The environment variable a single-connection program reads the key from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_env: Option<String>,
        /// A prefix before the key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// What the vendor calls it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// HTTP Basic. Credential fields: `username`, `password`.
    Basic {
        /// The environment variable of the user name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        username_env: Option<String>,
        /// The environment variable of the password.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password_env: Option<String>,
        /// What the vendor calls it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// OAuth 2.0.
    #[serde(rename = "oauth2")]
    OAuth2(OAuth2Spec),
    /// A signature over each request with a shared key. Credential field: `secret`, and `key_id` where the spec names a header for it.
    Hmac(HmacSpec),
    /// Nothing is sent.
    None,
}

/// Where an API key goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ApiKeyPlace {
    /// In a header.
    #[default]
    Header,
}

/// An OAuth 2.0 client. Credential fields: `client_id`, `client_secret`, and for user flows `refresh_token`, `access_token`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuth2Spec {
    /// The grant.
    pub flow: OAuth2Flow,
    /// Where tokens come from. May hold `{setting}` placeholders filled from the connection's settings; relative to the base URL if it starts with `/`.
    pub token_url: String,
    /// Where a person signs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorize_url: Option<String>,
    /// The scopes to ask for when nothing narrower is known. May hold `{setting}` placeholders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// How the client proves itself at the token endpoint.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// Further form parameters of the token request, for example `audience`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// The environment variable of the client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id_env: Option<String>,
    /// The environment variable of the client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_env: Option<String>,
    /// What the vendor calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// An OAuth 2.0 grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OAuth2Flow {
    /// The program itself is the user (RFC 6749 §4.4).
    ClientCredentials,
    /// A person consents in a browser (RFC 6749 §4.1, with PKCE).
    AuthorizationCode,
    /// A signed assertion stands for the user (RFC 7523).
    JwtBearer,
}

/// How a client proves itself at the token endpoint (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClientAuth {
    /// `client_id` and `client_secret` in the form body.
    #[default]
    Post,
    /// HTTP Basic with form-encoded id and secret.
    Basic,
}

/// How header values are put together for HMAC request signing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HmacSpec {
    /// The header that carries the signature.
    pub header: String,
    /// What is signed: a text with `{method}`, `{path}` (with query), `{timestamp}` (Unix seconds), `{nonce}` and `{body}`, for example `{timestamp}.{body}`.
    pub message: String,
    /// How the signature is written.
    #[serde(default)]
    pub encoding: BasicEncoding,
    /// A text before the signature, for example `v1=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The header that carries the timestamp, required if the message uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_header: Option<String>,
    /// The header that carries the nonce, required if the message uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce_header: Option<String>,
    /// The header that carries the key id (credential field `key_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id_header: Option<String>,
    /// The environment variable of the shared key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
    /// A second way to authenticate that the signature is added to, for example OAuth 2.0 (`oauth2_hmac`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<Arc<AuthSpec>>,
}

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BasicEncoding {
    /// Lower-case hexadecimal.
    #[default]
    Hex,
    /// Standard base64 with padding.
    Base64,
}

impl AuthSpec {
    /// The manifest's name of the scheme.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bearer { .. } => "bearer",
            Self::ApiKey { .. } => "api_key",
            Self::Basic { .. } => "basic",
            Self::OAuth2(_) => "oauth2",
            Self::Hmac(_) => "hmac",
            Self::None => "none",
        }
    }

    /// What to call it in documentation.
    pub fn label(&self) -> String {
        let label = match self {
            Self::Bearer { label, .. } | Self::ApiKey { label, .. } | Self::Basic { label, .. } => label.clone(),
            Self::OAuth2(oauth2) => oauth2.label.clone(),
            Self::Hmac(_) | Self::None => None,
        };
        label.unwrap_or_else(|| match self {
            Self::Bearer { .. } => "bearer token".into(),
            Self::ApiKey { header, .. } => format!("API key in `{header}`"),
            Self::Basic { .. } => "HTTP Basic".into(),
            Self::OAuth2(oauth2) => match oauth2.flow {
                OAuth2Flow::ClientCredentials => "OAuth 2.0 client credentials".into(),
                OAuth2Flow::AuthorizationCode => "OAuth 2.0 authorization code".into(),
                OAuth2Flow::JwtBearer => "OAuth 2.0 JWT bearer".into(),
            },
            Self::Hmac(hmac) => format!("HMAC-SHA256 signature in `{}`", hmac.header),
            Self::None => "none".into(),
        })
    }

    /// The credential fields it needs, with the environment variable a single-connection program reads each from.
    pub fn fields(&self) -> Vec<(&'static str, Option<&str>)> {
        match self {
            Self::Bearer { token_env, .. } => vec![("token", token_env.as_deref())],
            Self::ApiKey { key_env, .. } => vec![("key", key_env.as_deref())],
            Self::Basic { username_env, password_env, .. } => {
                vec![("username", username_env.as_deref()), ("password", password_env.as_deref())]
            }
            Self::OAuth2(oauth2) => {
                let mut fields = vec![("client_id", oauth2.client_id_env.as_deref()), ("client_secret", oauth2.client_secret_env.as_deref())];
                if oauth2.flow == OAuth2Flow::AuthorizationCode {
                    fields.push(("refresh_token", None));
                }
                fields
            }
            Self::Hmac(hmac) => {
                let mut fields = vec![("secret", hmac.secret_env.as_deref())];
                if hmac.key_id_header.is_some() {
                    fields.push(("key_id", None));
                }
                if let Some(also) = &hmac.also {
                    fields.extend(also.fields());
                }
                fields
            }
            Self::None => Vec::new(),
        }
    }
}

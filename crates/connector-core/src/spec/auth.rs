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
    OAuth2(Box<OAuth2Spec>),
    /// A signature over each request with a shared key. Credential field: `secret`, and `key_id` where the spec names a header for it.
    Hmac(HmacSpec),
    /// Several at once, for vendors that want more than one proof (an API key of the program and a token of the user). Their fields and their
    /// headers must differ. None of them may be OAuth 2.0.
    All {
        /// The ways that are used together.
        of: Vec<AuthSpec>,
        /// What the vendor calls it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
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

/// An OAuth 2.0 client. Credential fields: `client_id`, and by [`ClientAuth`] `client_secret` or `private_key`; flows with a person may bring a
/// first `refresh_token`; JWT bearer takes `private_key` and `subject`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuth2Spec {
    /// The grant.
    pub flow: OAuth2Flow,
    /// Where tokens come from. May hold `{setting}` placeholders filled from the connection's settings; relative to the base URL if it starts with `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
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
    /// The authorization server's issuer: endpoints that are not named are read from its metadata (RFC 8414), and the `iss` of a redirect
    /// must be this (RFC 9207).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Where a device asks for its codes (RFC 8628).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_url: Option<String>,
    /// Where tokens are revoked (RFC 7009).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_url: Option<String>,
    /// Scopes that are asked for whatever the chosen tools need (`offline_access`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_scopes: Vec<String>,
    /// What a scope that operations name is called in this flow, where that differs (Microsoft's `Mail.ReadBasic.All` is the application
    /// permission, `Mail.ReadBasic` the delegated one).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scope_names: BTreeMap<String, String>,
    /// What stands between two scopes.
    #[serde(default)]
    pub scope_separator: ScopeSeparator,
    /// Further query parameters of the authorization request (`access_type: offline`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorize_params: BTreeMap<String, String>,
    /// How the token request's body is written.
    #[serde(default)]
    pub body: TokenBody,
    /// The member of the token answer that holds the tokens, if they are not at its top (Slack's `authed_user`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_at: Option<String>,
    /// Members of the token answer that calls need later (`instance_url`); never secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// The kept member that tells where this token's API is (`instance_url`). Connections whose base URL is at the token endpoint's host are sent
    /// there; the others must name that host themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_from: Option<String>,
    /// The only domains `base_from` may name, subdomains included; one that begins with `!` is refused although a later one includes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_hosts: Vec<String>,
    /// Each renewal gives a new refresh token and the old one is burnt: using it again ends the whole connection.
    #[serde(default)]
    pub rotates: bool,
    /// Seconds within which the vendor forgives a renewal with the previous refresh token. 0: it does not.
    #[serde(default)]
    pub rotation_grace: u64,
    /// Seconds an access token lives if the answer does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_lifetime: Option<u64>,
    /// The scopes are repeated when a token is renewed (Microsoft wants that).
    #[serde(default)]
    pub scope_on_refresh: bool,
    /// The server does not take PKCE parameters; everywhere else S256 is always sent.
    #[serde(default)]
    pub without_pkce: bool,
    /// The signed assertion, for `jwt_bearer` and `client_auth: private_key_jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assertion: Option<AssertionSpec>,
}

impl OAuth2Spec {
    /// What a scope that operations name is called in this flow.
    pub fn scope_name<'a>(&'a self, scope: &'a str) -> &'a str {
        self.scope_names.get(scope).map_or(scope, String::as_str)
    }
}

/// A signed assertion (RFC 7523). Texts may hold `{setting}` placeholders, and `{client_id}` and `{subject}` from the credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssertionSpec {
    /// The signature.
    #[serde(default)]
    pub algorithm: JwtAlgorithm,
    /// `iss`; the client id if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// `sub`; the credential's `subject` for `jwt_bearer` and the client id for client authentication, if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `aud`; the token URL if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Seconds it is good for; 300 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u64>,
    /// The scopes go into the assertion as the claim `scope` (Google), not into the form.
    #[serde(default)]
    pub scope_claim: bool,
    /// The header carries the thumbprint of the credential's `certificate` as `x5t#S256` (Microsoft).
    #[serde(default)]
    pub thumbprint: bool,
}

/// How an assertion is signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// RSA PKCS #1 with SHA-256.
    #[default]
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

/// What stands between two scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScopeSeparator {
    /// A space, as in RFC 6749.
    #[default]
    Space,
    /// A comma (Slack, Linear).
    Comma,
}

impl ScopeSeparator {
    /// The character itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Space => " ",
            Self::Comma => ",",
        }
    }
}

/// How a token request's body is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenBody {
    /// A form, as in RFC 6749.
    #[default]
    Form,
    /// JSON (Notion, Zendesk).
    Json,
}

/// An OAuth 2.0 grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OAuth2Flow {
    /// The program itself is the user (RFC 6749 §4.4).
    #[default]
    ClientCredentials,
    /// A person consents in a browser (RFC 6749 §4.1, with PKCE).
    AuthorizationCode,
    /// A person consents on another device (RFC 8628).
    DeviceCode,
    /// A signed assertion stands for the user (RFC 7523).
    JwtBearer,
}

impl OAuth2Flow {
    /// The manifest's name of the flow.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::AuthorizationCode => "authorization_code",
            Self::DeviceCode => "device_code",
            Self::JwtBearer => "jwt_bearer",
        }
    }

    /// Whether a person consents, so that tokens are kept and renewed.
    pub fn has_consent(self) -> bool {
        matches!(self, Self::AuthorizationCode | Self::DeviceCode)
    }
}

/// How a client proves itself at the token endpoint (RFC 6749 §2.3.1, RFC 7523 §2.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClientAuth {
    /// `client_id` and `client_secret` in the form body.
    #[default]
    Post,
    /// HTTP Basic with form-encoded id and secret.
    Basic,
    /// Only `client_id`: a public client, which PKCE protects.
    None,
    /// An assertion signed with the credential's `private_key`.
    PrivateKeyJwt,
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
            Self::All { .. } => "all",
            Self::None => "none",
        }
    }

    /// What to call it in documentation.
    pub fn label(&self) -> String {
        let label = match self {
            Self::Bearer { label, .. } | Self::ApiKey { label, .. } | Self::Basic { label, .. } | Self::All { label, .. } => label.clone(),
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
                OAuth2Flow::DeviceCode => "OAuth 2.0 device code".into(),
                OAuth2Flow::JwtBearer => "OAuth 2.0 JWT bearer".into(),
            },
            Self::Hmac(hmac) => format!("HMAC-SHA256 signature in `{}`", hmac.header),
            Self::All { of, .. } => of.iter().map(Self::label).collect::<Vec<_>>().join(" and "),
            Self::None => "none".into(),
        })
    }

    /// The credential fields it takes besides those it needs: a first refresh token, whom an assertion speaks for.
    pub fn optional_fields(&self) -> &'static [&'static str] {
        match self {
            Self::OAuth2(oauth2) if oauth2.flow.has_consent() => &["refresh_token", "access_token"],
            Self::OAuth2(oauth2) if oauth2.flow == OAuth2Flow::JwtBearer => &["subject", "key_id", "certificate"],
            Self::OAuth2(oauth2) if oauth2.client_auth == ClientAuth::PrivateKeyJwt => &["key_id", "certificate"],
            Self::Hmac(HmacSpec { also: Some(also), .. }) => also.optional_fields(),
            _ => &[],
        }
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
                let mut fields = vec![("client_id", oauth2.client_id_env.as_deref())];
                if oauth2.flow == OAuth2Flow::JwtBearer || oauth2.client_auth == ClientAuth::PrivateKeyJwt {
                    fields.push(("private_key", None));
                } else if oauth2.client_auth != ClientAuth::None {
                    fields.push(("client_secret", oauth2.client_secret_env.as_deref()));
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
            Self::All { of, .. } => of.iter().flat_map(Self::fields).collect(),
            Self::None => Vec::new(),
        }
    }
}

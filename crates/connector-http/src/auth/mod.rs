//! How requests are authenticated: the schemes of the manifest, chosen by what the connection's credential holds.
//!
//! Owns choosing and applying. Refuses secrets in URLs, in errors and in `Debug`; they go from the store into sensitive header values.

mod api_key;
pub(crate) mod basic;
mod bearer;
mod env;
mod hmac;
mod overlap;
pub(crate) mod value;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    auth::{AuthProvider, CredentialUse},
    clock::{Clock, Rng, SystemClock, ThreadRng},
    context::CallCx,
    credential::{Credential, CredentialQuery, CredentialStore},
    error::{Error, Result},
    spec::{AuthSpec, OAuth2Flow},
    token::{CredentialWatch, MemoryTokens, TokenStore},
    transport::{Head, Transport},
};
use http::{HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use url::Url;

use self::{api_key::ApiKey, bearer::Bearer, hmac::Hmac};
use crate::oauth2::{ClientCredentials, Consents};

pub use env::EnvCredentials;
pub(crate) use overlap::Overlap;

/// The connection setting that names the scheme to use (`bearer`, `api_key`, `basic`, `oauth2`, `hmac`, `none`) where several fit.
pub const AUTH_SETTING: &str = "auth";

/// What authentication needs from outside.
#[derive(Debug, Clone)]
pub struct AuthDeps {
    /// Sends token requests. The same guarded transport as for calls.
    pub transport: Arc<dyn Transport>,
    /// Time, for token lifetimes and signatures.
    pub clock: Arc<dyn Clock>,
    /// Chance, to spread refreshes of many connections. Never used for secrets.
    pub rng: Arc<dyn Rng>,
    /// Where the tokens of flows with a person live.
    pub tokens: Arc<dyn TokenStore>,
    /// Who hears that a person has to connect again.
    pub watch: Option<Arc<dyn CredentialWatch>>,
}

impl AuthDeps {
    /// This transport, the real clock, real chance, and tokens in memory.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, clock: SystemClock::shared(), rng: Arc::new(ThreadRng), tokens: Arc::new(MemoryTokens::default()), watch: None }
    }
}

/// Authenticates the requests of one connector, whatever its connections use.
pub struct Auth {
    schemes: Vec<Scheme>,
    credentials: Arc<dyn CredentialStore>,
    overlap: Arc<Overlap>,
}

/// One way to authenticate, ready to be applied, or why it cannot be.
struct Scheme {
    spec: AuthSpec,
    method: Result<Method>,
}

enum Method {
    Bearer(Bearer),
    ApiKey(ApiKey),
    Basic,
    OAuth2(ClientCredentials),
    Consent(Consents),
    Hmac(Box<Hmac>, Option<Box<Scheme>>),
    All(Vec<Scheme>),
    None,
}

/// What a scheme puts on a request.
type Headers = Vec<(HeaderName, HeaderValue)>;

impl Auth {
    /// A provider for a connector's schemes.
    ///
    /// The connection's setting `auth` names the scheme; without it, the first one whose fields the credential all has is used.
    /// Mistakes in a scheme (a header name that is none) surface when that scheme is used.
    pub fn for_spec(specs: &[AuthSpec], credentials: Arc<dyn CredentialStore>, deps: AuthDeps) -> Arc<dyn AuthProvider> {
        let overlap = Overlap::new(deps.clock.clone());
        Arc::new(Self { schemes: specs.iter().map(|spec| Scheme::new(spec, &deps, &overlap)).collect(), credentials, overlap })
    }

    /// The scheme and credential of a connection; `None`: nothing to send.
    async fn choose(&self, cx: &CallCx) -> Result<Option<(&Scheme, Arc<Credential>)>> {
        let connection = &cx.connection;
        let said = connection.setting(AUTH_SETTING);
        // A connection always names a credential, also where the connector has none to ask for.
        if self.schemes.iter().all(|scheme| scheme.spec == AuthSpec::None) || said == Some("none") {
            return Ok(None);
        }
        let Some(name) = &connection.credential else {
            if said.is_none() && self.schemes.iter().any(|scheme| scheme.spec == AuthSpec::None) {
                return Ok(None);
            }
            return Err(Error::config(format!(
                "connection `{}` names no credential; {} needs {}",
                connection.id,
                connection.connector,
                self.needs()
            )));
        };
        let credential = self.credentials.get(&CredentialQuery::of(cx, name)).await?;
        // A credential that says how it is meant is asked next: a consent's tokens and client credentials have the same fields.
        let wanted = said.or_else(|| credential.scheme.as_deref().filter(|scheme| self.schemes.iter().any(|one| one.goes_by(scheme))));
        let chosen = match wanted {
            Some(kind) => {
                let mut named = self.schemes.iter().filter(|scheme| scheme.goes_by(kind)).peekable();
                if named.peek().is_none() {
                    let kinds = self.schemes.iter().map(|scheme| scheme.spec.kind()).collect::<Vec<_>>().join("`, `");
                    let kind = connector_core::redact::printable(kind, 40);
                    return Err(Error::config(format!(
                        "connection `{}` asks for `{AUTH_SETTING}: {kind}`; {} offers `{kinds}`",
                        connection.id, connection.connector
                    )));
                }
                named.find(|scheme| scheme.fits(&credential))
            }
            // One that cannot be used, or that waits for a person, is taken only if no other fits, for what it then has to say.
            None => {
                // What wants more than one proof goes first: its fields are those of others too.
                let several = |scheme: &&Scheme| matches!(scheme.spec, AuthSpec::All { .. });
                let first = || self.schemes.iter().filter(several).chain(self.schemes.iter().filter(move |scheme| !several(scheme)));
                let fitting = || first().filter(|scheme| scheme.fits(&credential));
                let usable = || fitting().filter(|scheme| scheme.method.is_ok());
                usable().find(|scheme| scheme.is_ready(&credential)).or_else(|| usable().next()).or_else(|| fitting().next())
            }
        };
        match chosen {
            Some(scheme) => Ok(Some((scheme, credential))),
            None => {
                let has = credential.field_names().collect::<Vec<_>>().join("`, `");
                Err(Error::config(format!("credential `{name}` has `{has}`; {} needs {}", connection.connector, self.needs())))
            }
        }
    }

    /// Whether a fixed secret that was refused has another version worth trying: one that was stored meanwhile, or, as long as a rotation
    /// overlaps, the one before it. That one is then sent first for a while.
    fn has_other(&self, cx: &CallCx, scheme: &Scheme, credential: &Arc<Credential>, used: &CredentialUse) -> bool {
        let tried = [Some(credential), credential.previous.as_ref()].into_iter().flatten().find(|version| version.version == used.generation);
        let Some(tried) = tried else { return credential.version > used.generation };
        let other = self.overlap.other(credential, tried).filter(|other| scheme.fits(other) && scheme.differs(tried, other));
        if let Some(other) = &other {
            self.overlap.prefer(cx, credential, other);
        }
        other.is_some()
    }

    /// "`token` (private app token), or `client_id` and `client_secret` (OAuth 2.0 client credentials)".
    fn needs(&self) -> String {
        let each = self.schemes.iter().filter(|scheme| scheme.spec != AuthSpec::None).map(|scheme| {
            let fields = scheme.spec.fields().iter().map(|(field, _)| format!("`{field}`")).collect::<Vec<_>>().join(" and ");
            format!("{fields} ({})", scheme.spec.label())
        });
        each.collect::<Vec<_>>().join(", or ")
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Auth").field(&self.schemes.iter().map(|scheme| scheme.spec.kind()).collect::<Vec<_>>()).finish()
    }
}

#[async_trait]
impl AuthProvider for Auth {
    async fn authorize(&self, cx: &CallCx, head: &mut Head, body: &Bytes) -> Result<CredentialUse> {
        let Some((scheme, credential)) = self.choose(cx).await? else { return Ok(CredentialUse::FIXED) };
        // Of a fixed secret with two versions, the one that was taken last goes first; token requests choose for themselves.
        let credential = match &credential.previous {
            Some(previous) if scheme.is_fixed() && scheme.fits(previous) => self.overlap.choose(cx, &credential),
            _ => credential,
        };
        let (mut headers, mut home) = (Headers::new(), None);
        let used = scheme.prepare(cx, &credential, head, body, &mut headers, &mut home).await?;
        if let Some(home) = home {
            head.url = moved(&head.url, home);
        }
        for (name, value) in headers {
            head.headers.insert(name, value);
        }
        Ok(used)
    }

    async fn rejected(&self, cx: &CallCx, used: &CredentialUse) -> Result<bool> {
        match self.choose(cx).await? {
            Some((scheme, credential)) if scheme.is_fixed() => Ok(self.has_other(cx, scheme, &credential, used)),
            Some((scheme, credential)) => scheme.rejected(cx, &credential, used).await,
            None => Ok(false),
        }
    }
}

/// The same address at the API of the token.
fn moved(url: &Url, mut home: Url) -> Url {
    home.set_path(url.path());
    home.set_query(url.query());
    home
}

impl Scheme {
    fn new(spec: &AuthSpec, deps: &AuthDeps, overlap: &Arc<Overlap>) -> Self {
        let method = match spec {
            AuthSpec::Bearer { prefix, .. } => Ok(Method::Bearer(Bearer::new(prefix.as_deref()))),
            AuthSpec::ApiKey { header, place, prefix, .. } => ApiKey::new(header, *place, prefix.as_deref()).map(Method::ApiKey),
            AuthSpec::Basic { .. } => Ok(Method::Basic),
            AuthSpec::OAuth2(oauth2) if matches!(oauth2.flow, OAuth2Flow::ClientCredentials | OAuth2Flow::JwtBearer) => {
                ClientCredentials::new((**oauth2).clone(), deps.clone(), overlap.clone()).map(Method::OAuth2)
            }
            AuthSpec::OAuth2(oauth2) if oauth2.flow.has_consent() => {
                Consents::new((**oauth2).clone(), deps.clone(), overlap.clone()).map(Method::Consent)
            }
            AuthSpec::Hmac(hmac) => Hmac::new(hmac, deps.clock.clone()).map(|signer| {
                let also = hmac.also.as_ref().map(|also| Box::new(Self::new(also, deps, overlap)));
                Method::Hmac(Box::new(signer), also)
            }),
            AuthSpec::All { of, .. } => Ok(Method::All(of.iter().map(|one| Self::new(one, deps, overlap)).collect())),
            AuthSpec::None => Ok(Method::None),
            other => Err(Error::unsupported(format!("{} is not known here; store a credential for another scheme", other.label()))),
        };
        Self { spec: spec.clone(), method }
    }

    /// Whether the setting `auth` means this scheme: by kind, or by grant for OAuth 2.0.
    fn goes_by(&self, name: &str) -> bool {
        let flow = match &self.spec {
            AuthSpec::OAuth2(oauth2) => oauth2.flow.as_str(),
            _ => "",
        };
        name == self.spec.kind() || (!flow.is_empty() && name == flow)
    }

    /// Whether the credential has every field. A password may be empty: several vendors take their key as the user name alone.
    fn fits(&self, credential: &Credential) -> bool {
        let usable = |field: &str| credential.field(field).is_some_and(|value| field == "password" || !value.expose_secret().is_empty());
        self.spec.fields().iter().all(|(field, _)| usable(field))
    }

    /// Whether the credential alone will do: consents and client credentials need the same fields, so a consent is assumed where the
    /// credential holds a token, or says that it is meant for one.
    fn is_ready(&self, credential: &Credential) -> bool {
        !matches!(self.method, Ok(Method::Consent(_))) || ["refresh_token", "access_token"].iter().any(|field| credential.field(field).is_some())
    }

    /// Whether what is sent is stored as it is, so that nothing but a new version helps once it is refused.
    fn is_fixed(&self) -> bool {
        match &self.method {
            Ok(Method::Bearer(_) | Method::ApiKey(_) | Method::Basic | Method::Hmac(_, None)) => true,
            Ok(Method::Hmac(_, Some(also))) => also.is_fixed(),
            Ok(Method::All(all)) => all.iter().all(Self::is_fixed),
            _ => false,
        }
    }

    /// Whether two versions of a credential differ in what this scheme sends.
    fn differs(&self, one: &Credential, other: &Credential) -> bool {
        let value = |credential: &Credential, field: &str| credential.field(field).map(|value| value.expose_secret().to_owned());
        self.spec.fields().iter().any(|(field, _)| value(one, field) != value(other, field))
    }

    fn method(&self) -> Result<&Method> {
        self.method.as_ref().map_err(Clone::clone)
    }

    /// Works out the headers. Nothing is put on the request before all of them are there.
    async fn prepare(
        &self,
        cx: &CallCx,
        credential: &Arc<Credential>,
        head: &Head,
        body: &Bytes,
        headers: &mut Headers,
        home: &mut Option<Url>,
    ) -> Result<CredentialUse> {
        let name = cx.connection.credential.as_deref().unwrap_or_default();
        let fixed = CredentialUse { generation: credential.version };
        match self.method()? {
            Method::Bearer(bearer) => headers.push(bearer.header(credential, name)?),
            Method::ApiKey(key) => headers.push(key.header(credential, name)?),
            Method::Basic => headers.push(basic::header(credential, name)?),
            Method::OAuth2(oauth2) => {
                let (header, generation, at) = oauth2.header(cx, credential).await?;
                *home = at;
                headers.push((http::header::AUTHORIZATION, header));
                return Ok(CredentialUse { generation });
            }
            Method::Consent(consents) => {
                let (header, generation, at) = consents.header(cx, credential).await?;
                *home = at;
                headers.push((http::header::AUTHORIZATION, header));
                return Ok(CredentialUse { generation });
            }
            Method::Hmac(signer, also) => {
                signer.headers(credential, name, head, body, headers)?;
                if let Some(also) = also {
                    return Box::pin(also.prepare(cx, credential, head, body, headers, home)).await;
                }
            }
            Method::All(all) => {
                for one in all {
                    Box::pin(one.prepare(cx, credential, head, body, headers, home)).await?;
                }
            }
            Method::None => return Ok(CredentialUse::FIXED),
        }
        Ok(fixed)
    }

    async fn rejected(&self, cx: &CallCx, credential: &Arc<Credential>, used: &CredentialUse) -> Result<bool> {
        match self.method()? {
            Method::OAuth2(oauth2) => oauth2.rejected(cx, credential, used.generation).await,
            Method::Consent(consents) => consents.rejected(cx, credential, used.generation).await,
            Method::Hmac(_, Some(also)) => Box::pin(also.rejected(cx, credential, used)).await,
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests;

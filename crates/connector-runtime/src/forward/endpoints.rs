//! The endpoints of the configuration, ready to be sent to.

use std::{collections::BTreeMap, sync::Arc};

use connector_core::{CallCx, Connection, Error, Result, TenantId, redact::printable, suggest};
use connector_http::EGRESS_ALLOW;
use connector_webhook::outbound::Endpoint;
use secrecy::SecretString;
use url::Url;

use crate::{
    canonical,
    config::{EndpointConfig, Env, Substitution},
};

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) name: String,
    pub(crate) tenant: TenantId,
    pub(crate) endpoint: Endpoint,
    /// What tells its address from another one without saying it.
    pub(crate) address: String,
    /// For the transport: whose egress rules hold.
    pub(crate) cx: CallCx,
}

/// All endpoints, by name.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(BTreeMap<String, Receiver>);

impl Endpoints {
    /// The endpoints of the configuration.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] naming what is missing or cannot be used.
    pub(crate) fn configured(config: &BTreeMap<String, EndpointConfig>, env: &Env) -> Result<Self> {
        config.iter().map(|(name, config)| Ok((name.clone(), receiver(name, config, env)?))).collect::<Result<_>>().map(Self)
    }

    /// Those of a tenant.
    pub(crate) fn of(&self, tenant: &TenantId) -> impl Iterator<Item = &str> {
        self.0.values().filter(move |receiver| receiver.tenant == *tenant).map(|receiver| receiver.name.as_str())
    }

    /// One of them.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if there is none of this name.
    pub(crate) fn get(&self, name: &str) -> Result<&Receiver> {
        self.0.get(name).ok_or_else(|| {
            let near = suggest::nearest(name, self.0.keys().map(String::as_str));
            near.map_or_else(|| Self::missing(name), |near| Error::config(format!("{}; did you mean `{near}`?", Self::missing(name).message())))
        })
    }

    pub(crate) fn missing(name: &str) -> Error {
        Error::config(format!("there is no endpoint `{}`; name it under `endpoints` of hub.yaml", printable(name, 63)))
    }
}

fn receiver(name: &str, config: &EndpointConfig, env: &Env) -> Result<Receiver> {
    let mut substitution = Substitution::new(env.clone());
    let key = |rest: &str| format!("endpoints.{name}.{rest}");
    let url = substitution.fill(&key("url"), &config.url);
    let secrets = config.secrets.iter().enumerate();
    let secrets = secrets.map(|(at, secret)| SecretString::from(substitution.fill(&key(&format!("secrets[{at}]")), secret))).collect();
    substitution.finish()?;
    let placed = |error: Error| Error::config(format!("`endpoints.{name}`: {}", error.message()));
    let endpoint = Endpoint::new(&url, secrets).map_err(placed)?;
    let tenant = config.tenant.as_deref().map_or_else(TenantId::default, TenantId::from);
    let connection = Connection::named(format!("endpoint-{name}").into(), tenant.clone(), "webhook", &origin(&endpoint.url)).map_err(placed)?;
    let connection = match config.egress_allow.as_slice() {
        [] => connection,
        allowed => connection.with_setting(EGRESS_ALLOW, allowed.join(",")),
    };
    Ok(Receiver {
        name: name.to_owned(),
        tenant,
        address: canonical::sha256_hex(endpoint.url.as_str().as_bytes()),
        endpoint,
        cx: CallCx::new(Arc::new(connection)).with_operation("forward"),
    })
}

/// The URL without path and query, which may be secret.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(url: &str, secret: Option<&'static str>) -> Result<Endpoints> {
        let config =
            EndpointConfig { url: url.into(), secrets: vec!["${S}".into()], tenant: Some("acme".into()), egress_allow: vec!["loopback".into()] };
        let env: Env = Arc::new(move |name| (name == "S").then_some(secret?.to_owned()));
        Endpoints::configured(&[("erp".to_owned(), config)].into(), &env)
    }

    #[test]
    fn an_endpoint_belongs_to_its_tenant_and_shows_no_path_and_no_secret() {
        let all = endpoints("https://erp.example/in/s3cret?key=s3cret", Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        assert_eq!((all.of(&"acme".into()).collect::<Vec<_>>(), all.of(&TenantId::default()).count()), (vec!["erp"], 0));
        let receiver = all.get("erp").unwrap();
        assert_eq!(receiver.cx.connection.setting(EGRESS_ALLOW), Some("loopback"));
        let shown = format!("{all:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("MfKQ"), "{shown}");
        assert!(all.get("epr").unwrap_err().message().ends_with("did you mean `erp`?"));
    }

    #[test]
    fn what_is_missing_or_unsound_is_named() {
        for (url, secret, says) in [
            ("https://erp.example", None, "`S` is not set; `endpoints.erp.secrets[0]` needs it"),
            ("https://erp.example", Some("whsec_c2hvcnQ="), "`endpoints.erp`: a Standard Webhooks secret"),
            ("ftp://erp.example", Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "`endpoints.erp`: the address"),
        ] {
            let error = endpoints(url, secret).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
    }
}

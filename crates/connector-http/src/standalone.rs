//! Transport and authentication of a program that uses one connector alone, without a runtime to give it any.

use std::sync::Arc;

use connector_core::{
    Connection, Result,
    auth::AuthProvider,
    credential::{Credential, CredentialStore, MemoryCredentials},
    spec::AuthSpec,
    transport::Transport,
};

use crate::{Auth, AuthDeps, EnvCredentials, HttpTransport};

/// The shared HTTP transport and a provider for the connector's schemes.
///
/// With a `credential`, that is what the connection authenticates with; without, the environment variables that the schemes name (read
/// once, now; a missing one shows at the first call, named). With a `transport`, that one is used, also for token requests.
///
/// Tokens of a consent live in memory here, as long as the program. Where refresh tokens rotate that is too short: the one in the environment
/// is used up by the first run. Such a program makes an [`Auth`] over a token store of its own (see [`AuthDeps`]).
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if TLS cannot be set up.
pub fn standalone(
    connection: &Connection,
    specs: &[AuthSpec],
    credential: Option<Credential>,
    transport: Option<Arc<dyn Transport>>,
) -> Result<(Arc<dyn Transport>, Arc<dyn AuthProvider>)> {
    let transport = match transport {
        Some(transport) => transport,
        None => HttpTransport::shared()?,
    };
    let store: Arc<dyn CredentialStore> = match credential {
        Some(credential) => {
            let store = MemoryCredentials::new();
            store.set(connection.tenant.clone(), connection.credential.as_deref().unwrap_or(&connection.connector), credential);
            Arc::new(store)
        }
        None => Arc::new(EnvCredentials::for_specs(&connection.connector, specs)),
    };
    let auth = Auth::for_spec(specs, store, AuthDeps::new(transport.clone()));
    Ok((transport, auth))
}

#[cfg(test)]
mod tests {
    use connector_core::{CallCx, transport::Head};

    use super::*;

    fn specs() -> Vec<AuthSpec> {
        serde_json::from_value(serde_json::json!([{ "type": "bearer", "token_env": "STANDALONE_TEST_UNSET", "label": "token" }])).unwrap()
    }

    async fn authorized(connection: Connection, credential: Option<Credential>) -> Result<Head> {
        let (_, auth) = standalone(&connection, &specs(), credential, None)?;
        let mut head = Head { method: http::Method::GET, url: "https://api.example.com/".parse().unwrap(), headers: http::HeaderMap::new() };
        auth.authorize(&CallCx::new(Arc::new(connection)), &mut head, &bytes::Bytes::new()).await?;
        Ok(head)
    }

    #[tokio::test]
    async fn the_credential_is_found_whatever_tenant_and_name_the_connection_has() {
        let connection = Connection::named("c".into(), "acme".into(), "crm", "https://api.example.com").unwrap().with_credential("other");
        let head = authorized(connection, Some(Credential::new([("token", "t0")]))).await.unwrap();
        assert_eq!(head.headers["authorization"], "Bearer t0");
    }

    #[tokio::test]
    async fn without_a_credential_the_environment_is_asked() {
        let connection = Connection::new("crm", "https://api.example.com").unwrap().with_credential("crm");
        let error = authorized(connection, None).await.unwrap_err();
        assert!(error.message().contains("`STANDALONE_TEST_UNSET`"), "{error}");
    }
}

//! The secrets that prove a webhook: those of the configuration, those of the connection's subscriptions, and those kept with its credential.
//!
//! Owns looking in all places. Refuses to take "cannot be opened now" for "there is none".

use std::sync::Arc;

use connector_core::{CallCx, ErrorKind, Result, credential::CredentialQuery, credential::CredentialStore as _};
use connector_webhook::ingress::ConnectionKeys;

use crate::{connection::Linked, runtime::Runtime};

/// The field of a credential that proves what the vendor sends.
pub(crate) const FIELD: &str = "webhook_secret";

/// The field of a credential with the private key for content that the vendor encrypts (Graph's rich notifications), in PEM. Two are valid
/// while a certificate is exchanged.
const PRIVATE_KEY: &str = "webhook_private_key";

/// The errand a secret is asked for on.
const ERRAND: &str = "webhook.verify";

/// Every secret that is valid now, by connection; connections without any are left out. During the overlap after a rotation there are two.
pub(crate) async fn of(runtime: &Runtime, granted: &[Arc<Linked>]) -> Result<Vec<ConnectionKeys>> {
    let mut keys = Vec::new();
    let mut trouble = None;
    for linked in granted {
        let mut secrets = linked.webhook_secrets.clone();
        match runtime.subscription_secrets(&linked.connection).await {
            Ok(of_subscriptions) => secrets.extend(of_subscriptions),
            Err(error) => trouble = Some(error),
        }
        if let Some(name) = &linked.connection.credential {
            let cx = CallCx::new(linked.connection.clone());
            match runtime.0.credentials.get(&CredentialQuery::of(&cx, name).for_errand(ERRAND)).await {
                Ok(credential) => {
                    secrets.extend(credential.both(FIELD));
                    secrets.extend(credential.both(PRIVATE_KEY));
                }
                // There is none, or it was taken back: then it proves nothing.
                Err(error) if matches!(error.kind(), ErrorKind::Config | ErrorKind::AuthExpired) => {}
                Err(error) => trouble = Some(error),
            }
        }
        if !secrets.is_empty() {
            keys.push(ConnectionKeys { connection: linked.connection.id.as_str().into(), secrets });
        }
    }
    match trouble {
        // Another connection's secret may still prove it; if not, the vendor must come back.
        Some(error) if keys.is_empty() => Err(error),
        _ => Ok(keys),
    }
}

//! The secrets that prove a webhook: those of the configuration, and those kept with the connection's credential.
//!
//! Owns looking in both places. Refuses to take "cannot be opened now" for "there is none".

use std::sync::Arc;

use connector_core::{CallCx, ErrorKind, Result, credential::CredentialQuery, credential::CredentialStore as _};
use secrecy::SecretString;

use crate::{connection::Linked, runtime::Runtime};

/// The field of a credential that proves what the vendor sends.
pub(crate) const FIELD: &str = "webhook_secret";

/// The errand a secret is asked for on.
const ERRAND: &str = "webhook.verify";

/// Every secret that is valid now, over all these connections. During the overlap after a rotation that is two of each.
pub(crate) async fn of(runtime: &Runtime, granted: &[Arc<Linked>]) -> Result<Vec<SecretString>> {
    let mut secrets = Vec::new();
    let mut trouble = None;
    for linked in granted {
        secrets.extend(linked.webhook_secrets.iter().cloned());
        let Some(name) = &linked.connection.credential else { continue };
        let cx = CallCx::new(linked.connection.clone());
        match runtime.0.credentials.get(&CredentialQuery::of(&cx, name).for_errand(ERRAND)).await {
            Ok(credential) => secrets.extend(credential.both(FIELD)),
            // There is none, or it was taken back: then it proves nothing.
            Err(error) if matches!(error.kind(), ErrorKind::Config | ErrorKind::AuthExpired) => {}
            Err(error) => trouble = Some(error),
        }
    }
    match trouble {
        // Another connection's secret may still prove it; if not, the vendor must come back.
        Some(error) if secrets.is_empty() => Err(error),
        _ => Ok(secrets),
    }
}

//! From a manifest and a few settings to a connection: defaults, environment, and a base URL with its placeholders filled.

use std::collections::BTreeMap;

use connector_core::{Connection, ConnectionId, Error, Result, TenantId};

use crate::{Manifest, template::Template};

/// What a person says about a connection; everything else follows from the manifest.
#[derive(Debug, Clone, Default)]
pub struct ConnectionOptions {
    /// Its id; the connector's id if not said.
    pub id: Option<String>,
    /// Its tenant.
    pub tenant: TenantId,
    /// Where the API is, if not where the manifest says.
    pub base_url: Option<String>,
    /// Settings; see the manifest's `settings`.
    pub settings: BTreeMap<String, String>,
    /// The name of its credential; the connection's id if not said.
    pub credential: Option<String>,
}

/// Makes the connection. `lookup` gives environment variables: `<ID>_BASE_URL`, and the ones the manifest's settings name.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] that names the missing setting or variable and who needs it.
pub fn connection(
    manifest: &Manifest,
    connector_id: &str,
    options: ConnectionOptions,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Connection> {
    let mut settings = options.settings;
    for setting in &manifest.settings {
        if settings.contains_key(&setting.name) {
            continue;
        }
        let from_env = setting.env.as_deref().and_then(lookup);
        match from_env.or_else(|| setting.default.clone()) {
            Some(value) => {
                settings.insert(setting.name.clone(), value);
            }
            None if setting.required => {
                let or_env = setting.env.as_ref().map(|env| format!(" or the environment variable `{env}`")).unwrap_or_default();
                return Err(Error::config(format!("a connection of `{connector_id}` needs the setting `{}`{or_env}: {}", setting.name, setting.doc)));
            }
            None => {}
        }
    }
    let variable = format!("{}_BASE_URL", connector_id.to_uppercase().replace('-', "_"));
    let base = options.base_url.or_else(|| lookup(&variable)).or_else(|| manifest.base_url.clone()).ok_or_else(|| {
        Error::config(format!(
            "a connection of `{connector_id}` needs a base URL: set `base_url` on the connection or the environment variable `{variable}`"
        ))
    })?;
    let template = Template::parse(&base);
    let filled = template.fill(|name| settings.get(name).map(Into::into)).ok_or_else(|| {
        let missing: Vec<_> = template.placeholders().filter(|name| !settings.contains_key(*name)).collect();
        Error::config(format!("the base URL of `{connector_id}` needs the setting `{}`", missing.join("`, `")))
    })?;
    let id = ConnectionId::from(options.id.as_deref().unwrap_or(connector_id));
    let credential = options.credential.unwrap_or_else(|| id.to_string());
    let mut connection = Connection::named(id, options.tenant, connector_id, &filled)?.with_credential(&credential);
    connection.settings = settings;
    Ok(connection)
}

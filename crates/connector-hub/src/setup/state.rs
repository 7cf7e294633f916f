//! Where state is kept: one SQLite file, or one PostgreSQL database for a whole fleet.
//!
//! Owns the reading of `state:` and `CONNECTORS_STATE_URL`. Refuses a password in plain text in `hub.yaml`, and shows none anywhere.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use connector_core::{Error, fleet::PubSub, state::Store};
use connector_runtime::HubConfig;
use connector_state::{PostgresOptions, PostgresState, SqliteState};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;

/// The variable that says where state is kept, whatever `hub.yaml` says.
pub(crate) const STATE_URL: &str = "CONNECTORS_STATE_URL";
/// The file in the data directory if nothing is said.
const DEFAULT_FILE: &str = "connectors.db";

/// An opened store and what comes with it.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    /// Moves when another hub may have added work.
    pub(crate) wakes: Option<watch::Receiver<u64>>,
    /// How hubs on this store tell each other something.
    pub(crate) pubsub: Option<Arc<dyn PubSub>>,
    /// Which store it is, in words and without secrets.
    pub(crate) shown: String,
}

/// Where state is to be kept.
#[derive(Debug)]
pub(crate) enum Place {
    /// In this file.
    File(PathBuf),
    /// In this database.
    Database {
        /// With user and password.
        url: SecretString,
        /// Schema and number of connections, if the URL says.
        schema: Option<String>,
        connections: Option<usize>,
        /// Host and database.
        shown: String,
    },
}

impl Place {
    /// What the environment says, else `hub.yaml`, else a file in the data directory.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] for what cannot be read, a variable that is missing, and a password in plain text.
    pub(crate) fn find(
        configured: Option<&str>,
        folder: Option<&Path>,
        data_dir: &Path,
        env: impl Fn(&str) -> Option<String> + Send + Sync + Clone + 'static,
    ) -> Result<Self> {
        if let Some(url) = env(STATE_URL).filter(|url| !url.is_empty()) {
            return Ok(Self::read(STATE_URL, &SecretString::from(url), None)?);
        }
        let Some(text) = configured else { return Ok(Self::File(data_dir.join(DEFAULT_FILE))) };
        let filled = fill(text, env)?;
        Ok(Self::read("state", &filled, folder)?)
    }

    /// Reads `sqlite://PATH` or `postgres://…`. A relative path is meant from `folder`.
    fn read(key: &str, url: &SecretString, folder: Option<&Path>) -> connector_core::Result<Self> {
        let text = url.expose_secret();
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains('?') {
                return Err(Error::config(format!("`{key}` needs a file and nothing else: sqlite://hub.db or sqlite:///var/lib/connectors/hub.db")));
            }
            let path = Path::new(path);
            return Ok(Self::File(folder.map_or_else(|| path.to_path_buf(), |folder| folder.join(path))));
        }
        let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) else {
            return Err(Error::config(format!(
                "`{key}` must be sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full; it begins otherwise"
            )));
        };
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut schema, mut connections, mut others) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("schema", value)) => schema = Some(value.to_owned()),
                Some(("connections", value)) => {
                    let count = value.parse().map_err(|_| Error::config(format!("`connections` in `{key}` must be a number")))?;
                    connections = Some(count);
                }
                _ => others.push(pair),
            }
        }
        let question = if others.is_empty() { "" } else { "?" };
        let url = SecretString::from(format!("postgres://{base}{question}{}", others.join("&")));
        // What stands before the last `@` is user and password.
        let shown = base.rsplit_once('@').map_or(base, |(_, place)| place);
        Ok(Self::Database { url, schema, connections, shown: connector_core::redact::printable(shown, 200) })
    }

    /// Opens it.
    ///
    /// # Errors
    /// What the store reports: a newer schema, a server that does not answer, a refused password; never with a secret in it.
    pub(crate) async fn open(self) -> Result<Opened> {
        match self {
            Self::File(path) => {
                if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                    super::create_private(folder)?;
                }
                let shown = format!("SQLite in {}", path.display());
                Ok(Opened { store: Arc::new(SqliteState::open(path)?), wakes: None, pubsub: None, shown })
            }
            Self::Database { url, schema, connections, shown } => {
                let options = PostgresOptions::default();
                let options = connections.into_iter().fold(options, PostgresOptions::connections);
                let options = schema.iter().fold(options, PostgresOptions::schema);
                let state = PostgresState::connect_with(&url, options).await?;
                let schema = schema.as_deref().unwrap_or("connectors");
                let shown = format!("PostgreSQL at {shown}, schema {schema}");
                let (wakes, pubsub) = (Some(state.wakes()), state.pubsub());
                Ok(Opened { store: Arc::new(state), wakes, pubsub: Some(pubsub), shown })
            }
        }
    }
}

/// The text of `state:` with its variables filled. A variable in the password's place may hold any characters.
fn fill(text: &str, env: impl Fn(&str) -> Option<String> + Send + Sync + Clone + 'static) -> Result<SecretString> {
    let Some((before, password, after)) = split(text) else {
        return Ok(SecretString::from(HubConfig::fill("state", text, env)?));
    };
    if !(password.starts_with("${") && password.ends_with('}')) || password[2..].contains("${") {
        return Err(Error::config(format!(
            "`state`: the password stands here in plain text, where backups and colleagues read it; write postgres://USER:${{PGPASSWORD}}@… and set \
             the variable, or set {STATE_URL}"
        ))
        .into());
    }
    let password = SecretString::from(HubConfig::fill("state", password, env.clone())?);
    let (before, after) = (HubConfig::fill("state", before, env.clone())?, HubConfig::fill("state", after, env)?);
    Ok(SecretString::from(format!("{before}{}{after}", utf8_percent_encode(password.expose_secret(), NON_ALPHANUMERIC))))
}

/// A URL before, in and after its password, if it has one.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let begin = text.find("://")? + 3;
    let end = text[begin..].find(['/', '?']).map_or(text.len(), |end| begin + end);
    // A password with a slash in it would end the authority early: then the last `@` is behind it.
    let at = text[begin..end].rfind('@').or_else(|| text[begin..].rfind('@')).map(|at| begin + at)?;
    let colon = text[begin..at].find(':').map(|colon| begin + colon + 1)?;
    (colon < at).then(|| (&text[..colon], &text[colon..at], &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PGPASSWORD" => Some("hunter2@/:?#".into()),
            "URL" => Some("postgres://u:hunter2@db/x".into()),
            "HOST" => Some("db.internal:5433".into()),
            _ => None,
        }
    }

    fn find(text: &str) -> Result<Place> {
        Place::find(Some(text), Some(Path::new("/etc/hub")), Path::new("/data"), env)
    }

    fn database(text: &str) -> (String, String) {
        match find(text).unwrap() {
            Place::Database { url, shown, .. } => (url.expose_secret().to_owned(), shown),
            Place::File(path) => panic!("{}", path.display()),
        }
    }

    #[test]
    fn files_lie_where_the_configuration_does() {
        for (text, path) in
            [("sqlite://hub.db", "/etc/hub/hub.db"), ("sqlite:///var/hub.db", "/var/hub.db"), ("sqlite:x/hub.db", "/etc/hub/x/hub.db")]
        {
            assert!(matches!(find(text).unwrap(), Place::File(found) if found == Path::new(path)), "{text}");
        }
        let default = Place::find(None, None, Path::new("/data"), env).unwrap();
        assert!(matches!(default, Place::File(found) if found == Path::new("/data/connectors.db")));
    }

    #[test]
    fn the_environment_has_the_last_word() {
        let env = |name: &str| (name == STATE_URL).then(|| "sqlite:///elsewhere.db".to_owned());
        let found = Place::find(Some("sqlite://hub.db"), None, Path::new("/data"), env).unwrap();
        assert!(matches!(found, Place::File(found) if found == Path::new("/elsewhere.db")));
    }

    #[test]
    fn databases_are_shown_without_user_and_password() {
        let (url, shown) = database("postgres://hub:${PGPASSWORD}@${HOST}/prod?sslmode=disable&schema=hub_a&connections=7");
        assert_eq!(url, "postgres://hub:hunter2%40%2F%3A%3F%23@db.internal:5433/prod?sslmode=disable");
        assert_eq!(shown, "db.internal:5433/prod");
        assert_eq!(database("${URL}").1, "db/x");
        assert_eq!(database("postgresql://hub@a,b:5433/prod"), ("postgres://hub@a,b:5433/prod".to_owned(), "a,b:5433/prod".to_owned()));
    }

    #[test]
    fn a_password_in_plain_text_is_refused_and_never_shown() {
        for text in [
            "postgres://u:hunter2@db/x",
            "postgres://u:hunter2/x@db/x",
            "postgres://u:${PGPASSWORD}hunter2@db/x",
            "postgres://u:${HOST}${PGPASSWORD}@db/x",
            "mysql://u:${PGPASSWORD}@db/x",
            "postgres://u:${NOBODY}@db/x",
            "sqlite://",
            "sqlite://x?hunter2",
        ] {
            let error = format!("{:#}", find(text).unwrap_err());
            assert!(!error.contains("hunter2"), "{error}");
        }
        let shown = format!("{:?}", find("postgres://u:${PGPASSWORD}@db/x").unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

//! Where the real servers are that some checks are held against: scripts beside the workspace, what they installed in the user's cache.
//! Only looks; nothing is installed here.

use std::{env, path::PathBuf};

use anyhow::{Result, bail};

use crate::workspace::root;

/// The folder `shared` beside the workspace, or where `CONNECTORS_SHARED` says.
///
/// # Errors
/// If it is not there.
pub(crate) fn shared() -> Result<PathBuf> {
    let dir = match env::var_os("CONNECTORS_SHARED") {
        Some(dir) => PathBuf::from(dir),
        None => root().join("../shared"),
    };
    if !dir.join("counterparts").is_dir() {
        bail!(
            "this check needs real servers, which are described in `../shared/counterparts` beside the workspace (or set CONNECTORS_SHARED); it is not there"
        );
    }
    Ok(dir)
}

/// Where the servers were installed.
///
/// # Errors
/// If they were not.
pub(crate) fn cache() -> Result<PathBuf> {
    let dir = match (env::var_os("CP"), env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cp), _, _) => PathBuf::from(cp),
        (None, Some(cache), _) => PathBuf::from(cache).join("connectors-counterparts"),
        (None, None, Some(home)) => PathBuf::from(home).join(".cache/connectors-counterparts"),
        (None, None, None) => bail!("neither CP, XDG_CACHE_HOME nor HOME is set"),
    };
    if !dir.join("node/node_modules/oidc-provider").is_dir() {
        bail!("the counterparts are not installed; run `bash ../shared/counterparts/setup.sh` once");
    }
    Ok(dir)
}

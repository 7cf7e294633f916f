//! HubSpot's own Python client (`hubspot-api-client`) against the fake of HubSpot: if it is content, the fake answers as the client library
//! expects of HubSpot. Its models check what comes back, so a field of the wrong kind fails here.
//!
//! The library is installed once into a folder of its own in the user's cache, with pip; where Python or pip are missing, or nothing can be
//! installed, the test says so (and fails in CI).
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in tests a panic is the failure, a skip is said")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use connector_sandbox::{EffectKind, Sandbox, known};

const VERSION: &str = "12.0.0";

fn run(program: impl AsRef<Path>, args: &[&str]) -> Result<Output, String> {
    let program = program.as_ref();
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        Ok(output)
    } else {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).trim().to_owned();
        Err(format!("{}\n{}", text(&output.stdout), text(&output.stderr)))
    }
}

/// The Python that has the library.
fn python() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = cache.join("connectors-hubspot-sdk").join(VERSION);
    let python = folder.join("bin/python");
    let check = format!("import hubspot, importlib.metadata as m; assert m.version('hubspot-api-client') == '{VERSION}'");
    let has_it = || run(&python, &["-c", &check]).is_ok();
    if !has_it() {
        run("python3", &["-m", "venv", &folder.to_string_lossy()])?;
        run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &format!("hubspot-api-client=={VERSION}")])?;
    }
    if has_it() { Ok(python) } else { Err("hubspot-api-client was installed and cannot be imported".to_owned()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn hubspots_own_client_is_content_with_the_fake() {
    let python = match tokio::task::spawn_blocking(python).await.unwrap() {
        Ok(python) => python,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "hubspot-api-client is needed in CI: {why}");
            eprintln!("skipped: hubspot-api-client {VERSION} is not here and could not be installed: {why}");
            return;
        }
    };
    let sandbox = Sandbox::builder().vendor("hubspot").start("127.0.0.1:0").await.unwrap();
    let limited = Sandbox::builder().vendor("hubspot").enforce_limits(true).start("127.0.0.1:0").await.unwrap();
    let script = format!("{}/tests/python/against_the_fake.py", env!("CARGO_MANIFEST_DIR"));
    let (base, slow) = (sandbox.base_url("hubspot"), limited.base_url("hubspot"));
    let output = tokio::task::spawn_blocking(move || run(&python, &[&script, &base, known::HUBSPOT_TOKEN, &slow])).await.unwrap();
    let said = String::from_utf8(output.unwrap_or_else(|why| panic!("{why}")).stdout).unwrap();
    assert_eq!(said.lines().count(), 11, "{said}");
    let contacts =
        sandbox.ledger().of_kind(EffectKind::RecordCreated).iter().filter(|made| made.key.as_deref() == Some("sdk@python.example")).count();
    assert_eq!(contacts, 1, "what the client was told was made was made once");
}

//! `simple-salesforce`, the usual Python client, against the fake of Salesforce: if it is content, the fake answers as that library expects of
//! Salesforce.
//!
//! The library is installed once into a folder of its own in the user's cache, with pip; where Python or pip are missing, or nothing can be
//! installed, the test says so (and fails in CI).
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in tests a panic is the failure, a skip is said")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use connector_sandbox::{Sandbox, known};

const VERSION: &str = "1.12.10";

fn run(program: impl AsRef<Path>, args: &[&str]) -> Result<Output, String> {
    let program = program.as_ref();
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() { Ok(output) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// The Python that has the library.
fn python() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = cache.join("connectors-simple-salesforce").join(VERSION);
    let python = folder.join("bin/python");
    let has_it =
        || run(&python, &["-c", &format!("from importlib.metadata import version as v; assert v('simple-salesforce') == '{VERSION}'")]).is_ok();
    if !has_it() {
        run("python3", &["-m", "venv", &folder.to_string_lossy()])?;
        run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &format!("simple-salesforce=={VERSION}")])?;
    }
    if has_it() { Ok(python) } else { Err("simple-salesforce was installed and cannot be imported".to_owned()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_usual_python_client_is_content_with_the_fake() {
    let python = match tokio::task::spawn_blocking(python).await.unwrap() {
        Ok(python) => python,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "simple-salesforce is needed in CI: {why}");
            eprintln!("skipped: simple-salesforce {VERSION} is not here and could not be installed: {why}");
            return;
        }
    };
    let sandbox = Sandbox::builder().vendor("salesforce").start("127.0.0.1:0").await.unwrap();
    let script = format!("{}/tests/python/against_the_fake.py", env!("CARGO_MANIFEST_DIR"));
    let mount = sandbox.mount("salesforce");
    let output = tokio::task::spawn_blocking(move || run(&python, &[&script, &mount, known::SALESFORCE_TOKEN])).await.unwrap();
    let said = String::from_utf8(output.unwrap_or_else(|why| panic!("{why}")).stdout).unwrap();
    assert_eq!(said.lines().count(), 7, "{said}");
}

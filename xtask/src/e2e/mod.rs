//! `cargo xtask e2e STORY`: the real hub, a real authorization server and a real browser, driven as a person would.

mod browser;

use std::{
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};

use self::browser::Browser;
use crate::{
    chaos::{
        block_on,
        provider::{free_port, listening},
    },
    counterparts,
    hub::program_of,
};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask e2e", about = "Drive the real hub from outside, as a person would")]
struct Cli {
    #[command(subcommand)]
    story: Story,
}

#[derive(Debug, Subcommand)]
enum Story {
    /// `connector-hub connect` with a browser: sign in, consent, look at the result, call a tool over the new connection
    Connect {
        /// Where the picture of the result page goes
        #[arg(long, value_name = "FILE")]
        screenshot: Option<PathBuf>,
        /// The hub's program, if it is built already
        #[arg(long, value_name = "FILE")]
        hub: Option<PathBuf>,
    },
}

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who signs in.
const PERSON: &str = "alice@example.test";
/// The app that is registered with the authorization server; it opens only that one.
const CLIENT: (&str, &str) = ("hub", "hub-secret-of-the-test");

/// Runs a story with the arguments after `e2e`.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let cli = match Cli::try_parse_from(std::iter::once("e2e".to_owned()).chain(args.iter().cloned())) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let Story::Connect { screenshot, hub } = cli.story;
    let Some((chromium, driver)) = browser::installed() else {
        let what = "`e2e connect` needs chromium and chromedriver (Debian: chromium, chromium-driver); they are not installed";
        if std::env::var_os("CI").is_some() {
            bail!("{what}");
        }
        eprintln!("skipped: {what}");
        return Ok(ExitCode::SUCCESS);
    };
    block_on(connect(chromium, driver, screenshot, hub))
}

async fn connect(chromium: PathBuf, driver: PathBuf, screenshot: Option<PathBuf>, hub: Option<PathBuf>) -> Result<ExitCode> {
    let program = program_of(hub.as_deref())?;
    let dir = tempfile::tempdir()?;
    let port = free_port()?;
    let script = dir.path().join("provider.mjs");
    std::fs::write(&script, provider(&format!("http://127.0.0.1:{port}/callback"))?)?;
    let mut node = Command::new("node");
    node.arg(&script);
    let (issuer, _provider) = listening(node).await?;
    write_hub(dir.path(), &issuer)?;

    let port = port.to_string();
    let mut command = hub_command(&program, dir.path());
    command.args(["connect", "crm", "--no-browser", "--port", &port, "--field", "client_id", "--field", "client_secret", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("starting the hub")?;
    let (id, secret) = CLIENT;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(format!("client_id={id}\nclient_secret={secret}\n").as_bytes()).await?;
    drop(stdin);
    let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
    let mut said = String::new();
    let address = tokio::time::timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await? {
            if let Some(address) = line.split_whitespace().find(|word| word.starts_with(&issuer)) {
                return anyhow::Ok(Some(address.to_owned()));
            }
            said.push_str(&line);
            said.push('\n');
        }
        Ok(None)
    });
    let Some(address) = address.await.context("the hub names no address")?? else { bail!("the hub names no address:\n{said}") };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });

    let browser = Browser::start(&chromium, &driver, dir.path()).await?;
    browser.open(&address).await?;
    browser.fill("input[name=login]", PERSON).await.context("the sign-in page")?;
    browser.fill("input[name=password]", "x").await?;
    browser.press("button[type=submit]").await?;
    let consent = browser.text().await?;
    browser.press("button[type=submit]").await.with_context(|| format!("the consent page said: {consent}"))?;
    let (text, place) = (browser.text().await?, browser.url().await?);
    let picture = browser.picture().await?;
    browser.end().await?;
    if let Some(file) = &screenshot {
        std::fs::write(file, &picture).with_context(|| format!("writing {}", file.display()))?;
    }

    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.context("`connect` does not end")??;
    for wanted in ["crm is connected", "Connection", "api.read", "You can close this window."] {
        if !text.contains(wanted) {
            bail!("the result page at {place} does not say `{wanted}`; it says:\n{text}");
        }
    }
    if !picture.starts_with(b"\x89PNG") {
        bail!("the picture is no PNG");
    }
    if !output.status.success() {
        bail!("`connect` ended with {}", output.status);
    }
    let report: Value = serde_json::from_slice(&output.stdout).context("`connect --json` printed no JSON")?;

    // It was all about this: a call over the new connection.
    let who = json_of(hub_command(&program, dir.path()).args(["call", "crm_whoami"])).await?;
    if who.get("sub").and_then(Value::as_str) != Some(PERSON) {
        bail!("the call over the new connection answered {who}");
    }
    let shown = json_of(hub_command(&program, dir.path()).args(["credentials", "list", "--json"])).await?;
    let text = shown.to_string();
    if text.contains(secret) || !text.contains("\"active\"") {
        bail!("`credentials list` does not show an active credential without its secret");
    }
    println!(
        "{}",
        json!({
            "story": "connect", "ok": true, "granted": report.get("granted"), "who": who.get("sub"),
            "screenshot": screenshot.map(|file| file.display().to_string()), "screenshot_bytes": picture.len(),
        })
    );
    Ok(ExitCode::SUCCESS)
}

/// An authorization server that knows the hub's own address.
fn provider(redirect: &str) -> Result<String> {
    let library = std::path::absolute(counterparts::cache()?.join("node/node_modules/oidc-provider/lib/index.js"))?;
    let library = url::Url::from_file_path(&library).map_err(|()| anyhow::anyhow!("no address for {}", library.display()))?;
    let (id, secret) = CLIENT;
    Ok(PROVIDER.replace("@LIBRARY@", library.as_str()).replace("@REDIRECT@", redirect).replace("@ID@", id).replace("@SECRET@", secret))
}

const PROVIDER: &str = include_str!("provider.mjs");

/// A hub with one custom connector whose accounts people connect.
fn write_hub(dir: &Path, issuer: &str) -> Result<()> {
    let manifest = json!({
        "connector": "webhook", "id": "crm", "name": "Our CRM", "base_url": issuer,
        "auth": [{
            "type": "oauth2", "flow": "authorization_code", "issuer": issuer, "authorize_url": format!("{issuer}/auth"),
            "token_url": format!("{issuer}/token"), "revoke_url": format!("{issuer}/token/revocation"), "client_auth": "basic",
            "base_scopes": ["openid", "offline_access"], "scopes": ["api.read"], "authorize_params": { "prompt": "consent" }, "rotates": true,
        }],
        "probe": { "tool": "crm_whoami" },
        "tools": [{ "name": "crm_whoami", "doc": "Who is signed in.", "method": "GET", "path": "/me", "scopes": ["api.read"] }],
    });
    std::fs::write(dir.join("crm.yaml"), manifest.to_string())?;
    let config = json!({ "manifests": ["crm.yaml"], "egress": { "allow_loopback": true } });
    std::fs::write(dir.join("hub.yaml"), config.to_string())?;
    Ok(())
}

/// The hub, with nothing of this machine's own environment.
fn hub_command(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).current_dir(dir).kill_on_drop(true);
    command
}

async fn json_of(command: &mut Command) -> Result<Value> {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.context("the hub does not end")??;
    if !output.status.success() {
        bail!("the hub ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("the hub printed no JSON")
}

//! A real browser without a window: Chromium, driven through chromedriver's WebDriver API.
//!
//! Refuses anything clever: open an address, fill in a field, press a button, read the text, take a picture.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use http::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::chaos::{client::Client, provider::free_port};

/// How long the driver may take to start.
const START: Duration = Duration::from_secs(30);
/// The member by which the protocol names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The programs it takes; `None` if one is not installed.
pub(super) fn installed() -> Option<(PathBuf, PathBuf)> {
    let find = |names: &[&str]| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).flat_map(|dir| names.iter().map(move |name| dir.join(name))).find(|file| file.is_file())
    };
    Some((find(&["chromium", "chromium-browser", "google-chrome"])?, find(&["chromedriver"])?))
}

/// A running browser; ended when dropped.
#[derive(Debug)]
pub(super) struct Browser {
    client: Client,
    /// The session's address, without a slash at the end.
    session: String,
    driver: Child,
}

impl Browser {
    /// Starts one with a profile of its own in `dir`.
    pub(super) async fn start(chromium: &Path, driver: &Path, dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(driver);
        command.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let driver = command.spawn().context("starting chromedriver")?;
        let client = Client::new()?;
        let base = format!("http://127.0.0.1:{port}");
        let until = tokio::time::Instant::now() + START;
        while client.json(Method::GET, &format!("{base}/status"), None).await.is_err() {
            if tokio::time::Instant::now() > until {
                bail!("chromedriver does not answer");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let profile = format!("--user-data-dir={}", dir.join("profile").display());
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--window-size=1000,700",
            &profile,
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": { "binary": chromium.display().to_string(), "args": args },
        } } });
        let (status, answer) = client.json(Method::POST, &format!("{base}/session"), Some(&wanted)).await?;
        let id = answer.pointer("/value/sessionId").and_then(Value::as_str).with_context(|| format!("no browser: {status} {answer}"))?;
        Ok(Self { session: format!("{base}/session/{id}"), client, driver })
    }

    async fn command(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, mut answer) = self.client.json(method, &format!("{}{path}", self.session), body).await?;
        if !status.is_success() {
            bail!("the browser refused {path}: {}", answer.pointer("/value/message").and_then(Value::as_str).unwrap_or("no reason"));
        }
        Ok(answer.get_mut("value").map(Value::take).unwrap_or_default())
    }

    /// Opens an address and waits until the page is there.
    pub(super) async fn open(&self, url: &str) -> Result<()> {
        self.command(Method::POST, "/url", Some(&json!({ "url": url }))).await.map(|_| ())
    }

    /// Where it is.
    pub(super) async fn url(&self) -> Result<String> {
        Ok(self.command(Method::GET, "/url", None).await?.as_str().unwrap_or_default().to_owned())
    }

    async fn element(&self, css: &str) -> Result<String> {
        let found = self.command(Method::POST, "/element", Some(&json!({ "using": "css selector", "value": css }))).await?;
        Ok(found.get(ELEMENT).and_then(Value::as_str).with_context(|| format!("no element `{css}`"))?.to_owned())
    }

    /// Types into a field.
    pub(super) async fn fill(&self, css: &str, text: &str) -> Result<()> {
        let id = self.element(css).await?;
        self.command(Method::POST, &format!("/element/{id}/value"), Some(&json!({ "text": text }))).await.map(|_| ())
    }

    /// Presses a button, and waits for the page it leads to.
    pub(super) async fn press(&self, css: &str) -> Result<()> {
        let id = self.element(css).await?;
        self.command(Method::POST, &format!("/element/{id}/click"), Some(&json!({}))).await.map(|_| ())
    }

    /// What a person reads.
    pub(super) async fn text(&self) -> Result<String> {
        let id = self.element("body").await?;
        Ok(self.command(Method::GET, &format!("/element/{id}/text"), None).await?.as_str().unwrap_or_default().to_owned())
    }

    /// The page as a picture (PNG).
    pub(super) async fn picture(&self) -> Result<Vec<u8>> {
        let shot = self.command(Method::GET, "/screenshot", None).await?;
        Ok(base64::engine::general_purpose::STANDARD.decode(shot.as_str().unwrap_or_default())?)
    }

    /// Ends browser and driver.
    pub(super) async fn end(mut self) -> Result<()> {
        self.command(Method::DELETE, "", None).await?;
        self.driver.kill().await.context("ending chromedriver")
    }
}

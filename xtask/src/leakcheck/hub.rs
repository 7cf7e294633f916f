//! The hub as a process of its own, everything logged at TRACE: its HTTP replies, its pages, its command line, its files.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

use super::{
    Secrets,
    hostile::{Hostile, Mode},
    sinks::Sinks,
};
use crate::{chaos::client::Client, hub::program_of};

/// How long the hub may take to start and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// The moods the hub's vendor is in.
const MODES: [Mode; 5] = [Mode::Good, Mode::Invalid, Mode::Unauthorized, Mode::Page, Mode::Silent];
/// The ways to authenticate that need no person.
const SCHEMES: [&str; 6] = ["bearer", "api_key", "basic", "client_credentials", "jwt_bearer", "hmac"];

/// What came of it.
pub(crate) struct Shown {
    /// The key the hub shows once, at its first start.
    pub(crate) key: String,
    pub(crate) requests: u64,
    pub(crate) commands: u64,
}

pub(crate) async fn run(dir: &Path, program: Option<&Path>, secrets: &Secrets, hostile: &Arc<Hostile>, sinks: &Sinks) -> Result<Shown> {
    let dir = dir.join("hub");
    std::fs::create_dir(&dir)?;
    let mut desk = Desk { program: program_of(program)?, dir, secrets, hostile, sinks, commands: 0, requests: 0 };
    desk.write()?;
    desk.keep().await?;
    desk.misuse().await?;
    let mut hub = desk.serve().await?;
    desk.http(&hub).await.context("over HTTP")?;
    hub.stop(sinks).await?;
    desk.look().await?;
    sinks.database(&desk.dir.join("data/connectors.db"))?;
    Ok(Shown { key: hub.key, requests: desk.requests, commands: desk.commands })
}

struct Desk<'a> {
    program: PathBuf,
    dir: PathBuf,
    secrets: &'a Secrets,
    hostile: &'a Arc<Hostile>,
    sinks: &'a Sinks,
    commands: u64,
    requests: u64,
}

/// A hub that serves.
struct Serving {
    child: Child,
    base: String,
    key: String,
    client: Client,
    readers: Vec<JoinHandle<Vec<u8>>>,
}

impl Desk<'_> {
    /// Configuration and manifest.
    fn write(&self) -> Result<()> {
        std::fs::write(self.dir.join("canary.yaml"), super::catalogue::CANARY)?;
        let mut connections = serde_json::Map::new();
        let mut add = |id: &str, connector: &str, mode: Mode, credential: Value| {
            let base = self.hostile.base(mode, id);
            let settings = json!({ "token_url": format!("{base}/token") });
            let mut entry = json!({ "connector": connector, "base_url": base, "credential": credential, "settings": settings });
            if id == "canary-bearer-good" {
                entry["webhook"] = json!({ "secrets": ["${LEAK_WEBHOOK}"] });
            }
            connections.insert(id.to_owned(), entry);
        };
        for scheme in SCHEMES {
            for mode in MODES {
                add(&format!("canary-{scheme}-{}", mode.name()), "canary", mode, json!(format!("cred-{scheme}")));
            }
        }
        for mode in [Mode::Good, Mode::TokenRefused, Mode::TokenGarbage, Mode::Unauthorized] {
            let id = format!("person-{}", mode.name());
            add(&id, "canary", mode, json!(id));
        }
        add("from-env", "hubspot", Mode::Invalid, json!({ "token": "${LEAK_BEARER}" }));
        let config = json!({
            "manifests": ["canary.yaml"],
            "egress": { "allow_loopback": true },
            "vault": { "keys": [{ "id": "main", "from": "env:CONNECTORS_MASTER_KEY" }] },
            "connections": connections,
            "resilience": {
                "retry": { "max_attempts": 1, "timeout_attempts": 1 },
                "breaker": { "threshold": 10000, "min_calls": 10000, "failure_percent": 100 },
                "timeout": { "read_ms": 250, "write_ms": 250, "long_ms": 250, "operation_ms": 3000 },
            },
        });
        std::fs::write(self.dir.join("hub.yaml"), config.to_string())?;
        std::fs::write(self.dir.join("key.pem"), &self.secrets.private_key)?;
        Ok(())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("RUST_LOG", "trace").env("USER", "ada").env("CONNECTORS_MASTER_KEY", &self.secrets.master_key);
        command.env("LEAK_BEARER", &self.secrets.bearer).env("LEAK_WEBHOOK", &self.secrets.webhook);
        command.current_dir(&self.dir).args(["--data-dir", "data"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// One command to its end, with this on standard input. Gives whether it succeeded.
    async fn cli(&mut self, args: &[&str], input: &str) -> Result<bool> {
        self.commands += 1;
        let mut child = self.command(args).spawn().with_context(|| format!("starting {}", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that refuses its arguments does not wait for more.
            if let Err(error) = stdin.write_all(input.as_bytes()).await {
                tracing::debug!(%error, "nobody reads");
            }
        }
        let output =
            tokio::time::timeout(PATIENCE, child.wait_with_output()).await.with_context(|| format!("`{}` does not end", args.join(" ")))??;
        self.sinks.add("CLI stdout", &output.stdout);
        self.sinks.add("CLI stderr", &output.stderr);
        Ok(output.status.success())
    }

    /// Puts a credential of each kind into the vault, as a person does.
    async fn keep(&mut self) -> Result<()> {
        let secrets = self.secrets;
        let client = json!({ "client_id": "client-1", "client_secret": secrets.client_secret });
        let mut all: Vec<(String, &str, Value)> = vec![
            ("cred-bearer".into(), "bearer", json!({ "token": secrets.bearer })),
            ("cred-api_key".into(), "api_key", json!({ "key": secrets.api_key })),
            ("cred-basic".into(), "basic", json!({ "username": "svc", "password": secrets.password })),
            ("cred-client_credentials".into(), "client_credentials", client.clone()),
            ("cred-hmac".into(), "hmac", json!({ "secret": secrets.hmac })),
        ];
        for mode in [Mode::Good, Mode::TokenRefused, Mode::TokenGarbage, Mode::Unauthorized] {
            all.push((format!("person-{}", mode.name()), "authorization_code", client.clone()));
        }
        for (name, scheme, fields) in all {
            let args = ["credentials", "set", name.as_str(), "--connector", "canary", "--scheme", scheme, "--stdin-json"];
            if !self.cli(&args, &fields.to_string()).await? {
                bail!("`credentials set {name}` failed: {}", self.last("CLI stderr"));
            }
        }
        let args = [
            "credentials",
            "set",
            "cred-jwt_bearer",
            "--connector",
            "canary",
            "--scheme",
            "jwt_bearer",
            "--field",
            "client_id",
            "--field",
            "subject",
        ];
        let args = [&args[..], &["--from-file", "private_key=key.pem"]].concat();
        if !self.cli(&args, "client_id=client-1\nsubject=svc@example.com\n").await? {
            bail!("`credentials set` of a private key failed: {}", self.last("CLI stderr"));
        }
        Ok(())
    }

    /// The last of a place, for messages; nothing was searched yet, so nothing secret may be repeated: only what looks like an error.
    fn last(&self, place: &str) -> String {
        let all = self.sinks.all();
        let text = all.get(place).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        text.lines().rev().find(|line| line.starts_with("error")).unwrap_or("no error was printed").to_owned()
    }

    /// What people do wrong: each is refused, and the refusal must not repeat the secret.
    async fn misuse(&mut self) -> Result<()> {
        let secrets = self.secrets;
        let field = format!("--field=token={}", secrets.bearer);
        let argument = format!("token={}", secrets.bearer);
        let option = format!("--token={}", secrets.password);
        let wrong: Vec<Vec<&str>> = vec![
            vec!["credentials", "set", "x", &field],
            vec!["credentials", "set", "x", &argument],
            vec!["credentials", "set", "x", &secrets.api_key],
            vec!["credentials", "set", "x", &option],
            vec!["connect", "canary", &secrets.password],
        ];
        for args in wrong {
            if self.cli(&args, "").await? {
                bail!("`{} {} …` was not refused", args[0], args[1]);
            }
        }
        for input in [format!("{{\"token\": \"{}\"", secrets.bearer), format!("{{\"token\": [\"{}\"]}}", secrets.bearer), secrets.bearer.clone()] {
            if self.cli(&["credentials", "set", "x", "--connector", "canary", "--scheme", "bearer", "--stdin-json"], &input).await? {
                bail!("a broken object of fields was not refused");
            }
        }
        // A secret in plain text in the configuration; a master key that is none.
        let plain = format!("connections:\n  crm:\n    connector: hubspot\n    credential: {{ token: {} }}\n", secrets.bearer);
        std::fs::write(self.dir.join("plain.yaml"), plain)?;
        let broken = format!("connections:\n  crm: [ {} : }}\n", secrets.password);
        std::fs::write(self.dir.join("broken.yaml"), broken)?;
        let key = format!("vault: {{ keys: [{{ id: main, from: \"{}\" }}] }}\n", secrets.master_key);
        std::fs::write(self.dir.join("key.yaml"), key)?;
        for file in ["plain.yaml", "broken.yaml", "key.yaml"] {
            if self.cli(&["--config", file, "health"], "").await? {
                bail!("{file} was not refused");
            }
        }
        Ok(())
    }

    async fn serve(&self) -> Result<Serving> {
        let mut child = self.command(&["serve", "--listen", "127.0.0.1:0"]).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let (mut base, mut key, mut log) = (None, None, Vec::new());
        let heard = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await? {
                // The one place where the key may stand.
                match line.trim().strip_prefix("ck_") {
                    Some(rest) if key.is_none() => key = Some(format!("ck_{rest}")),
                    _ => log.extend_from_slice(format!("{line}\n").as_bytes()),
                }
                if let Some(address) = line.split_once("the hub listens on ").map(|(_, address)| address.trim().to_owned()) {
                    base = Some(address);
                    break;
                }
            }
            anyhow::Ok(())
        });
        heard.await.context("the hub does not listen within a minute")??;
        self.sinks.add("hub stderr at TRACE", log);
        let errors = tokio::spawn(async move {
            let mut log = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                log.extend_from_slice(format!("{line}\n").as_bytes());
            }
            log
        });
        let mut stdout = child.stdout.take().context("no stdout")?;
        let output = tokio::spawn(async move {
            let mut log = Vec::new();
            match stdout.read_to_end(&mut log).await {
                Ok(_) => log,
                Err(error) => error.to_string().into_bytes(),
            }
        });
        let base = base.with_context(|| format!("the hub did not start: {}", self.last("hub stderr at TRACE")))?;
        let key = key.context("the hub showed no first key")?;
        Ok(Serving { child, base, key, client: Client::new()?, readers: vec![errors, output] })
    }

    /// One request; its whole answer is a place of its own.
    async fn ask(
        &mut self,
        hub: &Serving,
        method: Method,
        path: &str,
        body: Option<&Value>,
        more: &[(&'static str, &str)],
    ) -> Result<(StatusCode, HeaderMap, Bytes)> {
        self.requests += 1;
        let mut headers = HeaderMap::new();
        if !more.iter().any(|(name, _)| *name == "authorization") {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", hub.key))?);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in more {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let url = format!("{}{path}", hub.base);
        let answer = tokio::time::timeout(PATIENCE, hub.client.fetch(method, &url, headers, body)).await.context("the hub does not answer")??;
        let mut shown = format!("{}\n", answer.status).into_bytes();
        for (name, value) in &answer.headers {
            shown.extend_from_slice(format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())).as_bytes());
        }
        shown.extend_from_slice(&answer.body);
        self.sinks.add("HTTP replies", shown);
        Ok((answer.status, answer.headers, answer.body))
    }

    /// Everything over HTTP, in every mood of the vendor.
    async fn http(&mut self, hub: &Serving) -> Result<()> {
        let secrets = self.secrets;
        for mode in [Mode::TokenRefused, Mode::TokenGarbage, Mode::Good, Mode::Unauthorized] {
            self.sign_in(hub, &format!("person-{}", mode.name())).await?;
        }
        let mut connections: Vec<String> = SCHEMES.iter().flat_map(|scheme| MODES.map(|mode| format!("canary-{scheme}-{}", mode.name()))).collect();
        connections.extend(["person-good".to_owned(), "person-unauthorized".to_owned()]);
        let mut good = 0;
        for connection in &connections {
            self.hostile.reply(connection, 200, json!({ "id": "1" }));
            for (tool, params) in
                [("canary_get", json!({ "id": "1" })), ("canary_create", json!({ "note": "n" })), ("canary_set", json!({ "id": "1", "note": "n" }))]
            {
                let body = json!({ "connection": connection, "params": params });
                let (status, ..) = self.ask(hub, Method::POST, &format!("/api/v1/tools/{tool}/execute"), Some(&body), &[]).await?;
                good += u64::from(status == StatusCode::OK);
            }
            let dry = json!({ "connection": connection, "params": { "id": "1" }, "dry_run": true });
            self.ask(hub, Method::POST, "/api/v1/tools/canary_get/execute", Some(&dry), &[]).await?;
            self.ask(hub, Method::POST, &format!("/api/v1/connections/{connection}/validate"), None, &[]).await?;
            self.ask(hub, Method::GET, &format!("/api/v1/connections/{connection}/scopes"), None, &[]).await?;
        }
        // Six ways and one person, three tools each.
        if good < 3 * (SCHEMES.len() as u64 + 1) {
            bail!("only {good} calls over the hub were answered: the good half of this check proves nothing ({})", self.last("HTTP replies"));
        }
        let body = json!({ "connection": "from-env", "params": { "email": "ada@example.com" } });
        self.ask(hub, Method::POST, "/api/v1/tools/hubspot_get_contact_by_email/execute", Some(&body), &[]).await?;

        let set = json!({ "name": "posted", "connector": "canary", "scheme": "bearer", "fields": { "token": secrets.bearer }, "workspaces": ["*"] });
        self.ask(hub, Method::POST, "/api/v1/credentials", Some(&set), &[]).await?;
        let rotate = json!({ "fields": { "token": secrets.bearer }, "overlap": "1h" });
        self.ask(hub, Method::POST, "/api/v1/credentials/posted/rotate", Some(&rotate), &[]).await?;
        for wrong in [
            json!({ "name": "posted", "fields": [secrets.bearer] }),
            json!({ "name": "posted", "fields": { "token": { "x": secrets.bearer } } }),
            json!({ "name": "posted", "token": secrets.password }),
            json!(secrets.password),
        ] {
            self.ask(hub, Method::POST, "/api/v1/credentials", Some(&wrong), &[]).await?;
        }
        for secret in [&secrets.bearer, &secrets.webhook] {
            let bearer = format!("Bearer {secret}");
            self.ask(hub, Method::GET, "/api/v1/tools", None, &[("authorization", &bearer)]).await?;
            let delivery = json!({ "id": "e1", "type": "thing.created" });
            for header in ["x-hub-signature", "x-other"] {
                self.ask(hub, Method::POST, "/api/v1/webhooks/canary/default", Some(&delivery), &[(header, secret)]).await?;
            }
        }
        for path in [
            "/",
            "/healthz",
            "/readyz",
            "/metrics",
            "/openapi.json",
            "/api/connectors",
            "/api/connectors/health",
            "/api/connectors/canary",
            "/api/v1/tools",
            "/api/v1/connections",
            "/api/v1/credentials",
            "/api/v1/credentials/cred-basic",
            "/api/v1/approvals",
            "/api/v1/dlq",
            "/api/v1/events",
            "/api/v1/audit?limit=500",
            "/api/v1/audit/verify",
            "/api/v1/keys",
            "/api/v1/syncs",
            "/api/v1/rules",
            "/nowhere",
        ] {
            self.ask(hub, Method::GET, path, None, &[]).await?;
        }
        Ok(())
    }

    /// A sign-in over the hub's own pages, as a browser makes it.
    async fn sign_in(&mut self, hub: &Serving, connection: &str) -> Result<()> {
        let (status, _, body) = self.ask(hub, Method::POST, "/api/v1/connect/canary", Some(&json!({ "connection": connection })), &[]).await?;
        let link: Value = serde_json::from_slice(&body).unwrap_or_default();
        let link = link.get("url").and_then(Value::as_str).with_context(|| format!("no link to sign in with: {status}"))?;
        let path = link.strip_prefix(&hub.base).with_context(|| format!("the link leads elsewhere: {link}"))?.to_owned();
        let (status, headers, _) = self.ask(hub, Method::GET, &path, None, &[]).await?;
        let location =
            headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).with_context(|| format!("no way to the vendor: {status}"))?;
        let cookie =
            headers.get(header::SET_COOKIE).and_then(|value| value.to_str().ok()).and_then(|value| value.split(';').next()).unwrap_or_default();
        let url = url::Url::parse(location)?;
        let state = url.query_pairs().find(|(name, _)| name == "state").map(|(_, value)| value.into_owned()).context("no state")?;
        let code = &self.secrets.code;
        let cookie = cookie.to_owned();
        // First in another browser, then with a vendor's refusal in the wrong place, then as it should be, then once more.
        for (query, cookies) in [
            (format!("code={code}&state={state}"), "none=1"),
            (format!("code={code}&state={state}x"), cookie.as_str()),
            (format!("code={code}&state={state}"), cookie.as_str()),
            (format!("code={code}&state={state}"), cookie.as_str()),
        ] {
            self.ask(hub, Method::GET, &format!("/oauth/callback?{query}"), None, &[("cookie", cookies), ("authorization", "")]).await?;
        }
        Ok(())
    }

    /// The command line over what is there now.
    async fn look(&mut self) -> Result<()> {
        let mut seen = 0;
        for args in [
            &["connectors"][..],
            &["describe", "canary"],
            &["tools", "--connector", "canary"],
            &["credentials", "list"],
            &["credentials", "show", "cred-basic"],
            &["credentials", "show", "person-good"],
            &["credentials", "validate", "cred-basic"],
            &["vault", "verify"],
            &["audit", "tail", "--limit", "500"],
            &["audit", "verify"],
            &["audit", "who-used", "cred-bearer"],
            &["approvals", "list"],
            &["keys", "list"],
            &["dlq", "list"],
            &["events", "list"],
            &["health"],
            &["config", "explain", "retry.max_attempts"],
            &["scopes", "--tools", "canary_get"],
            &["call", "canary_get", "--arg", "id=1", "--connection", "canary-bearer-good"],
            &["call", "canary_get", "--arg", "id=1", "--connection", "canary-basic-invalid"],
            &["call", "canary_get", "--arg", "id=1", "--connection", "canary-client_credentials-unauthorized"],
            &["call", "canary_get", "--arg", "id=1", "--connection", "canary-hmac-silent"],
            &["call", "canary_create", "--arg", "note=n", "--connection", "person-unauthorized"],
            &["call", "canary_create", "--arg", "note=n", "--connection", "canary-api_key-page", "--dry-run"],
            &["vault", "rotate-key"],
            &["credentials", "revoke", "cred-hmac", "--yes"],
        ] {
            for json in [false, true] {
                let args: Vec<&str> = args.iter().copied().chain(json.then_some("--json")).collect();
                seen += u64::from(self.cli(&args, "").await?);
            }
        }
        if seen < 30 {
            bail!("only {seen} commands did what they should: {}", self.last("CLI stderr"));
        }
        Ok(())
    }
}

impl Serving {
    /// Asks it to end, and keeps what it said.
    async fn stop(&mut self, sinks: &Sinks) -> Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            bail!("the hub does not stop");
        }
        for (place, reader) in ["hub stderr at TRACE", "hub stdout"].into_iter().zip(self.readers.drain(..)) {
            sinks.add(place, reader.await?);
        }
        Ok(())
    }
}

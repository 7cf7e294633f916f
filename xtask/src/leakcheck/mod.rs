//! `cargo xtask leakcheck`: one marked secret of each kind goes through the whole catalogue, in success, failure, timeout and panic, with everything
//! logged at TRACE; then every place where anything was written, kept or shown is searched for it, plain and encoded.

mod canary;
mod catalogue;
mod hostile;
mod hub;
mod sinks;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Parser;
use serde_json::json;
use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::{
    canary::{Hit, Needles, human, token},
    hostile::{Hostile, Tokens},
    sinks::{Log, Sinks},
};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask leakcheck", about = "Put one marked secret of each kind through everything and look for it everywhere")]
struct Options {
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// The hub's program, if it is built already
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,
    /// Keep what was searched in this folder, to look at
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The marked secrets.
pub(crate) struct Secrets {
    pub(crate) bearer: String,
    pub(crate) api_key: String,
    pub(crate) password: String,
    pub(crate) client_secret: String,
    pub(crate) refresh: String,
    pub(crate) access: String,
    /// In PEM.
    pub(crate) private_key: String,
    pub(crate) hmac: String,
    pub(crate) webhook: String,
    /// In base64.
    pub(crate) master_key: String,
    pub(crate) code: String,
    pub(crate) echoed: String,
}

impl Secrets {
    fn new() -> Result<Self> {
        let random = ring::rand::SystemRandom::new();
        let key = ring::signature::EcdsaKeyPair::generate_pkcs8(&ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let key = STANDARD.encode(key.ok().context("no key could be made")?.as_ref());
        let lines: Vec<&str> = key.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        Ok(Self {
            bearer: token("pat-eu1-", 30),
            // Long for a person, short for a machine.
            api_key: token("", 18),
            password: human(14),
            // What a form, a URL and JSON each write differently.
            client_secret: format!("{}/+\"{}%", human(8), token("", 9)),
            refresh: token("rt.", 40),
            access: token("at.", 40),
            private_key: format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")),
            hmac: human(22),
            webhook: human(16),
            master_key: STANDARD.encode(std::array::from_fn::<u8, 32, _>(|_| fastrand::u8(..))),
            code: token("code-", 24),
            echoed: token("sess_", 28),
        })
    }

    fn needles(&self) -> Needles {
        let mut needles = Needles::default();
        needles.add("bearer token", &self.bearer);
        needles.add("API key", &self.api_key);
        needles.add("password", &self.password);
        needles.add("client secret", &self.client_secret);
        needles.add("refresh token", &self.refresh);
        needles.add("access token", &self.access);
        // The first 36 bytes of such a key are the same for all; the rest of both lines is what nobody else has.
        for line in self.private_key.lines().filter(|line| !line.starts_with("-----")).take(2) {
            needles.add("private key", if line.starts_with("MIG") { &line[48..] } else { &line[..26.min(line.len())] });
        }
        needles.add("HMAC secret", &self.hmac);
        needles.add("webhook secret", &self.webhook);
        needles.add("master key", self.master_key.trim_end_matches('='));
        if let Ok(bytes) = STANDARD.decode(&self.master_key) {
            needles.add("master key", &hex::encode(bytes));
        }
        needles.add("authorization code", &self.code);
        needles.add("echoed token", &self.echoed);
        needles
    }
}

/// Runs it with the arguments after `leakcheck`.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let options = match Options::try_parse_from(std::iter::once("leakcheck".to_owned()).chain(args.iter().cloned())) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    let sinks = Sinks::default();
    let on = Arc::new(AtomicBool::new(true));
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Log { sinks: sinks.clone(), on: on.clone() });
    tracing_subscriber::registry().with(LevelFilter::TRACE).with(layer).try_init().context("somebody else logs already")?;
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder().context("somebody else counts already")?;
    crate::chaos::block_on(async {
        let began = Instant::now();
        let secrets = Secrets::new()?;
        let mut needles = secrets.needles();
        let dir = tempfile::tempdir()?;
        let tokens = Tokens { access: secrets.access.clone(), refresh: secrets.refresh.clone(), echoed: secrets.echoed.clone() };
        let hostile = Arc::new(Hostile::start(tokens)?);

        // Panics on purpose say nothing here; what the hub prints about one is the hub's own test.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let done = catalogue::run(dir.path(), &secrets, &hostile, &sinks).await;
        std::panic::set_hook(hook);
        let done = done.context("the catalogue in this process")?;
        eprintln!("the catalogue took {} s", began.elapsed().as_secs());
        sinks.add("metrics", metrics.render());
        sinks.database(&dir.path().join("catalogue.db"))?;

        // From here on this process only plays people and programs outside the hub. What they log is theirs.
        on.store(false, Ordering::SeqCst);
        let shown = hub::run(dir.path(), options.hub.as_deref(), &secrets, &hostile, &sinks).await.context("the hub as a process")?;
        needles.add("API key of the hub", &shown.key);
        let verifiers = hostile.verifiers();
        for verifier in &verifiers {
            needles.add("PKCE verifier", verifier);
        }
        if verifiers.is_empty() {
            bail!("no sign-in came as far as a PKCE verifier: nothing was proved about it");
        }

        let all = sinks.all();
        if let Some(keep) = &options.keep {
            std::fs::create_dir_all(keep)?;
            for (place, bytes) in &all {
                std::fs::write(keep.join(place.replace([' ', '/'], "_")), bytes)?;
            }
        }
        let found: BTreeMap<&str, Vec<Hit>> = all.iter().map(|(place, bytes)| (place.as_str(), needles.find(bytes))).collect();
        let hits: usize = found.values().flatten().map(|hit| hit.count).sum();
        let bytes: usize = all.values().map(Vec::len).sum();
        if options.json {
            let places: BTreeMap<&str, Vec<_>> = found
                .iter()
                .map(|(place, hits)| {
                    (*place, hits.iter().map(|hit| json!({ "kind": hit.kind, "form": hit.form, "count": hit.count, "around": hit.around })).collect())
                })
                .collect();
            let figures = json!({
                "tools": done.tools, "connections": done.connections, "calls": done.calls, "answered": done.answered, "panicked": done.panicked,
                "hub_requests": shown.requests, "hub_commands": shown.commands, "kinds": needles.kinds().len(), "needles": needles.len(),
                "bytes": bytes, "hits": hits,
            });
            println!("{}", json!({ "case": "leakcheck", "ok": hits == 0, "figures": figures, "places": places }));
        } else {
            table(&needles, &found, &all);
            let failed: u64 = done.failed.values().sum();
            println!(
                "{} tools over {} connections: {} calls, {} answered, {failed} failed {:?}, {} parked, {} panicked; {} requests reached the vendor",
                done.tools,
                done.connections,
                done.calls,
                done.answered,
                done.failed,
                done.parked,
                done.panicked,
                hostile.requests()
            );
            println!("the hub as a process: {} requests, {} commands", shown.requests, shown.commands);
            println!(
                "{} texts looked for in {} MB at {} places in {} s: {hits} hits",
                needles.len(),
                bytes >> 20,
                all.len(),
                began.elapsed().as_secs()
            );
        }
        if done.answered == 0 || done.panicked == 0 || done.failed.is_empty() {
            bail!("the calls did not end in every way they should: {done:?}");
        }
        Ok(if hits == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Kinds by places, and under it each hit with what stands around it.
fn table(needles: &Needles, found: &BTreeMap<&str, Vec<Hit>>, all: &BTreeMap<String, Vec<u8>>) {
    let kinds: Vec<&str> = needles.kinds().iter().copied().collect();
    println!("{:<28} {:>9} {}", "place", "KB", kinds.iter().map(|kind| format!("{kind:>19}")).collect::<String>());
    for (place, hits) in found {
        let cells: String = kinds
            .iter()
            .map(|kind| {
                let count: usize = hits.iter().filter(|hit| hit.kind == *kind).map(|hit| hit.count).sum();
                format!("{:>19}", if count == 0 { "-".to_owned() } else { count.to_string() })
            })
            .collect();
        println!("{place:<28} {:>9} {cells}", all.get(*place).map_or(0, Vec::len) >> 10);
    }
    for (place, hits) in found {
        for hit in hits {
            println!("LEAK {place}: {} as {} ×{}: …{}…", hit.kind, hit.form, hit.count, hit.around);
        }
    }
    println!();
}

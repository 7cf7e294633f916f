//! `serve`: the hub as a service.

use std::{
    io::Write as _,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use connector_core::Error;
use connector_runtime::HubConfig;
use tokio::sync::watch;
use url::Url;

use crate::{
    http::{
        self,
        server::{Server, Settings},
    },
    setup::{Key, Setup},
};

/// Unless somebody says otherwise, only this machine can talk to the hub.
const LOOPBACK: &str = "127.0.0.1:4000";
/// How long stopping may take in all: orchestrators kill after 30 s.
const STOP: Duration = Duration::from_millis(29_000);
/// How long background work gets at least.
const LEAST: Duration = Duration::from_secs(1);

pub(super) async fn run(setup: &Setup, listen: Option<SocketAddr>) -> Result<ExitCode> {
    let config = setup.hub_config()?;
    let listen = match (listen, &config.listen) {
        (Some(listen), _) => listen,
        (None, Some(text)) => text.parse().with_context(|| format!("`listen: {text}` in hub.yaml is not an address such as 127.0.0.1:4000"))?,
        (None, None) => LOOPBACK.parse()?,
    };
    let metrics = http::install_metrics()?;
    // A hub that people connect accounts through keeps something sooner or later.
    let (runtime, store) = setup.served(Key::MakeIfMissing).await?;
    eprintln!("state: {store}");
    let tasks = runtime.start();
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    let address = listener.local_addr()?;
    let public_url = match &config.public_url {
        Some(text) => HubConfig::fill("public_url", text, |name| std::env::var(name).ok())?,
        // Whoever reaches a hub that listens on every address finds it under another one; this machine always finds it here.
        None if address.ip().is_unspecified() => format!("http://127.0.0.1:{}", address.port()),
        None => format!("http://{address}"),
    };
    let public_url: Url =
        public_url.parse().map_err(|_| Error::config("`public_url` in hub.yaml is not an address such as https://hub.example.com"))?;
    let settings = Settings::of(&config, Some(&public_url), |name| std::env::var(name).ok())?;
    let state = http::App::new(runtime.clone(), Some(metrics), Some(public_url));
    if let Some(key) = state.keys().first_key().await? {
        eprintln!("first start: this admin key is shown once, keep it safe\n  {}", crate::keys::reveal(&key));
    }
    let stops = Stops::listen();
    eprintln!("the hub listens on http://{address}");
    let server = Server::new(listener, state, settings);
    let drained = tokio::select! {
        drained = server.run(stops.asked(1)) => drained,
        // Whoever asks twice does not want to wait. Being killed at any moment is safe; exit code 1 says that something may have been cut off.
        () = stops.asked(2) => return Ok(now()),
    };
    tracing::info!(cut = drained.cut, "the server is drained");
    let left = STOP.saturating_sub(stops.since()).max(LEAST);
    tokio::select! {
        done = tasks.shutdown(left) => tracing::info!(done, "the hub stops"),
        () = stops.asked(2) => return Ok(now()),
    }
    Ok(ExitCode::SUCCESS)
}

fn now() -> ExitCode {
    // Whoever read this may be gone already, and that is no reason to fail differently.
    drop(writeln!(std::io::stderr(), "asked to stop twice: stopping at once; work in progress is taken up again by the next start"));
    ExitCode::FAILURE
}

/// How often a stop was asked for, by Ctrl-C or, where there are signals, SIGTERM.
struct Stops(watch::Receiver<(usize, Option<Instant>)>);

impl Stops {
    /// Listens from now on.
    fn listen() -> Self {
        let (tell, told) = watch::channel((0, None));
        let mut signal = Signal::new();
        tokio::spawn(async move {
            loop {
                signal.next().await;
                tell.send_modify(|(count, first)| {
                    *count += 1;
                    first.get_or_insert_with(Instant::now);
                });
            }
        });
        Self(told)
    }

    /// Waits until a stop was asked for so many times.
    async fn asked(&self, times: usize) {
        if self.0.clone().wait_for(|(count, _)| *count >= times).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How long ago it was asked for first.
    fn since(&self) -> Duration {
        self.0.borrow().1.map(|first| first.elapsed()).unwrap_or_default()
    }
}

struct Signal {
    #[cfg(unix)]
    streams: Vec<tokio::signal::unix::Signal>,
}

impl Signal {
    /// From here on a signal does not end the process by itself.
    fn new() -> Self {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let wanted = [SignalKind::interrupt(), SignalKind::terminate()];
            let told = |error: &std::io::Error| tracing::warn!(%error, "a signal to stop cannot be waited for");
            Self { streams: wanted.into_iter().filter_map(|kind| signal(kind).inspect_err(told).ok()).collect() }
        }
        #[cfg(not(unix))]
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        std::future::poll_fn(|cx| {
            let asked = self.streams.iter_mut().any(|stream| stream.poll_recv(cx).is_ready());
            if asked { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

//! `serve`: the hub as a service.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use connector_core::Error;
use connector_runtime::HubConfig;

use crate::{
    http,
    setup::{Key, Setup},
};

/// Unless somebody says otherwise, only this machine can talk to the hub.
const LOOPBACK: &str = "127.0.0.1:4000";
/// How long work in flight may take after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(20);

pub(super) async fn run(setup: &Setup, listen: Option<SocketAddr>) -> Result<ExitCode> {
    let config = setup.hub_config()?;
    let listen = match (listen, &config.listen) {
        (Some(listen), _) => listen,
        (None, Some(text)) => text.parse().with_context(|| format!("`listen: {text}` in hub.yaml is not an address such as 127.0.0.1:4000"))?,
        (None, None) => LOOPBACK.parse()?,
    };
    let metrics = http::install_metrics()?;
    // A hub that people connect accounts through keeps something sooner or later.
    let runtime = setup.with_vault(Key::MakeIfMissing).await?;
    let tasks = runtime.start();
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    let address = listener.local_addr()?;
    let public_url = match &config.public_url {
        Some(text) => HubConfig::fill("public_url", text, |name| std::env::var(name).ok())?,
        // Whoever reaches a hub that listens on every address finds it under another one; this machine always finds it here.
        None if address.ip().is_unspecified() => format!("http://127.0.0.1:{}", address.port()),
        None => format!("http://{address}"),
    };
    let public_url = public_url.parse().map_err(|_| Error::config("`public_url` in hub.yaml is not an address such as https://hub.example.com"))?;
    let state = http::App::new(runtime.clone(), Some(metrics), Some(public_url));
    if let Some(key) = state.keys().first_key().await? {
        eprintln!("first start: this admin key is shown once, keep it safe\n  {}", crate::keys::reveal(&key));
    }
    eprintln!("the hub listens on http://{address}");
    let draining = state.clone();
    axum::serve(listener, http::router(state))
        .with_graceful_shutdown(async move {
            stop_asked().await;
            draining.drain();
        })
        .await?;
    tasks.shutdown(DRAIN).await;
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C, or SIGTERM where there are signals.
async fn stop_asked() {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut term) => tokio::select! {
                () = ctrl_c => {}
                _ = term.recv() => {}
            },
            Err(_) => ctrl_c.await,
        }
    }
    #[cfg(not(unix))]
    ctrl_c.await;
}

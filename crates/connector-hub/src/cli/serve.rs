//! `serve`: the hub as a service.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};

use crate::{http, setup::Setup};

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
    let runtime = setup.runtime().await?;
    let tasks = runtime.start();
    let state = http::App::new(runtime.clone(), Some(metrics));
    if let Some(key) = state.keys().first_key().await? {
        eprintln!("first start: this admin key is shown once, keep it safe\n  {key}");
    }
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    eprintln!("the hub listens on http://{}", listener.local_addr()?);
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

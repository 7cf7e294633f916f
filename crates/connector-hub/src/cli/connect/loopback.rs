//! The one-request web server that a vendor sends the browser back to: on 127.0.0.1, on a free port, for one sign-in.
//!
//! Owns waiting. Refuses answers with another state: they are shown a page and the wait goes on.

use std::{future::IntoFuture as _, io::IsTerminal as _, net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    extract::{OriginalUri, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
    routing::get,
};
use connector_core::{Error, ErrorKind};
use connector_runtime::{ConnectAsk, ConnectBack, ConnectReport, Runtime};
use tokio::{
    net::TcpListener,
    sync::{Mutex, oneshot},
};

use super::browser;
use crate::{http::oauth, page};

/// What the callback needs, once.
struct Waiting {
    runtime: Runtime,
    session: String,
    state: String,
    redirect_uri: String,
    done: Mutex<Option<oneshot::Sender<connector_core::Result<ConnectReport>>>>,
}

/// Signs somebody in with a browser on this machine.
pub(super) async fn sign_in(runtime: &Runtime, mut ask: ConnectAsk, port: u16, open: bool, wait: Duration) -> Result<ConnectReport> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("port {port} of 127.0.0.1 cannot be listened on; choose another with --port, or leave it out"))?;
    ask.redirect_uri = format!("http://127.0.0.1:{}/callback", listener.local_addr()?.port());
    let redirect_uri = ask.redirect_uri.clone();
    let session = ask.session.clone();
    let start = runtime.begin_connect(ask).await?;
    let url = start.authorize_url.as_str();
    let opened = open && std::io::stderr().is_terminal() && browser::open(url);
    eprintln!(
        "{}\n\n  {url}\n",
        if opened { "Your browser opens; if it does not, open this yourself:" } else { "Open this in a browser on this machine:" }
    );
    if !start.scopes.is_empty() {
        eprintln!("You will be asked for: {}", start.scopes.join(", "));
    }
    eprintln!("Waiting for you there, {} minutes at most …", wait.as_secs() / 60);

    let (done, mut answered) = oneshot::channel();
    let waiting = Arc::new(Waiting { runtime: runtime.clone(), session, state: start.state.clone(), redirect_uri, done: Mutex::new(Some(done)) });
    let router =
        Router::new().route("/callback", get(callback)).fallback(|| async { (StatusCode::NOT_FOUND, quiet(), "nothing here") }).with_state(waiting);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, router).with_graceful_shutdown(async {
        // An error says that nobody waits any more, which is a reason to stop as well.
        drop(stopped.await);
    });
    let server = tokio::spawn(server.into_future());
    let report = tokio::select! {
        report = &mut answered => report.unwrap_or_else(|_| Err(Error::internal("the sign-in ended without an answer"))),
        () = tokio::time::sleep(wait) => Err(Error::new(ErrorKind::Timeout, "nobody signed in in time; run the same command again")),
        _ = tokio::signal::ctrl_c() => Err(Error::new(ErrorKind::Cancelled, "stopped before anybody signed in; nothing was stored")),
    };
    // The browser gets its page before the door closes, unless it keeps the connection open for more.
    drop(stop);
    if tokio::time::timeout(Duration::from_secs(2), server).await.is_err() {
        tracing::debug!("a browser kept its connection open");
    }
    Ok(report?)
}

async fn callback(State(waiting): State<Arc<Waiting>>, OriginalUri(uri): OriginalUri) -> Response {
    let query: Vec<(String, String)> = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    if !query.iter().any(|(name, value)| name == "state" && *value == waiting.state) {
        return failed(
            "this answer does not belong to the sign-in that is waited for",
            "go back to the window you signed in with, or run the command again",
        );
    }
    // One answer, whatever it is worth: the state is used up.
    let Some(done) = waiting.done.lock().await.take() else {
        return failed("this answer came a second time", "look at the terminal: it says what came of the first");
    };
    let back = ConnectBack { session: waiting.session.clone(), query, redirect_uri: waiting.redirect_uri.clone() };
    let result = waiting.runtime.finish_connect(back).await;
    let response = match &result {
        Ok(report) => (StatusCode::OK, quiet(), Html(page::connected(&oauth::shown(report.clone())))).into_response(),
        Err(error) => failed(error.message(), "run the same command again"),
    };
    if done.send(result).is_err() {
        tracing::debug!("nobody waits for the sign-in any more");
    }
    response
}

fn failed(what: &str, advice: &str) -> Response {
    (StatusCode::BAD_REQUEST, quiet(), Html(page::failed(what, advice))).into_response()
}

fn quiet() -> [(HeaderName, HeaderValue); 4] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::CSP)),
        (header::CONNECTION, HeaderValue::from_static("close")),
    ]
}

//! The dashboard: one page, rendered here, with nothing to build and nothing loaded from elsewhere.

use std::{collections::BTreeSet, fmt::Write as _};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use connector_runtime::HealthState;

use super::{App, health};
use crate::page::escape;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1b1f24;background:#fff}\
h1{font-size:1.4rem}h2{font-size:1.05rem;margin-top:2rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;\
border-bottom:1px solid #d8dee4;vertical-align:top}th{color:#57606a;font-weight:600}.ok{color:#116329}.degraded{color:#7d4e00}.down{color:#a40e26}\
.unknown{color:#57606a}p.note{color:#57606a}@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th,td{border-color:#30363d}\
th,p.note,.unknown{color:#9198a1}.ok{color:#3fb950}.degraded{color:#d29922}.down{color:#f85149}}";

pub(super) async fn page(State(app): State<App>) -> Response {
    match render(&app).await {
        Ok(html) => (
            [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'")],
            html,
        )
            .into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be written").into_response(),
    }
}

async fn render(app: &App) -> Result<String, std::fmt::Error> {
    let runtime = app.runtime();
    let connections = runtime.health().await;
    let mut html = String::with_capacity(8 * 1024);
    write!(
        html,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"refresh\" content=\"5\"><title>connectors hub</title><style>{STYLE}</style></head><body><h1>connectors hub</h1>"
    )?;
    write!(html, "<h2>Connections</h2>")?;
    let tenants: BTreeSet<_> = connections.iter().map(|connection| &connection.tenant).collect();
    if tenants.len() > 1 {
        // This page is for everybody who reaches the hub. Whose connections there are is each tenant's own business.
        let well = connections.iter().filter(|connection| matches!(connection.state, HealthState::Ok | HealthState::Unknown)).count();
        let all = connections.len();
        write!(
            html,
            "<p class=\"note\">{well} of {all} connections of {} tenants do well. Names are shown to each tenant under /api/connectors/health.</p>",
            tenants.len()
        )?;
    } else if connections.is_empty() {
        write!(html, "<p class=\"note\">None yet. Add some to hub.yaml, or set the connectors' environment variables.</p>")?;
    } else {
        table(&mut html, &super::HEALTH_COLUMNS, connections.iter().map(health::row), Some(2))?;
    }
    write!(html, "<h2>Queues</h2>")?;
    let mut queues = Vec::new();
    for queue in ["events", "outbox"] {
        let row = match runtime.store().depth(queue).await {
            Ok(depth) => vec![queue.to_owned(), depth.pending.to_string(), depth.leased.to_string(), depth.dead.to_string()],
            Err(error) => vec![queue.to_owned(), error.kind().to_string(), String::new(), String::new()],
        };
        queues.push(row);
    }
    table(&mut html, &["queue", "waiting", "in work", "dead letters"], queues, None)?;
    write!(html, "<h2>Connectors</h2>")?;
    let registry = runtime.registry();
    let rows = registry.iter().map(|connector| {
        let spec = connector.spec();
        vec![spec.id.to_string(), spec.version.clone(), spec.operations().len().to_string(), spec.summary.clone()]
    });
    table(&mut html, &["connector", "version", "tools", "what"], rows, None)?;
    write!(
        html,
        "<p class=\"note\">The page renews itself every five seconds. Figures for machines: <a href=\"/metrics\">/metrics</a>.</p></body></html>"
    )?;
    Ok(html)
}

/// A table; the cells of column `state` get their text as class, so that they can be coloured.
fn table(html: &mut String, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>, state: Option<usize>) -> std::fmt::Result {
    write!(html, "<table><thead><tr>")?;
    for name in header {
        write!(html, "<th>{}</th>", escape(name))?;
    }
    write!(html, "</tr></thead><tbody>")?;
    for row in rows {
        write!(html, "<tr>")?;
        for (column, text) in row.iter().enumerate() {
            let text = escape(text);
            if Some(column) == state { write!(html, "<td class=\"{text}\">{text}</td>")? } else { write!(html, "<td>{text}</td>")? }
        }
        write!(html, "</tr>")?;
    }
    write!(html, "</tbody></table>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_stays_text() {
        let mut html = String::new();
        table(&mut html, &["a"], [vec!["<script>alert('x')</script>".to_owned()]], Some(0)).unwrap();
        assert!(!html.contains("<script>"));
        assert!(html.contains("&lt;script&gt;"));
    }
}

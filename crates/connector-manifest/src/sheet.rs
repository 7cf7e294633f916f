//! The integration sheet: what a person wants to know about a connector, on one page of Markdown.

use std::fmt::Write as _;

use connector_core::spec::{AuthSpec, ConnectorSpec, OAuth2Flow, OpSpec};

/// Writes the sheet of a connector.
pub fn markdown(spec: &ConnectorSpec) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    sections(&mut out, spec).unwrap_or_default();
    out
}

fn sections(out: &mut String, spec: &ConnectorSpec) -> std::fmt::Result {
    writeln!(out, "## Integration: connectors → {}\n", spec.name)?;
    if !spec.summary.is_empty() {
        writeln!(out, "{}\n", spec.summary.trim())?;
    }
    let version = spec.api_version.as_ref().map(|version| format!(", API {version}")).unwrap_or_default();
    let docs = spec.docs.as_ref().map(|docs| format!(" · [vendor documentation]({docs})")).unwrap_or_default();
    writeln!(out, "Connector `{}` {}{version}{docs}\n", spec.id, spec.version)?;
    writeln!(out, "Status: {}.\n", status(spec))?;
    authentication(out, spec)?;
    operations(out, spec)?;
    limits(out, spec)?;
    errors(out, spec)?;
    webhooks(out, spec)?;
    if !spec.streams.is_empty() {
        writeln!(out, "### Streams\n\n| stream | records | key | deletions |\n|---|---|---|---|")?;
        for stream in &spec.streams {
            writeln!(out, "| `{}` | {} | `{}` | {} |", stream.name, cell(&stream.doc), stream.key, if stream.deletes { "seen" } else { "not seen" })?;
        }
        writeln!(out)?;
    }
    writeln!(out, "### Code location\n")?;
    writeln!(
        out,
        "- Manifest: `crates/connector-{}/manifest/`\n- Hooks: `crates/connector-{}/src/odd/`\n- Typed operations: `crates/connector-{}/src/generated/ops.rs`\n- Tests: `crates/connector-{}/tests/`",
        spec.id, spec.id, spec.id, spec.id
    )
}

fn status(spec: &ConnectorSpec) -> String {
    let mut parts = Vec::new();
    if spec.status.sandbox {
        parts.push("works against our sandbox");
    }
    if spec.status.published_description {
        parts.push("matches the vendor's published description");
    }
    parts.push(if spec.status.verified_live { "verified against the live vendor" } else { "not verified against the live vendor" });
    parts.join(", ")
}

fn authentication(out: &mut String, spec: &ConnectorSpec) -> std::fmt::Result {
    writeln!(out, "### Authentication\n")?;
    for auth in &spec.auth {
        writeln!(out, "- Method: {}", auth.label())?;
        let fields: Vec<String> =
            auth.fields().into_iter().map(|(field, env)| env.map_or_else(|| format!("`{field}`"), |env| format!("`{field}` (`{env}`)"))).collect();
        if !fields.is_empty() {
            writeln!(out, "  - Credential fields: {}", fields.join(", "))?;
        }
        writeln!(out, "  - Token management: {}", token_management(auth))?;
    }
    if spec.auth.is_empty() {
        writeln!(out, "- Method: none")?;
    }
    let mut scopes: Vec<&str> = spec.operations().iter().flat_map(|op| op.scopes.iter().map(|scope| &**scope)).collect();
    scopes.sort_unstable();
    scopes.dedup();
    let scopes =
        if scopes.is_empty() { "none".to_owned() } else { format!("`{}` (all operations; a subset needs only its own)", scopes.join("`, `")) };
    writeln!(out, "- Scopes required: {scopes}\n")
}

fn token_management(auth: &AuthSpec) -> &'static str {
    match auth {
        AuthSpec::OAuth2(oauth2) if oauth2.flow == OAuth2Flow::ClientCredentials => {
            "fetched when first needed, one request for all callers; renewed before it ends (60 s or 10 % of its life, at most 15 min); one renewal after a 401"
        }
        AuthSpec::OAuth2(_) => "renewed before it ends (60 s or 10 % of its life, at most 15 min), one renewal at a time",
        AuthSpec::Hmac(_) => "each request is signed with the shared key",
        AuthSpec::None => "nothing to manage",
        _ => "sent with each request; replace it in the credential store",
    }
}

fn operations(out: &mut String, spec: &ConnectorSpec) -> std::fmt::Result {
    writeln!(out, "### Operations\n\n| operation | endpoint | effect | rate limit | notes |\n|---|---|---|---|---|")?;
    for op in spec.operations() {
        let limit = spec.limits.get(&op.limit_class).map(|class| {
            let windows: Vec<String> = class.windows.iter().map(|window| String::from(*window)).collect();
            if windows.is_empty() { op.limit_class.to_string() } else { windows.join(", ") }
        });
        writeln!(
            out,
            "| `{}` | {} | {} | {} | {} |",
            op.name,
            cell(&format!("`{}`", op.endpoint)),
            op.effect.as_str(),
            limit.unwrap_or_else(|| "–".into()),
            cell(&notes(op))
        )?;
    }
    writeln!(out)
}

fn notes(op: &OpSpec) -> String {
    let mut notes = vec![op.summary.trim().to_owned()];
    if op.effect != connector_core::spec::Effect::Read {
        notes.push(format!("Repeat: {}.", op.repeat.as_str()));
    }
    if let Some(cache) = &op.cache {
        notes.push(format!("Cached {} s.", cache.ttl_seconds));
    }
    if let Some(batch) = &op.batch {
        notes.push(format!("Concurrent calls become `{}`.", batch.tool));
    }
    notes.join(" ")
}

fn limits(out: &mut String, spec: &ConnectorSpec) -> std::fmt::Result {
    if spec.limits.is_empty() {
        return Ok(());
    }
    writeln!(out, "### Limits\n\n| class | windows | concurrent | shared by |\n|---|---|---|---|")?;
    for (name, class) in &spec.limits {
        let windows: Vec<String> = class.windows.iter().map(|window| String::from(*window)).collect();
        let with = class.with.as_ref().map(|with| format!(" and `{with}`")).unwrap_or_default();
        let concurrent = class.concurrent.map_or_else(|| "–".to_owned(), |number| number.to_string());
        writeln!(out, "| `{name}`{with} | {} | {concurrent} | {} |", windows.join(", "), String::from(class.key.clone()))?;
    }
    writeln!(out)
}

fn errors(out: &mut String, spec: &ConnectorSpec) -> std::fmt::Result {
    writeln!(out, "### Error handling\n")?;
    if spec.errors.is_empty() {
        return writeln!(out, "The HTTP table of the retry contract.\n");
    }
    for row in &spec.errors {
        writeln!(out, "- {}: `{}`; {}", row.when, row.class, row.action)?;
    }
    writeln!(out, "- everything else: the HTTP table of the retry contract\n")
}

fn webhooks(out: &mut String, spec: &ConnectorSpec) -> std::fmt::Result {
    let Some(webhook) = &spec.webhook else { return Ok(()) };
    writeln!(out, "### Webhook setup\n")?;
    writeln!(out, "- Subscription endpoint: `POST /api/v1/webhooks/{}/{{workspace_id}}`", spec.id)?;
    let events: Vec<String> = spec.events.iter().map(|event| format!("`{}`", event.name)).collect();
    writeln!(out, "- Events: {}", if events.is_empty() { "as the vendor names them".to_owned() } else { events.join(", ") })?;
    writeln!(out, "- Validation: `{}`. {}\n", webhook.scheme, webhook.notes.trim())
}

/// Text inside a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

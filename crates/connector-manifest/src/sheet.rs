//! The integration sheet: what a person wants to know about a connector, on one page of Markdown.

use std::fmt::Write as _;

use connector_core::spec::{AuthSpec, ConnectorSpec, OAuth2Flow, OAuth2Spec, OpSpec};

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
    subscriptions(out, spec)?;
    views(out, spec)?;
    writeln!(out, "### Code location\n")?;
    writeln!(
        out,
        "- Manifest: `crates/connector-{}/manifest/`\n- Hooks: `crates/connector-{}/src/odd/`\n- Typed operations: `crates/connector-{}/src/generated/ops.rs`\n- Tests: `crates/connector-{}/tests/`",
        spec.id, spec.id, spec.id, spec.id
    )
}

/// Which capability views it fulfils, and by which operations.
fn views(out: &mut String, spec: &ConnectorSpec) -> std::fmt::Result {
    if spec.views.is_empty() {
        return Ok(());
    }
    writeln!(out, "### Fulfils views\n\n| view's tool | done by |\n|---|---|")?;
    let known = || spec.views.iter().filter_map(|(id, fulfils)| Some((connector_core::spec::views::view(id)?, fulfils)));
    for (view, fulfils) in known() {
        for op in view.operations {
            if let Some(call) = fulfils.operations.get(op.name) {
                writeln!(out, "| `{}` | `{}` |", view.tool(op), call.call)?;
            }
        }
    }
    writeln!(out)?;
    for (view, fulfils) in known() {
        let missing: Vec<String> =
            view.operations.iter().filter(|op| !fulfils.operations.contains_key(op.name)).map(|op| format!("`{}`", view.tool(op))).collect();
        if !missing.is_empty() {
            writeln!(out, "Not done: {}.\n", missing.join(", "))?;
        }
    }
    Ok(())
}

/// Which subscriptions there are and how they stay alive.
fn subscriptions(out: &mut String, spec: &ConnectorSpec) -> std::fmt::Result {
    if spec.subscriptions.is_empty() {
        return Ok(());
    }
    writeln!(out, "### Subscriptions\n\n| kind | tells about | made by | longest life | gap closed by |\n|---|---|---|---|---|")?;
    for kind in &spec.subscriptions {
        let made = kind.create.as_ref().map_or_else(|| "a person".to_owned(), |create| format!("`{}`", create.tool));
        let life = kind.max_lifetime.map_or_else(|| "–".to_owned(), String::from);
        let gap = kind.catch_up.as_ref().map_or_else(|| "–".to_owned(), |catch_up| format!("stream `{}`", cell(&catch_up.stream)));
        writeln!(out, "| `{}` | {} | {made} | {life} | {gap} |", kind.name, cell(&kind.doc))?;
    }
    writeln!(out)?;
    for (kind, how) in spec.subscriptions.iter().filter_map(|kind| Some((kind, kind.instructions.as_ref()?))) {
        writeln!(out, "`{}`: {}\n", kind.name, how.trim())?;
    }
    Ok(())
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
        writeln!(out, "- Method: {} (`auth: {}`)", auth.label(), setting(auth))?;
        let fields: Vec<String> =
            auth.fields().into_iter().map(|(field, env)| env.map_or_else(|| format!("`{field}`"), |env| format!("`{field}` (`{env}`)"))).collect();
        if !fields.is_empty() {
            writeln!(out, "  - Credential fields: {}{}", fields.join(", "), more_fields(auth))?;
        }
        if let AuthSpec::OAuth2(oauth2) = auth {
            self::oauth2(out, oauth2)?;
        }
        writeln!(out, "  - Token management: {}", token_management(auth))?;
        if *auth != AuthSpec::None {
            writeln!(out, "  - Rotation: {}", rotation(auth, &spec.rotatable))?;
        }
    }
    if spec.auth.is_empty() {
        writeln!(out, "- Method: none")?;
    }
    let mut scopes: Vec<&str> = spec.operations().iter().flat_map(|op| op.scopes.iter().map(|scope| &**scope)).collect();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return writeln!(out, "- Scopes required: none named; what the credential may do is decided at the vendor\n");
    }
    writeln!(out, "- Scopes required: `{}` (all operations; a subset needs only its own)\n", scopes.join("`, `"))?;
    writeln!(out, "| scope | operations that need it |\n|---|---|")?;
    for scope in scopes {
        let operations: Vec<String> =
            spec.operations().iter().filter(|op| op.scopes.iter().any(|one| &**one == scope)).map(|op| format!("`{}`", op.name)).collect();
        writeln!(out, "| `{scope}` | {} |", operations.join(", "))?;
    }
    let free: Vec<String> = spec.operations().iter().filter(|op| op.scopes.is_empty()).map(|op| format!("`{}`", op.name)).collect();
    if !free.is_empty() {
        writeln!(out, "| none of these | {} |", free.join(", "))?;
    }
    writeln!(out)
}

/// What the connection setting `auth` says for this way: the grant for OAuth 2.0.
fn setting(auth: &AuthSpec) -> &'static str {
    match auth {
        AuthSpec::OAuth2(oauth2) => oauth2.flow.as_str(),
        other => other.kind(),
    }
}

fn more_fields(auth: &AuthSpec) -> String {
    let fields = auth.optional_fields();
    if fields.is_empty() { String::new() } else { format!("; optional `{}`", fields.join("`, `")) }
}

/// Where its requests go and what they ask for.
fn oauth2(out: &mut String, oauth2: &OAuth2Spec) -> std::fmt::Result {
    let places = [
        ("issuer", oauth2.issuer.as_deref()),
        ("authorize", oauth2.authorize_url.as_deref()),
        ("device", oauth2.device_url.as_deref()),
        ("token", Some(oauth2.token_url.as_str())),
        ("revoke", oauth2.revoke_url.as_deref()),
    ];
    let places: Vec<String> =
        places.into_iter().filter_map(|(what, url)| url.filter(|url| !url.is_empty()).map(|url| format!("{what} `{url}`"))).collect();
    let pkce = match oauth2.flow {
        OAuth2Flow::AuthorizationCode if oauth2.without_pkce => ", without PKCE",
        OAuth2Flow::AuthorizationCode => ", PKCE S256",
        _ => "",
    };
    writeln!(out, "  - Flow: `{}`{pkce}; {}", oauth2.flow.as_str(), places.join(", "))?;
    let quoted = |scopes: &[String]| format!("`{}`", scopes.join("`, `"));
    if !oauth2.base_scopes.is_empty() {
        writeln!(out, "  - Scopes always asked for: {}", quoted(&oauth2.base_scopes))?;
    }
    if !oauth2.scopes.is_empty() {
        writeln!(out, "  - Scopes unless tools are chosen: {}", quoted(&oauth2.scopes))?;
    }
    if !oauth2.scope_names.is_empty() {
        let names: Vec<String> = oauth2.scope_names.iter().map(|(scope, name)| format!("`{scope}` is `{name}`")).collect();
        writeln!(out, "  - In this flow {}", names.join(", "))?;
    }
    Ok(())
}

fn token_management(auth: &AuthSpec) -> String {
    match auth {
        AuthSpec::OAuth2(oauth2) if oauth2.flow.has_consent() => {
            let renewed = "kept encrypted; renewed before it ends (60 s or 10 % of its life, at most 15 min), one renewal at a time over all processes";
            match (oauth2.rotates, oauth2.rotation_grace) {
                (false, _) => renewed.to_owned(),
                (true, 0) => format!("{renewed}; each renewal burns the old refresh token"),
                (true, grace) => format!("{renewed}; each renewal burns the old refresh token after {grace} s"),
            }
        }
        AuthSpec::OAuth2(_) => {
            "fetched when first needed, one request for all callers; renewed before it ends (60 s or 10 % of its life, at most 15 min); one renewal after a 401"
                .to_owned()
        }
        AuthSpec::Hmac(_) => "each request is signed with the shared key".to_owned(),
        AuthSpec::None => "nothing to manage".to_owned(),
        _ => "sent with each request; replace it in the credential store".to_owned(),
    }
}

/// Who replaces the secret behind it.
fn rotation(auth: &AuthSpec, rotatable: &[String]) -> String {
    let (api, hand): (Vec<&str>, Vec<&str>) = auth
        .fields()
        .into_iter()
        .map(|(field, _)| field)
        .filter(|field| !matches!(*field, "client_id" | "key_id" | "username"))
        .partition(|field| rotatable.iter().any(|one| one == field));
    let mut parts = Vec::new();
    if !api.is_empty() {
        parts.push(format!("`{}` through the vendor's API (`credentials rotate`, or a schedule)", api.join("`, `")));
    }
    if !hand.is_empty() {
        parts.push(format!(
            "`{}` by hand: make a new one at the vendor and store it; the hub keeps the old one beside it during the overlap",
            hand.join("`, `")
        ));
    }
    if parts.is_empty() { "nothing is secret".to_owned() } else { parts.join("; ") }
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

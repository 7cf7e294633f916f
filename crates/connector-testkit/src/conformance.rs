//! What every connector must pass: a sane spec, examples that render, parse and give what they promise, writes that say how they may be
//! repeated, an error table that means something.

use std::{collections::BTreeSet, sync::Arc};

use connector_core::{
    CallCx, Connector as _, OpCall,
    spec::{Approval, Effect, OpSpec, Repeat},
};
use connector_manifest::{ConnectionOptions, Engine, Hooks, Manifest, RawReply, connection};
use http::HeaderMap;
use serde_json::Value;

/// Checks a connector and panics with everything that is wrong, one line each.
///
/// # Panics
/// If anything is wrong.
pub fn check(manifest: Arc<Manifest>, hooks: Hooks) {
    let problems = problems(manifest, hooks);
    assert!(problems.is_empty(), "{} problem(s):\n{}", problems.len(), problems.join("\n"));
}

/// What is wrong with a connector, one line each.
pub fn problems(manifest: Arc<Manifest>, hooks: Hooks) -> Vec<String> {
    let mut found = Vec::new();
    let engine = match Engine::builder(manifest.clone()).hooks(hooks).build() {
        Ok(engine) => engine,
        Err(error) => return vec![format!("the manifest does not compile: {error}")],
    };
    let cx = match context(&manifest, &engine) {
        Ok(cx) => cx,
        Err(error) => return vec![format!("no connection can be made from defaults: {error}")],
    };
    spec(&engine, &mut found);
    for op in engine.spec().operations() {
        operation(&engine, op, &mut found);
        if op.endpoint == "native" {
            native_example(op, &mut found);
        } else {
            example(&engine, &cx, op, &mut found);
        }
    }
    found
}

/// A connection with every setting at its default, or named after itself.
fn context(manifest: &Manifest, engine: &Engine) -> connector_core::Result<CallCx> {
    let id = engine.spec().id.clone();
    let mut options = ConnectionOptions::default();
    for setting in manifest.settings.iter().filter(|setting| setting.default.is_none()) {
        options.settings.insert(setting.name.clone(), setting.name.clone());
    }
    if manifest.base_url.is_none() {
        options.base_url = Some(format!("https://{id}.example.com"));
    }
    Ok(CallCx::new(Arc::new(connection(manifest, &id, options, &|_| None)?)).with_idempotency_key("example-key"))
}

fn spec(engine: &Engine, found: &mut Vec<String>) {
    let spec = engine.spec();
    let mut say = |what: String| found.push(format!("{}: {what}", spec.id));
    if spec.summary.is_empty() {
        say("it does not say what it links to (`doc`)".into());
    }
    if spec.auth.is_empty() {
        say("it does not say how it authenticates (`auth`)".into());
    }
    if spec.operations().is_empty() {
        say("it has no tools".into());
    }
    if spec.errors.is_empty() {
        say("its error table is empty (`errors.table`)".into());
    }
    if spec.limits.is_empty() {
        say("it declares no limits".into());
    }
    if spec.webhook.is_some() && engine.webhook().is_none() {
        say("it declares webhooks, but no hook verifies them".into());
    }
    if !spec.streams.is_empty() && engine.delta().is_none() && spec.streams.iter().any(|stream| &*stream.list == "native") {
        say("it declares a native stream, but no hook follows it".into());
    }
    if spec.status.verified_live {
        say("it claims to be verified against the live vendor".into());
    }
    let mut names = BTreeSet::new();
    for op in spec.operations() {
        if !names.insert(op.name.clone()) {
            say(format!("two tools are called `{}`", op.name));
        }
    }
}

fn operation(engine: &Engine, op: &OpSpec, found: &mut Vec<String>) {
    let spec = engine.spec();
    let mut say = |what: String| found.push(format!("{}: {what}", op.name));
    let prefix = engine.manifest().tool_prefix();
    if !op.name.starts_with(&format!("{prefix}_")) {
        say(format!("its name does not begin with `{prefix}_`"));
    }
    if op.summary.len() < 10 {
        say("its doc says too little".into());
    }
    if op.effect == Effect::Read && op.approval == Approval::Required {
        say("a read that needs an approval".into());
    }
    if op.effect == Effect::Read && !op.repeats_safely() {
        say("a read that may not be repeated".into());
    }
    if op.effect != Effect::Read && op.cache.is_some() {
        say("a write that is cached".into());
    }
    if op.repeat == Repeat::LookupFirst && op.lookup.is_none() && op.endpoint != "native" {
        say("it wants to look first, but says not where".into());
    }
    let mut needs = |what: &str, tool: &str| {
        if spec.operation(tool).is_none() {
            say(format!("its {what} names `{tool}`, which there is not"));
        }
    };
    if let Some(lookup) = &op.lookup {
        needs("lookup", &lookup.tool);
    }
    if let Some(inverse) = &op.inverse {
        needs("inverse", &inverse.tool);
    }
    if let Some(batch) = &op.batch {
        needs("batch", &batch.tool);
    }
    if op.limit_class.as_ref() != "default" && !spec.limits.contains_key(&op.limit_class) {
        say(format!("its limit class `{}` is not declared", op.limit_class));
    }
    for schema in [&op.input_schema, &op.output_schema] {
        if let Err(error) = jsonschema::validator_for(schema) {
            say(format!("a schema of it is not JSON Schema: {error}"));
        }
    }
    check_against(&op.input_schema, &Value::Object(op.example.args.clone()), "its example's arguments", op, found);
}

fn native_example(op: &OpSpec, found: &mut Vec<String>) {
    check_against(&op.output_schema, &op.example.reply, "its example's reply", op, found);
    expect(op, &op.example.reply, found);
}

fn example(engine: &Engine, cx: &CallCx, op: &OpSpec, found: &mut Vec<String>) {
    let call = OpCall::new(op.name.clone(), op.example.args.clone());
    match engine.render(cx, &call) {
        Err(error) => return found.push(format!("{}: its example does not render: {error}", op.name)),
        Ok(request) => {
            if let Some(wanted) = &op.example.request {
                compare_request(cx, op, wanted, &request, found);
            }
        }
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &op.example.reply_headers {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    let body = match &op.example.reply {
        Value::Null => bytes::Bytes::new(),
        Value::String(text) if op.output_schema.get("contentEncoding").is_some() || is_raw(op) => text.clone().into(),
        json => json.to_string().into(),
    };
    let status = op.example.status.unwrap_or(200);
    match engine.understand_recorded(cx, &call, RawReply { status, headers, body }) {
        Err(error) => found.push(format!("{}: its example's reply is not understood: {error}", op.name)),
        Ok(reply) => match reply.body.to_value() {
            Err(error) => found.push(format!("{}: its example's reply is unreadable: {error}", op.name)),
            Ok(output) => {
                if !is_raw(op) && !output.is_null() {
                    check_against(&op.output_schema, &output, "its example's output", op, found);
                }
                expect(op, &output, found);
            }
        },
    }
}

fn is_raw(op: &OpSpec) -> bool {
    op.output_schema.pointer("/properties/base64").is_some()
}

fn compare_request(cx: &CallCx, op: &OpSpec, wanted: &Value, request: &connector_manifest::RenderedRequest, found: &mut Vec<String>) {
    let mut differs =
        |what: &str, wanted: &Value, got: &Value| found.push(format!("{}: its example says the {what} is {wanted}, but it is {got}", op.name));
    let url = match url::Url::parse(&request.url) {
        Ok(url) => url,
        Err(error) => return found.push(format!("{}: its address cannot be parsed: {error}", op.name)),
    };
    if let Some(method) = wanted.get("method").filter(|method| **method != request.method) {
        differs("method", method, &request.method.clone().into());
    }
    if let Some(path) = wanted.get("path") {
        let got = url.path().strip_prefix(cx.connection.base_url.path().trim_end_matches('/')).unwrap_or(url.path());
        if path.as_str() != Some(got) {
            differs("path", path, &got.into());
        }
    }
    for (name, value) in wanted.get("query").and_then(Value::as_object).into_iter().flatten() {
        let got: Vec<Value> = url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| Value::from(value.into_owned())).collect();
        let wanted = match value {
            Value::Array(items) => items.clone(),
            single => vec![single.clone()],
        };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if got.iter().map(text).collect::<Vec<_>>() != wanted.iter().map(text).collect::<Vec<_>>() {
            differs(&format!("query `{name}`"), value, &Value::Array(got));
        }
    }
    for (name, value) in wanted.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let got = request.headers.get(&name.to_ascii_lowercase()).cloned().unwrap_or_default();
        if got != *value {
            differs(&format!("header `{name}`"), value, &got);
        }
    }
    if let Some(body) = wanted.get("body").filter(|body| !contains(&request.body, body)) {
        differs("body", body, &request.body);
    }
}

fn expect(op: &OpSpec, output: &Value, found: &mut Vec<String>) {
    if let Some(expected) = op.example.expect.as_ref().filter(|expected| !contains(output, expected)) {
        found.push(format!("{}: its example promises {expected}, but the output is {output}", op.name));
    }
}

/// Whether `whole` has everything `part` has.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part))),
        (Value::Array(whole), Value::Array(part)) => whole.len() >= part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part)),
        _ => whole == part,
    }
}

fn check_against(schema: &Value, value: &Value, what: &str, op: &OpSpec, found: &mut Vec<String>) {
    let Ok(validator) = jsonschema::validator_for(schema) else { return };
    for error in validator.iter_errors(value) {
        found.push(format!("{}: {what}: {error} at `{}`", op.name, error.instance_path()));
    }
}

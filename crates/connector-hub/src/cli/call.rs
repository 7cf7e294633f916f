//! `call`: one operation over the governed path.

use std::{io::Read as _, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use connector_core::{Error, spec::views};
use connector_runtime::{CallOutcome, CallRequest};
use serde_json::{Map, Value, json};

use crate::{
    output::{self, APPROVAL, LATER, NOTHING},
    setup::Setup,
};

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The tool's name; `tools` lists them
    tool: String,
    /// One argument; text where the tool wants text, JSON otherwise
    #[arg(long = "arg", value_name = "K=V")]
    args: Vec<String>,
    /// All arguments as a JSON object, `@FILE`, or `-` for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    params: Option<String>,
    /// The connection, if the tool's connector has several
    #[arg(long, value_name = "C")]
    connection: Option<String>,
    /// Print the exact request, without secrets, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// The key under which this exact write happens at most once
    #[arg(long, value_name = "K")]
    idempotency_key: Option<String>,
}

pub(super) async fn run(setup: &Setup, args: CallArgs) -> Result<ExitCode> {
    // A dry run leaves nothing behind.
    let runtime = if args.dry_run { setup.transient().await? } else { setup.runtime().await? };
    let registry = runtime.registry();
    let op = match (registry.tool(&args.tool), views::tool(&args.tool)) {
        (Ok((_, op)), _) => op,
        (Err(_), Some(view)) => &view.spec,
        (Err(unknown), None) => return Err(unknown.into()),
    };
    let params = params(&args, &op.input_schema)?;
    let mut request = CallRequest::new(&args.tool, params);
    request.tenant = setup.tenant()?;
    request.workspace = setup.workspace();
    request.actor = super::person();
    request.connection = args.connection;
    request.idempotency_key = args.idempotency_key;
    request.dry_run = args.dry_run;
    match runtime.call(request).await? {
        CallOutcome::Done(reply) => {
            let absent = reply.meta.absent;
            output::json(&reply.body.to_value()?)?;
            if let Some(next) = &reply.next {
                eprintln!("there is more; the cursor of the next page is {}", next.as_str());
            }
            if let Some(error) = reply.partial_error() {
                eprintln!("{error}");
                for item in &reply.partial {
                    eprintln!(
                        "  {}: {} ({})",
                        item.key.clone().or(item.index.map(|index| format!("item {index}"))).unwrap_or_default(),
                        item.message,
                        item.kind
                    );
                }
                return Ok(ExitCode::from(output::FAILED));
            }
            Ok(if absent { ExitCode::from(NOTHING) } else { ExitCode::SUCCESS })
        }
        CallOutcome::DryRun(request) => {
            output::json(&request)?;
            Ok(ExitCode::SUCCESS)
        }
        CallOutcome::PendingApproval { approval_id, expires_at } => {
            output::json(&json!({ "status": "pending_approval", "approval_id": approval_id, "expires_at": expires_at }))?;
            Ok(ExitCode::from(APPROVAL))
        }
        CallOutcome::Queued { job_id, reason } => {
            output::json(&json!({ "status": "queued", "job_id": job_id, "reason": reason }))?;
            Ok(ExitCode::from(LATER))
        }
        // The runtime may learn further outcomes; a person should at least see their name.
        #[allow(unreachable_patterns, reason = "the enum may be non-exhaustive")]
        other => Err(Error::internal(format!("unknown outcome {other:?}")).into()),
    }
}

/// The arguments of `--params` and `--arg` together; `--arg` wins.
fn params(args: &CallArgs, schema: &Value) -> Result<Map<String, Value>> {
    let mut params = match args.params.as_deref() {
        None => Map::new(),
        Some(text) => {
            let text = match text.strip_prefix('@') {
                Some(file) => std::fs::read_to_string(file).with_context(|| format!("reading the parameters from `{file}`"))?,
                None if text == "-" => {
                    let mut input = String::new();
                    std::io::stdin().read_to_string(&mut input).context("reading the parameters from standard input")?;
                    input
                }
                None => text.to_owned(),
            };
            match serde_json::from_str(&text) {
                Ok(Value::Object(params)) => params,
                Ok(_) => return Err(Error::invalid("--params must be a JSON object, for example '{\"id\": \"512\"}'").into()),
                Err(error) => return Err(Error::invalid(format!("--params is not JSON (line {}, column {})", error.line(), error.column())).into()),
            }
        }
    };
    for pair in &args.args {
        let (name, text) = pair.split_once('=').ok_or_else(|| Error::invalid(format!("--arg {pair}: write it as NAME=VALUE")))?;
        params.insert(name.to_owned(), value(text, schema.pointer(&format!("/properties/{name}"))));
    }
    Ok(params)
}

/// Text where the tool wants text, JSON where it wants something else and the text is that.
fn value(text: &str, schema: Option<&Value>) -> Value {
    let wants = |kind: &str| match schema.and_then(|schema| schema.get("type")) {
        Some(Value::String(wanted)) => wanted == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|wanted| wanted == kind),
        _ => false,
    };
    let parsed = serde_json::from_str::<Value>(text);
    if wants("string") {
        return text.into();
    }
    // `--arg properties=email,tier` is what people type for a list.
    if wants("array") && !matches!(parsed, Ok(Value::Array(_))) {
        return text.split(',').map(|item| Value::from(item.trim())).collect();
    }
    parsed.unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_take_the_type_the_tool_wants() {
        for (text, schema, expected) in [
            ("0042", json!({ "type": "string" }), json!("0042")),
            ("42", json!({ "type": "integer" }), json!(42)),
            ("true", json!({ "type": ["boolean", "null"] }), json!(true)),
            ("a, b", json!({ "type": "array" }), json!(["a", "b"])),
            ("[1]", json!({ "type": "array" }), json!([1])),
            ("{\"a\":1}", json!({}), json!({ "a": 1 })),
            ("plain", json!({}), json!("plain")),
        ] {
            assert_eq!(value(text, Some(&schema)), expected, "{text}");
        }
    }
}

//! `tools.json`: the tools as people and agents see them.

use anyhow::Result;
use connector_core::spec::ConnectorSpec;
use serde_json::{Value, json};

pub(super) fn json(spec: &ConnectorSpec) -> Result<String> {
    let tools: Vec<Value> = spec
        .operations()
        .iter()
        .map(|op| {
            json!({
                "name": op.name, "connector": spec.id, "effect": op.effect, "approval": op.approval, "summary": op.summary,
                "input_schema": op.input_schema, "output_schema": op.output_schema, "scopes": op.scopes, "repeat": op.repeat,
                "limit_class": op.limit_class,
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&tools)? + "\n")
}

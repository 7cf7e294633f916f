//! `connectors`, `describe`, `tools`: what there is, without any connection.

use std::process::ExitCode;

use anyhow::Result;
use connector_core::spec::{Approval, ConnectorSpec, OpSpec};
use connector_runtime::AvailableView;
use serde_json::{Value, json};

use crate::{
    output::{self, NOTHING},
    setup::Setup,
};

pub(super) async fn connectors(setup: &Setup, as_json: bool) -> Result<ExitCode> {
    let registry = setup.catalogue().await?;
    let specs: Vec<_> = registry.iter().map(|connector| connector.spec().clone()).collect();
    if as_json {
        output::json(&specs.iter().map(|spec| summary(spec)).collect::<Vec<_>>())?;
    } else {
        let rows = specs.iter().map(|spec| {
            let auth: Vec<&str> = spec.auth.iter().map(|auth| auth.kind()).collect();
            vec![spec.id.to_string(), spec.version.clone(), spec.operations().len().to_string(), auth.join(", "), spec.summary.clone()]
        });
        output::table(&["connector", "version", "tools", "auth", "what"], rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A connector in one object, as the catalogue lists it.
pub(crate) fn summary(spec: &ConnectorSpec) -> Value {
    json!({
        "id": spec.id, "name": spec.name, "version": spec.version, "summary": spec.summary, "docs": spec.docs,
        "auth": spec.auth.iter().map(|auth| auth.kind()).collect::<Vec<_>>(),
        "operations": spec.operations().len(), "events": spec.events.iter().map(|event| &event.name).collect::<Vec<_>>(),
        "webhooks": spec.webhook.is_some(), "streams": spec.streams.iter().map(|stream| &stream.name).collect::<Vec<_>>(), "status": spec.status,
    })
}

pub(super) async fn describe(setup: &Setup, id: &str, as_json: bool) -> Result<ExitCode> {
    let registry = setup.catalogue().await?;
    let spec = registry.require(id)?.spec();
    if as_json {
        output::json(&**spec)?
    } else {
        output::text(&connector_manifest::sheet::markdown(spec))?
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn tools(setup: &Setup, connector: Option<&str>, as_json: bool) -> Result<ExitCode> {
    let registry = setup.catalogue().await?;
    if let Some(id) = connector {
        registry.require(id)?;
    }
    let tools: Vec<_> = registry.operations().filter(|(owner, _)| connector.is_none_or(|id| &*owner.spec().id == id)).collect();
    // The tools of views are there as far as a connection is, and are no connector's.
    let views = match connector {
        Some(_) => Vec::new(),
        None => setup.views().await.unwrap_or_else(|error| {
            eprintln!("warning: the tools of views are not shown, because the connections cannot be looked at: {error}");
            Vec::new()
        }),
    };
    if as_json {
        output::json(&tools.iter().map(|(owner, op)| tool(owner.spec(), op)).chain(views.iter().map(view)).collect::<Vec<_>>())?;
    } else {
        let rows = tools.iter().map(|(_, op)| *op).chain(views.iter().map(|view| &view.tool.spec)).map(|op| {
            let approval = if op.approval == Approval::Required { "required" } else { "by policy" };
            let approval = if op.effect == connector_core::spec::Effect::Read { "–" } else { approval };
            vec![op.name.to_string(), op.effect.as_str().to_owned(), approval.to_owned(), first_sentence(&op.summary)]
        });
        output::table(&["tool", "effect", "approval", "what"], rows)?;
    }
    Ok(if tools.is_empty() { ExitCode::from(NOTHING) } else { ExitCode::SUCCESS })
}

/// A tool in one object, as agents and scripts get it.
pub(crate) fn tool(spec: &ConnectorSpec, op: &OpSpec) -> Value {
    json!({
        "name": op.name, "connector": spec.id, "effect": op.effect, "approval": op.approval, "summary": op.summary,
        "input_schema": op.input_schema, "output_schema": op.output_schema, "scopes": op.scopes, "repeat": op.repeat, "limit_class": op.limit_class,
    })
}

/// A tool of a view in one object. What it costs and which scopes it needs depends on the connection, so each says it for itself.
pub(crate) fn view(view: &AvailableView) -> Value {
    let op = &view.tool.spec;
    let over: Vec<Value> = view
        .over
        .iter()
        .map(|over| {
            let op = &over.operation;
            json!({
                "connection": over.connection, "connector": over.connector, "tool": op.name, "approval": op.approval, "scopes": op.scopes,
                "repeat": op.repeat, "limit_class": op.limit_class,
            })
        })
        .collect();
    json!({
        "name": op.name, "connector": null, "view": view.tool.view.id, "effect": op.effect, "approval": op.approval, "summary": op.summary,
        "input_schema": op.input_schema, "output_schema": op.output_schema, "scopes": [], "repeat": null, "limit_class": null, "over": over,
    })
}

fn first_sentence(text: &str) -> String {
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    text[..end].replace('\n', " ")
}

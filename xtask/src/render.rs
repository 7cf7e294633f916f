//! `cargo xtask render`: each operation's example as the engine would send it, one JSON line each, so that every request can be held against
//! the vendor's published description.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use connector_core::{CallCx, Error, OpCall, OpReply};
use connector_manifest::{ConnectionOptions, Engine, Hooks, NativeOperation, connection};
use serde_json::json;

use crate::workspace::{Vendor, vendors};

pub(crate) fn run() -> Result<()> {
    let mut native = 0;
    for vendor in vendors()? {
        let engine = engine(&vendor)?;
        let cx = context(&vendor)?;
        for op in vendor.spec.operations() {
            if op.endpoint == "native" {
                native += 1;
                continue;
            }
            let request = engine
                .render(&cx, &OpCall::new(op.name.clone(), op.example.args.clone()))
                .with_context(|| format!("rendering the example of `{}`", op.name))?;
            let line = json!({
                "connector": vendor.id, "operation": op.name, "method": request.method, "url": request.url, "headers": request.headers,
                "body": request.body, "reply": op.example.reply, "status": op.example.status.unwrap_or(200),
            });
            println!("{line}");
        }
    }
    eprintln!("{native} native operations make several requests each and are not listed");
    Ok(())
}

fn engine(vendor: &Vendor) -> Result<Engine> {
    let natives = vendor.manifest.tools.iter().filter_map(|tool| tool.native.as_deref());
    let hooks = natives.fold(Hooks::new(), |hooks, name| hooks.native(name, NotRun));
    Ok(Engine::builder(vendor.manifest.clone()).hooks(hooks).build()?)
}

/// A connection with every setting filled by its default, or by its own name.
fn context(vendor: &Vendor) -> Result<CallCx> {
    let mut options = ConnectionOptions::default();
    for setting in vendor.manifest.settings.iter().filter(|setting| setting.default.is_none()) {
        let value = if setting.name == "mailbox" { "support@example.com" } else { &setting.name };
        options.settings.insert(setting.name.clone(), value.to_owned());
    }
    if vendor.manifest.base_url.is_none() {
        options.base_url = Some(format!("https://{}.example.com", vendor.id));
    }
    Ok(CallCx::new(Arc::new(connection(&vendor.manifest, &vendor.id, options, &|_| None)?)).with_idempotency_key("example-key"))
}

/// Stands in for the vendor's own Rust, which is not needed to render templates.
#[derive(Debug)]
struct NotRun;

#[async_trait]
impl NativeOperation for NotRun {
    async fn call(&self, _: &Engine, _: &CallCx, call: OpCall) -> connector_core::Result<OpReply> {
        Err(Error::unsupported(format!("`{}` is not run here", call.operation)))
    }
}

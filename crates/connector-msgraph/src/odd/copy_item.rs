//! Copying in a drive: accepted at once, done in the background, looked after at an address that Graph names.
//! <https://learn.microsoft.com/graph/api/driveitem-copy>, <https://learn.microsoft.com/graph/long-running-actions-overview>
//!
//! The address authorises by itself: no token goes there.

use std::time::Duration;

use async_trait::async_trait;
use connector_core::{CallCx, Error, OpCall, OpReply, Result, transport::Request};
use connector_manifest::{Engine, NativeOperation};
use http::{Method, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    args::{arguments, pause, request, segment, text},
    upload_session::{foreign_address, scrubbed},
};

/// Between the first two looks; then twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait between two looks.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The native operation `msgraph_copy_drive_item`.
#[derive(Debug)]
pub(crate) struct CopyItem;

#[derive(Deserialize)]
struct Args {
    drive_id: String,
    item_id: String,
    to_drive_id: Option<String>,
    to_parent_id: Option<String>,
    name: Option<String>,
    #[serde(default = "fail")]
    conflict: String,
    #[serde(default = "twenty")]
    wait: u64,
}

fn fail() -> String {
    "fail".into()
}

fn twenty() -> u64 {
    20
}

#[async_trait]
impl NativeOperation for CopyItem {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: Args = arguments(&call)?;
        if args.to_drive_id.is_some() && args.to_parent_id.is_none() {
            return Err(Error::invalid("another drive needs the folder there too; give `to_parent_id`"));
        }
        let mut body = json!({});
        if let Some(parent) = &args.to_parent_id {
            body["parentReference"] = json!({ "driveId": args.to_drive_id.as_ref().unwrap_or(&args.drive_id), "id": parent });
        }
        if let Some(name) = &args.name {
            body["name"] = name.as_str().into();
        }
        let (drive, item, conflict) = (segment(&args.drive_id), segment(&args.item_id), segment(&args.conflict));
        let path = format!("/drives/{drive}/items/{item}/copy?@microsoft.graph.conflictBehavior={conflict}");
        let reply = engine.send_raw(cx, request(cx, Method::POST, &path, Some(&body))?, true).await?;
        if !reply.is_success() {
            return Err(engine.error_for(cx, &reply));
        }
        let monitor = reply.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
        let monitor = monitor.ok_or_else(|| Error::protocol("the copy was accepted, but the answer does not say where to look after it"))?;
        let mut left = Duration::from_secs(args.wait);
        let mut wait = FIRST_WAIT;
        let mut state = json!({ "status": "notStarted", "monitor": monitor });
        while !left.is_zero() {
            // The copy goes on without us: a look that fails, or that there is no time for, is left to the caller.
            let nap = wait.min(left);
            if pause(cx, nap).await.is_err() {
                break;
            }
            left -= nap;
            wait = (wait * 2).min(LONGEST_WAIT);
            match look(engine, cx, monitor).await {
                Ok(seen) => state = seen,
                Err(error) if error.kind().is_passing() => {}
                Err(error) => return Err(error),
            }
            if state.get("monitor").is_none() {
                break;
            }
        }
        OpReply::from_value(state, call.decode)
    }
}

/// The native operation `msgraph_get_copy_status`.
#[derive(Debug)]
pub(crate) struct CopyStatus;

#[derive(Deserialize)]
struct StatusArgs {
    monitor: String,
}

#[async_trait]
impl NativeOperation for CopyStatus {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: StatusArgs = arguments(&call)?;
        OpReply::from_value(look(engine, cx, &args.monitor).await?, call.decode)
    }
}

/// One look. What is over has no `monitor` any more.
async fn look(engine: &Engine, cx: &CallCx, monitor: &str) -> Result<Value> {
    let reply = engine.send_raw(cx, Request::new(Method::GET, foreign_address(cx, monitor)?), false).await?;
    // Some services send to the copy once it is there.
    if reply.status == 303 {
        return Ok(json!({ "status": "completed", "percent": 100.0 }));
    }
    if !reply.is_success() {
        return Err(scrubbed(engine, cx, &reply));
    }
    let job: Value = serde_json::from_slice(&reply.body).map_err(|error| connector_core::connector::json_error(&error))?;
    let status = text(&job, "status").ok_or_else(|| Error::protocol("the report on the copy has no status"))?;
    let mut state = json!({ "status": status });
    let is_over = !matches!(status, "notStarted" | "inProgress" | "running" | "waiting" | "updating");
    for (name, value) in [("percent", &job["percentageComplete"]), ("item_id", &job["resourceId"]), ("error", &job["error"])] {
        if !value.is_null() {
            state[name] = value.clone();
        }
    }
    if !is_over {
        state["monitor"] = monitor.into();
    }
    Ok(state)
}

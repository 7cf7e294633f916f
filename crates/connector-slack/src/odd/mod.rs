//! What Slack does that no manifest can say, one named hook per oddity. Everything else is data.

pub(crate) mod find_channel;
pub(crate) mod respond;
pub(crate) mod send_once;
pub(crate) mod signature;
pub(crate) mod text;
pub(crate) mod upload_file;

use connector_core::{Error, ErrorKind, OpCall, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The arguments of a call as `T`; an absent one and a null one mean the same.
fn arguments<T: DeserializeOwned>(call: &OpCall) -> Result<T> {
    let given = call.args.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())).collect();
    serde_json::from_value(Value::Object(given))
        .map_err(|error| Error::invalid(format!("the arguments of `{}` do not fit together", call.operation)).with_source(error))
}

/// Whether a failed write may have happened all the same.
fn may_have_happened(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Transient | ErrorKind::Timeout | ErrorKind::Protocol)
}

/// The channel that is meant: the one a call names, or the connection's.
fn channel(cx: &connector_core::CallCx, given: Option<String>) -> Result<String> {
    given
        .or_else(|| cx.connection.setting("channel").map(str::to_owned))
        .filter(|channel| !channel.is_empty())
        .ok_or_else(|| Error::invalid("no channel is named; give the parameter `channel` or set `channel` on the connection"))
}

//! Small things every native operation needs: its arguments as a type, the mailbox it works on, a pause that minds the deadline.
//!
//! Types and presence were checked by the engine; defaults and settings were not filled in and are here.

use std::time::Duration;

use connector_core::{
    CallCx, Error, ErrorKind, OpCall, Result,
    clock::Instant,
    transport::{Body, Request},
};
use http::{HeaderValue, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The setting that names the mailbox used when a call names none.
const MAILBOX: &str = "mailbox";

/// The arguments of a call as `T`.
pub(crate) fn arguments<T: DeserializeOwned>(call: &OpCall) -> Result<T> {
    // An absent argument and a null one mean the same.
    let given = call.args.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())).collect();
    serde_json::from_value(Value::Object(given))
        .map_err(|error| Error::invalid(format!("the arguments of `{}` do not fit together", call.operation)).with_source(error))
}

/// The mailbox a call is about.
pub(crate) fn mailbox(cx: &CallCx, given: Option<&str>) -> Result<String> {
    given
        .or_else(|| cx.connection.setting(MAILBOX))
        .filter(|user| !user.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| Error::invalid("no mailbox is named; give the parameter `user` or set `mailbox` on the connection"))
}

/// Percent-encodes one segment of a relative address, as batch requests and resources need it.
pub(crate) fn segment(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}

/// Waits, unless the caller would be gone by then.
pub(crate) async fn pause(cx: &CallCx, time: Duration) -> Result<()> {
    if cx.time_left(Instant::now()).is_some_and(|left| left <= time) {
        return Err(Error::new(ErrorKind::Timeout, "the deadline leaves no time for another look"));
    }
    tokio::time::sleep(time).await;
    Ok(())
}

/// Whether a failed write may have happened all the same.
pub(crate) fn may_have_happened(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Transient | ErrorKind::Timeout | ErrorKind::Protocol)
}

/// A text field of an object, if it is there and not empty.
pub(crate) fn text<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.get(field)?.as_str().filter(|text| !text.is_empty())
}

/// The items of a page.
pub(crate) fn items(page: &Value) -> &[Value] {
    page.get("value").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A request to the connection's own API, for what no template describes. `path` is encoded already.
pub(crate) fn request(cx: &CallCx, method: http::Method, path: &str, body: Option<&Value>) -> Result<Request> {
    let url = format!("{}{path}", cx.connection.base());
    let url = url.parse().map_err(|error| Error::config("the address of the request cannot be parsed; check the base URL").with_source(error))?;
    let mut request = Request::new(method, url);
    request.head.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(body) = body {
        let body = serde_json::to_vec(body).map_err(|error| Error::internal("a body cannot be written as JSON").with_source(error))?;
        request.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = Body::from(bytes::Bytes::from(body));
    }
    Ok(request)
}

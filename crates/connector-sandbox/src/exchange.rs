//! One HTTP exchange as the fakes see it: a request already read into memory and a reply not yet written. It refuses to know any
//! vendor; helpers here only read paths, queries, headers and JSON.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// What a handler gives back: `Err` is also a reply, so `?` can leave early with the vendor's error body.
pub(crate) type Answer = Result<Reply, Reply>;

/// A request below `/<vendor>`, read completely.
#[derive(Clone, Debug)]
pub(crate) struct Req {
    pub(crate) method: Method,
    /// Path segments below the vendor, percent-decoded, empty ones dropped.
    pub(crate) segments: Vec<String>,
    /// Whether the path ended in `/` (NetBox insists on it).
    pub(crate) trailing_slash: bool,
    /// Query pairs, decoded, in order.
    pub(crate) query: Vec<(String, String)>,
    /// `scheme://host/<vendor>` as the caller reached it; links in replies start with it.
    pub(crate) base: String,
    /// Path and query below the vendor exactly as sent.
    pub(crate) path_and_query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Set by the fault plan: a delta request must answer that its cursor is gone.
    pub(crate) expire_cursor: bool,
}

impl Req {
    /// Takes a request apart; `below` is the path and query after the vendor's mount point.
    pub(crate) fn new(method: Method, base: String, below: &str, headers: HeaderMap, body: Bytes) -> Self {
        let (path, query) = below.split_once('?').unwrap_or((below, ""));
        Self {
            method,
            segments: path.split('/').filter(|s| !s.is_empty()).map(|s| percent_decode_str(s).decode_utf8_lossy().into_owned()).collect(),
            trailing_slash: path.ends_with('/'),
            query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            base,
            path_and_query: below.to_owned(),
            headers,
            body,
            expire_cursor: false,
        }
    }

    /// The segments as string slices, for matching.
    pub(crate) fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// First value of a query parameter.
    pub(crate) fn q(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// Whether a query parameter says yes. HubSpot's Python client writes `True`.
    pub(crate) fn q_true(&self, name: &str) -> bool {
        self.q(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A query parameter as a whole number; absent or unreadable gives the default.
    pub(crate) fn q_usize(&self, name: &str, default: usize) -> usize {
        self.q(name).and_then(|v| v.parse().ok()).unwrap_or(default)
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// The token of an `Authorization: Bearer …` header.
    pub(crate) fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// The body as JSON; an empty body is `null`.
    pub(crate) fn json(&self) -> Result<Value, serde_json::Error> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body)
    }

    /// The body as a URL-encoded form.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }
}

/// First value of a key in decoded form pairs.
pub(crate) fn field<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
}

/// A reply not yet on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl Reply {
    /// A JSON reply.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, "application/json", Bytes::from(body.to_string()))
    }

    /// A reply of any media type.
    pub(crate) fn bytes(status: u16, content_type: &str, body: Bytes) -> Self {
        Self::empty_with(status, body).with("content-type", content_type)
    }

    /// A reply without a body.
    pub(crate) fn empty(status: u16) -> Self {
        Self::empty_with(status, Bytes::new())
    }

    fn empty_with(status: u16, body: Bytes) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), headers: Vec::new(), body }
    }

    /// Adds a header; a value no header may carry is left out.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }

    /// Whether the status is 2xx.
    pub(crate) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// Whether the body is declared as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.headers.iter().any(|(k, v)| k == header::CONTENT_TYPE && v.as_bytes().starts_with(b"application/json"))
    }
}

//! Requests of a profile: filled, sent with a time limit, reads sent again when that may help, lists read page by page.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result, Retry,
    clock::ThreadRng,
    connector::json_error,
    resilience::{RetryPolicy, TimeoutPolicy, backoff},
    transport::Request,
};
use connector_manifest::{
    RawReply,
    template::{Args as _, Tree},
};
use http::{HeaderName, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use url::Url;

use super::{System, Vars};
use crate::profile::{Query, Verb, Words};

/// What stays as it is in a path segment: the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// A list with more pages than this goes in circles.
const MOST_PAGES: usize = 1_000;

/// The rows of a list.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Value>,
    /// There are more than were asked for.
    pub(crate) more: bool,
}

/// Filled query parameters, in order.
pub(crate) type Pairs = Vec<(String, String)>;

impl System<'_> {
    /// Empty values with the profile's escape rule and the connection's settings.
    pub(crate) fn vars(&self) -> Vars {
        let data_source = self.cx.connection.setting("data_source").unwrap_or("ServiceNow");
        Vars::new(self.profile.escape.as_deref()).with("data_source", data_source)
    }

    /// Fills a path. `{list}` and `{one}` are paths themselves, everything else is one encoded segment.
    pub(crate) fn path(&self, path: &Words, vars: &Vars) -> Result<String> {
        let filled = path.fill(|name| {
            let text = match vars.value(name)? {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            Some(Cow::Owned(if matches!(name, "list" | "one") { text } else { utf8_percent_encode(&text, SEGMENT).to_string() }))
        });
        filled.ok_or_else(|| Error::internal("a path of the profile cannot be filled"))
    }

    /// Fills query parameters. A value that is exactly one list repeats its key; one without a value is left out.
    pub(crate) fn pairs(&self, queries: &[&Query], vars: &Vars) -> Pairs {
        let mut pairs = Pairs::new();
        for (name, words) in queries.iter().flat_map(|query| query.iter()) {
            match words.as_param().and_then(|param| vars.value(param)) {
                Some(Value::Array(items)) => pairs.extend(items.iter().flat_map(super::texts).map(|text| (name.clone(), text))),
                Some(Value::String(text)) => pairs.push((name.clone(), text.clone())),
                _ => pairs.extend(words.fill(|param| vars.text(param)).map(|text| (name.clone(), text))),
            }
        }
        pairs
    }

    /// Reads one thing; `None` if there is none.
    pub(crate) async fn read(&self, path: &str, pairs: &[(String, String)]) -> Result<Option<Value>> {
        Ok(self.read_reply(path, pairs).await?.map(|(value, _)| value))
    }

    async fn read_reply(&self, path: &str, pairs: &[(String, String)]) -> Result<Option<(Value, RawReply)>> {
        let url = self.url(path, pairs)?;
        let policy = RetryPolicy::default();
        let mut sends = 0;
        loop {
            sends += 1;
            let error = match self.read_once(&url).await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let most = if error.is_timeout() { policy.timeout_attempts } else { policy.max_attempts };
            let floor = error.retry_after().unwrap_or_default();
            if matches!(error.retry(), Retry::Never | Retry::Exhausted) || floor > policy.inline_wait {
                return Err(error);
            }
            if sends >= most {
                // The layers outside must not start the whole operation over.
                return Err(error.with_retry(Retry::Exhausted).with_context("attempts", sends.to_string()));
            }
            let delay = backoff::full_jitter(policy.base_delay, policy.max_delay, sends - 1, &ThreadRng);
            tokio::time::sleep(delay.max(floor)).await;
        }
    }

    async fn read_once(&self, url: &Url) -> Result<Option<(Value, RawReply)>> {
        let reply = self.send(Request::new(Method::GET, url.clone()), TimeoutPolicy::default().read).await?;
        match reply.status {
            404 => Ok(None),
            _ if reply.is_success() => {
                let value = serde_json::from_slice(&reply.body).map_err(|error| json_error(&error))?;
                Ok(Some((value, reply)))
            }
            _ => Err(self.engine.error_for(self.cx, &reply)),
        }
    }

    /// Reads a list up to `most` rows.
    pub(crate) async fn list(&self, path: &str, pairs: &[(String, String)], most: usize) -> Result<Rows> {
        let page = &self.profile.page;
        let mut found = Rows::default();
        for number in 0..MOST_PAGES {
            let (size, offset) = (page.size.min(most).max(1), number * page.size.min(most).max(1));
            let mut asked = pairs.to_vec();
            asked.push((page.limit.clone(), size.to_string()));
            asked.push((page.offset.clone(), offset.to_string()));
            // An empty list is a 404 in ServiceNow's first API version.
            let Some((value, reply)) = self.read_reply(path, &asked).await? else { return Ok(found) };
            let rows = page.items.get(&value).and_then(Value::as_array);
            let rows = rows.ok_or_else(|| Error::protocol("the CMDB's answer has no list of records; is the base URL right?"))?;
            let count = rows.len();
            let room = most - found.rows.len();
            found.rows.extend(rows.iter().take(room).cloned());
            let in_header = page.total_header.as_ref().and_then(|name| reply.headers.get(name.as_str())?.to_str().ok()?.parse().ok());
            let total: Option<u64> = in_header.or_else(|| page.total.as_ref()?.get(&value)?.as_u64());
            let more = match total {
                Some(total) => u64::try_from(offset + size).is_ok_and(|seen| seen < total),
                None => count >= size,
            };
            if found.rows.len() >= most {
                found.more = more || count > room;
                return Ok(found);
            }
            if !more {
                return Ok(found);
            }
        }
        Err(Error::protocol("the CMDB's list has no end"))
    }

    /// Writes, once. What comes of an unclear outcome is decided by who asked.
    pub(crate) async fn write(
        &self,
        verb: Verb,
        path: &str,
        pairs: &[(String, String)],
        body: Option<&Value>,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Option<Value>> {
        let method = match verb {
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Delete => Method::DELETE,
        };
        let mut request = Request::new(method, self.url(path, pairs)?);
        if let Some(body) = body {
            let text = serde_json::to_vec(body).map_err(|error| Error::internal("a body could not be written as JSON").with_source(error))?;
            request.body = Bytes::from(text).into();
            request.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request.head.headers.extend(headers);
        let reply = self.send(request, TimeoutPolicy::default().write).await?;
        match reply.status {
            404 if verb == Verb::Delete => Ok(None),
            _ if !reply.is_success() => Err(self.engine.error_for(self.cx, &reply)),
            _ if reply.body.is_empty() => Ok(None),
            _ => serde_json::from_slice(&reply.body).map(Some).map_err(|error| json_error(&error)),
        }
    }

    /// The body of a write, filled.
    pub(crate) fn body(&self, body: &Value, vars: &Vars) -> Result<Value> {
        let tree = Tree::parse(body);
        // What goes into a body is JSON and needs no escaping.
        let filled = tree.filled(vars).map(serde_json::to_value).transpose();
        let filled = filled.map_err(|error| Error::internal("a body of the profile cannot be filled").with_source(error))?;
        Ok(filled.unwrap_or_default())
    }

    async fn send(&self, mut request: Request, limit: Duration) -> Result<RawReply> {
        request.head.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        match tokio::time::timeout(limit, self.engine.send_raw(self.cx, request, true)).await {
            Ok(reply) => reply,
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("the CMDB did not answer within {} s", limit.as_secs()))),
        }
    }

    fn url(&self, path: &str, pairs: &[(String, String)]) -> Result<Url> {
        let mut url = Url::parse(&format!("{}{path}", self.cx.connection.base()))
            .map_err(|error| Error::config("the address of a request cannot be parsed; check the base URL").with_source(error))?;
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        Ok(url)
    }
}

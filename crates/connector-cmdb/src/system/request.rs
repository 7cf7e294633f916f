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

use super::{System, Vars, wire::members};
use crate::profile::{Query, Verb, Wire, Words};

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
    /// How many there are in all, where the system tells it.
    pub(crate) total: Option<u64>,
}

/// Filled query parameters, in order.
pub(crate) type Pairs = Vec<(String, String)>;

impl System<'_> {
    /// Empty values with the profile's escape rule and the connection's settings.
    pub(crate) fn vars(&self) -> Vars {
        self.profile.settings.iter().fold(Vars::new(self.profile.escape.as_deref()), |vars, (name, usual)| {
            let value = self.cx.connection.setting(name).unwrap_or(usual);
            if value.is_empty() { vars } else { vars.with(name.clone(), value) }
        })
    }

    /// Fills a path. `{list}` and `{one}` are paths themselves, everything else is one encoded segment.
    pub(crate) fn path(&self, path: &Words, vars: &Vars) -> Result<String> {
        let filled = path.fill(|name| {
            let text = match vars.value(name)? {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            Some(Cow::Owned(if matches!(name, "list" | "one" | "from_one") { text } else { utf8_percent_encode(&text, SEGMENT).to_string() }))
        });
        filled.ok_or_else(|| Error::internal("a path of the profile cannot be filled"))
    }

    /// Fills query parameters. A value that is exactly one list repeats its key; one without a value is left out.
    pub(crate) fn pairs(&self, queries: &[&Query], vars: &Vars) -> Pairs {
        let mut pairs = Pairs::new();
        for (name, words) in queries.iter().flat_map(|query| query.iter()) {
            // What is said more closely replaces what is said in general.
            pairs.retain(|(known, _)| known != name);
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
        let policy = RetryPolicy::default();
        let mut sends = 0;
        loop {
            sends += 1;
            let error = match self.read_once(path, pairs).await {
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

    async fn read_once(&self, path: &str, pairs: &[(String, String)]) -> Result<Option<(Value, RawReply)>> {
        let limit = TimeoutPolicy::default().read;
        if let Some(wire) = &self.profile.wire {
            let reply = self.in_time(self.post(wire, members(&wire.fixed, pairs)), limit).await?;
            return match self.opened(wire, &reply, false) {
                Ok(value) => Ok(Some((value, reply))),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            };
        }
        let mut request = Request::new(Method::GET, self.url(path, pairs)?);
        request.head.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let reply = self.in_time(self.dispatch(request), limit).await?;
        match reply.status {
            404 => Ok(None),
            _ if reply.is_success() => {
                let mut value = serde_json::from_slice(&reply.body).map_err(|error| json_error(&error))?;
                self.flatten(&mut value);
                Ok(Some((value, reply)))
            }
            _ => Err(self.engine.error_for(self.cx, &reply)),
        }
    }

    /// The JSON of an answer of a system that fails inside a 200.
    fn opened(&self, wire: &Wire, reply: &RawReply, writes: bool) -> Result<Value> {
        if !reply.is_success() {
            return Err(self.engine.error_for(self.cx, reply));
        }
        let mut value = serde_json::from_slice(&reply.body).map_err(|error| json_error(&error))?;
        self.accepted(wire, &value, writes)?;
        self.flatten(&mut value);
        Ok(value)
    }

    /// Makes lists of the maps that are meant as lists.
    fn flatten(&self, value: &mut Value) {
        for at in &self.profile.maps {
            if let Some(place) = at.get_mut(value)
                && let Value::Object(map) = place
            {
                *place = Value::Array(std::mem::take(map).into_iter().map(|(_, value)| value).collect());
            }
        }
    }

    /// Reads a list up to `most` rows.
    pub(crate) async fn list(&self, path: &str, pairs: &[(String, String)], most: usize) -> Result<Rows> {
        self.list_from(path, pairs, 0, most).await
    }

    /// Reads a list from a row on.
    pub(crate) async fn list_from(&self, path: &str, pairs: &[(String, String)], start: usize, most: usize) -> Result<Rows> {
        let page = &self.profile.page;
        let paged = page.offset.is_some() || page.range.is_some() || page.number.is_some();
        let mut found = Rows::default();
        for number in 0..MOST_PAGES {
            // Numbered pages are all of one size, whatever is wanted of them.
            let size = if page.number.is_some() { page.size } else { page.size.min(most).max(1) };
            // A numbered page may start before the row that was asked for; without pages everything comes at once.
            let (first, skip) = match (&page.number, paged) {
                (Some(_), _) => (start / size * size, if number == 0 { start % size } else { 0 }),
                (None, false) => (start, start),
                (None, true) => (start, 0),
            };
            let offset = first + number * size;
            let mut asked = pairs.to_vec();
            asked.extend(page.limit.clone().map(|name| (name, size.to_string())));
            asked.extend(page.offset.clone().map(|name| (name, offset.to_string())));
            asked.extend(page.range.clone().map(|name| (name, format!("{offset}-{}", offset + size - 1))));
            asked.extend(page.number.clone().map(|name| (name, (offset / size + 1).to_string())));
            let answer = match self.read_reply(path, &asked).await {
                Err(error) if error.vendor_code().is_some_and(|code| page.end_codes.iter().any(|end| end == code)) => return Ok(found),
                other => other?,
            };
            // An empty list is a 404 in ServiceNow's first API version.
            let Some((value, reply)) = answer else { return Ok(found) };
            let rows = match page.items.get(&value) {
                Some(Value::Array(rows)) => rows.as_slice(),
                None | Some(Value::Object(_)) if page.absent_is_empty => &[],
                _ => return Err(Error::protocol("the CMDB's answer has no list of records; is the base URL right?")),
            };
            let count = rows.len();
            let room = most - found.rows.len();
            found.rows.extend(rows.iter().skip(skip).take(room).cloned());
            let in_header =
                page.total_header.as_ref().and_then(|name| reply.headers.get(name.as_str())?.to_str().ok()?.rsplit('/').next()?.parse().ok());
            let total: Option<u64> = in_header.or_else(|| page.total.as_ref()?.get(&value)?.as_u64());
            found.total = total;
            let more = match total {
                _ if !paged => false,
                Some(total) => u64::try_from(offset + size).is_ok_and(|seen| seen < total),
                None => count >= size,
            };
            if found.rows.len() >= most {
                found.more = more || count.saturating_sub(skip) > room;
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
        let limit = TimeoutPolicy::default().write;
        if let Some(wire) = &self.profile.wire {
            let mut all = members(&wire.fixed, pairs);
            if let Some(Value::Object(body)) = body {
                all.extend(body.clone());
            }
            let reply = self.in_time(self.post(wire, all), limit).await?;
            return self.opened(wire, &reply, true).map(Some);
        }
        let method = match verb {
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Delete => Method::DELETE,
        };
        let mut request = Request::new(method, self.url(path, pairs)?);
        request.head.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(body) = body {
            let text = serde_json::to_vec(body).map_err(|error| Error::internal("a body could not be written as JSON").with_source(error))?;
            request.body = Bytes::from(text).into();
            request.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request.head.headers.extend(headers);
        let reply = self.in_time(self.dispatch(request), limit).await?;
        match reply.status {
            404 if verb == Verb::Delete => Ok(None),
            // Part of it was done; these writes have one part.
            207 => Err(self.engine.error_for(self.cx, &reply)),
            _ if !reply.is_success() => Err(self.engine.error_for(self.cx, &reply)),
            _ if reply.body.is_empty() => Ok(None),
            _ => {
                let mut value = serde_json::from_slice(&reply.body).map_err(|error| json_error(&error))?;
                self.flatten(&mut value);
                Ok(Some(value))
            }
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

    async fn in_time(&self, send: impl Future<Output = Result<RawReply>> + Send, limit: Duration) -> Result<RawReply> {
        match tokio::time::timeout(limit, send).await {
            Ok(reply) => reply,
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("the CMDB did not answer within {} s", limit.as_secs()))),
        }
    }

    pub(super) fn url(&self, path: &str, pairs: &[(String, String)]) -> Result<Url> {
        let mut url = Url::parse(&format!("{}{path}", self.cx.connection.base()))
            .map_err(|error| Error::config("the address of a request cannot be parsed; check the base URL").with_source(error))?;
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        Ok(url)
    }
}

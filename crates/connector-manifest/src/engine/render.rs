//! From arguments to a request: URL, headers and body, built once and parsed once.

use std::fmt::Write as _;

use bytes::Bytes;
use connector_core::{CallCx, Cursor, Error, Result, transport::Head};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::Value;
use url::{Position, Url};

use super::{
    compile::HttpTool,
    escape,
    input::Arguments,
    paginate::{self, Paging},
};
use crate::{
    model::Encoding,
    template::{Args as _, Part, Template, Tree, scalar},
};

/// A request before authentication.
#[derive(Debug, Clone)]
pub(super) struct Rendered {
    pub(super) head: Head,
    pub(super) body: Bytes,
}

/// Room for what is set here, by authentication and by the transport, so that the map never grows.
const ADDED_HEADERS: usize = 10;

/// Renders the request of `tool` for these arguments, or for the next page of a listing.
pub(super) fn render(
    tool: &HttpTool,
    common: &[(HeaderName, Template)],
    cx: &CallCx,
    args: &Arguments<'_>,
    cursor: Option<&Cursor>,
) -> Result<Rendered> {
    let step = match (&tool.paging, cursor) {
        (Some(paging), Some(cursor)) => Some(paging.step(cursor, cx)?),
        (None, Some(_)) => return Err(Error::invalid("this operation is not paged; call it without a cursor")),
        (_, None) => None,
    };
    let url = match &step {
        Some(paginate::Step::Url(url)) => url.clone(),
        other => url(tool, cx, args, other.as_ref())?,
    };
    let (body, content_type) = body(tool, args, step.as_ref())?;
    let mut headers = HeaderMap::with_capacity(common.len() + tool.fixed_headers.len() + tool.headers.len() + ADDED_HEADERS);
    let accept = if tool.raw { const { HeaderValue::from_static("*/*") } } else { const { HeaderValue::from_static("application/json") } };
    headers.insert(header::ACCEPT, accept);
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, template) in common {
        let filled = template.fill(|setting| cx.connection.setting(setting).map(Into::into));
        if let Some(text) = filled {
            headers.insert(name.clone(), header_value(name, &text)?);
        }
    }
    for (name, value) in &tool.fixed_headers {
        headers.insert(name.clone(), value.clone());
    }
    for (name, template) in &tool.headers {
        if let Some(text) = template.fill(|param| args.text(param)) {
            headers.insert(name.clone(), header_value(name, &text)?);
        }
    }
    if let (Some(name), Some(key)) = (&tool.key_header, &cx.idempotency_key) {
        headers.insert(name.clone(), header_value(name, key)?);
    }
    if let Some(parent) = &cx.traceparent {
        let name = HeaderName::from_static("traceparent");
        headers.insert(name.clone(), header_value(&name, parent)?);
    }
    Ok(Rendered { head: Head { method: tool.method.clone(), url, headers }, body })
}

fn header_value(name: &HeaderName, text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::invalid(format!("the value for header `{name}` has line breaks or control characters")))
}

fn url(tool: &HttpTool, cx: &CallCx, args: &Arguments<'_>, step: Option<&paginate::Step>) -> Result<Url> {
    let base = cx.connection.base();
    let mut text = String::with_capacity(base.len() + 96);
    text.push_str(base);
    for part in &tool.path {
        match part {
            Part::Literal(literal) => text.push_str(literal),
            Part::Param(name) => {
                let value = args
                    .text(name)
                    .ok_or_else(|| Error::invalid(format!("parameter `{name}` is part of the address and must be given as text or a number")))?;
                let segment = escape::segment(&value)
                    .ok_or_else(|| Error::invalid(format!("parameter `{name}` is part of the address and cannot be empty, `.` or `..`")))?;
                text.push_str(&segment);
            }
        }
    }
    let mut query = Query { text: &mut text, first: !tool.path.iter().any(|part| matches!(part, Part::Literal(literal) if literal.contains('?'))) };
    let paged = step.and_then(paginate::Step::query);
    let mut size = tool.paging.as_ref().and_then(Paging::size_query);
    for (name, tree) in &tool.query {
        if paged.as_ref().is_some_and(|(param, _)| **param == **name) {
            continue;
        }
        if query.add(name, tree, args) && size.as_ref().is_some_and(|(param, _)| **param == **name) {
            size = None;
        }
    }
    if let Some((name, value)) = size {
        query.pair(name, &value.to_string());
    }
    if let Some((name, value)) = paged {
        query.pair(name, value);
    }
    parse(&text, cx).map_err(|error| Error::config("the address of the request cannot be parsed; check the base URL and the path").with_source(error))
}

/// Parses an address that begins with the connection's. Scheme, host and port were parsed when the connection was made and are taken over.
fn parse(text: &str, cx: &CallCx) -> Result<Url, url::ParseError> {
    let base = &cx.connection.base_url;
    let rest = text.strip_prefix(&base[..Position::BeforePath]);
    match rest.map(|rest| (rest, rest.as_bytes())) {
        // What begins with two slashes would name a host instead of a path.
        Some((rest, [b'/', second, ..])) if !matches!(second, b'/' | b'\\' | b'\t' | b'\n' | b'\r') => base.join(rest),
        _ => Url::parse(text),
    }
}

/// Appends query pairs to an address.
struct Query<'u> {
    text: &'u mut String,
    first: bool,
}

impl Query<'_> {
    fn pair(&mut self, name: &str, value: &str) {
        self.text.push(if std::mem::take(&mut self.first) { '?' } else { '&' });
        self.text.push_str(&escape::query(name));
        self.text.push('=');
        self.text.push_str(&escape::query(value));
    }

    /// Adds a templated pair; `false` if its parameter is absent.
    fn add(&mut self, name: &str, tree: &Tree, args: &Arguments<'_>) -> bool {
        match tree {
            Tree::Fixed(value) => self.value(name, value),
            Tree::Text(template) => match template.fill(|param| args.text(param)) {
                Some(text) => self.pair(name, &text),
                None => return false,
            },
            Tree::Param(param) => match args.value(param) {
                // A joined or escaped value is one text; a bare list repeats its key.
                Some(Value::Array(items)) if !args.joins(param) => items.iter().for_each(|item| self.value(name, item)),
                Some(Value::Object(map)) => self.value(name, &Value::Object(map.clone())),
                Some(_) => match args.text(param) {
                    Some(text) => self.pair(name, &text),
                    None => return false,
                },
                None => return false,
            },
            Tree::Array(items) => items.iter().for_each(|item| {
                self.add(name, item, args);
            }),
            Tree::Object(_) => match tree.filled(args).and_then(|filled| serde_json::to_string(&filled).ok()) {
                Some(text) => self.pair(name, &text),
                None => return false,
            },
        }
        true
    }

    fn value(&mut self, name: &str, value: &Value) {
        match (scalar(value), value) {
            (Some(text), _) => self.pair(name, &text),
            (None, Value::Array(items)) => items.iter().for_each(|item| self.value(name, item)),
            (None, Value::Null) => {}
            (None, other) => self.pair(name, &other.to_string()),
        }
    }
}

fn body(tool: &HttpTool, args: &Arguments<'_>, step: Option<&paginate::Step>) -> Result<(Bytes, Option<&'static str>)> {
    let unwritable = |error: serde_json::Error| Error::invalid("the body cannot be written as JSON").with_source(error);
    let in_body = step.and_then(paginate::Step::body);
    let size = tool.paging.as_ref().and_then(Paging::size_body);
    let filled = match &tool.body {
        Some(tree) => tree.filled(args),
        None if in_body.is_none() && size.is_none() => return Ok((Bytes::new(), None)),
        None => None,
    };
    let is_paged = in_body.is_some() || size.is_some();
    // What paging adds to a body that is an object; the caller's own page size wins.
    let paged = |value: &mut Value| {
        let map = value.as_object_mut().ok_or_else(|| Error::config("a paged body must be an object"))?;
        if let Some((name, size)) = size {
            map.entry(name).or_insert_with(|| size.into());
        }
        if let Some((name, cursor)) = in_body {
            map.insert(name.to_owned(), cursor);
        }
        Ok::<_, Error>(())
    };
    let object = || Value::Object(serde_json::Map::new());
    match tool.encoding {
        Encoding::Json if !is_paged => {
            let mut bytes = Vec::with_capacity(128);
            match &filled {
                Some(filled) => serde_json::to_writer(&mut bytes, filled).map_err(unwritable)?,
                None => bytes.extend_from_slice(b"{}"),
            }
            Ok((bytes.into(), Some("application/json")))
        }
        Encoding::Json => {
            let mut value = filled.map_or_else(|| Ok(object()), serde_json::to_value).map_err(unwritable)?;
            paged(&mut value)?;
            Ok((serde_json::to_vec(&value).map_err(unwritable)?.into(), Some("application/json")))
        }
        Encoding::Form => {
            let mut value = filled.map_or_else(|| Ok(object()), serde_json::to_value).map_err(unwritable)?;
            paged(&mut value)?;
            let mut text = String::new();
            form(&mut text, "", &value);
            Ok((text.into(), Some("application/x-www-form-urlencoded")))
        }
        Encoding::Text => {
            let value = filled.map_or(Ok(Value::Null), serde_json::to_value).map_err(unwritable)?;
            let text = scalar(&value).ok_or_else(|| Error::invalid("the body must be one text"))?;
            Ok((text.into_owned().into(), Some("text/plain")))
        }
    }
}

/// Writes nested values as `a[b][0]=c`.
fn form(text: &mut String, name: &str, value: &Value) {
    let nested = |key: &dyn std::fmt::Display| if name.is_empty() { key.to_string() } else { format!("{name}[{key}]") };
    match value {
        Value::Null => {}
        Value::Object(map) => map.iter().for_each(|(key, value)| form(text, &nested(key), value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| form(text, &nested(&index), value)),
        scalar_value => {
            if !text.is_empty() {
                text.push('&');
            }
            let value = scalar(scalar_value).unwrap_or_default();
            // Writing to a String cannot fail.
            write!(text, "{}={}", percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC), escape::query(&value))
                .unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use connector_core::Connection;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_shortcut_parses_what_the_parser_parses() {
        for base in ["https://api.example", "https://api.example/", "http://127.0.0.1:8080/v1", "https://api.example:8443/a/b/"] {
            let cx = CallCx::new(Arc::new(Connection::new("x", base).unwrap()));
            for path in [
                "",
                "/",
                "/a",
                "/a/b%2Fc?x=1&y=a%26b",
                "//evil.example/a",
                "/\\evil.example",
                "/\t/evil.example",
                "/../../x",
                "/a?b=//c",
                "/ä b",
                "?a=b",
                "/a#f",
            ] {
                let text = format!("{}{path}", cx.connection.base());
                assert_eq!(parse(&text, &cx), Url::parse(&text), "{text}");
            }
        }
    }
}

//! From one page to the next: what a cursor adds to a request, and the cursor a reply gives.

use std::borrow::Cow;

use connector_core::{CallCx, Cursor, Error, Result};
use http::{HeaderMap, header};
use serde_json::Value;
use url::Url;

use crate::{
    model::{CursorPlace, Pagination, PaginationKind},
    select::Path,
};

/// A listing that still goes on after this many pages goes in circles.
const MOST_PAGES: u64 = 10_000_000;
/// So does one that has given nothing for this many pages in a row. Vendors that filter after paging give some, but not as many.
const MOST_EMPTY_PAGES: u64 = 10_000;
/// A page above this many bytes is not looked into to see whether it is empty.
const EMPTY_PAGE: usize = 2 * 1024;

/// A compiled way of paging.
#[derive(Debug)]
pub(super) struct Paging {
    kind: PaginationKind,
    pub(super) items: Path,
    next: Option<Path>,
    param: Option<String>,
    place: CursorPlace,
    size_param: Option<String>,
    size: Option<u64>,
    start: u64,
    total: Option<Path>,
    key: Option<Path>,
    cap: Option<u64>,
}

/// What a cursor adds to a request.
#[derive(Debug)]
pub(super) enum Step {
    /// The whole address.
    Url(Url),
    /// One query parameter.
    Query(String, String),
    /// One member of the body.
    Body(String, Value),
}

impl Step {
    pub(super) fn query(&self) -> Option<(&String, &str)> {
        match self {
            Self::Query(name, value) => Some((name, value)),
            _ => None,
        }
    }

    pub(super) fn body(&self) -> Option<(&str, Value)> {
        match self {
            Self::Body(name, value) => Some((name, value.clone())),
            _ => None,
        }
    }
}

impl Paging {
    pub(super) fn compile(from: &Pagination) -> Result<Self, String> {
        let path = |text: &Option<String>| text.as_deref().map(Path::parse).transpose();
        let needs = |present: bool, what: &str| if present { Ok(()) } else { Err(format!("pagination of this kind needs `{what}`")) };
        match from.kind {
            PaginationKind::Cursor => needs(from.next.is_some(), "next").and(needs(from.param.is_some(), "param"))?,
            PaginationKind::NextUrl => needs(from.next.is_some(), "next")?,
            PaginationKind::LinkHeader => {}
            PaginationKind::Offset | PaginationKind::Page => needs(from.param.is_some(), "param")?,
            PaginationKind::Keyset => needs(from.param.is_some(), "param").and(needs(from.key.is_some(), "key"))?,
        }
        Ok(Self {
            kind: from.kind,
            items: Path::parse(&from.items)?,
            next: path(&from.next)?,
            param: from.param.clone(),
            place: from.place,
            size_param: from.size_param.clone(),
            size: from.size,
            start: from.start.unwrap_or(u64::from(from.kind == PaginationKind::Page)),
            total: path(&from.total)?,
            key: path(&from.key)?,
            cap: from.cap,
        })
    }

    /// The page size as a query pair, unless the caller named one.
    pub(super) fn size_query(&self) -> Option<(&String, u64)> {
        (self.place == CursorPlace::Query).then(|| self.size_param.as_ref().zip(self.size)).flatten()
    }

    /// The page size as a member of the body, unless the caller named one.
    pub(super) fn size_body(&self) -> Option<(String, u64)> {
        (self.place == CursorPlace::Body).then(|| self.size_param.clone().zip(self.size)).flatten()
    }

    /// What this cursor adds to the request.
    pub(super) fn step(&self, cursor: &Cursor, cx: &CallCx) -> Result<Step> {
        let (_, payload) = unwrap(cursor)?;
        if matches!(self.kind, PaginationKind::NextUrl | PaginationKind::LinkHeader) {
            return own_url(payload, cx).map(Step::Url);
        }
        let name = self.param.clone().unwrap_or_default();
        Ok(match self.place {
            CursorPlace::Query => Step::Query(name, payload.to_owned()),
            CursorPlace::Body => Step::Body(
                name,
                match self.kind {
                    PaginationKind::Offset | PaginationKind::Page => payload.parse::<u64>().map_or_else(|_| payload.into(), Value::from),
                    _ => payload.into(),
                },
            ),
        })
    }

    /// The cursor of the page after this reply; `None` at the end.
    pub(super) fn next(&self, cx: &CallCx, before: Option<&Cursor>, headers: &HeaderMap, body: &[u8]) -> Result<Option<Cursor>> {
        let (so_far, old) = before.map(unwrap).transpose()?.map_or((Count::default(), None), |(so_far, old)| (so_far, Some(old)));
        let payload: Option<Cow<'_, str>> = match self.kind {
            PaginationKind::Cursor => self.next.as_ref().and_then(|path| path.get_in_text(body)).and_then(text).map(Cow::Owned),
            PaginationKind::NextUrl => match self.next.as_ref().and_then(|path| path.get_in_text(body)).and_then(text) {
                Some(url) => Some(Cow::Owned(resolve(&url, cx)?)),
                None => None,
            },
            PaginationKind::LinkHeader => match next_link(headers) {
                Some(url) => Some(Cow::Owned(resolve(url, cx)?)),
                None => None,
            },
            PaginationKind::Offset | PaginationKind::Page | PaginationKind::Keyset => self.counted(old, body)?.map(Cow::Owned),
        };
        let Some(payload) = payload else { return Ok(None) };
        // Some vendors' cursors are offsets in disguise and end at the same wall.
        if self.kind == PaginationKind::Cursor && self.cap.zip(payload.parse().ok()).is_some_and(|(cap, at): (u64, u64)| at >= cap) {
            return Err(self.capped());
        }
        let count = Count { pages: so_far.pages + 1, empty: if self.is_empty(body) { so_far.empty + 1 } else { 0 } };
        if old == Some(&*payload) || count.pages > MOST_PAGES {
            return Err(Error::protocol("the listing goes in circles: the vendor named the same next page again").with_vendor_code("CursorLoop"));
        }
        if count.empty > MOST_EMPTY_PAGES {
            return Err(Error::protocol(format!("the listing goes in circles: {MOST_EMPTY_PAGES} pages in a row had nothing on them"))
                .with_vendor_code("CursorLoop"));
        }
        Ok(Some(wrap(count, &payload)))
    }

    fn is_empty(&self, body: &[u8]) -> bool {
        body.len() <= EMPTY_PAGE && self.items.get_in_text(body).is_none_or(|items| items.as_array().is_none_or(Vec::is_empty))
    }

    /// The vendor lists no further.
    fn capped(&self) -> Error {
        let cap = self.cap.unwrap_or_default();
        Error::invalid(format!("the vendor lists no more than {cap} results; narrow the query or split it by date")).with_vendor_code("ResultCap")
    }

    /// Kinds for which the next page follows from how much this one has.
    fn counted(&self, old: Option<&str>, body: &[u8]) -> Result<Option<String>> {
        let tree: Value = serde_json::from_slice(body).map_err(|error| connector_core::connector::json_error(&error))?;
        let empty = Vec::new();
        let items = self.items.get(&tree).and_then(Value::as_array).unwrap_or(&empty);
        let count = items.len() as u64;
        let total = self.total.as_ref().and_then(|path| path.get(&tree)).and_then(Value::as_u64);
        if count == 0 {
            return Ok(None);
        }
        let at = || old.map_or(Ok(self.start), |old| old.parse::<u64>().map_err(|_| Error::invalid("this cursor is not one of this listing's")));
        let full = self.size.is_none_or(|size| count >= size);
        match self.kind {
            PaginationKind::Keyset => {
                let key = items.last().zip(self.key.as_ref()).and_then(|(item, key)| key.text(item));
                Ok(key.filter(|_| full))
            }
            PaginationKind::Page => {
                let page = at()?;
                let seen = self.size.map(|size| (page + 1 - self.start) * size);
                let more = total.zip(seen).map_or(full, |(total, seen)| seen < total);
                Ok(more.then(|| (page + 1).to_string()))
            }
            _ => {
                let next = at()? + count;
                let more = total.map_or(full, |total| next < total + self.start);
                if more && self.cap.is_some_and(|cap| next >= cap) {
                    return Err(self.capped());
                }
                Ok(more.then(|| next.to_string()))
            }
        }
    }
}

/// How far a listing has come.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    pages: u64,
    /// How many of the last ones had nothing on them.
    empty: u64,
}

/// A cursor is the number of pages so far, that of the last empty ones if there were any, and the vendor's own mark: `3~after`, `3.1~after`.
fn wrap(count: Count, payload: &str) -> Cursor {
    match count {
        Count { pages, empty: 0 } => Cursor::new(format!("{pages}~{payload}")),
        Count { pages, empty } => Cursor::new(format!("{pages}.{empty}~{payload}")),
    }
}

fn unwrap(cursor: &Cursor) -> Result<(Count, &str)> {
    let count = |text: &str| {
        let (pages, empty) = text.split_once('.').unwrap_or((text, "0"));
        Some(Count { pages: pages.parse().ok()?, empty: empty.parse().ok()? })
    };
    cursor
        .as_str()
        .split_once('~')
        .and_then(|(so_far, payload)| Some((count(so_far)?, payload)))
        .ok_or_else(|| Error::invalid("this is not a cursor of ours; pass back the one a reply gave, unchanged"))
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A next address, made absolute and checked before anybody can follow it.
fn resolve(url: &str, cx: &CallCx) -> Result<String> {
    let url = cx.connection.base_url.join(url).map_err(|error| Error::protocol("the vendor's next page is not an address").with_source(error))?;
    own_url(url.as_str(), cx).map(String::from)
}

/// Only the connection's own origin is followed: the request carries its credential.
fn own_url(url: &str, cx: &CallCx) -> Result<Url> {
    let url = Url::parse(url).map_err(|error| Error::protocol("the vendor's next page is not an address").with_source(error))?;
    if url.origin() != cx.connection.base_url.origin() {
        return Err(Error::protocol("the vendor's next page is on another host; it was not followed, the credential stays here")
            .with_context("host", url.host_str().unwrap_or_default()));
    }
    Ok(url)
}

/// The `rel="next"` target of a `Link` header (RFC 8288).
fn next_link(headers: &HeaderMap) -> Option<&str> {
    headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok()).flat_map(split_links).find_map(|link| {
        let (target, params) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = params.split(';').filter_map(|param| param.trim().split_once('=')).any(|(name, value)| {
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
        });
        is_next.then_some(target)
    })
}

/// Commas separate links, except inside `<..>`.
fn split_links(header: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    header.split(move |c: char| {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            _ => {}
        }
        c == ',' && !inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use connector_core::Connection;
    use std::sync::Arc;

    fn cx() -> CallCx {
        CallCx::new(Arc::new(Connection::new("x", "https://api.example/v1").unwrap()))
    }

    fn paging(json: Value) -> Paging {
        Paging::compile(&serde_json::from_value(json).unwrap()).unwrap()
    }

    #[test]
    fn a_link_header_is_followed_only_on_our_own_host() {
        let paging = paging(serde_json::json!({ "kind": "link_header" }));
        let mut headers = HeaderMap::new();
        headers.insert(header::LINK, "<https://api.example/v1/a?x=1,2>; rel=\"first\", </v1/a?page=2>; rel=next".parse().unwrap());
        let next = paging.next(&cx(), None, &headers, b"[]").unwrap().unwrap();
        assert_eq!(next.as_str(), "1.1~https://api.example/v1/a?page=2");
        headers.insert(header::LINK, "<https://evil.example/a>; rel=next".parse().unwrap());
        assert!(paging.next(&cx(), None, &headers, b"[]").unwrap_err().to_string().contains("another host"));
    }

    #[test]
    fn the_same_next_page_again_is_a_loop() {
        let paging = paging(serde_json::json!({ "kind": "cursor", "next": ".next", "param": "after" }));
        let body = br#"{"next":"7"}"#;
        let first = paging.next(&cx(), None, &HeaderMap::new(), body).unwrap().unwrap();
        let error = paging.next(&cx(), Some(&first), &HeaderMap::new(), body).unwrap_err();
        assert_eq!(error.vendor_code(), Some("CursorLoop"));
    }

    #[test]
    fn offsets_end_at_the_total_and_stop_at_the_cap() {
        let paging = paging(serde_json::json!({ "kind": "offset", "param": "offset", "size": 2, "total": ".count", "cap": 4 }));
        let body = br#"{"count":3,"results":[1,2]}"#;
        let first = paging.next(&cx(), None, &HeaderMap::new(), body).unwrap().unwrap();
        assert_eq!(first.as_str(), "1~2");
        assert_eq!(paging.next(&cx(), Some(&first), &HeaderMap::new(), br#"{"count":3,"results":[3]}"#).unwrap(), None);
        let paging_by_cursor =
            Paging::compile(&serde_json::from_value(serde_json::json!({ "kind": "cursor", "next": ".after", "param": "after", "cap": 10 })).unwrap())
                .unwrap();
        assert_eq!(paging_by_cursor.next(&cx(), None, &HeaderMap::new(), br#"{"after":"10"}"#).unwrap_err().vendor_code(), Some("ResultCap"));
        let many = br#"{"count":30,"results":[1,2]}"#;
        assert_eq!(paging.next(&cx(), Some(&first), &HeaderMap::new(), many).unwrap_err().vendor_code(), Some("ResultCap"));
    }
}

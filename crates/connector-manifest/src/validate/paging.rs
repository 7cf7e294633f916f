//! Paging: each kind has what it needs and nothing it does not read.

use super::Check;
use crate::{
    model::{Pagination, PaginationKind},
    sources::child,
};

pub(super) fn check(check: &mut Check<'_>, key: &str, page: &Pagination) {
    use PaginationKind::{Cursor, Keyset, LinkHeader, NextUrl, Offset, Page};
    check.path(child(key, "items"), &page.items);
    for (name, path) in [("next", &page.next), ("total", &page.total), ("key", &page.key)] {
        if let Some(path) = path {
            check.path(child(key, name), path);
        }
    }
    let kind = match page.kind {
        Cursor => "cursor",
        NextUrl => "next_url",
        LinkHeader => "link_header",
        Offset => "offset",
        PaginationKind::Page => "page",
        Keyset => "keyset",
    };
    let mut needs = |present: bool, name: &str, why: &str| {
        if !present {
            check.error(key, format!("`{name}` is missing: `kind: {kind}` needs {why}"));
        }
    };
    match page.kind {
        Cursor => {
            needs(page.next.is_some(), "next", "the path of the next cursor in the reply");
            needs(page.param.is_some(), "param", "the request parameter that takes the cursor");
        }
        NextUrl => needs(page.next.is_some(), "next", "the path of the next address in the reply"),
        LinkHeader => {}
        Offset => needs(page.param.is_some(), "param", "the request parameter that takes the offset"),
        Page => needs(page.param.is_some(), "param", "the request parameter that takes the page number"),
        Keyset => {
            needs(page.param.is_some(), "param", "the request parameter that takes the last key");
            needs(page.key.is_some(), "key", "the path of the key in an item");
        }
    }
    let unread = [
        ("next", page.next.is_some() && !matches!(page.kind, Cursor | NextUrl)),
        ("param", page.param.is_some() && matches!(page.kind, NextUrl | LinkHeader)),
        ("key", page.key.is_some() && page.kind != Keyset),
        ("start", page.start.is_some() && !matches!(page.kind, Offset | Page)),
        ("cap", page.cap.is_some() && !matches!(page.kind, Offset | Cursor)),
    ];
    for (name, is_unread) in unread {
        if is_unread {
            check.warning(child(key, name), format!("`{name}` is not read with `kind: {kind}`"));
        }
    }
    if page.size.is_some() && page.size_param.is_none() {
        if matches!(page.kind, Offset | Page | Keyset) {
            check.hint(child(key, "size"), "`size` is not sent without `size_param`; it only tells when a page was full");
        } else {
            check.warning(child(key, "size"), "`size` is not sent without `size_param`");
        }
    }
    if let (Some(size), Some(greatest)) = (page.size, page.max_size)
        && size > greatest
    {
        check.error(child(key, "size"), format!("`size` is {size}, but the vendor accepts at most {greatest} (`max_size`)"));
    }
    if page.size == Some(0) {
        check.error(child(key, "size"), "`size: 0` asks for empty pages");
    }
}

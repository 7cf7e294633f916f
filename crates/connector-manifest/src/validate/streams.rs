//! Streams: what lists them exists and takes what it is given.

use super::{Check, Strictness, links, shown};
use crate::sources::child;

pub(super) fn check(check: &mut Check<'_>) {
    let manifest = check.manifest;
    for (name, stream) in &manifest.streams {
        let key = child("streams", name);
        check.path(child(&key, "key"), &stream.key);
        if stream.list == "native" {
            if check.strictness == Strictness::Custom {
                check.error(child(&key, "list"), "`list: native` means Rust code of a built-in connector; name the tool that lists changes");
            }
        } else if let Some(tool) = check.tool(child(&key, "list"), &stream.list) {
            // What the engine fills in (cursor values) is not known here, so only wrong names are errors.
            links::arguments(check, &child(&key, "params"), tool, stream.params.keys().map(String::as_str), false);
        }
        if let Some(cursor) = &stream.cursor {
            check.path(child(&child(&key, "cursor"), "field"), &cursor.field);
            if let Some(order) = cursor.order.as_deref()
                && !matches!(order, "asc" | "desc")
            {
                check.error(child(&child(&key, "cursor"), "order"), format!("`{}` is not an order; accepted: asc, desc", shown(order)));
            }
        }
        if let Some(deleted) = &stream.deleted
            && let Some(tool) = check.tool(child(&child(&key, "deleted"), "list"), &deleted.list)
        {
            links::arguments(check, &child(&child(&key, "deleted"), "params"), tool, deleted.params.keys().map(String::as_str), false);
        }
    }
}

//! Worked examples: there, and with arguments the tool takes. Whether they render and parse is the conformance suite's.

use super::{Check, links, shown};
use crate::{model::Tool, sources::child};

pub(super) fn check(check: &mut Check<'_>, key: &str, tool: &Tool) {
    let Some(example) = &tool.example else {
        check.expected(key, format!("`{}` has no `example`; it is the test, the documentation and the dry run", shown(&tool.name)));
        return;
    };
    let key = child(key, "example");
    links::arguments(check, &child(&key, "args"), tool, example.args.keys().map(String::as_str), true);
    if let Some(request) = &example.request {
        let known = ["method", "path", "query", "headers", "body"];
        match request.as_object() {
            None => check.error(child(&key, "request"), format!("`request` is a mapping of what the request must contain: {}", known.join(", "))),
            Some(map) => {
                for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
                    let message = format!("unknown key `{}`; accepted: {}", shown(name), known.join(", "));
                    check.error(child(&child(&key, "request"), name), message);
                }
            }
        }
    }
    for name in example.reply_headers.keys() {
        check.header(child(&child(&key, "reply_headers"), name), name);
    }
    if example.status.is_some_and(|status| !(100..600).contains(&status)) {
        check.error(child(&key, "status"), "a status is a number from 100 to 599");
    }
}

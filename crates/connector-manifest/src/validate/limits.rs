//! Limit classes: each `with` leads somewhere and never back, each `param:` key is a parameter of what draws from it.

use std::collections::HashSet;

use connector_core::spec::LimitKey;

use super::{Check, shown, suggestion};
use crate::{
    engine::allowance::Allowance,
    placeholders,
    sources::{child, item},
};

pub(super) fn check(check: &mut Check<'_>) {
    let manifest = check.manifest;
    let names = || manifest.limits.keys().map(String::as_str);
    for (name, class) in &manifest.limits {
        let key = child("limits", name);
        if let Some(with) = class.with.as_deref() {
            if manifest.limits.contains_key(with) {
                let mut seen = HashSet::from([name.as_str()]);
                let mut next = Some(with);
                while let Some(at) = next {
                    if !seen.insert(at) {
                        check.error(child(&key, "with"), format!("`{name}` leads back to `{at}` by `with`; limits must not go in circles"));
                        break;
                    }
                    next = manifest.limits.get(at).and_then(|class| class.with.as_deref());
                }
            } else {
                check.error(child(&key, "with"), format!("there is no limit class `{with}`{}", suggestion(with, names())));
            }
        }
        for (word, header) in [("remaining_header", &class.remaining_header), ("reset_header", &class.reset_header)] {
            if let Some(header) = header {
                check.header(child(&key, word), header);
            }
        }
        if let Some(form) = &class.remaining_form {
            let key = child(&key, "remaining_form");
            if let Err(why) = Allowance::compile(class) {
                check.error(key.clone(), why);
            }
            if class.remaining_header.is_none() {
                check.error(key, format!("`{}` says how a header tells what is left; name the header in `remaining_header`", shown(form)));
            }
        }
        if class.windows.is_empty() && class.concurrent.is_none() && class.with.is_none() {
            check.warning(key.clone(), format!("`{name}` limits nothing: it has neither `windows` nor `concurrent` nor `with`"));
        }
        let draws = |tool: &&crate::model::Tool| tool.limit_class.as_deref().unwrap_or("default") == name;
        if let LimitKey::Param(param) = &class.key {
            let mut tools = manifest.tools.iter().filter(draws).peekable();
            if tools.peek().is_some() && !tools.any(|tool| placeholders::all(tool).iter().any(|known| **known == **param)) {
                check.error(child(&key, "key"), format!("none of the tools of `{name}` has a parameter `{param}`"));
            }
        }
        if name != "default"
            && !manifest.tools.iter().any(|tool| draws(&tool))
            && !manifest.limits.values().any(|other| other.with.as_deref() == Some(name))
        {
            check.hint(key, format!("nothing draws from the limit class `{name}`"));
        }
    }
    for (at, tool) in manifest.tools.iter().enumerate() {
        if let Some(class) = tool.limit_class.as_deref().filter(|class| *class != "default")
            && !manifest.limits.contains_key(class)
        {
            check.error(child(&item("tools", at), "limit_class"), format!("there is no limit class `{class}`{}", suggestion(class, names())));
        }
    }
}

//! The head of a manifest: who it is, where it is, its settings and fixed headers.

use std::collections::HashSet;

use super::{Check, Strictness, address, is_name, shown};
use crate::{
    env,
    sources::{child, item},
};

pub(super) fn check(check: &mut Check<'_>) {
    let manifest = check.manifest;
    let id = manifest.id.as_deref().map_or(("connector", manifest.connector.as_str()), |id| ("id", id));
    // The same rule as for ids in ingress paths.
    let good = |id: &str| {
        (1..=63).contains(&id.len())
            && id.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
    };
    if !good(id.1) {
        check.error(
            id.0,
            format!("`{}` is not an id; use lower-case letters, digits, `-` and `_`, at most 63, starting with a letter or digit", shown(id.1)),
        );
    }
    if let Some(prefix) = &manifest.tool_prefix
        && (prefix.is_empty() || prefix.len() > 20 || !prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()))
    {
        check.error("tool_prefix", format!("`{}` is not a prefix; use lower-case letters and digits, at most 20, without `_`", shown(prefix)));
    }
    if manifest.name.trim().is_empty() {
        check.error("name", "`name` is empty; give the name people know it by");
    }
    if !is_version(&manifest.version) {
        check.error("version", format!("`{}` is not a version; write three numbers, for example `1.2.0`", shown(&manifest.version)));
    }
    if manifest.doc.is_empty() && check.strictness == Strictness::BuiltIn {
        check.error("doc", "`doc` is missing: say in a sentence what this links to");
    }
    if let Some(sunset) = manifest.api.as_ref().and_then(|api| api.sunset.as_deref())
        && sunset.parse::<jiff::civil::Date>().is_err()
    {
        check.error("api.sunset", format!("`{}` is not a date; write `YYYY-MM-DD`", shown(sunset)));
    }
    match &manifest.base_url {
        Some(base) => {
            check.settings_in("base_url", base);
            env_use(check, "base_url", base);
            address::report(check, "base_url", base);
        }
        None if manifest.tools.iter().any(|tool| tool.path.is_some()) => {
            check.hint("connector", "there is no `base_url`; every connection must name its own");
        }
        None => {}
    }
    settings(check);
    for (name, value) in &manifest.headers {
        let key = child("headers", name);
        check.header(key.clone(), name);
        check.settings_in(&key, value);
        env_use(check, &key, value);
        if value.chars().any(char::is_control) {
            check.error(key, format!("the value of header `{}` has a line break or another control character", shown(name)));
        }
    }
    if let Some(probe) = &manifest.probe
        && let Some(tool) = check.tool("probe.tool", &probe.tool)
    {
        if tool.effect() != connector_core::spec::Effect::Read {
            check.error("probe.tool", format!("`{}` changes something; a probe must be a read", probe.tool));
        }
        super::links::arguments(check, "probe.args", tool, probe.args.keys().map(String::as_str), true);
    }
    if manifest.tools.is_empty() && manifest.streams.is_empty() && manifest.events.is_empty() {
        check.warning("connector", "there are no `tools`, `events` or `streams`, so this connector does nothing");
    }
}

/// `${VAR}` where it is allowed: well written, and no secret.
pub(super) fn env_use(check: &mut Check<'_>, key: &str, text: &str) {
    match env::references(text) {
        Ok(references) => {
            for reference in references.iter().filter(|reference| reference.is_secret) {
                check.error(
                    key,
                    format!("`${{secret:{}}}` stands only in `auth`; a secret here would end up in logs and descriptions", shown(&reference.name)),
                );
            }
        }
        Err(message) => check.error(key, message),
    }
}

fn settings(check: &mut Check<'_>) {
    let mut seen = HashSet::new();
    for (at, setting) in check.manifest.settings.iter().enumerate() {
        let key = item("settings", at);
        if !is_name(&setting.name) {
            let message = format!("`{}` cannot stand in a placeholder; use letters, digits and `_`", shown(&setting.name));
            check.error(child(&key, "name"), message);
        }
        if !seen.insert(&setting.name) {
            check.error(child(&key, "name"), format!("the setting `{}` is declared twice", setting.name));
        }
        if let Some(name) = &setting.env
            && !env::is_variable(name)
        {
            check.error(child(&key, "env"), format!("`{}` is not the name of an environment variable", shown(name)));
        }
        if let Some(default) = &setting.default {
            env_use(check, &child(&key, "default"), default);
        }
        if ["password", "secret", "token", "api_key", "apikey"].iter().any(|word| setting.name.to_lowercase().contains(word)) {
            check.warning(
                child(&key, "name"),
                format!("the setting `{}` sounds like a secret; settings are shown to people, secrets belong into `auth`", shown(&setting.name)),
            );
        }
    }
}

fn is_version(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3 && numbers.iter().all(|number| !number.is_empty() && number.len() < 10 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

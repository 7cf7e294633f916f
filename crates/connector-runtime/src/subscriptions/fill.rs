//! Filling the texts of a kind with what is known about one subscription.

use std::{borrow::Cow, collections::BTreeMap};

use connector_core::{
    Connection, Error, Result,
    spec::{ExpiresAs, SubscriptionSpec},
};
use connector_manifest::{
    select::Path,
    template::{Args, Template, Tree, scalar},
};
use jiff::Timestamp;
use serde_json::{Map, Value};

/// Values by placeholder.
#[derive(Clone, Default)]
pub(super) struct Fill(BTreeMap<String, Value>);

impl Args for Fill {
    fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name).and_then(scalar)
    }
}

impl Fill {
    /// The parameters of a kind: those given, the connection's settings, the defaults.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] naming what is missing or unknown.
    pub(super) fn of(kind: &SubscriptionSpec, connection: &Connection, given: &Map<String, Value>) -> Result<Self> {
        let mut values = BTreeMap::new();
        if let Some(unknown) = given.keys().find(|name| !kind.params.contains_key(*name)) {
            let near = connector_core::suggest::nearest(unknown, kind.params.keys().map(String::as_str));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let unknown = connector_core::redact::printable(unknown, 60);
            return Err(Error::invalid(format!("subscriptions of the kind `{}` have no parameter `{unknown}`{hint}", kind.name)));
        }
        for (name, param) in &kind.params {
            let set = || param.setting.as_deref().and_then(|setting| connection.setting(setting)).map(Value::from);
            match given.get(name).filter(|value| !value.is_null()).cloned().or_else(set).or_else(|| param.default.clone()) {
                Some(value) if scalar(&value).is_some() => {
                    values.insert(name.clone(), value);
                }
                Some(_) => return Err(Error::invalid(format!("the parameter `{name}` of a subscription must be a text, a number or a boolean"))),
                None if param.required => {
                    return Err(Error::invalid(format!(
                        "the parameter `{name}` of a subscription of the kind `{}` is missing: {}",
                        kind.name, param.doc
                    )));
                }
                None => {}
            }
        }
        let mut fill = Self(values);
        if !kind.resource.is_empty() {
            let resource = fill.fill_text(&kind.resource)?;
            fill.set("resource", resource);
        }
        Ok(fill)
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The parameters alone.
    pub(super) fn params(&self) -> Map<String, Value> {
        self.0.iter().filter(|(name, _)| *name != "resource").map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if a placeholder has no value.
    pub(super) fn fill_text(&self, text: &str) -> Result<String> {
        Template::parse(text)
            .fill(|name| self.text(name))
            .ok_or_else(|| Error::config(format!("nothing fills a placeholder of `{text}` in the connector's `subscriptions`")))
    }

    /// A tree with its placeholders filled; what has no value is left out.
    pub(super) fn fill_value(&self, tree: &Value) -> Result<Value> {
        let tree = Tree::parse(tree);
        match tree.filled(self) {
            Some(filled) => serde_json::to_value(filled).map_err(|error| Error::internal("a template could not be filled").with_source(error)),
            None => Ok(Value::Null),
        }
    }

    pub(super) fn fill_args(&self, args: &Map<String, Value>) -> Result<Map<String, Value>> {
        let mut filled = Map::new();
        for (name, value) in args {
            match self.fill_value(value)? {
                Value::Null => {}
                value => {
                    filled.insert(name.clone(), value);
                }
            }
        }
        Ok(filled)
    }
}

/// What a path leads to.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if it is not a path.
pub(super) fn select(path: &str, value: &Value) -> Result<Value> {
    Path::parse(path).map(|path| path.select(value)).map_err(Error::config)
}

/// As [`select`], as text.
pub(super) fn select_text(path: &str, value: &Value) -> Result<Option<String>> {
    Ok(scalar(&select(path, value)?).map(Cow::into_owned))
}

/// The end of a life as the vendor writes it. Whole seconds: vendors cut off the rest.
pub(super) fn write_end(form: ExpiresAs, at: u64) -> Result<Value> {
    let seconds = i64::try_from(at / 1_000).unwrap_or(i64::MAX);
    Ok(match form {
        ExpiresAs::Rfc3339 => {
            let end =
                Timestamp::from_second(seconds).map_err(|error| Error::internal("the end of a subscription is out of range").with_source(error))?;
            end.to_string().into()
        }
        ExpiresAs::UnixMs => (seconds.saturating_mul(1_000)).into(),
        ExpiresAs::UnixS => seconds.into(),
    })
}

/// The end of a life in Unix milliseconds, as the vendor wrote it.
///
/// # Errors
/// [`connector_core::ErrorKind::Protocol`] if it is neither a date nor a number.
pub(super) fn read_end(form: ExpiresAs, value: &Value) -> Result<u64> {
    let text = scalar(value).unwrap_or_default();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let found = match form {
        ExpiresAs::Rfc3339 => text.parse::<Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok()),
        ExpiresAs::UnixMs => number(&text),
        ExpiresAs::UnixS => number(&text).map(|seconds| seconds.saturating_mul(1_000)),
    };
    found.ok_or_else(|| Error::protocol("the vendor says when a subscription ends in a form that is not the declared one"))
}

/// Whether two descriptions of a thing are the same: percent-encoding, the case of names, OData's quotes and the order of comma lists aside.
pub(super) fn alike(a: &str, b: &str) -> bool {
    let plain = |text: &str| {
        let decoded = url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D")).as_bytes())
            .next()
            .map_or_else(|| text.to_owned(), |(_, value)| value.into_owned());
        let mut parts: Vec<String> =
            decoded.trim_matches('/').replace("('", "/").replace("')", "").to_lowercase().split(',').map(|part| part.trim().to_owned()).collect();
        parts.sort();
        parts
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ends_are_read_and_written_in_every_form() {
        let at = 1_795_219_200_000;
        for form in [ExpiresAs::Rfc3339, ExpiresAs::UnixMs, ExpiresAs::UnixS] {
            assert_eq!(read_end(form, &write_end(form, at).unwrap()).unwrap(), at, "{form:?}");
        }
        // Jira's offset and Google's number in quotes.
        assert_eq!(read_end(ExpiresAs::Rfc3339, &json!("2026-02-01T00:00:00.000+0000")).unwrap(), 1_769_904_000_000);
        assert_eq!(read_end(ExpiresAs::UnixMs, &json!("1764000000000")).unwrap(), 1_764_000_000_000);
        assert!(read_end(ExpiresAs::Rfc3339, &json!("soon")).is_err());
    }

    #[test]
    fn what_a_vendor_writes_differently_is_still_the_same() {
        assert!(alike("/users/a@b.c/mailFolders('Inbox')/messages", "users/a%40b.c/mailfolders/inbox/messages"));
        assert!(alike("updated, created", "created,updated"));
        assert!(!alike("created", "created,updated"));
        assert!(!alike("https://hub.example/a", "https://hub.example/b"));
    }
}

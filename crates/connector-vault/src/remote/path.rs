//! Where a tenant's secret lies in a manager: a template such as `connectors/{tenant}/{name}`.
//!
//! Refuses everything that could lead out of the place it names: placeholders that share a segment with something else, tenants and
//! names with slashes, percent signs, leading dots or anything but plain characters.

use connector_core::{Error, Result, TenantId, redact::printable};

/// The longest tenant or name, in characters.
const MAX_SEGMENT: usize = 128;

/// A path with `{tenant}` and `{name}` in it. Without `{tenant}` it serves the default tenant only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Fixed(String),
    Tenant,
    Name,
}

impl PathTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if `{name}` is missing, a placeholder is not a whole segment (`{tenant}-{name}` would
    /// let two tenants meet), or a fixed segment is not plain.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| Error::config(format!("the path `{}` {why}; write it like `connectors/{{tenant}}/{{name}}`", printable(text, 120)));
        let parts = text
            .trim_matches('/')
            .split('/')
            .map(|part| match part {
                "{tenant}" => Ok(Part::Tenant),
                "{name}" => Ok(Part::Name),
                part if part.contains(['{', '}']) => Err(refuse("has a placeholder that is not a whole segment")),
                part if !is_plain(part) => Err(refuse("has a segment that is not letters, digits, `-`, `_`, `.` or `@`")),
                part => Ok(Part::Fixed(part.to_owned())),
            })
            .collect::<Result<Vec<_>>>()?;
        let count = |wanted: &Part| parts.iter().filter(|part| *part == wanted).count();
        if count(&Part::Name) != 1 {
            return Err(refuse("must have `{name}` once"));
        }
        if count(&Part::Tenant) > 1 {
            return Err(refuse("has `{tenant}` more than once"));
        }
        Ok(Self { parts })
    }

    /// The segments for a tenant's secret; `None` if this place is not for that tenant.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if tenant or name cannot be a segment.
    pub fn fill(&self, tenant: &TenantId, name: &str) -> Result<Option<Vec<String>>> {
        check("secret", name)?;
        if !self.parts.contains(&Part::Tenant) {
            if *tenant != TenantId::default() {
                return Ok(None);
            }
        } else {
            check("tenant", tenant.as_str())?;
        }
        let filled = self.parts.iter().map(|part| match part {
            Part::Fixed(text) => text.clone(),
            Part::Tenant => tenant.as_str().to_owned(),
            Part::Name => name.to_owned(),
        });
        Ok(Some(filled.collect()))
    }

    /// The path with `*` for what varies, as a policy would name it.
    pub(crate) fn pattern(&self, any: &str) -> String {
        let shown: Vec<&str> = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Fixed(text) => text.as_str(),
                Part::Tenant | Part::Name => any,
            })
            .collect();
        shown.join("/")
    }
}

/// Refuses a tenant or name that cannot be one segment of a path.
pub(crate) fn check(what: &str, text: &str) -> Result<()> {
    if is_plain(text) {
        return Ok(());
    }
    Err(Error::config(format!(
        "`{}` cannot name a {what} in an external store: letters, digits, `-`, `_`, `.` and `@`, not starting with `.`, at most {MAX_SEGMENT}",
        printable(text, 80)
    )))
}

/// One segment that means the same to every server, proxy and file system on the way: nothing to decode, nothing to climb with.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_SEGMENT
        && !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@'))
}

/// Names that try to get somewhere else.
#[cfg(test)]
pub(crate) const HOSTILE: [&str; 18] = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/a",
    "a/",
    "a\\b",
    "%2e%2e",
    "a%2fb",
    "a\0b",
    "a\r\nX: y",
    "a?version=1",
    "a#b",
    "a b",
    "${HOME}",
    "\u{202e}x",
    ".hidden",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_whole_segments_and_tenants_cannot_meet() {
        for wrong in [
            "",
            "connectors",
            "{name}/{name}",
            "{tenant}-{name}",
            "{tenant}/{tenant}/{name}",
            "a//{name}",
            "../{name}",
            "a/{nam}/{name}",
            "a b/{name}",
        ] {
            let error = PathTemplate::parse(wrong).unwrap_err();
            assert_eq!(error.kind(), connector_core::ErrorKind::Config, "{wrong}");
        }
        let template = PathTemplate::parse("/connectors/{tenant}/{name}").unwrap();
        assert_eq!(template.fill(&"acme".into(), "slack").unwrap().unwrap(), ["connectors", "acme", "slack"]);
        assert_eq!(template.pattern("*"), "connectors/*/*");
    }

    #[test]
    fn hostile_tenants_and_names_are_refused() {
        let template = PathTemplate::parse("connectors/{tenant}/{name}").unwrap();
        for hostile in HOSTILE.iter().copied().chain([&*"x".repeat(129)]) {
            assert!(template.fill(&"acme".into(), hostile).is_err(), "{hostile:?} as a name");
            assert!(template.fill(&hostile.into(), "slack").is_err(), "{hostile:?} as a tenant");
        }
    }

    #[test]
    fn a_place_without_a_tenant_is_for_the_default_tenant() {
        let template = PathTemplate::parse("shared/{name}").unwrap();
        assert_eq!(template.fill(&TenantId::default(), "slack").unwrap().unwrap(), ["shared", "slack"]);
        assert_eq!(template.fill(&"acme".into(), "slack").unwrap(), None);
    }
}

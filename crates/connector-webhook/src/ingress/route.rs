//! The address of a webhook: `/api/v1/webhooks/{connector_id}/{workspace_id}`.
//!
//! Ids are names, never paths: one decode, a narrow alphabet, and anything else is not found.

/// Where webhooks arrive, up to the ids.
pub const PREFIX: &str = "/api/v1/webhooks/";

/// The two ids in a webhook's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressRoute {
    /// The connector.
    pub connector: String,
    /// The workspace.
    pub workspace: String,
}

impl IngressRoute {
    /// Reads a path as it arrived, not yet decoded. `None`: answer as for an address that does not exist.
    pub fn parse(path: &str) -> Option<Self> {
        let (connector, workspace) = path.strip_prefix(PREFIX)?.split_once('/')?;
        Some(Self { connector: path_id(connector)?, workspace: path_id(workspace)? })
    }

    /// The public URL of this webhook under `base` (no slash at its end).
    pub fn url(&self, base: &str) -> String {
        format!("{}{PREFIX}{}/{}", base.trim_end_matches('/'), self.connector, self.workspace)
    }
}

/// One path segment as an id: decoded once, then `[a-z0-9][a-z0-9_-]{0,62}` and nothing else.
pub fn path_id(segment: &str) -> Option<String> {
    let id = decode(segment)?;
    let sound = |at: usize, byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || (at > 0 && matches!(byte, b'_' | b'-'));
    ((1..=63).contains(&id.len()) && id.bytes().enumerate().all(|(at, byte)| sound(at, byte))).then_some(id)
}

fn decode(segment: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let (high, low) = (char::from(bytes.next()?).to_digit(16)?, char::from(bytes.next()?).to_digit(16)?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_and_nothing_else() {
        assert_eq!(path_id("erp-system"), Some("erp-system".to_owned()));
        assert_eq!(path_id("%65rp"), Some("erp".to_owned()));
        assert_eq!(path_id(&"a".repeat(63)), Some("a".repeat(63)));
        let long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "%2e%2e%2f",
            "%252e",
            "..;",
            "a%00",
            "a%",
            "a%2",
            "a%zz",
            "Erp",
            "-a",
            "_a",
            "a.b",
            "a/b",
            "a\u{202e}b",
            "é",
            &long,
        ] {
            assert_eq!(path_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_path_has_exactly_two_ids() {
        let route = IngressRoute::parse("/api/v1/webhooks/hubspot/ws_sales").unwrap();
        assert_eq!((route.connector.as_str(), route.workspace.as_str()), ("hubspot", "ws_sales"));
        assert_eq!(route.url("https://hub.example/"), "https://hub.example/api/v1/webhooks/hubspot/ws_sales");
        for bad in ["/api/v1/webhooks/hubspot", "/api/v1/webhooks/hubspot/", "/api/v1/webhooks/a/b/c", "/api/v1/webhooks//b", "/webhooks/a/b"] {
            assert_eq!(IngressRoute::parse(bad), None, "{bad}");
        }
    }
}

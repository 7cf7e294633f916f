//! How often a vendor may be asked: windows, concurrency and what shares a quota.

use std::{str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// At most `limit` calls in any rolling `per`. Written `100/10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// The published number of calls.
    pub limit: u32,
    /// The length of the rolling window.
    pub per: Duration,
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a window; write calls per time, for example `100/10s` or `250000/1d`");
        let (limit, per) = text.split_once('/').ok_or_else(wrong)?;
        let limit: u32 = limit.trim().parse().map_err(|_| wrong())?;
        let per = parse_duration(per.trim()).ok_or_else(wrong)?;
        if limit == 0 || per.is_zero() {
            return Err(format!("`{text}` allows nothing; calls and time must be above 0"));
        }
        Ok(Self { limit, per })
    }
}

/// Parses `5ms`, `10s`, `2m`, `3h` or `1d`; a bare unit means one of it.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = if number.is_empty() { 1 } else { number.parse().ok()? };
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        let millis = window.per.as_millis();
        let (number, unit) = match millis {
            m if m % 86_400_000 == 0 => (m / 86_400_000, "d"),
            m if m % 3_600_000 == 0 => (m / 3_600_000, "h"),
            m if m % 60_000 == 0 => (m / 60_000, "m"),
            m if m % 1_000 == 0 => (m / 1_000, "s"),
            m => (m, "ms"),
        };
        format!("{}/{number}{unit}", window.limit)
    }
}

/// What shares a quota.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LimitKey {
    /// Each connection has its own.
    #[default]
    Connection,
    /// All connections of a tenant share it.
    Tenant,
    /// All connections of this process share it (an app-wide limit).
    Connector,
    /// Each value of this parameter has its own, within a connection (a channel, a mailbox).
    Param(Arc<str>),
}

impl TryFrom<String> for LimitKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "connection" => Ok(Self::Connection),
            "tenant" => Ok(Self::Tenant),
            "connector" => Ok(Self::Connector),
            other => match other.strip_prefix("param:") {
                Some(name) if !name.is_empty() => Ok(Self::Param(name.into())),
                _ => Err(format!("`{other}` is not a limit key; accepted: connection, tenant, connector, param:NAME")),
            },
        }
    }
}

impl From<LimitKey> for String {
    fn from(key: LimitKey) -> Self {
        match key {
            LimitKey::Connection => "connection".into(),
            LimitKey::Tenant => "tenant".into(),
            LimitKey::Connector => "connector".into(),
            LimitKey::Param(name) => format!("param:{name}"),
        }
    }
}

/// One limit class. All its windows hold at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// The published windows; 90 % of each is used by default.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// What shares the quota.
    #[serde(default)]
    pub key: LimitKey,
    /// The most calls in flight at once for the same key; 10 for `default` if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
    /// Another class whose limits hold as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<Arc<str>>,
    /// A response header that tells how many calls are left in the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_header: Option<String>,
    /// How that header tells it, if it is not a bare number: `api-usage={used}/{limit}`, or `left={remaining}`. Of a limit that is told, a tenth
    /// is kept in reserve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_form: Option<String>,
    /// A response header that tells when the window resets (seconds from now, Unix seconds or an HTTP/ISO date).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_header: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_read_and_write_as_text() {
        for text in ["100/10s", "250000/1d", "5/1s", "30/1m", "7/250ms"] {
            assert_eq!(String::from(text.parse::<Window>().unwrap()), text);
        }
        for text in ["100", "0/1s", "5/0s", "x/1s", "5/1y", "-1/1s"] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }
}

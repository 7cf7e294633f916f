//! One CMDB as a call sees it: its profile, and the requests that the profile describes.

mod items;
mod known;
mod links;
mod relate;
mod relations;
mod request;
mod vars;
mod wire;

use std::sync::Arc;

use connector_core::{CallCx, Error, Result};
use connector_manifest::Engine;
use serde_json::Value;

use crate::{
    neutral::Ci,
    profile::{At, IdFormat, IdStyle, Profile, Times},
};

pub(crate) use known::{Known, Wanted};
pub(crate) use relations::Graph;
pub(crate) use vars::Vars;
pub(crate) use wire::Sessions;

/// A CMDB during one call.
#[derive(Clone, Copy)]
pub(crate) struct System<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) cx: &'a CallCx,
    pub(crate) profile: &'a Arc<Profile>,
    pub(crate) sessions: &'a Sessions,
}

/// A neutral id, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CiId {
    /// As callers know it.
    pub(crate) whole: String,
    /// The system's class, where the id tells it.
    pub(crate) native_class: Option<String>,
    /// The system's id.
    pub(crate) native: String,
}

impl CiId {
    /// The system's id as it goes into a body.
    pub(crate) fn value(&self, format: IdFormat) -> Value {
        match format {
            IdFormat::Integer => self.native.parse::<u64>().map_or_else(|_| self.native.clone().into(), Value::from),
            _ => self.native.clone().into(),
        }
    }
}

impl System<'_> {
    /// Takes a neutral id apart. Only ids of the system's own form pass, so an id can never be more than an id in a query.
    pub(crate) fn id(&self, text: &str) -> Result<CiId> {
        let ids = &self.profile.ids;
        let (native_class, native) = match ids.style {
            IdStyle::Plain => (None, text),
            IdStyle::Typed => match text.rsplit_once(':') {
                Some((class, native)) if self.profile.native_class(class).is_some() => (Some(class.to_owned()), native),
                _ => return Err(self.wrong_id(text)),
            },
        };
        let fits = match ids.format {
            IdFormat::Integer => !native.is_empty() && native.len() < 20 && native.bytes().all(|byte| byte.is_ascii_digit()),
            IdFormat::Hex32 => native.len() == 32 && native.bytes().all(|byte| byte.is_ascii_hexdigit()),
            IdFormat::Token => {
                (1..=64).contains(&native.len()) && native.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
            }
            IdFormat::Uuid => native.len() == 36 && native.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'),
        };
        if fits { Ok(CiId { whole: text.to_owned(), native_class, native: native.to_owned() }) } else { Err(self.wrong_id(text)) }
    }

    fn wrong_id(&self, text: &str) -> Error {
        let looks = match (self.profile.ids.style, self.profile.ids.format) {
            (IdStyle::Typed, _) => {
                let classes: Vec<&str> = self.profile.classes.0.iter().map(|class| class.native.as_str()).collect();
                format!("CLASS:ID with one of the classes {}", classes.join(", "))
            }
            (IdStyle::Plain, IdFormat::Hex32) => "32 hexadecimal digits (a sys_id)".to_owned(),
            (IdStyle::Plain, IdFormat::Uuid) => "a UUID".to_owned(),
            (IdStyle::Plain, IdFormat::Integer) => "a number".to_owned(),
            (IdStyle::Plain, IdFormat::Token) => "letters, digits, dots, dashes and underscores".to_owned(),
        };
        let text = connector_core::redact::printable(text, 60);
        Error::invalid(format!("`{text}` is not an id of {}; it looks like {looks}; cmdb_find_ci_by_name finds ids", self.profile.name))
    }

    /// The neutral id of what the system calls `native` in `class`.
    pub(crate) fn whole_id(&self, native_class: &str, native: &str) -> String {
        match self.profile.ids.style {
            IdStyle::Typed => format!("{native_class}:{native}"),
            IdStyle::Plain => native.to_owned(),
        }
    }

    /// A record in the neutral shape.
    pub(crate) fn ci(&self, native_class: Option<&str>, record: &Value) -> Result<Ci> {
        let fields = &self.profile.fields;
        let text = |at: &Option<At>| at.as_ref().and_then(|at| at.text(record)).filter(|text| self.says(text));
        let native_id = fields.id.text(record).ok_or_else(|| Error::protocol("a record of the CMDB has no id"))?;
        let native_class = text(&fields.class).or_else(|| native_class.map(str::to_owned)).unwrap_or_default();
        let ips = fields.ips.iter().flat_map(|at| texts(&at.select(record)));
        let mut seen = Vec::new();
        for ip in ips {
            // NetBox writes addresses with their prefix length.
            let ip = ip.split('/').next().unwrap_or_default().to_owned();
            if self.says(&ip) && !seen.contains(&ip) {
                seen.push(ip);
            }
        }
        Ok(Ci {
            id: self.whole_id(&native_class, &native_id),
            system: self.profile.profile.clone(),
            name: fields.name.text(record).unwrap_or_default(),
            class: self.profile.class_name(&native_class),
            native_class,
            native_id,
            status: text(&fields.status),
            serial: text(&fields.serial),
            ips: seen,
            owner: text(&fields.owner),
            updated_at: text(&fields.updated_at).map(|time| self.rfc3339(&time)),
            url: text(&fields.url),
            attributes: None,
        })
    }

    /// Whether a text of the system says anything.
    pub(crate) fn says(&self, text: &str) -> bool {
        !text.is_empty() && !self.profile.nothing.iter().any(|nothing| nothing == text)
    }

    /// An RFC 3339 time as the system writes times; `None` if it is none.
    pub(crate) fn system_time(&self, time: &str) -> Option<String> {
        let time: jiff::Timestamp = time.parse().ok()?;
        Some(match self.profile.times {
            Times::UtcSpace => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            Times::Rfc3339 => time.to_string(),
        })
    }

    /// A time of the system as RFC 3339.
    pub(crate) fn rfc3339(&self, time: &str) -> String {
        match self.profile.times {
            Times::UtcSpace if time.len() == 19 && time.as_bytes().get(10) == Some(&b' ') => format!("{}T{}Z", &time[..10], &time[11..]),
            _ => time.to_owned(),
        }
    }
}

/// One text, or each of a list.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        _ => Vec::new(),
    }
}

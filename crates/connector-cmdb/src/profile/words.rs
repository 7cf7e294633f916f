//! The two small languages of a profile: templates and paths, parsed once when the profile is read.

use std::ops::Deref;

use connector_manifest::{select::Path, template::Template};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

/// A text with `{placeholders}`.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(transparent)]
pub(crate) struct Words(#[schemars(with = "String")] pub(crate) Template);

impl Words {
    /// No path below the base URL.
    pub(crate) fn root() -> Self {
        Self(Template::parse(""))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Template::parse(&text)))
    }
}

impl Deref for Words {
    type Target = Template;

    fn deref(&self) -> &Template {
        &self.0
    }
}

/// A path into a reply.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(transparent)]
pub(crate) struct At(#[schemars(with = "String")] Path);

impl At {
    /// The whole value.
    pub(crate) fn whole() -> Self {
        Self(Path::parse(".").expect("`.` is a path"))
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Path::parse(&String::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
    }
}

impl Deref for At {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

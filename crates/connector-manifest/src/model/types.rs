//! The types a manifest names: `string`, `array<Contact>`, `map<string?>`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::is_default;

/// A type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TypeExpr {
    /// Anything.
    #[default]
    Any,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// An RFC 3339 date and time.
    Datetime,
    /// A date, `YYYY-MM-DD`.
    Date,
    /// An object of any shape.
    Object,
    /// Bytes that are not JSON (a MIME message, a file).
    Raw,
    /// Nothing.
    None,
    /// A list.
    Array(Box<TypeExpr>),
    /// An object with values of one type.
    Map(Box<TypeExpr>),
    /// Or null.
    Nullable(Box<TypeExpr>),
    /// A model of the manifest.
    Model(String),
}

impl FromStr for TypeExpr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // Types nest, and so does reading them: no type anybody means is this long.
        if text.len() > 200 {
            return Err("a type is longer than 200 characters; declare a model instead".to_owned());
        }
        if let Some(inner) = text.strip_suffix('?') {
            return Ok(Self::Nullable(Box::new(inner.parse()?)));
        }
        for (prefix, wrap) in [("array<", Self::Array as fn(Box<Self>) -> Self), ("map<", Self::Map)] {
            if let Some(inner) = text.strip_prefix(prefix) {
                let inner = inner.strip_suffix('>').ok_or_else(|| format!("type `{text}` has no closing `>`"))?;
                return Ok(wrap(Box::new(inner.parse()?)));
            }
        }
        Ok(match text {
            "any" => Self::Any,
            "string" => Self::String,
            "integer" | "int" => Self::Integer,
            "number" => Self::Number,
            "boolean" | "bool" => Self::Boolean,
            "datetime" => Self::Datetime,
            "date" => Self::Date,
            "object" => Self::Object,
            "array" => Self::Array(Box::new(Self::Any)),
            "map" => Self::Map(Box::new(Self::Any)),
            "raw" => Self::Raw,
            "none" => Self::None,
            name if name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric()) => {
                Self::Model(name.to_owned())
            }
            other => {
                return Err(format!(
                    "`{other}` is not a type; accepted: any, string, integer, number, boolean, datetime, date, object, raw, none, array<T>, map<T>, T?, or a model's name (CamelCase)"
                ));
            }
        })
    }
}

impl fmt::Display for TypeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::String => f.write_str("string"),
            Self::Integer => f.write_str("integer"),
            Self::Number => f.write_str("number"),
            Self::Boolean => f.write_str("boolean"),
            Self::Datetime => f.write_str("datetime"),
            Self::Date => f.write_str("date"),
            Self::Object => f.write_str("object"),
            Self::Raw => f.write_str("raw"),
            Self::None => f.write_str("none"),
            Self::Array(inner) => write!(f, "array<{inner}>"),
            Self::Map(inner) => write!(f, "map<{inner}>"),
            Self::Nullable(inner) => write!(f, "{inner}?"),
            Self::Model(name) => f.write_str(name),
        }
    }
}

impl Serialize for TypeExpr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TypeExpr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for TypeExpr {
    fn schema_name() -> Cow<'static, str> {
        "Type".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "any, string, integer, number, boolean, datetime, date, object, raw, none, array<T>, map<T>, T? or a model's name" })
    }
}

/// The shape of a record. Vendors add fields at any time, so unknown ones are always kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// Its fields, in the vendor's order. Any of them may be absent in a reply unless it is listed in `required`.
    #[serde(default)]
    pub fields: indexed::Fields,
    /// The fields that are always there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub required: Vec<String>,
}

/// A field of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Field {
    /// Its type.
    #[serde(rename = "type")]
    pub type_expr: TypeExpr,
    /// What it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub doc: String,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            #[serde(rename = "type")]
            type_expr: TypeExpr,
            #[serde(default)]
            doc: String,
        }
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self { type_expr: text.parse().map_err(de::Error::custom)?, doc: String::new() }),
            long => serde_json::from_value(long).map(|Long { type_expr, doc }| Self { type_expr, doc }).map_err(de::Error::custom),
        }
    }
}

impl JsonSchema for Field {
    fn schema_name() -> Cow<'static, str> {
        "Field".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let short = generator.subschema_for::<TypeExpr>();
        json_schema!({ "anyOf": [short, {
            "type": "object",
            "properties": { "type": short, "doc": { "type": "string" } },
            "required": ["type"],
            "additionalProperties": false,
        }] })
    }
}

/// Fields in the order they are written.
pub(super) mod indexed {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
    use serde_json::{Map, Value};

    use super::Field;

    /// Fields by name, in order.
    #[derive(Debug, Clone, Default, PartialEq)]
    pub struct Fields(pub Vec<(String, Field)>);

    impl Serialize for Fields {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(self.0.len()))?;
            for (name, field) in &self.0 {
                if field.doc.is_empty() { map.serialize_entry(name, &field.type_expr)? } else { map.serialize_entry(name, field)? }
            }
            map.end()
        }
    }

    impl<'de> Deserialize<'de> for Fields {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Map::<String, Value>::deserialize(deserializer)?
                .into_iter()
                .map(|(name, field)| {
                    serde_json::from_value(field)
                        .map(|field| (name.clone(), field))
                        .map_err(|error| de::Error::custom(format!("field `{name}`: {error}")))
                })
                .collect::<Result<_, _>>()
                .map(Self)
        }
    }

    impl JsonSchema for Fields {
        fn schema_name() -> Cow<'static, str> {
            "Fields".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let field = generator.subschema_for::<Field>();
            json_schema!({ "type": "object", "additionalProperties": field })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_and_write_as_text() {
        for text in ["any", "array<Contact>", "map<string?>", "array<map<array<integer>>>?", "raw"] {
            assert_eq!(text.parse::<TypeExpr>().unwrap().to_string(), text);
        }
        for text in ["contact", "array<string", "", "a b"] {
            assert!(text.parse::<TypeExpr>().is_err(), "{text}");
        }
    }
}

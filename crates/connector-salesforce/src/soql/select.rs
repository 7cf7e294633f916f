//! A query put together piece by piece.

use connector_core::{Error, Result};
use serde_json::Value;

use super::{identifier, like, literal};

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// The text as it is: wildcards in it are escaped. Patterns are values such as `{contains: ..}`.
    Like,
    In,
    NotIn,
    /// A multi-select picklist has one of these.
    Includes,
    Excludes,
}

impl Comparison {
    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Like => "LIKE",
            Self::In => "IN",
            Self::NotIn => "NOT IN",
            Self::Includes => "INCLUDES",
            Self::Excludes => "EXCLUDES",
        }
    }

    fn takes_a_list(self) -> bool {
        matches!(self, Self::In | Self::NotIn | Self::Includes | Self::Excludes)
    }
}

/// A SOQL query. Names are checked and values escaped when they are given; mistakes come out of [`Select::build`].
///
/// ```
/// use connector_salesforce::soql::{Comparison, Select};
///
/// let query = Select::from("Contact").fields(["Id", "Name"]).filter("Email", Comparison::Equal, "o'hara@example.com").limit(10).build()?;
/// assert_eq!(query, r"SELECT Id, Name FROM Contact WHERE Email = 'o\'hara@example.com' LIMIT 10");
/// # Ok::<(), connector_core::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a query does nothing until it is built"]
pub struct Select {
    object: Result<String>,
    fields: Vec<Result<String>>,
    filters: Vec<Result<String>>,
    order: Vec<Result<String>>,
    limit: Option<u32>,
}

impl Select {
    /// A query of this type of object.
    pub fn from(object: &str) -> Self {
        Self { object: identifier(object).map(str::to_owned), fields: Vec::new(), filters: Vec::new(), order: Vec::new(), limit: None }
    }

    /// Fields to return; `Id` if none are said.
    pub fn fields<'a>(mut self, fields: impl IntoIterator<Item = &'a str>) -> Self {
        self.fields.extend(fields.into_iter().map(|field| identifier(field).map(str::to_owned)));
        self
    }

    /// A condition; all must hold. Lists go with IN, NOT IN, INCLUDES and EXCLUDES.
    pub fn filter(mut self, field: &str, comparison: Comparison, value: impl Into<Value>) -> Self {
        let value = value.into();
        let filter = || {
            let field = identifier(field)?;
            if comparison.takes_a_list() != value.is_array() {
                return Err(Error::invalid(format!(
                    "`{}` of `{field}` takes {}",
                    comparison.as_str(),
                    if value.is_array() { "one value" } else { "a list" }
                )));
            }
            let value = match &value {
                Value::String(text) if comparison == Comparison::Like => like(text)?,
                value => literal(value)?,
            };
            Ok(format!("{field} {} {value}", comparison.as_str()))
        };
        self.filters.push(filter());
        self
    }

    /// Orders by a field, after those said before.
    pub fn order_by(mut self, field: &str, descending: bool) -> Self {
        self.order.push(identifier(field).map(|field| format!("{field} {}", if descending { "DESC" } else { "ASC" })));
        self
    }

    /// Returns no more than this many.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The query.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] for the first name that is none or value that cannot be written.
    pub fn build(self) -> Result<String> {
        let joined = |parts: Vec<Result<String>>, with: &str| parts.into_iter().collect::<Result<Vec<_>>>().map(|parts| parts.join(with));
        let fields = if self.fields.is_empty() { "Id".to_owned() } else { joined(self.fields, ", ")? };
        let mut query = format!("SELECT {fields} FROM {}", self.object?);
        for (word, parts, with) in [(" WHERE ", self.filters, " AND "), (" ORDER BY ", self.order, ", ")] {
            if !parts.is_empty() {
                query.push_str(word);
                query.push_str(&joined(parts, with)?);
            }
        }
        if let Some(limit) = self.limit {
            query.push_str(&format!(" LIMIT {limit}"));
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_query_has_its_parts_in_order() {
        let query = Select::from("Case")
            .fields(["Id", "Owner.Name"])
            .filter("Status", Comparison::In, json!(["New", "It's open"]))
            .filter("Subject", Comparison::Like, "100%")
            .filter("Amount__c", Comparison::GreaterOrEqual, 2.5)
            .order_by("CreatedDate", true)
            .limit(5);
        assert_eq!(
            query.build().unwrap(),
            r"SELECT Id, Owner.Name FROM Case WHERE Status IN ('New','It\'s open') AND Subject LIKE '100\%' AND Amount__c >= 2.5 ORDER BY CreatedDate DESC LIMIT 5"
        );
        assert_eq!(Select::from("Account").build().unwrap(), "SELECT Id FROM Account");
    }

    #[test]
    fn names_and_values_that_are_none_are_refused() {
        assert!(Select::from("Account WHERE x").build().is_err());
        assert!(Select::from("Account").fields(["Id, (SELECT"]).build().is_err());
        assert!(Select::from("Account").order_by("Name; DROP", false).build().is_err());
        assert!(Select::from("Account").filter("Id", Comparison::In, "one").build().is_err());
        assert!(Select::from("Account").filter("Id", Comparison::Equal, json!(["one"])).build().is_err());
    }
}

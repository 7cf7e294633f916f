//! The arguments of a call: a JSON object that is shared while a call travels, and copied only by who changes it.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use serde_json::{Map, Value};

/// Arguments by name. Reads and changes like the map it holds; clones share it until one of them is changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args(Arc<Map<String, Value>>);

impl Args {
    /// The map, without a copy if nobody else holds it.
    pub fn into_map(self) -> Map<String, Value> {
        Arc::unwrap_or_clone(self.0)
    }
}

impl Deref for Args {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Args {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl From<Map<String, Value>> for Args {
    fn from(map: Map<String, Value>) -> Self {
        Self(Arc::new(map))
    }
}

impl From<Args> for Map<String, Value> {
    fn from(args: Args) -> Self {
        args.into_map()
    }
}

impl From<Args> for Value {
    fn from(args: Args) -> Self {
        Self::Object(args.into_map())
    }
}

impl<'a> IntoIterator for &'a Args {
    type Item = (&'a String, &'a Value);
    type IntoIter = serde_json::map::Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_nobody_elses() {
        let first = Args::from(Map::from_iter([("id".to_owned(), json!(1))]));
        let mut second = first.clone();
        assert!(Arc::ptr_eq(&first.0, &second.0));
        second.insert("id".to_owned(), json!(2));
        assert_eq!((&first["id"], &second["id"]), (&json!(1), &json!(2)));
        assert_eq!(Value::from(second), json!({ "id": 2 }));
    }
}

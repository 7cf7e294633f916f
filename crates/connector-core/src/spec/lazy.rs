//! A part of a description that is worked out when somebody first looks at it.
//!
//! A hub with hundreds of operations looks at the schemas of the few it is asked about; building them all at the start would cost most of
//! its start-up time and idle memory.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, LazyLock},
};

use serde::{Serialize, Serializer};

type Make<T> = Box<dyn FnOnce() -> T + Send>;

/// A value that is made on first use, once for all clones. Behaves like the value.
pub struct Lazy<T>(Arc<LazyLock<T, Make<T>>>);

impl<T> Lazy<T> {
    /// A value that `make` gives when it is first looked at.
    pub fn new(make: impl FnOnce() -> T + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl<T> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for Lazy<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + 'static> From<T> for Lazy<T> {
    fn from(value: T) -> Self {
        Self::new(move || value)
    }
}

impl<T: Default + Send + 'static> Default for Lazy<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Lazy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Lazy<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl<T: PartialEq> PartialEq<T> for Lazy<T> {
    fn eq(&self, other: &T) -> bool {
        **self == *other
    }
}

impl<T: Serialize> Serialize for Lazy<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn it_is_made_once_for_all_clones_and_only_if_looked_at() {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let make = || {
            MADE.fetch_add(1, Ordering::Relaxed);
            serde_json::json!({ "type": "object" })
        };
        let lazy = Lazy::new(make);
        let other = lazy.clone();
        assert_eq!(MADE.load(Ordering::Relaxed), 0);
        assert_eq!(other["type"], "object");
        assert_eq!((serde_json::to_string(&lazy).unwrap(), lazy == other), (r#"{"type":"object"}"#.to_owned(), true));
        assert_eq!(MADE.load(Ordering::Relaxed), 1);
    }
}

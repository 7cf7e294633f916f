//! Messages: composing them, reading them, naming them, answering them, looking for them.

pub(crate) mod address;
pub(crate) mod answer;
pub(crate) mod compose;
pub(crate) mod locator;
pub(crate) mod raw;
pub(crate) mod read;
pub(crate) mod search;

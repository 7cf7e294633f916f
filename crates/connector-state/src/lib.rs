#![doc = include_str!("../README.md")]

mod chain;
pub mod memory;
mod rules;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use memory::MemoryState;
pub use rules::EVENT_MAX_ATTEMPTS;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteState;

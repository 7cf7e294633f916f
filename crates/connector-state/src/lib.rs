#![doc = include_str!("../README.md")]

mod chain;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
mod rules;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use memory::MemoryState;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresState};
pub use rules::EVENT_MAX_ATTEMPTS;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteState;

#![doc = include_str!("../README.md")]

mod chain;
#[cfg(any(feature = "redis", feature = "upstash"))]
mod fleet;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
mod rules;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "upstash")]
pub mod upstash;

#[cfg(any(feature = "redis", feature = "upstash"))]
pub use fleet::FleetOptions;
pub use memory::MemoryState;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresPubSub, PostgresState};
#[cfg(feature = "redis")]
pub use redis::RedisFleet;
pub use rules::EVENT_MAX_ATTEMPTS;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteState;
#[cfg(feature = "upstash")]
pub use upstash::UpstashFleet;

//! The event path under attack: real hubs between a vendor that sends and a world that remembers every effect.
//!
//! The pieces that the cases share, and the case `ingest-kill`.

pub(crate) mod effects;
pub(crate) mod hub;
pub(crate) mod journal;
pub(crate) mod kill;
pub(crate) mod load;
pub(crate) mod postgres;
pub(crate) mod settle;
pub(crate) mod wire;
pub(crate) mod world;

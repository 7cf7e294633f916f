//! IMAP4rev1 with the extensions that matter (RFC 9051, 7162, 6851, 6154, 2177): reading answers, writing commands, sessions and their pool.
//!
//! Why not a crate: ADR 0011.

pub(crate) mod command;
pub(crate) mod failure;
pub(crate) mod fetched;
pub(crate) mod idle;
pub(crate) mod login;
pub(crate) mod mailbox;
pub(crate) mod names;
pub(crate) mod pool;
pub(crate) mod session;
pub(crate) mod sets;
pub(crate) mod structure;
pub(crate) mod value;
pub(crate) mod wire;

//! SMTP submission (RFC 5321, 6409, 8314): one message to its recipients, each with an outcome, and the one moment after which nobody knows.
//!
//! Why not lettre's transport: it gives up at the first refused recipient and does not tell a loss before the last dot from one after it
//! (ADR 0011). Its message builder is used.

pub(crate) mod dialogue;
pub(crate) mod reply;

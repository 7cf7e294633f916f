//! The fake mail server: against the client libraries a connector is made of, and word by word against the transcripts of the mail sheet.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in tests a panic is the failure, a skip is said")]

mod clients;
mod corpus;
mod extensions;
mod faults;
mod gmail;
mod raw;
mod sync;
mod tls;
mod transcripts;

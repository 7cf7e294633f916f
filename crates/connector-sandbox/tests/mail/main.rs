//! The fake mail server: against the client libraries a connector is made of, and word by word against the transcripts of the mail sheet.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

mod clients;
mod extensions;
mod faults;
mod gmail;
mod raw;
mod sync;
mod tls;
mod transcripts;

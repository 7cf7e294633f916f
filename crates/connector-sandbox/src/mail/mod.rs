//! A fake mail server: IMAP4rev1 with the extensions a mail connector meets, and SMTP submission, over one set of mailboxes. It keeps state,
//! tells several sessions of each other's changes, and fails on request. It owns nothing but loopback: mail to other domains is written
//! into the [`Ledger`](crate::Ledger) and goes nowhere.
//!
//! ```no_run
//! use connector_sandbox::mail::{MailServer, known};
//!
//! # async fn demo() -> std::io::Result<()> {
//! let server = MailServer::builder().start().await?;
//! tracing::info!(imap = %server.imap(), smtp = %server.smtp(), user = known::ALICE);
//! // … drive a client …
//! assert!(server.accepted().is_empty());
//! server.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Written from the RFCs (9051, 3501, 7162, 6851, 6154, 2177, 5321, 4954, 7628, 3463) and, for the Gmail mode, from Google's description of its
//! IMAP extensions. What is said about Gmail beyond that is unverified.

pub mod faults;
mod imap;
pub mod known;
mod listen;
mod mime;
mod sasl;
mod seed;
mod server;
mod shared;
mod smtp;
mod store;
mod wire;

pub use faults::{AfterDot, MailFaults, Stage};
pub use server::{MailBuilder, MailServer};
pub use shared::Accepted;

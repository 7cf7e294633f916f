//! What the engine does with tiny manifests: requests as they go out, answers as they come back, errors as people see them.
//!
//! Every test runs over a scripted transport; nothing here reaches a network or waits for real time.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod answers;
mod client;
mod common;
mod credential;
mod erp;
mod errors;
mod hostile;
mod native;
mod paging;
mod partial;
mod rendering;
mod selecting;
mod texts;

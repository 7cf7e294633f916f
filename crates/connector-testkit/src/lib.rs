#![doc = include_str!("../README.md")]

pub mod conformance;
pub mod python;
pub mod state_suite;
pub mod transport;

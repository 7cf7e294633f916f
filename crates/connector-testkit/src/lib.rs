#![doc = include_str!("../README.md")]

pub mod state_suite;

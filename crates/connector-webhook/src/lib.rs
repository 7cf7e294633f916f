#![doc = include_str!("../README.md")]

pub mod dispatch;
pub mod ingress;
pub mod json;
pub mod schemes;

#![doc = include_str!("../README.md")]

pub mod custom;
pub mod dispatch;
pub mod ingress;
pub mod json;
pub mod outbound;
pub mod reload;
pub mod rules;
pub mod schemes;
pub mod work;

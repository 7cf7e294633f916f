#![doc = include_str!("../README.md")]

pub mod model;
pub mod schema;

pub use model::Manifest;
pub mod select;
pub mod template;

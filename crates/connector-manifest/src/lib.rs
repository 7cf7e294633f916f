#![doc = include_str!("../README.md")]

mod merge;
mod parse;
mod placeholders;
mod shape;
mod sources;
mod starter;
mod subscription_schema;
mod views_reply;
mod views_schema;
mod yaml;

mod assemble;
mod client;
mod connection;

pub mod diagnostic;
pub mod engine;
pub mod env;
pub mod model;
pub mod records;
pub mod schema;
pub mod select;
pub mod sheet;
pub mod spec;
pub mod template;
pub mod validate;
pub mod views;

pub use assemble::{assemble, open};
pub use client::{ClientBuilder, MakePorts, process_env};
pub use connection::{ConnectionOptions, connection};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use engine::{Engine, EngineBuilder, Hooks, NativeDelta, NativeOperation, NativeRotator, RawReply, RenderedRequest};
pub use model::Manifest;
pub use parse::{Parsed, load, parse, parse_set};
pub use sources::Sources;
pub use spec::build_spec;
pub use starter::new_manifest_template;
pub use validate::{Strictness, validate};

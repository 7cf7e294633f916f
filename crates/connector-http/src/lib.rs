#![doc = include_str!("../README.md")]

mod auth;
mod body_cap;
mod client;
mod egress;
mod fault;
pub mod oauth2;
mod standalone;
#[cfg(test)]
mod testing;
mod tls;

pub use auth::{AUTH_SETTING, Auth, AuthDeps, EnvCredentials};
pub use client::{HttpTransport, HttpTransportBuilder};
pub use egress::{EGRESS_ALLOW, EgressPolicy};
pub use oauth2::TOKEN_URL_SETTING;
pub use standalone::standalone;

#![doc = include_str!("../README.md")]

mod aead;
mod cache;
pub mod config;
pub mod envelope;
mod info;
pub mod key;
mod keys;
pub mod manager;
pub mod payload;
mod record;
pub mod remote;
mod vault;

pub use info::{CredentialInfo, CredentialState, NewCredential, RotationReport, TokenInfo, Unreadable, VerifyReport};
pub use vault::{Note, Resealed, SealedElsewhere, Vault, VaultBuilder};

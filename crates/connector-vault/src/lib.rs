#![doc = include_str!("../README.md")]

mod info;
pub mod key;
pub mod manager;
mod vault;

pub use info::{CredentialInfo, CredentialState, NewCredential, RotationReport, TokenInfo, Unreadable, VerifyReport};
pub use vault::{Note, Vault, VaultBuilder};

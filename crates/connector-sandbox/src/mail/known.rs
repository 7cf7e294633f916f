//! The accounts every fake mail server has. Nothing here is secret: each value is a published constant that opens only a fake on loopback.

use crate::server::Credential;

/// The domain the fake delivers to; mail to any other is accepted and goes nowhere.
pub const DOMAIN: &str = "example.test";
/// The account whose mailboxes hold the seeded mail.
pub const ALICE: &str = "alice@example.test";
/// Her password.
pub const ALICE_PASSWORD: &str = "sandbox-alice-password";
/// Her access token, for XOAUTH2 and OAUTHBEARER; good until it is revoked.
pub const ALICE_TOKEN: &str = "sandbox-alice-access-token";
/// The other account.
pub const BOB: &str = "bob@example.test";
/// His password.
pub const BOB_PASSWORD: &str = "sandbox-bob-password";
/// His access token.
pub const BOB_TOKEN: &str = "sandbox-bob-access-token";

/// The credentials, for printing.
pub fn credentials() -> Vec<Credential> {
    let c = |name, value| Credential { vendor: "email", name, value };
    vec![
        c("user", ALICE),
        c("password", ALICE_PASSWORD),
        c("access_token", ALICE_TOKEN),
        c("user_2", BOB),
        c("password_2", BOB_PASSWORD),
        c("access_token_2", BOB_TOKEN),
    ]
}

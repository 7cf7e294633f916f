//! Slack's `v0` signature and the handshake that comes under it.
//!
//! Refuses to answer a challenge that is not signed: whoever can make us echo text could otherwise claim our address for an app of theirs.

use std::time::SystemTime;

use connector_core::{
    error::Result,
    webhook::{HandshakeReply, RawWebhook},
};
use secrecy::SecretString;

use super::{HmacScheme, Proof, Proven};
use crate::ingress::handshake;

/// `v0=hex(HMAC-SHA256(signing secret, "v0:" + timestamp + ":" + body))` over the raw bytes, whatever their format.
// https://docs.slack.dev/authentication/verifying-requests-from-slack
#[derive(Debug, Clone)]
pub struct SlackV0(HmacScheme);

impl Default for SlackV0 {
    fn default() -> Self {
        Self(HmacScheme::slack_v0())
    }
}

impl Proof for SlackV0 {
    fn scheme(&self) -> &'static str {
        self.0.scheme()
    }

    fn prove(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Proven> {
        self.0.prove(request, secrets, now)
    }

    fn handshake(&self, request: &RawWebhook<'_>) -> Option<HandshakeReply> {
        handshake::slack_challenge(request.body)
    }
}

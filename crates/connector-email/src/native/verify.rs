//! Whether the account works, on both servers, without changing anything.

use connector_core::Result;
use serde_json::json;

use super::{Mail, Outcome};
use crate::imap::{command::Command, failure::Errand};

impl Mail<'_> {
    /// Logs in on both servers: NOOP on one, QUIT on the other.
    pub(super) async fn verify(&self) -> Result<Outcome> {
        let user = self.sender().await?.map(|sender| sender.email.to_string());
        let mut session = self.lease().await?;
        session.simple(Errand::Other, Command::new("NOOP")).await?;
        drop(session);
        let (authorization, _) = self.engine.authorization(self.cx).await?;
        let submission = self.open_submission(&authorization).await?;
        let longest = submission.longest();
        submission.quit().await;
        Ok(json!({ "ok": true, "address": user, "imap_host": self.settings.imap.host, "smtp_host": self.settings.smtp.host, "max_message_bytes": longest }).into())
    }

    /// What the IMAP server can do.
    pub(super) async fn server_info(&self) -> Result<Outcome> {
        let session = self.lease().await?;
        let can = |name: &str| session.has(name);
        Ok(json!({
            "capabilities": session.capabilities(),
            "gmail": session.is_gmail(),
            "idle": can("IDLE"),
            "move": can("MOVE"),
            "uidplus": can("UIDPLUS"),
            "delta": if can("QRESYNC") { "qresync" } else if can("CONDSTORE") { "condstore" } else { "plain" },
        })
        .into())
    }
}

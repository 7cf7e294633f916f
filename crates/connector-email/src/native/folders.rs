//! Folders: listing, making, renaming, removing, counting.

use connector_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::{Mail, Outcome, folder_named};
use crate::imap::{
    command::Command,
    failure::Errand,
    mailbox::Folder,
    names::{self, Purpose},
    value::Value as Word,
};

fn told(folder: &Folder) -> Value {
    json!({
        "name": folder.name,
        "delimiter": folder.delimiter,
        "purpose": folder.purpose.map(Purpose::word),
        "selectable": folder.selectable,
        "has_children": folder.has_children,
    })
}

impl Mail<'_> {
    pub(super) async fn list_folders(&self) -> Result<Outcome> {
        let folders = self.lease().await?.folders().await?;
        Ok(json!({ "folders": folders.iter().map(told).collect::<Vec<_>>() }).into())
    }

    pub(super) async fn create_folder(&self) -> Result<Outcome> {
        let name = self.folder_name("name")?;
        let mut session = self.lease().await?;
        session.simple(Errand::Other, Command::new("CREATE").mailbox(name)?).await?;
        // So that other programs show it; a server without subscriptions says no, and the folder is there all the same.
        if let Err(error) = session.simple(Errand::Other, Command::new("SUBSCRIBE").mailbox(name)?).await {
            tracing::debug!(target: "connectors::email", %error, "a new folder could not be subscribed to");
        }
        Ok(json!({ "name": name }).into())
    }

    pub(super) async fn rename_folder(&self) -> Result<Outcome> {
        let (from, to) = (self.folder_name("name")?, self.folder_name("new_name")?);
        self.lease().await?.simple(Errand::Mailbox, Command::new("RENAME").mailbox(from)?.mailbox(to)?).await?;
        Ok(json!({ "name": to }).into())
    }

    pub(super) async fn delete_folder(&self) -> Result<Outcome> {
        let name = self.folder_name("name")?;
        let mut session = self.lease().await?;
        if !self.flag("with_messages") {
            let counts = session.counts(name).await?;
            if counts.messages.unwrap_or_default() > 0 {
                let message = "the folder has messages, which would be removed with it; say `with_messages: true` if that is meant";
                return Err(Error::new(ErrorKind::Conflict, message).with_context("messages", counts.messages.unwrap_or_default().to_string()));
            }
        }
        session.simple(Errand::Mailbox, Command::new("DELETE").mailbox(name)?).await?;
        // A session that has the folder open is ended by the server with its next command.
        session.retire_all();
        Ok(json!({ "name": name }).into())
    }

    pub(super) async fn folder_status(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let name = folder_named(&mut session, self.text("folder").unwrap_or("INBOX")).await?;
        let counts = session.counts(&name).await?;
        Ok(json!({
            "folder": name,
            "messages": counts.messages,
            "unread": counts.unseen,
            "uidnext": counts.uid_next,
            "uidvalidity": counts.uid_validity,
            "highestmodseq": counts.highest_modseq,
        })
        .into())
    }

    pub(super) async fn quota(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        if !session.has("QUOTA") {
            return Err(Error::unsupported("the mail server does not tell how full the mailbox is (QUOTA)"));
        }
        let name = folder_named(&mut session, self.text("folder").unwrap_or("INBOX")).await?;
        let mut quotas = Vec::new();
        session
            .run(Errand::Mailbox, Command::new("GETQUOTAROOT").mailbox(&name)?, &mut |words| {
                if let [what, root, Word::List(items)] = &words[..]
                    && what.is("QUOTA")
                {
                    for triple in items.chunks_exact(3) {
                        let number = |at: usize| triple[at].number::<u64>();
                        // STORAGE counts in units of 1,024 bytes (RFC 9208).
                        quotas.push(json!({ "root": root.text().map(|root| names::decode(&root)), "resource": triple[0].text(), "used": number(1), "limit": number(2) }));
                    }
                }
                Ok(())
            })
            .await?;
        Ok(json!({ "folder": name, "quotas": quotas }).into())
    }

    fn folder_name(&self, argument: &str) -> Result<&str> {
        let name = self.required(argument)?;
        if name.chars().any(char::is_control) || name.contains(['*', '%']) || name.len() > 500 {
            return Err(Error::invalid(format!("`{argument}` has a control character, `*` or `%`, or is too long; no folder is called so")));
        }
        Ok(name)
    }
}

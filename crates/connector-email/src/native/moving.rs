//! Moving, copying, archiving, trashing, removing. A move is one command where the server has it, and never a plain EXPUNGE where not.

use connector_core::{Error, Result};
use serde_json::{Value, json};

use super::{Mail, Outcome, folder_for, folder_named, marking::settled};
use crate::{
    imap::{
        mailbox::{Access, Copied},
        names::Purpose,
        session::Session,
    },
    mail::locator::exact,
};

/// Where messages went, as far as the server tells.
fn told(folder: &str, validity: u32, uids: &[u32], to: &str, copied: &Copied) -> Vec<Value> {
    uids.iter()
        .map(|uid| {
            let new = copied.uid_validity.zip(copied.of(*uid)).map(|(validity, uid)| exact(to, validity, uid));
            json!({ "from": exact(folder, validity, *uid), "to": new })
        })
        .collect()
}

impl Mail<'_> {
    pub(super) async fn move_or_copy(&self, moving: bool) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let to = folder_named(&mut session, self.required("to")?).await?;
        self.transfer(&mut session, &to, moving).await
    }

    pub(super) async fn move_to(&self, purpose: Purpose) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let to = folder_for(&mut session, purpose).await?;
        self.transfer(&mut session, &to, true).await
    }

    async fn transfer(&self, session: &mut Session, to: &str, moving: bool) -> Result<Outcome> {
        let mut targets = self.targets(session).await?;
        let mut done = Vec::new();
        for (folder, wanted) in std::mem::take(&mut targets.wanted) {
            let Some(group) = targets.open(session, &folder, wanted, Access::Write).await? else { continue };
            let (name, validity) = (&group.open.name, group.open.uid_validity);
            if moving && name == to {
                // It is there already, and a move onto itself would make copies on some servers.
                done.extend(group.uids.iter().map(|uid| json!({ "from": exact(name, validity, *uid), "to": exact(name, validity, *uid) })));
                continue;
            }
            let copied = if moving { session.relocate(&group.uids, to).await? } else { session.copy(&group.uids, to).await? };
            done.extend(told(name, validity, &group.uids, to, &copied));
        }
        let mut outcome = settled(targets, Value::Null)?;
        outcome.value = json!({ "folder": to, "messages": done });
        Ok(outcome)
    }

    /// Removes for good. What is gone already is as wanted.
    pub(super) async fn delete(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        if session.is_gmail() {
            // Removing from a Gmail folder takes a label away; only what is in the bin goes for good (fact sheet §3.6).
            let bin = folder_for(&mut session, Purpose::Trash).await?;
            let mut targets = self.targets(&mut session).await?;
            if targets.wanted.keys().any(|folder| *folder != bin) {
                return Err(Error::invalid(
                    "on Gmail only what is in the bin can be removed for good; use `email_trash` first, and then the new ids",
                ));
            }
            return self.expunge(&mut session, &mut targets).await;
        }
        let mut targets = self.targets(&mut session).await?;
        self.expunge(&mut session, &mut targets).await
    }

    async fn expunge(&self, session: &mut Session, targets: &mut super::targets::Targets) -> Result<Outcome> {
        let (mut done, mut for_good) = (Vec::new(), true);
        for (folder, wanted) in std::mem::take(&mut targets.wanted) {
            let Some(group) = targets.open(session, &folder, wanted, Access::Write).await? else { continue };
            for_good &= session.remove(&group.uids).await?;
            done.extend(group.uids.iter().map(|uid| exact(&group.open.name, group.open.uid_validity, *uid)));
        }
        // An id of a folder that was rebuilt names nothing that could be said to be gone.
        if let Some(error) = targets.all_missing().filter(|error| error.kind() == connector_core::ErrorKind::CursorExpired) {
            return Err(error);
        }
        let already: Vec<_> = targets
            .missing
            .iter()
            .filter(|missing| missing.kind == connector_core::ErrorKind::NotFound)
            .filter_map(|missing| missing.key.clone())
            .collect();
        let partial =
            std::mem::take(&mut targets.missing).into_iter().filter(|missing| missing.kind != connector_core::ErrorKind::NotFound).collect();
        Ok(Outcome { value: json!({ "messages": done, "already_gone": already, "for_good": for_good }), partial, reconciled: false })
    }
}

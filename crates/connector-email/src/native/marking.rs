//! Flags, keywords and labels. What a label is depends on the server: Gmail has them, others have keywords, some have neither.

use connector_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Mail, Outcome, targets::Targets};
use crate::{
    imap::{command::Command, mailbox::Access, names},
    mail::{locator::exact, search::keyword_atom},
};

/// The flags that mean the same on every server (RFC 9051 §2.3.2). `\Deleted` is not among them: `email_delete` removes.
const SYSTEM: [&str; 4] = ["\\Seen", "\\Answered", "\\Flagged", "\\Draft"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Flags {
    add_flags: Vec<String>,
    remove_flags: Vec<String>,
}

fn flag(text: &str) -> Result<String> {
    if let Some(system) = SYSTEM.iter().find(|system| system.eq_ignore_ascii_case(text)) {
        return Ok((*system).to_owned());
    }
    if text.starts_with('\\') {
        return Err(Error::invalid(format!("a flag is one of {} or a keyword; `email_delete` removes messages", SYSTEM.join(", "))));
    }
    keyword_atom(text).map(str::to_owned)
}

impl Mail<'_> {
    pub(super) async fn set_flags(&self) -> Result<Outcome> {
        let flags: Flags = self.args()?;
        let list = |flags: &[String]| flags.iter().map(|text| flag(text)).collect::<Result<Vec<_>>>();
        let (add, remove) = (list(&flags.add_flags)?, list(&flags.remove_flags)?);
        if add.is_empty() && remove.is_empty() {
            return Err(Error::invalid("say which flags to add (`add_flags`) or remove (`remove_flags`)"));
        }
        self.store(&[("+FLAGS.SILENT", add), ("-FLAGS.SILENT", remove)]).await
    }

    pub(super) async fn mark(&self, how: &str, flag: &str) -> Result<Outcome> {
        let how = if how == "+" { "+FLAGS.SILENT" } else { "-FLAGS.SILENT" };
        self.store(&[(how, vec![flag.to_owned()])]).await
    }

    async fn store(&self, changes: &[(&str, Vec<String>)]) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let mut targets = self.targets(&mut session).await?;
        let mut done = Vec::new();
        for (folder, wanted) in std::mem::take(&mut targets.wanted) {
            let Some(group) = targets.open(&mut session, &folder, wanted, Access::Write).await? else { continue };
            for (how, flags) in changes.iter().filter(|(_, flags)| !flags.is_empty()) {
                session.store(&group.uids, how, Command::new(format!("({})", flags.join(" ")))).await?;
            }
            done.extend(group.uids.iter().map(|uid| exact(&group.open.name, group.open.uid_validity, *uid)));
        }
        settled(targets, json!({ "messages": done }))
    }

    pub(super) async fn label(&self, add: bool) -> Result<Outcome> {
        let labels: Vec<String> =
            self.call.args.get("labels").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        if labels.is_empty() || labels.iter().any(|label| label.is_empty() || label.chars().any(char::is_control)) {
            return Err(Error::invalid("`labels` has at least one name, and none of them is empty or has control characters"));
        }
        let mut session = self.lease().await?;
        let gmail = session.is_gmail();
        let keywords =
            if gmail { Vec::new() } else { labels.iter().map(|label| keyword_atom(label).map(str::to_owned)).collect::<Result<Vec<_>>>()? };
        let mut targets = self.targets(&mut session).await?;
        let mut done = Vec::new();
        for (folder, wanted) in std::mem::take(&mut targets.wanted) {
            let Some(group) = targets.open(&mut session, &folder, wanted, Access::Write).await? else { continue };
            let sign = if add { "+" } else { "-" };
            if gmail {
                let encoded: Vec<String> = labels.iter().map(|label| names::encode(label)).collect();
                let how = format!("{sign}X-GM-LABELS");
                session.store_list(&group.uids, &how, &encoded).await?;
            } else {
                if add && !group.open.keywords {
                    return Err(Error::unsupported("this folder takes no keywords; move or copy the message to a folder of that name instead"));
                }
                session.store(&group.uids, &format!("{sign}FLAGS.SILENT"), Command::new(format!("({})", keywords.join(" ")))).await?;
            }
            done.extend(group.uids.iter().map(|uid| exact(&group.open.name, group.open.uid_validity, *uid)));
        }
        settled(targets, json!({ "messages": done, "labels": labels, "kind": if gmail { "gmail_label" } else { "keyword" } }))
    }

    pub(super) async fn list_labels(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        if session.is_gmail() {
            // On Gmail every folder but the inbox and the system's own is a label.
            let folders = session.folders().await?;
            let labels: Vec<_> =
                folders.into_iter().filter(|folder| folder.purpose.is_none() && folder.selectable).map(|folder| folder.name).collect();
            return Ok(json!({ "labels": labels, "kind": "gmail_label", "new_allowed": true }).into());
        }
        let folder = super::folder_named(&mut session, self.text("folder").unwrap_or("INBOX")).await?;
        let (open, flags) = session.open_with_flags(&folder).await?;
        let labels: Vec<_> = flags.into_iter().filter(|flag| !flag.starts_with('\\')).collect();
        Ok(json!({ "labels": labels, "kind": "keyword", "new_allowed": open.keywords }).into())
    }
}

/// The outcome with what was missing told for each message; the error if all were.
pub(super) fn settled(targets: Targets, value: Value) -> Result<Outcome> {
    if let Some(error) = targets.all_missing() {
        return Err(error);
    }
    Ok(Outcome { value, partial: targets.missing, reconciled: false })
}

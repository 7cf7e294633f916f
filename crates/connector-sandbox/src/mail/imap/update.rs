//! Changing what is in the selected mailbox: STORE, COPY, MOVE, EXPUNGE, and Gmail's labels as STORE changes them.

use super::parse::{Args, Word, ranges, set_of, within};
use super::write::{OVER_QUOTA, flags};
use super::{Refusal, Session, bad, no};
use crate::ledger::EffectKind;
use crate::mail::store::{Change, Message};
use serde_json::json;

const READ_ONLY: &str = "[NOPERM] the mailbox is open for reading only";

impl Session {
    fn writable(&self) -> Result<u64, Refusal> {
        match &self.selected {
            Some(selected) if !selected.read_only => Ok(selected.id),
            Some(_) => no(READ_ONLY),
            None => bad("no mailbox is selected"),
        }
    }

    /// `STORE set [(UNCHANGEDSINCE n)] [+-]FLAGS[.SILENT] (flags)`; also `X-GM-LABELS`.
    pub(super) fn store(&mut self, account: &str, mut args: Args, uid: bool) -> Result<String, Refusal> {
        let mailbox = self.writable()?;
        let set = args.atom("a sequence set")?;
        let mut unchanged_since = None;
        if matches!(args.peek(), Some(Word::List(_))) {
            let mut modifiers = Args::new(args.list("a modifier")?);
            if !self.shared.traits.offers("CONDSTORE") || !modifiers.took("UNCHANGEDSINCE") {
                return bad("unknown store modifier");
            }
            let text = modifiers.atom("a modification sequence")?;
            unchanged_since = Some(text.parse::<u64>().map_err(|_| Refusal::Bad(format!("`{text}` is not a number")))?);
            self.condstore = true;
        }
        let item = args.atom("what to store")?.to_ascii_uppercase();
        let (item, silent) = item.strip_suffix(".SILENT").map_or((item.as_str(), false), |item| (item, true));
        let (change, item) = match item.split_at(usize::from(item.starts_with(['+', '-']))) {
            ("+", item) => (Change::Add, item),
            ("-", item) => (Change::Remove, item),
            (_, item) => (Change::Replace, item),
        };
        let mut list = match args.peek() {
            Some(Word::List(_)) => args.list("flags")?,
            _ => Vec::new(),
        };
        list.extend(std::iter::from_fn(|| args.word()));
        let labels = match item {
            "FLAGS" => None,
            "X-GM-LABELS" if self.shared.traits.gmail => Some(list.iter().map(label).collect::<Result<Vec<_>, _>>()?),
            other => return bad(format!("{other} cannot be stored")),
        };
        let flags = if labels.is_none() { flags(list)? } else { Default::default() };
        if flags.iter().any(|flag| !flag.starts_with('\\')) && !self.shared.traits.offers("KEYWORDS") {
            return no("[CANNOT] keywords are not kept in this mailbox");
        }
        let mut modified = Vec::new();
        for (sequence, message) in self.named(account, &set, uid)? {
            if unchanged_since.is_some_and(|since| message.modseq > since) {
                modified.push(if uid { message.uid } else { sequence });
                continue;
            }
            let after = self.shared.change(|store| {
                let account = store.account_mut(account)?;
                match &labels {
                    None => {
                        account.flag(mailbox, message.uid, change, &flags);
                    }
                    Some(labels) => {
                        let old = account.labels(message.gm_msgid);
                        if change == Change::Replace {
                            for label in old.iter().filter(|label| !labels.contains(label)) {
                                account.label(mailbox, message.uid, label, false);
                            }
                        }
                        for label in labels {
                            account.label(mailbox, message.uid, label, change != Change::Remove);
                        }
                    }
                }
                Some((account.by_id(mailbox)?.get(message.uid)?.clone(), account.labels(message.gm_msgid)))
            });
            let Some((after, gm_labels)) = after else { continue };
            if after.modseq != message.modseq {
                self.note_change(account, &message, &after, labels.is_some().then_some(&gm_labels));
            }
            self.told_of(&after);
            let mut items = Vec::new();
            if uid {
                items.push(format!("UID {}", after.uid));
            }
            if !silent {
                items.push(match &labels {
                    None => format!("FLAGS ({})", after.flags.iter().cloned().collect::<Vec<_>>().join(" ")),
                    Some(_) => format!("X-GM-LABELS ({})", gm_labels.iter().map(|label| super::quote(label)).collect::<Vec<_>>().join(" ")),
                });
            }
            if self.condstore {
                items.push(format!("MODSEQ ({})", after.modseq));
            }
            if !silent || self.condstore {
                self.wire.say(format!("* {sequence} FETCH ({})", items.join(" ")));
            }
        }
        if modified.is_empty() { Ok("STORE completed".to_owned()) } else { Ok(format!("[MODIFIED {}] Conditional STORE failed", set_of(&modified))) }
    }

    /// The client knows this state: it need not be told again.
    pub(super) fn told_of(&mut self, message: &Message) {
        let told = self.selected.as_mut().and_then(|selected| selected.told.iter_mut().find(|told| told.uid == message.uid));
        if let Some(told) = told {
            told.modseq = message.modseq;
        }
    }

    fn note_change(&self, account: &str, before: &Message, after: &Message, labels: Option<&Vec<String>>) {
        let keywords = |message: &Message| message.flags.iter().filter(|flag| !flag.starts_with('\\')).cloned().collect::<Vec<_>>();
        let (kind, detail) = match labels {
            Some(labels) => (EffectKind::MailCategorised, json!(labels)),
            None if keywords(before) != keywords(after) => (EffectKind::MailCategorised, json!(keywords(after))),
            None => (EffectKind::MailUpdated, json!({ "account": account, "flags": after.flags })),
        };
        self.shared.record(kind, &after.message_id, None, detail);
    }

    /// COPY and MOVE (RFC 6851), with COPYUID.
    pub(super) fn copy(&mut self, account: &str, mut args: Args, uid: bool, moves: bool) -> Result<String, Refusal> {
        let command = if moves { "MOVE" } else { "COPY" };
        if moves && !self.shared.traits.offers("MOVE") {
            return bad("MOVE is not offered here");
        }
        let from = if moves { self.writable()? } else { self.selected.as_ref().map_or(0, |selected| selected.id) };
        let (set, name) = (args.atom("a sequence set")?, args.text("a mailbox")?);
        args.end()?;
        let messages = self.named(account, &set, uid)?;
        let target = self.shared.look(|store| {
            let mailbox = store.account(account)?.named(&name).filter(|mailbox| mailbox.selectable)?;
            Some((mailbox.id, mailbox.uidvalidity))
        });
        let Some((to, uidvalidity)) = target else { return no("[TRYCREATE] there is no such mailbox") };
        if moves && to == from {
            return no("[CANNOT] a message does not move to where it is");
        }
        if !moves && self.over_quota(account, messages.iter().map(|(_, message)| message.raw.len()).sum()) {
            return no(OVER_QUOTA);
        }
        let pairs: Vec<(u32, u32)> = self.shared.change(|store| {
            let Some(account) = store.account_mut(account) else { return Vec::new() };
            let done = messages.iter().filter_map(|(_, message)| {
                let new = account.copy(from, message.uid, to)?;
                if moves {
                    account.expunge(from, message.uid)?;
                }
                Some((message.uid, new))
            });
            done.collect()
        });
        if moves {
            for (_, message) in &messages {
                self.shared.record(EffectKind::MailMoved, &message.message_id, None, json!({ "account": account, "to": name }));
            }
        }
        if pairs.is_empty() {
            return Ok(format!("{command} completed, no such messages"));
        }
        let (old, new): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
        let code = format!("[COPYUID {uidvalidity} {} {}]", set_of(&old), set_of(&new));
        if !self.shared.traits.offers("UIDPLUS") {
            return Ok(format!("{command} completed"));
        }
        if moves {
            // Before the EXPUNGE of the same messages (RFC 6851 §4.3).
            self.wire.say(format!("* OK {code} moved"));
            return Ok("MOVE completed".to_owned());
        }
        Ok(format!("{code} COPY completed"))
    }

    /// EXPUNGE and UID EXPUNGE (RFC 4315): only what is marked as deleted.
    pub(super) fn expunge(&mut self, account: &str, mut args: Args, uid: bool) -> Result<String, Refusal> {
        let mailbox = self.writable()?;
        let only = if uid {
            if !self.shared.traits.offers("UIDPLUS") {
                return bad("UID EXPUNGE is not offered here");
            }
            let set = args.atom("a set of UIDs")?;
            let last = self.selected.as_ref().and_then(|selected| selected.told.last()).map_or(0, |told| told.uid);
            Some(ranges(&set, last)?)
        } else {
            None
        };
        args.end()?;
        let removed: Vec<Message> = self.shared.change(|store| {
            let Some(account) = store.account_mut(account) else { return Vec::new() };
            let messages = account.by_id(mailbox).map(|mailbox| mailbox.messages.as_slice()).unwrap_or_default();
            let wanted = messages.iter().filter(|message| message.has("\\Deleted") && only.as_ref().is_none_or(|only| within(only, message.uid)));
            let uids: Vec<u32> = wanted.map(|message| message.uid).collect();
            uids.into_iter().filter_map(|uid| account.expunge(mailbox, uid)).collect()
        });
        for message in removed {
            self.shared.record(EffectKind::MailDeleted, &message.message_id, None, json!({ "account": account }));
        }
        Ok("EXPUNGE completed".to_owned())
    }
}

fn label(word: &Word) -> Result<String, Refusal> {
    match word {
        Word::Atom(label) => Ok(label.clone()),
        Word::Text(label) => Ok(String::from_utf8_lossy(label).into_owned()),
        Word::List(_) => bad("a label is a string"),
    }
}

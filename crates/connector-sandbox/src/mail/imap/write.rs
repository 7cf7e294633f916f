//! APPEND (RFC 3501 §6.3.11, RFC 4315 APPENDUID), flags as a client writes them, and the dates of both.

use super::parse::{Args, Word};
use super::{Refusal, Session, bad, no};
use crate::ledger::EffectKind;
use crate::mail::mime;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;

pub(super) const OVER_QUOTA: &str = "[OVERQUOTA] Quota exceeded (mailbox for user is full)";

impl Session {
    pub(super) fn append(&mut self, account: &str, mut args: Args) -> Result<String, Refusal> {
        let name = args.text("a mailbox")?;
        let flags = match args.peek() {
            Some(Word::List(_)) => flags(args.list("flags")?)?,
            _ => BTreeSet::new(),
        };
        let mut internal = self.shared.clock.now();
        let octets = match (args.word(), args.word()) {
            (Some(Word::Text(octets)), None) => octets,
            (Some(Word::Text(date)), Some(Word::Text(octets))) => {
                internal = date_time(&String::from_utf8_lossy(&date)).ok_or_else(|| Refusal::Bad("that is not a date and time".to_owned()))?;
                octets
            }
            _ => return bad("expected a message as a literal"),
        };
        args.end()?;
        if octets.is_empty() {
            return no("[CANNOT] an empty message is not stored");
        }
        if octets.len() > self.shared.traits.message_limit {
            return no("[TOOBIG] that is too big");
        }
        if self.over_quota(account, octets.len()) {
            return no(OVER_QUOTA);
        }
        let stored = self.shared.change(|store| {
            let account = store.account_mut(account)?;
            let mailbox = account.named(&name).filter(|mailbox| mailbox.selectable)?;
            let (id, uidvalidity, drafts) = (mailbox.id, mailbox.uidvalidity, mailbox.special.as_deref() == Some("\\Drafts"));
            Some((uidvalidity, account.append(id, &octets, flags.clone(), internal)?, drafts))
        });
        let Some((uidvalidity, uid, drafts)) = stored else { return no("[TRYCREATE] there is no such mailbox") };
        let kind = if drafts || flags.contains("\\Draft") { EffectKind::MailDrafted } else { EffectKind::MailUpdated };
        let message_id = mime::field(mime::split(&octets).0, "message-id").unwrap_or_default();
        self.shared.record(kind, &message_id, None, json!({ "account": account, "appended_to": name }));
        Ok(if self.shared.traits.offers("UIDPLUS") { format!("[APPENDUID {uidvalidity} {uid}] done") } else { "APPEND completed".to_owned() })
    }

    /// Whether `more` octets would not fit.
    pub(super) fn over_quota(&self, account: &str, more: usize) -> bool {
        let size = self.shared.look(|store| store.account(account).map_or(0, crate::mail::store::Account::size));
        self.shared.faults.is_over_quota() || size + more as u64 > self.shared.traits.quota_kib * 1024
    }
}

/// A list of flags; system flags in the case the RFC writes them.
pub(super) fn flags(list: Vec<Word>) -> Result<BTreeSet<String>, Refusal> {
    const SYSTEM: [&str; 5] = ["\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft"];
    let mut flags = BTreeSet::new();
    for word in list {
        let Word::Atom(flag) = word else { return bad("a flag is an atom") };
        match flag.strip_prefix('\\') {
            Some(_) => {
                let known = SYSTEM.iter().find(|known| known.eq_ignore_ascii_case(&flag));
                flags.insert((*known.ok_or_else(|| Refusal::Bad(format!("{flag} is not a flag to set")))?).to_owned());
            }
            None if flag.is_ascii() && !flag.contains(['%', '*', '"', '\\', ']', '{']) => {
                flags.insert(flag);
            }
            None => return bad(format!("{flag} is not a keyword")),
        }
    }
    Ok(flags)
}

/// `21-Nov-2026 09:00:00 +0000`.
fn date_time(text: &str) -> Option<Timestamp> {
    jiff::fmt::strtime::parse("%d-%b-%Y %H:%M:%S %z", text.trim()).ok()?.to_timestamp().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_one_digit_may_have_a_space_before_it() {
        assert_eq!(date_time("21-Nov-2026 09:00:00 +0100").unwrap().to_string(), "2026-11-21T08:00:00Z");
        assert_eq!(date_time(" 1-Nov-2026 09:00:00 +0000").unwrap().to_string(), "2026-11-01T09:00:00Z");
        assert_eq!(date_time("2026-11-21T09:00:00Z"), None);
    }

    #[test]
    fn system_flags_are_written_one_way_and_recent_cannot_be_set() {
        let list = |names: &[&str]| names.iter().map(|name| Word::Atom((*name).to_owned())).collect::<Vec<_>>();
        assert!(flags(list(&["\\sEEN", "$Done"])).is_ok_and(|flags| flags.contains("\\Seen") && flags.contains("$Done")));
        assert!(flags(list(&["\\Recent"])).is_err() && flags(list(&["a*"])).is_err());
    }
}

//! SELECT and EXAMINE with CONDSTORE and QRESYNC (RFC 7162), CLOSE and UNSELECT.

use super::parse::{Args, Word, ranges, set_of, within};
use super::{Refusal, Selected, Session, Told, bad, no};
use crate::ledger::EffectKind;
use serde_json::json;

/// What a client knows from an earlier session.
struct Known {
    uidvalidity: u32,
    modseq: u64,
    uids: Option<String>,
}

/// What SELECT tells; read out of the store in one go.
struct Opened {
    id: u64,
    uidvalidity: u32,
    uidnext: u32,
    highest: u64,
    told: Vec<Told>,
    first_unseen: Option<usize>,
    keywords: Vec<String>,
    vanished: Vec<(u32, u64)>,
}

impl Session {
    pub(super) fn select(&mut self, account: &str, mut args: Args, read_only: bool) -> Result<String, Refusal> {
        // Even a SELECT that fails leaves nothing selected (RFC 3501 §6.3.1).
        let had_one = self.selected.take().is_some();
        let name = args.text("a mailbox")?;
        let known = if args.peek().is_some() { self.select_options(args.list("select parameters")?)? } else { None };
        args.end()?;
        let opened = self.shared.look(|store| {
            let mailbox = store.account(account)?.named(&name).filter(|mailbox| mailbox.selectable)?;
            let flags = mailbox.messages.iter().flat_map(|message| &message.flags).filter(|flag| !flag.starts_with('\\'));
            let mut keywords: Vec<String> = flags.cloned().collect();
            keywords.sort();
            keywords.dedup();
            Some(Opened {
                id: mailbox.id,
                uidvalidity: mailbox.uidvalidity,
                uidnext: mailbox.uidnext,
                highest: mailbox.highest,
                told: mailbox.messages.iter().map(|message| Told { uid: message.uid, modseq: message.modseq }).collect(),
                first_unseen: mailbox.messages.iter().position(|message| !message.has("\\Seen")),
                keywords,
                vanished: mailbox.vanished.clone(),
            })
        });
        let Some(opened) = opened else { return no("[NONEXISTENT] there is no such mailbox") };
        if had_one && self.qresync {
            self.wire.say("* OK [CLOSED] the earlier mailbox is closed");
        }
        let keywords: String = opened.keywords.iter().map(|keyword| format!(" {keyword}")).collect();
        self.wire.say(format!("* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft{keywords})"));
        let permanent =
            if read_only { String::new() } else { format!("\\Answered \\Flagged \\Deleted \\Seen \\Draft{keywords}{}", self.new_keywords()) };
        self.wire.say(format!("* OK [PERMANENTFLAGS ({permanent})] Limited"));
        self.wire.say(format!("* {} EXISTS", opened.told.len()));
        self.wire.say("* 0 RECENT");
        if let Some(first) = opened.first_unseen {
            self.wire.say(format!("* OK [UNSEEN {}] first unseen", first + 1));
        }
        self.wire.say(format!("* OK [UIDVALIDITY {}] UIDs valid", opened.uidvalidity));
        self.wire.say(format!("* OK [UIDNEXT {}] predicted next UID", opened.uidnext));
        if self.shared.traits.offers("CONDSTORE") {
            self.wire.say(format!("* OK [HIGHESTMODSEQ {}] highest", opened.highest));
        }
        if let Some(known) = known.filter(|known| known.uidvalidity == opened.uidvalidity) {
            self.resync(account, &opened, &known)?;
        }
        self.selected = Some(Selected { id: opened.id, uidvalidity: opened.uidvalidity, read_only, told: opened.told });
        let (access, command) = if read_only { ("READ-ONLY", "EXAMINE") } else { ("READ-WRITE", "SELECT") };
        Ok(format!("[{access}] {command} completed"))
    }

    fn new_keywords(&self) -> &'static str {
        if self.shared.traits.offers("KEYWORDS") { " \\*" } else { "" }
    }

    fn select_options(&mut self, options: Vec<Word>) -> Result<Option<Known>, Refusal> {
        let mut options = Args::new(options);
        let mut known = None;
        while options.peek().is_some() {
            match options.atom("a select parameter")?.to_ascii_uppercase().as_str() {
                "CONDSTORE" if self.shared.traits.offers("CONDSTORE") => self.condstore = true,
                "QRESYNC" if !self.qresync => return bad("QRESYNC must be enabled first"),
                "QRESYNC" => {
                    let mut list = Args::new(options.list("what is known")?);
                    let number = |text: String| text.parse::<u64>().map_err(|_| Refusal::Bad(format!("`{text}` is not a number")));
                    let uidvalidity = u32::try_from(number(list.atom("UIDVALIDITY")?)?).map_err(|_| Refusal::Bad("UIDVALIDITY".to_owned()))?;
                    let modseq = number(list.atom("a modification sequence")?)?;
                    let uids = match list.peek() {
                        Some(Word::Atom(_)) => Some(list.atom("known UIDs")?),
                        _ => None,
                    };
                    known = Some(Known { uidvalidity, modseq, uids });
                }
                other => return bad(format!("unknown select parameter {other}")),
            }
        }
        Ok(known)
    }

    /// What vanished and what changed since the client looked last (RFC 7162 §3.2.5).
    fn resync(&mut self, account: &str, opened: &Opened, known: &Known) -> Result<(), Refusal> {
        let known_uids = known.uids.as_deref().map(|uids| ranges(uids, opened.uidnext)).transpose()?;
        let concerns = |uid: u32| known_uids.as_ref().is_none_or(|known| within(known, uid));
        let mut gone: Vec<u32> = opened.vanished.iter().filter(|(_, modseq)| *modseq > known.modseq).map(|(uid, _)| *uid).collect();
        gone.retain(|uid| concerns(*uid));
        gone.sort_unstable();
        if !gone.is_empty() {
            self.wire.say(format!("* VANISHED (EARLIER) {}", set_of(&gone)));
        }
        for (sequence, told) in (1_u32..).zip(&opened.told).filter(|(_, told)| told.modseq > known.modseq && concerns(told.uid)) {
            let flags = self.shared.look(|store| {
                let message = store.account(account)?.by_id(opened.id)?.get(told.uid)?;
                Some(message.flags.iter().cloned().collect::<Vec<_>>().join(" "))
            });
            if let Some(flags) = flags {
                self.wire.say(format!("* {sequence} FETCH (UID {} FLAGS ({flags}) MODSEQ ({}))", told.uid, told.modseq));
            }
        }
        Ok(())
    }

    /// CLOSE also removes what is marked as deleted, without a word about it; UNSELECT does not.
    pub(super) fn close(&mut self, account: &str, expunge: bool) -> Result<String, Refusal> {
        if !expunge && !self.shared.traits.offers("UNSELECT") {
            return bad("UNSELECT is not offered here");
        }
        let Some(selected) = self.selected.take() else { return bad("no mailbox is selected") };
        if expunge && !selected.read_only {
            let removed = self.shared.change(|store| {
                let Some(account) = store.account_mut(account) else { return Vec::new() };
                let messages = account.by_id(selected.id).map(|mailbox| mailbox.messages.as_slice()).unwrap_or_default();
                let marked: Vec<u32> = messages.iter().filter(|message| message.has("\\Deleted")).map(|message| message.uid).collect();
                marked.into_iter().filter_map(|uid| account.expunge(selected.id, uid)).collect()
            });
            for message in removed {
                self.shared.record(EffectKind::MailDeleted, &message.message_id, None, json!({ "account": account }));
            }
        }
        Ok(if expunge { "CLOSE completed" } else { "UNSELECT completed" }.to_owned())
    }
}

//! FETCH: answering the items of one message after another, with CHANGEDSINCE and VANISHED (RFC 7162 §3.1.4, §3.2.6).

use super::items::{Item, Text, items};
use super::parse::{Args, Word, ranges, set_of, within};
use super::{Refusal, Session, bad, literal, quote};
use crate::mail::mime::{self, Part};
use crate::mail::store::{Change, Message};
use std::collections::BTreeSet;

impl Session {
    pub(super) async fn fetch(&mut self, account: &str, mut args: Args, uid: bool) -> Result<String, Refusal> {
        let set = args.atom("a sequence set")?;
        let mut items = items(args.word().ok_or_else(|| "expected fetch items".to_owned())?)?;
        let mut changed_since = None;
        if args.peek().is_some() {
            changed_since = Some(self.modifiers(args.list("fetch modifiers")?, account, &set, uid)?);
            args.end()?;
        }
        let gmail = items.iter().any(|item| matches!(item, Item::GmailLabels | Item::GmailMessage | Item::GmailThread));
        if gmail && !self.shared.traits.gmail {
            return bad("X-GM-EXT-1 is not offered here");
        }
        if uid && !items.contains(&Item::Uid) {
            items.insert(0, Item::Uid);
        }
        if items.contains(&Item::Modseq) {
            if !self.shared.traits.offers("CONDSTORE") {
                return bad("CONDSTORE is not offered here");
            }
            self.condstore = true;
        } else if changed_since.is_some() {
            items.push(Item::Modseq);
        }
        let reads = items.iter().any(|item| matches!(item, Item::Body { peek: false, .. }));
        let (mailbox, read_only) = self.selected.as_ref().map_or((0, true), |selected| (selected.id, selected.read_only));
        for (sequence, mut message) in self.named(account, &set, uid)? {
            if changed_since.is_some_and(|since| message.modseq <= since) {
                continue;
            }
            let mut wanted = items.clone();
            if reads && !read_only && !message.has("\\Seen") {
                let seen = BTreeSet::from(["\\Seen".to_owned()]);
                let after = self.shared.change(|store| {
                    let account = store.account_mut(account)?;
                    account.flag(mailbox, message.uid, Change::Add, &seen);
                    account.by_id(mailbox)?.get(message.uid).cloned()
                });
                if let Some(after) = after {
                    message = after;
                    if !wanted.contains(&Item::Flags) {
                        wanted.push(Item::Flags);
                    }
                }
            }
            let labels = if gmail { self.shared.look(|store| store.account(account).map(|account| account.labels(message.gm_msgid))) } else { None };
            let answer = answer(&wanted, &message, &labels.unwrap_or_default());
            if wanted.contains(&Item::Flags) {
                self.told_of(&message);
            }
            self.wire.put(format!("* {sequence} FETCH ("));
            self.wire.put(answer);
            self.wire.say(")");
            self.wire.flush_if_long().await?;
        }
        Ok("FETCH completed".to_owned())
    }

    fn modifiers(&mut self, list: Vec<Word>, account: &str, set: &str, uid: bool) -> Result<u64, Refusal> {
        if !self.shared.traits.offers("CONDSTORE") {
            return bad("CONDSTORE is not offered here");
        }
        self.condstore = true;
        let mut list = Args::new(list);
        let (mut since, mut vanished) = (None, false);
        while list.peek().is_some() {
            match list.atom("a fetch modifier")?.to_ascii_uppercase().as_str() {
                "CHANGEDSINCE" => {
                    let text = list.atom("a modification sequence")?;
                    since = Some(text.parse::<u64>().map_err(|_| Refusal::Bad(format!("`{text}` is not a number")))?);
                }
                "VANISHED" if uid && self.qresync => vanished = true,
                "VANISHED" => return bad("VANISHED needs UID FETCH and an enabled QRESYNC"),
                other => return bad(format!("unknown fetch modifier {other}")),
            }
        }
        let Some(since) = since else { return bad("expected CHANGEDSINCE") };
        if vanished {
            let Some(selected) = &self.selected else { return bad("no mailbox is selected") };
            let gone = self.shared.look(|store| {
                let mailbox = store.account(account)?.by_id(selected.id)?;
                Some((mailbox.vanished.clone(), mailbox.uidnext))
            });
            let (gone, next) = gone.unwrap_or_default();
            let asked = ranges(set, next)?;
            let mut gone: Vec<u32> = gone.into_iter().filter(|(uid, modseq)| *modseq > since && within(&asked, *uid)).map(|(uid, _)| uid).collect();
            gone.sort_unstable();
            if !gone.is_empty() {
                self.wire.say(format!("* VANISHED (EARLIER) {}", set_of(&gone)));
            }
        }
        Ok(since)
    }
}

/// The items of one message.
fn answer(items: &[Item], message: &Message, labels: &[String]) -> Vec<u8> {
    let root = mime::parse(&message.raw);
    let answers: Vec<Vec<u8>> = items
        .iter()
        .map(|item| match item {
            Item::Uid => format!("UID {}", message.uid).into_bytes(),
            Item::Flags => format!("FLAGS ({})", message.flags.iter().cloned().collect::<Vec<_>>().join(" ")).into_bytes(),
            Item::InternalDate => format!("INTERNALDATE \"{}\"", message.internal.strftime("%d-%b-%Y %H:%M:%S +0000")).into_bytes(),
            Item::Size => format!("RFC822.SIZE {}", message.raw.len()).into_bytes(),
            Item::Envelope => [b"ENVELOPE ".to_vec(), mime::envelope(root.header)].concat(),
            Item::Structure { extended: true } => [b"BODYSTRUCTURE ".to_vec(), mime::body_structure(&root, true)].concat(),
            Item::Structure { extended: false } => [b"BODY ".to_vec(), mime::body_structure(&root, false)].concat(),
            Item::Modseq => format!("MODSEQ ({})", message.modseq).into_bytes(),
            Item::GmailLabels => format!("X-GM-LABELS ({})", labels.iter().map(|label| quote(label)).collect::<Vec<_>>().join(" ")).into_bytes(),
            Item::GmailMessage => format!("X-GM-MSGID {}", message.gm_msgid).into_bytes(),
            Item::GmailThread => format!("X-GM-THRID {}", message.gm_thrid).into_bytes(),
            Item::Body { name, path, text, partial, .. } => {
                let octets = section(&message.raw, &root, path, text);
                let octets = octets.map(|octets| match partial {
                    Some((from, count)) => octets.iter().skip(*from).take(*count).copied().collect(),
                    None => octets,
                });
                let value = octets.map_or_else(|| b"NIL".to_vec(), |octets| literal(&octets));
                [format!("{name} ").as_bytes(), &value].concat()
            }
        })
        .collect();
    answers.join(&b' ')
}

/// The octets of a section; `None` if there is no such part.
fn section(raw: &[u8], root: &Part<'_>, path: &[usize], text: &Text) -> Option<Vec<u8>> {
    let part = mime::at(root, path)?;
    // HEADER and TEXT of a part speak of the message inside it.
    let message = if path.is_empty() { Some(root) } else { part.message() };
    Some(match text {
        Text::All if path.is_empty() => raw.to_vec(),
        Text::All => part.body.to_vec(),
        Text::Mime => part.header.to_vec(),
        Text::Header => message?.header.to_vec(),
        Text::Body => message?.body.to_vec(),
        Text::Fields { names, not } => {
            let listed = |name: &str| names.iter().any(|listed| listed.eq_ignore_ascii_case(name));
            let fields = mime::fields(message?.header).into_iter().filter(|(name, _)| listed(name) != *not);
            let mut octets: Vec<u8> = fields.flat_map(|(_, field)| field.to_vec()).collect();
            octets.extend(b"\r\n");
            octets
        }
    })
}

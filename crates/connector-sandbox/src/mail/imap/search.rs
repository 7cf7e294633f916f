//! SEARCH: judging messages by keys, and answering with SEARCH or ESEARCH (RFC 4731).

use super::keys::{Ground, Key, keys};
use super::parse::{Args, set_of, within};
use super::{Refusal, Session, bad, no, number, quote, raw_query};
use crate::mail::mime;
use crate::mail::store::Message;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use mail_parser::MessageParser;

/// A message in its place, as keys judge it.
pub(super) struct Candidate<'a> {
    pub(super) sequence: u32,
    pub(super) message: &'a Message,
    pub(super) labels: Vec<String>,
    pub(super) today: Date,
}

impl Session {
    pub(super) fn search(&mut self, tag: &str, account: &str, mut args: Args, uid: bool) -> Result<String, Refusal> {
        let mut wanted = None;
        if self.shared.traits.offers("ESEARCH") && args.took("RETURN") {
            let options = super::boxes::atoms(args.list("return options")?)?;
            if let Some(unknown) = options.iter().find(|option| !matches!(option.as_str(), "MIN" | "MAX" | "ALL" | "COUNT")) {
                return bad(format!("unknown return option {unknown}"));
            }
            wanted = Some(if options.is_empty() { vec!["ALL".to_owned()] } else { options });
        }
        if args.took("CHARSET") {
            let charset = args.text("a charset")?;
            if !charset.eq_ignore_ascii_case("UTF-8") && !charset.eq_ignore_ascii_case("US-ASCII") {
                return no("[BADCHARSET (US-ASCII UTF-8)] unknown charset");
            }
        }
        let Some(selected) = &self.selected else { return bad("no mailbox is selected") };
        let last_uid = selected.told.last().map_or(0, |told| told.uid);
        let (last_sequence, gmail) = (number(selected.told.len()), self.shared.traits.gmail);
        let key = keys(&mut args, Ground { last_uid, last_sequence, gmail, condstore: self.shared.traits.offers("CONDSTORE"), depth: 50 })?;
        let everything = if last_sequence == 0 { Vec::new() } else { self.named(account, "1:*", false)? };
        let today = self.shared.clock.now().to_zoned(TimeZone::UTC).date();
        let mut found = Vec::new();
        let mut modseq = 0;
        for (sequence, message) in &everything {
            let labels = if gmail { self.shared.look(|store| store.account(account).map(|account| account.labels(message.gm_msgid))) } else { None };
            let candidate = Candidate { sequence: *sequence, message, labels: labels.unwrap_or_default(), today };
            if candidate.fits(&key) {
                found.push(if uid { message.uid } else { *sequence });
                modseq = modseq.max(message.modseq);
            }
        }
        let mut tail = String::new();
        if names_modseq(&key) {
            self.condstore = true;
            if !found.is_empty() {
                tail = format!("MODSEQ {modseq}");
            }
        }
        match wanted {
            None => {
                let numbers: String = found.iter().map(|number| format!(" {number}")).collect();
                let tail = if tail.is_empty() { tail } else { format!(" ({tail})") };
                self.wire.say(format!("* SEARCH{numbers}{tail}"));
            }
            Some(wanted) => {
                let mut line = format!("* ESEARCH (TAG {}){}", quote(tag), if uid { " UID" } else { "" });
                for option in wanted {
                    match (option.as_str(), found.first(), found.last()) {
                        ("COUNT", ..) => line.push_str(&format!(" COUNT {}", found.len())),
                        ("MIN", Some(first), _) => line.push_str(&format!(" MIN {first}")),
                        ("MAX", _, Some(last)) => line.push_str(&format!(" MAX {last}")),
                        ("ALL", Some(_), _) => line.push_str(&format!(" ALL {}", set_of(&found))),
                        _ => {}
                    }
                }
                self.wire.say(if tail.is_empty() { line } else { format!("{line} {tail}") });
            }
        }
        Ok("SEARCH completed".to_owned())
    }
}

fn names_modseq(key: &Key) -> bool {
    match key {
        Key::Modseq(_) => true,
        Key::Not(key) => names_modseq(key),
        Key::Or(one, other) => names_modseq(one) || names_modseq(other),
        Key::And(keys) => keys.iter().any(names_modseq),
        _ => false,
    }
}

impl Candidate<'_> {
    pub(super) fn fits(&self, key: &Key) -> bool {
        let message = self.message;
        match key {
            Key::All => true,
            Key::Flag(flag) => message.has(flag),
            Key::Not(key) => !self.fits(key),
            Key::Or(one, other) => self.fits(one) || self.fits(other),
            Key::And(keys) => keys.iter().all(|key| self.fits(key)),
            Key::Header(name, text) => self.header_holds(name, text),
            Key::Body(text) => self.body_holds(text),
            Key::Text(text) => self.body_holds(text) || self.any_header_holds(text),
            Key::Since(day) => self.internal_day() >= *day,
            Key::Before(day) => self.internal_day() < *day,
            Key::SentSince(day) => self.sent_day().is_some_and(|sent| sent >= *day),
            Key::SentBefore(day) => self.sent_day().is_some_and(|sent| sent < *day),
            Key::Larger(size) => message.raw.len() > *size,
            Key::Smaller(size) => message.raw.len() < *size,
            Key::Uid(ranges) => within(ranges, message.uid),
            Key::Sequence(ranges) => within(ranges, self.sequence),
            Key::Modseq(modseq) => message.modseq >= *modseq,
            Key::GmailMessage(id) => message.gm_msgid == *id,
            Key::GmailThread(id) => message.gm_thrid == *id,
            Key::GmailLabel(label) => self.labels.iter().any(|known| known.eq_ignore_ascii_case(label)),
            Key::GmailRaw(query) => raw_query::fits(self, query),
        }
    }

    fn internal_day(&self) -> Date {
        self.message.internal.to_zoned(TimeZone::UTC).date()
    }

    /// The day in the `Date` field, as its writer saw it.
    fn sent_day(&self) -> Option<Date> {
        let sent = mime::field(mime::split(&self.message.raw).0, "date")?;
        jiff::fmt::rfc2822::parse(&sent).ok().map(|sent| sent.date())
    }

    /// Whether a field of this name holds the text, encoded words decoded.
    pub(super) fn header_holds(&self, name: &str, text: &str) -> bool {
        let header = mime::split(&self.message.raw).0;
        let fields = mime::fields(header).into_iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        fields.into_iter().any(|(_, field)| holds(&decoded(field), text))
    }

    fn any_header_holds(&self, text: &str) -> bool {
        mime::fields(mime::split(&self.message.raw).0).into_iter().any(|(_, field)| holds(&decoded(field), text))
    }

    pub(super) fn body_holds(&self, text: &str) -> bool {
        let Some(message) = MessageParser::default().parse(&self.message.raw[..]) else { return false };
        message.parts.iter().filter_map(|part| part.text_contents()).any(|body| holds(body, text))
    }

    pub(super) fn has_attachment(&self) -> bool {
        MessageParser::default().parse(&self.message.raw[..]).is_some_and(|message| message.attachment_count() > 0)
    }
}

/// The value of a field with its encoded words decoded.
fn decoded(field: &[u8]) -> String {
    let plain = String::from_utf8_lossy(field);
    let value = plain.split_once(':').map_or("", |(_, value)| value).replace("\r\n", "");
    if !value.contains("=?") {
        return value.trim().to_owned();
    }
    // As a subject any text is decoded, addresses too.
    let raw = format!("Subject: {}\r\n\r\n", value.trim());
    let subject = MessageParser::default().parse(raw.as_bytes()).and_then(|message| message.subject().map(str::to_owned));
    subject.unwrap_or(value)
}

fn holds(text: &str, wanted: &str) -> bool {
    text.to_lowercase().contains(&wanted.to_lowercase())
}

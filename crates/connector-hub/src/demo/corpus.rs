//! The mail that arrives in the demo's mailbox.
//!
//! Owns the message templates of `demo-mail/`, their expansion to any number of distinct messages, and reading a folder of
//! messages the user names. Refuses to parse mail for real: it looks at header lines only as far as it must to say what a
//! support desk is expected to do with a message. The demo compares the hub's work with that expectation, so the judgement
//! here must not share code with the code being judged.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use Expectation::{AutoReply, Broken, FollowUp, Ticket};

/// The mailbox all generated messages are addressed to.
pub(crate) const SUPPORT_MAILBOX: &str = "support@contoso.example";

/// The configuration items (hosts, machines, a switch and services) that generated messages name. The sandbox's CMDB has all of them
/// but `cache01`: people also name what nobody has recorded.
pub(crate) const CONFIGURATION_ITEMS: &[&str] =
    &["web01", "web02", "app01", "app02", "db01", "db02", "cache01", "sw-acc01", "vm-billing-1", "shop", "billing-api", "mail-relay"];

/// What a support desk is expected to do with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Expectation {
    /// A fresh request: exactly one ticket and exactly one reply.
    Ticket,
    /// Belongs to the thread of an earlier `Ticket`: a comment on that ticket and a reply, no second ticket.
    FollowUp,
    /// Sent by a machine or a mailing list: tagged only. A reply would start a mail loop.
    AutoReply,
    /// Damaged. A dead letter with its reason and handling it once are both right; losing or doubling it is not.
    Broken,
}

/// One message as it lies on the wire, and what should become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DemoMessage {
    /// Name of the file it was read from, or `NNNN-template.eml` for a generated one.
    pub(crate) file: String,
    /// The RFC 5322 message, byte for byte.
    pub(crate) bytes: Vec<u8>,
    /// Its Message-ID without angle brackets, if it has one.
    pub(crate) message_id: Option<String>,
    /// What a support desk should do with it.
    pub(crate) expectation: Expectation,
}

/// A person who writes to the desk.
#[derive(Debug)]
pub(crate) struct Contact {
    /// Mail address.
    pub(crate) email: &'static str,
    /// The name as it stands in a `From` header: RFC 2047 encoded where it is not ASCII.
    pub(crate) header_name: &'static str,
    /// The signature below the text, always ASCII so that it fits every charset.
    pub(crate) first_name: &'static str,
    /// Which templates the person uses: a language, or `new` for people no CRM knows.
    pub(crate) voice: &'static str,
}

const fn person(voice: &'static str, email: &'static str, first_name: &'static str, header_name: &'static str) -> Contact {
    Contact { email, header_name, first_name, voice }
}

/// Everybody who writes in generated messages. The sandbox's CRM knows all of them except the voice `new`, which the tests check.
pub(crate) const CONTACTS: &[Contact] = &[
    person("en", "ada.abel@acme.example", "Ada", "Ada Abel"),
    person("en", "bruno.haas@borealis.example", "Bruno", "\"Haas, Bruno\""),
    person("en", "dmitri.brandt@delphi.example", "Dmitri", "Dmitri Brandt"),
    person("en", "grace.costa@glade.example", "Grace", "\"Grace Costa (purchasing)\""),
    person("en", "ines.gruber@iris.example", "Ines", "=?UTF-8?Q?In=C3=A9s_Gruber?="),
    person("en", "liam.haas@lumen.example", "Liam", "Liam H."),
    person("en", "priya.fontaine@delphi.example", "Priya", "Priya Fontaine"),
    person("en", "quentin.costa@ember.example", "Quentin", "Quentin"),
    person("en", "rosa.jansen@fjord.example", "Rosa", "Rosa Jansen"),
    person("en", "uma.keller@prospect1.example", "Uma", "Uma Keller"),
    person("de", "karin.abel@glade.example", "Karin", "=?ISO-8859-1?Q?Karin_Abel_=28Einkauf_M=FCnchen=29?="),
    person("de", "sven.gruber@glade.example", "Sven", "=?ISO-8859-1?Q?Sven_Gruber_=28B=FCro=29?="),
    person("fr", "chloe.eriksen@cobalt.example", "Chloe", "=?windows-1252?Q?Chlo=E9_Eriksen?="),
    person("pl", "oskar.ito@cobalt.example", "Oskar", "=?ISO-8859-2?Q?Oskar_Ito_=28ksi=EAgowo=B6=E6=29?="),
    person("ja", "hiro.jansen@helix.example", "Hiro", "=?ISO-2022-JP?B?GyRCJVIlbSEmJWQlcyU7JXMbKEI=?="),
    person("zh", "mei.eriksen@acme.example", "Mei", "=?GB2312?B?w7c=?="),
    person("ar", "farid.fontaine@fjord.example", "Farid", "=?UTF-8?B?2YHYsdmK2K8=?="),
    person("he", "noor.brandt@borealis.example", "Noor", "=?UTF-8?B?16DXldeo?="),
    person("new", "robin@newcomer.example", "Robin", "Robin"),
    person("new", "first.timer@elsewhere.example", "Kim", "Kim"),
];

struct Template {
    name: &'static str,
    bytes: &'static [u8],
    voice: &'static str,
    expectation: Expectation,
    /// Continues a thread: it is sent by the person who opened it and names its messages.
    follows: bool,
}

macro_rules! template {
    ($name:literal, $voice:literal, $expectation:expr, follows: $follows:literal) => {
        Template {
            name: $name,
            bytes: include_bytes!(concat!("../../demo-mail/", $name, ".eml")),
            voice: $voice,
            expectation: $expectation,
            follows: $follows,
        }
    };
}

static TEMPLATES: &[Template] = &[
    template!("en-plain", "en", Ticket, follows: false),
    template!("en-bare", "en", Ticket, follows: false),
    template!("en-flowed", "en", Ticket, follows: false),
    template!("en-alternative", "en", Ticket, follows: false),
    template!("en-html-only", "en", Ticket, follows: false),
    template!("en-attachment-csv", "en", Ticket, follows: false),
    template!("en-screenshot-png", "en", Ticket, follows: false),
    template!("en-two-attachments", "en", Ticket, follows: false),
    template!("en-forward", "en", Ticket, follows: false),
    template!("en-emoji", "en", Ticket, follows: false),
    template!("en-no-item", "en", Ticket, follows: false),
    template!("en-urgent-reply-to", "en", Ticket, follows: false),
    template!("en-newcomer", "new", Ticket, follows: false),
    template!("de-latin1", "de", Ticket, follows: false),
    template!("fr-windows-1252", "fr", Ticket, follows: false),
    template!("pl-latin2", "pl", Ticket, follows: false),
    template!("ja-iso-2022-jp", "ja", Ticket, follows: false),
    template!("zh-gb2312", "zh", Ticket, follows: false),
    template!("ar-utf8", "ar", Ticket, follows: false),
    template!("he-utf8", "he", Ticket, follows: false),
    template!("en-followup", "en", FollowUp, follows: true),
    template!("en-followup-references-only", "en", FollowUp, follows: true),
    template!("en-followup-html", "en", FollowUp, follows: true),
    template!("de-followup", "de", FollowUp, follows: true),
    template!("ja-followup", "ja", FollowUp, follows: true),
    template!("auto-out-of-office", "en", AutoReply, follows: true),
    template!("auto-vacation-de", "de", AutoReply, follows: false),
    template!("auto-bounce", "en", AutoReply, follows: false),
    template!("auto-mailing-list", "en", AutoReply, follows: false),
    template!("auto-read-receipt", "en", AutoReply, follows: false),
    template!("broken-no-from", "en", Broken, follows: false),
    template!("broken-no-message-id", "en", Broken, follows: false),
    template!("broken-truncated-base64", "en", Broken, follows: false),
    template!("broken-no-closing-boundary", "en", Broken, follows: false),
    template!("broken-header-bytes", "en", Broken, follows: false),
    template!("broken-garbage", "en", Broken, follows: false),
];

/// How often a template stands in one round of the mix: people write most of the mail, damaged mail is rare.
const fn weight(expectation: Expectation) -> usize {
    match expectation {
        Ticket | FollowUp => 3,
        AutoReply => 2,
        Broken => 1,
    }
}

/// Makes `n` distinct messages, in the order in which they arrive. The same `seed` and `n` give the same bytes.
///
/// A follow-up always stands behind the message that opened its thread. From about 100 messages on, every template is used.
pub(crate) fn generate(seed: u64, n: usize) -> Vec<DemoMessage> {
    let mut dice = Dice(seed);
    let mut threads: Vec<Thread> = Vec::new();
    let mut deck: Vec<&'static Template> = Vec::new();
    (0..n).map(|index| next_message(&mut dice, &mut deck, &mut threads, index)).collect()
}

fn next_message(dice: &mut Dice, deck: &mut Vec<&'static Template>, threads: &mut Vec<Thread>, index: usize) -> DemoMessage {
    let template = draw(dice, deck, threads);
    let candidates: Vec<usize> = (0..threads.len()).filter(|&t| threads[t].contact.voice == template.voice).collect();
    let thread = template.follows.then(|| *dice.pick(&candidates));
    let contact = match thread {
        Some(t) => threads[t].contact,
        None => *dice.pick(&CONTACTS.iter().filter(|c| c.voice == template.voice).collect::<Vec<_>>()),
    };
    let item = thread.map_or_else(|| *dice.pick(CONFIGURATION_ITEMS), |t| threads[t].item);
    let domain = contact.email.rsplit('@').next().unwrap_or("example.com");
    let id = format!("{:016x}.{index:04}@mail.{domain}", dice.next());
    // base64 text can only be cut at whole groups of three bytes; trailing spaces do not matter in the text
    let padded_item = format!("{item:width$}", width = item.len().next_multiple_of(3));

    let mut values = HashMap::from([
        ("id", id.clone()),
        ("date", date(index, dice.below(400), contact.voice)),
        ("from", contact.email.to_owned()),
        ("name", contact.header_name.to_owned()),
        ("first", contact.first_name.to_owned()),
        ("to", SUPPORT_MAILBOX.to_owned()),
        ("ci", item.to_owned()),
        ("ci64", STANDARD.encode(padded_item)),
        ("number", (10_000 + dice.below(90_000)).to_string()),
        ("tag", format!("{:012x}", dice.next() >> 16)),
    ]);
    if let Some(t) = thread {
        let Thread { ids, subject, .. } = &threads[t];
        let references: Vec<String> = ids.iter().map(|id| format!("<{id}>")).collect();
        values.insert("parent", ids[ids.len() - 1].clone());
        values.insert("references", references.join("\r\n "));
        values.insert("subject", subject.clone());
    }
    let bytes = fill(template.bytes, &values);
    let message_id = Headers::read(&bytes).message_id();

    if let Some(id) = &message_id {
        match (template.expectation, thread) {
            (Ticket, _) => {
                let subject = Headers::read(&bytes).first("subject").unwrap_or_default();
                threads.push(Thread { contact, item, subject, ids: vec![id.clone()] });
            }
            (FollowUp, Some(t)) => threads[t].ids.push(id.clone()),
            _ => {}
        }
    }
    DemoMessage { file: format!("{index:04}-{}.eml", template.name), bytes, message_id, expectation: template.expectation }
}

/// Takes the next usable card. A follow-up without an open thread waits in the deck until somebody has opened one.
fn draw(dice: &mut Dice, deck: &mut Vec<&'static Template>, threads: &[Thread]) -> &'static Template {
    loop {
        let usable = |t: &&'static Template| !t.follows || threads.iter().any(|open| open.contact.voice == t.voice);
        if let Some(at) = deck.iter().rposition(usable) {
            return deck.remove(at);
        }
        let mut round: Vec<_> = TEMPLATES.iter().flat_map(|t| std::iter::repeat_n(t, weight(t.expectation))).collect();
        for last in (1..round.len()).rev() {
            round.swap(last, dice.below(last as u64 + 1) as usize);
        }
        deck.extend(round);
    }
}

/// A conversation that a request has opened.
struct Thread {
    contact: &'static Contact,
    item: &'static str,
    /// Raw header value: still encoded, so it can be repeated in a reply as it stands.
    subject: String,
    /// Message-IDs, oldest first.
    ids: Vec<String>,
}

/// Replaces each `{{name}}`. A name without a value stays as it is, which the tests look for.
fn fill(template: &[u8], values: &HashMap<&str, String>) -> Vec<u8> {
    let mut out = Vec::with_capacity(template.len() + 256);
    let mut rest = template;
    while let Some(open) = find(rest, b"{{") {
        let Some(length) = find(&rest[open + 2..], b"}}") else { break };
        let end = open + 2 + length;
        let value = std::str::from_utf8(&rest[open + 2..end]).ok().and_then(|name| values.get(name));
        out.extend_from_slice(&rest[..open]);
        match value {
            Some(value) => out.extend_from_slice(value.as_bytes()),
            None => out.extend_from_slice(&rest[open..end + 2]),
        }
        rest = &rest[end + 2..];
    }
    out.extend_from_slice(rest);
    out
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// An RFC 5322 date: about seven minutes between messages, from Monday, 2 November 2026, in the sender's time zone.
fn date(index: usize, jitter: u64, voice: &str) -> String {
    const FIRST: u64 = 1_793_606_400; // 2026-11-02T08:00:00Z
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (zone, east_hours) = match voice {
        "de" | "fr" | "pl" => ("+0100", 1),
        "ar" | "he" => ("+0200", 2),
        "zh" => ("+0800", 8),
        "ja" => ("+0900", 9),
        _ => ("+0000", 0),
    };
    let local = FIRST + index as u64 * 420 + jitter + east_hours * 3600;
    let (days, seconds) = (local / 86_400, local % 86_400);
    // days to a civil date, counted from 1 March of year 0 so that the leap day is the last day of a year
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    format!(
        "{}, {day} {} {year} {:02}:{:02}:{:02} {zone}",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
    )
}

/// SplitMix64: small, good enough to shuffle mail, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

/// Reads every message file of a folder, in name order.
///
/// Sub-folders, hidden files and a `README` are passed over; everything else is taken for a message, however broken.
///
/// # Errors
/// Only when the folder or a file in it cannot be read; the error names the path.
pub(crate) fn load_dir(path: &Path) -> io::Result<Vec<DemoMessage>> {
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("cannot read mail from {}: {error}", path.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| named(path, e))? {
        let file = entry.map_err(|e| named(path, e))?.path();
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let is_readme = name.split('.').next().is_some_and(|stem| stem.eq_ignore_ascii_case("readme"));
        if file.is_file() && !name.starts_with('.') && !is_readme {
            files.push((name, file));
        }
    }
    files.sort();
    let mut known = HashSet::new();
    files
        .into_iter()
        .map(|(file, path)| {
            let bytes = std::fs::read(&path).map_err(|e| named(&path, e))?;
            let headers = Headers::read(&bytes);
            let expectation = judge(&headers, &mut known);
            Ok(DemoMessage { file, message_id: headers.message_id(), bytes, expectation })
        })
        .collect()
}

/// Says what should become of a message nobody here has seen before. `known` holds the ids of all threads so far: a message
/// that shares an id with one of them, its own or one it refers to, belongs to that thread.
fn judge(headers: &Headers, known: &mut HashSet<String>) -> Expectation {
    let from = headers.first("from").unwrap_or_default();
    if !from.contains('@') || headers.message_id().is_none() {
        return Broken;
    }
    if headers.is_automatic(&from) {
        return AutoReply;
    }
    let ids = headers.thread_ids();
    let expectation = if ids.iter().any(|id| known.contains(id)) { FollowUp } else { Ticket };
    known.extend(ids);
    expectation
}

/// The header lines of a message: lower-case names, unfolded values.
struct Headers(Vec<(String, String)>);

impl Headers {
    fn read(message: &[u8]) -> Self {
        let mut lines: Vec<(String, String)> = Vec::new();
        for raw in message.split(|&b| b == b'\n') {
            let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
            if raw.is_empty() {
                break;
            }
            let line = String::from_utf8_lossy(raw);
            match (line.starts_with([' ', '\t']), lines.last_mut()) {
                (true, Some((_, value))) => {
                    value.push(' ');
                    value.push_str(line.trim());
                }
                _ => {
                    if let Some((name, value)) = line.split_once(':') {
                        lines.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
                    }
                }
            }
        }
        Self(lines)
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn first(&self, name: &str) -> Option<String> {
        self.all(name).next().map(str::to_owned)
    }

    fn message_id(&self) -> Option<String> {
        self.all("message-id").flat_map(ids_in).next()
    }

    fn thread_ids(&self) -> Vec<String> {
        ["references", "in-reply-to", "message-id"].into_iter().flat_map(|name| self.all(name).flat_map(ids_in)).collect()
    }

    /// RFC 3834 §2 and common practice: a machine must not answer a machine, a list or a bounce.
    fn is_automatic(&self, from: &str) -> bool {
        let says = |name: &str, words: &[&str]| {
            self.all(name).any(|value| {
                let value = value.to_ascii_lowercase();
                value.split([',', ';', ' ']).any(|part| words.contains(&part))
            })
        };
        let from = from.to_ascii_lowercase();
        self.all("auto-submitted").any(|v| !v.is_empty() && !v.to_ascii_lowercase().starts_with("no"))
            || says("precedence", &["bulk", "list", "junk", "auto_reply"])
            || says("x-auto-response-suppress", &["all", "autoreply"])
            || self.all("list-id").next().is_some()
            || self.all("return-path").any(|v| v == "<>")
            || self.all("content-type").any(|v| v.to_ascii_lowercase().starts_with("multipart/report"))
            || from.contains("mailer-daemon@")
            || from.contains("postmaster@")
    }
}

/// The ids between angle brackets, without the brackets.
fn ids_in(value: &str) -> Vec<String> {
    let inner = value.split('<').skip(1).filter_map(|part| part.split_once('>')).map(|(id, _)| id.trim());
    inner.filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

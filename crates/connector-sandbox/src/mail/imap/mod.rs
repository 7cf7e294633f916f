//! One IMAP session: reading commands, the three states, and the changes others made, told before each answer. What the commands do is in the
//! files beside this one.

mod auth;
mod boxes;
mod fetch;
mod idle;
mod items;
mod keys;
mod parse;
mod raw_query;
mod search;
mod select;
mod update;
mod write;

use super::faults::GREETING;
use super::shared::{Place, Shared};
use super::store::Message;
use super::wire::{Io, Wire};
use parse::{Args, Piece, literal_ahead, words};
use std::io;
use std::sync::Arc;

/// A command line without its literals.
const LONGEST_LINE: usize = 64 * 1024;
/// A literal that is not a message.
const LONGEST_STRING: usize = 64 * 1024;

/// Why a command was not done.
enum Refusal {
    /// `NO`: it could not be done.
    No(String),
    /// `BAD`: it was not a command.
    Bad(String),
    /// The session ends, with a `BYE` unless the text is empty.
    End(String),
    /// The answer was sent already.
    Answered,
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<String> for Refusal {
    /// What the reader of words complains of is a client's mistake.
    fn from(text: String) -> Self {
        Self::Bad(text)
    }
}

fn no<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::No(text.into()))
}

fn bad<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Bad(text.into()))
}

/// What the client was last told of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    uid: u32,
    modseq: u64,
}

/// The mailbox a session has selected.
#[derive(Debug)]
struct Selected {
    id: u64,
    uidvalidity: u32,
    read_only: bool,
    /// What the client believes, in the order of its sequence numbers.
    told: Vec<Told>,
}

struct Session {
    shared: Arc<Shared>,
    wire: Wire,
    tls: bool,
    account: Option<String>,
    selected: Option<Selected>,
    condstore: bool,
    qresync: bool,
    place: Option<Place>,
}

/// Talks to one client until it leaves.
pub(super) async fn run(io: Box<dyn Io>, tls: bool, shared: Arc<Shared>) -> io::Result<()> {
    let wire = Wire::new(io);
    let mut session = Session { shared, wire, tls, account: None, selected: None, condstore: false, qresync: false, place: None };
    if let Some(reply) = session.shared.faults.next_imap(GREETING) {
        if reply != "CUT" {
            session.wire.say(format!("* {reply}"));
        }
        return session.wire.flush().await;
    }
    let capabilities = session.capabilities();
    session.wire.say(format!("* OK [CAPABILITY {capabilities}] connectors sandbox ready"));
    session.wire.flush().await?;
    while session.turn().await? {}
    session.wire.flush().await
}

impl Session {
    /// One command; false when the session is over.
    async fn turn(&mut self) -> io::Result<bool> {
        let Some((tag, read)) = self.read_command().await? else { return Ok(false) };
        let done = match read {
            Ok((name, args)) => self.command(&tag, &name, args).await,
            Err(refusal) => Err(refusal),
        };
        match done {
            Ok(text) => self.wire.say(format!("{tag} OK {text}")),
            Err(Refusal::No(text)) => self.wire.say(format!("{tag} NO {text}")),
            Err(Refusal::Bad(text)) => self.wire.say(format!("{tag} BAD {text}")),
            Err(Refusal::End(text)) => {
                if !text.is_empty() {
                    self.wire.say(text);
                    self.wire.flush().await?;
                }
                return Ok(false);
            }
            Err(Refusal::Answered) => {}
            Err(Refusal::Io(error)) => return Err(error),
        }
        self.wire.flush().await?;
        Ok(true)
    }

    /// The next command: tag, name (`UID` joined to what follows), arguments. `None` when the client is gone.
    async fn read_command(&mut self) -> io::Result<Option<(String, Result<(String, Args), Refusal>)>> {
        let mut pieces = Vec::new();
        let mut tag = String::from("*");
        let mut room = self.shared.traits.message_limit;
        loop {
            let Some(line) = self.wire.line(LONGEST_LINE).await? else { return Ok(None) };
            if pieces.is_empty() {
                let first = line.split(|byte| *byte == b' ').next().unwrap_or_default();
                tag = String::from_utf8_lossy(first).into_owned();
                if tag.is_empty() || tag.contains(['+', '(', ')', '{', '*', '%', '"', '\\']) {
                    return Ok(Some(("*".to_owned(), bad("a command starts with a tag"))));
                }
                if !line.windows(8).any(|window| window.eq_ignore_ascii_case(b" APPEND ")) {
                    room = LONGEST_STRING;
                }
            }
            let Some((length, waits)) = literal_ahead(&line) else {
                pieces.push(Piece::Line(line));
                break;
            };
            if !waits && !self.shared.traits.offers("LITERAL+") {
                return Ok(Some((tag, bad("LITERAL+ is not offered here"))));
            }
            if length > room {
                // Without a go-ahead the client sends nothing; one that does not wait cannot be stopped but by closing.
                let refusal =
                    if waits { Refusal::No("[TOOBIG] that is too big".to_owned()) } else { Refusal::End("* BYE [TOOBIG] too big".to_owned()) };
                return Ok(Some((tag, Err(refusal))));
            }
            room -= length;
            let open = line.iter().rposition(|byte| *byte == b'{').unwrap_or(line.len());
            pieces.push(Piece::Line(line[..open].to_vec()));
            if waits {
                self.wire.say("+ Ready for literal data");
                self.wire.flush().await?;
            }
            let Some(octets) = self.wire.exact(length).await? else { return Ok(None) };
            pieces.push(Piece::Literal(octets));
        }
        Ok(Some((tag, name_and_args(pieces))))
    }

    /// Does one command; the text of its `OK`.
    async fn command(&mut self, tag: &str, name: &str, args: Args) -> Result<String, Refusal> {
        if let Some(reply) = self.shared.faults.next_imap(name) {
            return match reply.split_once(' ').unwrap_or((&reply, "")) {
                ("BYE", _) => Err(Refusal::End(format!("* {reply}"))),
                ("CUT", _) => Err(Refusal::End(String::new())),
                ("BAD", text) => bad(text),
                (_, text) => no(text),
            };
        }
        let text = match name {
            "CAPABILITY" => {
                args.end()?;
                let capabilities = self.capabilities();
                self.wire.say(format!("* CAPABILITY {capabilities}"));
                "CAPABILITY completed".to_owned()
            }
            "NOOP" | "CHECK" => format!("{name} completed"),
            "ID" => self.identify(args)?,
            "LOGOUT" => return Err(Refusal::End(format!("* BYE logging out\r\n{tag} OK LOGOUT completed"))),
            "STARTTLS" => return self.starttls(tag).await,
            "LOGIN" => self.login(args)?,
            "AUTHENTICATE" => self.authenticate(args).await?,
            _ => self.signed_in(tag, name, args).await?,
        };
        // EXPUNGE must not come where sequence numbers are in use (RFC 3501 §7.4.1).
        self.tell_changes(!matches!(name, "FETCH" | "STORE" | "SEARCH"))?;
        Ok(text)
    }

    async fn signed_in(&mut self, tag: &str, name: &str, args: Args) -> Result<String, Refusal> {
        let Some(account) = self.account.clone() else { return bad(format!("{name} is unknown, or not allowed before login")) };
        match name {
            "ENABLE" => self.enable(args),
            "NAMESPACE" => self.namespace(),
            "LIST" | "LSUB" => self.list(&account, args, name),
            "STATUS" => self.status(&account, args),
            "CREATE" => self.create(&account, args),
            "DELETE" => self.delete(&account, args),
            "RENAME" => self.rename(&account, args),
            "SUBSCRIBE" | "UNSUBSCRIBE" => self.subscribe(&account, args, name == "SUBSCRIBE"),
            "GETQUOTA" | "GETQUOTAROOT" => self.quota(&account, args, name == "GETQUOTAROOT"),
            "SELECT" | "EXAMINE" => self.select(&account, args, name == "EXAMINE"),
            "APPEND" => self.append(&account, args),
            "IDLE" => self.idle().await,
            _ => self.in_mailbox(tag, name, &account, args).await,
        }
    }

    async fn in_mailbox(&mut self, tag: &str, name: &str, account: &str, args: Args) -> Result<String, Refusal> {
        let (uid, command) = name.strip_prefix("UID ").map_or((false, name), |command| (true, command));
        if !matches!(command, "CLOSE" | "UNSELECT" | "EXPUNGE" | "SEARCH" | "FETCH" | "STORE" | "COPY" | "MOVE") {
            return bad(format!("{name} is unknown"));
        }
        if self.selected.is_none() {
            return bad(format!("{name} needs a selected mailbox"));
        }
        match command {
            "CLOSE" | "UNSELECT" => self.close(account, command == "CLOSE"),
            "EXPUNGE" => self.expunge(account, args, uid),
            "SEARCH" => self.search(tag, account, args, uid),
            "FETCH" => self.fetch(account, args, uid).await,
            "STORE" => self.store(account, args, uid),
            _ => self.copy(account, args, uid, command == "MOVE"),
        }
    }

    /// The capabilities in the current state.
    fn capabilities(&self) -> String {
        let traits = &self.shared.traits;
        let mut words = vec!["IMAP4rev1".to_owned()];
        let mut offer = |names: &[&str]| words.extend(names.iter().filter(|name| traits.offers(name)).map(|name| (*name).to_owned()));
        offer(&["LITERAL+", "SASL-IR", "ID", "ENABLE", "IDLE", "NAMESPACE"]);
        if self.account.is_none() {
            if self.shared.tls.is_some() && !self.tls {
                if !self.shared.faults.starttls_stripped() {
                    words.push("STARTTLS".to_owned());
                }
                // Stripped, the line between client and server is the attacker's: it wants the password, so it offers to take it.
                if self.shared.faults.starttls_stripped() { words.push("AUTH=PLAIN".to_owned()) } else { words.push("LOGINDISABLED".to_owned()) }
            } else {
                offer(&["AUTH=PLAIN", "AUTH=XOAUTH2", "AUTH=OAUTHBEARER"]);
            }
        } else {
            offer(&["UIDPLUS", "MOVE", "UNSELECT", "CHILDREN", "SPECIAL-USE", "LIST-EXTENDED", "LIST-STATUS", "ESEARCH", "CONDSTORE", "QUOTA"]);
            if traits.gmail {
                offer(&["X-GM-EXT-1"]);
            } else {
                offer(&["QRESYNC"]);
            }
            words.push(format!("APPENDLIMIT={}", traits.message_limit));
        }
        words.join(" ")
    }

    /// Copies of the messages a set names, with their sequence numbers, in order. A UID that is not there is skipped; a sequence number that is
    /// not there is a client's mistake.
    fn named(&self, account: &str, set: &str, uid: bool) -> Result<Vec<(u32, Message)>, Refusal> {
        let Some(selected) = &self.selected else { return bad("no mailbox is selected") };
        let last = if uid { selected.told.last().map_or(0, |told| told.uid) } else { number(selected.told.len()) };
        let ranges = parse::ranges(set, last)?;
        if !uid && ranges.iter().any(|(_, to)| *to > last) {
            return bad("there is no message with that number");
        }
        let wanted: Vec<(u32, u32)> = (1..)
            .zip(&selected.told)
            .filter(|(sequence, told)| parse::within(&ranges, if uid { told.uid } else { *sequence }))
            .map(|(sequence, told)| (sequence, told.uid))
            .collect();
        Ok(self.shared.look(|store| {
            let mailbox = store.account(account).and_then(|account| account.by_id(selected.id));
            let found = wanted.into_iter().filter_map(|(sequence, uid)| Some((sequence, mailbox?.get(uid)?.clone())));
            found.collect()
        }))
    }
}

/// Name and arguments of a command.
fn name_and_args(pieces: Vec<Piece>) -> Result<(String, Args), Refusal> {
    let mut args = Args::new(words(pieces)?);
    args.word();
    let mut name = args.atom("a command")?.to_ascii_uppercase();
    if name == "UID" {
        name = format!("UID {}", args.atom("a command after UID")?.to_ascii_uppercase());
    }
    Ok((name, args))
}

/// A count as IMAP writes it.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A quoted string where that can carry the octets, else a literal; `NIL` for nothing.
pub(super) fn nstring(octets: Option<&[u8]>) -> Vec<u8> {
    match octets {
        None => b"NIL".to_vec(),
        Some(octets) if octets.len() <= 1000 && octets.iter().all(|byte| matches!(byte, 32..=126)) => {
            let mut quoted = vec![b'"'];
            for byte in octets {
                if matches!(byte, b'"' | b'\\') {
                    quoted.push(b'\\');
                }
                quoted.push(*byte);
            }
            quoted.push(b'"');
            quoted
        }
        Some(octets) => literal(octets),
    }
}

/// A literal.
fn literal(octets: &[u8]) -> Vec<u8> {
    [format!("{{{}}}\r\n", octets.len()).as_bytes(), octets].concat()
}

/// A mailbox name in an answer.
fn quote(name: &str) -> String {
    String::from_utf8_lossy(&nstring(Some(name.as_bytes()))).into_owned()
}

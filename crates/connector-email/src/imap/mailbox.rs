//! What is done with mailboxes: listing, opening, searching, fetching, flags, moving, appending. Each is one command or the few that the
//! server's extensions call for; what a server lacks is done the long way (fact sheet §3.2 to §3.8).

use bytes::Bytes;
use connector_core::{Error, ErrorKind, Result};

use super::{
    command::Command,
    failure::Errand,
    fetched::Fetched,
    names::{self, Purpose},
    session::{Done, Session},
    sets::UidSet,
    value::Value,
};

/// UIDs in one command (fact sheet §3.5).
pub(crate) const BATCH: usize = 500;

/// A folder as LIST tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) name: String,
    pub(crate) delimiter: Option<String>,
    pub(crate) purpose: Option<Purpose>,
    pub(crate) selectable: bool,
    pub(crate) has_children: bool,
}

/// An open mailbox.
#[derive(Debug, Clone, Default)]
pub(crate) struct Open {
    pub(crate) name: String,
    pub(crate) exists: u32,
    pub(crate) uid_validity: u32,
    pub(crate) uid_next: Option<u32>,
    pub(crate) highest_modseq: Option<u64>,
    /// New keywords may be made (`\*`).
    pub(crate) keywords: bool,
    /// Flags and keywords in use.
    pub(crate) flags: Vec<String>,
    /// What QRESYNC told at once.
    pub(crate) vanished: UidSet,
    pub(crate) changed: Vec<Fetched>,
}

/// How a mailbox is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// EXAMINE: nothing changes, not even `\Recent`.
    Read,
    /// SELECT.
    Write,
}

/// Counts of a mailbox that is not opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) messages: Option<u64>,
    pub(crate) unseen: Option<u64>,
    pub(crate) uid_next: Option<u64>,
    pub(crate) uid_validity: Option<u64>,
    pub(crate) highest_modseq: Option<u64>,
}

impl Session {
    /// All folders, the inbox first, each with what it is for.
    pub(crate) async fn folders(&mut self) -> Result<Vec<Folder>> {
        let returning = self.has("SPECIAL-USE") && (self.has("LIST-EXTENDED") || self.has("IMAP4REV2"));
        let command = Command::new(if returning { "LIST \"\" \"*\" RETURN (SPECIAL-USE CHILDREN)" } else { "LIST \"\" \"*\"" });
        let mut found: Vec<Folder> = Vec::new();
        self.run(Errand::Other, command, &mut |words| {
            found.extend(folder(&words));
            Ok(())
        })
        .await?;
        // A name stands for a purpose only where no folder has the attribute.
        for at in 0..found.len() {
            if found[at].purpose.is_none() && found[at].selectable {
                let last = found[at].delimiter.as_deref().and_then(|delimiter| found[at].name.rsplit(delimiter).next()).unwrap_or(&found[at].name);
                let guess = Purpose::of_name(last);
                if guess.is_some() && !found.iter().any(|folder| folder.purpose == guess) {
                    found[at].purpose = guess;
                }
            }
        }
        found.sort_by(|a, b| (a.purpose != Some(Purpose::Inbox), &a.name).cmp(&(b.purpose != Some(Purpose::Inbox), &b.name)));
        Ok(found)
    }

    /// Opens a mailbox. With `since` (UIDVALIDITY, mod-sequence), what changed after it is told at once (QRESYNC must be enabled).
    pub(crate) async fn open(&mut self, name: &str, access: Access, since: Option<(u32, u64)>) -> Result<Open> {
        let mut command = Command::new(if access == Access::Read { "EXAMINE" } else { "SELECT" }).mailbox(name)?;
        match since {
            Some((validity, modseq)) => command = command.words(&format!("(QRESYNC ({validity} {modseq}))")),
            None if self.has("CONDSTORE") || self.has("QRESYNC") => command = command.words("(CONDSTORE)"),
            None => {}
        }
        let mut open = Open { name: name.to_owned(), ..Open::default() };
        let done = self
            .run(Errand::Mailbox, command, &mut |words| {
                match &words[..] {
                    [what, Value::List(flags)] if what.is("FLAGS") => open.flags = flags.iter().filter_map(Value::text).collect(),
                    [count, what] if what.is("EXISTS") => open.exists = count.number().unwrap_or_default(),
                    _ => match vanished(&words) {
                        Some(gone) => open.vanished = open.vanished.union(&gone),
                        None => open.changed.extend(Fetched::read(&words)),
                    },
                }
                Ok(())
            })
            .await?;
        open.uid_validity =
            done.number("UIDVALIDITY").ok_or_else(|| Error::protocol("the mail server names no UIDVALIDITY, so no message can be named"))?;
        open.uid_next = done.number("UIDNEXT");
        open.highest_modseq = done.number("HIGHESTMODSEQ");
        open.keywords =
            done.note("PERMANENTFLAGS").and_then(|code| code.values.first()).is_some_and(|flags| flags.list().iter().any(|flag| flag.is("\\*")));
        Ok(open)
    }

    /// Counts without opening.
    pub(crate) async fn counts(&mut self, name: &str) -> Result<Counts> {
        let modseq = if self.has("CONDSTORE") || self.has("QRESYNC") { " HIGHESTMODSEQ" } else { "" };
        let command = Command::new("STATUS").mailbox(name)?.words(&format!("(MESSAGES UNSEEN UIDNEXT UIDVALIDITY{modseq})"));
        let mut counts = Counts::default();
        self.run(Errand::Mailbox, command, &mut |words| {
            if let [what, _, Value::List(items)] = &words[..]
                && what.is("STATUS")
            {
                for pair in items.chunks_exact(2) {
                    let number = pair[1].number();
                    match &pair[0] {
                        name if name.is("MESSAGES") => counts.messages = number,
                        name if name.is("UNSEEN") => counts.unseen = number,
                        name if name.is("UIDNEXT") => counts.uid_next = number,
                        name if name.is("UIDVALIDITY") => counts.uid_validity = number,
                        name if name.is("HIGHESTMODSEQ") => counts.highest_modseq = number,
                        _ => {}
                    }
                }
            }
            Ok(())
        })
        .await?;
        Ok(counts)
    }

    /// The UIDs that match, in ascending order. `keys` are search keys (see `search`).
    pub(crate) async fn search(&mut self, keys: Command) -> Result<Vec<u32>> {
        let start = if keys.needs_utf8() { "UID SEARCH CHARSET UTF-8" } else { "UID SEARCH" };
        let mut found = Vec::new();
        self.run(Errand::Other, Command::new(start).then(keys), &mut |words| {
            match &words[..] {
                [what, rest @ ..] if what.is("SEARCH") => found.extend(rest.iter().filter_map(Value::number::<u32>)),
                // IMAP4rev2 answers with a set.
                [what, rest @ ..] if what.is("ESEARCH") => {
                    let all = rest.windows(2).find(|pair| pair[0].is("ALL")).and_then(|pair| pair[1].text());
                    if let Some(set) = all.as_deref().and_then(UidSet::parse) {
                        if set.len() > 4_000_000 {
                            return Err(Error::protocol("the mail server finds more messages than a mailbox holds"));
                        }
                        found.extend(set.iter());
                    }
                }
                _ => {}
            }
            Ok(())
        })
        .await?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Fetches `items` of messages, one after the other into `on`; nothing is kept here. `cap`: the longest answer.
    pub(crate) async fn fetch(&mut self, uids: &[u32], items: &str, cap: usize, on: &mut (dyn FnMut(Fetched) -> Result<()> + Send)) -> Result<()> {
        for batch in uids.chunks(BATCH) {
            let set = UidSet::of(batch.iter().copied());
            let command = Command::new(format!("UID FETCH {set} {items}"));
            self.run_large(cap, command, &mut |words| match Fetched::read(&words) {
                // Servers may tell of other messages at any time.
                Some(fetched) if set.contains(fetched.uid) => on(fetched),
                _ => Ok(()),
            })
            .await?;
        }
        Ok(())
    }

    /// What changed after a mod-sequence: flags and, with QRESYNC, what is gone.
    pub(crate) async fn changed_since(&mut self, modseq: u64, with_vanished: bool) -> Result<(Vec<Fetched>, UidSet)> {
        let vanishing = if with_vanished { " VANISHED" } else { "" };
        let command = Command::new(format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq}{vanishing})"));
        let (mut changed, mut gone) = (Vec::new(), UidSet::default());
        self.run(Errand::Other, command, &mut |words| {
            match vanished(&words) {
                Some(set) => gone = gone.union(&set),
                None => changed.extend(Fetched::read(&words)),
            }
            Ok(())
        })
        .await?;
        Ok((changed, gone))
    }

    /// Adds, removes or replaces flags. What another client changed meanwhile is left to that change being absolute: `+` and `-` commute.
    pub(crate) async fn store(&mut self, uids: &[u32], how: &str, flags: Command) -> Result<()> {
        for batch in uids.chunks(BATCH) {
            let command = Command::new(format!("UID STORE {} {how}", UidSet::of(batch.iter().copied()))).then(flags.clone());
            self.simple(Errand::Other, command).await?;
        }
        Ok(())
    }

    /// The same with a list of values of others, as Gmail's labels are.
    pub(crate) async fn store_list(&mut self, uids: &[u32], how: &str, values: &[String]) -> Result<()> {
        for batch in uids.chunks(BATCH) {
            let command = Command::new(format!("UID STORE {} {how}", UidSet::of(batch.iter().copied()))).list(values.iter().map(String::as_str))?;
            self.simple(Errand::Other, command).await?;
        }
        Ok(())
    }

    /// Opens a mailbox for changes and tells which flags are in use there.
    pub(crate) async fn open_with_flags(&mut self, name: &str) -> Result<(Open, Vec<String>)> {
        let open = self.open(name, Access::Write, None).await?;
        Ok((open.clone(), open.flags))
    }

    /// Copies into another folder; pairs of old and new UID where the server tells them.
    pub(crate) async fn copy(&mut self, uids: &[u32], to: &str) -> Result<Copied> {
        self.transfer("UID COPY", uids, to).await
    }

    /// Moves into another folder: MOVE where there is one, else copy, mark and expunge exactly these.
    pub(crate) async fn relocate(&mut self, uids: &[u32], to: &str) -> Result<Copied> {
        if self.has("MOVE") || self.has("IMAP4REV2") {
            return self.transfer("UID MOVE", uids, to).await;
        }
        let copied = self.transfer("UID COPY", uids, to).await?;
        self.remove(uids).await?;
        Ok(copied)
    }

    /// Removes exactly these for good. Without UIDPLUS they are only marked: a plain EXPUNGE would remove what others marked.
    pub(crate) async fn remove(&mut self, uids: &[u32]) -> Result<bool> {
        self.store(uids, "+FLAGS.SILENT", Command::new("(\\Deleted)")).await?;
        if !self.has("UIDPLUS") && !self.has("IMAP4REV2") {
            return Ok(false);
        }
        for batch in uids.chunks(BATCH) {
            self.simple(Errand::Other, Command::new(format!("UID EXPUNGE {}", UidSet::of(batch.iter().copied())))).await?;
        }
        Ok(true)
    }

    async fn transfer(&mut self, verb: &str, uids: &[u32], to: &str) -> Result<Copied> {
        let mut copied = Copied::default();
        for batch in uids.chunks(BATCH) {
            let command = Command::new(format!("{verb} {}", UidSet::of(batch.iter().copied()))).mailbox(to)?;
            let done = match self.simple(Errand::Other, command.clone()).await {
                Err(error) if error.vendor_code() == Some("TRYCREATE") => {
                    return Err(Error::new(ErrorKind::NotFound, "the folder to move or copy to does not exist; create it first")
                        .with_vendor_code("TRYCREATE"));
                }
                done => done?,
            };
            copied.add(&done);
        }
        Ok(copied)
    }

    /// Puts a message into a folder. Whole or not at all (RFC 9051 §6.3.12).
    pub(crate) async fn append(&mut self, folder: &str, flags: &str, message: Bytes) -> Result<Appended> {
        let command = Command::new("APPEND").mailbox(folder)?.words(flags).literal(message);
        let done = self.simple(Errand::Mailbox, command).await?;
        let values = done.note("APPENDUID").map(|code| code.values.clone()).unwrap_or_default();
        Ok(Appended { uid_validity: values.first().and_then(Value::number), uid: values.get(1).and_then(Value::number) })
    }
}

/// Where copies went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) uid_validity: Option<u32>,
    /// Old and new UID.
    pub(crate) pairs: Vec<(u32, u32)>,
}

impl Copied {
    fn add(&mut self, done: &Done) {
        let Some(code) = done.note("COPYUID") else { return };
        let set = |at: usize| code.values.get(at).and_then(Value::text).as_deref().and_then(UidSet::parse);
        if let (Some(validity), Some(from), Some(to)) = (code.values.first().and_then(Value::number), set(1), set(2))
            && from.len() == to.len()
            && from.len() <= BATCH as u64
        {
            self.uid_validity = Some(validity);
            self.pairs.extend(from.iter().zip(to.iter()));
        }
    }

    /// The new UID of what was `uid`.
    pub(crate) fn of(&self, uid: u32) -> Option<u32> {
        self.pairs.iter().find(|(old, _)| *old == uid).map(|(_, new)| *new)
    }
}

/// Where an appended message is, where the server tells (UIDPLUS).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) uid_validity: Option<u32>,
    pub(crate) uid: Option<u32>,
}

fn folder(words: &[Value]) -> Option<Folder> {
    let [what, Value::List(attributes), delimiter, name, ..] = words else { return None };
    if !what.is("LIST") {
        return None;
    }
    let name = names::decode(&name.text()?);
    let is_inbox = name.eq_ignore_ascii_case("INBOX");
    let attributes: Vec<String> = attributes.iter().filter_map(Value::text).collect();
    let has = |wanted: &str| attributes.iter().any(|attribute| attribute.eq_ignore_ascii_case(wanted));
    Some(Folder {
        purpose: if is_inbox { Some(Purpose::Inbox) } else { attributes.iter().find_map(|attribute| Purpose::of_attribute(attribute)) },
        selectable: !has("\\Noselect") && !has("\\NonExistent"),
        has_children: has("\\HasChildren"),
        delimiter: delimiter.text().filter(|delimiter| !delimiter.is_empty()),
        name: if is_inbox { "INBOX".to_owned() } else { name },
    })
}

/// `VANISHED (EARLIER) 41,43:50`.
fn vanished(words: &[Value]) -> Option<UidSet> {
    match words {
        [what, .., set] if what.is("VANISHED") => Some(set.text().as_deref().and_then(UidSet::parse).unwrap_or_default()),
        _ => None,
    }
}

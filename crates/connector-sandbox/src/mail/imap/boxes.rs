//! Mailboxes as a whole: LIST, LSUB, STATUS, NAMESPACE, CREATE, DELETE, RENAME, SUBSCRIBE, quota.

use super::parse::{Args, Word};
use super::{Refusal, Session, bad, no, quote};
use crate::mail::store::{Account, Mailbox};

const MISSING: &str = "[NONEXISTENT] there is no such mailbox";

impl Session {
    pub(super) fn namespace(&mut self) -> Result<String, Refusal> {
        if !self.shared.traits.offers("NAMESPACE") {
            return bad("NAMESPACE is not offered here");
        }
        let delimiter = self.shared.traits.delimiter;
        self.wire.say(format!(r#"* NAMESPACE (("" "{delimiter}")) NIL NIL"#));
        Ok("NAMESPACE completed".to_owned())
    }

    /// `LIST [(selection)] reference pattern [RETURN (options)]` (RFC 5258, RFC 5819, RFC 6154).
    pub(super) fn list(&mut self, account: &str, mut args: Args, command: &str) -> Result<String, Refusal> {
        let extended = self.shared.traits.offers("LIST-EXTENDED");
        let mut only_special = false;
        let mut only_subscribed = command == "LSUB";
        if extended && matches!(args.peek(), Some(Word::List(_))) {
            for option in atoms(args.list("selection options")?)? {
                match option.as_str() {
                    "SPECIAL-USE" => only_special = true,
                    "SUBSCRIBED" => only_subscribed = true,
                    "REMOTE" | "RECURSIVEMATCH" => {}
                    other => return bad(format!("unknown selection option {other}")),
                }
            }
        }
        let reference = args.text("a reference")?;
        let patterns = match args.word() {
            Some(Word::Atom(pattern)) => vec![pattern],
            Some(Word::Text(pattern)) => vec![String::from_utf8_lossy(&pattern).into_owned()],
            Some(Word::List(list)) if extended => {
                let mut list = Args::new(list);
                std::iter::from_fn(|| list.peek().is_some().then(|| list.text("a pattern"))).collect::<Result<_, _>>()?
            }
            _ => return bad("expected a pattern"),
        };
        let mut status_items = None;
        if args.took("RETURN") {
            if !extended && !self.shared.traits.offers("SPECIAL-USE") {
                return bad("RETURN is not offered here");
            }
            let mut options = Args::new(args.list("return options")?);
            while options.peek().is_some() {
                match options.atom("a return option")?.to_ascii_uppercase().as_str() {
                    "STATUS" if self.shared.traits.offers("LIST-STATUS") => status_items = Some(atoms(options.list("status items")?)?),
                    "SPECIAL-USE" | "SUBSCRIBED" | "CHILDREN" => {}
                    other => return bad(format!("unknown return option {other}")),
                }
            }
        }
        args.end()?;
        let delimiter = self.shared.traits.delimiter;
        if patterns == [""] {
            self.wire.say(format!(r#"* {command} (\Noselect) "{delimiter}" """#));
            return Ok(format!("{command} completed"));
        }
        let show_special = self.shared.traits.offers("SPECIAL-USE");
        let limit = self.shared.traits.message_limit;
        let lines: Vec<String> = self.shared.look(|store| {
            let Some(account) = store.account(account) else { return Vec::new() };
            let mut names: Vec<&Mailbox> = account.mailboxes.iter().collect();
            names.sort_by(|a, b| (a.name != "INBOX", &a.name).cmp(&(b.name != "INBOX", &b.name)));
            let fits = |mailbox: &Mailbox| patterns.iter().any(|pattern| matches(&format!("{reference}{pattern}"), &mailbox.name, delimiter));
            let wanted =
                |mailbox: &&Mailbox| fits(mailbox) && (!only_special || mailbox.special.is_some()) && (!only_subscribed || mailbox.subscribed);
            let mut lines = Vec::new();
            for mailbox in names.into_iter().filter(wanted) {
                let mut attributes = vec![if has_children(account, &mailbox.name, delimiter) { "\\HasChildren" } else { "\\HasNoChildren" }];
                if !mailbox.selectable {
                    attributes.push("\\Noselect");
                }
                if extended && mailbox.subscribed {
                    attributes.push("\\Subscribed");
                }
                attributes.extend(mailbox.special.as_deref().filter(|_| show_special));
                lines.push(format!(r#"* {command} ({}) "{delimiter}" {}"#, attributes.join(" "), quote(&mailbox.name)));
                if let Some(items) = status_items.as_ref().filter(|_| mailbox.selectable) {
                    lines.push(status_line(mailbox, items, limit));
                }
            }
            lines
        });
        for line in lines {
            self.wire.say(line);
        }
        Ok(format!("{command} completed"))
    }

    pub(super) fn status(&mut self, account: &str, mut args: Args) -> Result<String, Refusal> {
        let name = args.text("a mailbox")?;
        let items = atoms(args.list("status items")?)?;
        args.end()?;
        const KNOWN: [&str; 9] = ["MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "HIGHESTMODSEQ", "SIZE", "DELETED", "APPENDLIMIT"];
        if let Some(unknown) = items.iter().find(|item| !KNOWN.contains(&item.as_str())) {
            return bad(format!("unknown status item {unknown}"));
        }
        if items.iter().any(|item| item == "HIGHESTMODSEQ") {
            if !self.shared.traits.offers("CONDSTORE") {
                return bad("CONDSTORE is not offered here");
            }
            self.condstore = true;
        }
        let limit = self.shared.traits.message_limit;
        let line = self.shared.look(|store| {
            let mailbox = store.account(account)?.named(&name)?;
            mailbox.selectable.then(|| status_line(mailbox, &items, limit))
        });
        let Some(line) = line else { return no(MISSING) };
        self.wire.say(line);
        Ok("STATUS completed".to_owned())
    }

    pub(super) fn create(&mut self, account: &str, mut args: Args) -> Result<String, Refusal> {
        let name = args.text("a mailbox")?;
        let delimiter = self.shared.traits.delimiter;
        let name = name.strip_suffix(delimiter).unwrap_or(&name);
        if !is_name(name) {
            return no("[CANNOT] that is not a name for a mailbox");
        }
        let made = self.shared.change(|store| store.account_mut(account).is_some_and(|account| account.create(name, None)));
        if made { Ok("CREATE completed".to_owned()) } else { no("[ALREADYEXISTS] there is such a mailbox") }
    }

    pub(super) fn delete(&mut self, account: &str, mut args: Args) -> Result<String, Refusal> {
        let name = args.text("a mailbox")?;
        args.end()?;
        let delimiter = self.shared.traits.delimiter;
        self.shared.change(|store| {
            let Some(account) = store.account_mut(account) else { return no(MISSING) };
            let Some(mailbox) = account.named(&name) else { return no(MISSING) };
            if mailbox.name == "INBOX" || mailbox.special.is_some() || has_children(account, &mailbox.name, delimiter) {
                return no("[CANNOT] this mailbox cannot be deleted");
            }
            let id = mailbox.id;
            account.delete(id);
            Ok("DELETE completed".to_owned())
        })
    }

    pub(super) fn rename(&mut self, account: &str, mut args: Args) -> Result<String, Refusal> {
        let (from, to) = (args.text("a mailbox")?, args.text("a new name")?);
        args.end()?;
        if !is_name(&to) {
            return no("[CANNOT] that is not a name for a mailbox");
        }
        self.shared.change(|store| {
            let Some(account) = store.account_mut(account) else { return no(MISSING) };
            if account.named(&to).is_some() {
                return no("[ALREADYEXISTS] there is such a mailbox");
            }
            match account.named(&from) {
                None => no(MISSING),
                Some(mailbox) if mailbox.name == "INBOX" => no("[CANNOT] INBOX is not renamed here"),
                Some(_) => {
                    account.rename(&from, &to);
                    Ok("RENAME completed".to_owned())
                }
            }
        })
    }

    pub(super) fn subscribe(&mut self, account: &str, mut args: Args, on: bool) -> Result<String, Refusal> {
        let name = args.text("a mailbox")?;
        self.shared.change(|store| {
            let account = store.account_mut(account);
            let found = account.and_then(|account| {
                let id = account.named(&name)?.id;
                account.by_id_mut(id)
            });
            match found {
                Some(mailbox) => {
                    mailbox.subscribed = on;
                    Ok("completed".to_owned())
                }
                None => no(MISSING),
            }
        })
    }

    /// One quota root, the empty name, for everything (RFC 9208).
    pub(super) fn quota(&mut self, account: &str, mut args: Args, root: bool) -> Result<String, Refusal> {
        if !self.shared.traits.offers("QUOTA") {
            return bad("QUOTA is not offered here");
        }
        let name = args.text(if root { "a mailbox" } else { "a quota root" })?;
        args.end()?;
        let (known, used) = self.shared.look(|store| {
            let Some(account) = store.account(account) else { return (false, 0) };
            (if root { account.named(&name).is_some() } else { name.is_empty() }, account.size().div_ceil(1024))
        });
        if !known {
            return no("[NONEXISTENT] there is no such mailbox or quota root");
        }
        if root {
            self.wire.say(format!(r#"* QUOTAROOT {} """#, quote(&name)));
        }
        self.wire.say(format!(r#"* QUOTA "" (STORAGE {used} {})"#, self.shared.traits.quota_kib));
        Ok("completed".to_owned())
    }
}

fn status_line(mailbox: &Mailbox, items: &[String], limit: usize) -> String {
    let value = |item: &str| match item {
        "MESSAGES" => mailbox.messages.len() as u64,
        "UIDNEXT" => u64::from(mailbox.uidnext),
        "UIDVALIDITY" => u64::from(mailbox.uidvalidity),
        "UNSEEN" => mailbox.unseen() as u64,
        "HIGHESTMODSEQ" => mailbox.highest,
        "SIZE" => mailbox.size(),
        "DELETED" => mailbox.messages.iter().filter(|message| message.has("\\Deleted")).count() as u64,
        "APPENDLIMIT" => limit as u64,
        _ => 0,
    };
    let pairs: Vec<String> = items.iter().map(|item| format!("{item} {}", value(item))).collect();
    format!("* STATUS {} ({})", quote(&mailbox.name), pairs.join(" "))
}

/// A name on the wire is ASCII (modified UTF-7 for the rest) and has no wildcards; ours are also short.
fn is_name(name: &str) -> bool {
    (1..=500).contains(&name.len()) && name.is_ascii() && !name.contains(|char: char| matches!(char, '*' | '%') || char.is_control())
}

fn has_children(account: &Account, name: &str, delimiter: char) -> bool {
    let below = format!("{name}{delimiter}");
    account.mailboxes.iter().any(|other| other.name.starts_with(&below))
}

/// All words of a list as upper-case atoms.
pub(super) fn atoms(list: Vec<Word>) -> Result<Vec<String>, Refusal> {
    let mut list = Args::new(list);
    let mut found = Vec::new();
    while list.peek().is_some() {
        found.push(list.atom("a word")?.to_ascii_uppercase());
    }
    Ok(found)
}

/// `*` is anything, `%` anything but the delimiter. INBOX fits in any case.
fn matches(pattern: &str, name: &str, delimiter: char) -> bool {
    fn rest(pattern: &[char], name: &[char], delimiter: char) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((wild @ ('*' | '%'), pattern)) => {
                let reach = if *wild == '%' { name.iter().position(|char| *char == delimiter).unwrap_or(name.len()) } else { name.len() };
                (0..=reach).any(|skip| rest(pattern, &name[skip..], delimiter))
            }
            Some((first, pattern)) => name.split_first().is_some_and(|(char, name)| char == first && rest(pattern, name, delimiter)),
        }
    }
    if pattern.eq_ignore_ascii_case(name) && name == "INBOX" {
        return true;
    }
    // More wildcards than a client has reason to send would only cost time.
    let pattern: Vec<char> = pattern.chars().collect();
    pattern.iter().filter(|char| matches!(char, '*' | '%')).count() <= 8 && rest(&pattern, &name.chars().collect::<Vec<_>>(), delimiter)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn wildcards_stop_where_they_should() {
        assert!(matches("*", "Work/2026", '/') && matches("%", "Work", '/') && matches("inbox", "INBOX", '/'));
        assert!(!matches("%", "Work/2026", '/') && matches("Work/%", "Work/2026", '/') && !matches("Sen", "Sent", '/'));
    }
}

//! Answering: who gets it, under which subject, in which thread. Facts: RFC 5322 §3.6.2 to §3.6.4, RFC 3834; fact sheet §5.

use connector_core::{Error, ErrorKind, Result};
use mail_parser::{Address, HeaderValue, Message};

use super::address::same;

/// What an answer needs to know of the message it answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) message_id: Option<String>,
    pub(crate) references: Vec<String>,
    pub(crate) in_reply_to: Option<String>,
    pub(crate) subject: String,
    pub(crate) from: Vec<String>,
    pub(crate) reply_to: Vec<String>,
    pub(crate) to: Vec<String>,
    pub(crate) cc: Vec<String>,
    pub(crate) date: Option<String>,
    /// Why no machine should answer it.
    pub(crate) automatic: Option<&'static str>,
}

impl Parent {
    pub(crate) fn of(message: &Message<'_>) -> Self {
        let lower = |name: &str| message.header_raw(name.to_owned()).map(|value| value.trim().to_ascii_lowercase());
        let automatic = if lower("Auto-Submitted").is_some_and(|value| value != "no") {
            Some("it was sent by a machine (Auto-Submitted)")
        } else if lower("Precedence").is_some_and(|value| matches!(value.as_str(), "bulk" | "list" | "junk")) || lower("List-Id").is_some() {
            Some("it came over a list")
        } else if lower("Return-Path").is_some_and(|value| value == "<>") {
            Some("it is a notice about a delivery (empty Return-Path)")
        } else {
            None
        };
        let subject = message.subject().unwrap_or_default();
        Self {
            message_id: message.message_id().map(bracketed),
            references: ids(message.references()),
            in_reply_to: ids(message.in_reply_to()).into_iter().next(),
            subject: subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            from: addresses(message.from()),
            reply_to: addresses(message.reply_to()),
            to: addresses(message.to()),
            cc: addresses(message.cc()),
            date: message.date().map(mail_parser::DateTime::to_rfc3339),
            automatic,
        }
    }

    /// The `References` of an answer: those of the parent, or its only `In-Reply-To`, and the parent itself.
    pub(crate) fn thread(&self) -> Vec<String> {
        let mut ids = self.references.clone();
        if ids.is_empty() {
            ids.extend(self.in_reply_to.clone());
        }
        if let Some(own) = &self.message_id {
            ids.retain(|id| id != own);
            ids.push(own.clone());
        } else {
            ids.clear();
        }
        ids
    }

    /// Who an answer goes to: `Reply-To`, else `From`; to all: also everybody it was addressed to but ourselves.
    pub(crate) fn recipients(&self, own: &[String], all: bool) -> Result<(Vec<String>, Vec<String>)> {
        let mine = |address: &String| own.iter().any(|own| same(own, address));
        let first = if self.reply_to.is_empty() { &self.from } else { &self.reply_to };
        let mut to: Vec<String> = first.clone();
        // An answer to what we sent ourselves goes to those it was sent to.
        if to.iter().all(mine) && !self.to.is_empty() {
            to = self.to.clone();
        }
        let mut cc = Vec::new();
        if all {
            for address in self.to.iter().chain(&self.cc) {
                if !mine(address) && !to.iter().chain(&cc).any(|known: &String| same(known, address)) {
                    cc.push(address.clone());
                }
            }
        }
        if to.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "the message says neither who it is from nor who to answer"));
        }
        Ok((to, cc))
    }
}

/// `Re: ` once, whatever was there.
pub(crate) fn reply_subject(subject: &str) -> String {
    format!("Re: {}", base_subject(subject))
}

/// `Fwd: ` once.
pub(crate) fn forward_subject(subject: &str) -> String {
    format!("Fwd: {}", base_subject(subject))
}

/// A subject without the prefixes that answers put before it.
pub(crate) fn base_subject(subject: &str) -> &str {
    let mut rest = subject.trim();
    while let Some((prefix, after)) = rest.split_once(':') {
        if !["re", "fwd", "fw", "aw", "wg", "sv", "antw"].contains(&prefix.trim().to_ascii_lowercase().as_str()) {
            break;
        }
        rest = after.trim_start();
    }
    rest
}

/// A text with each line marked as quoted.
pub(crate) fn quoted(text: &str) -> String {
    text.lines().map(|line| if line.starts_with('>') { format!(">{line}\n") } else { format!("> {line}\n") }).collect()
}

pub(crate) fn bracketed(id: &str) -> String {
    format!("<{}>", id.trim().trim_matches(['<', '>']))
}

/// The ids in a header, without those that are none.
pub(crate) fn ids(value: &HeaderValue<'_>) -> Vec<String> {
    let found: Vec<&str> = match value {
        HeaderValue::Text(id) => vec![id],
        HeaderValue::TextList(ids) => ids.iter().map(|id| &**id).collect(),
        _ => Vec::new(),
    };
    let sound = |id: &&str| !id.is_empty() && id.len() <= 900 && !id.chars().any(|c| c.is_control() || c.is_whitespace());
    found.into_iter().filter(sound).map(bracketed).collect()
}

pub(crate) fn addresses(value: Option<&Address<'_>>) -> Vec<String> {
    let usable = |address: &str| !address.is_empty() && !address.chars().any(|c| c.is_control() || c.is_whitespace());
    value
        .map(|value| value.iter().filter_map(|one| one.address.as_deref()).filter(|one| usable(one)).map(str::to_owned).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;

    use super::*;

    fn parent(header: &str) -> Parent {
        Parent::of(&MessageParser::default().parse(format!("{header}\r\n\r\nx").as_bytes()).unwrap())
    }

    #[test]
    fn references_grow_by_the_parent_or_are_left_out() {
        assert_eq!(parent("Message-ID: <3@x>\r\nReferences: <1@x> <2@x>").thread(), ["<1@x>", "<2@x>", "<3@x>"]);
        assert_eq!(parent("Message-ID: <3@x>\r\nIn-Reply-To: <2@x>").thread(), ["<2@x>", "<3@x>"]);
        assert_eq!(parent("Message-ID: <3@x>").thread(), ["<3@x>"]);
        assert!(parent("Subject: x").thread().is_empty());
        assert!(parent("References: <1@x>").thread().is_empty());
    }

    #[test]
    fn an_answer_goes_to_reply_to_and_to_all_but_ourselves() {
        let mail = parent(
            "From: Ann <ann@x.example>\r\nReply-To: list@x.example\r\nTo: me@x.example, Bob <bob@x.example>\r\nCc: ANN@x.example, bob@x.example",
        );
        let own = ["ME@x.example".to_owned()];
        assert_eq!(mail.recipients(&own, false).unwrap(), (vec!["list@x.example".to_owned()], vec![]));
        let (to, cc) = mail.recipients(&own, true).unwrap();
        assert_eq!((to, cc), (vec!["list@x.example".to_owned()], vec!["bob@x.example".to_owned(), "ANN@x.example".to_owned()]));
        let sent = parent("From: me@x.example\r\nTo: bob@x.example");
        assert_eq!(sent.recipients(&own, false).unwrap().0, ["bob@x.example"]);
        assert!(parent("Subject: x").recipients(&own, false).is_err());
    }

    #[test]
    fn prefixes_come_once() {
        assert_eq!(reply_subject("RE: Aw: fwd: Offer: new"), "Re: Offer: new");
        assert_eq!(forward_subject("Re: x"), "Fwd: x");
        assert_eq!((reply_subject(""), base_subject("Re:")), ("Re: ".to_owned(), ""));
    }

    #[test]
    fn machines_are_not_answered_by_machines() {
        for header in ["Auto-Submitted: auto-replied", "Precedence: bulk", "List-Id: <x.example>", "Return-Path: <>"] {
            assert!(parent(header).automatic.is_some(), "{header}");
        }
        assert_eq!(parent("Auto-Submitted: no").automatic, None);
    }
}

//! Taking responsibility for a message: the ledger, the sender's Sent mailbox where the provider keeps copies, and the INBOX of every local
//! recipient. Mail to other domains ends in the ledger.

use super::{Envelope, Session};
use crate::ledger::{EffectKind, lock};
use crate::mail::known::DOMAIN;
use crate::mail::mime;
use crate::mail::shared::Accepted;
use jiff::tz::TimeZone;
use serde_json::json;
use std::collections::BTreeSet;

impl Session {
    /// Why a recipient of this domain cannot have it.
    pub(super) fn refuses(&self, to: &str) -> Option<&'static str> {
        let address = to.to_ascii_lowercase();
        let known = self.shared.look(|store| store.account(&address).map(crate::mail::store::Account::size));
        match known {
            None if address.ends_with(&format!("@{DOMAIN}")) && !matches!(address.split('@').next(), Some("greylisted" | "reply-lost" | "cut")) => {
                Some("550 5.1.1 The email account that you tried to reach does not exist")
            }
            Some(size) if self.shared.faults.is_over_quota() || size >= self.shared.traits.quota_kib * 1024 => {
                Some("452 4.2.2 The recipient's mailbox is full")
            }
            _ => None,
        }
    }

    /// Accepts a message; its number in the queue.
    pub(super) fn accept(&self, account: &str, envelope: &Envelope, message: &[u8]) -> usize {
        let shared = &self.shared;
        let header = mime::split(message).0;
        let number = lock(&shared.accepted).len() + 1;
        let given = mime::field(header, "message-id").filter(|id| !id.is_empty());
        let message_id = given.clone().unwrap_or_else(|| format!("<sandbox-{number}@{DOMAIN}>"));
        lock(&shared.accepted).push(Accepted {
            message_id: message_id.clone(),
            from: envelope.from.clone(),
            recipients: envelope.recipients.clone(),
            account: account.to_owned(),
            mime: message.to_vec(),
        });
        let parent = mime::field(header, "in-reply-to").filter(|id| !id.is_empty());
        let kind = if parent.is_some() { EffectKind::MailReplied } else { EffectKind::MailSent };
        let detail = json!({ "account": account, "from": envelope.from, "recipients": envelope.recipients, "size": message.len() });
        shared.record(kind, &message_id, parent, detail);
        let now = shared.clock.now();
        let date = now.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
        // A submission service adds the Message-ID a client left out (RFC 6409 §8.3).
        let added = if given.is_some() { String::new() } else { format!("Message-ID: {message_id}\r\n") };
        if shared.traits.keeps_sent {
            let copy = [added.as_bytes(), message].concat();
            shared.change(|store| {
                let account = store.account_mut(account)?;
                let sent = account.special("\\Sent")?.id;
                account.append(sent, &copy, BTreeSet::from(["\\Seen".to_owned()]), now)
            });
        }
        // RFC 3848: authenticated, and with an S under TLS.
        let with = if self.tls { "ESMTPSA" } else { "ESMTPA" };
        for recipient in &envelope.recipients {
            let address = recipient.to_ascii_lowercase();
            let trace = format!(
                "Return-Path: <{}>\r\nReceived: from client by mail.{DOMAIN} with {with} id {number:06}\r\n for <{recipient}>; {date}\r\n{added}",
                envelope.from
            );
            let delivered = [trace.as_bytes(), message].concat();
            let arrived = shared.change(|store| {
                let account = store.account_mut(&address)?;
                let inbox = account.named("INBOX")?.id;
                account.append(inbox, &delivered, BTreeSet::new(), now)
            });
            if arrived.is_some() {
                shared.record(EffectKind::MailReceived, &message_id, None, json!({ "account": address }));
            }
        }
        number
    }
}

//! The mail the accounts start with: about twenty messages of the kinds a support mailbox sees. All people, companies and times are invented;
//! the dates are fixed, so a test may name them.

use super::store::Account;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// One message: mailbox by special use (or `INBOX`), flags, time of arrival, octets with `\n` line ends.
struct Seed {
    mailbox: &'static str,
    flags: &'static [&'static str],
    at: &'static str,
    text: &'static str,
}

const fn seed(mailbox: &'static str, flags: &'static [&'static str], at: &'static str, text: &'static str) -> Seed {
    Seed { mailbox, flags, at, text }
}

const ALICE: [Seed; 20] = [
    seed("INBOX", &["\\Seen"], "2026-11-02T08:15:00Z", include_str!("seeds/01_plain.eml")),
    seed("INBOX", &["\\Seen", "\\Answered"], "2026-11-03T09:00:00Z", include_str!("seeds/02_thread_question.eml")),
    seed("\\Sent", &["\\Seen"], "2026-11-03T09:30:00Z", include_str!("seeds/03_thread_answer.eml")),
    seed("INBOX", &["\\Seen"], "2026-11-03T10:05:00Z", include_str!("seeds/04_thread_again.eml")),
    seed("INBOX", &[], "2026-11-04T07:00:00Z", include_str!("seeds/05_alternative.eml")),
    seed("INBOX", &[], "2026-11-05T13:45:00Z", include_str!("seeds/06_attachment.eml")),
    seed("INBOX", &["\\Flagged"], "2026-11-06T11:20:00Z", include_str!("seeds/07_non_ascii.eml")),
    seed("INBOX", &[], "2026-11-09T15:00:00Z", include_str!("seeds/08_invitation.eml")),
    seed("INBOX", &[], "2026-11-10T06:30:00Z", include_str!("seeds/09_bounce.eml")),
    seed("INBOX", &["\\Seen", "$Forwarded"], "2026-11-11T12:00:00Z", include_str!("seeds/10_forwarded.eml")),
    seed("INBOX", &[], "2026-11-12T05:00:00Z", include_str!("seeds/11_newsletter.eml")),
    seed("INBOX", &[], "2026-11-13T16:40:00Z", include_str!("seeds/12_inline_image.eml")),
    seed("INBOX", &[], "2026-11-16T08:00:00Z", include_str!("seeds/13_out_of_office.eml")),
    seed("INBOX", &[], "2026-11-18T14:10:00Z", include_str!("seeds/14_no_ids.eml")),
    seed("INBOX", &[], "2026-11-20T17:55:00Z", include_str!("seeds/15_urgent.eml")),
    seed("\\Sent", &["\\Seen"], "2026-11-12T09:00:00Z", include_str!("seeds/16_sent.eml")),
    seed("\\Drafts", &["\\Draft", "\\Seen"], "2026-11-19T10:00:00Z", include_str!("seeds/17_draft.eml")),
    seed("\\Junk", &["$Junk"], "2026-11-14T03:00:00Z", include_str!("seeds/18_junk.eml")),
    seed("\\Archive", &["\\Seen"], "2026-10-01T08:00:00Z", include_str!("seeds/19_archived.eml")),
    seed("\\Trash", &["\\Seen"], "2026-10-15T08:00:00Z", include_str!("seeds/20_binned.eml")),
];

const BOB: [Seed; 2] = [
    seed("INBOX", &["\\Seen"], "2026-11-12T09:00:05Z", include_str!("seeds/16_sent.eml")),
    seed("INBOX", &[], "2026-11-17T09:00:00Z", include_str!("seeds/21_to_bob.eml")),
];

/// Fills the mailboxes of the accounts that have seeded mail.
pub(super) fn fill(account: &mut Account, address: &str) {
    let seeds: &[Seed] = match address {
        super::known::ALICE => &ALICE,
        super::known::BOB => &BOB,
        _ => return,
    };
    for seed in seeds {
        // Gmail has no Archive: what is archived is in All Mail only.
        let mailbox = match seed.mailbox {
            "INBOX" => account.named("INBOX"),
            special => account.special(special).or_else(|| account.special("\\All")),
        };
        let Some(id) = mailbox.map(|mailbox| mailbox.id) else { continue };
        // A time that cannot be read would show as 1970; a test reads them all.
        let at = seed.at.parse().unwrap_or(Timestamp::UNIX_EPOCH);
        let octets = seed.text.replace("\r\n", "\n").replace('\n', "\r\n");
        let flags: BTreeSet<String> = seed.flags.iter().map(|flag| (*flag).to_owned()).collect();
        account.append(id, octets.as_bytes(), flags, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::mime;

    #[test]
    fn every_seed_is_stored_with_its_time_and_can_be_parsed() {
        let mut account = Account::new(false, '/');
        fill(&mut account, super::super::known::ALICE);
        let messages: Vec<_> = account.mailboxes.iter().flat_map(|mailbox| &mailbox.messages).collect();
        assert_eq!(messages.len(), 20);
        for message in &messages {
            assert!(message.internal > Timestamp::UNIX_EPOCH);
            assert!(mime::field(mime::split(&message.raw).0, "from").is_some());
            assert!(mail_parser::MessageParser::default().parse(&message.raw[..]).is_some());
        }
        let thread = messages.iter().filter(|message| message.gm_thrid == messages[1].gm_thrid).count();
        assert_eq!(thread, 3, "question, answer, and again are one thread");
    }
}

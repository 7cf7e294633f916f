//! What others changed in the selected mailbox: told before every tagged answer, and at once while a client idles (RFC 2177).

use super::parse::set_of;
use super::{LONGEST_LINE, Refusal, Session, Told, bad};
use crate::mail::faults::IDLING;
use crate::mail::store::Message;

impl Session {
    pub(super) async fn idle(&mut self) -> Result<String, Refusal> {
        if !self.shared.traits.offers("IDLE") {
            return bad("IDLE is not offered here");
        }
        let mut changed = self.shared.changed.subscribe();
        self.wire.say("+ idling");
        loop {
            self.tell_changes(true)?;
            self.wire.flush().await?;
            if let Some(reply) = self.shared.faults.next_imap(IDLING) {
                return Err(Refusal::End(if reply == "CUT" { String::new() } else { format!("* {reply}") }));
            }
            let line = tokio::select! {
                line = self.wire.line(LONGEST_LINE) => line?,
                // The sender lives as long as this session's share of it, so this is always news.
                _ = changed.changed() => continue,
            };
            return match line {
                Some(done) if done.eq_ignore_ascii_case(b"DONE") => Ok("IDLE terminated".to_owned()),
                Some(_) => bad("expected DONE"),
                None => Err(Refusal::End(String::new())),
            };
        }
    }

    /// Tells what differs between the mailbox and what the client believes. Without `removals` messages that are gone stay in the client's count
    /// until the next command.
    pub(super) fn tell_changes(&mut self, removals: bool) -> Result<(), Refusal> {
        let (Some(account), Some(selected)) = (&self.account, &mut self.selected) else { return Ok(()) };
        let now = self.shared.look(|store| {
            let mailbox = store.account(account)?.by_id(selected.id)?;
            let flags = |message: &Message| message.flags.iter().cloned().collect::<Vec<_>>().join(" ");
            let unsaid = |told: &Told, message: &Message| told.modseq < message.modseq;
            let changed: Vec<(u32, u64, String)> = selected
                .told
                .iter()
                .filter_map(|told| mailbox.get(told.uid).filter(|message| unsaid(told, message)))
                .map(|message| (message.uid, message.modseq, flags(message)))
                .collect();
            let last = selected.told.last().map_or(0, |told| told.uid);
            let new: Vec<Told> = mailbox
                .messages
                .iter()
                .filter(|message| message.uid > last)
                .map(|message| Told { uid: message.uid, modseq: message.modseq })
                .collect();
            let gone: Vec<u32> = selected.told.iter().map(|told| told.uid).filter(|uid| mailbox.get(*uid).is_none()).collect();
            Some((mailbox.uidvalidity, changed, new, gone))
        });
        let Some((uidvalidity, changed, new, gone)) = now else { return Err(Refusal::End("* BYE the selected mailbox is gone".to_owned())) };
        if uidvalidity != selected.uidvalidity {
            return Err(Refusal::End("* BYE UIDVALIDITY of the selected mailbox changed".to_owned()));
        }
        if removals && !gone.is_empty() {
            if self.qresync {
                self.wire.say(format!("* VANISHED {}", set_of(&gone)));
            }
            // From the end, so that the numbers of the ones before stay right.
            for at in (0..selected.told.len()).rev() {
                if gone.contains(&selected.told[at].uid) {
                    selected.told.remove(at);
                    if !self.qresync {
                        self.wire.say(format!("* {} EXPUNGE", at + 1));
                    }
                }
            }
        }
        if !new.is_empty() {
            selected.told.extend(new);
            self.wire.say(format!("* {} EXISTS", selected.told.len()));
        }
        for (uid, modseq, flags) in changed {
            if let Some(at) = selected.told.iter().position(|told| told.uid == uid) {
                selected.told[at].modseq = modseq;
                let more = if self.condstore { format!(" MODSEQ ({modseq})") } else { String::new() };
                self.wire.say(format!("* {} FETCH (UID {uid} FLAGS ({flags}){more})", at + 1));
            }
        }
        Ok(())
    }
}

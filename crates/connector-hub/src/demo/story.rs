//! The desk's work on one message, from the notification to the tag: fetch, thread, enrich, ticket, link, answer, tag.
//!
//! Events come at least once, twice, and out of order; every effect carries a key made of the letter and the step, so it happens once.
//! Owns the order of the steps. Refuses to swallow a failure: what cannot be handled is told to the dispatcher, which tries again or
//! makes it a dead letter with the reason.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{Error, ErrorKind, Result, Retry, state::StoredEvent};
use connector_webhook::dispatch::EventHandler;
use serde_json::{Value, json};

use super::{
    book::{Book, Claim, Entrance, Outcome, Plan},
    caller::Desk,
    enrich::Enricher,
    mail::{self, Mail, text},
    tally::{Tally, one},
};

/// The only kind of event the desk acts on. Others (updates are its own tags) are taken note of.
pub(super) const ARRIVED: &str = "message.created";
/// How often a message looks whether its thread has got its ticket, and how long it does before it lets others go first.
const LOOK: Duration = Duration::from_millis(25);
const LOOKS: u32 = 200;

/// Handles mail.
#[derive(Debug)]
pub(super) struct Story {
    desk: Desk,
    book: Book,
    enricher: Enricher,
    tally: Arc<Tally>,
    mailbox: String,
}

impl Story {
    pub(super) fn new(desk: Desk, book: Book, tally: Arc<Tally>, mailbox: impl Into<String>) -> Self {
        Self { enricher: Enricher::new(desk.clone(), tally.clone()), desk, book, tally, mailbox: mailbox.into() }
    }

    async fn work(&self, id: &str) -> Result<Outcome> {
        let args = json!({ "message_id": id, "select": mail::SELECT, "body_type": "text" });
        let message = match self.desk.read("msgraph_get_message", args).await {
            Err(error) if error.is_not_found() => return Ok(Outcome::Gone),
            other => other?,
        };
        let mail = Mail::read(&message, &self.mailbox)?;
        if mail.automatic.is_some() {
            self.tag(&mail, &["Automatic"]).await?;
            return Ok(Outcome::Automatic);
        }
        let sender = mail.sender.clone().ok_or_else(|| Error::invalid("the message names no sender, so nobody can be answered"))?;
        let plan = match self.book.claim(&mail).await? {
            Claim::Ours(Some(plan)) => plan,
            Claim::Ours(None) => {
                let plan = self.enricher.plan(&mail, &sender).await;
                self.book.plan(&mail, &plan).await?;
                plan
            }
            Claim::Copy => {
                self.tag(&mail, &["Copy"]).await?;
                return Ok(Outcome::Copy);
            }
        };
        let (ticket, outcome) = self.ticket(&mail, &sender, &plan).await?;
        if outcome == Outcome::Comment {
            let body = format!("{} wrote:\n\n{}", mail.sender_name, if mail.text.is_empty() { "(no text)" } else { &mail.text });
            self.desk.write("ticketing_add_comment", json!({ "ticket_id": ticket, "body": body, "public": true }), mail.key("comment")).await?;
            one(&self.tally.comments);
        }
        if !plan.items.is_empty() {
            let ids: Vec<&str> = plan.items.iter().map(|item| item.id.as_str()).collect();
            self.desk.write("cmdb_link_ticket", json!({ "ticket": ticket, "ci_ids": ids }), mail.key("link")).await?;
            one(&self.tally.links);
        }
        let answer = json!({ "message_id": mail.id, "body": answer(&mail, &plan, &ticket, outcome), "body_type": "text" });
        self.desk.write("msgraph_reply_in_thread", answer, mail.key("reply")).await?;
        one(&self.tally.replies);
        self.tag(&mail, &["Ticketed", &plan.tier]).await?;
        Ok(outcome)
    }

    /// The thread's ticket: the one it has, or a new one.
    async fn ticket(&self, mail: &Mail, sender: &str, plan: &Plan) -> Result<(String, Outcome)> {
        // Also the ticket's reference, so that whoever takes over a thread can find a ticket that was made and not written down.
        let opener = mail.key("ticket");
        for _ in 0..LOOKS {
            match self.book.enter(&mail.thread, &opener).await? {
                Entrance::Joined(ticket) => return Ok((ticket, Outcome::Comment)),
                Entrance::Opened(ticket) => return Ok((ticket, Outcome::Ticket)),
                Entrance::Open(version) => return self.open(mail, sender, plan, opener, version).await,
                Entrance::Wait => tokio::time::sleep(LOOK).await,
                Entrance::Abandoned(thread, version) => {
                    let made = self.desk.read("ticketing_find_ticket", json!({ "external_id": thread.opener })).await?;
                    if let Some(ticket) = text(&made, "id") {
                        self.book.settle(&mail.thread, &thread.opener, ticket, version).await?;
                    } else if let Some(version) = self.book.take_over(&mail.thread, &opener, version).await? {
                        return self.open(mail, sender, plan, opener, version).await;
                    }
                }
            }
        }
        let busy = Error::new(ErrorKind::Overloaded, "another message of the thread is still making the ticket");
        Err(busy.with_retry(Retry::After(Duration::from_secs(1))))
    }

    async fn open(&self, mail: &Mail, sender: &str, plan: &Plan, opener: String, version: u64) -> Result<(String, Outcome)> {
        let items: Vec<Value> = plan.items.iter().map(|item| json!({ "name": item.name, "dependents": item.dependents })).collect();
        let args = json!({
            "subject": mail.subject,
            "description": mail.text,
            "priority": plan.priority,
            "external_id": opener,
            "tags": [plan.tier],
            "custom_fields": { "sender": sender, "company": plan.company, "answer_within_hours": plan.hours, "items": items },
        });
        let made = self.desk.write("ticketing_create_ticket", args, opener.clone()).await?;
        let ticket = text(&made, "id").ok_or_else(|| Error::protocol("the ticketing system gave no id for the ticket it made"))?.to_owned();
        if !self.book.settle(&mail.thread, &opener, &ticket, version).await? {
            return Err(Error::new(ErrorKind::Overloaded, "another message took the thread over while its ticket was made"));
        }
        one(&self.tally.tickets);
        Ok((ticket, Outcome::Ticket))
    }

    /// Adds categories and keeps those that are there. One request if nobody touched the message since it was read.
    async fn tag(&self, mail: &Mail, names: &[&str]) -> Result<()> {
        let is_there = |name: &&&str| mail.categories.iter().any(|known| known.eq_ignore_ascii_case(name));
        let new: Vec<&str> = names.iter().filter(|name| !is_there(name)).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        if let Some(etag) = &mail.etag {
            let all: Vec<&str> = mail.categories.iter().map(String::as_str).chain(new.iter().copied()).collect();
            let args = json!({ "message_id": mail.id, "categories": all, "if_match": etag });
            match self.desk.write("msgraph_set_categories", args, format!("{}-{}", mail.key("tag"), etag_key(mail, etag))).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                other => return other.map(drop),
            }
        }
        let args = json!({ "message_id": mail.id, "categories": new });
        self.desk.write("msgraph_add_categories", args, format!("{}-{}", mail.key("add"), mail::digest(&mail.id))).await.map(drop)
    }
}

/// Tells two deliveries and two versions of one letter apart: each is tagged on its own.
fn etag_key(mail: &Mail, etag: &str) -> String {
    mail::digest(&format!("{} {etag}", mail.id))[..32].to_owned()
}

#[async_trait]
impl EventHandler for Story {
    async fn handle(&self, event: &StoredEvent, _attempt: u32) -> Result<()> {
        if &*event.event_type != ARRIVED {
            return Ok(());
        }
        let id = message_id(event)?;
        if self.book.outcome(&id).await?.is_some() {
            return Ok(());
        }
        let outcome = self.work(&id).await?;
        self.book.finish(&id, outcome).await?;
        self.tally.finished(outcome, self.book.now().saturating_sub(event.received_at));
        Ok(())
    }
}

/// The message an event is about.
pub(super) fn message_id(event: &StoredEvent) -> Result<String> {
    let payload: Value = serde_json::from_slice(&event.payload).map_err(|_| Error::invalid("the event is not JSON"))?;
    let id = payload.pointer("/resourceData/id").and_then(Value::as_str);
    id.map(str::to_owned).ok_or_else(|| Error::invalid("the event does not say which message arrived"))
}

fn answer(mail: &Mail, plan: &Plan, ticket: &str, outcome: Outcome) -> String {
    let name = if mail.sender_name.is_empty() { "there" } else { &mail.sender_name };
    let what = match outcome {
        Outcome::Comment => format!("thank you, we have added your message to {ticket}."),
        _ => format!("thank you for your message. It is {ticket} now, and somebody answers within {} hours.", plan.hours),
    };
    let items: Vec<String> = plan
        .items
        .iter()
        .map(|item| match item.dependents {
            0 => item.name.clone(),
            1 => format!("{} (one system depends on it)", item.name),
            many => format!("{} ({many} systems depend on it)", item.name),
        })
        .collect();
    let about = if items.is_empty() { String::new() } else { format!("\n\nThis is about {}.", items.join(", ")) };
    format!("Hello {name},\n\n{what}{about}\n\nYour support desk")
}

#[cfg(test)]
mod tests;

//! Delta rounds over the messages of one folder and over the folders themselves. A link carries its whole state, so the fake keeps
//! none per client. <https://learn.microsoft.com/graph/delta-query-messages>

use super::MsGraph;
use super::filter::Filter;
use super::model::{Change, ChangeKind, Mailbox};
use super::wire::{self, View, bad_request, error};
use crate::exchange::{Answer, Reply, Req};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a delta link remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Token {
    /// Epoch of the mailbox when the round began; an older one is answered with 410.
    #[serde(rename = "e")]
    epoch: u64,
    /// Log position this round started after; absent in the first round, which enumerates.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    /// Log position the round runs up to.
    #[serde(rename = "u")]
    upto: u64,
    /// Last message key (first round) or log position (later) already given.
    #[serde(rename = "k", default)]
    last: u64,
    #[serde(rename = "f", skip_serializing_if = "Option::is_none")]
    select: Option<String>,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    change_type: Option<String>,
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    top: Option<usize>,
}

impl Token {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

impl MsGraph {
    /// `GET …/mailFolders/{f}/messages/delta`.
    pub(super) fn messages_delta(&self, mailbox: &Mailbox, folder: &str, req: &Req) -> Answer {
        let token = self.round(mailbox, req)?;
        let mut view = View::of(req);
        if let Some(select) = &token.select {
            view.select = Some(wire::split_select(select));
        }
        let filter = token.filter.as_deref().map(received_after).transpose()?;
        let size = view.page.or(token.top).unwrap_or(10).clamp(1, 1000);
        let (mut items, mut last, mut more) = (Vec::new(), token.last, false);
        match token.since {
            None => {
                for m in mailbox.messages.range(token.last + 1..).map(|(_, m)| m).filter(|m| m.folder == folder) {
                    if items.len() == size {
                        more = true;
                        break;
                    }
                    last = m.key;
                    if filter.as_ref().is_none_or(|f| f.matches(m)) && wanted(&token, "created") {
                        items.push(wire::message(mailbox, m, &view));
                    }
                }
            }
            Some(since) => {
                for (seq, change, created) in latest(mailbox, folder, since.max(token.last), token.upto) {
                    if items.len() == size {
                        more = true;
                        break;
                    }
                    last = seq;
                    items.extend(render(mailbox, change, created, folder, &token, filter.as_ref(), &view));
                }
            }
        }
        Ok(page(req, &token, items, last, more, mailbox))
    }

    /// `GET …/mailFolders/delta`.
    pub(super) fn folders_delta(&self, mailbox: &Mailbox, req: &Req) -> Answer {
        let token = self.round(mailbox, req)?;
        let after = token.since.unwrap_or(0);
        let mut seen = BTreeMap::new();
        for (seq, id, removed) in mailbox.folder_log.iter().filter(|(seq, ..)| *seq > after && *seq <= token.upto) {
            seen.insert(id.clone(), (*seq, *removed));
        }
        let items = seen
            .into_iter()
            .filter_map(|(id, (_, removed))| match mailbox.folders.iter().find(|f| f.id == id) {
                Some(folder) if !removed && folder.well_known != Some("msgfolderroot") => Some(wire::folder(mailbox, folder)),
                Some(_) => None,
                None => Some(json!({"id": id, "@removed": {"reason": "deleted"}})),
            })
            .collect();
        Ok(page(req, &token, items, token.upto, false, mailbox))
    }

    /// The state of this round, from the link or fresh; a stale cursor is a 410 that says where to start again.
    fn round(&self, mailbox: &Mailbox, req: &Req) -> Result<Token, Reply> {
        let presented = req.q("$skiptoken").or_else(|| req.q("$deltatoken"));
        let path = req.path_and_query.split('?').next().unwrap_or_default();
        let gone = || {
            error(410, "syncStateNotFound", "The sync state generation is not found; a full synchronisation is needed.")
                .with("location", &format!("{}{path}", req.base))
        };
        if req.expire_cursor {
            return Err(gone());
        }
        let Some(text) = presented else {
            if req.q("$search").is_some() {
                return Err(bad_request("$search is not supported in a delta query."));
            }
            return Ok(Token {
                epoch: mailbox.delta_epoch,
                upto: mailbox.seq,
                select: req.q("$select").map(str::to_owned),
                change_type: req.q("changeType").map(str::to_owned),
                filter: req.q("$filter").map(str::to_owned),
                top: req.q("$top").and_then(|t| t.parse().ok()),
                ..Token::default()
            });
        };
        let mut token = Token::decode(text).ok_or_else(|| bad_request("The delta token is malformed."))?;
        if token.epoch != mailbox.delta_epoch {
            return Err(gone());
        }
        if req.q("$deltatoken").is_some() {
            token.since = Some(token.upto);
            token.upto = mailbox.seq;
            token.last = 0;
        }
        Ok(token)
    }
}

fn wanted(token: &Token, change: &str) -> bool {
    token.change_type.as_deref().is_none_or(|types| types.split(',').any(|t| t.trim() == change))
}

/// The last change of each message in the window, in log order, and whether the message was created in it.
fn latest<'a>(mailbox: &'a Mailbox, folder: &str, after: u64, upto: u64) -> Vec<(u64, &'a Change, bool)> {
    let start = mailbox.log.partition_point(|c| c.seq <= after);
    let mut last: BTreeMap<u64, (u64, &Change, bool)> = BTreeMap::new();
    for change in mailbox.log[start..].iter().take_while(|c| c.seq <= upto).filter(|c| c.folder == folder) {
        let created = change.kind == ChangeKind::Created || last.get(&change.key).is_some_and(|(_, _, created)| *created);
        last.insert(change.key, (change.seq, change, created));
    }
    let mut all: Vec<_> = last.into_values().collect();
    all.sort_by_key(|(seq, ..)| *seq);
    all
}

fn render(mailbox: &Mailbox, change: &Change, created: bool, folder: &str, token: &Token, filter: Option<&Filter>, view: &View) -> Option<Value> {
    let current = mailbox.messages.get(&change.key).filter(|m| m.folder == folder);
    match (change.kind, current) {
        (ChangeKind::Created | ChangeKind::Updated, Some(m)) => {
            let wanted = wanted(token, if created { "created" } else { "updated" }) && filter.is_none_or(|f| f.matches(m));
            wanted.then(|| wire::message(mailbox, m, view))
        }
        _ if !wanted(token, "deleted") => None,
        (kind, _) => {
            let id = if view.immutable { mailbox.immutable_id(change.key) } else { change.id.clone() };
            let reason = if kind == ChangeKind::Deleted { "deleted" } else { "changed" };
            Some(json!({"id": id, "@removed": {"reason": reason}}))
        }
    }
}

/// `receivedDateTime ge|gt X` is the only filter a delta query takes.
fn received_after(text: &str) -> Result<Filter, Reply> {
    let filter = Filter::parse(text).map_err(|e| bad_request(&e))?;
    match &filter {
        Filter::Compare { field, op, .. } if field == "receivedDateTime" && (op == "ge" || op == "gt") => Ok(filter),
        _ => Err(bad_request("A delta query can only be filtered by receivedDateTime ge or gt.")),
    }
}

fn page(req: &Req, token: &Token, items: Vec<Value>, last: u64, more: bool, mailbox: &Mailbox) -> Reply {
    let path = req.path_and_query.split('?').next().unwrap_or_default();
    let next = Token {
        epoch: token.epoch,
        since: token.since,
        upto: token.upto,
        last,
        select: token.select.clone(),
        change_type: token.change_type.clone(),
        filter: token.filter.clone(),
        top: token.top,
    };
    let context = format!("{}/v1.0/$metadata#users('{}')/delta", req.base, mailbox.address);
    let mut body = wire::page(&context, None, items, None);
    let (name, query) = if more { ("@odata.nextLink", "$skiptoken") } else { ("@odata.deltaLink", "$deltatoken") };
    body[name] = format!("{}{path}?{query}={}", req.base, next.encode()).into();
    Reply::json(200, &body)
}

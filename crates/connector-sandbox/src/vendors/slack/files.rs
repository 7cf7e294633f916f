//! Files in three steps: an address, the bytes, the completion. <https://docs.slack.dev/messaging/working-with-files>

use super::args::Args;
use super::seed::said;
use super::store::{File, Message, Store, ts_read, ts_text};
use super::{Caller, Outcome, Slack};
use crate::exchange::{Reply, Req};
use crate::ledger::{EffectKind, Entry, lock};
use bytes::Bytes;
use serde_json::{Value, json};

impl File {
    fn view(&self) -> Value {
        let mut shares = json!({});
        for (channel, ts) in &self.shares {
            shares["public"][channel] = json!([{"ts": ts, "channel_name": channel}]);
        }
        let kind = self.name.rsplit_once('.').map_or("txt", |(_, end)| end);
        json!({"id": self.id, "name": self.name, "title": self.title, "mimetype": if kind == "csv" { "text/csv" } else { "text/plain" },
            "filetype": kind, "size": self.length, "user": self.user, "created": self.created, "timestamp": self.created,
            "url_private": format!("https://files.slack.com/files-pri/T0ACME-{}/{}", self.id, self.name),
            "permalink": format!("https://acme.slack.com/files/{}/{}/{}", self.user, self.id, self.name),
            "channels": self.shares.iter().map(|(channel, _)| channel).collect::<Vec<_>>(), "shares": shares})
    }
}

impl Slack {
    pub(super) fn files(&self, store: &mut Store, name: &str, caller: &Caller, args: &Args, req: &Req) -> Outcome {
        match name {
            "getUploadURLExternal" => {
                let filename = args.need("filename")?;
                let length = args.number("length").and_then(|length| usize::try_from(length).ok()).filter(|length| *length > 0);
                let length = length.ok_or("invalid_arguments")?;
                let number = store.next();
                let (id, ticket) = (format!("F0HUB{number}"), format!("ticket-{number:06}"));
                let created = self.shared.clock.now().as_second();
                let user = caller.user.to_owned();
                let file = File {
                    id: id.clone(),
                    title: filename.clone(),
                    name: filename,
                    length,
                    user,
                    created,
                    bytes: None,
                    completed: false,
                    shares: Vec::new(),
                };
                store.files.insert(id.clone(), file);
                store.uploads.insert(ticket.clone(), id.clone());
                Ok(json!({"upload_url": format!("{}/upload/v1/{ticket}", req.base), "file_id": id}))
            }
            "completeUploadExternal" => self.complete(store, caller, args),
            "info" => {
                let file = store.files.get(&args.need("file")?).filter(|file| file.completed).ok_or("file_not_found")?;
                Ok(json!({"file": file.view(), "comments": [], "response_metadata": {"next_cursor": ""}}))
            }
            "list" => {
                let (channel, user) = (args.text("channel"), args.text("user"));
                let (from, to) = (args.number("ts_from").unwrap_or(0), args.number("ts_to").unwrap_or(i64::MAX));
                let mut all: Vec<&File> = store
                    .files
                    .values()
                    .filter(|file| file.completed && channel.as_ref().is_none_or(|channel| file.shares.iter().any(|(one, _)| one == channel)))
                    .filter(|file| user.as_ref().is_none_or(|user| file.user == *user) && (from..=to).contains(&file.created))
                    .collect();
                all.reverse();
                let size = |name: &str, usual: usize| args.number(name).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(usual);
                let (count, page) = (size("count", 100).min(200), size("page", 1));
                let (total, pages) = (all.len(), all.len().div_ceil(count));
                let files: Vec<Value> = all.into_iter().skip((page - 1) * count).take(count).map(File::view).collect();
                Ok(json!({"files": files, "paging": {"count": count, "total": total, "page": page, "pages": pages}}))
            }
            _ => Err("unknown_method".into()),
        }
    }

    /// The bytes, at the address given out; it authorises by itself.
    pub(super) fn upload(&self, ticket: &str, body: &Bytes) -> Reply {
        let mut store = lock(&self.store);
        let Some(file) = store.uploads.get(ticket).cloned().and_then(|id| store.files.get_mut(&id)) else {
            return Reply::bytes(404, "text/plain", Bytes::from_static(b"unknown upload"));
        };
        if body.len() != file.length {
            return Reply::bytes(400, "text/plain", Bytes::from(format!("expected {} bytes, got {}", file.length, body.len())));
        }
        file.bytes = Some(body.clone());
        Reply::bytes(200, "text/plain", Bytes::from(format!("OK - {}", body.len())))
    }

    fn complete(&self, store: &mut Store, caller: &Caller, args: &Args) -> Outcome {
        let wanted = args.tree("files").and_then(|files| files.as_array().cloned()).filter(|files| !files.is_empty()).ok_or("invalid_arguments")?;
        let channels: Vec<String> = args.text("channel_id").into_iter().chain(args.ids("channels")).collect();
        for channel in &channels {
            let place = store.channel(channel, caller.user)?;
            if !place.members.contains(caller.user) {
                return Err("not_in_channel".into());
            }
        }
        let mut done = Vec::new();
        for one in &wanted {
            let id = one["id"].as_str().unwrap_or_default();
            let file = store.files.get(id).filter(|file| file.bytes.is_some() && !file.completed).ok_or("file_not_found")?;
            done.push((file.id.clone(), one["title"].as_str().map(str::to_owned)));
        }
        let thread = args.text("thread_ts").and_then(|ts| ts_read(&ts));
        for (id, title) in &done {
            if let Some(file) = store.files.get_mut(id) {
                file.completed = true;
                if let Some(title) = title {
                    file.title.clone_from(title);
                }
            }
        }
        for channel in &channels {
            let files: Vec<Value> = done.iter().filter_map(|(id, _)| store.files.get(id)).map(File::view).collect();
            let mut message = Message { parent: thread, ..said(caller.user, &args.text("initial_comment").unwrap_or_default()) };
            message.body["files"] = files.into();
            message.body["subtype"] = "file_share".into();
            let ts = ts_text(self.write(store, channel, message));
            for (id, _) in &done {
                if let Some(file) = store.files.get_mut(id) {
                    file.shares.push((channel.clone(), ts.clone()));
                }
            }
        }
        for (id, _) in &done {
            self.shared.record(Entry::new("slack", EffectKind::ChatFileShared, id.as_str()).detail(json!({"channels": channels})));
        }
        let files: Vec<Value> = done.iter().filter_map(|(id, _)| store.files.get(id)).map(File::view).collect();
        Ok(json!({"files": files}))
    }

    /// The bytes of a file that was shared, by its name.
    pub fn file(&self, name: &str) -> Option<Bytes> {
        lock(&self.store).files.values().find(|file| file.completed && file.name == name)?.bytes.clone()
    }
}

//! Every operation beyond mail against the stateful fake of Graph over real HTTP. Each answer must fit the operation's own schema and, where
//! Microsoft's published description has the operation, that too. An operation nobody calls here fails the test.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests a panic is the failure")]

mod openapi;
mod support;
mod waivers;

use std::collections::BTreeSet;

use connector_core::ErrorKind;
use connector_msgraph::{ID, MsGraph};
use connector_sandbox::{EffectKind, Sandbox, known};
use openapi::OpenApi;
use serde_json::{Value, json};
use support::{app, person, sandbox};
use waivers::excused;

/// Files of the manifest that are about mail, which other tests call, or that have no operations.
const MAIL: [&str; 10] =
    ["attachments", "batch", "connector", "drafts", "folders", "messages", "subscriptions", "subscriptions_kinds", "triage", "views"];

struct Desk {
    sandbox: Sandbox,
    app: MsGraph,
    person: MsGraph,
    called: BTreeSet<String>,
    described: Vec<OpenApi>,
    problems: Vec<String>,
}

impl Desk {
    async fn open() -> Self {
        let sandbox = sandbox().await;
        let app = app(&sandbox);
        let person = person(
            &sandbox,
            &["ChannelMessage.Send", "ChannelMessage.Read.All", "ChannelMessage.ReadWrite", "ChatMessage.Send", "Chat.Read", "Calendars.Read.Shared"],
        );
        let described = ["msgraph_calendar.json", "msgraph_teams.json", "msgraph_sites.json"].iter().filter_map(|name| OpenApi::read(name)).collect();
        Self { sandbox, app, person, called: BTreeSet::new(), described, problems: Vec::new() }
    }

    /// Calls an operation as the app.
    async fn call(&mut self, operation: &str, args: Value) -> Value {
        self.call_as(self.app.clone(), operation, args).await
    }

    /// Calls an operation as the person.
    async fn ask(&mut self, operation: &str, args: Value) -> Value {
        self.call_as(self.person.clone(), operation, args).await
    }

    async fn call_as(&mut self, who: MsGraph, operation: &str, args: Value) -> Value {
        let name = format!("msgraph_{operation}");
        self.called.insert(name.clone());
        let reply =
            who.client().call_dynamic(&name, args.as_object().cloned().unwrap()).await.unwrap_or_else(|error| panic!("{name} {args}: {error}"));
        let value = reply.body.to_value().unwrap();
        let spec = who.connector().spec().clone();
        let op = spec.operation(&name).unwrap();
        let schema = jsonschema::validator_for(&op.output_schema).unwrap();
        self.problems.extend(schema.iter_errors(&value).map(|error| format!("{name}: {error} at `{}`", error.instance_path())));
        if let Some((method, path)) = op.endpoint.split_once(' ') {
            let path = filled(path);
            for api in &self.described {
                let Some(operation) = api
                    .path(&path)
                    .and_then(|template| same(template, op.endpoint.split_once(' ').unwrap().1).then(|| api.operation(template, method)))
                    .flatten()
                else {
                    continue;
                };
                let status = if method == "POST" { 201 } else { 200 };
                let found = operation.reply_problems(status, &value).into_iter().filter(|problem| excused(&name, problem).is_none());
                if value != Value::Null {
                    self.problems.extend(found.map(|problem| format!("{name} (published): {problem}")));
                }
            }
        }
        value
    }
}

/// A path with something in every placeholder.
fn filled(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/")
}

/// A placeholder must not stand for a fixed word.
fn same(template: &str, own: &str) -> bool {
    let fixed = |path: &str| path.split('/').filter(|part| !part.starts_with('{')).map(str::to_owned).collect::<Vec<_>>();
    fixed(template) == fixed(own)
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap_or_else(|| panic!("no id in {value}")).to_owned()
}

fn at(hour: u32) -> Value {
    json!({ "dateTime": format!("2026-11-23T{hour:02}:00:00"), "timeZone": "UTC" })
}

/// Opens a desk, runs the story, and fails for what does not fit its schema and for operations of these files that nobody called.
macro_rules! story {
    ($name:ident, $story:ident, $($file:literal),+) => {
        #[tokio::test]
        async fn $name() {
            let mut desk = Desk::open().await;
            $story(&mut desk).await;
            assert!(desk.problems.is_empty(), "{} problem(s):\n{}", desk.problems.len(), desk.problems.join("\n"));
            let wanted: Vec<String> = [$($file),+].into_iter().flat_map(operations).collect();
            assert!(wanted.len() > 5);
            let missing: Vec<&String> = wanted.iter().filter(|name| !desk.called.contains(*name)).collect();
            assert!(missing.is_empty(), "nobody called {missing:?}");
        }
    };
}

story!(every_operation_of_calendars_works_and_answers_as_described, calendars, "calendar", "events");
story!(every_operation_of_teams_and_channels_works_and_answers_as_described, teams, "teams", "channels");
story!(every_operation_of_chats_works_and_answers_as_described, chats, "chats");
story!(every_operation_of_sites_and_lists_works_and_answers_as_described, sites, "sites", "lists");
story!(every_operation_of_files_works_and_answers_as_described, drives, "drives", "drive_items", "sharing");

/// The operations of one of the manifest's files.
fn operations(file: &str) -> Vec<String> {
    let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("manifest/{file}.yaml"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("  - name: ").map(str::to_owned)).collect()
}

#[test]
fn every_file_of_the_manifest_has_a_story() {
    let told = ["calendar", "events", "teams", "channels", "chats", "sites", "lists", "drives", "drive_items", "sharing"];
    let dir = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("manifest");
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        assert!(told.contains(&&*name) || MAIL.contains(&&*name), "{name}.yaml has operations that no story calls");
    }
    assert!(told.into_iter().map(|file| operations(file).len()).sum::<usize>() >= 140);
}

async fn calendars(desk: &mut Desk) {
    let default = desk.call("get_default_calendar", json!({})).await;
    assert_eq!(desk.call("list_calendars", json!({})).await["value"][0]["id"], default["id"]);
    let second = id(&desk.call("create_calendar", json!({ "name": "Shifts" })).await);
    desk.call("update_calendar", json!({ "calendar_id": second, "name": "On call" })).await;
    assert_eq!(desk.call("get_calendar", json!({ "calendar_id": second })).await["name"], "On call");
    let body = json!({ "subject": "Ann's review", "start": at(9), "end": at(10), "location": "Room 4",
        "attendees": [{ "type": "required", "emailAddress": { "address": "ann@contoso.example" } }] });
    let with = |more: Value| {
        let mut args = body.clone();
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    let event = id(&desk.call("create_event", body.clone()).await);
    desk.call("post_event", with(json!({ "transaction_id": "t-2", "recurrence": { "pattern": { "type": "daily", "interval": 1 }, "range": { "type": "numbered", "numberOfOccurrences": 3, "startDate": "2026-11-23" } } }))).await;
    let other = desk.call("post_calendar_event", with(json!({ "transaction_id": "t-3", "calendar_id": second }))).await;
    assert_eq!(desk.call("list_calendar_events", json!({ "calendar_id": second })).await["value"][0]["id"], other["id"]);
    desk.call("list_events", json!({ "orderby": "start/dateTime" })).await;
    assert_eq!(desk.call("find_events_by_subject", json!({ "subject": "Ann's" })).await["value"].as_array().unwrap().len(), 3);
    let read = desk.call("get_event", json!({ "event_id": event })).await;
    desk.call("update_event", json!({ "event_id": event, "subject": "Review", "if_match": read["@odata.etag"] })).await;
    let stale = desk
        .app
        .client()
        .call_dynamic(
            "msgraph_update_event",
            json!({ "event_id": event, "subject": "x", "if_match": read["@odata.etag"] }).as_object().cloned().unwrap(),
        )
        .await;
    assert_eq!(stale.unwrap_err().kind(), ErrorKind::Conflict);
    let view = desk.call("list_calendar_view", json!({ "start": "2026-11-23T00:00:00Z", "end": "2026-11-30T00:00:00Z" })).await;
    assert_eq!(view["value"].as_array().unwrap().len(), 4, "one and three occurrences");
    let series = view["value"].as_array().unwrap().iter().find_map(|event| event["seriesMasterId"].as_str()).unwrap().to_owned();
    desk.call("list_event_instances", json!({ "event_id": series, "start": "2026-11-23T00:00:00Z", "end": "2026-11-30T00:00:00Z" })).await;
    desk.call("delta_calendar_view", json!({ "start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z" })).await;
    let free = desk.call("get_schedule", json!({ "schedules": [known::GRAPH_MAILBOX], "start": at(8), "end": at(11), "interval": 60 })).await;
    assert_eq!(free["value"][0]["availabilityView"], "020");
    desk.ask("find_meeting_times", json!({ "duration": "PT1H", "max_candidates": 2 })).await;
    desk.call("add_event_attachment", json!({ "event_id": event, "name": "a.txt", "content_base64": "SGk=" })).await;
    desk.call("list_event_attachments", json!({ "event_id": event })).await;
    desk.call("dismiss_event_reminder", json!({ "event_id": event })).await;
    desk.call("snooze_event_reminder", json!({ "event_id": event, "until": at(9) })).await;
    desk.call("forward_event", json!({ "event_id": event, "to": [{ "emailAddress": { "address": "bo@contoso.example" } }] })).await;
    for answer in ["accept_event", "tentatively_accept_event", "decline_event"] {
        let invited = desk.sandbox.msgraph().invite(known::GRAPH_MAILBOX, "boss@contoso.example", "Board", "2026-11-24T09:00:00Z").unwrap();
        desk.call(answer, json!({ "event_id": invited, "comment": "ok" })).await;
    }
    desk.call("cancel_event", json!({ "event_id": event, "comment": "no" })).await;
    desk.call("delete_event", json!({ "event_id": series })).await;
    desk.call("delete_calendar", json!({ "calendar_id": second })).await;
}

async fn teams(desk: &mut Desk) {
    let bo = "5a2b0c1e-0000-4000-8000-000000000102";
    desk.call("list_teams", json!({ "top": 10 })).await;
    assert_eq!(id(&desk.call("find_team", json!({ "display_name": "Operations" })).await["value"][0]), known::GRAPH_TEAM);
    desk.call("list_joined_teams", json!({})).await;
    let started = desk.call("create_team", json!({ "display_name": "Night", "owner": known::GRAPH_PERSON })).await;
    let team = started["team_id"].as_str().unwrap().to_owned();
    let operation = desk.call("get_team_operation", json!({ "team_id": team, "operation_id": started["operation_id"] })).await;
    assert_eq!(operation["status"], "succeeded");
    desk.call("update_team", json!({ "team_id": team, "description": "Nights" })).await;
    assert_eq!(desk.call("get_team", json!({ "team_id": team })).await["description"], "Nights");
    desk.call("archive_team", json!({ "team_id": team })).await;
    desk.call("unarchive_team", json!({ "team_id": team })).await;
    let member = id(&desk.call("add_team_member", json!({ "team_id": team, "user_id": bo })).await);
    desk.call("list_team_members", json!({ "team_id": team })).await;
    desk.call("get_team_member", json!({ "team_id": team, "membership_id": member })).await;
    desk.call("update_team_member", json!({ "team_id": team, "membership_id": member, "roles": ["owner"] })).await;
    desk.call("send_team_notification", json!({ "team_id": team, "activity_type": "ticketAssigned", "text": "HUB-7", "topic": { "source": "text", "value": "Tickets", "webUrl": "https://teams.microsoft.com/l/entity/x/y" }, "user_id": bo })).await;
    desk.call("remove_team_member", json!({ "team_id": team, "membership_id": member })).await;
    desk.call("list_channels", json!({ "team_id": team })).await;
    desk.call("get_primary_channel", json!({ "team_id": team })).await;
    let owner = json!({ "@odata.type": "#microsoft.graph.aadUserConversationMember", "roles": ["owner"], "user@odata.bind": format!("https://graph.microsoft.com/v1.0/users('{}')", known::GRAPH_PERSON) });
    let private = id(&desk
        .call("create_channel", json!({ "team_id": team, "display_name": "Secret", "membership_type": "private", "members": [owner] }))
        .await);
    let at = json!({ "team_id": team, "channel_id": private });
    let and = |more: Value| {
        let mut args = at.clone();
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    assert_eq!(id(&desk.call("find_channel", json!({ "team_id": team, "display_name": "Secret" })).await["value"][0]), private);
    desk.call("update_channel", and(json!({ "description": "shh" }))).await;
    desk.call("get_channel", at.clone()).await;
    let member = id(&desk.call("add_channel_member", and(json!({ "user_id": bo }))).await);
    desk.call("list_channel_members", at.clone()).await;
    desk.call("remove_channel_member", and(json!({ "membership_id": member }))).await;
    desk.call("get_channel_files_folder", at.clone()).await;
    desk.call("list_channel_tabs", at.clone()).await;
    let root = id(&desk.ask("post_channel_message", and(json!({ "content": "Disk full", "subject": "db-3" }))).await);
    desk.ask("post_channel_reply", and(json!({ "message_id": root, "content": "On it" }))).await;
    desk.ask("send_channel_message", and(json!({ "card": { "type": "AdaptiveCard", "version": "1.4", "body": [] } }))).await;
    desk.ask("send_channel_message", and(json!({ "content": "Done", "reply_to": root }))).await;
    desk.ask("set_channel_reaction", and(json!({ "message_id": root, "reaction": "👍" }))).await;
    assert_eq!(desk.call("get_channel_message", and(json!({ "message_id": root }))).await["reactions"][0]["reactionType"], "👍");
    desk.ask("unset_channel_reaction", and(json!({ "message_id": root, "reaction": "👍" }))).await;
    assert_eq!(desk.call("list_channel_messages", at.clone()).await["value"].as_array().unwrap().len(), 2);
    assert_eq!(desk.call("list_channel_replies", and(json!({ "message_id": root }))).await["value"].as_array().unwrap().len(), 2);
    desk.call("delta_channel_messages", and(json!({ "since": "2026-01-01T00:00:00Z" }))).await;
    desk.ask("soft_delete_channel_message", and(json!({ "message_id": root }))).await;
    desk.ask("undo_delete_channel_message", and(json!({ "message_id": root }))).await;
    desk.call("export_channel_messages", json!({ "team_id": team })).await;
    desk.call("delete_channel", at).await;
}

async fn chats(desk: &mut Desk) {
    let member = |person: &str| json!({ "@odata.type": "#microsoft.graph.aadUserConversationMember", "roles": ["owner"], "user@odata.bind": format!("https://graph.microsoft.com/v1.0/users('{person}')") });
    let people = [member(known::GRAPH_PERSON), member("5a2b0c1e-0000-4000-8000-000000000102")];
    let chat = id(&desk.call("create_chat", json!({ "chat_type": "group", "topic": "Desk", "members": people })).await);
    let one = id(&desk.call("create_chat", json!({ "chat_type": "oneOnOne", "members": people })).await);
    assert_eq!(
        id(&desk.call("create_chat", json!({ "chat_type": "oneOnOne", "members": people })).await),
        one,
        "between two people there is one chat"
    );
    desk.call("list_chats", json!({ "expand": "members" })).await;
    desk.call("update_chat", json!({ "chat_id": chat, "topic": "Night desk" })).await;
    assert_eq!(desk.call("get_chat", json!({ "chat_id": chat })).await["topic"], "Night desk");
    desk.call("add_chat_member", json!({ "chat_id": chat, "user_id": "5a2b0c1e-0000-4000-8000-000000000103" })).await;
    let members = desk.call("list_chat_members", json!({ "chat_id": chat })).await;
    desk.call("remove_chat_member", json!({ "chat_id": chat, "membership_id": members["value"][2]["id"] })).await;
    let message = id(&desk.ask("post_chat_message", json!({ "chat_id": chat, "content": "Hello" })).await);
    desk.ask("send_chat_message", json!({ "chat_id": chat, "content": "On it", "content_type": "text" })).await;
    desk.ask("set_chat_reaction", json!({ "chat_id": chat, "message_id": message, "reaction": "👍" })).await;
    desk.ask("unset_chat_reaction", json!({ "chat_id": chat, "message_id": message, "reaction": "👍" })).await;
    desk.call("list_chat_messages", json!({ "chat_id": chat })).await;
    desk.call("get_chat_message", json!({ "chat_id": chat, "message_id": message })).await;
    let pin = id(&desk.call("pin_chat_message", json!({ "chat_id": chat, "message_id": message })).await);
    desk.call("list_pinned_messages", json!({ "chat_id": chat })).await;
    desk.call("unpin_chat_message", json!({ "chat_id": chat, "pinned_id": pin })).await;
    desk.call("export_chat_messages", json!({})).await;
}

async fn sites(desk: &mut Desk) {
    let site = known::GRAPH_SITE;
    assert_eq!(id(&desk.call("search_sites", json!({ "query": "desk" })).await["value"][0]), site);
    desk.call("get_site", json!({ "site_id": site })).await;
    desk.call("get_root_site", json!({})).await;
    assert_eq!(id(&desk.call("get_site_by_path", json!({ "host": "contoso.sharepoint.example", "name": "desk" })).await), site);
    assert_eq!(desk.call("get_site_by_path", json!({ "host": "contoso.sharepoint.example", "name": "none" })).await, Value::Null);
    desk.call("list_subsites", json!({ "site_id": site })).await;
    desk.call("list_site_drives", json!({ "site_id": site })).await;
    assert_eq!(id(&desk.call("get_site_drive", json!({ "site_id": site })).await), known::GRAPH_DRIVE);
    let permission = id(&desk.call("grant_site_permission", json!({ "site_id": site, "roles": ["write"], "app_id": "a", "app_name": "Hub" })).await);
    desk.call("list_site_permissions", json!({ "site_id": site })).await;
    desk.call("delete_site_permission", json!({ "site_id": site, "permission_id": permission })).await;

    desk.call("list_lists", json!({ "site_id": site })).await;
    let list =
        id(&desk.call("create_list", json!({ "site_id": site, "display_name": "Tasks", "columns": [{ "name": "Status", "text": {} }] })).await);
    let at = json!({ "site_id": site, "list_id": list });
    let and = |more: Value| {
        let mut args = at.clone();
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    desk.call("get_list", and(json!({ "expand": "columns" }))).await;
    desk.call("create_column", and(json!({ "column": { "name": "Owner", "text": {} } }))).await;
    desk.call("list_columns", at.clone()).await;
    desk.call("list_content_types", at.clone()).await;
    let item = id(&desk.call("create_item", and(json!({ "fields": { "Title": "O'Hara", "Status": "Open" } }))).await);
    let found = desk.call("find_items", and(json!({ "column": "Title", "value": "O'Hara" }))).await;
    assert_eq!(id(&found["value"][0]), item);
    let row = desk.call("get_item", and(json!({ "item_id": item }))).await;
    desk.call("update_item", and(json!({ "item_id": item, "fields": { "Status": "Closed" }, "if_match": row["eTag"] }))).await;
    assert_eq!(desk.call("get_item_fields", and(json!({ "item_id": item }))).await["Status"], "Closed");
    let insists = and(json!({ "filter": "fields/Status eq 'Closed'", "prefer": "HonorNonIndexedQueriesWarningMayFailRandomly" }));
    assert_eq!(desk.call("list_items", insists).await["value"].as_array().unwrap().len(), 1);
    desk.call("list_item_versions", and(json!({ "item_id": item }))).await;
    desk.call("delta_list_items", at.clone()).await;
    desk.call("delete_item", and(json!({ "item_id": item }))).await;
    desk.call("delete_list", at).await;
}

async fn drives(desk: &mut Desk) {
    let drive = known::GRAPH_DRIVE;
    desk.call("list_user_drives", json!({})).await;
    desk.call("get_user_drive", json!({})).await;
    desk.call("get_drive", json!({ "drive_id": drive })).await;
    let root = id(&desk.call("get_drive_root", json!({ "drive_id": drive })).await);
    let folder = id(&desk.call("create_folder_in_drive", json!({ "drive_id": drive, "parent_id": root, "name": "Reports" })).await);
    let file = id(&desk.call("put_text_file", json!({ "drive_id": drive, "parent_id": folder, "name": "plan (1).txt", "text": "hello" })).await);
    let at = json!({ "drive_id": drive, "item_id": file });
    let and = |more: Value| {
        let mut args = at.clone();
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    assert_eq!(id(&desk.call("get_drive_item_by_path", json!({ "drive_id": drive, "path": "Reports/plan (1).txt" })).await), file);
    assert_eq!(desk.call("get_drive_item_by_path", json!({ "drive_id": drive, "path": "Reports/none" })).await, Value::Null);
    desk.call("list_root_children", json!({ "drive_id": drive })).await;
    desk.call("list_children", json!({ "drive_id": drive, "item_id": folder })).await;
    assert_eq!(desk.call("search_drive", json!({ "drive_id": drive, "query": "plan" })).await["value"].as_array().unwrap().len(), 1);
    desk.call("rename_drive_item", and(json!({ "name": "ann's plan.txt" }))).await;
    assert_eq!(id(&desk.call("search_drive", json!({ "drive_id": drive, "query": "ann's" })).await["value"][0]), file);
    desk.call("get_drive_item", at.clone()).await;
    desk.call("move_drive_item", and(json!({ "parent_id": root }))).await;
    let second =
        desk.call("upload_file", json!({ "drive_id": drive, "parent_id": "root", "name": "ann's plan.txt", "content_text": "hello again" })).await;
    assert_eq!(id(&second), file, "replaced");
    assert_eq!(desk.call("download_file", and(json!({ "range": "bytes=6-10" }))).await["base64"], "YWdhaW4=");
    desk.call("list_drive_item_versions", at.clone()).await;
    desk.call("restore_drive_item_version", and(json!({ "version_id": "1.0" }))).await;
    assert_eq!(desk.sandbox.msgraph().file(drive, "ann's plan.txt").unwrap(), "hello");
    desk.call("check_out_file", at.clone()).await;
    desk.call("check_in_file", and(json!({ "comment": "done" }))).await;
    desk.call("get_list_item_of_file", at.clone()).await;
    let session = desk.call("create_drive_upload_session", json!({ "drive_id": drive, "parent_id": root, "name": "big.zip" })).await;
    assert!(session["uploadUrl"].as_str().unwrap().contains("/drive-upload/"));
    let copied = desk.call("copy_drive_item", and(json!({ "to_parent_id": folder, "name": "copy.txt" }))).await;
    assert_eq!(copied["status"], "completed");
    let going = desk.call("copy_drive_item", and(json!({ "to_parent_id": folder, "name": "copy 2.txt", "wait": 0 }))).await;
    desk.call("get_copy_status", json!({ "monitor": going["monitor"] })).await;
    desk.call("delta_drive", json!({ "drive_id": drive })).await;
    let link = desk.call("create_sharing_link", at.clone()).await;
    assert_eq!(id(&desk.call("get_shared_item", json!({ "share_id": link["shareId"] })).await), file);
    let invited = desk.call("invite_to_drive_item", and(json!({ "recipients": [{ "email": "ann@contoso.example" }] }))).await;
    let permission = id(&invited["value"][0]);
    desk.call("update_permission", and(json!({ "permission_id": permission, "roles": ["write"] }))).await;
    desk.call("list_permissions", at.clone()).await;
    desk.call("delete_permission", and(json!({ "permission_id": permission }))).await;
    desk.call("delete_drive_item", at).await;
    assert!(desk.sandbox.ledger().count(EffectKind::FileStored) >= 4);
    assert_eq!(desk.app.connector().spec().id.as_ref(), ID);
}

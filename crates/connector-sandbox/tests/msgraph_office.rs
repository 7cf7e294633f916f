//! The fake Graph beyond mail over loopback: calendars, Teams, SharePoint lists, drives, and what each of them refuses.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod support;

use connector_sandbox::{EffectKind, Sandbox, known};
use serde_json::{Value, json};
use support::{Caller, Receiver, bearer, graph};

const BOX: &str = "/users/support@contoso.example";

async fn start() -> (Sandbox, Caller) {
    let sandbox = Sandbox::builder().vendor("msgraph").start("127.0.0.1:0").await.unwrap();
    let graph = graph(&sandbox).await;
    (sandbox, graph)
}

/// A signed-in person with these permissions.
fn person(sandbox: &Sandbox, scopes: &[&str]) -> Caller {
    bearer(sandbox.base_url("msgraph"), &sandbox.msgraph().delegated_token(scopes))
}

fn event(subject: &str, start: &str, end: &str) -> Value {
    json!({ "subject": subject, "start": { "dateTime": start, "timeZone": "UTC" }, "end": { "dateTime": end, "timeZone": "UTC" } })
}

fn values(page: &Value) -> Vec<Value> {
    page["value"].as_array().unwrap().clone()
}

#[tokio::test]
async fn one_transaction_id_is_one_appointment() {
    let (sandbox, graph) = start().await;
    let mut body = event("Window", "2026-11-23T09:00:00", "2026-11-23T10:00:00");
    body["transactionId"] = "t-1".into();
    let first = graph.post(&format!("{BOX}/events"), body.clone()).await.expect(201);
    let again = graph.post(&format!("{BOX}/events"), body).await.expect(201);
    assert_eq!(first["id"], again["id"]);
    assert_eq!(sandbox.ledger().count(EffectKind::EventCreated), 1);
}

#[tokio::test]
async fn a_view_shows_the_occurrences_of_a_series_and_a_list_the_series() {
    let (_sandbox, graph) = start().await;
    let mut body = event("Standup", "2026-11-23T09:00:00", "2026-11-23T09:15:00");
    body["recurrence"] = json!({ "pattern": { "type": "daily", "interval": 1 }, "range": { "type": "numbered", "startDate": "2026-11-23", "numberOfOccurrences": 5 } });
    let made = graph.post(&format!("{BOX}/events"), body).await.expect(201);
    assert_eq!(made["type"], "seriesMaster");
    let view = graph.get(&format!("{BOX}/calendarView?startDateTime=2026-11-24T00:00:00Z&endDateTime=2026-11-26T00:00:00Z")).await.expect(200);
    let view = values(&view);
    assert_eq!(view.len(), 2);
    assert_eq!((&view[0]["type"], &view[0]["seriesMasterId"]), (&json!("occurrence"), &made["id"]));
    assert_eq!(values(&graph.get(&format!("{BOX}/events")).await.expect(200)).len(), 1);
    assert_eq!(graph.get(&format!("{BOX}/calendarView")).await.expect(400)["error"]["code"], "ErrorInvalidParameter");
    let zone = event("x", "2026-11-23T09:00:00", "2026-11-23T10:00:00");
    let mut zone = zone;
    zone["start"]["timeZone"] = "Mars/Olympus".into();
    assert_eq!(graph.post(&format!("{BOX}/events"), zone).await.expect(400)["error"]["code"], "TimeZoneNotSupportedException");
}

#[tokio::test]
async fn a_stale_etag_is_412_and_a_calendar_is_followed_until_its_token_is_forgotten() {
    let (sandbox, graph) = start().await;
    let made = graph.post(&format!("{BOX}/events"), event("A", "2026-11-23T09:00:00", "2026-11-23T10:00:00")).await.expect(201);
    let url = format!("{BOX}/events/{}", made["id"].as_str().unwrap());
    let stale = graph.with("if-match", "W/\"old\"").patch(&url, json!({ "subject": "B" })).await.expect(412);
    assert_eq!(stale["error"]["code"], "resourceModified");
    let window = "startDateTime=2026-11-01T00:00:00Z&endDateTime=2026-12-01T00:00:00Z";
    let first = graph.get(&format!("{BOX}/calendarView/delta?{window}")).await.expect(200);
    assert_eq!(values(&first).len(), 1);
    graph.delete(&url).await.expect(204);
    let link = first["@odata.deltaLink"].as_str().unwrap();
    let second = graph.get(link).await.expect(200);
    assert_eq!(second["value"], json!([{ "id": made["id"], "@removed": { "reason": "deleted" } }]));
    sandbox.msgraph().expire_calendar(known::GRAPH_MAILBOX);
    let gone = graph.get(second["@odata.deltaLink"].as_str().unwrap()).await;
    assert!(gone.header("location").ends_with("/calendarView/delta"));
    assert_eq!(gone.expect(410)["error"]["code"], "syncStateNotFound");
    let select = graph.get(&format!("{BOX}/calendarView/delta?{window}&$select=subject")).await.expect(400);
    assert_eq!(select["error"]["code"], "ErrorInvalidUrlQuery");
}

#[tokio::test]
async fn schedules_are_told_by_digits_and_meeting_times_only_to_people() {
    let (sandbox, graph) = start().await;
    graph.post(&format!("{BOX}/events"), event("A", "2026-11-23T09:00:00", "2026-11-23T10:00:00")).await.expect(201);
    let span = json!({ "schedules": [known::GRAPH_MAILBOX, "nobody@contoso.example"], "startTime": { "dateTime": "2026-11-23T08:00:00", "timeZone": "UTC" },
        "endTime": { "dateTime": "2026-11-23T11:00:00", "timeZone": "UTC" }, "availabilityViewInterval": 60 });
    let told = values(&graph.post(&format!("{BOX}/calendar/getSchedule"), span).await.expect(200));
    assert_eq!(told[0]["availabilityView"], "020");
    assert_eq!(told[1]["error"]["responseCode"], "ErrorMailRecipientNotFound");
    assert_eq!(graph.post(&format!("{BOX}/findMeetingTimes"), json!({})).await.expect(403)["error"]["code"], "ErrorAccessDenied");
    let ann = person(&sandbox, &["Calendars.Read.Shared"]);
    let slot = json!({ "timeConstraint": { "timeSlots": [{ "start": { "dateTime": "2026-11-23T09:00:00", "timeZone": "UTC" }, "end": { "dateTime": "2026-11-23T11:00:00", "timeZone": "UTC" } }] }, "meetingDuration": "PT1H" });
    let found = ann.post(&format!("{BOX}/findMeetingTimes"), slot).await.expect(200);
    assert_eq!(found["meetingTimeSuggestions"].as_array().unwrap().len(), 1, "{found}");
}

#[tokio::test]
async fn an_organizer_cancels_and_cannot_answer_themselves() {
    let (sandbox, graph) = start().await;
    let made = graph.post(&format!("{BOX}/events"), event("A", "2026-11-23T09:00:00", "2026-11-23T10:00:00")).await.expect(201);
    let url = format!("{BOX}/events/{}", made["id"].as_str().unwrap());
    assert_eq!(graph.post(&format!("{url}/accept"), json!({})).await.status, 400);
    let file = json!({ "@odata.type": "#microsoft.graph.fileAttachment", "name": "a.txt", "contentBytes": "SGk=" });
    graph.post(&format!("{url}/attachments"), file).await.expect(201);
    assert_eq!(values(&graph.get(&format!("{url}/attachments")).await.expect(200))[0]["name"], "a.txt");
    graph.post(&format!("{url}/cancel"), json!({ "comment": "no" })).await.expect(202);
    assert_eq!(graph.get(&url).await.status, 404);
    assert!(sandbox.ledger().count(EffectKind::EventChanged) >= 2);
}

#[tokio::test]
async fn an_app_alone_may_not_write_and_a_person_writes_twice_if_asked_twice() {
    let (sandbox, graph) = start().await;
    let url = format!("/teams/{}/channels/{}/messages", known::GRAPH_TEAM, known::GRAPH_CHANNEL);
    let body = json!({ "body": { "contentType": "html", "content": "Disk full" } });
    let refused = graph.post(&url, body.clone()).await.expect(401);
    assert!(refused["error"]["message"].as_str().unwrap().contains("application-only context"), "{refused}");
    let ann = person(&sandbox, &["ChannelMessage.Send", "ChannelMessage.Read.All"]);
    let first = ann.post(&url, body.clone()).await.expect(201);
    ann.post(&url, body).await.expect(201);
    let reply = json!({ "body": { "content": "On it" } });
    ann.post(&format!("{url}/{}/replies", first["id"].as_str().unwrap()), reply).await.expect(201);
    assert_eq!(sandbox.ledger().count(EffectKind::ChatPosted), 3);
    let listed = graph.get(&format!("{url}?$top=50")).await.expect(200);
    assert_eq!(values(&listed).len(), 2, "roots only");
    assert_eq!(graph.get(&format!("{url}?$top=51")).await.status, 400);
    assert_eq!(graph.get(&format!("{url}?$filter=subject%20eq%20'x'")).await.status, 400);
}

#[tokio::test]
async fn a_card_is_json_in_a_text_and_named_in_the_body() {
    let (sandbox, _) = start().await;
    let ann = person(&sandbox, &["ChatMessage.Send"]);
    let url = format!("/chats/{}/messages", known::GRAPH_CHAT);
    let card = |content: &str, named: &str| {
        json!({ "body": { "contentType": "html", "content": format!("<attachment id=\"{named}\"></attachment>") },
        "attachments": [{ "id": "c1", "contentType": "application/vnd.microsoft.card.adaptive", "content": content }] })
    };
    ann.post(&url, card("{\"type\":\"AdaptiveCard\"}", "c1")).await.expect(201);
    assert_eq!(ann.post(&url, card("{\"type\":\"AdaptiveCard\"}", "c2")).await.status, 400);
    assert_eq!(ann.post(&url, card("not json", "c1")).await.status, 400);
    assert_eq!(ann.post(&url, json!({ "body": { "content": "x".repeat(30_000) } })).await.status, 413);
}

#[tokio::test]
async fn a_team_is_made_in_the_background_and_an_app_names_its_owner() {
    let (_sandbox, graph) = start().await;
    let mut body = json!({ "template@odata.bind": "https://graph.microsoft.com/v1.0/teamsTemplates('standard')", "displayName": "Night" });
    assert_eq!(graph.post("/teams", body.clone()).await.status, 400);
    let bind = format!("https://graph.microsoft.com/v1.0/users('{}')", known::GRAPH_PERSON);
    body["members"] = json!([{ "@odata.type": "#microsoft.graph.aadUserConversationMember", "roles": ["owner"], "user@odata.bind": bind }]);
    let made = graph.post("/teams", body).await;
    assert_eq!((made.status, made.bytes.len()), (202, 0));
    let operation = graph.get(&made.header("location").replace("('", "/").replace("')", "")).await.expect(200);
    assert_eq!(operation["status"], "succeeded");
    let team = operation["targetResourceId"].as_str().unwrap();
    assert_eq!(graph.get(&format!("/teams/{team}/primaryChannel")).await.expect(200)["displayName"], "General");
    let taken = json!({ "displayName": "general" });
    assert_eq!(graph.post(&format!("/teams/{team}/channels"), taken).await.status, 400);
}

#[tokio::test]
async fn permissions_that_were_not_given_are_missed_in_each_services_words() {
    let (sandbox, graph) = start().await;
    sandbox.msgraph().set_roles(&["Mail.Read"]);
    for (url, code) in [
        (format!("{BOX}/events"), "ErrorAccessDenied"),
        (format!("/teams/{}", known::GRAPH_TEAM), "Forbidden"),
        (format!("/sites/{}/lists", known::GRAPH_SITE), "accessDenied"),
        (format!("/drives/{}", known::GRAPH_DRIVE), "accessDenied"),
    ] {
        assert_eq!(graph.get(&url).await.expect(403)["error"]["code"], code, "{url}");
    }
    sandbox.msgraph().set_roles(&["Team.ReadBasic.All"]);
    graph.get(&format!("/teams/{}", known::GRAPH_TEAM)).await.expect(200);
    assert_eq!(graph.with("authorization", "Bearer wrong").get("/teams").await.expect(401)["error"]["code"], "InvalidAuthenticationToken");
}

#[tokio::test]
async fn the_fifth_request_of_a_second_on_one_team_is_throttled() {
    let clock = connector_sandbox::WallClock::from_fn(|| jiff::Timestamp::from_second(1_800_000_000).unwrap());
    let sandbox = Sandbox::builder().vendor("msgraph").clock(clock).start("127.0.0.1:0").await.unwrap();
    let graph = graph(&sandbox).await;
    sandbox.msgraph().limit_teams();
    let url = format!("/teams/{}", known::GRAPH_TEAM);
    for _ in 0..4 {
        graph.get(&url).await.expect(200);
    }
    let throttled = graph.get(&url).await;
    assert_eq!((throttled.status, throttled.header("retry-after")), (429, "1"));
    graph.get(&format!("/chats/{}", known::GRAPH_CHAT)).await.expect(200);
}

#[tokio::test]
async fn a_column_without_an_index_is_filtered_only_for_who_insists_and_quotes_stay_text() {
    let (_sandbox, graph) = start().await;
    let url = format!("/sites/{}/lists/Tickets/items", known::GRAPH_SITE);
    let made = graph.post(&url, json!({ "fields": { "Title": "O'Hara' or 1 eq 1", "Owner": "ann" } })).await.expect(201);
    graph.post(&url, json!({ "fields": { "Title": "other", "Owner": "bo" } })).await.expect(201);
    assert_eq!(graph.post(&url, json!({ "fields": { "Shoe": 1 } })).await.status, 400);
    let by_title =
        graph.get(&format!("{url}?$expand=fields($select=Title)&$filter=fields/Title%20eq%20'O''Hara''%20or%201%20eq%201'")).await.expect(200);
    assert_eq!(by_title["value"].as_array().unwrap().len(), 1);
    assert_eq!(by_title["value"][0]["fields"], json!({ "Title": "O'Hara' or 1 eq 1" }));
    let by_owner = format!("{url}?$filter=fields/Owner%20eq%20'ann'");
    let refused = graph.get(&by_owner).await.expect(400);
    assert!(refused["error"]["message"].as_str().unwrap().contains("not indexed"));
    let insists = graph.with("prefer", "HonorNonIndexedQueriesWarningMayFailRandomly").get(&by_owner).await.expect(200);
    assert_eq!(values(&insists).len(), 1);
    let item = format!("{url}/{}", made["id"].as_str().unwrap());
    let tag = made["eTag"].as_str().unwrap().to_owned();
    let changed = graph.with("if-match", &tag).patch(&format!("{item}/fields"), json!({ "Status": "Closed" })).await.expect(200);
    assert_eq!((&changed["Status"], &changed["Title"]), (&json!("Closed"), &json!("O'Hara' or 1 eq 1")));
    assert_eq!(graph.with("if-match", &tag).patch(&format!("{item}/fields"), json!({ "Status": "Open" })).await.status, 412);
    assert_eq!(values(&graph.get(&format!("{item}/versions")).await.expect(200)).len(), 2);
}

#[tokio::test]
async fn lists_and_drives_are_followed_until_a_resync_is_asked_for() {
    let (sandbox, graph) = start().await;
    let url = format!("/sites/{}/lists/{}/items", known::GRAPH_SITE, known::GRAPH_LIST);
    let latest = graph.get(&format!("{url}/delta?token=latest")).await.expect(200);
    assert_eq!(latest["value"], json!([]));
    graph.post(&url, json!({ "fields": { "Title": "a" } })).await.expect(201);
    graph.delete(&format!("{url}/1")).await.expect(204);
    let next = graph.get(latest["@odata.deltaLink"].as_str().unwrap()).await.expect(200);
    assert_eq!(next["value"], json!([{ "id": "1", "deleted": { "state": "deleted" } }]));
    sandbox.msgraph().expire_list(known::GRAPH_SITE, known::GRAPH_LIST);
    let gone = graph.get(next["@odata.deltaLink"].as_str().unwrap()).await.expect(410);
    assert_eq!(gone["error"]["code"], "resyncChangesApplyDifferences");

    let drive = format!("/drives/{}", known::GRAPH_DRIVE);
    for n in 0..3 {
        graph.with("content-type", "text/plain").raw("PUT", &format!("{drive}/items/root:/f{n}.txt:/content"), "hello").await.unwrap().expect(201);
    }
    let mut seen = 0;
    let mut page = graph.get(&format!("{drive}/root/delta?$top=2")).await.expect(200);
    while let Some(link) = page["@odata.nextLink"].as_str().map(str::to_owned) {
        seen += values(&page).len();
        page = graph.get(&link).await.expect(200);
    }
    seen += values(&page).len();
    assert_eq!(seen, 4, "three files and the root");
}

#[tokio::test]
async fn bytes_travel_without_a_token_and_names_are_taken_once() {
    let (sandbox, graph) = start().await;
    let drive = format!("/drives/{}", known::GRAPH_DRIVE);
    let folder = graph.post(&format!("{drive}/items/root/children"), json!({ "name": "Reports", "folder": {} })).await.expect(201);
    let folder = folder["id"].as_str().unwrap();
    assert_eq!(
        graph.post(&format!("{drive}/root/children"), json!({ "name": "reports", "folder": {} })).await.expect(409)["error"]["code"],
        "nameAlreadyExists"
    );
    let put = |name: &str, behaviour: &str| format!("{drive}/items/{folder}:/{name}:/content?@microsoft.graph.conflictBehavior={behaviour}");
    let file = graph.raw("PUT", &put("plan%20(1).txt", "fail"), "hello").await.unwrap().expect(201);
    assert_eq!(file["name"], "plan (1).txt");
    assert_eq!(graph.raw("PUT", &put("plan%20(1).txt", "fail"), "other").await.unwrap().status, 409);
    assert_eq!(graph.raw("PUT", &put("plan%20(1).txt", "rename"), "other").await.unwrap().expect(201)["name"], "plan (1) 1.txt");
    graph.raw("PUT", &put("plan%20(1).txt", "replace"), "hello again").await.unwrap().expect(200);
    assert_eq!(graph.raw("PUT", &put("a%3Ab.txt", "fail"), "x").await.unwrap().status, 400);
    let by_path = graph.get(&format!("{drive}/root:/Reports/plan%20(1).txt")).await.expect(200);
    assert_eq!(by_path["id"], file["id"]);
    let content = graph.get(&format!("{drive}/items/{}/content", file["id"].as_str().unwrap())).await;
    assert_eq!(content.status, 302);
    let plain = Caller::new("", &[]);
    assert_eq!(plain.get(content.header("location")).await.bytes, "hello again");
    assert_eq!(graph.get(content.header("location")).await.status, 401);
    let part = plain.with("range", "bytes=6-10").get(content.header("location")).await;
    assert_eq!((part.status, &part.bytes[..]), (206, &b"again"[..]));
    assert_eq!(values(&graph.get(&format!("{drive}/root/search(q='plan')")).await.expect(200)).len(), 2);
    sandbox.msgraph().set_quota(known::GRAPH_DRIVE, 1);
    assert_eq!(graph.raw("PUT", &put("more.txt", "fail"), "xx").await.unwrap().expect(507)["error"]["code"], "quotaLimitReached");
}

#[tokio::test]
async fn an_upload_session_wants_pieces_of_320_kib_in_order() {
    let (sandbox, graph) = start().await;
    let url = format!("/drives/{}/items/root:/big.bin:/createUploadSession", known::GRAPH_DRIVE);
    let session = graph.post(&url, json!({ "item": { "name": "big.bin" } })).await.expect(200);
    let address = session["uploadUrl"].as_str().unwrap();
    let plain = Caller::new("", &[]);
    let piece = |range: &str| plain.with("content-range", range);
    assert_eq!(piece("bytes 0-9/20").raw("PUT", address, vec![0_u8; 10]).await.unwrap().status, 400);
    let bytes = vec![1_u8; 327_680];
    let on = piece("bytes 0-327679/327690").raw("PUT", address, bytes.clone()).await.unwrap().expect(202);
    assert_eq!(on["nextExpectedRanges"], json!(["327680-"]));
    assert_eq!(piece("bytes 0-327679/327690").raw("PUT", address, bytes).await.unwrap().status, 416);
    assert_eq!(graph.get(address).await.status, 401);
    assert_eq!(plain.get(address).await.expect(200)["nextExpectedRanges"], json!(["327680-"]));
    let done = piece("bytes 327680-327689/327690").raw("PUT", address, vec![2_u8; 10]).await.unwrap().expect(201);
    assert_eq!(done["size"], 327_690);
    assert_eq!(sandbox.msgraph().file(known::GRAPH_DRIVE, "big.bin").unwrap().len(), 327_690);
    assert_eq!(plain.get(address).await.status, 404);
}

#[tokio::test]
async fn a_copy_is_accepted_and_watched_and_a_link_of_one_kind_exists_once() {
    let (sandbox, graph) = start().await;
    let drive = format!("/drives/{}", known::GRAPH_DRIVE);
    let file = graph.raw("PUT", &format!("{drive}/items/root:/a.txt:/content"), "hello").await.unwrap().expect(201);
    let item = format!("{drive}/items/{}", file["id"].as_str().unwrap());
    let accepted = graph.post(&format!("{item}/copy"), json!({ "name": "b.txt" })).await;
    assert_eq!(accepted.status, 202);
    let plain = Caller::new("", &[]);
    assert_eq!(plain.get(accepted.header("location")).await.expect(202)["status"], "inProgress");
    assert_eq!(plain.get(accepted.header("location")).await.expect(200)["status"], "completed");
    assert_eq!(sandbox.msgraph().file(known::GRAPH_DRIVE, "b.txt").unwrap(), "hello");
    let link = graph.post(&format!("{item}/createLink"), json!({ "type": "view", "scope": "organization" })).await.expect(201);
    assert_eq!(graph.post(&format!("{item}/createLink"), json!({ "type": "view", "scope": "organization" })).await.expect(200)["id"], link["id"]);
    assert_eq!(graph.get(&format!("/shares/{}/driveItem", link["shareId"].as_str().unwrap())).await.expect(200)["id"], file["id"]);
}

#[tokio::test]
async fn files_are_throttled_with_their_budget_in_headers_and_batches_reach_everything() {
    let (sandbox, graph) = start().await;
    sandbox.msgraph().throttle_files(1, 7);
    let url = format!("/drives/{}", known::GRAPH_DRIVE);
    let throttled = graph.get(&url).await;
    assert_eq!((throttled.status, throttled.header("retry-after"), throttled.header("ratelimit-remaining")), (429, "7", "0"));
    assert_eq!(throttled.json()["error"]["code"], "activityLimitReached");
    let requests = json!({ "requests": [
        { "id": "1", "method": "GET", "url": url }, { "id": "2", "method": "GET", "url": format!("/teams/{}", known::GRAPH_TEAM) },
        { "id": "3", "method": "GET", "url": format!("{BOX}/calendars") }, { "id": "4", "method": "GET", "url": format!("/sites/{}", known::GRAPH_SITE) },
    ] });
    let answers = graph.post("/$batch", requests).await.expect(200);
    assert!(answers["responses"].as_array().unwrap().iter().all(|one| one["status"] == 200), "{answers}");
}

#[tokio::test]
async fn subscriptions_beyond_mail_have_their_own_lives_and_say_little() {
    let (sandbox, graph) = start().await;
    let receiver = Receiver::start().await;
    let now = jiff::Timestamp::now();
    let until = |minutes: i64| now.checked_add(jiff::SignedDuration::from_mins(minutes)).unwrap().to_string();
    let body = |resource: &str, change: &str, minutes: i64| {
        json!({ "resource": resource, "changeType": change, "notificationUrl": receiver.url,
        "lifecycleNotificationUrl": receiver.url, "expirationDateTime": until(minutes), "clientState": "s".repeat(20) })
    };
    let drive = format!("/drives/{}/root", known::GRAPH_DRIVE);
    assert_eq!(graph.post("/subscriptions", body(&drive, "created", 60)).await.status, 400);
    graph.post("/subscriptions", body(&drive, "updated", 42_000)).await.expect(201);
    let channel = format!("/teams/{}/channels/{}/messages", known::GRAPH_TEAM, known::GRAPH_CHANNEL);
    assert_eq!(graph.post("/subscriptions", body(&channel, "created", 5_000)).await.status, 400, "Teams' are shorter");
    let mut silent = body(&channel, "created", 4_000);
    silent["lifecycleNotificationUrl"] = Value::Null;
    assert_eq!(graph.post("/subscriptions", silent).await.status, 400, "longer than an hour needs a lifecycle URL");
    graph.post("/subscriptions", body(&channel, "created", 4_000)).await.expect(201);
    graph.post("/subscriptions", body(&format!("{BOX}/events"), "created,updated,deleted", 10_000)).await.expect(201);
    sandbox.msgraph().say_in_channel(known::GRAPH_TEAM, known::GRAPH_CHANNEL, "Disk full").unwrap();
    graph.post(&format!("{BOX}/events"), event("A", "2026-11-23T09:00:00", "2026-11-23T10:00:00")).await.expect(201);
    graph.raw("PUT", &format!("/drives/{}/items/root:/a.txt:/content", known::GRAPH_DRIVE), "x").await.unwrap().expect(201);
    sandbox.settled().await;
    let kinds: Vec<String> = receiver.items().iter().filter_map(|item| item["resourceData"]["@odata.type"].as_str().map(str::to_owned)).collect();
    for kind in ["#Microsoft.Graph.chatMessage", "#Microsoft.Graph.Event", "#Microsoft.Graph.DriveItem"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind} is missing: {kinds:?}");
    }
    assert!(
        receiver
            .items()
            .iter()
            .filter(|item| item["resourceData"]["@odata.type"] == "#Microsoft.Graph.DriveItem")
            .all(|item| item["resourceData"].get("id").is_none())
    );
}

/// `msgraph-sdk` from PyPI writes some requests otherwise than the documentation: functions with brackets, actions' parameters with capitals.
#[tokio::test]
async fn what_msgraph_sdk_writes_otherwise_is_understood() {
    let (sandbox, graph) = start().await;
    graph.get(&format!("/drives/{}/items/root/delta()", known::GRAPH_DRIVE)).await.expect(200);
    graph.get(&format!("{BOX}/mailFolders/inbox/messages/delta()")).await.expect(200);
    graph.get(&format!("{BOX}/calendarView/delta()?startDateTime=2026-11-01T00:00:00Z&endDateTime=2026-12-01T00:00:00Z")).await.expect(200);
    graph.get(&format!("/teams/{}/channels/{}/messages/delta()", known::GRAPH_TEAM, known::GRAPH_CHANNEL)).await.expect(200);
    graph.get(&format!("/sites/{}/lists/{}/items/delta()", known::GRAPH_SITE, known::GRAPH_LIST)).await.expect(200);
    let message = json!({ "subject": "News", "body": { "contentType": "text", "content": "hi" }, "toRecipients": [{ "emailAddress": { "address": "bo@acme.example" } }] });
    graph.post(&format!("{BOX}/sendMail"), json!({ "Message": message, "SaveToSentItems": false })).await.expect(202);
    assert_eq!(sandbox.ledger().count(EffectKind::MailSent), 1);
    assert_eq!(sandbox.msgraph().count_in(known::GRAPH_MAILBOX, "sentitems"), 0, "SaveToSentItems counts");
    let span = |name: &str| json!({ "dateTime": format!("2026-11-23T{name}:00:00"), "timeZone": "UTC" });
    let body = json!({ "Schedules": [known::GRAPH_MAILBOX], "StartTime": span("08"), "EndTime": span("09"), "AvailabilityViewInterval": 60 });
    assert_eq!(graph.post(&format!("{BOX}/calendar/getSchedule"), body).await.expect(200)["value"][0]["availabilityView"], "0");
}

//! Following a stream against a ledger of changes: everything once, then each change and deletion, nothing missed, memory flat.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use connector_core::{Cursor, ErrorKind, Result, clock::ManualClock, delta::Change};
use connector_salesforce::Salesforce;
use serde_json::{Value, json};

use support::{Answer, Fake, NOON, Seen, client_at};

/// The vendor's own list of what happened: id → when it changed, and what was deleted when.
#[derive(Default)]
struct Ledger {
    now: i64,
    live: BTreeMap<String, i64>,
    gone: BTreeMap<String, i64>,
    /// The vendor vouches only up to so many seconds ago.
    lag: i64,
    /// The earliest deletion that is still told.
    bin_since: i64,
    /// More ids than this are not told at once.
    most: usize,
    /// The most ids and rows of any one answer.
    largest: usize,
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string()
}

fn minute(text: &str) -> i64 {
    let at = text.parse::<jiff::Timestamp>().unwrap().as_second();
    at - at.rem_euclid(60)
}

impl Ledger {
    fn answer(&mut self, seen: &Seen) -> Answer {
        let covered = |until: i64| date(until.min(self.now - self.lag));
        match (seen.method.as_str(), seen.path.as_str()) {
            ("GET", "/sobjects/Contact/describe") => Answer::Json(
                200,
                json!({ "name": "Contact", "fields": [{ "name": "Id", "type": "id" }, { "name": "Age__c", "type": "double" },
                    { "name": "MailingAddress", "type": "address" }, { "name": "Photo", "type": "base64" }] }),
            ),
            ("POST", "/jobs/query") => {
                assert_eq!(seen.json()["query"], "SELECT Id, Age__c FROM Contact");
                Answer::Json(200, json!({ "id": "750xx0000000001AAA", "state": "UploadComplete" }))
            }
            ("GET", "/jobs/query/750xx0000000001AAA") => Answer::Json(200, json!({ "id": "750xx0000000001AAA", "state": "JobComplete" })),
            ("GET", "/jobs/query/750xx0000000001AAA/results") => {
                let from: usize = seen.q("locator").parse().unwrap_or(0);
                let most: usize = seen.q("maxRecords").parse().unwrap();
                let rows: Vec<&String> = self.live.keys().skip(from).take(most).collect();
                self.largest = self.largest.max(rows.len());
                let csv = rows.iter().fold("Id,Age__c\n".to_owned(), |csv, id| csv + id + ",4.5\n");
                let next = if from + rows.len() < self.live.len() { (from + rows.len()).to_string() } else { "null".into() };
                Answer::Text(200, "text/csv", csv, vec![("sforce-locator", next), ("sforce-numberofrecords", rows.len().to_string())])
            }
            ("GET", "/sobjects/Contact/updated/") => {
                let (start, end) = (minute(seen.q("start")), minute(seen.q("end")));
                assert!(end - start >= 60, "a span is a minute at least");
                let ids: Vec<&String> = self.live.iter().filter(|(_, at)| start <= **at && **at < end).map(|(id, _)| id).collect();
                if ids.len() > self.most {
                    return Answer::Json(400, json!([{ "errorCode": "EXCEEDED_ID_LIMIT", "message": "too many" }]));
                }
                Answer::Json(200, json!({ "ids": ids, "latestDateCovered": covered(end) }))
            }
            ("GET", "/sobjects/Contact/deleted/") => {
                let (start, end) = (minute(seen.q("start")), minute(seen.q("end")));
                let gone: Vec<Value> = self
                    .gone
                    .iter()
                    .filter(|(_, at)| start <= **at && **at < end)
                    .map(|(id, at)| json!({ "id": id, "deletedDate": date(*at) }))
                    .collect();
                Answer::Json(200, json!({ "deletedRecords": gone, "earliestDateAvailable": date(self.bin_since), "latestDateCovered": covered(end) }))
            }
            ("POST", "/composite/sobjects/Contact") => {
                let body = seen.json();
                assert_eq!(body["fields"], json!(["Id", "Age__c"]));
                let ids = body["ids"].as_array().unwrap();
                self.largest = self.largest.max(ids.len());
                let record = |id: &Value| match self.live.contains_key(id.as_str().unwrap()) {
                    true => json!({ "Id": id, "Age__c": 4.5 }),
                    false => Value::Null,
                };
                Answer::Json(200, ids.iter().map(record).collect())
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

struct World {
    ledger: Arc<Mutex<Ledger>>,
    clock: Arc<ManualClock>,
    fake: Arc<Fake>,
    salesforce: Salesforce,
}

fn world(ledger: Ledger) -> World {
    let now = i64::try_from(NOON).unwrap();
    let ledger = Arc::new(Mutex::new(Ledger { now, bin_since: now - 15 * 86_400, most: 600_000, ..ledger }));
    let shared = ledger.clone();
    let fake = Fake::new(move |seen| shared.lock().unwrap().answer(seen));
    let clock = Arc::new(ManualClock::at_unix(NOON));
    World { salesforce: client_at(&fake, &clock), ledger, clock, fake }
}

impl World {
    fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.ledger.lock().unwrap().now += i64::try_from(seconds).unwrap();
    }

    fn change(&self, id: &str) {
        let mut ledger = self.ledger.lock().unwrap();
        let now = ledger.now;
        ledger.live.insert(id.into(), now);
    }

    fn delete(&self, id: &str) {
        let mut ledger = self.ledger.lock().unwrap();
        let now = ledger.now;
        ledger.live.remove(id);
        ledger.gone.insert(id.into(), now);
    }

    /// One whole round: upserted and deleted keys, and where the next one starts.
    async fn round(&self, mut cursor: Option<Cursor>) -> Result<(BTreeSet<String>, BTreeSet<String>, Cursor)> {
        let (mut upserts, mut deletes) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..2_000 {
            let page = self.salesforce.client().connector().delta().unwrap().changes(self.salesforce.client().cx(), "contacts", cursor).await?;
            for change in page.changes {
                match change {
                    Change::Upsert { key, record } => {
                        let record: Value = serde_json::from_slice(&record).unwrap();
                        assert_eq!((record["Id"].as_str(), record["Age__c"].as_f64()), (Some(key.as_str()), Some(4.5)));
                        upserts.insert(key);
                    }
                    Change::Delete { key } => drop(deletes.insert(key)),
                }
            }
            if !page.more {
                return Ok((upserts, deletes, page.next));
            }
            cursor = Some(page.next);
        }
        panic!("the round does not end");
    }
}

fn ids(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|id| format!("003xx{id:010}AAA"))
}

#[tokio::test(start_paused = true)]
async fn everything_comes_once_through_a_bulk_query_whose_pages_stay_small() {
    let long_ago = i64::try_from(NOON).unwrap() - 9_000_000;
    let world = world(Ledger { live: ids(12_345).map(|id| (id, long_ago)).collect(), ..Ledger::default() });
    let (upserts, deletes, _) = world.round(None).await.unwrap();
    assert_eq!((upserts.len(), deletes.len()), (12_345, 0));
    assert!(world.ledger.lock().unwrap().largest <= 2_000);
    for once in ["POST /jobs/query", "GET /sobjects/Contact/describe"] {
        assert_eq!(world.fake.lines().iter().filter(|line| *line == once).count(), 1, "{once}");
    }
}

#[tokio::test(start_paused = true)]
async fn later_rounds_see_changes_and_deletions_only() {
    let long_ago = i64::try_from(NOON).unwrap() - 9_000_000;
    let world = world(Ledger { live: ids(100).map(|id| (id, long_ago)).collect(), ..Ledger::default() });
    let all: Vec<String> = ids(100).collect();
    let (_, _, mut cursor) = world.round(None).await.unwrap();
    let (mut changed, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    for step in 0..20 {
        world.later(97);
        world.change(&all[step]);
        world.delete(&all[50 + step]);
        world.later(31);
        let (upserts, deletes, next) = world.round(Some(cursor)).await.unwrap();
        assert!(upserts.len() < 8, "a round brings what is new and a little before: {}", upserts.len());
        changed.extend(upserts);
        deleted.extend(deletes);
        cursor = next;
    }
    // What happened in the last minute comes with the next round.
    world.later(120);
    let (upserts, deletes, _) = world.round(Some(cursor)).await.unwrap();
    changed.extend(upserts);
    deleted.extend(deletes);
    assert_eq!(changed, all[..20].iter().cloned().collect());
    assert_eq!(deleted, all[50..70].iter().cloned().collect());
}

#[tokio::test(start_paused = true)]
async fn the_next_round_starts_where_the_vendor_vouches_and_not_where_we_asked() {
    let world = world(Ledger { lag: 600, ..Ledger::default() });
    let (_, _, cursor) = world.round(None).await.unwrap();
    world.later(900);
    let (_, _, cursor) = world.round(Some(cursor)).await.unwrap();
    // A long transaction commits five minutes late.
    let late = i64::try_from(NOON).unwrap() + 900 - 300;
    world.ledger.lock().unwrap().live.insert("003xx0000000001AAA".into(), late);
    world.later(900);
    let (upserts, ..) = world.round(Some(cursor)).await.unwrap();
    assert_eq!(upserts.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_import_of_many_is_walked_in_spans_and_pages() {
    let world = world(Ledger::default());
    let (_, _, cursor) = world.round(None).await.unwrap();
    world.ledger.lock().unwrap().most = 700;
    for (at, id) in ids(3_000).enumerate() {
        if at % 100 == 0 {
            world.later(60);
        }
        world.change(&id);
    }
    world.later(300);
    let (upserts, ..) = world.round(Some(cursor)).await.unwrap();
    assert_eq!(upserts.len(), 3_000);
    assert!(world.ledger.lock().unwrap().largest <= 500);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_told_any_more_starts_again() {
    let world = world(Ledger::default());
    let (_, _, cursor) = world.round(None).await.unwrap();
    world.later(16 * 86_400);
    let late = world.round(Some(cursor.clone())).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::CursorExpired);
    let emptied = self::world(Ledger::default());
    let (_, _, cursor) = emptied.round(None).await.unwrap();
    emptied.later(3_600);
    emptied.ledger.lock().unwrap().bin_since = i64::try_from(NOON).unwrap() + 3_000;
    assert_eq!(emptied.round(Some(cursor)).await.unwrap_err().kind(), ErrorKind::CursorExpired);
}

#[tokio::test]
async fn a_foreign_cursor_and_an_unknown_stream_are_refused() {
    let world = world(Ledger::default());
    let (delta, cx) = (world.salesforce.client().connector().delta().unwrap(), world.salesforce.client().cx());
    assert_eq!(delta.changes(cx, "contacts", Some(Cursor::new("1~2"))).await.unwrap_err().kind(), ErrorKind::CursorExpired);
    assert_eq!(delta.changes(cx, "invoices", None).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

//! Following more than 10,000 records by change time: nothing is missed, no query comes near the cap, deletions are seen.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use connector_core::{Cursor, ErrorKind, delta::Change};
use connector_hubspot::HubSpot;
use serde_json::{Value, json};

use support::{Answer, Fake, Seen, client, query};

type Hook = Box<dyn FnMut(&mut BTreeMap<u64, u64>) + Send>;

/// Search and recycle bin of a CRM: id → change time in milliseconds; the vendor refuses offsets from 10,000 on.
#[derive(Default)]
struct Crm {
    live: BTreeMap<u64, u64>,
    archived: BTreeMap<u64, u64>,
    /// Called with each search, so that a test can change records under the walk.
    on_search: Option<Hook>,
}

fn instant(millis: u64) -> String {
    jiff::Timestamp::from_millisecond(i64::try_from(millis).unwrap()).unwrap().to_string()
}

fn answer(crm: &Mutex<Crm>, seen: &Seen) -> Answer {
    let mut crm = crm.lock().unwrap();
    if seen.method == "GET" {
        let asked = query(&seen.target);
        let after: u64 = asked.get("after").map_or(0, |after| after.as_str().unwrap().parse().unwrap());
        let limit: usize = asked["limit"].as_str().unwrap().parse().unwrap();
        let rows: Vec<_> = crm.archived.range(after..).take(limit + 1).collect();
        let results: Vec<Value> = rows
            .iter()
            .take(limit)
            .map(|(id, at)| json!({ "id": id.to_string(), "properties": {}, "archived": true, "archivedAt": instant(**at) }))
            .collect();
        let mut body = json!({ "results": results });
        if let Some((id, _)) = rows.get(limit) {
            body["paging"] = json!({ "next": { "after": id.to_string() } });
        }
        return Answer::Json(200, body);
    }
    if let Some(mut hook) = crm.on_search.take() {
        hook(&mut crm.live);
        crm.on_search = Some(hook);
    }
    let body = &seen.body;
    let limit = usize::try_from(body["limit"].as_u64().unwrap()).unwrap();
    let offset: usize = body.get("after").map_or(0, |after| after.as_str().unwrap().parse().unwrap());
    if offset >= 10_000 || limit > 200 {
        return Answer::Json(400, json!({ "category": "VALIDATION_ERROR" }));
    }
    let filters = body["filterGroups"][0]["filters"].as_array().unwrap();
    let passes = |id: u64, at: u64| {
        filters.iter().all(|filter| {
            let wanted: u64 = filter["value"].as_str().unwrap().parse().unwrap();
            let have = if filter["propertyName"] == "hs_object_id" { id } else { at };
            match filter["operator"].as_str().unwrap() {
                "GTE" => have >= wanted,
                "GT" => have > wanted,
                "EQ" => have == wanted,
                other => panic!("unexpected operator {other}"),
            }
        })
    };
    let mut rows: Vec<(u64, u64)> = crm.live.iter().filter(|(id, at)| passes(**id, **at)).map(|(id, at)| (*id, *at)).collect();
    // Within one instant the vendor promises no order.
    if body["sorts"][0]["propertyName"] == "hs_object_id" {
        rows.sort_unstable()
    } else {
        rows.sort_by_key(|(id, at)| (*at, std::cmp::Reverse(*id)))
    }
    let total = rows.len();
    let results: Vec<Value> = rows.iter().skip(offset).take(limit)
        .map(|(id, at)| json!({ "id": id.to_string(), "properties": { "hs_lastmodifieddate": instant(*at), "lastmodifieddate": instant(*at) }, "updatedAt": instant(*at) }))
        .collect();
    let mut reply = json!({ "total": total, "results": results });
    if offset + limit < total {
        reply["paging"] = json!({ "next": { "after": (offset + limit).to_string() } });
    }
    Answer::Json(200, reply)
}

fn vendor(crm: Crm) -> (Arc<Mutex<Crm>>, Arc<Fake>, HubSpot) {
    let crm = Arc::new(Mutex::new(crm));
    let shared = crm.clone();
    let fake = Fake::new(move |seen| answer(&shared, seen));
    let hubspot = client(&fake);
    (crm, fake, hubspot)
}

/// One whole round: the upserted and deleted keys, and where the next round starts.
async fn round(hubspot: &HubSpot, stream: &str, mut cursor: Option<Cursor>) -> (BTreeSet<u64>, BTreeSet<u64>, Cursor) {
    let (mut upserts, mut deletes) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..1_000 {
        let page = hubspot.client().connector().delta().unwrap().changes(hubspot.client().cx(), stream, cursor).await.unwrap();
        for change in page.changes {
            match change {
                Change::Upsert { key, record } => {
                    assert_eq!(serde_json::from_slice::<Value>(&record).unwrap()["id"], key);
                    upserts.insert(key.parse().unwrap());
                }
                Change::Delete { key } => {
                    deletes.insert(key.parse().unwrap());
                }
            }
        }
        if !page.more {
            return (upserts, deletes, page.next);
        }
        cursor = Some(page.next);
    }
    panic!("the round does not end");
}

#[tokio::test(start_paused = true)]
async fn more_than_ten_thousand_records_are_all_seen() {
    // 10,500 records, two at a time in the same instant, so that windows begin in the middle of a pair.
    let live: BTreeMap<u64, u64> = (1..=10_500).map(|id| (id, 1_767_000_000_000 + (id / 2) * 10)).collect();
    let (_, fake, hubspot) = vendor(Crm { live, ..Crm::default() });
    let (upserts, deletes, _) = round(&hubspot, "deals", None).await;
    assert_eq!(upserts.len(), 10_500);
    assert!(deletes.is_empty());
    assert!(fake.seen().iter().all(|seen| seen.body.get("after").is_none()), "every page is the first of its own window");
    assert!(fake.seen().len() < 60, "{} requests", fake.seen().len());
}

#[tokio::test(start_paused = true)]
async fn an_import_that_gave_thousands_the_same_instant_is_walked_by_id() {
    let mut live: BTreeMap<u64, u64> = (1..=1_100).map(|id| (id, 1_767_000_000_000)).collect();
    live.extend((2_000..2_050).map(|id| (id, 1_767_000_000_001)));
    live.insert(5, 1_766_000_000_000);
    let everything: BTreeSet<u64> = live.keys().copied().collect();
    let (_, _, hubspot) = vendor(Crm { live, ..Crm::default() });
    assert_eq!(round(&hubspot, "contacts", None).await.0, everything);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_changes_under_the_walk_hides_no_other() {
    let live: BTreeMap<u64, u64> = (1..=2_000).map(|id| (id, 1_767_000_000_000 + id * 10)).collect();
    let mut turn = 0;
    // With each search ten of the records already seen move to the end; by offsets ten unseen ones would slip past.
    let on_search = move |live: &mut BTreeMap<u64, u64>| {
        turn += 1;
        if turn > 1 && turn < 8 {
            for id in 0..10 {
                live.insert(1 + id + 10 * turn, 1_767_000_100_000 + turn * 100 + id);
            }
        }
    };
    let (_, _, hubspot) = vendor(Crm { live, on_search: Some(Box::new(on_search)), ..Crm::default() });
    assert_eq!(round(&hubspot, "tickets", None).await.0.len(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn the_second_round_sees_changes_and_deletions_only() {
    let noon = support::NOON * 1_000;
    let live: BTreeMap<u64, u64> = (1..=500).map(|id| (id, noon - 10_000_000 + id * 1_000)).collect();
    let (crm, _, hubspot) = vendor(Crm { live, ..Crm::default() });
    let (first, _, next) = round(&hubspot, "companies", None).await;
    assert_eq!(first.len(), 500);
    {
        let mut crm = crm.lock().unwrap();
        crm.live.insert(7, noon);
        crm.live.remove(&9);
        crm.archived.insert(9, noon);
        // Deleted long ago, before the first round began.
        crm.archived.extend((10_000..10_250).map(|id| (id, noon - 90_000_000)));
    }
    let (second, deletes, next) = round(&hubspot, "companies", Some(next)).await;
    assert!(second.contains(&7) && second.len() < 70, "the change and what the index may have lagged behind, not all: {}", second.len());
    assert_eq!(deletes, BTreeSet::from([9]));
    let (third, ..) = round(&hubspot, "companies", Some(next)).await;
    assert_eq!(third, BTreeSet::from([7]));
}

#[tokio::test]
async fn a_foreign_cursor_and_an_unknown_stream_are_refused() {
    let (_, _, hubspot) = vendor(Crm::default());
    let (delta, cx) = (hubspot.client().connector().delta().unwrap(), hubspot.client().cx());
    let foreign = delta.changes(cx, "deals", Some(Cursor::new("1~200"))).await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::CursorExpired);
    assert_eq!(delta.changes(cx, "invoices", None).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

//! Pulling 200,000 contacts: typed, and passed on as lines of JSON without building a value; and the memory that takes.

use std::{
    hint::black_box,
    process::{Command, ExitCode, Stdio},
};

use connector_core::{Client, ReplyBody};
use connector_hubspot::{
    models::{Contact, ContactPage},
    ops::ListContacts,
};
use connector_manifest::{records, select::Path};
use futures_util::TryStreamExt as _;

use crate::{
    clients::{self, TOKEN},
    measure::{Cost, Figure, cost, in_turn, runtime},
    server::{PAGE, Server},
};

const RECORDS: u64 = 200_000;
const ROUNDS: usize = 5;
/// The first argument of this program as its own child.
pub(crate) const CHILD: &str = "--pull";

const PROPERTIES: &str = "email,firstname,lastname,phone,lifecyclestage,tier,hubspot_owner_id";

pub(crate) fn run(server: &Server) {
    server.list(RECORDS);
    let runtime = runtime();
    let (base, http, client) = (server.base(), clients::raw(), clients::hubspot(&server.base()));
    let pull = |work: &dyn Fn() -> u64| -> Cost {
        let (cost, records) = cost(RECORDS, work);
        assert_eq!(records, RECORDS);
        cost
    };
    let raw = || pull(&|| runtime.block_on(raw(&http, &base)));
    let (baseline, typed) = in_turn(ROUNDS, raw, || pull(&|| runtime.block_on(typed(&client))));
    Figure::new("bulk, typed: CPU per record", typed.cpu, "µs").against(baseline.cpu).at_most(1.10).print();
    Figure::new("bulk, typed: records", 1e6 / typed.wall, "1/s").against(1e6 / baseline.wall).print();
    let (baseline, passed) = in_turn(ROUNDS, raw, || pull(&|| runtime.block_on(passed_on(&client))));
    Figure::new("bulk, passed on as NDJSON: CPU per record", passed.cpu, "µs").against(baseline.cpu).at_most(0.45).print();
    Figure::new("bulk, passed on as NDJSON: records", 1e6 / passed.wall, "1/s").at_least(450_000.0).print();
}

/// Reqwest and serde with the same types.
async fn raw(http: &reqwest::Client, base: &str) -> u64 {
    let mut after: Option<String> = None;
    let mut records = 0;
    loop {
        let mut request =
            http.get(format!("{base}/crm/v3/objects/contacts")).bearer_auth(TOKEN).query(&[("properties", PROPERTIES), ("limit", "100")]);
        if let Some(after) = &after {
            request = request.query(&[("after", after)]);
        }
        let reply = request.send().await.unwrap().error_for_status().unwrap();
        #[allow(clippy::disallowed_methods, reason = "the baseline is what one gets without us")]
        let page: ContactPage = reply.json().await.unwrap();
        page.results.into_iter().for_each(|contact| {
            records += 1;
            use_contact(contact);
        });
        match page.paging.and_then(|paging| paging.next).and_then(|next| next.after) {
            Some(next) => after = Some(next),
            None => return records,
        }
    }
}

async fn typed(client: &Client) -> u64 {
    let contacts = client.call(ListContacts::new()).items();
    contacts
        .try_fold(0, |records, contact| {
            use_contact(contact);
            std::future::ready(Ok(records + 1))
        })
        .await
        .unwrap()
}

fn use_contact(contact: Contact) {
    black_box(contact.id.len());
    drop(contact);
}

async fn passed_on(client: &Client) -> u64 {
    let items = Path::parse(".results").unwrap();
    let mut pages = client.call(ListContacts::new()).unread_pages();
    let (mut lines, mut records) = (Vec::new(), 0);
    while let Some(page) = pages.try_next().await.unwrap() {
        let ReplyBody::Json(json) = page.body else { panic!("a page is JSON") };
        lines.clear();
        records += records::write_lines(&json, &items, &mut lines).unwrap() as u64;
        black_box(&lines);
    }
    records
}

/// The memory of a whole process that pulls, for a short and a long listing: more records must not take more memory.
fn memory_of(server: &Server, pages: u64) -> Option<f64> {
    server.list(pages * PAGE);
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program).args([CHILD, &server.base(), &pages.to_string()]).stderr(Stdio::inherit()).output().unwrap();
    assert!(child.status.success(), "the child failed");
    String::from_utf8_lossy(&child.stdout).trim().parse().ok()
}

pub(crate) fn memory(server: &Server) {
    let Some((short, long)) = memory_of(server, 100).zip(memory_of(server, RECORDS / PAGE)) else {
        eprintln!("skipped: this system does not tell how much memory a process takes");
        return;
    };
    Figure::new("memory of a process that pulls 200,000 contacts", long, "MB").at_most(12.0).print();
    Figure::new("… against 10,000 contacts", long, "MB").against(short).at_most(1.10).print();
}

/// Pulls and tells the memory that took.
pub(crate) fn child(base: &str, pages: &str) -> ExitCode {
    let runtime = runtime();
    let client = clients::hubspot(base);
    let records = runtime.block_on(typed(&client));
    assert_eq!(Ok(records), pages.parse::<u64>().map(|pages| pages * PAGE));
    // What the process wrote itself and what it only maps (its own program text) are different things to save.
    let part = |field| crate::measure::memory(None, field).unwrap_or(f64::NAN);
    eprintln!("memory after {pages} pages: {:.1} MB written, {:.1} MB mapped from files", part("RssAnon"), part("RssFile"));
    println!("{}", crate::measure::memory(None, "VmHWM").unwrap_or(f64::NAN));
    ExitCode::SUCCESS
}

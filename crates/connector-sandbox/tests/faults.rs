//! Faults: each one as it arrives, that the work behind a cut really happened, and that a seed repeats.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod support;

use connector_sandbox::{EffectKind, FaultKind, FaultProfile, Faults, Sandbox, known};
use serde_json::json;
use support::{Caller, bearer, graph, hubspot, mail};

fn tickets(sandbox: &Sandbox) -> Caller {
    Caller::new(sandbox.base_url("ticketing"), &[("x-api-key", known::TICKETING_API_KEY)])
}

async fn start() -> Sandbox {
    Sandbox::builder().start("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn each_fault_can_be_asked_for() {
    let sandbox = start().await;
    let caller = tickets(&sandbox);
    let throttled = caller.with("x-sandbox-fault", "429=2").post("/tickets", json!({"subject": "x"})).await;
    assert_eq!((throttled.status, throttled.header("retry-after")), (429, "2"));
    let down = caller.with("x-sandbox-fault", "503").post("/tickets", json!({"subject": "x"})).await;
    assert_eq!(down.status, 503);
    let html = caller.with("x-sandbox-fault", "html").post("/tickets", json!({"subject": "x"})).await;
    assert_eq!(html.status, 200);
    assert!(html.bytes.starts_with(b"<!DOCTYPE html>"));
    assert_eq!(sandbox.ticketing().count(), 0, "none of these is done");
    let half = caller.with("x-sandbox-fault", "truncate,latency=1").post("/tickets", json!({"subject": "x"})).await;
    assert_eq!(half.status, 201);
    assert!(serde_json::from_slice::<serde_json::Value>(&half.bytes).is_err());
    assert_eq!(sandbox.ticketing().count(), 1, "a truncated reply comes after the work");
    for kind in [FaultKind::Throttled, FaultKind::Unavailable, FaultKind::Html, FaultKind::Truncated, FaultKind::Latency] {
        assert_eq!(sandbox.faults().count(kind), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_cut_connection_has_no_reply_but_the_work_is_done() {
    let sandbox = start().await;
    let caller = tickets(&sandbox).with("x-sandbox-fault", "cut").with("content-type", "application/json");
    let error = caller.raw("POST", "/tickets", json!({"subject": "x", "external_id": "m1"}).to_string()).await;
    assert!(error.is_err(), "{error:?}");
    assert_eq!(sandbox.ledger().tickets_by_key()["m1"].len(), 1);
    // The same on a mail send.
    let graph = graph(&sandbox).await;
    let message = json!({"message": {"subject": "s", "toRecipients": [{"emailAddress": {"address": "a@b.example"}}]}});
    let cut = graph.with("x-sandbox-fault", "cut").with("content-type", "application/json");
    cut.raw("POST", "/users/support@contoso.example/sendMail", message.to_string()).await.unwrap_err();
    assert_eq!(sandbox.ledger().count(EffectKind::MailSent), 1);
}

#[tokio::test]
async fn a_cut_sends_not_one_byte_on_a_kept_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let sandbox = start().await;
    let mut socket = tokio::net::TcpStream::connect(sandbox.addr()).await.unwrap();
    let request = |fault: &str| {
        let head = format!("POST /ticketing/tickets HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\nx-sandbox-fault: {fault}", known::TICKETING_API_KEY);
        format!("{head}\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{{\"subject\":\"x\"}}")
    };
    socket.write_all(request("none").as_bytes()).await.unwrap();
    let mut first = Vec::new();
    // The reply's body is the only brace at an end.
    while !first.ends_with(b"}") {
        assert!(socket.read_buf(&mut first).await.unwrap() > 0);
    }
    assert!(first.starts_with(b"HTTP/1.1 201"));
    socket.write_all(request("cut").as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    // A reset is as good as an end: either way no reply arrived.
    if socket.read_to_end(&mut rest).await.is_ok() {
        assert_eq!(rest, b"");
    }
    assert_eq!(sandbox.ticketing().count(), 2);
}

#[tokio::test]
async fn an_expired_token_stays_expired() {
    let sandbox = start().await;
    let first = graph(&sandbox).await;
    let url = "/users/support@contoso.example/messages";
    assert_eq!(first.with("x-sandbox-fault", "401").get(url).await.status, 401);
    assert_eq!(first.get(url).await.status, 401);
    graph(&sandbox).await.get(url).await.expect(200);
    // A token that never ends cannot be expired by a fault.
    hubspot(&sandbox).with("x-sandbox-fault", "401").get("/crm/v3/objects/contacts").await.expect(200);
    assert_eq!(sandbox.faults().count(FaultKind::ExpiredToken), 1);
}

#[tokio::test]
async fn plans_repeat_by_seed_and_differ_between_seeds() {
    async fn plan(seed: u64) -> Vec<String> {
        let sandbox = Sandbox::builder().seed(seed).faults(FaultProfile::heavy()).start("127.0.0.1:0").await.unwrap();
        let faults: &Faults = sandbox.faults();
        (0..300).map(|n| format!("{:?} {:?}", faults.plan("hubspot", n), faults.webhook_plan("hubspot", n))).collect()
    }
    assert_eq!(plan(7).await, plan(7).await);
    assert_ne!(plan(7).await, plan(8).await);
}

#[tokio::test]
async fn a_sequential_run_repeats_exactly() {
    async fn run() -> Vec<u16> {
        let profile = FaultProfile { throttled: 0.2, unavailable: 0.1, unavailable_run: 3, cut: 0.1, html: 0.1, ..FaultProfile::none() };
        let sandbox = Sandbox::builder().seed(42).faults(profile).start("127.0.0.1:0").await.unwrap();
        let caller = tickets(&sandbox).with("content-type", "application/json");
        let mut seen = Vec::new();
        for n in 0..60 {
            let body = json!({"subject": "x", "external_id": n.to_string()}).to_string();
            seen.push(caller.raw("POST", "/tickets", body).await.map_or(0, |r| r.status));
        }
        let committed = sandbox.ledger().count(EffectKind::TicketCreated);
        let answered = seen.iter().filter(|s| **s == 201 || **s == 0).count();
        assert_eq!(committed, answered, "201 and cut are committed, nothing else");
        seen
    }
    let first = run().await;
    assert_eq!(first, run().await);
    for status in [0, 200, 201, 429, 503] {
        assert!(first.contains(&status), "{status} never seen in {first:?}");
    }
}

#[tokio::test]
async fn rates_are_as_configured() {
    let profile = FaultProfile { throttled: 0.1, expired_cursor: 0.1, ..FaultProfile::none() };
    let sandbox = Sandbox::builder().seed(11).faults(profile).start("127.0.0.1:0").await.unwrap();
    let plans: Vec<_> = (0..20_000).map(|n| sandbox.faults().plan("msgraph", n)).collect();
    let throttled = plans.iter().filter(|p| p.fault.is_some()).count();
    let cursors = plans.iter().filter(|p| p.expired_cursor).count();
    let both = plans.iter().filter(|p| p.fault.is_some() && p.expired_cursor).count();
    assert!((1800..2200).contains(&throttled) && (1800..2200).contains(&cursors), "{throttled} {cursors}");
    assert!((120..280).contains(&both), "the kinds are independent: {both}");
}

#[tokio::test]
async fn outages_come_in_runs() {
    let profile = FaultProfile { unavailable: 0.02, unavailable_run: 5, ..FaultProfile::none() };
    let sandbox = Sandbox::builder().faults(profile).start("127.0.0.1:0").await.unwrap();
    let down: Vec<bool> = (0..2000).map(|n| sandbox.faults().plan("erp", n).fault.is_some()).collect();
    let longest = down.split(|d| !d).map(<[bool]>::len).max().unwrap();
    assert!(longest >= 4, "longest run {longest}");
}

#[tokio::test]
async fn control_api_shows_and_changes() {
    let sandbox = start().await;
    let control = Caller::new(format!("http://{}/_sandbox", sandbox.addr()), &[]);
    let made = control.raw("POST", "/mail?folder=inbox", mail("c@x", "via control", "")).await.unwrap().expect(200);
    assert!(made["id"].as_str().unwrap().starts_with("AAMk"));
    assert_eq!(control.raw("POST", "/mail?user=nobody@x", "x").await.unwrap().status, 400);
    assert_eq!(control.get("/ledger").await.expect(200)["effects"][0]["target"], "<c@x>");
    let profile = control.put("/faults", json!("heavy")).await.expect(200);
    assert_eq!(profile["profile"]["throttled"], 0.12);
    assert_eq!(sandbox.faults().profile(), FaultProfile::heavy());
    control.put("/faults", json!({"throttled": 1.0})).await.expect(200);
    assert_eq!(tickets(&sandbox).get("/tickets").await.status, 429);
    assert_eq!(control.get("/faults").await.expect(200)["injected"]["ticketing"]["throttled"], 1);
    assert_eq!(control.put("/faults", json!("medium")).await.status, 400);
    assert_eq!(control.put("/faults", json!({"trottled": 1.0})).await.status, 400, "a misspelt fault is refused");
    assert_eq!(control.post("/lifecycle?event=missed", json!(null)).await.expect(200)["sent"], 0);
    assert_eq!(control.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn only_the_named_vendors_are_served() {
    let sandbox = Sandbox::builder().vendor("erp").start("127.0.0.1:0").await.unwrap();
    assert_eq!(sandbox.table().len(), 1);
    assert_eq!(hubspot(&sandbox).get("/crm/v3/objects/contacts").await.status, 404);
    bearer(sandbox.base_url("erp"), known::ERP_TOKEN).get("/inventory?sku=GEAR-10").await.expect(200);
    let unknown = Sandbox::builder().vendor("sap").start("127.0.0.1:0").await.unwrap_err();
    assert!(unknown.to_string().contains("msgraph, hubspot"), "{unknown}");
}

#[tokio::test]
async fn dropping_the_handle_stops_the_server() {
    let sandbox = Sandbox::builder().vendor("cmdb").start("127.0.0.1:0").await.unwrap();
    let addr = sandbox.addr();
    tokio::net::TcpStream::connect(addr).await.unwrap();
    drop(sandbox);
    let closed = async {
        while tokio::net::TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), closed).await.expect("the port stays open");
}

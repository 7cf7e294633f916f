//! The Upstash front: the behaviour every store has, one database over both ways, refusals, and the vendor's own client as the judge of the wire.
//!
//! The database is a Redis server of the test's own behind the counterparts' REST front (`upstash_rest.py`); Upstash itself is not asked.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]
#![cfg(all(feature = "upstash", feature = "redis", unix))]

mod fleet;

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use connector_core::{
    CallCx, ErrorKind, Result,
    fleet::{SharedAsk, SharedCache as _, SharedCell, SharedLimits as _, SharedTurn},
    transport::{Body, Request, Response, Transport},
};
use connector_http::{EgressPolicy, HttpTransport};
use connector_state::{FleetOptions, RedisFleet, UpstashFleet};
use http::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

use self::fleet::{PrivateRedis, free_port, name, settled, skip};

/// Long enough that only a server in trouble exceeds it, also on a busy machine.
const BUDGET: Duration = Duration::from_secs(5);
const TOKEN: &str = "hush-hush";

/// The front. Killed on drop.
struct Front {
    port: u16,
    child: Child,
    redis: PrivateRedis,
}

impl Front {
    fn start() -> Option<Self> {
        let redis = PrivateRedis::start(None)?;
        let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
        let script = std::env::var_os("CONNECTORS_SHARED").map_or(beside, PathBuf::from).join("counterparts/upstash_rest.py");
        if !script.is_file() {
            skip("the shared folder with counterparts/upstash_rest.py is not here; CONNECTORS_SHARED may say where");
            return None;
        }
        let port = free_port();
        let mut command = Command::new("python3");
        command.arg(script).args([&port.to_string(), &redis.port().to_string(), TOKEN]);
        let Ok(child) = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            skip("`python3` is not installed here");
            return None;
        };
        let front = Self { port, child, redis };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the front does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(front)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn fleet(&self, name: &str) -> UpstashFleet {
        UpstashFleet::with(transport(), &self.url(), &SecretString::from(TOKEN), FleetOptions::default().name(name).budget(BUDGET)).unwrap()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn transport() -> Arc<dyn Transport> {
    Arc::new(HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstash_behaves() {
    let Some(front) = Front::start() else { return };
    let one = Arc::new(front.fleet(&name()));
    fleet::limits(&*one).await;
    fleet::no_call_is_taken_twice(one.clone()).await;
    fleet::cache(&*one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_lead_to_one_database() {
    let Some(front) = Front::start() else { return };
    let options = FleetOptions::default().name("both").budget(BUDGET);
    let redis = RedisFleet::connect_with(&SecretString::from(front.redis.url()), options).await.unwrap();
    let rest = front.fleet("both");
    settled(&redis).await;
    settled(&rest).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let cells = [SharedCell { key: "quota".into(), interval: Duration::from_secs(600), burst: 1, shares: 1 }];
    let ask = SharedAsk { cells: &cells, lead: Duration::ZERO, stray: None };
    // It began empty, so neither has a call for ten minutes.
    for turn in [redis.take(&ask).await.unwrap(), rest.take(&ask).await.unwrap()] {
        assert!(matches!(turn, SharedTurn::Refused(after) if after > Duration::from_secs(500)), "{turn:?}");
    }
    let stamp = redis.stamp().await.unwrap();
    redis.put(&[1; 32], b"\xff\x00binary"[..].into(), &[[2; 32]], stamp, BUDGET).await.unwrap();
    assert_eq!(rest.get(&[1; 32]).await.unwrap().unwrap().value, b"\xff\x00binary"[..]);
    rest.drop_tags(&[[2; 32]]).await.unwrap();
    assert_eq!(redis.get(&[1; 32]).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_and_a_lost_database_are_told_without_secrets() {
    let Some(mut front) = Front::start() else { return };
    let wrong = UpstashFleet::with(transport(), &front.url(), &SecretString::from("wrong-horse"), FleetOptions::default().budget(BUDGET)).unwrap();
    let error = wrong.stamp().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && !format!("{error:?}").contains("horse"), "{error:?}");
    assert!(wrong.is_lost() && !format!("{wrong:?}").contains("horse"));

    let fleet = front.fleet(&name());
    settled(&fleet).await;
    front.redis.kill();
    let begun = Instant::now();
    while fleet.stamp().await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it is still asked");
    }
    assert!(fleet.is_lost());
    front.redis.up();
    settled(&fleet).await;
    assert!(!fleet.is_lost());
}

#[test]
fn an_address_or_a_token_that_will_not_do_is_refused() {
    let new = |url: &str, token: &str| UpstashFleet::new(transport(), url, &SecretString::from(token)).map(drop);
    for (url, token) in [
        ("http://eu1-quick-fox.upstash.io", "t"),
        ("https://x.upstash.io/path", "t"),
        ("https://user:hush@x.upstash.io", "t"),
        ("x.upstash.io", "t"),
        ("https://x.upstash.io", ""),
        ("https://x.upstash.io", "two\nlines"),
    ] {
        let error = new(url, token).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && !format!("{error:?}").contains("hush"), "{url}: {error:?}");
    }
    assert!(new("https://x.upstash.io", "t").is_ok() && new("https://x.upstash.io/", "t").is_ok() && new("http://[::1]:8079", "t").is_ok());
}

/// Answers what it is told and remembers what it was asked.
#[derive(Debug, Default)]
struct Canned {
    answers: Mutex<Vec<(u16, &'static str)>>,
    asked: Mutex<Vec<Value>>,
}

#[async_trait]
impl Transport for Canned {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        assert_eq!((&request.head.method, request.head.url.path(), request.head.url.query()), (&Method::POST, "/", None));
        assert!(request.head.headers["authorization"].is_sensitive());
        let command = request.body.collect(1 << 20).await?;
        self.asked.lock().unwrap().push(serde_json::from_slice(&command).unwrap());
        let (status, body) = self.answers.lock().unwrap().remove(0);
        Ok(http::Response::builder().status(status).body(Body::Bytes(body.into())).unwrap())
    }
}

/// The answers are the vendor's documented ones: <https://upstash.com/docs/redis/features/restapi>.
#[tokio::test(start_paused = true)]
async fn the_wire_is_the_documented_one() {
    let canned = Arc::new(Canned::default());
    let fleet = UpstashFleet::new(canned.clone(), "https://x.upstash.io", &SecretString::from(TOKEN)).unwrap();
    let answer = |answers: &[(u16, &'static str)]| *canned.answers.lock().unwrap() = answers.to_vec();
    answer(&[(400, r#"{"error":"NOSCRIPT No matching script. Please use EVAL."}"#), (200, r#"{"result":[1790000000000000]}"#)]);
    assert_eq!(fleet.stamp().await.unwrap(), 1_790_000_000_000_000);
    let asked = canned.asked.lock().unwrap().clone();
    assert_eq!((&asked[0][0], &asked[0][2], &asked[0][3]), (&json!("EVALSHA"), &json!("1"), &json!("{connectors}:clock")));
    assert_eq!((&asked[1][0], &asked[1][3]), (&json!("EVAL"), &json!("{connectors}:clock")));
    for (status, body, kind) in [
        (400, r#"{"error":"ERR max requests limit exceeded. See https://upstash.com/docs"}"#, ErrorKind::Transient),
        (401, r#"{"error":"WRONGPASS invalid or missing auth token"}"#, ErrorKind::Config),
        (502, "<html>bad gateway</html>", ErrorKind::Transient),
        (200, r#"{"result":"OK"}"#, ErrorKind::Internal),
        (200, r#"{"result":[1.5]}"#, ErrorKind::Internal),
    ] {
        let fleet = UpstashFleet::new(canned.clone(), "https://x.upstash.io", &SecretString::from(TOKEN)).unwrap();
        answer(&[(status, body)]);
        let error = fleet.stamp().await.unwrap_err();
        assert!(error.kind() == kind && !format!("{error:?}").contains(TOKEN), "{body}: {error:?}");
    }
}

/// Reads what our client wrote and writes what it reads, with `@upstash/redis`.
const JUDGE: &str = r#"
import { Redis } from "@upstash/redis";
const [url, token, step] = process.argv.slice(2);
const redis = new Redis({ url, token, automaticDeserialization: false, enableTelemetry: false });
const value = "{judged}:value:" + "01".repeat(32), tag = "{judged}:tag:" + "02".repeat(32), clock = "{judged}:clock";
if (step === "read") {
  const field = (name) => redis.hget(value, name);
  const kept = { stamp: await field("stamp"), tags: await field("tags"), value: await field("value") };
  const [ttl, now, keys] = await Promise.all([redis.pttl(value), redis.hget(clock, "now"), redis.keys("{judged}:limit:*")]);
  const arrival = await redis.get(keys[0]);
  console.log(JSON.stringify({ kept, ttl, now, limits: keys.length, arrival }));
} else {
  await redis.hset(value, { value: "uwritten by the vendor's own client: \u00e4\u0000" });
  await redis.set(tag, "1");
  const taken = await redis.eval("return {redis.call('GET', KEYS[1]), ARGV[1]}", [tag], ["x"]);
  console.log(JSON.stringify({ taken }));
}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vendors_own_client_reads_and_writes_the_same() {
    let Some(front) = Front::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("package.json"), r#"{"private": true, "type": "module"}"#).unwrap();
    std::fs::write(folder.path().join("judge.mjs"), JUDGE).unwrap();
    let install = Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "@upstash/redis@1"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !install.is_ok_and(|status| status.success()) {
        return skip("`npm` is not installed here, or cannot fetch @upstash/redis");
    }
    let judge = |step: &str| -> Value {
        let run = Command::new("node").arg("judge.mjs").args([&front.url(), TOKEN, step]).current_dir(folder.path()).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        serde_json::from_slice(&run.stdout).unwrap()
    };
    let fleet = front.fleet("judged");
    settled(&fleet).await;
    let stamp = fleet.stamp().await.unwrap();
    fleet.put(&[1; 32], "{\"a\": \"\u{e4}\"}".into(), &[[2; 32]], stamp, Duration::from_secs(60)).await.unwrap();
    let read = judge("read");
    assert_eq!(read["kept"], json!({ "stamp": stamp.to_string(), "tags": "02".repeat(32), "value": "u{\"a\": \"\u{e4}\"}" }));
    assert!(read["ttl"].as_u64().is_some_and(|ttl| ttl > 50_000 && ttl <= 60_000), "{read}");
    assert!(read["now"].as_str().is_some_and(|now| now.parse::<u64>().unwrap() >= stamp) && read["limits"] == 1, "{read}");
    assert!(read["arrival"].as_str().is_some_and(|arrival| arrival.len() == 16), "{read}");
    assert_eq!(judge("write")["taken"], json!(["1", "x"]));
    let found = fleet.get(&[1; 32]).await.unwrap().unwrap();
    assert_eq!(found.value, "written by the vendor's own client: \u{e4}\u{0}");
}

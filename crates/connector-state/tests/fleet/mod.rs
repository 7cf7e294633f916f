//! What every store of a fleet must do, and a Redis server of a test's own.
//!
//! Where no `redis-server` is installed the test says so and ends; with `CI` set that is a failure.
#![allow(clippy::unwrap_used, clippy::print_stderr, dead_code, reason = "helpers of tests, of which no test uses all")]

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use connector_core::fleet::{LONGEST_CACHED, MOST_CACHED, Notice, PubSub, SharedAsk, SharedCache, SharedCell, SharedLimits, SharedTurn};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::broadcast::Receiver;

/// Says why a test does nothing. In CI it must do something.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}, and CI is set");
    eprintln!("skipped: {why}");
}

/// A name nobody else uses.
pub(crate) fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server on a free port that keeps nothing. Killed on drop.
pub(crate) struct PrivateRedis {
    folder: tempfile::TempDir,
    port: u16,
    password: Option<String>,
    running: Option<Child>,
}

impl PrivateRedis {
    /// A running server, or `None` with a line why not.
    pub(crate) fn start(password: Option<&str>) -> Option<Self> {
        let installed = Command::new("redis-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !installed.is_ok_and(|status| status.success()) {
            skip("`redis-server` is not installed here");
            return None;
        }
        let mut server = Self { folder: tempfile::tempdir().unwrap(), port: free_port(), password: password.map(str::to_owned), running: None };
        server.up();
        Some(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        let login = self.password.as_ref().map_or_else(String::new, |password| format!(":{password}@"));
        format!("redis://{login}127.0.0.1:{}/", self.port)
    }

    /// Starts it with nothing in it and waits until it listens.
    pub(crate) fn up(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(self.folder.path());
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        self.running = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.running.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?));
        kill_process(pid.unwrap(), signal).unwrap();
    }

    /// It stays connected and says nothing.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// What `redis-cli` would print for a command.
    pub(crate) fn cli(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string(), "--raw"]);
        if let Some(password) = &self.password {
            cli.env("REDISCLI_AUTH", password);
        }
        String::from_utf8_lossy(&cli.args(command).output().unwrap().stdout).trim().to_owned()
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn cell(key: &str, interval_ms: u64, burst: u32) -> SharedCell {
    SharedCell { key: key.into(), interval: Duration::from_millis(interval_ms), burst, shares: 1 }
}

async fn take(store: &dyn SharedLimits, cells: &[SharedCell], lead_ms: u64) -> SharedTurn {
    store.take(&SharedAsk { cells, lead: Duration::from_millis(lead_ms), stray: None }).await.unwrap()
}

/// Waits until the store counts.
pub(crate) async fn settled(store: &dyn SharedLimits) {
    let begun = Instant::now();
    loop {
        match store.take(&SharedAsk { cells: &[cell("settled", 1, 100)], lead: Duration::ZERO, stray: None }).await {
            Ok(SharedTurn::Settling(left)) => tokio::time::sleep(left).await,
            Ok(_) => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the store does not settle");
    }
}

/// How a store counts. Real time, with intervals so long that a slow machine does not blur them.
pub(crate) async fn limits(store: &dyn SharedLimits) {
    // It begins by settling, empty.
    let slow = cell("slow", 5_000, 4);
    assert!(matches!(take(store, std::slice::from_ref(&slow), 0).await, SharedTurn::Settling(left) if left <= Duration::from_secs(1)));
    settled(store).await;
    let SharedTurn::Refused(after) = take(store, std::slice::from_ref(&slow), 0).await else { panic!("nothing is in it when it begins") };
    assert!(after > Duration::from_secs(3) && after <= Duration::from_secs(5), "{after:?}");

    // A burst, then one after another; a turn ahead is taken and queues. Fast cells have filled up since.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let fast = cell("fast", 400, 3);
    for _ in 0..3 {
        assert_eq!(take(store, std::slice::from_ref(&fast), 0).await, SharedTurn::Taken(Duration::ZERO));
    }
    let SharedTurn::Refused(after) = take(store, std::slice::from_ref(&fast), 0).await else { panic!("three at once") };
    assert!(after <= Duration::from_millis(400), "{after:?}");
    let mut before = Instant::now();
    for _ in 0..2 {
        let SharedTurn::Taken(after) = take(store, std::slice::from_ref(&fast), 1_000).await else { panic!("a turn within the second") };
        let turn = Instant::now() + after;
        assert!(after <= Duration::from_millis(800) && turn > before, "{after:?}");
        before = turn + Duration::from_millis(100);
    }
    assert!(matches!(take(store, std::slice::from_ref(&fast), 10).await, SharedTurn::Refused(after) if after <= Duration::from_millis(1_200)));

    // All cells or none: the wide one keeps what the slow one refuses.
    let wide = cell("wide", 200, 6);
    for _ in 0..3 {
        assert!(matches!(take(store, &[wide.clone(), slow.clone()], 0).await, SharedTurn::Refused(_)));
    }
    for _ in 0..6 {
        assert_eq!(take(store, std::slice::from_ref(&wide), 0).await, SharedTurn::Taken(Duration::ZERO));
    }

    // Another key knows nothing of it.
    assert_eq!(take(store, &[cell("fast, but another", 100, 1)], 0).await, SharedTurn::Taken(Duration::ZERO));

    // Calls that went astray after it began make it begin again; those before do not.
    let ask =
        |stray| async move { store.take(&SharedAsk { cells: &[cell("other", 100, 1)], lead: Duration::ZERO, stray: Some(stray) }).await.unwrap() };
    assert_eq!(ask(Duration::from_secs(3_600)).await, SharedTurn::Taken(Duration::ZERO));
    let SharedTurn::Settling(first) = ask(Duration::from_millis(1)).await else { panic!("it does not know of a call made just now") };
    let SharedTurn::Settling(second) = ask(Duration::from_millis(1)).await else { panic!("it settles once for all") };
    assert!(first > Duration::from_millis(500) && second <= first, "{first:?} {second:?}");
}

/// Many at once take no more than there is.
pub(crate) async fn no_call_is_taken_twice(store: Arc<dyn SharedLimits>) {
    settled(&*store).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let callers = (0..64).map(|_| {
        let store = store.clone();
        // 20 at once, then one every four milliseconds.
        tokio::spawn(async move { store.take(&SharedAsk { cells: &[cell("crowded", 4, 20)], lead: Duration::ZERO, stray: None }).await.unwrap() })
    });
    let begun = Instant::now();
    let turns = futures_util::future::join_all(callers).await;
    let taken = turns.into_iter().filter(|turn| matches!(turn, Ok(SharedTurn::Taken(_)))).count();
    let most = 20 + usize::try_from(begun.elapsed().as_millis() / 4).unwrap() + 1;
    assert!(taken >= 20 && taken <= most, "{taken} of at most {most}");
}

/// How a store keeps replies.
pub(crate) async fn cache(store: &dyn SharedCache) {
    let key = |n: u8| [n; 32];
    let minute = Duration::from_secs(60);
    let got = |n| async move { store.get(&key(n)).await.unwrap().map(|found| found.value) };
    assert_eq!(got(1).await, None);

    // Kept and given back as it was, text or not.
    let stamp = store.stamp().await.unwrap();
    let binary = Bytes::from_static(b"\xff\x00\xfe\n");
    store.put(&key(1), "{\"a\": \"\u{e4}\\u0000\"}".into(), &[key(101), key(102)], stamp, minute).await.unwrap();
    store.put(&key(2), binary.clone(), &[key(102)], stamp, minute).await.unwrap();
    store.put(&key(3), Bytes::new(), &[], stamp, minute).await.unwrap();
    assert_eq!((got(1).await, got(2).await, got(3).await), (Some("{\"a\": \"\u{e4}\\u0000\"}".into()), Some(binary), Some(Bytes::new())));

    // Its age is that of the stamp.
    tokio::time::sleep(Duration::from_millis(30)).await;
    let age = store.get(&key(1)).await.unwrap().unwrap().age;
    assert!(age >= Duration::from_millis(30) && age < Duration::from_secs(20), "{age:?}");

    // Stale by any of its tags, and only by its own.
    store.drop_tags(&[key(101), key(150)]).await.unwrap();
    assert!(got(1).await.is_none() && got(2).await.is_some() && got(3).await.is_some());

    // A tag dropped between stamp and put is noticed; one dropped before is not.
    let before = store.stamp().await.unwrap();
    store.drop_tags(&[key(103)]).await.unwrap();
    // A stamp of the very moment of the drop counts as before it.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let after = store.stamp().await.unwrap();
    assert!(before < after, "{before} {after}");
    store.put(&key(4), "old".into(), &[key(103)], before, minute).await.unwrap();
    store.put(&key(5), "new".into(), &[key(103)], after, minute).await.unwrap();
    assert_eq!((got(4).await, got(5).await), (None, Some("new".into())));

    // What came later replaces what was there, and its tags.
    let again = store.stamp().await.unwrap();
    store.put(&key(5), "newer".into(), &[key(104)], again, minute).await.unwrap();
    store.drop_tags(&[key(103)]).await.unwrap();
    assert_eq!(got(5).await, Some("newer".into()));

    // A stamp of nowhere, nothing to live for, too long: not kept, and no error.
    store.put(&key(6), "x".into(), &[], u64::MAX >> 12, minute).await.unwrap();
    store.put(&key(7), "x".into(), &[], again, Duration::ZERO).await.unwrap();
    store.put(&key(8), vec![b'x'; MOST_CACHED + 1].into(), &[], again, minute).await.unwrap();
    store.put(&key(9), vec![b'x'; MOST_CACHED].into(), &[], again, LONGEST_CACHED * 2).await.unwrap();
    assert_eq!((got(6).await, got(7).await, got(8).await), (None, None, None));
    assert_eq!(got(9).await.map(|value| value.len()), Some(MOST_CACHED));

    // It ends.
    store.put(&key(10), "short".into(), &[], again, Duration::from_millis(150)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(got(10).await, None);
}

/// The next message, whatever was missed before it.
pub(crate) async fn message(heard: &mut Receiver<Notice>) -> (String, Bytes) {
    loop {
        let said = tokio::time::timeout(Duration::from_secs(10), heard.recv()).await.unwrap().unwrap();
        if let Notice::Message { topic, body } = said {
            return (topic.to_string(), body);
        }
    }
}

pub(crate) async fn missed(heard: &mut Receiver<Notice>) {
    loop {
        match tokio::time::timeout(Duration::from_secs(15), heard.recv()).await.unwrap().unwrap() {
            Notice::Missed => return,
            Notice::Message { .. } => {}
        }
    }
}

/// Two processes hear each other and themselves.
pub(crate) async fn news(one: &dyn PubSub, two: &dyn PubSub) {
    let (mut first, mut second) = (one.subscribe(), two.subscribe());
    // Until both listen, what is said may be missed.
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody listens");
        one.publish("hello", Bytes::new()).await.ok();
        let (a, b) = (
            tokio::time::timeout(Duration::from_millis(50), message(&mut first)),
            tokio::time::timeout(Duration::from_millis(50), message(&mut second)),
        );
        if let (Ok(_), Ok(_)) = tokio::join!(a, b) {
            break;
        }
    }
    let long = Bytes::from(vec![0xff; connector_core::fleet::MOST_NOTICE]);
    for (topic, body) in [("cache", Bytes::from_static(b"{\"a\": 1}\n")), ("push", Bytes::from_static(b"\xff\x00")), ("push", long.clone())] {
        two.publish(topic, body.clone()).await.unwrap();
        for heard in [&mut first, &mut second] {
            let mut told = message(heard).await;
            while told.0 == "hello" {
                told = message(heard).await;
            }
            assert_eq!(told, (topic.to_owned(), body.clone()));
        }
    }
    let too_long = Bytes::from(vec![0; connector_core::fleet::MOST_NOTICE + 1]);
    assert_eq!(one.publish("push", too_long).await.unwrap_err().kind(), connector_core::ErrorKind::Invalid);
}

//! The hub as a program: how soon it has made a call, how soon it is ready, and what it takes while idle.
//!
//! Measures `target/release/connector-hub`, or the program that `CONNECTOR_HUB` names; says so and measures nothing if there is none.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    measure::{Figure, memory},
    server::{PAGE, Server},
};

const ROUNDS: usize = 15;
/// A hub that is not ready by then never will be.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a hub idles before its memory is looked at.
const IDLE: Duration = Duration::from_secs(3);

pub(crate) fn run(server: &Server) {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/connector-hub");
    let hub = std::env::var_os("CONNECTOR_HUB").map_or(built, PathBuf::from);
    if !hub.is_file() {
        eprintln!("skipped: there is no release build of the hub; make one with `cargo build --release -p connector-hub`");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("hub.yaml"),
        format!(
            "connections:\n  hubspot:\n    connector: hubspot\n    base_url: {}\n    egress_allow: [loopback]\n    credential: {{ token: \"${{BENCH_TOKEN}}\" }}\n",
            server.base()
        ),
    )
    .unwrap();
    one_call(server, &hub, home.path());
    service(&hub, home.path());
}

/// The hub in its own directory, with nothing of this machine's settings.
fn command(hub: &Path, home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(hub);
    command.args(args).current_dir(home).env_clear().env("BENCH_TOKEN", "bench-token").stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    command
}

fn one_call(server: &Server, hub: &Path, home: &Path) {
    server.list(PAGE);
    let args = ["call", "hubspot_list_contacts", "--arg", "limit=100"];
    let (mut wall, mut peak) = (f64::INFINITY, None::<f64>);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut child = command(hub, home, &args).spawn().unwrap();
        assert!(child.wait().unwrap().success(), "the hub could not make the call");
        wall = wall.min(start.elapsed().as_secs_f64() * 1e3);
        // Once more for the memory: looking at it all the time must not be in the time.
        let watched = peak_of(command(hub, home, &args).spawn().unwrap());
        peak = peak.zip(watched).map(|(a, b)| a.max(b)).or(watched);
    }
    Figure::new("command line: start, one call of 100 records, end", wall, "ms").at_most(30.0).print();
    if let Some(peak) = peak {
        Figure::new("command line: memory", peak, "MB").at_most(12.0).print();
    }
}

/// The most memory a process took, looked at until it ends.
fn peak_of(mut child: Child) -> Option<f64> {
    let mut most = None;
    while child.try_wait().unwrap().is_none() {
        most = memory(Some(child.id()), "VmHWM").or(most);
        thread::sleep(Duration::from_micros(200));
    }
    most
}

/// Ends the hub also where a measurement fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn service(hub: &Path, home: &Path) {
    let mut ready = f64::INFINITY;
    let mut idle = None;
    for round in 0..ROUNDS {
        let address = free_address();
        let start = Instant::now();
        let running = Running(command(hub, home, &["serve", "--listen", &address.to_string()]).spawn().unwrap());
        while !is_ready(address) {
            assert!(start.elapsed() < PATIENCE, "the hub did not become ready");
            thread::sleep(Duration::from_micros(500));
        }
        // The first start makes the database and the first key; those after it are what restarts are like.
        if round > 0 {
            ready = ready.min(start.elapsed().as_secs_f64() * 1e3);
        }
        if round + 1 == ROUNDS {
            thread::sleep(IDLE);
            idle = memory(Some(running.0.id()), "VmRSS");
        }
    }
    Figure::new("hub: ready after", ready, "ms").at_most(100.0).print();
    if let Some(idle) = idle {
        Figure::new("hub: memory while idle", idle, "MB").at_most(25.0).print();
    }
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

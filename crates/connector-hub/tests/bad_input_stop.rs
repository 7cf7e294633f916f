//! The process itself: what SIGTERM does, once and twice.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use common::hub::Hub;
use rustix::process::{Pid, Signal, kill_process};

struct Serving(Child, std::io::Lines<BufReader<std::process::ChildStderr>>);

impl Serving {
    fn start(hub: &Hub) -> (Self, SocketAddr) {
        hub.write("hub.yaml", "server: { drain_delay: 1s }\n");
        let mut child = hub.command(&["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens = |line: String| line.strip_prefix("the hub listens on http://").map(|text| text.parse().unwrap());
        let address = lines.by_ref().map_while(Result::ok).find_map(listens).unwrap();
        (Self(child, lines), address)
    }

    fn term(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn ready(address: SocketAddr) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text[9..12].parse().unwrap()
}

#[test]
fn the_first_sigterm_drains_and_ends_with_0() {
    let hub = Hub::new();
    let (mut serving, address) = Serving::start(&hub);
    assert_eq!(ready(address), 200);
    let asked = Instant::now();
    serving.term();
    while ready(address) != 503 {
        assert!(asked.elapsed() < Duration::from_millis(900), "probes are told at once");
    }
    let status = serving.0.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() >= Duration::from_secs(1), "it accepted for as long as it was told to");
    assert!(asked.elapsed() < Duration::from_secs(30));
}

#[test]
fn the_second_sigterm_ends_at_once_with_1() {
    let hub = Hub::new();
    let (mut serving, address) = Serving::start(&hub);
    let mut held = TcpStream::connect(address).unwrap();
    held.write_all(b"POST /api/v1/webhooks/a/b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n").unwrap();
    serving.term();
    while ready(address) != 503 {}
    let asked = Instant::now();
    serving.term();
    assert_eq!(serving.0.wait().unwrap().code(), Some(1));
    assert!(asked.elapsed() < Duration::from_millis(5_000), "{:?}", asked.elapsed());
    assert!(serving.1.any(|line| line.unwrap().starts_with("asked to stop twice")));
}

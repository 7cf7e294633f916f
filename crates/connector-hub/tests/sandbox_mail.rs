//! `connector-hub sandbox --vendor email`: the mail server alone, and what is printed about it is where it is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// The running command; ended however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // A process that is gone already is what is wanted.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn greeting(base_url: &str, scheme: &str) -> String {
    let addr = base_url.split(' ').find_map(|url| url.strip_prefix(&format!("{scheme}://"))).unwrap();
    let mut line = String::new();
    BufReader::new(TcpStream::connect(addr).unwrap()).read_line(&mut line).unwrap();
    line
}

#[test]
fn the_mail_server_of_the_sandbox_is_where_the_table_says() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_connector-hub"));
    command.args(["sandbox", "--vendor", "email", "--listen", "127.0.0.1:0", "--json"]);
    let mut running = Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let stdout = running.0.stdout.take().unwrap();
    let rows: Value = serde_json::Deserializer::from_reader(stdout).into_iter().next().unwrap().unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1, "only what was asked for: {rows}");
    let base_url = rows[0]["base_url"].as_str().unwrap();
    assert!(greeting(base_url, "imap").starts_with("* OK [CAPABILITY IMAP4rev1 "));
    assert!(greeting(base_url, "smtp").starts_with("220 "));
    let user = rows[0]["credentials"].as_array().unwrap().iter().find(|credential| credential["name"] == "user").unwrap();
    assert_eq!(user["value"], "alice@example.test");
}

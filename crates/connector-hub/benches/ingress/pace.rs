//! One hub at a fixed pace: `--rps N --secs S [--store Handled] [--assert p99=100ms,max=1s]`.

use std::{process::ExitCode, time::Duration};

use crate::{
    figure,
    load::Load,
    server::{Kind, Server},
};

/// Connections that the pace is spread over.
const CONNECTIONS: usize = 64;

pub(crate) fn run(args: &[String]) -> ExitCode {
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let number =
        |name: &str, default: u64| value(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} takes a number, not `{text}`")));
    let (rps, secs) = (number("--rps", 1_000), number("--secs", 60));
    let kind = value("--store").map_or(Kind::Handled, |name| {
        Kind::named(name).unwrap_or_else(|| panic!("--store is one of Raw, Memory, Sqlite, Handled, Postgres, not `{name}`"))
    });
    let server = Server::start(kind);
    let warm = Load::new(CONNECTIONS).paced(rps).run(&server, Duration::from_secs(1));
    assert_eq!(warm.refused, 0, "{warm:?}");
    let before = server.cpu();
    let done = Load::new(CONNECTIONS).paced(rps).run(&server, Duration::from_secs(secs));
    let cpu = (server.cpu() - before).as_secs_f64() * 1e6 / done.accepted.max(1) as f64;
    let ms = |percent: f64| done.p(percent).as_secs_f64() * 1e3;
    let mut met = true;
    for (name, percent) in [("p50", 50.0), ("p99", 99.0), ("max", 100.0)] {
        let limit = value("--assert").and_then(|all| all.split(',').find_map(|one| one.strip_prefix(name)?.strip_prefix('=').map(length)));
        let fits = limit.is_none_or(|limit| done.p(percent) <= limit);
        met &= fits;
        figure(&format!("ingress {kind:?} at {rps}/s: {name}"), ms(percent), "ms", None, limit.map(|limit| (format!("≤ {limit:?}"), fits)));
    }
    figure(&format!("ingress {kind:?} at {rps}/s: accepted"), done.accepted as f64 / done.took.as_secs_f64(), "/s", None, None);
    figure(&format!("ingress {kind:?} at {rps}/s: answered 503"), done.later as f64, "events", None, Some(("0".into(), done.later == 0)));
    figure(&format!("ingress {kind:?} at {rps}/s: CPU"), cpu, "µs/event", None, None);
    if met && done.later == 0 && done.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `100ms` or `1s`.
fn length(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number = number.parse().unwrap_or_else(|_| panic!("`{text}` is not a length of time such as 100ms"));
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => panic!("`{text}` is not a length of time such as 100ms"),
    }
}

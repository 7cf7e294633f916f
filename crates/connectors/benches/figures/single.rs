//! A single typed call: token, limiter, breaker, retry, timeout, metrics, span and a typed reply against raw reqwest and serde.

use crate::{
    clients::{self, PostMessage, Posted, TOKEN},
    measure::{Figure, drive, in_turn, runtime},
    server::Server,
};

const CALLS: u64 = 2_000;
const ROUNDS: usize = 40;

pub(crate) fn run(server: &Server) {
    let runtime = runtime();
    let (url, http, client) = (format!("{}/api/chat.postMessage", server.base()), clients::raw(), clients::posting(server));
    let raw = move || {
        let (url, http) = (url.clone(), http.clone());
        async move {
            let reply = http.post(&url).bearer_auth(TOKEN).json(&PostMessage::sample()).send().await.unwrap().error_for_status().unwrap();
            #[allow(clippy::disallowed_methods, reason = "the baseline is what one gets without us")]
            let posted: Posted = reply.json().await.unwrap();
            assert!(posted.ok);
        }
    };
    let ours = move || {
        let client = client.clone();
        async move { assert!(client.call(PostMessage::sample()).await.unwrap().ok) }
    };
    for concurrency in [1, 8, 64] {
        let (raw, ours) = in_turn(ROUNDS, || drive(&runtime, concurrency, CALLS, raw.clone()), || drive(&runtime, concurrency, CALLS, ours.clone()));
        Figure::new(format!("single call, {concurrency} at a time: CPU"), ours.cpu, "µs").against(raw.cpu).at_most(1.15).print();
        let per_second = |wall: f64| 1e6 / wall;
        Figure::new(format!("single call, {concurrency} at a time: calls"), per_second(ours.wall), "1/s")
            .against(per_second(raw.wall))
            .at_least(0.9)
            .print();
    }
}

//! What happens when a vendor is slow to give tokens or refuses calls.

use std::time::Instant;

use futures_util::future::join_all;

use crate::{
    clients::{self, PostBusy, PostMessage},
    measure::{Figure, drive, in_turn, runtime},
    server::Server,
};

/// 64 callers at once and no token yet: one of them asks for it.
pub(crate) fn first_callers(server: &Server) {
    let runtime = runtime();
    let client = clients::without_token(server);
    let before = server.tokens();
    let start = Instant::now();
    let outcomes = runtime.block_on(join_all((0..64).map(|_| client.call(PostMessage::sample()).into_future())));
    let wall = start.elapsed();
    let errors = outcomes.into_iter().filter(Result::is_err).count();
    assert_eq!(errors, 0, "calls failed for want of a token");
    #[allow(clippy::cast_precision_loss, reason = "a handful")]
    let requests = (server.tokens() - before) as f64;
    Figure::new("token requests of 64 first callers", requests, "requests").at_most(1.0).print();
    Figure::new("64 first callers, token after 50 ms: wall", wall.as_secs_f64() * 1e3, "ms").at_most(60.0).print();
}

const CALLS: u64 = 2_000;
const ROUNDS: usize = 30;

/// One call in ten is refused with `Retry-After: 0`. A refused request costs a request, so 0.90 is the most anybody can reach.
pub(crate) fn throttled(server: &Server) {
    let runtime = runtime();
    let client = clients::posting(server);
    let plain = {
        let client = client.clone();
        move || {
            let client = client.clone();
            async move { assert!(client.call(PostMessage::sample()).await.unwrap().ok) }
        }
    };
    let errors = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let busy = {
        let errors = errors.clone();
        move || {
            let (client, errors) = (client.clone(), errors.clone());
            async move {
                if let Err(error) = client.call(PostBusy(PostMessage::sample())).await {
                    eprintln!("{error}");
                    errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
    };
    let (plain, busy) = in_turn(ROUNDS, || drive(&runtime, 8, CALLS, plain.clone()), || drive(&runtime, 8, CALLS, busy.clone()));
    let errors = f64::from(errors.load(std::sync::atomic::Ordering::Relaxed));
    Figure::new("one call in ten refused with Retry-After 0: errors", errors, "errors").at_most(0.0).print();
    Figure::new("one call in ten refused with Retry-After 0: calls", 1e6 / busy.wall, "1/s").against(1e6 / plain.wall).at_least(0.80).print();
}

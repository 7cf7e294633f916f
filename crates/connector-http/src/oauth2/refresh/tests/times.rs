//! When tokens are renewed, by clocks that agree and by clocks that do not.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_beside_the_calls_before_it_ends() {
    let world = World::connected().await;
    let process = world.process();
    // The margin of an hour is six minutes, and a fifth of that more at most, so that not all come at once.
    seconds(3600 - 360 - 72 - 10).await;
    for _ in 0..10 {
        assert_eq!(process.token().await, "Bearer a1");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.server.posts(), 0);
    seconds(83).await;
    assert_eq!(process.token().await, "Bearer a1", "the old one serves meanwhile");
    seconds(1).await;
    assert_eq!((process.token().await, world.server.posts()), ("Bearer a2".into(), 1));
}

#[tokio::test(start_paused = true)]
async fn many_processes_that_renew_early_send_one_request() {
    let world = World::connected().await;
    let processes: Vec<_> = (0..8).map(|_| world.process()).collect();
    for _ in 0..3600 {
        for process in &processes {
            process.token().await;
        }
        seconds(1).await;
    }
    assert_eq!(world.server.posts(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_an_end_a_token_is_used_until_it_is_refused() {
    let world = World::with(json!({ "rotates": true })).await;
    world.server.issues(None);
    an_hour().await;
    let process = world.process();
    assert_eq!(process.token().await, "Bearer a2");
    assert_eq!(world.facts().await.expires_at, None);
    seconds(30 * 24 * 3600).await;
    let (token, used) = process.ask().await.unwrap();
    assert_eq!((token.as_str(), world.server.posts()), ("Bearer a2", 1));
    assert!(process.auth.rejected(&cx(), &used).await.unwrap());
    assert_eq!((process.token().await, world.server.posts()), ("Bearer a3".into(), 2));
}

#[tokio::test(start_paused = true)]
async fn lifetimes_are_read_with_tolerance() {
    for (expires_in, default, expected) in [
        ("3600", None, Some(3600)),
        (r#""3600""#, None, Some(3600)),
        ("0", Some(1800), Some(1800)),
        ("-5", None, None),
        (r#""soon""#, Some(1800), Some(1800)),
        ("null", None, None),
        ("1e300", None, Some(10 * 365 * 24 * 3600)),
    ] {
        let mut spec = json!({ "rotates": true });
        if let Some(default) = default {
            spec["default_lifetime"] = json!(default);
        }
        let world = World::with(spec).await;
        an_hour().await;
        let body: &'static str = format!(r#"{{"access_token":"a2","refresh_token":"r2","expires_in":{expires_in}}}"#).leak();
        world.server.will(&[Says::Answers(200, body)]);
        assert_eq!(world.process().token().await, "Bearer a2", "{expires_in}");
        let facts = world.facts().await;
        assert_eq!(facts.expires_at.map(|end| (end - facts.obtained_at) / 1000), expected, "{expires_in}");
    }
}

#[tokio::test(start_paused = true)]
async fn wall_clocks_ten_minutes_apart_cause_no_storm() {
    let world = World::connected().await;
    world.server.issues(Some(300));
    let processes = [world.process_at(0), world.process_at(600), world.process_at(-600)];
    an_hour().await;
    for _ in 0..3600 {
        for process in &processes {
            process.token().await;
        }
        seconds(1).await;
    }
    // Tokens live five minutes and are renewed a minute early: 15 in an hour with one clock. Each clock may renew for itself at worst.
    assert!((12..=45).contains(&world.server.posts()), "{}", world.server.posts());
    assert!(!world.server.revoked());
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_costs_one_renewal_at_most() {
    for jump in [600, -600, -3600] {
        let world = World::connected().await;
        let process = world.process();
        process.token().await;
        seconds(60).await;
        process.clock.skew.store(jump, Ordering::Relaxed);
        for _ in 0..600 {
            process.token().await;
            seconds(1).await;
        }
        assert!(world.server.posts() <= 1, "{jump}: {}", world.server.posts());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_noted_by_a_clock_that_runs_ahead_does_not_stop_the_others() {
    let world = World::connected().await;
    an_hour().await;
    world.server.will(&[Says::Unreached]);
    world.process_at(3600).error().await;
    assert_eq!(world.process().token().await, "Bearer a2");
}

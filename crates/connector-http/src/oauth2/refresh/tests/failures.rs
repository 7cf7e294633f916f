//! Renewals that fail: for good, for now, and in ways that nobody can tell.

use super::*;

const MINUTE: u64 = 60;

fn reauth(reason: &str, serial: u64) -> Vec<CredentialNotice> {
    vec![CredentialNotice::ReauthRequired { reason: reason.into(), serial }]
}

#[tokio::test(start_paused = true)]
async fn a_refused_refresh_token_is_sent_once_and_told_once() {
    for body in [
        r#"{"error":"invalid_grant","error_description":"canary"}"#,
        r#"{"status":"BAD_REFRESH_TOKEN","message":"canary"}"#,
        r#"{"error":"invalid_refresh_token"}"#,
        r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#,
    ] {
        let world = World::connected().await;
        an_hour().await;
        world.server.will(&[Says::Answers(400, body)]);
        let processes = [world.process(), world.process()];
        let first = processes[0].error().await;
        assert_eq!((first.kind(), first.status()), (ErrorKind::AuthExpired, Some(400)));
        assert!(first.message().ends_with(": connect again"), "{first}");
        for _ in 0..48 {
            for process in &processes {
                let error = process.error().await;
                assert_eq!(error.kind(), ErrorKind::AuthExpired);
                assert_eq!(error.message(), "the consent that hubspot was connected with has ended (`invalid_grant`): connect again");
            }
            an_hour().await;
        }
        assert_eq!(world.server.posts(), 1, "{body}");
        assert_eq!(world.ear.told(), reauth("invalid_grant", 1));
        let facts = world.facts().await;
        assert_eq!((facts.state, facts.reason.as_deref(), facts.intent), (TokenState::ReauthRequired, Some("invalid_grant"), None));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_401_and_a_refused_renewal_the_old_token_is_not_sent_any_more() {
    let world = World::connected().await;
    let process = world.process();
    let (_, used) = process.ask().await.unwrap();
    world.server.will(&[Says::Answers(400, r#"{"error":"invalid_grant"}"#)]);
    let error = process.auth.rejected(&cx(), &used).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::AuthExpired, Some("invalid_grant")));
    for _ in 0..3 {
        assert_eq!(process.error().await.kind(), ErrorKind::AuthExpired);
    }
    assert_eq!((world.server.posts(), world.ear.told()), (1, reauth("invalid_grant", 1)));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_consent_says_so_and_works_at_once_after_connecting_again() {
    let world = World::connected().await;
    an_hour().await;
    world.server.will(&[Says::Answers(200, r#"{"ok":false,"error":"token_revoked"}"#)]);
    let process = world.process();
    process.error().await;
    assert_eq!(world.ear.told(), reauth("revoked", 1));
    world
        .change(|record| {
            let now = record.facts.obtained_at + 3_600_000;
            record.tokens.access = "again".into();
            record.facts = TokenFacts { serial: 2, obtained_at: now, expires_at: Some(now + 3_600_000), seeded_from: 1, ..TokenFacts::default() };
        })
        .await;
    assert_eq!(process.token().await, "Bearer again");
}

#[tokio::test(start_paused = true)]
async fn an_early_renewal_nobody_knows_the_outcome_of_leaves_the_old_token_in_use_until_it_ends() {
    for lost in [Says::RenewsUnheard(ErrorKind::Timeout), Says::Answers(502, "<html>canary")] {
        let world = World::connected().await;
        let done = matches!(lost, Says::RenewsUnheard(_));
        world.server.will(&[lost]);
        let process = world.process();
        assert_eq!(process.token().await, "Bearer a1");
        seconds(3600 - 8 * MINUTE).await;
        // The early renewal fails; nothing more is sent for as long as the old token lives, in any process.
        for _ in 0..7 {
            assert_eq!(process.token().await, "Bearer a1");
            assert_eq!(world.process().token().await, "Bearer a1");
            seconds(MINUTE).await;
        }
        assert_eq!((world.server.posts(), world.facts().await.state), (1, TokenState::Unknown));
        seconds(MINUTE).await;
        // Then the stored refresh token is tried, once.
        if done {
            assert_eq!(process.error().await.kind(), ErrorKind::AuthExpired, "what the vendor gave was lost");
            assert_eq!(process.error().await.kind(), ErrorKind::AuthExpired);
            assert_eq!(world.ear.told(), reauth("outcome_unknown", 1));
        } else {
            assert_eq!(process.token().await, "Bearer a2", "the vendor had not done it");
            let facts = world.facts().await;
            assert_eq!((facts.state, facts.failing_since, facts.retry_at), (TokenState::Active, None, None));
        }
        assert_eq!(world.server.posts(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_not_asked_about_again_before_the_cool_down() {
    for lost in [
        Says::RenewsUnheard(ErrorKind::Timeout),
        Says::RenewsUnheard(ErrorKind::Transient),
        Says::Answers(500, ""),
        Says::RenewsBut("<html>canary</html>"),
        Says::RenewsBut(r#"{"access_token":"cana"#),
        Says::RenewsBut(r#"{"access_token":""}"#),
        Says::RenewsBut(""),
    ] {
        let world = World::connected().await;
        an_hour().await;
        world.server.will(&[lost.clone(), Says::Answers(503, "")]);
        let processes = [world.process(), world.process()];
        let first = processes[0].error().await;
        assert_eq!((first.kind(), first.retry_after()), (ErrorKind::NotSent, Some(Duration::from_secs(30))), "{lost:?}");
        for _ in 0..29 {
            for process in &processes {
                assert_eq!(process.error().await.kind(), ErrorKind::NotSent);
            }
            seconds(1).await;
        }
        assert_eq!((world.server.posts(), world.facts().await.state), (1, TokenState::Unknown));
        seconds(1).await;
        processes[1].error().await;
        processes[0].error().await;
        assert_eq!((world.server.posts(), world.facts().await.state), (2, TokenState::Unknown), "one attempt on each occasion");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_slower_than_the_lease_is_given_up_after_twenty_seconds() {
    let world = World::connected().await;
    an_hour().await;
    world.server.takes(Duration::from_secs(70));
    let before = Instant::now();
    let error = world.process().error().await;
    assert_eq!((error.kind(), error.context_value("token_request"), before.elapsed().as_secs()), (ErrorKind::NotSent, Some("timeout"), 20));
    assert_eq!((world.server.posts(), world.facts().await.state), (1, TokenState::Unknown));
}

#[tokio::test(start_paused = true)]
async fn what_was_certainly_not_done_leaves_no_doubt() {
    for (says, kind, wait) in [
        (Says::Unreached, ErrorKind::NotSent, 30),
        (Says::Answers(429, ""), ErrorKind::Throttled, 7),
        (Says::Answers(400, r#"{"error":"temporarily_unavailable"}"#), ErrorKind::NotSent, 30),
    ] {
        let world = World::connected().await;
        an_hour().await;
        world.server.will(&[says]);
        let process = world.process();
        let error = process.error().await;
        assert_eq!((error.kind(), error.retry_after()), (kind, Some(Duration::from_secs(wait))));
        let facts = world.facts().await;
        assert_eq!((facts.state, facts.intent), (TokenState::Active, None));
        seconds(wait - 1).await;
        process.error().await;
        assert_eq!(world.server.posts(), 1);
        seconds(1).await;
        assert_eq!((process.token().await, world.server.posts()), ("Bearer a2".into(), 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_client_secret_is_not_the_end_of_the_consent() {
    let world = World::connected().await;
    an_hour().await;
    world.server.accepts(&["s2"]);
    let process = world.process();
    let error = process.error().await;
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::AuthExpired, Some("invalid_client")));
    assert_eq!(world.facts().await.state, TokenState::Active);
    world.credentials.set("default".into(), "crm", Credential::new([("client_id", "app"), ("client_secret", "s2")]));
    seconds(30).await;
    assert_eq!(process.token().await, "Bearer a2");
    assert!(world.ear.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn while_a_rotation_overlaps_the_client_secret_before_is_tried_once() {
    let world = World::connected().await;
    an_hour().await;
    world.server.accepts(&["s1"]);
    let old = world.credentials.get(&CredentialQuery::of(&cx(), "crm")).await.unwrap();
    let new = Credential::new([("client_id", "app"), ("client_secret", "s2")]).with_previous(Some(old));
    world.credentials.set("default".into(), "crm", new);
    let process = world.process();
    assert_eq!((process.token().await, world.server.posts()), ("Bearer a2".into(), 2), "nobody notices");
    // For the next minute the one that was taken goes first; should it end meanwhile, the newest is tried.
    let (_, used) = process.ask().await.unwrap();
    world.server.accepts(&["s2"]);
    assert!(process.auth.rejected(&cx(), &used).await.unwrap());
    assert_eq!((world.server.posts(), world.server.last("client_secret").as_deref()), (4, Some("s2")));
    assert!(!world.server.revoked());
}

#[tokio::test(start_paused = true)]
async fn a_vendor_that_does_not_rotate_is_simply_asked_again_later() {
    let world = World::with(json!({})).await;
    an_hour().await;
    world.server.will(&[Says::Answers(500, "")]);
    let process = world.process();
    process.error().await;
    let facts = world.facts().await;
    assert_eq!((facts.state, facts.failing_since.is_some()), (TokenState::Active, true));
    seconds(30).await;
    assert_eq!((process.token().await, world.facts().await.failing_since), ("Bearer a2".into(), None));
}

#[tokio::test(start_paused = true)]
async fn within_the_vendors_grace_the_request_is_repeated_once_at_once() {
    let world = World::with(json!({ "rotates": true, "rotation_grace": 1800 })).await;
    an_hour().await;
    world.server.will(&[Says::Answers(500, "")]);
    assert_eq!((world.process().token().await, world.server.posts()), ("Bearer a2".into(), 2));
    an_hour().await;
    world.server.will(&[Says::Answers(500, ""), Says::Answers(500, "")]);
    world.process().error().await;
    assert_eq!((world.server.posts(), world.facts().await.state), (4, TokenState::Unknown));
}

#[tokio::test(start_paused = true)]
async fn the_intent_of_a_dead_process_gets_one_attempt() {
    for alive in [true, false] {
        let world = World::connected().await;
        an_hour().await;
        // It died after the intent was written; its lease ended. What it did is not known, here by whether the vendor still takes r1.
        world
            .change(|record| {
                record.facts.intent = Some(99);
                record.facts.retry_at = Some(record.facts.obtained_at + 3_600_000 + 20_000);
            })
            .await;
        if !alive {
            world.server.will(&[Says::Answers(400, r#"{"error":"invalid_grant"}"#)]);
        }
        let process = world.process();
        if alive {
            assert_eq!(process.token().await, "Bearer a2", "without the cool-down");
        } else {
            process.error().await;
            an_hour().await;
            process.error().await;
            assert_eq!(world.ear.told(), reauth("outcome_unknown", 1));
        }
        assert_eq!(world.server.posts(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_process_still_has_its_lease_and_is_waited_for() {
    let world = World::connected().await;
    an_hour().await;
    world.tokens.lease(&CredentialQuery::of(&cx(), "crm"), Duration::from_secs(60)).await.unwrap().unwrap();
    world.change(|record| record.facts.intent = Some(1)).await;
    let before = Instant::now();
    assert_eq!(world.process().token().await, "Bearer a2");
    assert!((60..62).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    assert_eq!(world.server.posts(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_four_days_of_failing_nothing_is_tried_any_more() {
    let world = World::connected().await;
    world.server.will(&vec![Says::Unreached; 200]);
    an_hour().await;
    let process = world.process();
    for _ in 0..4 * 24 {
        assert_eq!(process.error().await.kind(), ErrorKind::NotSent);
        an_hour().await;
    }
    let error = process.error().await;
    assert_eq!(error.kind(), ErrorKind::AuthExpired);
    assert!(error.message().ends_with("(`exhausted`): connect again"), "{error}");
    let posts = world.server.posts();
    an_hour().await;
    process.error().await;
    assert_eq!((world.server.posts(), world.ear.told()), (posts, reauth("exhausted", 1)));
}

//! Rules at work: each effect once, whatever fails, dies or is replayed meanwhile.

use std::time::Duration;

use connector_core::{
    ErrorKind, Result,
    state::{AuditFilter, JobFilter, JobState, NewEvent},
};
use connector_runtime::{ApprovalState, HubConfig, Role, Runtime};
use serde_json::{Value, json};

use crate::{
    fixture::Step,
    rules_world::{Program, World, acme, event, pass},
};

fn nothing(_: &str, _: usize) -> Result<()> {
    Ok(())
}

/// What the CRM was asked to do, as (operation, arguments), reads included.
fn asked(world: &World) -> Vec<(String, Value)> {
    world.crm.seen().into_iter().map(|seen| (seen.operation, Value::Object(seen.args))).collect()
}

const ALL: &str = r#"
rules:
  - name: welcome
    on: crm.contact.changed
    tenant: acme
    when: [{ path: .kind, equals: new }]
    do:
      - { call: crm_get, params: { id: "{payload.id}" }, as: contact }
      - { call: crm_charge, params: { amount: "{payload.amount}" } }
      - { call: crm_update, params: { id: "{steps.contact.id}", name: "{steps.contact.name} of {event.workspace}" } }
      - { forward: erp, data: { id: "{payload.id}" } }
      - { push: "contact.{payload.id}", data: { name: "{steps.contact.name}" } }
      - { invalidate: ["contact:{payload.id}"] }
      - { alert: "new: {steps.contact.name}", level: info }
endpoints:
  erp: { url: "https://erp.example/in", secrets: ["${HOOK_SECRET}"], tenant: acme }
alerts:
  - { name: desk, on: [rule], to: { call: crm_create, params: { email: "{alert.text}" } }, tenant: acme }
"#;

#[tokio::test(start_paused = true)]
async fn every_step_is_done_once_also_when_the_event_is_replayed() {
    let world = World::new(ALL);
    world.crm.script("crm_get", [Step::Ok(json!({ "id": "7", "name": "Ada", "api_key": "canary" }))]);
    let program = Program::new(nothing);
    let runtime = world.builder().on_event(program.clone()).build().await.unwrap();
    let tasks = runtime.start();
    let seq = world.event("e1", json!({ "kind": "new", "id": "7", "amount": 5 })).await;
    world.event("e2", json!({ "kind": "old", "id": "8" })).await;
    world.add(NewEvent { tenant: "globex".into(), payload: json!({ "kind": "new" }).to_string().into(), ..event("e1") }).await;
    pass(10).await;
    let first = asked(&world);
    let expected = [
        ("crm_get", json!({ "id": "7" })),
        ("crm_charge", json!({ "amount": 5 })),
        ("crm_update", json!({ "id": "7", "name": "Ada of sales" })),
        ("crm_create", json!({ "email": "new: Ada" })),
    ];
    assert_eq!(first, expected.map(|(name, args)| (name.to_owned(), args)), "the other kind and the other tenant have no rule");
    let pushed = runtime.push_log().after(&acme(), 0, 10).await.unwrap();
    assert_eq!(pushed.len(), 1);
    assert_eq!((pushed[0].topic.as_str(), &pushed[0].data, pushed[0].workspace.as_str()), ("contact.7", &json!({ "name": "Ada" }), "sales"));
    assert_eq!((pushed[0].event_type.as_str(), world.receiver.asked()), ("crm.contact.changed", 1));
    assert!(world.crm.seen().iter().filter(|seen| seen.operation != "crm_get").all(|seen| seen.key.is_some()));

    for _ in 0..2 {
        runtime.store().replay(&acme(), seq).await.unwrap().unwrap();
        pass(10).await;
    }
    assert_eq!(asked(&world), first, "nothing is asked twice");
    assert_eq!((runtime.push_log().head(&acme()).await.unwrap(), world.receiver.asked(), program.seen("e1")), (1, 1, 4));
    assert!(world.states("events").await.iter().all(|state| *state == JobState::Done));
    let trail = runtime.audit_tail(&acme(), AuditFilter::default()).await.unwrap();
    let by: Vec<&str> = trail.iter().map(|entry| entry.record.actor.as_str()).collect();
    assert!(by.contains(&"rule:welcome") && by.contains(&"rule:alert:desk"), "{by:?}");
    assert!(trail.iter().filter(|entry| &*entry.record.operation == "crm_charge").all(|entry| entry.record.correlation_id == format!("event-{seq}")));
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
}

const TWO: &str = r#"
rules:
  - name: charge
    on: crm.contact.changed
    tenant: acme
    do:
      - { call: crm_charge, params: { amount: 5 }, as: charge }
      - { call: crm_update, params: { id: "{steps.charge.id}", name: "{steps.charge.secret}" } }
"#;

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_between_effect_and_mark_did_it_once() {
    let world = World::new(TWO);
    world.crm.script("crm_charge", [Step::Ok(json!({ "id": "c1", "secret": "canary" }))]);
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    world.store.die_at(Some("effects"));
    world.event("e1", json!({})).await;
    pass(3).await;
    assert!(world.store.died(), "the vendor has answered, the mark is not written");
    assert_eq!(world.crm.sent("crm_charge"), 1);
    drop((tasks, runtime));
    world.store.die_at(None);
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    pass(90).await;
    assert_eq!((world.crm.sent("crm_charge"), world.crm.sent("crm_update")), (1, 1));
    let update = world.crm.seen().pop().unwrap();
    assert_eq!(Value::Object(update.args), json!({ "id": "c1", "name": "REDACTED" }), "the recorded reply, without what is secret");
    assert_eq!((world.states("events").await, runtime.stats().replays), (vec![JobState::Done], 1));
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_while_the_vendor_works_sends_the_same_key_again_if_the_vendor_takes_one() {
    for (tool, params, repeats) in [("crm_charge", "amount: 5", true), ("crm_create", "email: a", false)] {
        let world = World::new(&format!(
            "rules:\n  - {{ name: r, on: crm.contact.changed, tenant: acme, do: [{{ call: {tool}, params: {{ {params} }} }}] }}"
        ));
        world.crm.script(tool, [Step::Slow(Duration::from_secs(20), json!({}))]);
        let runtime = world.runtime().await;
        let tasks = runtime.start();
        world.event("e1", json!({})).await;
        pass(5).await;
        assert_eq!(world.crm.sent(tool), 1);
        drop((tasks, runtime));
        let runtime = world.runtime().await;
        let tasks = runtime.start();
        pass(3_600).await;
        let keys: Vec<_> = world.crm.seen().into_iter().map(|seen| seen.key).collect();
        let states = world.states("events").await;
        if repeats {
            assert_eq!((keys.len(), &keys[0], states), (2, &keys[1], vec![JobState::Done]));
        } else {
            assert_eq!((keys.len(), states), (1, vec![JobState::Dead]), "nobody can tell, so a person must");
            assert_eq!(world.jobs("events").await[0].last_error.as_ref().unwrap().kind, ErrorKind::Unknown);
        }
        drop(tasks);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_stops_its_own_rule_only_and_finished_ones_are_not_repeated() {
    let world = World::new(
        r#"
rules:
  - name: broken
    on: crm.contact.changed
    tenant: acme
    do: [{ call: crm_get, params: { id: "{payload.nothing}" } }, { push: never }]
  - name: flaky
    on: crm.contact.changed
    tenant: acme
    do:
      - { push: before }
      - { call: crm_find, params: { email: a } }
      - { push: after }
  - name: goes-on
    on: crm.*
    tenant: acme
    on_failure: continue
    do: [{ call: crm_get, params: { id: "9" } }, { push: besides }]
"#,
    );
    world.crm.script("crm_find", [Step::Fail(ErrorKind::Forbidden), Step::Fail(ErrorKind::Quota), Step::Fail(ErrorKind::Throttled)]);
    world.crm.script("crm_get", std::iter::repeat_n(Step::Fail(ErrorKind::NotFound), 50));
    let program = Program::new(nothing);
    let runtime = world.builder().on_event(program.clone()).build().await.unwrap();
    let tasks = runtime.start();
    world.event("e1", json!({})).await;
    pass(3).await;
    // Everything failed for good: a dead letter at once, and yet every rule had its turn.
    assert_eq!((world.states("events").await, program.seen("e1")), (vec![JobState::Dead], 1));
    let error = world.jobs("events").await[0].last_error.clone().unwrap();
    assert!(error.message.contains("rule `broken`, step 1") && error.kind == ErrorKind::Invalid, "{error:?}");
    let topics = async || -> Vec<String> { runtime.push_log().after(&acme(), 0, 10).await.unwrap().into_iter().map(|push| push.topic).collect() };
    assert_eq!(topics().await, ["before", "besides"]);

    // A person sends it again: now one of the failures passes, so it comes again until only the lasting ones are left.
    let dead = runtime.dead_letters(&acme(), JobFilter::default()).await.unwrap();
    assert!(runtime.retry_dead_letter(&acme(), dead[0].id).await.unwrap());
    pass(3_600).await;
    assert_eq!(topics().await, ["before", "besides", "after"]);
    assert_eq!((world.states("events").await, program.seen("e1")), (vec![JobState::Dead], 1), "the program's own part is done");
    assert_eq!(world.jobs("events").await[0].last_error.as_ref().unwrap().kind, ErrorKind::Invalid);
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_sent_again_twice_does_each_effect_once() {
    let world = World::new(
        r#"
rules:
  - name: r
    on: crm.contact.changed
    tenant: acme
    do: [{ call: crm_charge, params: { amount: "{payload.n}" } }, { call: crm_create, params: { email: "{payload.mail}" } }, { forward: erp }]
endpoints:
  erp: { url: "https://erp.example/in", secrets: ["${HOOK_SECRET}"], tenant: acme }
"#,
    );
    world.crm.script("crm_create", std::iter::repeat_n(Step::Fail(ErrorKind::Forbidden), 3));
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    for n in 0..3 {
        world.event(&format!("e{n}"), json!({ "n": n, "mail": format!("{n}@b.c") })).await;
    }
    pass(5).await;
    let all = async || runtime.dead_letters(&acme(), JobFilter::default()).await.unwrap();
    let dead = all().await;
    assert_eq!(dead.len(), 3);
    for _ in 0..2 {
        for job in &dead {
            runtime.retry_dead_letter(&acme(), job.id).await.unwrap();
        }
        for seq in 1..=3 {
            runtime.store().replay(&acme(), seq).await.unwrap();
        }
        pass(60).await;
    }
    assert!(all().await.is_empty());
    assert_eq!((world.crm.sent("crm_charge"), world.crm.sent("crm_create"), world.receiver.asked()), (3, 6, 3), "three creations were refused");
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn poison_gets_three_strikes_and_neighbours_and_rules_are_unharmed() {
    let world = World::new("rules:\n  - { name: r, on: crm.*, tenant: acme, do: [{ call: crm_charge, params: { amount: 1 } }] }");
    let program = Program::new(|id, _| if id == "poison" { panic!("on purpose") } else { Ok(()) });
    let runtime = world.builder().on_event(program.clone()).build().await.unwrap();
    let tasks = runtime.start();
    for id in ["poison", "a", "b", "c"] {
        world.event(id, json!({})).await;
    }
    pass(300).await;
    assert_eq!(world.states("events").await, [JobState::Dead, JobState::Done, JobState::Done, JobState::Done]);
    assert_eq!((program.seen("poison"), world.crm.sent("crm_charge")), (3, 4));
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn events_in_one_lane_keep_their_order_also_when_a_rule_fails() {
    let world = World::new("rules:\n  - { name: r, on: crm.*, tenant: acme, do: [{ call: crm_get, params: { id: \"{payload.id}\" } }] }");
    world.crm.script("crm_get", [Step::Fail(ErrorKind::Quota)]);
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    for (id, lane) in [("1", "a"), ("2", "a"), ("3", "a"), ("4", "b")] {
        world.add(NewEvent { order_key: Some(lane.into()), payload: json!({ "id": id }).to_string().into(), ..event(id) }).await;
    }
    pass(60).await;
    let order: Vec<Value> = asked(&world).into_iter().map(|(_, args)| args["id"].clone()).collect();
    assert_eq!(order, ["1", "4", "1", "2", "3"]);
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_is_done_for_a_step_unless_the_next_ones_need_its_reply() {
    let world = World::new(
        r#"
rules:
  - name: forgets
    on: crm.contact.changed
    tenant: acme
    do: [{ call: crm_charge, params: { amount: 1 } }, { push: forgets }]
  - name: needs
    on: crm.contact.changed
    tenant: acme
    do: [{ call: crm_charge, params: { amount: 2 }, as: charge }, { push: "needs.{steps.charge.n}" }]
"#,
    );
    world.crm.script("crm_charge", std::iter::repeat_n(Step::Fail(ErrorKind::NotSent), 6));
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    world.event("e1", json!({})).await;
    pass(4).await;
    let topics = async || -> Vec<String> { runtime.push_log().after(&acme(), 0, 10).await.unwrap().into_iter().map(|push| push.topic).collect() };
    assert_eq!(topics().await, ["forgets"]);
    assert_eq!(runtime.stats().queued, 2);
    pass(3_600).await;
    let topics = topics().await;
    assert!(topics.len() == 2 && topics[1].starts_with("needs."), "{topics:?}");
    assert_eq!(world.states("events").await, [JobState::Done]);
    assert_eq!(world.crm.sent("crm_charge"), 8, "six failed, two were done");
    drop(tasks);
}

const DELETES: &str = "
rules:
  - { name: r, on: crm.*, tenant: acme, do: [{ call: crm_delete, params: { id: \"7\" }, as: gone }, { push: \"after.{steps.gone.id}\" }] }
  - { name: s, on: crm.*, tenant: acme, do: [{ call: crm_delete, params: { id: \"8\" } }, { push: besides }] }
";

async fn decide(runtime: &Runtime, id: &str, approve: bool) {
    let asked = runtime.approvals(&acme()).await.unwrap();
    let found = asked.iter().find(|approval| approval.arguments["id"] == id && approval.state == ApprovalState::Pending).unwrap();
    assert!(found.requester.starts_with("rule:"), "{}", found.requester);
    let by = connector_core::Actor::User("grace".into());
    if approve {
        runtime.approve(&acme(), &found.id, &by, Role::Approver).await.unwrap();
    } else {
        runtime.deny(&acme(), &found.id, &by, Role::Approver).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_needs_an_approval_is_made_once_it_is_given() {
    let world = World::new(DELETES);
    let runtime = world.runtime().await;
    assert!(runtime.rule_problems().iter().all(|problem| problem.is_warning) && runtime.rule_problems().len() == 2);
    let tasks = runtime.start();
    world.event("e1", json!({})).await;
    pass(200).await;
    let topics = async || -> Vec<String> { runtime.push_log().after(&acme(), 0, 10).await.unwrap().into_iter().map(|push| push.topic).collect() };
    assert_eq!((world.crm.sent("crm_delete"), topics().await), (0, vec!["besides".to_owned()]));
    decide(&runtime, "7", true).await;
    decide(&runtime, "8", false).await;
    pass(3_600).await;
    assert_eq!((world.crm.sent("crm_delete"), topics().await), (1, vec!["besides".to_owned(), "after.7".to_owned()]));
    assert_eq!((world.states("events").await, world.states("approved").await), (vec![JobState::Done], vec![JobState::Done, JobState::Done]));
    assert_eq!(runtime.approvals(&acme()).await.unwrap().len(), 2, "nobody was asked twice");
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_nobody_gives_ends_as_a_dead_letter_that_asks_again() {
    let world = World::new("rules:\n  - { name: r, on: crm.*, tenant: acme, do: [{ call: crm_delete, params: { id: \"7\" } }] }");
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    world.event("e1", json!({})).await;
    pass(2_000).await;
    let dead = runtime.dead_letters(&acme(), JobFilter::default()).await.unwrap();
    assert_eq!((dead.len(), &*dead[0].queue, runtime.approvals(&acme()).await.unwrap().len()), (1, "approved", 1));
    assert!(runtime.retry_dead_letter(&acme(), dead[0].id).await.unwrap());
    pass(5).await;
    decide(&runtime, "7", true).await;
    pass(60).await;
    assert_eq!((world.crm.sent("crm_delete"), world.states("approved").await), (1, vec![JobState::Done]));
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn a_rule_may_do_what_its_events_workspace_may() {
    let world = World::new("rules:\n  - { name: r, on: crm.*, tenant: acme, do: [{ call: crm_get, params: { id: \"7\" } }] }");
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    world.add(NewEvent { workspace: "bots".into(), ..event("e1") }).await;
    pass(5).await;
    assert_eq!((asked(&world).len(), world.states("events").await), (0, vec![JobState::Dead]));
    assert_eq!(world.jobs("events").await[0].last_error.as_ref().unwrap().kind, ErrorKind::Denied);
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_nothing_is_declared_for_is_not_even_parsed() {
    let world = World::new("rules:\n  - { name: r, on: crm.contact.changed, tenant: globex, do: [{ push: x }] }");
    let program = Program::new(nothing);
    let runtime = world.builder().on_event(program.clone()).build().await.unwrap();
    let tasks = runtime.start();
    world.add(NewEvent { event_type: "unheard.of".into(), payload: "{ not json".into(), ..event("e1") }).await;
    pass(2).await;
    assert_eq!((world.states("events").await, program.seen("e1")), (vec![JobState::Done], 1));
    assert_eq!(runtime.stats().rule_steps, 0);
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_none_is_given_up_at_once() {
    let world = World::new("rules:\n  - { name: r, on: crm.*, tenant: acme, do: [{ push: \"a b\" }] }");
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    world.event("e1", json!({})).await;
    pass(2).await;
    assert_eq!(world.states("events").await, [JobState::Dead], "a topic that is none never becomes one");
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn wrong_rules_stop_the_start_with_every_mistake() {
    let text = "
connections: { main: { connector: crm, base_url: \"https://crm.example\" } }
rules:
  - { name: r, on: crm.contact.changd, do: [{ call: crm_gett, params: { id: \"7\" } }, { forward: epr }] }
alerts:
  - { name: a, to: { call: crm_create, params: { emial: \"{alert.txt}\" } } }
";
    let builder = |text: &str| Runtime::builder().connector(crate::fixture::Scripted::new()).config(HubConfig::parse("hub.yaml", text).unwrap());
    let error = builder(text).env(|_| None).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for part in ["`rules[0].do[0].call`", "did you mean `crm_get`?", "`rules[0].do[1].forward`"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    let alerts = text.replace("crm_gett", "crm_get").replace(", { forward: epr }", "");
    let error = builder(&alerts).env(|_| None).build().await.unwrap_err();
    for part in ["`alerts[0].to.params.emial`", "`alerts[0].to.params`: `{alert.txt}` names nothing"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
}

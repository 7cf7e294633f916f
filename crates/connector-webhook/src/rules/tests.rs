//! Rules as people write them: read, checked, chosen, filled.

use bytes::Bytes;
use connector_core::{error::ErrorKind, state::StoredEvent};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

struct Words;

fn desk(name: &str, is_destructive: bool) -> Tool {
    let params = [("title", true), ("items", false), ("priority", false), ("note", false)];
    Tool { name: name.into(), is_destructive, params: params.map(|(name, required)| (name.to_owned(), required)).to_vec() }
}

impl Vocabulary for Words {
    fn tool(&self, name: &str) -> Option<Tool> {
        match name {
            "desk_create_ticket" => Some(desk(name, false)),
            "desk_delete_ticket" => Some(desk(name, true)),
            _ => None,
        }
    }

    fn tools(&self) -> Vec<String> {
        vec!["desk_create_ticket".into(), "desk_delete_ticket".into()]
    }

    fn has_event(&self, connector: &str, kind: &str) -> Option<bool> {
        (connector == "msgraph").then(|| kind == "message_received")
    }

    fn events(&self) -> Vec<String> {
        vec!["msgraph.message_received".into()]
    }

    fn endpoints(&self, tenant: &connector_core::TenantId) -> Vec<String> {
        if tenant.as_str() == "default" { vec!["erp".into()] } else { Vec::new() }
    }
}

fn event(payload: Value) -> StoredEvent {
    StoredEvent {
        seq: 7,
        tenant: "default".into(),
        workspace: "support".into(),
        connector: "msgraph".into(),
        connection: "msgraph".into(),
        event_id: "m-1".into(),
        event_type: "message_received".into(),
        order_key: None,
        flags: Vec::new(),
        payload: Bytes::from(payload.to_string()),
        received_at: 1_795_262_400_000,
        duplicates: 0,
    }
}

fn mail() -> StoredEvent {
    event(
        json!({ "subject": "Printer {event.id}", "from": { "address": "ada@acme.example" }, "importance": "high", "count": 7, "lines": ["a", { "b": 1 }] }),
    )
}

fn compile(rules: Value) -> Result<(RuleSet, Vec<Problem>), Vec<Problem>> {
    let rules: Vec<RuleConfig> = serde_json::from_value(rules).unwrap();
    RuleSet::compile(&rules, &Words)
}

fn set(when: Value, steps: Value) -> RuleSet {
    compile(json!([{ "name": "r", "on": "msgraph.message_received", "when": when, "do": steps }])).unwrap().0
}

fn fits(when: Value) -> bool {
    let (set, facts) = (set(when, json!([{ "alert": "x" }])), Facts::of(&mail()).unwrap());
    set.fitting(&facts).count() == 1
}

#[test]
fn a_condition_compares_what_is_at_a_place() {
    for (condition, holds) in [
        (json!({ "path": ".importance", "equals": "high" }), true),
        (json!({ "path": ".importance", "equals": "low" }), false),
        (json!({ "path": ".count", "equals": 7.0 }), true),
        (json!({ "path": ".count", "equals": "7" }), false),
        (json!({ "path": ".importance", "in": ["low", "high"] }), true),
        (json!({ "path": ".from.address", "matches": "@acme\\.example$" }), true),
        (json!({ "path": ".from.address", "matches": "^acme" }), false),
        (json!({ "path": ".count", "matches": "^7$" }), true),
        (json!({ "path": ".nothing", "exists": false }), true),
        (json!({ "path": ".lines[1].b", "exists": true }), true),
    ] {
        assert_eq!(fits(json!([condition])), holds, "{condition}");
    }
    assert!(!fits(json!([{ "path": ".importance", "equals": "high" }, { "path": ".nothing", "exists": true }])), "all must hold");
}

#[test]
fn a_rule_is_for_its_tenant_its_workspaces_and_its_events() {
    let count = |more: Value| {
        let mut rule = json!({ "name": "r", "on": ["msgraph.*"], "do": [{ "alert": "x" }] });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        compile(json!([rule])).unwrap().0.fitting(&Facts::of(&mail()).unwrap()).count()
    };
    assert_eq!(count(json!({})), 1);
    assert_eq!(count(json!({ "workspaces": ["support"] })), 1);
    assert_eq!(count(json!({ "workspaces": ["sales"] })), 0);
    assert_eq!(count(json!({ "tenant": "other" })), 0);
    assert_eq!(count(json!({ "on": "msgraph.message_received" })), 1);
}

#[test]
fn steps_are_filled_from_event_and_earlier_replies_and_nothing_is_expanded_twice() {
    let set = set(
        json!([]),
        json!([
            { "call": "desk_create_ticket", "as": "ticket",
              "params": { "title": "{payload.subject}", "items": "{payload.lines}", "priority": "{payload.nothing}", "note": "from {payload.from.address}" } },
            { "forward": "erp", "data": { "id": "{steps.ticket.id}", "n": "{payload.count}" } },
            { "push": "ticket.{steps.ticket.id}" },
            { "invalidate": ["contact:{payload.from.address}"] },
            { "alert": "{payload.subject} by {payload.nobody}", "level": "critical" },
        ]),
    );
    let facts = Facts::of(&mail()).unwrap();
    let mut run = set.fitting(&facts).next().unwrap();
    let Effect::Call { tool, params, key, .. } = run.effect(0).unwrap() else { panic!() };
    assert_eq!(&*tool, "desk_create_ticket");
    assert_eq!(
        Value::Object(params),
        json!({ "title": "Printer {event.id}", "items": ["a", { "b": 1 }], "note": "from ada@acme.example" }),
        "types are kept, what is absent is left out, vendor text stays text"
    );
    assert!(run.effect(2).is_err(), "the topic needs a reply that is not there yet");
    run.replied(0, json!({ "id": "T-1" }));
    let Effect::Forward { endpoint, body, key: forwarded } = run.effect(1).unwrap() else { panic!() };
    assert_eq!(
        (&*endpoint, body),
        ("erp", json!({ "type": "msgraph.message_received", "timestamp": "2026-11-21T12:00:00Z", "data": { "id": "T-1", "n": 7 } }))
    );
    let Effect::Push { topic, data, .. } = run.effect(2).unwrap() else { panic!() };
    assert_eq!((topic.as_str(), &data), ("ticket.T-1", facts.payload()));
    assert_eq!(run.effect(3).unwrap(), Effect::Invalidate { connector: "msgraph".into(), tags: vec!["contact:ada@acme.example".into()] });
    let Effect::Alert { level, text, .. } = run.effect(4).unwrap() else { panic!() };
    assert_eq!((level, text.as_str()), (AlertLevel::Critical, "Printer {event.id} by –"));
    assert!(key != forwarded && key.starts_with("rule_") && !key.contains('.'));
}

#[test]
fn the_key_belongs_to_tenant_event_rule_and_step() {
    let key = |event: &StoredEvent, name: &str, step: usize| {
        let rules = json!([{ "name": name, "on": "msgraph.*", "tenant": event.tenant, "do": [{ "push": "a" }, { "push": "a" }] }]);
        let (set, _) = compile(rules).unwrap();
        let facts = Facts::of(event).unwrap();
        let run = set.fitting(&facts).next().unwrap();
        match run.effect(step).unwrap() {
            Effect::Push { key, .. } => key,
            other => panic!("{other:?}"),
        }
    };
    let first = key(&mail(), "r", 0);
    assert_eq!(first, key(&StoredEvent { seq: 99, received_at: 1, duplicates: 4, ..mail() }, "r", 0), "the same event, whenever it is handled");
    let others = [
        key(&mail(), "r", 1),
        key(&mail(), "s", 0),
        key(&StoredEvent { tenant: "other".into(), ..mail() }, "r", 0),
        key(&StoredEvent { event_id: "m-2".into(), ..mail() }, "r", 0),
    ];
    assert!(others.iter().all(|other| *other != first));
}

#[test]
fn every_mistake_is_named_with_its_place_and_the_way_out() {
    let bad = json!([
        { "name": "a", "on": "msgraf.message_received", "do": [{ "call": "desk_create_tiket", "params": { "title": "x" } }] },
        { "name": "a", "on": "msgraph", "when": [{ "path": "from", "equals": 1 }], "do": [] },
        { "name": " ", "on": [], "when": [{ "path": ".a" }, { "path": ".a", "equals": 1, "exists": true }, { "path": ".a", "matches": "(" }, { "path": ".a", "in": [] }],
          "do": [{}, { "push": "a", "alert": "b" }, { "alert": "x", "params": { "a": 1 } }] },
        { "name": "c", "on": "msgraph.*", "do": [
            { "call": "desk_create_ticket", "params": { "titel": "{subject}" } },
            { "forward": "epr" },
            { "push": "{event.ids} {steps.later.id} {steps}" },
            { "alert": "x", "as": "name" },
            { "call": "desk_create_ticket", "params": { "title": "{steps.self.id}" }, "as": "self" },
        ] },
    ]);
    let problems = compile(bad).unwrap_err();
    let shown: Vec<String> = problems.iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn what_may_surprise_is_a_warning() {
    let (set, problems) = compile(json!([
        { "name": "r", "on": "msgraph.mesage_received", "do": [{ "call": "desk_delete_ticket", "params": { "title": "x" } }] },
    ]))
    .unwrap();
    assert_eq!(set.len(), 1);
    let shown: Vec<_> = problems.iter().map(|problem| (problem.key.as_str(), problem.is_warning)).collect();
    assert_eq!(shown, [("rules[0].on", true), ("rules[0].do[0].call", true)]);
    assert!(problems[0].message.contains("did you mean `msgraph.message_received`?"), "{}", problems[0].message);
}

#[test]
fn what_no_rule_is_for_is_known_without_looking_into_it() {
    let (set, _) = compile(json!([
        { "name": "b", "on": "msgraph.*", "do": [{ "alert": "x" }] },
        { "name": "a", "on": ["msgraph.message_received", "msgraph.*"], "workspaces": ["support"], "do": [{ "alert": "x" }] },
        { "name": "c", "on": "msgraph.other", "tenant": "globex", "do": [{ "alert": "x" }] },
    ]))
    .unwrap();
    let unread = |connector: &str, tenant: &str| StoredEvent {
        connector: connector.into(),
        tenant: tenant.into(),
        event_type: "other".into(),
        payload: Bytes::from_static(b"{"),
        ..mail()
    };
    assert!(set.concerns(&unread("msgraph", "default")) && set.concerns(&unread("msgraph", "globex")));
    assert!(!set.concerns(&unread("hubspot", "default")) && !set.concerns(&unread("msgraph", "acme")));
    let names = |event: &StoredEvent| set.fitting(&Facts::of(event).unwrap()).map(|run| run.rule().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&mail()), ["b", "a"], "as they were written, each once");
    assert_eq!(names(&StoredEvent { event_type: "undeclared".into(), ..mail() }), ["b", "a"]);
    assert_eq!(names(&StoredEvent { tenant: "globex".into(), event_type: "other".into(), ..mail() }), ["c"]);
}

#[test]
fn an_endpoint_of_another_tenant_looks_like_none_and_names_of_alerts_are_taken() {
    let problems = compile(json!([
        { "name": "r", "on": "msgraph.*", "tenant": "globex", "do": [{ "forward": "erp" }] },
        { "name": "alert:ops", "on": "msgraph.*", "do": [{ "alert": "x" }] },
    ]))
    .unwrap_err();
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["rules[0].do[0].forward", "rules[1].name"]);
}

#[test]
fn unknown_keys_are_not_read_over() {
    for rule in [
        json!({ "name": "r", "on": "msgraph.*", "do": [{ "cal": "x" }] }),
        json!({ "name": "r", "on": "msgraph.*", "do": [{ "alert": "x" }], "if": "a > b" }),
        json!({ "name": "r", "on": "msgraph.*", "do": [{ "alert": "x" }], "when": [{ "path": ".a", "gt": 3 }] }),
    ] {
        assert!(serde_json::from_value::<RuleConfig>(rule).is_err());
    }
}

#[test]
fn an_event_that_is_not_json_is_our_own_fault() {
    let broken = StoredEvent { payload: Bytes::from_static(b"{"), ..mail() };
    assert_eq!(Facts::of(&broken).unwrap_err().kind(), ErrorKind::Internal);
}

proptest! {
    #[test]
    fn no_payload_makes_a_step_panic_or_run_over(text in "\\PC{0,60}", number in any::<i64>(), deep in 0..40usize) {
        let mut payload = json!({ "subject": text, "count": number, "from": { "address": text } });
        for _ in 0..deep {
            payload = json!({ "subject": payload });
        }
        let set = set(json!([{ "path": ".subject", "exists": true }]), json!([
            { "call": "desk_create_ticket", "params": { "title": "{payload.subject}", "note": "{payload.from.address}!" } },
            { "alert": "{payload.subject}{payload.count}" },
        ]));
        let facts = Facts::of(&event(payload)).unwrap();
        for run in set.fitting(&facts) {
            for at in 0..run.len() {
                prop_assert!(run.effect(at).is_ok());
            }
        }
    }

    #[test]
    fn an_expression_that_explodes_elsewhere_is_linear_here(count in 1..2_000usize) {
        let set = set(json!([{ "path": ".subject", "matches": "^(a+)+$" }]), json!([{ "alert": "x" }]));
        let facts = Facts::of(&event(json!({ "subject": format!("{}!", "a".repeat(count)) }))).unwrap();
        prop_assert_eq!(set.fitting(&facts).count(), 0);
    }
}

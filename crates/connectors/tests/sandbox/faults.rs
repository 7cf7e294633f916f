//! Bad days: storms of 429, tokens that end in the middle, web pages instead of data, half answers.

use connector_sandbox::{EffectKind, FaultKind, FaultProfile, Sandbox, known};
use connectors::{ErrorKind, hubspot::HubSpot};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::world::{cmdb, hubspot, mail, msgraph, tireless};

#[tokio::test]
async fn a_storm_of_429_is_waited_out_without_an_error() {
    let sandbox = Sandbox::builder().seed(7).start("127.0.0.1:0").await.unwrap();
    let graph = msgraph(&sandbox, &tireless());
    sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", &mail("a@client.example")).unwrap();
    let hubspot = HubSpot::from_client(hubspot(&sandbox, &tireless()));
    let netbox = cmdb(&sandbox, "netbox", tireless());
    sandbox.faults().set(FaultProfile { throttled: 0.3, retry_after: vec![0], ..FaultProfile::none() });
    for round in 0..40 {
        let contact = hubspot.list_contacts().send().await.unwrap();
        assert!(!contact.output.results.is_empty());
        // An unsafe write that was throttled was not done, so it is sent again.
        let name = format!("Storm {round}");
        hubspot.create_company([("name".to_owned(), name)].into_iter().collect()).await.unwrap();
        graph.call_dynamic("msgraph_list_messages", json!({ "top": 5 }).as_object().unwrap().clone()).await.unwrap();
        assert!(netbox.find_ci_by_name("web01").await.unwrap().is_some());
    }
    assert_eq!(sandbox.ledger().count(EffectKind::RecordCreated), 40);
    assert!(sandbox.faults().count(FaultKind::Throttled) > 50, "{:?}", sandbox.faults().counts());
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_is_renewed_once_for_all_callers() {
    let sandbox = Sandbox::builder().vendor("msgraph").start("127.0.0.1:0").await.unwrap();
    let graph = msgraph(&sandbox, &tireless());
    let read = || async { graph.call_dynamic("msgraph_list_folders", serde_json::Map::new()).await.map(|reply| reply.meta.status) };
    assert_eq!(read().await.unwrap(), 200);
    sandbox.msgraph().expire_tokens();
    let statuses: Vec<_> = stream::iter(0..16).map(|_| read()).buffer_unordered(16).collect().await;
    assert!(statuses.iter().all(|status| status.as_ref().is_ok_and(|status| *status == 200)), "{statuses:?}");
    assert_eq!(sandbox.msgraph().tokens_issued(), 2, "one for the start, one for everybody after the end");
    // A write that was answered 401 was not carried out, so it is sent again, and once.
    sandbox.msgraph().expire_tokens();
    let args = json!({ "subject": "Hi", "body": "x", "to": [{ "emailAddress": { "address": "ann@client.example" } }] });
    graph.call_dynamic("msgraph_send_mail", args.as_object().unwrap().clone()).await.unwrap();
    assert_eq!((sandbox.ledger().count(EffectKind::MailSent), sandbox.msgraph().tokens_issued()), (1, 3));
}

#[tokio::test]
async fn a_web_page_or_half_an_answer_is_never_data_and_never_a_second_write() {
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let client = hubspot(&sandbox, &tireless());
    let hubspot = HubSpot::from_client(client.clone());
    let note = json!({ "timestamp": "2026-01-02T03:04:05Z", "body": "Called back." });
    for (profile, written) in [(FaultProfile { html: 1.0, ..FaultProfile::none() }, 0), (FaultProfile { truncated: 1.0, ..FaultProfile::none() }, 1)]
    {
        sandbox.faults().set(profile);
        let error = hubspot.list_contacts().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        let error = client.call_dynamic("hubspot_create_note", note.as_object().unwrap().clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
        assert_eq!(sandbox.ledger().count(EffectKind::RecordCreated), written);
        for profile in ["netbox", "servicenow"] {
            let error = cmdb(&sandbox, profile, tireless()).find_ci_by_name("web01").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{profile}: {error}");
        }
        let error = msgraph(&sandbox, &tireless()).call_dynamic("msgraph_list_folders", serde_json::Map::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
    sandbox.faults().set(FaultProfile::none());
    assert!(!hubspot.list_contacts().await.unwrap().results.is_empty());
}

#[tokio::test]
async fn a_cut_write_that_can_be_looked_up_is_found_and_not_made_twice() {
    let sandbox = Sandbox::builder().vendor("hubspot").seed(11).start("127.0.0.1:0").await.unwrap();
    let hubspot = HubSpot::from_client(hubspot(&sandbox, &tireless()));
    sandbox.faults().set(FaultProfile { cut: 0.3, ..FaultProfile::none() });
    for number in 0..60 {
        let email = format!("cut{number}@client.example");
        hubspot.create_contact([("email".to_owned(), email)].into_iter().collect()).await.unwrap();
    }
    assert!(sandbox.faults().count(FaultKind::Cut) > 15, "{:?}", sandbox.faults().counts());
    assert_eq!(sandbox.ledger().count(EffectKind::RecordCreated), 60);
}

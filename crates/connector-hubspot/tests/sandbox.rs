//! The client over HTTP against the stateful fake of the sandbox: what one operation writes, another one finds.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, sync::Arc};

use connector_core::{ErrorKind, delta::Change};
use connector_http::{EgressPolicy, HttpTransport};
use connector_hubspot::HubSpot;
use connector_sandbox::Sandbox;
use futures_util::TryStreamExt as _;

async fn hubspot() -> (Sandbox, HubSpot) {
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let token = sandbox.credentials().into_iter().find(|credential| credential.vendor == "hubspot" && credential.name == "token").unwrap().value;
    let hubspot = HubSpot::builder().token(token).base_url(sandbox.base_url("hubspot")).transport(Arc::new(transport)).build().unwrap();
    (sandbox, hubspot)
}

fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_sender_is_known_with_tier_and_deals() {
    let (_sandbox, hubspot) = hubspot().await;
    hubspot.ensure_property("companies", "hub_tier", "Hub tier", "companyinformation").await.unwrap();
    let contact = hubspot.create_contact(properties(&[("email", "grace@harbour.example"), ("lifecyclestage", "opportunity")])).await.unwrap();
    let company = hubspot.create_company(properties(&[("name", "Harbour"), ("domain", "harbour.example"), ("hub_tier", "gold")])).await.unwrap();
    assert_eq!(hubspot.tier_of("grace@harbour.example").await.unwrap(), "standard");

    hubspot.associate("contacts", &contact.id, "companies", &company.id).await.unwrap();
    assert_eq!(hubspot.tier_of("Grace@Harbour.example").await.unwrap(), "gold");
    assert_eq!(hubspot.tier_of("nobody@nowhere.example").await.unwrap(), "standard");

    assert!(!hubspot.is_prospect_by_email("grace@harbour.example").await.unwrap());
    let pipelines = hubspot.list_pipelines("deals").await.unwrap();
    let pipeline = &pipelines.results[0];
    let open = pipeline
        .stages
        .iter()
        .find(|stage| stage.metadata.as_ref().is_some_and(|facts| facts.get("isClosed").is_some_and(|closed| closed == "false")));
    let deal = properties(&[("dealname", "Harbour lights"), ("pipeline", &pipeline.id), ("dealstage", &open.unwrap().id)]);
    let deal = hubspot.create_deal(deal).await.unwrap();
    hubspot.associate("deals", &deal.id, "contacts", &contact.id).await.unwrap();
    assert!(hubspot.is_prospect_by_email("grace@harbour.example").await.unwrap());

    let context = hubspot.deal_context(&deal.id).await.unwrap();
    assert_eq!((context.deal.id, context.contacts.len()), (deal.id, 1));
}

#[tokio::test]
async fn what_is_written_is_found_and_what_is_archived_is_seen_as_gone() {
    let (_sandbox, hubspot) = hubspot().await;
    let made = hubspot.create_contact(properties(&[("email", "kay@harbour.example")])).await.unwrap();
    let again = hubspot.create_contact(properties(&[("email", "kay@harbour.example")])).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    let found = hubspot.get_contact_by_email("kay@harbour.example").await.unwrap().unwrap();
    assert_eq!(found.id, made.id);
    assert!(hubspot.get_contact_by_email("nobody@harbour.example").await.unwrap().is_none());
    let listed: Vec<_> = hubspot.list_contacts().items().try_collect().await.unwrap();
    assert!(listed.iter().any(|contact| contact.id == made.id));

    let delta = hubspot.client().connector().delta().unwrap();
    let cx = hubspot.client().cx();
    let mut page = delta.changes(cx, "contacts", None).await.unwrap();
    let mut seen = page.changes.clone();
    while page.more {
        page = delta.changes(cx, "contacts", Some(page.next)).await.unwrap();
        seen.extend(page.changes.clone());
    }
    assert!(seen.iter().any(|change| matches!(change, Change::Upsert { key, .. } if *key == made.id)));

    hubspot.archive_contact(&made.id).await.unwrap();
    let mut gone = false;
    loop {
        page = delta.changes(cx, "contacts", Some(page.next)).await.unwrap();
        gone |= page.changes.iter().any(|change| matches!(change, Change::Delete { key } if *key == made.id));
        if !page.more {
            break;
        }
    }
    assert!(gone, "the second round sees the deletion");
}

#[tokio::test]
async fn a_batch_names_the_rows_that_failed() {
    let (_sandbox, hubspot) = hubspot().await;
    let made = hubspot.create_contact(properties(&[("email", "lin@harbour.example")])).await.unwrap();
    let inputs = [&made.id, "999999999"].map(|id| {
        let mut input = connector_hubspot::models::RecordId::default();
        input.id = id.to_owned();
        input
    });
    let page = hubspot.batch_read_contacts(inputs.to_vec()).send().await.unwrap();
    assert_eq!(page.output.results.len(), 1);
    assert_eq!(page.partial.iter().map(|row| (row.index, row.kind)).collect::<Vec<_>>(), [(Some(1), ErrorKind::NotFound)]);
    let upserted = hubspot.upsert_contact("lin@harbour.example", properties(&[("firstname", "Lin")])).await.unwrap();
    assert_eq!((upserted.id, upserted.new), (made.id, Some(false)));
}

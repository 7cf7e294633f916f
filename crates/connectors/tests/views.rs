//! Capability views over the fakes of the vendors: one suite per view, run over every connector that fulfils it, with the same assertions.
//!
//! Passing says that the same words mean the same over each of them here; it says nothing about an account at a vendor.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "sandbox/world.rs"]
#[allow(dead_code, reason = "this file needs the clients only")]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use connector_sandbox::{EffectKind, Sandbox, known, mail::MailServer};
use connectors::{
    CallCx, Client, ErrorKind, Result,
    core::{
        auth::{AuthProvider, CredentialUse},
        spec::views::{self as words, CUSTOM, SOURCE, ViewKind},
        transport::Head,
    },
    manifest::ConnectionOptions,
    views::{self, Chat as _, Cmdb as _, ContactFields, Crm as _, DealFields, Draft, Listing, Mailbox as _, View},
};
use http::{HeaderValue, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::world::tireless;

async fn sandbox(vendor: &str) -> Sandbox {
    Sandbox::builder().vendor(vendor).start("127.0.0.1:0").await.unwrap()
}

fn slack(sandbox: &Sandbox) -> Client {
    use connectors::slack::Slack;
    Slack::builder()
        .token(known::SLACK_BOT_TOKEN)
        .base_url(sandbox.base_url("slack"))
        .transport(world::transport())
        .resilience(tireless())
        .build()
        .unwrap()
        .client()
        .clone()
}

/// A credential as it is shown: a signed-in person's token, which Teams wants of who writes, or a mailbox's password.
#[derive(Debug)]
struct Shown(String);

#[async_trait]
impl AuthProvider for Shown {
    async fn authorize(&self, _: &CallCx, head: &mut Head, _: &Bytes) -> Result<CredentialUse> {
        head.headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&self.0).unwrap());
        Ok(CredentialUse::FIXED)
    }

    async fn rejected(&self, _: &CallCx, _: &CredentialUse) -> Result<bool> {
        Ok(false)
    }
}

fn teams(sandbox: &Sandbox) -> Client {
    use connectors::msgraph::{ID, hooks, manifest};
    let settings = [("tenant_id", known::GRAPH_TENANT), ("mailbox", known::GRAPH_MAILBOX), ("access", "delegated")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let options = ConnectionOptions { base_url: Some(sandbox.base_url(ID)), settings, ..ConnectionOptions::default() };
    let connection = connectors::manifest::connection(&manifest(), ID, options, &|_| None).unwrap();
    let token = sandbox.msgraph().delegated_token(&["ChannelMessage.Send", "ChannelMessage.Read.All", "Channel.ReadBasic.All"]);
    connectors::manifest::open(manifest(), hooks(), connection, world::transport(), Arc::new(Shown(format!("Bearer {token}"))), &tireless()).unwrap()
}

/// The suites run over these. A connector that fulfils a view and is not here fails `every_connector_that_fulfils_a_view_is_in_its_suite`.
const CRM: [&str; 1] = ["hubspot"];
const MAILBOX: [&str; 2] = ["email", "msgraph"];
const CHAT: [&str; 2] = ["msgraph", "slack"];
const CMDB: [&str; 1] = ["cmdb"];

/// Connectors that fulfil a view and that no suite is run over, each with its reason: view, connector, why.
const NOT_IN_SUITE: [(&str, &str, &str); 1] =
    [("crm", "salesforce", "it has no find_company and no log_note; what it has is in `crm_over_salesforce`")];

#[test]
fn every_connector_that_fulfils_a_view_is_in_its_suite() {
    let suites: BTreeMap<&str, &[&str]> = [("crm", &CRM[..]), ("mailbox", &MAILBOX), ("chat", &CHAT), ("cmdb", &CMDB)].into();
    for built in connectors::builtins() {
        for view in (built.manifest)().views.keys() {
            let excused = NOT_IN_SUITE.iter().any(|(of, id, _)| *of == view.as_str() && *id == built.id);
            assert!(suites[view.as_str()].contains(&built.id) != excused, "`{}` fulfils `{view}`, but no suite runs over it", built.id);
        }
    }
    for (view, over) in suites {
        for id in over {
            let built = connectors::builtins().into_iter().find(|built| built.id == *id).unwrap();
            assert!((built.manifest)().views.contains_key(view), "`{id}` does not fulfil `{view}`");
        }
    }
}

/// Every record says where it came from and is what the vocabulary promises.
fn sound(view: &str, model: &str, connector: &str, record: &impl Serialize) {
    let record = serde_json::to_value(record).unwrap();
    let op = words::tools().iter().find(|tool| tool.view.id == view && tool.op.gives.model() == model).unwrap();
    let mut schema = op.spec.output_schema.clone();
    schema = json!({ "$ref": format!("#/$defs/{model}"), "$defs": schema["$defs"] }).into();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let wrong: Vec<String> = validator.iter_errors(&record).map(|error| format!("{error} at {}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{model} over {connector}: {wrong:?} in {record}");
    assert_eq!(record["source"]["connector"], connector);
}

#[tokio::test]
async fn crm_means_the_same_over_all_of_them() {
    for id in CRM {
        let sandbox = sandbox(id).await;
        let client = match id {
            "hubspot" => world::hubspot(&sandbox, &tireless()),
            other => panic!("give `{other}` a client here"),
        };
        crm(id, &views::crm(client).unwrap(), own_words(id)).await;
    }
}

#[tokio::test]
async fn crm_over_salesforce() {
    let sandbox = sandbox("salesforce").await;
    let salesforce = connectors::salesforce::Salesforce::builder()
        .base_url(sandbox.base_url("salesforce"))
        .token(known::SALESFORCE_TOKEN)
        .transport(world::transport())
        .resilience(tireless())
        .build()
        .unwrap();
    let crm = views::crm(salesforce.client().clone()).unwrap();
    assert!(crm.find_contact("nobody@client.example", &[]).await.unwrap().is_none());
    let own = |value: &str| [("Hub_Id__c".to_owned(), json!(value))].into_iter().collect();
    let fields = ContactFields {
        email: Some("ada@client.example".into()),
        first_name: Some("Ada".into()),
        last_name: Some("O'Byron".into()),
        custom: own("h-1"),
        ..ContactFields::default()
    };
    let made = crm.create_contact(fields).await.unwrap();
    let found = crm.find_contact("ada@client.example", &[]).await.unwrap().unwrap();
    sound("crm", "Contact", "salesforce", &found);
    assert_eq!((&found.id, found.last_name.as_deref(), found.custom.get("Hub_Id__c")), (&made.id, Some("O'Byron"), Some(&json!("h-1"))));
    crm.update_contact(&made.id, ContactFields { phone: Some("+44 1".into()), custom: own("h-2"), ..ContactFields::default() }).await.unwrap();
    let again = crm.get_contact(&made.id, &[]).await.unwrap();
    assert_eq!((again.phone.as_deref(), again.first_name.as_deref()), (Some("+44 1"), Some("Ada")), "what is not named stays");
    assert_eq!(again.custom.get("Hub_Id__c"), Some(&json!("h-2")));
    assert!(crm.list_contacts(Listing::default()).await.unwrap().items.iter().any(|one| one.id == made.id));
    assert!(crm.search_contacts("Byron", Listing::limit(5)).await.unwrap().items.iter().any(|one| one.id == made.id));
    let deal = DealFields {
        name: Some("A big one".into()),
        stage: Some("Prospecting".into()),
        amount: Some(1250.5),
        close_date: Some("2026-12-31".into()),
        ..DealFields::default()
    };
    let deal = crm.create_deal(deal).await.unwrap();
    let deal = crm.get_deal(&deal.id, &[]).await.unwrap();
    sound("crm", "Deal", "salesforce", &deal);
    assert_eq!((deal.name.as_deref(), deal.amount), (Some("A big one"), Some(1250.5)));
    assert_eq!(crm.find_company("nobody.example", &[]).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

/// A field of the vendor's own that its fake knows, a stage of a deal, and the pipeline it is of, where one has to be named.
fn own_words(id: &str) -> (&'static str, &'static str, Option<&'static str>) {
    match id {
        "hubspot" => ("hs_lead_status", "appointmentscheduled", Some("default")),
        other => panic!("say which field of its own `{other}` has"),
    }
}

async fn crm(id: &str, crm: &View, (own, stage, pipeline): (&str, &str, Option<&str>)) {
    assert!(crm.find_contact("nobody@client.example", &[]).await.unwrap().is_none(), "{id}");
    let fields = ContactFields {
        email: Some("ada@client.example".into()),
        first_name: Some("Ada".into()),
        last_name: Some("Byron".into()),
        phone: Some("+44 20 7946 0000".into()),
        custom: [(own.to_owned(), json!("gold"))].into_iter().collect(),
        ..ContactFields::default()
    };
    let made = crm.create_contact(fields).await.unwrap();
    assert!(!made.id.is_empty() && made.source.connector == id, "{id}: {made:?}");
    let found = crm.find_contact("ada@client.example", &[own]).await.unwrap().unwrap();
    sound("crm", "Contact", id, &found);
    assert_eq!((&found.id, found.email.as_deref()), (&made.id, Some("ada@client.example")), "{id}");
    assert_eq!((found.first_name.as_deref(), found.last_name.as_deref()), (Some("Ada"), Some("Byron")), "{id}");
    assert_eq!(found.custom.get(own), Some(&json!("gold")), "{id}: {:?}", found.custom);
    assert!(found.created_at.as_deref().is_some_and(|at| at.ends_with('Z')), "{id}: {:?}", found.created_at);

    let change = ContactFields {
        phone: Some("+44 20 7946 0001".into()),
        custom: [(own.to_owned(), json!("silver"))].into_iter().collect(),
        ..ContactFields::default()
    };
    let changed = crm.update_contact(&made.id, change).await.unwrap();
    assert_eq!(changed.id, made.id, "{id}");
    let again = crm.get_contact(&made.id, &[own]).await.unwrap();
    sound("crm", "Contact", id, &again);
    assert_eq!((again.phone.as_deref(), again.first_name.as_deref()), (Some("+44 20 7946 0001"), Some("Ada")), "{id}: what is not named stays");
    assert_eq!(again.custom.get(own), Some(&json!("silver")), "{id}");

    assert_eq!(crm.get_contact("999999999", &[]).await.unwrap_err().kind(), ErrorKind::NotFound, "{id}");
    let searched = crm.search_contacts("Byron", Listing::limit(5)).await.unwrap();
    assert!(searched.items.iter().all(|one| !one.id.is_empty()) && searched.items.len() <= 5, "{id}");

    let first = crm.list_contacts(Listing::limit(1)).await.unwrap();
    assert_eq!(first.items.len(), 1, "{id}");
    if first.more {
        let second = crm.list_contacts(Listing::limit(1).after(first.next)).await.unwrap();
        assert_ne!(first.items[0].id, second.items[0].id, "{id}: the cursor leads on");
    }

    let deal = DealFields {
        name: Some("A big one".into()),
        stage: Some(stage.into()),
        amount: Some(1250.5),
        pipeline: pipeline.map(str::to_owned),
        ..DealFields::default()
    };
    let deal = crm.create_deal(deal).await.unwrap();
    crm.update_deal(&deal.id, DealFields { amount: Some(99.0), ..DealFields::default() }).await.unwrap();
    let deal = crm.get_deal(&deal.id, &[]).await.unwrap();
    sound("crm", "Deal", id, &deal);
    assert_eq!((deal.name.as_deref(), deal.stage.as_deref(), deal.amount), (Some("A big one"), Some(stage), Some(99.0)), "{id}");
    assert!(crm.list_deals(Listing::default()).await.unwrap().items.iter().any(|one| one.id == deal.id), "{id}");
    crm.search_deals("big", Listing::limit(5)).await.unwrap();

    assert!(crm.find_company("nobody.example", &[]).await.unwrap().is_none(), "{id}");
    for company in crm.search_companies("a", Listing::limit(2)).await.unwrap().items {
        sound("crm", "Company", id, &company);
        assert_eq!(crm.get_company(&company.id, &[]).await.unwrap().name, company.name, "{id}");
    }
    let note = crm.log_note(&made.id, "Called back.", "2026-01-02T03:04:05Z").await.unwrap();
    assert!(!note.id.is_empty() && note.source.connector == id, "{id}: {note:?}");
}

/// A mailbox on a mail server of its own, over IMAP and SMTP.
fn email(server: &MailServer, address: &str, password: &str) -> Client {
    use connectors::email::{ID, hooks, manifest};
    let settings = [
        ("preset", "custom".to_owned()),
        ("address", address.to_owned()),
        ("imap_host", "127.0.0.1".to_owned()),
        ("imap_port", server.imap().port().to_string()),
        ("imap_security", "none".to_owned()),
        ("smtp_host", "127.0.0.1".to_owned()),
        ("smtp_port", server.smtp().port().to_string()),
        ("smtp_security", "none".to_owned()),
        ("allow_plaintext_loopback", "true".to_owned()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
    let options = ConnectionOptions { base_url: Some("https://127.0.0.1".into()), settings, ..ConnectionOptions::default() };
    let connection = connectors::manifest::connection(&manifest(), ID, options, &|_| None).unwrap();
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{address}:{password}")));
    connectors::manifest::open(manifest(), hooks(), connection, world::transport(), Arc::new(Shown(basic)), &tireless()).unwrap()
}

#[tokio::test]
async fn mailbox_means_the_same_over_all_of_them() {
    let arrived = world::mail("a@client.example");
    for id in MAILBOX {
        match id {
            "msgraph" => {
                let sandbox = sandbox(id).await;
                sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", &arrived).unwrap();
                mailbox(id, &views::mailbox(world::msgraph(&sandbox, &tireless())).unwrap()).await;
            }
            "email" => {
                let server = MailServer::builder().empty().account(known::GRAPH_MAILBOX, "secret", "token").start().await.unwrap();
                server.deliver(known::GRAPH_MAILBOX, "INBOX", &arrived).unwrap();
                mailbox(id, &views::mailbox(email(&server, known::GRAPH_MAILBOX, "secret")).unwrap()).await;
            }
            other => panic!("give `{other}` a mailbox with one message here"),
        }
    }
}

async fn mailbox(id: &str, mailbox: &View) {
    let unread = mailbox.list_unread(None, None, Listing::limit(10)).await.unwrap();
    assert_eq!(unread.items.len(), 1, "{id}: {unread:?}");
    let message = &*unread.items[0].id;
    let one = mailbox.get_message(message).await.unwrap();
    sound("mailbox", "Message", id, &one);
    assert_eq!((one.subject.as_deref(), one.read), (Some("Printer down"), Some(false)), "{id}");
    assert_eq!(one.from.and_then(|from| from.address).as_deref(), Some("ann@client.example"), "{id}");
    assert_eq!(one.to.iter().filter_map(|to| to.address.as_deref()).collect::<Vec<_>>(), ["support@contoso.example"], "{id}");
    assert_eq!(one.cc.iter().filter_map(|cc| cc.address.as_deref()).collect::<Vec<_>>(), ["bob@client.example"], "{id}");
    assert!(one.body.is_some_and(|body| body.contains("It burns.")), "{id}");
    assert_eq!(mailbox.search("printer", Listing::default()).await.unwrap().items.len(), 1, "{id}");

    mailbox.mark_read(message).await.unwrap();
    mailbox.label(message, &["Blue"]).await.unwrap();
    let one = mailbox.get_message(message).await.unwrap();
    assert_eq!((one.read, one.labels), (Some(true), vec!["Blue".to_owned()]), "{id}");
    mailbox.unlabel(message, &["Blue"]).await.unwrap();
    mailbox.mark_unread(message).await.unwrap();
    let one = mailbox.get_message(message).await.unwrap();
    assert_eq!((one.read, one.labels), (Some(false), vec![]), "{id}");

    let folders = mailbox.list_folders(Listing::default()).await.unwrap();
    assert!(!folders.items.is_empty(), "{id}");
    folders.items.iter().for_each(|folder| sound("mailbox", "Folder", id, folder));
    let answer = mailbox.reply(message, "We look into it.").await.unwrap();
    sound("mailbox", "Receipt", id, &answer);
    let new = || Draft { to: vec!["bob@client.example".into()], subject: "News".into(), body: "It is out.".into(), ..Draft::default() };
    mailbox.send(new()).await.unwrap();
    let kept = mailbox.draft(new()).await.unwrap();
    let kept = mailbox.get_message(&kept.id.unwrap()).await.unwrap();
    assert_eq!((kept.subject.as_deref(), kept.to[0].address.as_deref()), (Some("News"), Some("bob@client.example")), "{id}");
    assert_ne!(kept.draft, Some(false), "{id}");
    mailbox.move_message(message, "archive").await.unwrap();
    let left = mailbox.list_messages(None, Listing::limit(10)).await.unwrap();
    assert!(left.items.iter().all(|one| one.id != message), "{id}");
}

#[tokio::test]
async fn chat_means_the_same_over_all_of_them() {
    for id in CHAT {
        let sandbox = sandbox(id).await;
        let (view, channel, reaction) = match id {
            "slack" => (views::chat(slack(&sandbox)).unwrap(), "general", "thumbsup"),
            "msgraph" => (views::chat(teams(&sandbox)).unwrap().in_team(known::GRAPH_TEAM), "Alerts", "👍"),
            other => panic!("give `{other}` a client, a channel and a reaction here"),
        };
        chat(id, &view, channel, reaction).await;
        let said = sandbox.ledger().effects().iter().filter(|effect| effect.kind == EffectKind::ChatPosted).count();
        assert_eq!(said, 2, "{id}: a message and an answer, each once");
    }
}

async fn chat(id: &str, chat: &View, name: &str, reaction: &str) {
    assert!(chat.find_channel("there-is-none").await.unwrap().is_none(), "{id}");
    let channel = chat.find_channel(name).await.unwrap().unwrap();
    sound("chat", "Channel", id, &channel);
    assert_eq!(channel.name.as_deref(), Some(name), "{id}");
    assert_eq!(chat.get_channel(&channel.id).await.unwrap().name, channel.name, "{id}");
    assert!(chat.list_channels(Listing::default()).await.unwrap().items.iter().any(|one| one.id == channel.id), "{id}");
    let said = chat.send_message(&channel.id, "The deploy is done.").await.unwrap().id.unwrap();
    let answer = chat.reply_to(&channel.id, &said, "Thanks.").await.unwrap();
    chat.react(&channel.id, &said, reaction).await.unwrap();
    let page = chat.read_channel(&channel.id, Listing::limit(20)).await.unwrap();
    let one = page.items.iter().find(|one| one.id == said).unwrap_or_else(|| panic!("{id}: {page:?}"));
    sound("chat", "Message", id, one);
    assert_eq!((one.text.as_deref(), one.channel.as_deref()), (Some("The deploy is done."), Some(&*channel.id)), "{id}");
    assert!(one.sent_at.as_deref().is_some_and(|at| at.ends_with('Z')), "{id}: {one:?}");
    let thread = chat.read_thread(&channel.id, &said, Listing::default()).await.unwrap();
    assert!(thread.items.iter().any(|one| Some(&one.id) == answer.id.as_ref() && one.text.as_deref() == Some("Thanks.")), "{id}: {thread:?}");
}

#[tokio::test]
async fn cmdb_means_the_same_over_all_of_them() {
    for id in CMDB {
        for (system, class, own, value) in [("netbox", "cluster", "status", "offline"), ("servicenow", "linux_server", "operational_status", "6")] {
            let sandbox = sandbox(id).await;
            let client = match id {
                "cmdb" => world::cmdb(&sandbox, system, tireless()).client().clone(),
                other => panic!("give `{other}` a client here"),
            };
            cmdb(&format!("{id} on {system}"), &views::cmdb(client).unwrap(), class, (own, value)).await;
        }
    }
}

async fn cmdb(id: &str, cmdb: &View, class: &str, (own, value): (&str, &str)) {
    assert!(cmdb.find_item("there-is-none", None).await.unwrap().is_none(), "{id}");
    let web = cmdb.find_item("web01", None).await.unwrap().unwrap();
    sound("cmdb", "Item", "cmdb", &web);
    let same = cmdb.get_item(&web.id).await.unwrap().unwrap();
    assert_eq!((same.name.as_deref(), &same.class), (Some("web01"), &web.class), "{id}");
    assert!(!same.custom.is_empty(), "{id}: the system's own fields are kept");
    assert!(cmdb.search_items("web", None, Listing::default()).await.unwrap().items.iter().any(|one| one.id == web.id), "{id}");
    let few = cmdb.search_items("web", None, Listing::limit(1)).await.unwrap();
    assert!(few.items.len() == 1 && few.more, "{id}: a list that was cut says so");
    assert_eq!(cmdb.owners(&web.id).await.unwrap().items[0].name, "Web Operations", "{id}");
    let shop = cmdb.find_item("shop", None).await.unwrap().unwrap();
    let down = cmdb.dependencies(&shop.id, Some(8)).await.unwrap();
    assert!(down.items.iter().any(|one| one.name.as_deref() == Some("stor01")), "{id}: {down:?}");
    let store = cmdb.find_item("stor01", None).await.unwrap().unwrap();
    let up = cmdb.impact(&[&store.id], Some(8)).await.unwrap();
    assert!(up.items.iter().any(|one| one.name.as_deref() == Some("shop") && one.distance.is_some()), "{id}: {up:?}");
    for relation in cmdb.list_relations(&web.id, Some("dependencies")).await.unwrap().items {
        sound("cmdb", "Relation", "cmdb", &relation);
        assert_eq!(relation.from, web.id, "{id}");
    }
    let made = cmdb.create_item(class, "made-here", serde_json::Map::new()).await.unwrap();
    assert_eq!(made.name.as_deref(), Some("made-here"), "{id}");
    let changed = cmdb.update_item(&made.id, [(own.to_owned(), json!(value))].into_iter().collect()).await.unwrap();
    assert_eq!(changed.id, made.id, "{id}");
}

#[tokio::test]
async fn what_a_connector_does_not_do_names_who_does() {
    let sandbox = sandbox("slack").await;
    let error = views::crm(slack(&sandbox)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().starts_with("`slack` does not fulfil the view `crm`; these do: `hubspot`"), "{}", error.message());
    let chat = views::chat(slack(&sandbox)).unwrap();
    assert!(chat.can("chat", "react") && !chat.can("crm", "find_contact"));
    let error = chat.find_contact("a@b.c", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("`find_contact` of the view `crm`; these do: `hubspot`"), "{}", error.message());
    // An argument without a place is refused, not forgotten.
    let error = chat.read_channel("C1", Listing { fields: vec!["x".into()], ..Listing::default() }).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Unsupported, "`slack` has no place for `fields` of `chat_read_channel`; it takes: channel, limit")
    );
}

/// The typed records and the vocabulary are written separately, so nobody may change one alone.
#[test]
fn typed_records_have_the_fields_of_the_vocabulary() {
    fn fields<T: Default + Serialize + serde::de::DeserializeOwned>(view: &str, model: &str) {
        let model = words::view(view).unwrap().model(model).unwrap();
        let mut full: serde_json::Map<String, Value> = model
            .fields
            .iter()
            .map(|field| {
                let value = match field.kind {
                    ViewKind::Flag => json!(true),
                    ViewKind::Integer => json!(7),
                    ViewKind::Number => json!(7.5),
                    ViewKind::Texts => json!(["x"]),
                    ViewKind::Record(_) => json!({ "name": "x" }),
                    ViewKind::Records(_) => json!([{ "name": "x" }]),
                    _ => json!("x"),
                };
                (field.name.to_owned(), value)
            })
            .collect();
        if model.name != "Address" {
            full.insert(CUSTOM.into(), json!({ "own": 1 }));
            full.insert(SOURCE.into(), json!({ "connector": "c", "connection": "c-1" }));
        }
        let read: T = serde_json::from_value(Value::Object(full.clone())).unwrap();
        let written = serde_json::to_value(read).unwrap();
        let keys = |value: &serde_json::Map<String, Value>| value.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(written.as_object().unwrap()), keys(&full), "{view} {}", model.name);
    }
    fields::<views::Contact>("crm", "Contact");
    fields::<views::Company>("crm", "Company");
    fields::<views::Deal>("crm", "Deal");
    fields::<views::Note>("crm", "Note");
    fields::<views::MailMessage>("mailbox", "Message");
    fields::<views::Address>("mailbox", "Address");
    fields::<views::Folder>("mailbox", "Folder");
    fields::<views::MailReceipt>("mailbox", "Receipt");
    fields::<views::Channel>("chat", "Channel");
    fields::<views::ChatMessage>("chat", "Message");
    fields::<views::ChatReceipt>("chat", "Receipt");
    fields::<views::Item>("cmdb", "Item");
    fields::<views::Relation>("cmdb", "Relation");
    fields::<views::Affected>("cmdb", "Affected");
    fields::<views::ItemOwner>("cmdb", "Owner");
    let models: usize = words::all().iter().map(|view| view.models.len()).sum();
    assert_eq!(models, 15, "a model was added: give it a type, and this list a line");
}

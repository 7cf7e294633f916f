//! One reply for each message, however often the connection is cut after the vendor did its work.

use std::collections::BTreeMap;

use connector_sandbox::{EffectKind, FaultKind, FaultProfile, Sandbox, known};
use connectors::{ErrorKind, msgraph::ops::ReplyInThread};
use futures_util::{StreamExt as _, stream};

use crate::world::{mail, msgraph, tireless};

const MESSAGES: usize = 200;

/// Side effects equal logical operations (R4): 200 replies, cut at random points, tried again under their key until they succeed.
#[tokio::test]
async fn two_hundred_replies_under_cut_connections_are_two_hundred_replies() {
    let sandbox = Sandbox::builder().vendor("msgraph").seed(4711).start("127.0.0.1:0").await.unwrap();
    let graph = msgraph(&sandbox, &tireless());
    let ids: Vec<String> = (0..MESSAGES)
        .map(|n| sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", &mail(&format!("m{n}@client.example"))).unwrap())
        .collect();
    sandbox.faults().set(FaultProfile { cut: 0.15, ..FaultProfile::none() });
    let tried: Vec<u32> = stream::iter(ids.iter().enumerate())
        .map(|(n, id)| {
            let graph = &graph;
            async move {
                for tries in 1..=30 {
                    let reply = ReplyInThread::new(id, "<p>We are on it.</p>");
                    match graph.call(reply).idempotency_key(format!("event-{n}")).await {
                        Ok(sent) => {
                            assert!(sent.thread_key.is_some());
                            return tries;
                        }
                        // As a queue would: anything that may pass or was left open is tried again under the same key.
                        Err(error) if error.kind().is_passing() || error.kind() == ErrorKind::Unknown => {}
                        Err(error) => panic!("message {n}: {error}"),
                    }
                }
                panic!("message {n} was never answered");
            }
        })
        .buffer_unordered(32)
        .collect()
        .await;
    let cuts = sandbox.faults().count(FaultKind::Cut);
    assert!(cuts > 100, "only {cuts} cuts in {} requests", sandbox.requests());
    let replies: BTreeMap<String, usize> = sandbox.ledger().replies_by_message().into_iter().map(|(id, replies)| (id, replies.len())).collect();
    let doubled: Vec<_> = replies.iter().filter(|(_, count)| **count != 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    assert_eq!((replies.len(), sandbox.ledger().count(EffectKind::MailReplied), tried.len()), (MESSAGES, MESSAGES, MESSAGES));
    assert_eq!(sandbox.ledger().count(EffectKind::MailSent), 0);
}

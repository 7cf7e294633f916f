//! News over PostgreSQL: what every way of telling does, and a server that is stopped and started.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]
#![cfg(all(feature = "postgres", unix))]

mod fleet;
mod support;

use bytes::Bytes;
use connector_core::fleet::PubSub as _;
use connector_state::{PostgresOptions, PostgresState};
use secrecy::SecretString;

use self::{
    fleet::{message, missed},
    support::{Schemas, private::Private, within_ten_seconds},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_tells_news() {
    let Some(schemas) = Schemas::find().await else { return };
    let (_, one, two) = schemas.pair().await;
    fleet::news(&*one.pubsub(), &*two.pubsub()).await;
    // Another schema is another fleet.
    let other = schemas.open(&schemas.name()).await;
    let (mut stranger, mut own) = (other.pubsub().subscribe(), one.pubsub().subscribe());
    missed(&mut stranger).await;
    one.pubsub().publish("push", Bytes::from_static(b"ours")).await.unwrap();
    assert_eq!(message(&mut own).await.1, "ours");
    other.pubsub().publish("push", Bytes::from_static(b"theirs")).await.unwrap();
    assert_eq!(message(&mut stranger).await.1, "theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_and_comes_is_heard_again_and_something_was_missed() {
    let Some(mut server) = Private::start(&[]).await else { return };
    let url = SecretString::from(server.url());
    let state = PostgresState::connect_with(&url, PostgresOptions::default()).await.unwrap();
    let news = state.pubsub();
    let mut heard = news.subscribe();
    missed(&mut heard).await;
    server.crash();
    within_ten_seconds("noticing that the server is gone", || async { news.publish("push", Bytes::new()).await.err() }).await;
    server.up().await;
    missed(&mut heard).await;
    within_ten_seconds("telling again", || async { news.publish("push", Bytes::from_static(b"again")).await.ok() }).await;
    let mut told = message(&mut heard).await;
    while told.1.is_empty() {
        told = message(&mut heard).await;
    }
    assert_eq!(told.1, "again");
}

//! A client put together from a manifest: what it is told, what it finds out itself, and what it says if something is missing.

use std::sync::Arc;

use connector_core::{
    Connection, ErrorKind, Result,
    auth::{AuthProvider, NoAuth},
    credential::Credential,
    spec::AuthSpec,
    transport::Transport,
};
use connector_manifest::{ClientBuilder, Hooks, Manifest, parse};
use connector_testkit::transport::{Replay, Step};
use serde_json::json;

use crate::common::args;

const SHOP: &str = "
connector: shop
name: Shop
base_url: https://{region}.shop.example/v1
auth: [{ type: bearer, token_env: SHOP_TOKEN }]
settings: [{ name: region, env: SHOP_REGION, default: eu }]
tools: [{ name: shop_get_status, method: GET, path: /status }]
";

fn manifest() -> Arc<Manifest> {
    Arc::new(parse("shop.yaml", SHOP).unwrap_or_else(|found| panic!("{found}")).manifest)
}

fn builder() -> ClientBuilder {
    ClientBuilder::new("shop", manifest(), Hooks::new())
}

fn ready() -> ClientBuilder {
    builder().transport(Arc::new(Replay::new([]))).auth(Arc::new(NoAuth))
}

fn base(builder: ClientBuilder) -> String {
    builder.build().unwrap().cx().connection.base().to_owned()
}

#[tokio::test]
async fn what_is_said_is_used() {
    let replay = Replay::new([Step::json(200, json!({ "ok": true }))]);
    let builder = builder().transport(Arc::new(replay.clone())).auth(Arc::new(NoAuth));
    let client = builder.base_url("https://other.example").setting("region", "us").tenant("acme".into()).credential("spare").build().unwrap();
    let connection = &client.cx().connection;
    assert_eq!((connection.tenant.as_str(), connection.credential.as_deref(), connection.setting("region")), ("acme", Some("spare"), Some("us")));
    client.call_dynamic("shop_get_status", args(json!({}))).await.unwrap();
    assert_eq!(replay.seen()[0].head.url.as_str(), "https://other.example/status");
}

#[test]
fn the_environment_is_asked_only_if_there_is_one_and_less_than_what_is_said() {
    let env = |name: &str| match name {
        "SHOP_REGION" => Some("ca".to_owned()),
        _ => None,
    };
    assert_eq!(base(ready()), "https://eu.shop.example/v1");
    assert_eq!(base(ready().env(env)), "https://ca.shop.example/v1");
    assert_eq!(base(ready().env(env).setting("region", "us")), "https://us.shop.example/v1");
    let made_elsewhere = Connection::new("shop", "https://made.example").unwrap();
    assert_eq!(base(ready().env(env).base_url("https://other.example").connection(made_elsewhere)), "https://made.example");
}

#[test]
fn a_missing_port_is_named_with_the_setter() {
    let error = builder().auth(Arc::new(NoAuth)).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.message(), "a client of `shop` has no transport; say `.transport(..)`, or turn on the feature `http` of its crate");
    let secret = Credential::new([("token", "canary")]);
    let error = builder().transport(Arc::new(Replay::new([]))).secret(secret.clone()).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.message(), "a client of `shop` has no authentication; say `.auth(..)`, or turn on the feature `http` of its crate");
    assert!(!format!("{:?}", builder().secret(secret)).contains("canary"));
}

/// Refuses, with what it was given.
fn refuse(
    connection: &Connection,
    specs: &[AuthSpec],
    secret: Option<Credential>,
    transport: Option<Arc<dyn Transport>>,
) -> Result<(Arc<dyn Transport>, Arc<dyn AuthProvider>)> {
    let fields = secret.as_ref().map_or(0, |secret| secret.field_names().count());
    Err(connector_core::Error::config(format!("{} {} {fields} {}", connection.tenant, specs[0].kind(), transport.is_some())))
}

#[test]
fn missing_ports_are_made_of_what_is_known_and_only_if_missing() {
    let told = |builder: ClientBuilder| builder.ports(refuse).build().map(|_| ()).map_err(|error| error.message().to_owned());
    assert_eq!(told(builder().tenant("acme".into())), Err("acme bearer 0 false".into()));
    let half = builder().transport(Arc::new(Replay::new([]))).secret(Credential::new([("token", "t")]));
    assert_eq!(told(half), Err("default bearer 1 true".into()));
    assert_eq!(told(ready()), Ok(()));
}

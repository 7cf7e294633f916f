//! Where the first tokens come from, and what a credential that holds some does to those that are kept.

use super::*;

const CLIENT: [(&str, &str); 2] = [("client_id", "app"), ("client_secret", "s1")];

fn holding(more: &[(&str, &str)]) -> Credential {
    Credential::new(CLIENT.iter().chain(more).copied())
}

#[tokio::test(start_paused = true)]
async fn without_a_consent_it_is_said_how_to_connect() {
    let world = World::unconnected(json!({}), holding(&[]));
    let error = world.process().error().await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.message(), "hubspot is not connected yet: run `connector-hub connect hubspot`, or store a `refresh_token`");
    assert_eq!(world.server.posts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stored_refresh_token_is_the_first_one_and_used_once() {
    let world = World::unconnected(json!({ "rotates": true }), holding(&[("refresh_token", "r1")]));
    let (one, other) = (world.process(), world.process());
    let (first, second) = tokio::join!(one.token(), other.token());
    assert_eq!((first, second, world.server.posts()), ("Bearer a2".into(), "Bearer a2".into(), 1));
    an_hour().await;
    assert_eq!((world.process().token().await, world.server.revoked()), ("Bearer a3".into(), false));
    let facts = world.facts().await;
    assert!(facts.seeded_from == 1 && facts.seed.as_deref().is_some_and(|seed| seed.len() == 16), "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stored_access_token_is_used_until_it_is_refused() {
    let world = World::unconnected(json!({}), holding(&[("access_token", "a1"), ("refresh_token", "r1")]));
    let process = world.process();
    an_hour().await;
    let (token, used) = process.ask().await.unwrap();
    assert_eq!((token.as_str(), world.server.posts()), ("Bearer a1", 0));
    assert!(process.auth.rejected(&cx(), &used).await.unwrap());
    assert_eq!(process.token().await, "Bearer a2");
}

#[tokio::test(start_paused = true)]
async fn an_access_token_alone_works_as_long_as_it_works() {
    let world = World::unconnected(json!({}), holding(&[("access_token", "a1")]));
    let process = world.process();
    let (token, used) = process.ask().await.unwrap();
    assert_eq!(token, "Bearer a1");
    assert!(!process.auth.rejected(&cx(), &used).await.unwrap(), "nothing to renew it with");
    assert_eq!(process.token().await, "Bearer a1", "one refusal may be about something else");
    let world = World::unconnected(json!({ "default_lifetime": 600 }), holding(&[("access_token", "a1")]));
    let process = world.process();
    process.token().await;
    seconds(600).await;
    assert!(process.error().await.message().ends_with("(`expired`): connect again"));
    assert_eq!((world.server.posts(), world.ear.told().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_new_client_secret_does_not_bring_back_the_first_refresh_token() {
    let world = World::unconnected(json!({ "rotates": true }), holding(&[("refresh_token", "r1")]));
    let process = world.process();
    assert_eq!(process.token().await, "Bearer a2");
    world.credentials.set("default".into(), "crm", Credential::new([("client_id", "app"), ("client_secret", "s2"), ("refresh_token", "r1")]));
    assert_eq!((process.token().await, world.server.posts()), ("Bearer a2".into(), 1));
    an_hour().await;
    assert_eq!((process.token().await, world.server.last("refresh_token").as_deref()), ("Bearer a3".into(), Some("r2")));
    assert_eq!(world.server.last("client_secret").as_deref(), Some("s2"));
}

#[tokio::test(start_paused = true)]
async fn a_newer_version_with_another_refresh_token_starts_over() {
    let world = World::unconnected(json!({ "rotates": true }), holding(&[("refresh_token", "dead")]));
    let process = world.process();
    assert_eq!(process.error().await.kind(), ErrorKind::AuthExpired);
    let serial = world.facts().await.serial;
    world.server.state.lock().unwrap().revoked = false;
    world.credentials.set("default".into(), "crm", holding(&[("refresh_token", "r1")]));
    assert_eq!(process.token().await, "Bearer a2");
    let facts = world.facts().await;
    assert!(facts.serial > serial && facts.seeded_from == 2 && facts.state == TokenState::Active, "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_consent_is_not_undone_by_the_refresh_token_it_replaced() {
    let world = World::unconnected(json!({ "rotates": true }), holding(&[("refresh_token", "stale")]));
    let clock = Arc::new(SkewedClock { start: world.start, skew: AtomicI64::new(0) });
    let spec: connector_core::spec::OAuth2Spec = serde_json::from_value(world.spec.clone()).unwrap();
    let deps = AuthDeps { clock, tokens: world.tokens.clone(), watch: Some(world.ear.clone()), ..AuthDeps::new(world.server.clone()) };
    let client = crate::oauth2::OAuth2Client::new(spec, deps).unwrap();
    world.server.will(&[Says::Answers(200, r#"{"access_token":"consented","refresh_token":"r1","expires_in":3600,"hub_id":9}"#)]);
    let credential = world.credentials.get(&CredentialQuery::of(&cx(), "crm")).await.unwrap();
    let (code, verifier) = ("code".into(), "verifier".into());
    let exchange = crate::oauth2::CodeExchange { code: &code, redirect_uri: "http://127.0.0.1:1/cb", verifier: &verifier };
    let record = client.exchange(&cx(), &credential, exchange).await.unwrap();
    let kept = client.keep(&cx(), record).await.unwrap();
    assert_eq!(world.ear.told(), [CredentialNotice::Connected { serial: kept.serial }]);
    let process = world.process();
    assert_eq!((process.token().await, world.server.posts()), ("Bearer consented".into(), 1));
    an_hour().await;
    assert_eq!(process.token().await, "Bearer a2");
    let facts = client.facts(&cx()).await.unwrap().unwrap();
    assert_eq!((facts.keep["hub_id"].as_str(), facts.serial), ("7", kept.serial + 1));
}

#[tokio::test(start_paused = true)]
async fn what_the_vendor_says_once_is_kept_when_it_does_not_repeat_it() {
    let world = World::connected().await;
    world
        .change(|record| {
            record.facts.keep.insert("instance_url".into(), "https://acme.example".into());
            record.facts.scopes = vec!["a".into(), "b".into()];
        })
        .await;
    an_hour().await;
    world.server.will(&[Says::Answers(200, r#"{"access_token":"a2","expires_in":"60","hub_id":8}"#)]);
    assert_eq!(world.process().token().await, "Bearer a2");
    let row = world.row().await;
    assert_eq!(secrecy::ExposeSecret::expose_secret(row.record.tokens.refresh.as_ref().unwrap()), "r1", "the old refresh token stays");
    assert_eq!((row.record.facts.keep.len(), row.record.facts.scopes.len()), (2, 2));
    assert_eq!(row.record.facts.expires_at, Some(row.record.facts.obtained_at + 60_000));
}

#[tokio::test(start_paused = true)]
async fn scopes_are_repeated_where_the_vendor_wants_that() {
    let world = World::with(json!({ "scope_on_refresh": true, "base_scopes": ["offline_access"], "scopes": ["Mail.Read", "User.Read"] })).await;
    an_hour().await;
    world.process().token().await;
    assert_eq!(world.server.last("scope").as_deref(), Some("offline_access Mail.Read User.Read"));
    world.change(|record| record.facts.scopes = vec!["Mail.Read".into()]).await;
    an_hour().await;
    world.process().token().await;
    assert_eq!(world.server.last("scope").as_deref(), Some("offline_access Mail.Read"));
}

#[tokio::test(start_paused = true)]
async fn of_two_ways_with_the_same_fields_the_credential_says_which_is_meant() {
    let mut world = World::connected().await;
    let code = world.spec.clone();
    let specs: Vec<AuthSpec> =
        serde_json::from_value(json!([code, { "type": "oauth2", "flow": "client_credentials", "token_url": "https://id.example/token" }])).unwrap();
    world.spec = code;
    let deps = AuthDeps { tokens: world.tokens.clone(), clock: world.process().clock, ..AuthDeps::new(world.server.clone()) };
    let process = Process { auth: Auth::for_spec(&specs, world.credentials.clone(), deps), clock: world.process().clock };
    world.server.will(&[Says::Answers(200, r#"{"access_token":"machine"}"#)]);
    assert_eq!(process.token().await, "Bearer machine", "nothing in the credential speaks of a consent");
    world.credentials.set("default".into(), "crm", holding(&[]).with_scheme(Some("authorization_code".into())));
    assert_eq!(process.token().await, "Bearer a1");
}

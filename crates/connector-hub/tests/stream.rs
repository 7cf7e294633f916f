//! Messages to subscribers over HTTP: numbered, resumable, bound to tenant and workspace; bounded for whoever does not read; ended in order.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use common::world::{PUBLIC, World};
use connector_core::{TenantId, WorkspaceId};
use connector_hub::http::MOST_PER_KEY;
use connector_runtime::{NewPush, Role};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error as WsError, Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode},
};
use tower::ServiceExt as _;

async fn world() -> World {
    // No vendor is called here.
    World::new("http://127.0.0.1:9").await
}

async fn push(world: &World, tenant: &str, workspace: &str, id: &str, topic: &str) -> u64 {
    let push = NewPush {
        id: id.into(),
        topic: topic.into(),
        workspace: WorkspaceId::from(workspace),
        event_type: "acme.made".into(),
        data: json!({ "n": id }),
    };
    world.runtime.push_log().append(&TenantId::from(tenant), push).await.unwrap()
}

/// One event of a stream.
#[derive(Debug, Default, Clone, PartialEq)]
struct Event {
    id: String,
    event: String,
    data: String,
    comment: Option<String>,
}

struct Stream {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Stream {
    async fn open(world: &World, key: &str, query: &str, last: Option<&str>) -> Result<Self, (StatusCode, Option<String>, String)> {
        let mut request = Request::get(format!("/api/v1/stream{query}")).header(header::AUTHORIZATION, format!("Bearer {key}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = world.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        if parts.status != StatusCode::OK {
            let after = parts.headers.get(header::RETRY_AFTER).map(|after| after.to_str().unwrap().to_owned());
            let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            return Err((parts.status, after, String::from_utf8(bytes.to_vec()).unwrap()));
        }
        assert_eq!(parts.headers[header::CONTENT_TYPE], "text/event-stream");
        Ok(Self { body: body.into_data_stream(), text: String::new() })
    }

    /// The next event, heartbeats included; `None` at the end.
    async fn any(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut event = Event::default();
                for line in block.lines() {
                    match line.split_once(':') {
                        Some(("", comment)) => event.comment = Some(comment.trim().to_owned()),
                        Some(("id", value)) => event.id = value.trim().to_owned(),
                        Some(("event", value)) => event.event = value.trim().to_owned(),
                        Some(("data", value)) => event.data = value.trim().to_owned(),
                        Some(("retry", _)) => {}
                        other => panic!("{other:?}"),
                    }
                }
                self.text = rest.to_owned();
                return Some(event);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(120), self.body.next()).await.expect("the stream says nothing")?;
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    /// The next message.
    async fn message(&mut self) -> Event {
        loop {
            let event = self.any().await.expect("the stream ended");
            if !event.data.is_empty() {
                return event;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_order_and_go_on_after_a_break() {
    let world = world().await;
    let key = world.key("a", Role::Viewer, &["*"]).await;
    push(&world, "a", "default", "one", "thing.made").await;
    push(&world, "a", "default", "two", "mail.came").await;
    let mut stream = Stream::open(&world, &key, "?after=0", None).await.unwrap();
    let hello = stream.any().await.unwrap();
    assert_eq!((hello.id.as_str(), hello.comment.as_deref()), ("0", Some("connected")));
    let first = stream.message().await;
    assert_eq!((first.id.as_str(), first.event.as_str()), ("1", "thing.made"));
    let data: Value = serde_json::from_str(&first.data).unwrap();
    assert_eq!(data["at"].as_u64().map(|at| at > 0), Some(true));
    let told = json!({ "id": "one", "topic": "thing.made", "type": "acme.made", "workspace": "default", "at": data["at"], "data": { "n": "one" } });
    assert_eq!(data, told);
    assert_eq!(stream.message().await.id, "2");
    push(&world, "a", "default", "three", "thing.made").await;
    assert_eq!(stream.message().await.id, "3");
    drop(stream);
    push(&world, "a", "default", "four", "thing.made").await;
    // What the browser says wins over the address it was given.
    let mut again = Stream::open(&world, &key, "?after=0&topic=thing.*", Some("2")).await.unwrap();
    assert_eq!((again.message().await.id, again.message().await.id), ("3".into(), "4".into()));
    let mut fresh = Stream::open(&world, &key, "", None).await.unwrap();
    assert_eq!(fresh.any().await.unwrap().id, "4", "whoever says nothing hears what comes from now on");
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_told_before_the_first_message() {
    let world = world().await;
    let key = world.key("a", Role::Viewer, &["*"]).await;
    push(&world, "a", "default", "one", "thing.made").await;
    let mut stream = Stream::open(&world, &key, "", Some("77")).await.unwrap();
    let gap = stream.message().await;
    assert_eq!((gap.event.as_str(), gap.id.as_str(), gap.data.as_str()), ("gap", "0", r#"{"after":77,"first":1}"#));
    assert_eq!(stream.message().await.id, "1");
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_another_tenant_or_workspace() {
    let world = world().await;
    let (b, sales) = (world.admin("b").await, world.key("a", Role::Viewer, &["sales"]).await);
    let mut other = Stream::open(&world, &b, "?after=0", None).await.unwrap();
    let mut own = Stream::open(&world, &sales, "?after=0", None).await.unwrap();
    push(&world, "a", "hr", "secret", "pay.rise").await;
    push(&world, "a", "sales", "deal", "deal.won").await;
    push(&world, "b", "default", "b", "thing.made").await;
    let (heard, of_b) = (own.message().await, other.message().await);
    assert_eq!((heard.id.as_str(), heard.event.as_str()), ("2", "deal.won"));
    assert_eq!((of_b.id.as_str(), of_b.event.as_str()), ("1", "thing.made"), "each tenant has numbers of its own");
    let foreign = Stream::open(&world, &sales, "?workspace=hr", None).await.err().unwrap();
    let missing = Stream::open(&world, &sales, "?workspace=xx", None).await.err().unwrap();
    assert_eq!((foreign.0, foreign.2.replace("hr", "ID")), (StatusCode::NOT_FOUND, missing.2.replace("xx", "ID")));
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_is_let_go_and_costs_a_bounded_buffer() {
    let world = world().await;
    let key = world.key("a", Role::Viewer, &["*"]).await;
    let mut lazy = Stream::open(&world, &key, "", None).await.unwrap();
    let mut keen = Stream::open(&world, &key, "", None).await.unwrap();
    for n in 1..=500 {
        assert_eq!(push(&world, "a", "default", &n.to_string(), "thing.made").await, n);
        assert_eq!(keen.message().await.id, n.to_string());
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    let mut got = 0;
    while let Some(event) = lazy.any().await {
        got += usize::from(!event.data.is_empty());
    }
    assert!(got < 100, "{got} messages were kept for somebody who did not read");
    // And it can go on from where it was.
    let mut back = Stream::open(&world, &key, "", Some(&got.to_string())).await.unwrap();
    assert_eq!(back.message().await.id, (got + 1).to_string());
}

#[tokio::test(start_paused = true)]
async fn one_key_cannot_take_all_places() {
    let world = world().await;
    let key = world.key("a", Role::Viewer, &["*"]).await;
    let mut held = Vec::new();
    for _ in 0..MOST_PER_KEY {
        held.push(Stream::open(&world, &key, "", None).await.unwrap());
    }
    let (status, after, body) = Stream::open(&world, &key, "", None).await.err().unwrap();
    assert_eq!((status, after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("5")), "{body}");
    assert!(Stream::open(&world, &world.admin("a").await, "", None).await.is_ok());
    drop(held);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(Stream::open(&world, &key, "", None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_hears_nothing_more_and_a_stopping_hub_says_so() {
    let world = world().await;
    let key = world.key("a", Role::Viewer, &["*"]).await;
    let id = world.keys.list(&TenantId::from("a")).await.unwrap()[0].id.clone();
    let mut stream = Stream::open(&world, &key, "", None).await.unwrap();
    let mut other = Stream::open(&world, &world.admin("a").await, "", None).await.unwrap();
    stream.any().await.unwrap();
    world.keys.revoke(&TenantId::from("a"), &id).await.unwrap();
    assert_eq!(stream.any().await.unwrap().comment.as_deref(), Some("the key is no longer good"));
    assert_eq!(stream.any().await, None);
    other.any().await.unwrap();
    let beat = other.any().await.unwrap();
    assert_eq!((beat.comment.as_deref(), beat.id.as_str()), (Some(""), "0"), "something is said every 15 s");
    world.app.drain();
    let last = loop {
        match other.any().await {
            Some(event) if event.comment.as_deref() == Some("") => {}
            said => break said.unwrap(),
        }
    };
    assert_eq!(last.comment.as_deref(), Some("the hub stops; connect again"));
    assert_eq!(other.any().await, None);
    let (status, ..) = Stream::open(&world, &world.admin("a").await, "", None).await.err().unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused() {
    let world = world().await;
    let key = world.admin("a").await;
    let many = format!("?topic={}", vec!["a"; 33].join(","));
    for query in ["?topic=a..b", "?after=-1", "?after=x", "?nothing=1", "?topic=", many.as_str()] {
        assert_eq!(Stream::open(&world, &key, query, None).await.err().unwrap().0, StatusCode::BAD_REQUEST, "{query}");
    }
    assert_eq!(Stream::open(&world, &key, "", Some("x")).await.err().unwrap().0, StatusCode::BAD_REQUEST);
    let plain = world.get(&key, "/api/v1/ws").await;
    assert_eq!(plain.status, StatusCode::UPGRADE_REQUIRED, "{}", plain.body);
    let described = world.send(common::world::Ask { method: "GET", path: "/openapi.json", ..Default::default() }).await;
    assert_eq!(described.json()["openapi"], "3.1.0");
    assert_eq!(described.json()["paths"]["/api/v1/stream"]["get"]["x-role"], "viewer");
}

type Socket = WebSocketStream<tokio::net::TcpStream>;

async fn serve(world: &World) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = world.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn connect(address: &str, key: &str, query: &str, origin: Option<&str>) -> Result<Socket, WsError> {
    let mut request = format!("ws://{address}/api/v1/ws{query}").into_client_request().unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
    if let Some(origin) = origin {
        request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
    }
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await.map(|(socket, _)| socket)
}

/// The next text frame, or how the hub closed.
async fn frame(socket: &mut Socket) -> Result<Value, CloseCode> {
    loop {
        match tokio::time::timeout(Duration::from_secs(30), socket.next()).await.unwrap() {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(close))) => return Err(close.map_or(CloseCode::Status, |close| close.code)),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(CloseCode::Abnormal),
        }
    }
}

#[tokio::test]
async fn a_websocket_says_the_same_and_takes_wishes() {
    let world = world().await;
    let address = serve(&world).await;
    let key = world.key("a", Role::Viewer, &["*"]).await;
    push(&world, "a", "default", "one", "thing.made").await;
    let mut socket = connect(&address, &key, "?topic=thing.*", None).await.unwrap();
    assert_eq!(frame(&mut socket).await, Ok(json!({ "hello": { "seq": 1 } })));
    push(&world, "a", "default", "two", "mail.came").await;
    push(&world, "a", "default", "three", "thing.made").await;
    let told = frame(&mut socket).await.unwrap();
    assert_eq!((&told["seq"], &told["id"], &told["topic"]), (&json!(3), &json!("three"), &json!("thing.made")));
    socket.send(Message::text(r#"{"resume": 0, "topics": ["mail.came"]}"#)).await.unwrap();
    assert_eq!(frame(&mut socket).await.unwrap()["seq"], 2);
    socket.send(Message::text(r#"{"resume": 99}"#)).await.unwrap();
    assert_eq!(frame(&mut socket).await, Ok(json!({ "gap": { "after": 99, "first": 1 } })));
    world.app.drain();
    let closed = loop {
        if let Err(code) = frame(&mut socket).await {
            break code;
        }
    };
    assert_eq!(closed, CloseCode::Away);
}

#[tokio::test]
async fn a_websocket_refuses_other_sites_other_words_and_long_frames() {
    let world = world().await;
    let address = serve(&world).await;
    let key = world.key("a", Role::Viewer, &["*"]).await;
    for origin in ["https://evil.example", "null", "http://hub.example"] {
        match connect(&address, &key, "", Some(origin)).await {
            Err(WsError::Http(response)) => assert_eq!(response.status(), StatusCode::FORBIDDEN, "{origin}"),
            other => panic!("{origin}: {other:?}"),
        }
    }
    match connect(&address, "ck_nobody", "", None).await {
        Err(WsError::Http(response)) => assert_eq!(response.status(), StatusCode::UNAUTHORIZED),
        other => panic!("{other:?}"),
    }
    for message in [Message::text("hello"), Message::text(r#"{"resume": "x"}"#), Message::text(r#"{"topics": ["a..b"]}"#), Message::binary(vec![1])] {
        let mut socket = connect(&address, &key, "", Some(PUBLIC)).await.unwrap();
        frame(&mut socket).await.unwrap();
        socket.send(message.clone()).await.unwrap();
        assert_eq!(frame(&mut socket).await, Err(CloseCode::Policy), "{message:?}");
    }
    let mut socket = connect(&address, &key, "", None).await.unwrap();
    frame(&mut socket).await.unwrap();
    // It may be cut off before all of it is sent.
    drop(socket.send(Message::text("x".repeat(20_000))).await);
    assert!(frame(&mut socket).await.is_err());
    let mut socket = connect(&address, &key, "", None).await.unwrap();
    frame(&mut socket).await.unwrap();
    for _ in 0..40 {
        drop(socket.send(Message::text(r#"{"topics": []}"#)).await);
    }
    assert!(frame(&mut socket).await.is_err(), "nobody may ask without end");
}

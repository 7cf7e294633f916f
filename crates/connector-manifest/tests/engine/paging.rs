//! Six ways from one page to the next, and the ways a vendor can get them wrong: circles, other hosts, empty pages without end.

use std::sync::Arc;

use connector_core::{Client, ErrorKind, ListOperation, Operation, operation::Call};
use connector_testkit::transport::{Answering, Replay, Seen, Step};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::common::{output, over, run};

/// What a generated listing looks like.
#[derive(Debug, Clone, Default, Serialize)]
struct ListOrders {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Orders {
    #[serde(default)]
    results: Vec<Order>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Order {
    id: u64,
}

impl Operation for ListOrders {
    type Output = Orders;
    const NAME: &'static str = "shop_list";
}

impl ListOperation for ListOrders {
    type Item = Order;

    fn items(page: Orders) -> Vec<Order> {
        page.results
    }
}

fn tool(pagination: &str) -> String {
    format!(
        "tools:\n  - name: shop_list\n    method: GET\n    path: /orders\n    params: [{{ name: status, type: string }}, {{ name: limit, type: integer }}]\n    pagination: {pagination}"
    )
}

fn client(pagination: &str, transport: impl connector_core::transport::Transport) -> Client {
    Client::new(Arc::new(over(&tool(pagination), transport)), crate::common::cx())
}

/// Reads the whole listing: the ids in order, and the requests it took.
async fn all(pagination: &str, pages: Vec<Step>) -> (connector_core::Result<Vec<u64>>, Vec<String>) {
    let replay = Replay::new(pages);
    let listing = Call::new(&client(pagination, replay.clone()), ListOrders { status: Some("open".into()) });
    let ids = listing.items().map_ok(|order| order.id).try_collect::<Vec<u64>>().await;
    assert_eq!(replay.left(), 0, "the listing stopped early: {ids:?}");
    (ids, replay.lines())
}

fn orders(ids: &[u64]) -> Vec<Value> {
    ids.iter().map(|id| json!({ "id": id })).collect()
}

fn page(ids: &[u64], rest: Value) -> Step {
    let mut page = json!({ "results": orders(ids) });
    page.as_object_mut().unwrap().extend(crate::common::args(rest));
    Step::json(200, page)
}

#[tokio::test]
async fn a_cursor_goes_into_the_query() {
    let (ids, lines) = all(
        "{ kind: cursor, next: .paging.next.after, param: after, size_param: limit, size: 2 }",
        vec![
            page(&[1, 2], json!({ "paging": { "next": { "after": "a b&c" } } })),
            page(&[], json!({ "paging": { "next": { "after": 7 } } })),
            page(&[3], json!({ "paging": { "next": { "after": null } } })),
        ],
    )
    .await;
    assert_eq!(ids.unwrap(), [1, 2, 3]);
    assert_eq!(
        lines,
        ["GET /v1/orders?status=open&limit=2", "GET /v1/orders?status=open&limit=2&after=a%20b%26c", "GET /v1/orders?status=open&limit=2&after=7"]
    );
}

#[tokio::test]
async fn a_callers_page_size_wins() {
    let replay = Replay::new([page(&[1], json!({}))]);
    let engine = over(&tool("{ kind: cursor, next: .next, param: after, size_param: limit, size: 2 }"), replay.clone());
    output(&engine, "shop_list", json!({ "limit": 500 })).await;
    assert_eq!(replay.lines(), ["GET /v1/orders?limit=500"]);
}

#[tokio::test]
async fn a_cursor_and_a_size_go_into_the_body_even_of_a_tool_without_one() {
    for (body, first) in [
        ("body: { filter: \"{filter}\" }\n    params: [{ name: filter, type: string, default: open }]", json!({ "filter": "open", "pageSize": 2 })),
        ("doc: Searches everything.", json!({ "pageSize": 2 })),
    ] {
        let replay = Replay::new([page(&[1], json!({ "next": "c2" })), page(&[2], json!({}))]);
        let yaml = format!(
            "tools:\n  - name: shop_list\n    method: POST\n    path: /search\n    effect: read\n    {body}\n    pagination: {{ kind: cursor, next: .next, param: cursor, in: body, size_param: pageSize, size: 2 }}"
        );
        let client = Client::new(Arc::new(over(&yaml, replay.clone())), crate::common::cx());
        let ids: Vec<u64> = Call::new(&client, ListOrders::default()).items().map_ok(|order| order.id).try_collect().await.unwrap();
        assert_eq!(ids, [1, 2]);
        let bodies: Vec<Value> = replay.seen().iter().map(Seen::json).collect();
        let mut second = first.clone();
        second["cursor"] = json!("c2");
        assert_eq!(bodies, [first, second]);
    }
}

#[tokio::test]
async fn a_cursor_goes_into_a_form_too() {
    let replay = Replay::new([page(&[1], json!({ "next": "c&2" })), page(&[2], json!({}))]);
    let yaml = "tools:
  - name: shop_list
    method: POST
    path: /search
    effect: read
    encoding: form
    body: { channel: C1 }
    pagination: { kind: cursor, next: .next, param: cursor, in: body, size_param: limit, size: 2 }";
    let client = Client::new(Arc::new(over(yaml, replay.clone())), crate::common::cx());
    let ids: Vec<u64> = Call::new(&client, ListOrders::default()).items().map_ok(|order| order.id).try_collect().await.unwrap();
    assert_eq!(ids, [1, 2]);
    let bodies: Vec<String> = replay.seen().iter().map(|seen| String::from_utf8(seen.body.to_vec()).unwrap()).collect();
    assert_eq!(bodies, ["channel=C1&limit=2", "channel=C1&limit=2&cursor=c%262"]);
}

#[tokio::test]
async fn a_next_address_is_followed_as_it_is() {
    let (ids, lines) = all(
        "{ kind: next_url, next: '.\"@odata.nextLink\"', size_param: limit, size: 2 }",
        vec![
            page(&[1], json!({ "@odata.nextLink": "https://api.example/v1/orders?$skiptoken=x%2By&status=open" })),
            page(&[2], json!({ "@odata.nextLink": "/v1/orders?page=3" })),
            page(&[3], json!({ "@odata.nextLink": "" })),
        ],
    )
    .await;
    assert_eq!(ids.unwrap(), [1, 2, 3]);
    assert_eq!(lines, ["GET /v1/orders?status=open&limit=2", "GET /v1/orders?$skiptoken=x%2By&status=open", "GET /v1/orders?page=3"]);
}

#[tokio::test]
async fn a_link_header_is_followed() {
    let step = |id: u64, link: &str| page(&[id], json!({})).with_header("link", link);
    let (ids, lines) = all(
        "{ kind: link_header }",
        vec![
            step(1, "<https://api.example/v1/orders?page=1>; rel=\"prev first\", <https://api.example/v1/orders?page=2&x=1,2>; title=\"a\"; rel=\"last next\""),
            step(2, "<?page=9>; rel=last"),
        ],
    )
    .await;
    assert_eq!(ids.unwrap(), [1, 2]);
    assert_eq!(lines[1], "GET /v1/orders?page=2&x=1,2");
}

#[tokio::test]
async fn an_offset_counts_what_came() {
    let (ids, lines) = all(
        "{ kind: offset, param: offset, size_param: limit, size: 2, total: .count }",
        vec![page(&[1, 2], json!({ "count": 5 })), page(&[3], json!({ "count": 5 })), page(&[4, 5], json!({ "count": 5 }))],
    )
    .await;
    assert_eq!(ids.unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(
        lines,
        ["GET /v1/orders?status=open&limit=2", "GET /v1/orders?status=open&limit=2&offset=2", "GET /v1/orders?status=open&limit=2&offset=3"]
    );
}

#[tokio::test]
async fn a_page_number_ends_at_the_first_page_that_is_not_full() {
    let (ids, lines) =
        all("{ kind: page, param: page, size: 2 }", vec![page(&[1, 2], json!({})), page(&[3, 4], json!({})), page(&[5], json!({}))]).await;
    assert_eq!(ids.unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(lines, ["GET /v1/orders?status=open", "GET /v1/orders?status=open&page=2", "GET /v1/orders?status=open&page=3"]);
    let (ids, lines) =
        all("{ kind: page, param: page, size: 2, start: 0, total: .n }", vec![page(&[1, 2], json!({ "n": 4 })), page(&[3, 4], json!({ "n": 4 }))])
            .await;
    assert_eq!((ids.unwrap().len(), lines[1].as_str()), (4, "GET /v1/orders?status=open&page=1"));
}

#[tokio::test]
async fn a_key_set_goes_on_after_the_last_key() {
    let (ids, lines) =
        all("{ kind: keyset, param: after_id, key: .id, size: 2 }", vec![page(&[3, 9], json!({})), page(&[12, 40], json!({})), page(&[], json!({}))])
            .await;
    assert_eq!(ids.unwrap(), [3, 9, 12, 40]);
    assert_eq!(lines, ["GET /v1/orders?status=open", "GET /v1/orders?status=open&after_id=9", "GET /v1/orders?status=open&after_id=40"]);
}

#[tokio::test]
async fn a_listing_that_goes_in_circles_is_stopped() {
    let own_tail = |seen: &Seen| {
        let _ = seen;
        page(&[1], json!({ "next": "same" }))
    };
    let error = Call::new(&client("{ kind: cursor, next: .next, param: after }", Answering::new(own_tail)), ListOrders::default())
        .items()
        .try_collect::<Vec<_>>()
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Protocol, Some("CursorLoop")), "{error}");
    // A longer circle is only visible to whoever reads the whole listing.
    let circle = |seen: &Seen| {
        let next = match seen.head.url.query() {
            Some(query) if query.ends_with("after=a") => "b",
            Some(query) if query.ends_with("after=b") => "c",
            _ => "a",
        };
        page(&[1], json!({ "next": next }))
    };
    let error = Call::new(&client("{ kind: cursor, next: .next, param: after }", Answering::new(circle)), ListOrders::default())
        .items()
        .try_collect::<Vec<_>>()
        .await
        .unwrap_err();
    assert_eq!(error.vendor_code(), Some("CursorLoop"), "{error}");
    let itself = |seen: &Seen| page(&[1], json!({ "next": seen.head.url.as_str() }));
    let error = Call::new(&client("{ kind: next_url, next: .next }", Answering::new(itself)), ListOrders::default())
        .pages()
        .try_collect::<Vec<_>>()
        .await
        .unwrap_err();
    assert_eq!(error.vendor_code(), Some("CursorLoop"), "{error}");
}

#[tokio::test]
async fn empty_pages_without_end_are_stopped() {
    let number = |seen: &Seen| seen.head.url.query_pairs().find(|(name, _)| name == "after").map_or(0, |(_, at)| at.parse::<u64>().unwrap());
    let empty = move |seen: &Seen| page(&[], json!({ "next": (number(seen) + 1).to_string() }));
    let pages = Call::new(&client("{ kind: cursor, next: .next, param: after }", Answering::new(empty)), ListOrders::default());
    let error = pages.items().try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Protocol, Some("CursorLoop")), "{error}");
    // Some empty pages between full ones are normal where a vendor filters after paging.
    let sparse = move |seen: &Seen| match number(seen) {
        at if at < 12_000 && at % 6_000 == 0 => page(&[at], json!({ "next": (at + 1).to_string() })),
        at if at < 12_000 => page(&[], json!({ "next": (at + 1).to_string() })),
        at => page(&[at], json!({})),
    };
    let pages = Call::new(&client("{ kind: cursor, next: .next, param: after }", Answering::new(sparse)), ListOrders::default());
    let ids: Vec<u64> = pages.items().map_ok(|order| order.id).try_collect().await.unwrap();
    assert_eq!(ids, [0, 6_000, 12_000]);
}

#[tokio::test]
async fn a_next_page_on_another_host_is_not_followed() {
    for next in
        ["https://evil.example/v1/orders", "http://api.example/v1/orders", "//evil.example/x", "https://api.example:444/", "ftp://api.example/x"]
    {
        let replay = Replay::new([page(&[1], json!({ "next": next }))]);
        let error = run(&over(&tool("{ kind: next_url, next: .next }"), replay.clone()), "shop_list", json!({})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{next}: {error}");
        assert_eq!(replay.lines().len(), 1);
    }
}

#[tokio::test]
async fn a_vendors_cap_ends_the_listing_with_what_to_do() {
    let full = |_: &Seen| page(&[1, 2], json!({ "total": 50 }));
    let listing = Call::new(&client("{ kind: offset, param: offset, size: 2, total: .total, cap: 6 }", Answering::new(full)), ListOrders::default());
    let error = listing.items().try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Invalid, Some("ResultCap")));
    assert!(error.to_string().contains("no more than 6 results; narrow the query"), "{error}");
}

#[tokio::test]
async fn an_error_in_the_middle_ends_the_stream_once() {
    let replay = Replay::new([page(&[1], json!({ "next": "2" })), Step::json(500, json!({})), page(&[9], json!({}))]);
    let mut items = Call::new(&client("{ kind: cursor, next: .next, param: after }", replay.clone()), ListOrders::default()).items();
    assert_eq!(items.try_next().await.unwrap(), Some(Order { id: 1 }));
    assert_eq!(items.try_next().await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(items.try_next().await.unwrap(), None);
    assert_eq!(replay.left(), 1);
}

#[tokio::test]
async fn a_listing_goes_on_from_a_kept_cursor() {
    let replay = Replay::new([page(&[1], json!({ "next": "2" })), page(&[2], json!({}))]);
    let client = client("{ kind: cursor, next: .next, param: after }", replay.clone());
    let first = Call::new(&client, ListOrders::default()).send().await.unwrap();
    let kept = first.next.unwrap().as_str().to_owned();
    let rest = Call::new(&client, ListOrders::default()).after(Some(connector_core::connector::Cursor::new(kept))).send().await.unwrap();
    assert_eq!((rest.output.results, rest.next), (vec![Order { id: 2 }], None));
}

//! The vendor: prepared bytes over loopback, in a thread and runtime of its own, so that its work is not in the client's figures.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Records on a page.
pub(crate) const PAGE: u64 = 100;
/// The bytes of the single reply and of a page: what the measured peers were given.
const REPLY_BYTES: usize = 617;
const PAGE_BYTES: usize = 58_600;

/// A running server. It ends with the process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Records in the listing.
    records: AtomicU64,
    /// Every so many requests to `/throttled` one is refused.
    asked: AtomicU64,
    tokens: AtomicU64,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let serving = state.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    tokio::spawn(serve(stream, serving.clone()));
                }
            });
        });
        Self { address, state }
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How long the listing is.
    pub(crate) fn list(&self, records: u64) {
        self.state.records.store(records, Ordering::Relaxed);
    }

    /// Token requests so far.
    pub(crate) fn tokens(&self) -> u64 {
        self.state.tokens.load(Ordering::Relaxed)
    }
}

/// Answers the requests of one connection in turn.
async fn serve(mut stream: TcpStream, state: Arc<State>) -> io::Result<()> {
    let mut request = Vec::with_capacity(16 * 1024);
    let mut page = PAGES.middle.clone();
    loop {
        request.clear();
        while !is_whole(&request) {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let path = request.splitn(3, |byte| *byte == b' ').nth(1).unwrap_or_default();
        if path.starts_with(b"/crm/") {
            let next = offset(path) + PAGE;
            if next >= state.records.load(Ordering::Relaxed) {
                stream.write_all(&PAGES.last).await?;
            } else {
                page[PAGES.cursor_at..][..DIGITS].copy_from_slice(digits(next).as_bytes());
                stream.write_all(&page).await?;
            }
        } else if path.starts_with(b"/throttled") && state.asked.fetch_add(1, Ordering::Relaxed) % 10 == 9 {
            stream.write_all(&THROTTLED).await?;
        } else if path.starts_with(b"/token") {
            state.tokens.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.write_all(&TOKEN).await?;
        } else {
            stream.write_all(&REPLY).await?;
        }
    }
}

/// Whether head and body are complete.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let length = request[..end].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        if !name.eq_ignore_ascii_case(b"content-length:") {
            return None;
        }
        std::str::from_utf8(value).ok()?.trim().parse::<usize>().ok()
    });
    request.len() >= end + 4 + length.unwrap_or(0)
}

/// How many digits a cursor has: its length must not change the length of the page.
const DIGITS: usize = 10;

fn digits(number: u64) -> String {
    format!("{number:0DIGITS$}")
}

/// The number in `after=..`, 0 on the first page.
fn offset(path: &[u8]) -> u64 {
    let at = path.windows(6).position(|window| window == b"after=");
    at.and_then(|at| std::str::from_utf8(path.get(at + 6..at + 6 + DIGITS)?).ok()?.parse().ok()).unwrap_or(0)
}

/// A whole answer.
fn answer(status: &str, extra: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{extra}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A value as text, padded to exactly `bytes` by the text of its first `"pad"`.
fn padded(value: &Value, bytes: usize) -> String {
    let text = value.to_string();
    let missing = bytes.checked_sub(text.len()).expect("the sample is smaller than what it stands for");
    text.replacen(r#""pad":""#, &format!(r#""pad":"{}"#, "x".repeat(missing)), 1)
}

static REPLY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let reply = json!({
        "ok": true, "channel": "C0123456789", "ts": "1767225600.000100",
        "message": {
            "type": "message", "subtype": "bot_message", "text": "Your ticket was created. An engineer looks at it shortly.", "ts": "1767225600.000100",
            "username": "Support", "bot_id": "B0123456789", "app_id": "A0123456789", "team": "T0123456789",
            "blocks": [{ "type": "rich_text", "block_id": "b1", "elements": [{ "type": "rich_text_section", "elements": [{ "type": "text", "text": "" }] }] }],
            "pad": ""
        }
    });
    answer("200 OK", "x-request-id: 0123456789abcdef\r\n", &padded(&reply, REPLY_BYTES))
});

static THROTTLED: LazyLock<Vec<u8>> =
    LazyLock::new(|| answer("429 Too Many Requests", "retry-after: 0\r\n", r#"{"ok":false,"error":"ratelimited"}"#));

static TOKEN: LazyLock<Vec<u8>> = LazyLock::new(|| answer("200 OK", "", r#"{"access_token":"bench-token","token_type":"Bearer","expires_in":3600}"#));

struct Pages {
    middle: Vec<u8>,
    cursor_at: usize,
    last: Vec<u8>,
}

static PAGES: LazyLock<Pages> = LazyLock::new(|| {
    let contact = |number: u64| {
        json!({
            "id": format!("{}", 512_000 + number),
            "properties": {
                "createdate": "2026-01-02T03:04:05.678Z", "email": format!("ada.{number:03}@customer.example"), "firstname": "Ada", "lastname": "Lovelace",
                "hs_object_id": format!("{}", 512_000 + number), "hubspot_owner_id": "70123456", "lastmodifieddate": "2026-02-03T04:05:06.789Z",
                "lifecyclestage": "customer", "phone": "+49 30 1234567", "tier": null, "pad": "",
            },
            "createdAt": "2026-01-02T03:04:05.678Z", "updatedAt": "2026-02-03T04:05:06.789Z", "archived": false,
            "url": format!("https://app.hubspot.com/contacts/424242/record/0-1/{}", 512_000 + number),
        })
    };
    let contacts: Vec<String> = (0..PAGE).map(|number| padded(&contact(number), 584)).collect();
    let contacts = contacts.join(",");
    let mark = digits(0);
    let middle =
        format!(r#"{{"results":[{contacts}],"paging":{{"next":{{"after":"{mark}","link":"https://api.hubapi.com/crm/v3/objects/contacts"}}}}}}"#);
    assert!(middle.len().abs_diff(PAGE_BYTES) < 200, "a page has {} bytes", middle.len());
    let middle = answer("200 OK", "", &middle);
    let after = br#""after":""#;
    let cursor_at = middle.windows(after.len()).position(|window| window == after).unwrap() + after.len();
    Pages { middle, cursor_at, last: answer("200 OK", "", &format!(r#"{{"results":[{contacts}]}}"#)) }
});

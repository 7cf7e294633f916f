//! Outbound notifications: queued by a vendor while it commits, posted by one background task, retried with backoff when the
//! receiver does not answer 2xx, and spoiled by the fault plan (twice, or after the next one). It refuses to know what a body means.

use crate::clock::WallClock;
use crate::faults::{FaultKind, Faults};
use crate::ledger::lock;
use base64::Engine as _;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde_json::Value;
use sha2::{Sha256, Sha512};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

/// How a vendor proves a notification is its own.
#[derive(Clone, Debug)]
pub(crate) enum Signing {
    /// No signature (Microsoft Graph: `clientState` in the body).
    None,
    /// `Authorization: Bearer <secret>`.
    Bearer(String),
    /// HubSpot v3: base64 HMAC-SHA256 over method, URI, body and millisecond timestamp.
    /// <https://developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests>
    HubSpotV3(String),
    /// NetBox: hex HMAC-SHA512 over the body in `X-Hook-Signature`.
    /// <https://netboxlabs.com/docs/netbox/integrations/webhooks/>
    HookSha512(String),
    /// Slack v0: hex HMAC-SHA256 over `v0:`, the timestamp, `:` and the body, which is JSON.
    /// <https://docs.slack.dev/authentication/verifying-requests-from-slack>
    SlackJson(String),
    /// The same over a form; the body is an object of texts.
    SlackForm(String),
    /// None: the address holds the proof, and the body is a text of XML (Salesforce's outbound messages).
    Soap,
}

/// One notification to deliver.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) vendor: &'static str,
    pub(crate) url: String,
    pub(crate) body: Value,
    pub(crate) signing: Signing,
}

/// What became of a notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notification {
    /// Position in the log, from 0.
    pub ordinal: u64,
    /// The vendor that sent it.
    pub vendor: &'static str,
    /// Where it went.
    pub url: String,
    /// Whether this is the second copy of a doubled one.
    pub duplicate: bool,
    /// Whether the next one was allowed to overtake it.
    pub reordered: bool,
    /// POSTs made so far.
    pub attempts: u32,
    /// The last status; absent while nothing answered.
    pub status: Option<u16>,
    /// Whether a 2xx arrived.
    pub delivered: bool,
}

/// How often and how soon an undelivered notification is posted again.
#[derive(Clone, Copy, Debug)]
pub struct RetrySchedule {
    /// POSTs at most. Real vendors go on for hours; a sandbox run is shorter.
    pub attempts: u32,
    /// Pause before the second POST; it doubles each time.
    pub base: Duration,
}

impl Default for RetrySchedule {
    fn default() -> Self {
        Self { attempts: 8, base: Duration::from_millis(50) }
    }
}

/// How long an overtaken notification waits when nothing follows to overtake it.
const OVERTAKE_WAIT: Duration = Duration::from_millis(100);

/// The queue's sending side and its log.
#[derive(Clone, Debug)]
pub(crate) struct Notifier {
    queue: mpsc::UnboundedSender<Delivery>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    log: Mutex<Vec<Notification>>,
    open: Mutex<u64>,
    settled: Notify,
}

impl State {
    fn opened(&self) {
        *lock(&self.open) += 1;
    }

    fn closed(&self) {
        let mut open = lock(&self.open);
        *open = open.saturating_sub(1);
        if *open == 0 {
            self.settled.notify_waiters();
        }
    }
}

impl Notifier {
    /// Starts the background task; it ends when `stop` turns true, dropping what is still queued.
    pub(crate) fn start(clock: WallClock, faults: Arc<Faults>, schedule: RetrySchedule, stop: watch::Receiver<bool>) -> Self {
        let (queue, incoming) = mpsc::unbounded_channel();
        let state = Arc::new(State::default());
        tokio::spawn(run(incoming, Poster { clock, faults, schedule, state: state.clone() }, stop));
        Self { queue, state }
    }

    /// Queues a notification; delivery happens later and cannot fail the caller.
    pub(crate) fn enqueue(&self, delivery: Delivery) {
        self.state.opened();
        if self.queue.send(delivery).is_err() {
            self.state.closed();
        }
    }

    /// What became of each notification so far.
    pub(crate) fn log(&self) -> Vec<Notification> {
        lock(&self.state.log).clone()
    }

    /// Waits until everything queued so far was delivered or given up.
    pub(crate) async fn settled(&self) {
        loop {
            let notified = self.state.settled.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if *lock(&self.state.open) == 0 {
                return;
            }
            notified.await;
        }
    }
}

#[derive(Clone)]
struct Poster {
    clock: WallClock,
    faults: Arc<Faults>,
    schedule: RetrySchedule,
    state: Arc<State>,
}

async fn run(mut incoming: mpsc::UnboundedReceiver<Delivery>, poster: Poster, mut stop: watch::Receiver<bool>) {
    let mut posts = JoinSet::new();
    let mut held: Option<(Delivery, bool)> = None;
    loop {
        let next = tokio::select! {
            next = incoming.recv() => next,
            () = tokio::time::sleep(OVERTAKE_WAIT), if held.is_some() => None,
            Some(_) = posts.join_next(), if !posts.is_empty() => continue,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some(delivery) = next else {
            // Either nothing followed the held one, or the queue closed.
            match held.take() {
                Some((late, duplicate)) => poster.post(&mut posts, late, duplicate, true),
                None => return,
            }
            continue;
        };
        let plan = poster.faults.next_webhook(delivery.vendor);
        if plan.dropped {
            poster.faults.counted(delivery.vendor, FaultKind::DroppedWebhook);
            poster.state.closed();
            continue;
        }
        if plan.reorder && held.is_none() {
            poster.faults.counted(delivery.vendor, FaultKind::ReorderedWebhook);
            held = Some((delivery, plan.duplicate));
            continue;
        }
        poster.post(&mut posts, delivery, plan.duplicate, false);
        if let Some((late, duplicate)) = held.take() {
            poster.post(&mut posts, late, duplicate, true);
        }
    }
}

impl Poster {
    fn post(&self, posts: &mut JoinSet<()>, delivery: Delivery, duplicate: bool, reordered: bool) {
        if duplicate {
            self.faults.counted(delivery.vendor, FaultKind::DuplicateWebhook);
            self.state.opened();
            posts.spawn(self.clone().deliver(delivery.clone(), true, reordered));
        }
        posts.spawn(self.clone().deliver(delivery, false, reordered));
    }

    async fn deliver(self, delivery: Delivery, duplicate: bool, reordered: bool) {
        let slot = {
            let mut log = lock(&self.state.log);
            let ordinal = log.len();
            log.push(Notification {
                ordinal: ordinal as u64,
                vendor: delivery.vendor,
                url: delivery.url.clone(),
                duplicate,
                reordered,
                attempts: 0,
                status: None,
                delivered: false,
            });
            ordinal
        };
        let mut pause = self.schedule.base;
        for attempt in 0..self.schedule.attempts.max(1) {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
            let (headers, body) = self.sign(&delivery, attempt);
            let status = match crate::client::send(Method::POST, &delivery.url, headers, body).await {
                Ok(reply) => Some(reply.status()),
                Err(error) => {
                    tracing::debug!(vendor = delivery.vendor, %error, "notification not delivered");
                    None
                }
            };
            let mut log = lock(&self.state.log);
            log[slot].attempts += 1;
            log[slot].status = status.map(|s| s.as_u16());
            log[slot].delivered = status.is_some_and(|s| s.is_success());
            if log[slot].delivered {
                break;
            }
        }
        self.state.closed();
    }

    fn sign(&self, delivery: &Delivery, attempt: u32) -> (HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        let form = matches!(delivery.signing, Signing::SlackForm(_));
        let kind = match &delivery.signing {
            Signing::SlackForm(_) => "application/x-www-form-urlencoded",
            Signing::Soap => "text/xml; charset=UTF-8",
            _ => "application/json",
        };
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let mut put = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        let body = match &delivery.signing {
            Signing::None => delivery.body.to_string(),
            Signing::Soap => delivery.body.as_str().unwrap_or_default().to_owned(),
            Signing::Bearer(secret) => {
                put("authorization", format!("Bearer {secret}"));
                delivery.body.to_string()
            }
            Signing::HookSha512(secret) => {
                let body = delivery.body.to_string();
                put("x-hook-signature", hex::encode(hmac_sha512(secret.as_bytes(), body.as_bytes())));
                body
            }
            Signing::SlackJson(secret) | Signing::SlackForm(secret) => {
                let body = if form { url_encoded(&delivery.body) } else { delivery.body.to_string() };
                let stamp = self.clock.now().as_second().to_string();
                let message = format!("v0:{stamp}:{body}");
                put("x-slack-signature", format!("v0={}", hex::encode(hmac_sha256(secret.as_bytes(), message.as_bytes()))));
                put("x-slack-request-timestamp", stamp);
                if attempt > 0 {
                    put("x-slack-retry-num", attempt.to_string());
                    put("x-slack-retry-reason", "http_error".to_owned());
                }
                body
            }
            Signing::HubSpotV3(secret) => {
                let mut events = delivery.body.clone();
                for event in events.as_array_mut().into_iter().flatten() {
                    event["attemptNumber"] = attempt.into();
                }
                let body = events.to_string();
                let stamp = self.clock.now().as_millisecond().to_string();
                put("x-hubspot-signature-v3", hubspot_v3(secret, "POST", &delivery.url, &body, &stamp));
                put("x-hubspot-request-timestamp", stamp);
                body
            }
        };
        (headers, Bytes::from(body))
    }
}

/// An object of texts as a form.
fn url_encoded(fields: &Value) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields.as_object().into_iter().flatten() {
        form.append_pair(name, value.as_str().unwrap_or_default());
    }
    form.finish()
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn hmac_sha512(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

/// HubSpot's v3 signature; these escapes, and only these, are decoded in the URI before signing.
fn hubspot_v3(secret: &str, method: &str, uri: &str, body: &str, timestamp: &str) -> String {
    const DECODED: [(&str, &str); 12] = [
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
    ];
    let uri = DECODED.iter().fold(uri.to_owned(), |uri, (escape, plain)| uri.replace(escape, plain));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    for part in [method, uri.as_str(), body, timestamp] {
        mac.update(part.as_bytes());
    }
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vector of HubSpot's own SDK tests (HubSpot/hubspot-api-python, signature tests).
    #[test]
    fn hubspot_v3_matches_the_sdk_vector() {
        let signature = hubspot_v3(
            "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy",
            "POST",
            "https://www.example.com/webhook_uri",
            "{'example_field':'example_value'}",
            "1693657560000",
        );
        assert_eq!(signature, "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y=");
    }

    // The vector of Slack's page on verifying requests, shortened by nothing.
    #[test]
    fn slack_v0_is_what_slack_says() {
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let code = hmac_sha256(b"8f742231b10e8888abcd99yyyzzz85a5", format!("v0:1531420618:{body}").as_bytes());
        assert_eq!(hex::encode(code), "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503");
    }

    #[test]
    fn hook_signature_is_hex_sha512() {
        let body = br#"{"event": "updated", "timestamp": "2026-11-21T12:00:00+00:00", "object_type": "dcim.device", "username": "svc", "data": {"id": 7, "name": "fra1-sw01"}}"#;
        let hex = hex::encode(hmac_sha512(b"netbox-hook-secret-01", body));
        assert!(hex.starts_with("7c05e8d9b7806bad4f235f25"), "{hex}");
    }
}

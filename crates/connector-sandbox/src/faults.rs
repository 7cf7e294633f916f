//! What goes wrong, how often, and the promise that it goes wrong the same way again: every decision is a pure function of
//! (seed, vendor, request ordinal). It refuses to build vendor replies; a vendor says how its own 429 looks.

use crate::exchange::Req;
use crate::ledger::lock;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

/// The kinds of fault, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultKind {
    /// 429 with `Retry-After`; the request was not done.
    Throttled,
    /// 503; the request was not done.
    Unavailable,
    /// The reply was held back for a while.
    Latency,
    /// The request was done, then the connection closed without a reply.
    Cut,
    /// A gateway's HTML page with status 200; the request was not done.
    Html,
    /// The request was done, but half of the JSON is missing.
    Truncated,
    /// A token the client believes in was revoked before the request.
    ExpiredToken,
    /// A delta cursor was answered with 410.
    ExpiredCursor,
    /// A notification was delivered twice.
    DuplicateWebhook,
    /// A notification was overtaken by a later one.
    ReorderedWebhook,
    /// A notification was never sent.
    DroppedWebhook,
}

/// How often each fault happens. Probabilities are per request (or per notification) and between 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultProfile {
    /// 429 answers.
    pub throttled: f64,
    /// The values `Retry-After` is drawn from, whole seconds.
    pub retry_after: Vec<u64>,
    /// Chance that a run of 503 starts at a request.
    pub unavailable: f64,
    /// Longest run of 503, in requests.
    pub unavailable_run: u64,
    /// Chance of added latency.
    pub latency: f64,
    /// Shortest and longest added latency, milliseconds.
    pub latency_ms: (u64, u64),
    /// Connections cut after the work was done.
    pub cut: f64,
    /// HTML pages in a 200.
    pub html: f64,
    /// JSON cut in half.
    pub truncated: f64,
    /// Tokens revoked early.
    pub expired_token: f64,
    /// Delta cursors gone.
    pub expired_cursor: f64,
    /// Notifications delivered twice.
    pub duplicate_webhook: f64,
    /// Notifications overtaken by the next one.
    pub reordered_webhook: f64,
    /// Notifications never sent.
    pub dropped_webhook: f64,
}

impl Default for FaultProfile {
    fn default() -> Self {
        Self::none()
    }
}

impl FaultProfile {
    /// Vendors that never fail.
    pub fn none() -> Self {
        Self {
            throttled: 0.0,
            retry_after: vec![0],
            unavailable: 0.0,
            unavailable_run: 1,
            latency: 0.0,
            latency_ms: (0, 0),
            cut: 0.0,
            html: 0.0,
            truncated: 0.0,
            expired_token: 0.0,
            expired_cursor: 0.0,
            duplicate_webhook: 0.0,
            reordered_webhook: 0.0,
            dropped_webhook: 0.0,
        }
    }

    /// An ordinary bad day.
    pub fn light() -> Self {
        Self {
            throttled: 0.03,
            retry_after: vec![0, 0, 1],
            unavailable: 0.006,
            unavailable_run: 2,
            latency: 0.2,
            latency_ms: (1, 15),
            cut: 0.01,
            html: 0.003,
            truncated: 0.003,
            expired_token: 0.005,
            expired_cursor: 0.02,
            duplicate_webhook: 0.05,
            reordered_webhook: 0.05,
            dropped_webhook: 0.0,
        }
    }

    /// The day everything breaks.
    pub fn heavy() -> Self {
        Self {
            throttled: 0.12,
            retry_after: vec![0, 1, 2],
            unavailable: 0.02,
            unavailable_run: 4,
            latency: 0.4,
            latency_ms: (5, 60),
            cut: 0.04,
            html: 0.015,
            truncated: 0.015,
            expired_token: 0.02,
            expired_cursor: 0.1,
            duplicate_webhook: 0.2,
            reordered_webhook: 0.2,
            dropped_webhook: 0.0,
        }
    }
}

impl FromStr for FaultProfile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "none" => Ok(Self::none()),
            "light" => Ok(Self::light()),
            "heavy" => Ok(Self::heavy()),
            other => Err(format!("unknown fault profile `{other}`; use none, light or heavy")),
        }
    }
}

/// A fault that replaces or spoils the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// 429 with this many seconds in `Retry-After`.
    Throttled(u64),
    /// 503.
    Unavailable,
    /// Done, then cut.
    Cut,
    /// HTML in a 200, not done.
    Html,
    /// Done, JSON cut in half.
    Truncated,
    /// The caller's token is revoked first.
    ExpiredToken,
}

/// Everything planned for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Added latency.
    pub latency: Option<Duration>,
    /// What replaces or spoils the reply.
    pub fault: Option<Fault>,
    /// A delta request answers 410.
    pub expired_cursor: bool,
}

/// Everything planned for one notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WebhookPlan {
    /// Deliver twice.
    pub duplicate: bool,
    /// Let the next one go first.
    pub reorder: bool,
    /// Do not deliver at all.
    pub dropped: bool,
}

/// The fault plan of a running sandbox and the count of what it injected.
#[derive(Debug)]
pub struct Faults {
    seed: u64,
    profile: Mutex<FaultProfile>,
    ordinals: Mutex<HashMap<String, u64>>,
    counts: Mutex<BTreeMap<(&'static str, FaultKind), u64>>,
}

impl Faults {
    pub(crate) fn new(seed: u64, profile: FaultProfile) -> Self {
        Self { seed, profile: Mutex::new(profile), ordinals: Mutex::default(), counts: Mutex::default() }
    }

    /// The profile in force.
    pub fn profile(&self) -> FaultProfile {
        lock(&self.profile).clone()
    }

    /// Changes the profile from the next request on.
    pub fn set(&self, profile: FaultProfile) {
        *lock(&self.profile) = profile;
    }

    /// How often each fault was injected, per vendor.
    pub fn counts(&self) -> BTreeMap<(&'static str, FaultKind), u64> {
        lock(&self.counts).clone()
    }

    /// How often one fault was injected over all vendors.
    pub fn count(&self, kind: FaultKind) -> u64 {
        lock(&self.counts).iter().filter(|((_, k), _)| *k == kind).map(|(_, n)| n).sum()
    }

    pub(crate) fn counted(&self, vendor: &'static str, kind: FaultKind) {
        *lock(&self.counts).entry((vendor, kind)).or_default() += 1;
    }

    /// The plan for a vendor's request number `ordinal` (from 0) under the current profile. Pure: asking twice gives the same.
    pub fn plan(&self, vendor: &str, ordinal: u64) -> Plan {
        let profile = lock(&self.profile);
        let p = &*profile;
        let latency = self.hit(vendor, ordinal, "latency", p.latency).then(|| {
            let (low, high) = p.latency_ms;
            Duration::from_millis(self.draw(vendor, ordinal, "latency-ms").u64(low..=high.max(low)))
        });
        let fault = if self.in_outage(p, vendor, ordinal) {
            Some(Fault::Unavailable)
        } else if self.hit(vendor, ordinal, "throttled", p.throttled) {
            let waits = if p.retry_after.is_empty() { &[0][..] } else { &p.retry_after[..] };
            let pick = self.draw(vendor, ordinal, "retry-after").usize(0..waits.len());
            Some(Fault::Throttled(waits[pick]))
        } else {
            [
                ("expired-token", p.expired_token, Fault::ExpiredToken),
                ("cut", p.cut, Fault::Cut),
                ("html", p.html, Fault::Html),
                ("truncated", p.truncated, Fault::Truncated),
            ]
            .into_iter()
            .find(|(lane, chance, _)| self.hit(vendor, ordinal, lane, *chance))
            .map(|(_, _, fault)| fault)
        };
        Plan { latency, fault, expired_cursor: self.hit(vendor, ordinal, "expired-cursor", p.expired_cursor) }
    }

    /// The plan for a vendor's notification number `ordinal`. Pure, like [`Faults::plan`].
    pub fn webhook_plan(&self, vendor: &str, ordinal: u64) -> WebhookPlan {
        let p = lock(&self.profile);
        WebhookPlan {
            duplicate: self.hit(vendor, ordinal, "duplicate-webhook", p.duplicate_webhook),
            reorder: self.hit(vendor, ordinal, "reordered-webhook", p.reordered_webhook),
            dropped: self.hit(vendor, ordinal, "dropped-webhook", p.dropped_webhook),
        }
    }

    /// The plan for the vendor's next request. Concurrent callers race for ordinals, so a run repeats exactly only as far as its
    /// requests arrive in the same order.
    pub(crate) fn next(&self, vendor: &'static str) -> Plan {
        let ordinal = self.take_ordinal(vendor.to_owned());
        self.plan(vendor, ordinal)
    }

    pub(crate) fn next_webhook(&self, vendor: &'static str) -> WebhookPlan {
        let ordinal = self.take_ordinal(format!("{vendor}/webhooks"));
        self.webhook_plan(vendor, ordinal)
    }

    fn take_ordinal(&self, counter: String) -> u64 {
        let mut ordinals = lock(&self.ordinals);
        let next = ordinals.entry(counter).or_default();
        *next += 1;
        *next - 1
    }

    /// A run of 503 that started up to `unavailable_run - 1` requests ago still covers this one, if it is long enough.
    fn in_outage(&self, p: &FaultProfile, vendor: &str, ordinal: u64) -> bool {
        let longest = p.unavailable_run.max(1);
        (0..longest.min(ordinal + 1)).any(|back| {
            let start = ordinal - back;
            self.hit(vendor, start, "outage", p.unavailable) && self.draw(vendor, start, "outage-length").u64(1..=longest) > back
        })
    }

    fn hit(&self, vendor: &str, ordinal: u64, lane: &str, chance: f64) -> bool {
        chance > 0.0 && self.draw(vendor, ordinal, lane).f64() < chance
    }

    fn draw(&self, vendor: &str, ordinal: u64, lane: &str) -> fastrand::Rng {
        // FNV-1a over the parts: stable over releases and platforms, which std's hasher does not promise.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let parts = [&self.seed.to_le_bytes()[..], vendor.as_bytes(), b"/", &ordinal.to_le_bytes(), lane.as_bytes()];
        for byte in parts.into_iter().flatten() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        fastrand::Rng::with_seed(hash)
    }
}

/// Reads the `X-Sandbox-Fault` header of a request: `429`, `429=2` (with `Retry-After: 2`), `503`, `401`, `410`, `cut`, `html`,
/// `truncate`, `latency=50`, several joined by commas, or `none` for a request that must not be disturbed.
pub(crate) fn from_header(req: &Req) -> Option<Plan> {
    let text = req.header("x-sandbox-fault")?;
    let mut plan = Plan::default();
    for word in text.split(',').map(str::trim) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "429" => plan.fault = Some(Fault::Throttled(value.parse().unwrap_or(0))),
            "503" => plan.fault = Some(Fault::Unavailable),
            "401" => plan.fault = Some(Fault::ExpiredToken),
            "410" => plan.expired_cursor = true,
            "cut" => plan.fault = Some(Fault::Cut),
            "html" => plan.fault = Some(Fault::Html),
            "truncate" => plan.fault = Some(Fault::Truncated),
            "latency" => plan.latency = Some(Duration::from_millis(value.parse().unwrap_or(0))),
            _ => {}
        }
    }
    Some(plan)
}

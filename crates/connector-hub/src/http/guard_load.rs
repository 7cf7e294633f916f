//! How much is worked on at once, and who is told to come again first.
//!
//! Owns the order of shedding: new reads at three quarters of the cap, everything else at the cap, health and approvals never. What was
//! accepted is finished. Refuses to queue: a caller that waits here holds memory, one that comes again does not.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::http::Method;
use connector_webhook::ingress::route::PREFIX;
use metrics::{Gauge, counter, gauge};

/// Bytes of webhook bodies that may be in memory at once, while they arrive and are judged: 64 MiB.
pub(super) const MOST_INGRESS_BYTES: usize = 64 << 20;

/// What a request is, as far as load is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Probes and metrics. Never refused.
    Health,
    /// People deciding. Never refused.
    Approval,
    /// A webhook delivery; its sender comes again by itself.
    Ingress,
    /// Somebody looks at something and can look again.
    Read,
    /// A call of a tool: a read if the tool only reads.
    Call,
    /// A stream of events.
    Stream,
    /// Everything else: what changes something.
    Change,
}

impl Class {
    /// From the request line.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        if path.starts_with(PREFIX) {
            return Self::Ingress;
        }
        match path {
            "/healthz" | "/readyz" | "/metrics" => Self::Health,
            "/api/v1/stream" | "/api/v1/ws" => Self::Stream,
            _ if path.starts_with("/api/v1/approvals") => Self::Approval,
            _ if path.starts_with("/api/v1/tools/") && *method == Method::POST => Self::Call,
            _ if matches!(*method, Method::GET | Method::HEAD) => Self::Read,
            _ => Self::Change,
        }
    }

    /// The stable name, a label of `integration_http_shed_total`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Approval => "approval",
            Self::Ingress => "ingress",
            Self::Read => "read",
            Self::Call => "call",
            Self::Stream => "stream",
            Self::Change => "change",
        }
    }

    /// Never told to come again.
    pub(super) fn always(self) -> bool {
        matches!(self, Self::Health | Self::Approval)
    }
}

/// What is being worked on.
#[derive(Debug)]
pub(super) struct Load {
    most: usize,
    most_ingress: usize,
    most_bytes: usize,
    all: AtomicUsize,
    ingress: AtomicUsize,
    bytes: AtomicUsize,
    gauge_all: Gauge,
    gauge_ingress: Gauge,
}

impl Load {
    pub(super) fn new(most: usize, most_ingress: usize, most_bytes: usize) -> Self {
        gauge!("integration_http_requests_limit").set(rounded(most));
        gauge!("integration_ingress_in_flight_limit").set(rounded(most_ingress));
        Self {
            most,
            most_ingress,
            most_bytes,
            all: AtomicUsize::new(0),
            ingress: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            gauge_all: gauge!("integration_http_requests_in_flight"),
            gauge_ingress: gauge!("integration_ingress_in_flight"),
        }
    }

    /// Lets a request in. `reads` says whether a call only reads; it is asked only where that matters.
    pub(super) fn enter(&self, class: Class, reads: impl FnOnce() -> bool) -> Option<Permit<'_>> {
        let before = self.all.fetch_add(1, Relaxed);
        self.gauge_all.increment(1.0);
        let permit = Permit { load: self, ingress: class == Class::Ingress };
        if permit.ingress {
            self.gauge_ingress.increment(1.0);
            if self.ingress.fetch_add(1, Relaxed) >= self.most_ingress {
                return None;
            }
        }
        let room = match class {
            Class::Health | Class::Approval => true,
            Class::Ingress | Class::Change => before < self.most,
            Class::Read | Class::Stream => before < self.most_reads(),
            Class::Call => before < self.most_reads() || (before < self.most && !reads()),
        };
        // Dropping it gives back what was counted.
        room.then_some(permit)
    }

    fn most_reads(&self) -> usize {
        (self.most - self.most / 4).max(1)
    }

    /// Whether bodies take so much room that the machine is behind: then slow ones give way.
    pub(super) fn is_pressed(&self) -> bool {
        self.bytes.load(Relaxed) > self.most_bytes / 4
    }

    /// Takes room for bytes of a body; `None`: there is none at the moment.
    pub(super) fn hold(&self, bytes: usize) -> Option<Held<'_>> {
        let mut held = Held { load: self, bytes: 0 };
        held.more(bytes).then_some(held)
    }
}

#[allow(clippy::cast_precision_loss, reason = "caps are far below 2^52")]
fn rounded(count: usize) -> f64 {
    count as f64
}

/// Counts a request that was told to come again.
pub(super) fn count_shed(class: Class) {
    counter!("integration_http_shed_total", "class" => class.name()).increment(1);
}

/// A request that is being worked on.
#[derive(Debug)]
pub(super) struct Permit<'l> {
    load: &'l Load,
    ingress: bool,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.load.all.fetch_sub(1, Relaxed);
        self.load.gauge_all.decrement(1.0);
        if self.ingress {
            self.load.ingress.fetch_sub(1, Relaxed);
            self.load.gauge_ingress.decrement(1.0);
        }
    }
}

/// Bytes of a body that are in memory.
#[derive(Debug)]
pub(super) struct Held<'l> {
    load: &'l Load,
    bytes: usize,
}

impl Held<'_> {
    /// Takes more; `false`: there is no room.
    pub(super) fn more(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.load.bytes.fetch_add(bytes, Relaxed) + bytes <= self.load.most_bytes
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.load.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_room_for_bodies_is_pressure() {
        let load = Load::new(8, 4, 100);
        let held = load.hold(25).unwrap();
        assert!(!load.is_pressed());
        let more = load.hold(1).unwrap();
        assert!(load.is_pressed());
        drop((held, more));
        assert!(!load.is_pressed());
    }

    #[test]
    fn reads_are_shed_first_then_the_rest_and_never_health_or_approvals() {
        let load = Load::new(8, 4, 100);
        let enter = |class, reads| load.enter(class, || reads);
        let held: Vec<_> = (0..6).map(|_| enter(Class::Change, false).unwrap()).collect();
        for class in [Class::Read, Class::Stream] {
            assert!(enter(class, false).is_none(), "{class:?}");
        }
        assert!(enter(Class::Call, true).is_none());
        for class in [Class::Call, Class::Change, Class::Ingress] {
            assert!(enter(class, false).is_some(), "{class:?}");
        }
        let full: Vec<_> = (0..2).map(|_| enter(Class::Ingress, false).unwrap()).collect();
        for class in [Class::Read, Class::Call, Class::Change, Class::Ingress, Class::Stream] {
            assert!(enter(class, false).is_none(), "{class:?}");
        }
        for class in [Class::Health, Class::Approval] {
            assert!(enter(class, false).is_some(), "{class:?}");
        }
        drop((held, full));
        assert_eq!((load.all.load(Relaxed), load.ingress.load(Relaxed)), (0, 0));
    }

    #[test]
    fn deliveries_and_their_bytes_have_caps_of_their_own() {
        let load = Load::new(100, 2, 100);
        let held: Vec<_> = (0..2).map(|_| load.enter(Class::Ingress, || false).unwrap()).collect();
        assert!(load.enter(Class::Ingress, || false).is_none());
        assert!(load.enter(Class::Read, || false).is_some());
        drop(held);
        assert!(load.enter(Class::Ingress, || false).is_some());
        let mut first = load.hold(60).unwrap();
        assert!(first.more(40) && !first.more(1) && load.hold(1).is_none());
        drop(first);
        assert!(load.hold(100).is_some());
        assert_eq!(load.bytes.load(Relaxed), 0);
    }

    #[test]
    fn requests_are_what_their_line_says() {
        for (method, path, class) in [
            (Method::POST, "/api/v1/webhooks/a/b", Class::Ingress),
            (Method::GET, "/readyz", Class::Health),
            (Method::GET, "/api/v1/approvals", Class::Approval),
            (Method::POST, "/api/v1/approvals/1/approve", Class::Approval),
            (Method::POST, "/api/v1/tools/x/execute", Class::Call),
            (Method::GET, "/api/v1/tools", Class::Read),
            (Method::GET, "/api/v1/stream", Class::Stream),
            (Method::POST, "/api/v1/dlq/1/retry", Class::Change),
        ] {
            assert_eq!(Class::of(&method, path), class, "{path}");
        }
    }
}

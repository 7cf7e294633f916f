//! From socket to vendor and back: reads the request, asks the fault plan, lets the vendor answer, spoils the answer if planned. It
//! refuses to know what any path means below `/<vendor>`.

use crate::control;
use crate::exchange::{Reply, Req};
use crate::faults::{self, Fault, FaultKind};
use crate::ledger::lock;
use crate::vendors::erp::Erp;
use crate::vendors::glpi::Glpi;
use crate::vendors::hubspot::HubSpot;
use crate::vendors::itop::Itop;
use crate::vendors::msgraph::MsGraph;
use crate::vendors::netbox::NetBox;
use crate::vendors::salesforce::Salesforce;
use crate::vendors::servicenow::ServiceNow;
use crate::vendors::slack::{Slack, socket};
use crate::vendors::ticketing::Ticketing;
use crate::vendors::valuemation::Valuemation;
use crate::vendors::{Shared, Vendor};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header;
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Request bodies over this many bytes are refused with 413; the largest legal one is an upload chunk or a batch.
const BODY_CAP: usize = 16 * 1024 * 1024;

static HTML: &str = "<!DOCTYPE html><html><head><title>Sign in to the network</title></head><body><h1>Gateway</h1></body></html>";

/// Everything a request may reach.
pub(crate) struct Hub {
    pub(crate) addr: SocketAddr,
    pub(crate) served: Vec<String>,
    pub(crate) shared: Shared,
    pub(crate) msgraph: Arc<MsGraph>,
    pub(crate) hubspot: Arc<HubSpot>,
    pub(crate) slack: Arc<Slack>,
    pub(crate) salesforce: Arc<Salesforce>,
    pub(crate) netbox: Arc<NetBox>,
    pub(crate) servicenow: Arc<ServiceNow>,
    pub(crate) glpi: Arc<Glpi>,
    pub(crate) itop: Arc<Itop>,
    pub(crate) valuemation: Arc<Valuemation>,
    pub(crate) ticketing: Arc<Ticketing>,
    pub(crate) erp: Arc<Erp>,
    pub(crate) answered: AtomicU64,
    /// Present when published concurrency limits are enforced.
    pub(crate) lanes: Option<Lanes>,
}

/// Requests in flight per narrow lane (Graph: a mailbox).
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<HashMap<String, usize>>);

impl Lanes {
    /// A place in a lane, held until dropped; `None` when the lane is full.
    fn enter(&self, name: String, width: usize) -> Option<Place<'_>> {
        let mut lanes = lock(&self.0);
        let inside = lanes.entry(name.clone()).or_default();
        if *inside >= width {
            return None;
        }
        *inside += 1;
        drop(lanes);
        Some(Place { lanes: self, name })
    }
}

/// One request's place in a lane.
#[derive(Debug)]
struct Place<'a> {
    lanes: &'a Lanes,
    name: String,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(inside) = lock(&self.lanes.0).get_mut(&self.name) {
            *inside = inside.saturating_sub(1);
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("addr", &self.addr).field("served", &self.served).finish_non_exhaustive()
    }
}

impl Hub {
    /// Requests answered so far.
    pub(crate) fn requests(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn vendor(&self, id: &str) -> Option<&dyn Vendor> {
        if !self.served.iter().any(|s| s == id) {
            return None;
        }
        Some(match id {
            "msgraph" => &*self.msgraph,
            "hubspot" => &*self.hubspot,
            "slack" => &*self.slack,
            "salesforce" => &*self.salesforce,
            "netbox" => &*self.netbox,
            "servicenow" => &*self.servicenow,
            "glpi" => &*self.glpi,
            "itop" => &*self.itop,
            "valuemation" => &*self.valuemation,
            "ticketing" => &*self.ticketing,
            "erp" => &*self.erp,
            _ => return None,
        })
    }
}

/// What goes onto the wire.
enum Outcome {
    Reply(Reply),
    /// Close the connection without a byte of reply.
    Cut,
}

/// The one handler behind every path.
pub(crate) async fn answer(State(hub): State<Arc<Hub>>, request: Request) -> Response {
    // The one thing here that is more than a request and its reply.
    if socket::wants_link(&request) && hub.vendor("slack").is_some() {
        return socket::link(&hub.slack, request);
    }
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_CAP).await else {
        return respond(Reply::json(413, &json!({"error": "request body too large"})));
    };
    let target = head.uri.path_and_query().map_or("/", |p| p.as_str());
    let (mount, below) = split_mount(target);
    let host = head.headers.get(header::HOST).and_then(|h| h.to_str().ok()).map_or_else(|| hub.addr.to_string(), str::to_owned);
    if mount == "_sandbox" {
        let req = Req::new(head.method, format!("http://{host}/_sandbox"), below, head.headers, body);
        return respond(control::handle(&hub, &req));
    }
    let Some(vendor) = hub.vendor(mount) else {
        let message = format!("no vendor `{mount}` here; served: {}", hub.served.join(", "));
        return respond(Reply::json(404, &json!({"error": message})));
    };
    hub.answered.fetch_add(1, Ordering::Relaxed);
    let req = Req::new(head.method, format!("http://{host}/{mount}"), below, head.headers, body);
    match exchange(&hub, vendor, req).await {
        Outcome::Reply(reply) => respond(reply),
        Outcome::Cut => cut(),
    }
}

/// `/vendor/rest?q` → (`vendor`, `/rest?q`).
fn split_mount(target: &str) -> (&str, &str) {
    let target = target.strip_prefix('/').unwrap_or(target);
    match target.find(['/', '?']) {
        Some(end) => target.split_at(end),
        None => (target, ""),
    }
}

async fn exchange(hub: &Hub, vendor: &dyn Vendor, mut req: Req) -> Outcome {
    let faults = &hub.shared.faults;
    let plan = match faults::from_header(&req) {
        Some(plan) => plan,
        None if vendor.spared(&req) => faults::Plan::default(),
        None => faults.next(vendor.id()),
    };
    let _place = match hub.lanes.as_ref().zip(vendor.lane(&req)) {
        None => None,
        Some((lanes, (name, width))) => match lanes.enter(name, width) {
            Some(place) => Some(place),
            None => return Outcome::Reply(vendor.crowded()),
        },
    };
    let counted = |kind| faults.counted(vendor.id(), kind);
    if let Some(latency) = plan.latency {
        counted(FaultKind::Latency);
        tokio::time::sleep(latency).await;
    }
    if plan.expired_cursor && vendor.presents_cursor(&req) {
        counted(FaultKind::ExpiredCursor);
        req.expire_cursor = true;
    }
    match plan.fault {
        Some(Fault::Throttled(after)) => {
            counted(FaultKind::Throttled);
            return Outcome::Reply(vendor.throttled(after));
        }
        Some(Fault::Unavailable) => {
            counted(FaultKind::Unavailable);
            return Outcome::Reply(vendor.unavailable());
        }
        Some(Fault::Html) => {
            counted(FaultKind::Html);
            return Outcome::Reply(Reply::bytes(200, "text/html; charset=utf-8", Bytes::from_static(HTML.as_bytes())));
        }
        Some(Fault::ExpiredToken) if vendor.revoke(&req) => counted(FaultKind::ExpiredToken),
        _ => {}
    }
    let mut reply = vendor.handle(req).await;
    match plan.fault {
        Some(Fault::Cut) => {
            counted(FaultKind::Cut);
            Outcome::Cut
        }
        Some(Fault::Truncated) if reply.is_success() && reply.is_json() && reply.body.len() > 1 => {
            counted(FaultKind::Truncated);
            reply.body.truncate(reply.body.len() / 2);
            Outcome::Reply(reply)
        }
        _ => Outcome::Reply(reply),
    }
}

fn respond(reply: Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = reply.status;
    response.headers_mut().extend(reply.headers);
    response
}

/// A body that fails before the head was flushed makes the server close the socket, so the client sees a reset and no reply at all.
fn cut() -> Response {
    let broken = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut by the sandbox")) });
    Response::new(Body::from_stream(broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_as_wide_as_it_says() {
        let lanes = Lanes::default();
        let places: Vec<_> = (0..4).map(|_| lanes.enter("support".into(), 4).unwrap()).collect();
        assert!(lanes.enter("support".into(), 4).is_none());
        assert!(lanes.enter("sales".into(), 4).is_some(), "another mailbox has its own");
        drop(places);
        assert!(lanes.enter("support".into(), 4).is_some());
    }

    #[test]
    fn mounts_are_split_off() {
        for (target, mount, below) in [("/erp/api?x=1", "erp", "/api?x=1"), ("/erp", "erp", ""), ("/erp?x", "erp", "?x"), ("/", "", "")] {
            assert_eq!(split_mount(target), (mount, below), "{target}");
        }
    }
}

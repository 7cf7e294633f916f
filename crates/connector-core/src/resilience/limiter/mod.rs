//! Keeps a connector within its vendor's limits: several windows at once, calls in flight, and pauses the vendor asked for.
//!
//! Waiting is tokio's, so paused time moves it. A call that would wait too long is refused at once with the time after which
//! to try again, so that a queue can take over. State is kept per key and forgotten once it is as good as new.

mod cell;
mod gate;
mod key;
mod news;
mod shared;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::broadcast;

use super::{keyed::Keyed, policy::LimitPolicy, retry_after};
use crate::{
    clock::{Clock, Instant},
    context::{CallCx, ConnectionId, TenantId},
    error::{ErrorKind, Result},
    hash::BuildFolded,
    spec::{LimitKey, LimitSpec, OpSpec},
};

use self::key::GateKey;

pub use cell::WindowSnapshot;
pub use gate::{GateSnapshot, LimitGate, LimitPermit};
pub use news::{PauseNotice, Paused, share_pauses};
pub use shared::{Counting, FleetQuotas};

/// The class of operations that name none.
const DEFAULT_CLASS: &str = "default";

#[derive(Debug)]
struct Class {
    name: Arc<str>,
    spec: LimitSpec,
    /// The classes that hold as well, by position.
    with: Vec<usize>,
    gates: Keyed<GateKey, LimitGate>,
    /// Shared by all keys beyond the policy's most.
    overflow: Arc<LimitGate>,
}

/// The limits of one connector.
#[derive(Debug)]
pub struct Limiter {
    classes: Vec<Class>,
    by_name: HashMap<Arc<str>, usize, BuildFolded>,
    default: usize,
    policy: LimitPolicy,
    clock: Arc<dyn Clock>,
    epoch: Instant,
    /// Pauses the vendor asked for, by scope, in nanoseconds since `epoch`.
    pauses: DashMap<Arc<str>, u64>,
    /// The end of the last of all pauses, so that calls look no further when none is on.
    last_pause: AtomicU64,
    home: Option<Home>,
}

/// Where a limiter belongs: its connector, and what all limiters of the process share.
#[derive(Debug, Clone)]
struct Home {
    connector: Arc<str>,
    fleet: Option<Arc<FleetQuotas>>,
    told: broadcast::Sender<PauseNotice>,
}

impl Home {
    /// The text that tells a quota of the fleet from all others.
    fn whose(&self, class: &str, key: Option<&GateKey>) -> String {
        let Some(key) = key else { return format!("{}\u{1f}{class}\u{1f}the rest", self.connector) };
        let (tenant, connection, param) = key::Viewed::view(key);
        format!("{}\u{1f}{class}\u{1f}{tenant:?}\u{1f}{connection:?}\u{1f}{param:?}", self.connector)
    }
}

/// The limits of one class and key at one moment, for health pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitSnapshot {
    /// The limit class.
    pub class: Arc<str>,
    /// The tenant, where the quota is not shared by all.
    pub tenant: Option<TenantId>,
    /// The connection, where the quota is its own.
    pub connection: Option<ConnectionId>,
    /// The parameter's value, where the quota is its own.
    pub param: Option<String>,
    /// The limits.
    #[serde(flatten)]
    pub gate: GateSnapshot,
}

impl Limiter {
    /// A limiter for the classes of a connector. Operations whose class is not among them use `default`, which limits calls
    /// in flight per connection if nothing is said about it.
    pub fn new(limits: &BTreeMap<Arc<str>, LimitSpec>, policy: &LimitPolicy, clock: Arc<dyn Clock>) -> Self {
        Self::at(limits, policy, clock, None)
    }

    fn at(limits: &BTreeMap<Arc<str>, LimitSpec>, policy: &LimitPolicy, clock: Arc<dyn Clock>, home: Option<Home>) -> Self {
        let mut limits = limits.clone();
        let default = limits.entry(DEFAULT_CLASS.into()).or_default();
        default.concurrent.get_or_insert(policy.concurrent);
        let by_name: HashMap<Arc<str>, usize, BuildFolded> = limits.keys().cloned().enumerate().map(|(at, name)| (name, at)).collect();
        let with = |name: &Arc<str>| {
            let mut chain = Vec::new();
            let mut next = limits[name].with.as_ref();
            while let Some(at) = next.and_then(|name| by_name.get(name)).copied() {
                if chain.contains(&at) || by_name.get(name) == Some(&at) {
                    break;
                }
                chain.push(at);
                next = limits.values().nth(at).and_then(|spec| spec.with.as_ref());
            }
            chain
        };
        let classes = limits.iter().map(|(name, spec)| Class {
            name: name.clone(),
            spec: spec.clone(),
            with: with(name),
            gates: Keyed::default(),
            overflow: Arc::new(gate_of(spec, policy, &clock, home.as_ref(), name, None)),
        });
        Self {
            classes: classes.collect(),
            default: by_name.get(DEFAULT_CLASS).copied().unwrap_or(0),
            by_name,
            policy: *policy,
            epoch: clock.now(),
            clock,
            pauses: DashMap::new(),
            last_pause: AtomicU64::new(0),
            home,
        }
    }

    fn fleet(&self) -> Option<&FleetQuotas> {
        self.home.as_ref()?.fleet.as_deref()
    }

    /// The limit specs it was made of, `default` filled in.
    pub fn limits(&self) -> impl Iterator<Item = (&Arc<str>, &LimitSpec)> {
        self.classes.iter().map(|class| (&class.name, &class.spec))
    }

    /// The position of the class an operation draws from.
    pub(crate) fn class_of(&self, op: &OpSpec) -> usize {
        self.by_name.get(&op.limit_class).copied().unwrap_or(self.default)
    }

    fn class(&self, op: &OpSpec) -> &Class {
        &self.classes[self.class_of(op)]
    }

    /// Whether the arguments of a call decide which quota it draws from.
    pub(crate) fn needs_args(&self, op: &OpSpec) -> bool {
        matches!(self.class(op).spec.key, LimitKey::Param(_))
    }

    fn gate(&self, class: &Class, cx: &CallCx, args: &Map<String, Value>) -> Arc<LimitGate> {
        let (tenant, connection) = (Some(cx.tenant().as_str()), Some(cx.connection.id.as_str()));
        let text;
        let view: key::View<'_> = match &class.spec.key {
            LimitKey::Connector => (None, None, None),
            LimitKey::Tenant => (tenant, None, None),
            LimitKey::Connection => (tenant, connection, None),
            LimitKey::Param(name) => {
                text = value_of(args, name);
                (tenant, connection, Some(&text))
            }
        };
        if let Some(gate) = class.gates.get(&view as &dyn key::Viewed) {
            return gate;
        }
        self.gate_for(class, &Self::key_of(class, cx, args))
    }

    /// What the call draws from, as a key of its own.
    fn key_of(class: &Class, cx: &CallCx, args: &Map<String, Value>) -> GateKey {
        let (tenant, connection) = (Some(cx.connection.tenant.clone()), Some(cx.connection.id.clone()));
        match &class.spec.key {
            LimitKey::Connector => GateKey::default(),
            LimitKey::Tenant => GateKey { tenant, ..GateKey::default() },
            LimitKey::Connection => GateKey { tenant, connection, param: None },
            LimitKey::Param(name) => GateKey { tenant, connection, param: Some(value_of(args, name).into()) },
        }
    }

    /// The gate of a key, made if it is not there.
    fn gate_for(&self, class: &Class, key: &GateKey) -> Arc<LimitGate> {
        let make = || gate_of(&class.spec, &self.policy, &self.clock, self.home.as_ref(), &class.name, Some(key));
        class.gates.insert_within(key, self.policy.max_keys as usize, make).unwrap_or_else(|| class.overflow.clone())
    }

    /// Waits for a turn under all limits of the operation, no longer than the policy's longest wait or the call's deadline.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`] with the time after which to try again, as soon as it is clear that it would take longer.
    pub async fn acquire(&self, cx: &CallCx, op: &OpSpec, args: &Map<String, Value>) -> Result<LimitPermit> {
        self.acquire_in(self.class_of(op), cx, args).await
    }

    /// As [`Limiter::acquire`], for who knows the class.
    pub(crate) async fn acquire_in(&self, class: usize, cx: &CallCx, args: &Map<String, Value>) -> Result<LimitPermit> {
        let class = &self.classes[class];
        let own = self.gate(class, cx, args);
        let pause = || self.pause_left(cx);
        if class.with.is_empty() {
            return gate::acquire(std::slice::from_ref(&own), self.fleet(), &pause, cx.deadline).await;
        }
        let mut gates = vec![own];
        gates.extend(class.with.iter().map(|at| self.gate(&self.classes[*at], cx, args)));
        gate::acquire(&gates, self.fleet(), &pause, cx.deadline).await
    }

    /// Runs a call when its turn has come, and takes note of what the vendor says about its limits. Works on any async function.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`], or whatever the call reports.
    pub async fn run<T>(&self, cx: &CallCx, op: &OpSpec, args: &Map<String, Value>, call: impl Future<Output = Result<T>>) -> Result<T> {
        let permit = self.acquire(cx, op, args).await?;
        let result = call.await;
        if let Err(error) = &result
            && error.kind() == ErrorKind::Throttled
            && let Some(delay) = error.retry_after()
        {
            self.pause(cx, op, args, delay);
        }
        drop(permit);
        result
    }

    /// Sends nothing for this long (at most a day), because the vendor asked for it: over this scope (tenant, connector, host), or for this
    /// value alone where the operation's quota is kept per value of a parameter. Never shortens a longer pause. The rest of the fleet hears of it.
    pub fn pause(&self, cx: &CallCx, op: &OpSpec, args: &Map<String, Value>, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        let class = self.class(op);
        if matches!(class.spec.key, LimitKey::Param(_)) {
            self.gate(class, cx, args).pause(delay);
            return self.tell(delay, || self.paused_quota(class, cx, args));
        }
        self.pause_scope(cx.connection.scope(), delay);
        self.tell(delay, || Paused::Scope { scope: cx.connection.scope().to_string() });
    }

    fn pause_scope(&self, scope: &Arc<str>, delay: Duration) {
        let delay = delay.min(retry_after::LONGEST);
        let now = self.clock.now();
        let since = |instant: Instant| u64::try_from(instant.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        let until = since(now).saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX));
        self.pauses.retain(|_, until| *until > since(now));
        self.pauses.entry(scope.clone()).and_modify(|old| *old = until.max(*old)).or_insert(until);
        self.last_pause.fetch_max(until, Ordering::AcqRel);
    }

    /// Sends nothing over this scope until `until`.
    pub fn pause_until(&self, cx: &CallCx, op: &OpSpec, args: &Map<String, Value>, until: Instant) {
        self.pause(cx, op, args, until.saturating_duration_since(self.clock.now()));
    }

    /// How long nothing is sent over the scope of this connection.
    pub fn pause_left(&self, cx: &CallCx) -> Duration {
        let last = self.last_pause.load(Ordering::Acquire);
        if last == 0 {
            return Duration::ZERO;
        }
        let now = self.clock.now().saturating_duration_since(self.epoch);
        if Duration::from_nanos(last) <= now {
            return Duration::ZERO;
        }
        self.pauses.get(cx.connection.scope()).map_or(Duration::ZERO, |until| Duration::from_nanos(*until).saturating_sub(now))
    }

    /// Takes note of how many calls the vendor says are left, and when that changes.
    pub fn observe(&self, cx: &CallCx, op: &OpSpec, args: &Map<String, Value>, remaining: u64, reset_in: Option<Duration>) {
        let class = self.class(op);
        if let Some(delay) = self.gate(class, cx, args).observed(remaining, reset_in) {
            self.tell(delay, || self.paused_quota(class, cx, args));
        }
    }

    /// The limits of all keys in use.
    pub fn snapshot(&self) -> Vec<LimitSnapshot> {
        let mut all = Vec::new();
        for class in &self.classes {
            class.gates.for_each(|key, gate| {
                all.push(LimitSnapshot {
                    class: class.name.clone(),
                    tenant: key.tenant.clone(),
                    connection: key.connection.clone(),
                    param: key.param.as_deref().map(str::to_owned),
                    gate: gate.snapshot(),
                });
            });
        }
        all.sort_by(|a, b| (&a.class, &a.tenant, &a.connection, &a.param).cmp(&(&b.class, &b.tenant, &b.connection, &b.param)));
        all
    }

    /// The scopes that are paused because the vendor asked for it, and for how long.
    pub fn paused(&self) -> BTreeMap<Arc<str>, Duration> {
        let now = self.clock.now().saturating_duration_since(self.epoch);
        let left = |until: u64| Duration::from_nanos(until).saturating_sub(now);
        self.pauses.iter().map(|entry| (entry.key().clone(), left(*entry.value()))).filter(|(_, left)| !left.is_zero()).collect()
    }
}

/// The value of a parameter as a key; one that is not given is the empty text.
fn value_of<'a>(args: &'a Map<String, Value>, name: &str) -> Cow<'a, str> {
    match args.get(name) {
        None | Some(Value::Null) => "".into(),
        Some(Value::String(text)) => text.as_str().into(),
        Some(other) => other.to_string().into(),
    }
}

/// A gate for one key, counted by the fleet if there is one; without a key: for all keys that have none of their own.
fn gate_of(spec: &LimitSpec, policy: &LimitPolicy, clock: &Arc<dyn Clock>, home: Option<&Home>, class: &str, key: Option<&GateKey>) -> LimitGate {
    let gate = LimitGate::new(spec, policy, clock.clone());
    match home.and_then(|home| Some((home, home.fleet.as_deref()?))) {
        Some((home, fleet)) => gate.in_fleet(spec, policy, fleet, &home.whose(class, key)),
        None => gate,
    }
}

/// The limiters of all connectors.
#[derive(Debug)]
pub struct Limits {
    limiters: DashMap<Arc<str>, Arc<Limiter>>,
    fleet: Option<Arc<FleetQuotas>>,
    told: broadcast::Sender<PauseNotice>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { limiters: DashMap::new(), fleet: None, told: broadcast::Sender::new(news::BACKLOG) }
    }
}

impl Limits {
    /// Limiters whose windows the fleet counts.
    pub fn in_fleet(fleet: Arc<FleetQuotas>) -> Self {
        Self { fleet: Some(fleet), ..Self::default() }
    }

    /// What is shared with the fleet; `None`: each process counts by itself.
    pub fn fleet(&self) -> Option<&Arc<FleetQuotas>> {
        self.fleet.as_ref()
    }

    /// The limiter of a connector, made for these limits; a changed manifest or policy replaces it.
    pub fn of(&self, connector: &Arc<str>, limits: &BTreeMap<Arc<str>, LimitSpec>, policy: &LimitPolicy, clock: &Arc<dyn Clock>) -> Arc<Limiter> {
        let home = Home { connector: connector.clone(), fleet: self.fleet.clone(), told: self.told.clone() };
        let fresh = Arc::new(Limiter::at(limits, policy, clock.clone(), Some(home)));
        let mut entry = self.limiters.entry(connector.clone()).or_insert_with(|| fresh.clone());
        if entry.policy != *policy || !entry.limits().eq(fresh.limits()) {
            *entry = fresh;
        }
        entry.clone()
    }

    /// The limiter of a connector, if it has one.
    pub fn get(&self, connector: &str) -> Option<Arc<Limiter>> {
        self.limiters.get(connector).map(|limiter| limiter.clone())
    }

    /// The limits of all connectors, for health pages.
    pub fn snapshot(&self) -> BTreeMap<Arc<str>, Vec<LimitSnapshot>> {
        self.limiters.iter().map(|entry| (entry.key().clone(), entry.value().snapshot())).collect()
    }
}

//! Thirty simulated days in one mailbox: every change of it is handled, and none twice, whatever happens to notifications, subscriptions,
//! cursors and the hub.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use connector_runtime::SUBSCRIPTION_LOST;
use connector_sandbox::{FaultKind, FaultProfile, LifecycleEvent, known};

use crate::subscriptions_world::{Handled, Hub, World};

const STEP: Duration = Duration::from_secs(30 * 60);
const STEPS_A_DAY: usize = 24 * 2;
const DAYS: usize = 30;
/// A message rests so long between two changes that a reading lies between them, also after the longest outage: then each change can be told
/// on its own, and what was handled must be exactly what changed.
const REST: usize = 8 * 2;
const MAILBOX: &str = known::GRAPH_MAILBOX;

/// What a person does with a message next.
#[derive(Debug, Clone)]
struct Message {
    id: String,
    changed_at: usize,
    in_inbox: bool,
}

/// Random changes of a mailbox.
struct People {
    rng: fastrand::Rng,
    messages: Vec<Message>,
    arrived: usize,
}

impl People {
    fn act(&mut self, world: &World, step: usize) {
        let graph = world.sandbox.msgraph();
        if self.rng.f64() < 0.3 {
            self.arrived += 1;
            let id = world.arrive(self.arrived);
            self.messages.push(Message { id, changed_at: step, in_inbox: true });
        }
        let rested: Vec<usize> = (0..self.messages.len()).filter(|at| step - self.messages[*at].changed_at >= REST).collect();
        if rested.is_empty() || self.rng.f64() > 0.35 {
            return;
        }
        let at = rested[self.rng.usize(0..rested.len())];
        let message = &mut self.messages[at];
        message.changed_at = step;
        match (message.in_inbox, self.rng.u8(0..10)) {
            (true, 0..6) => assert!(graph.touch(MAILBOX, &message.id, self.rng.bool())),
            (true, 6..8) => {
                assert!(graph.shift(MAILBOX, &message.id, "archive"));
                message.in_inbox = false;
            }
            (true, _) => {
                assert!(graph.discard(MAILBOX, &message.id));
                self.messages.swap_remove(at);
            }
            (false, _) => {
                assert!(graph.shift(MAILBOX, &message.id, "inbox"));
                message.in_inbox = true;
            }
        }
    }
}

/// A change without what a removal does not have.
fn plain(change: &str, id: &str, etag: Option<&str>) -> (String, String, Option<String>) {
    (change.to_owned(), id.to_owned(), if change == "deleted" { None } else { etag.map(str::to_owned) })
}

fn counted<T: Ord>(all: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counted = BTreeMap::new();
    for one in all {
        *counted.entry(one).or_default() += 1;
    }
    counted
}

async fn thirty_days(seed: u64) -> (World, Hub) {
    let world = World::new(seed).await;
    // A life of two days instead of a week, so that thirty days hold many of them.
    world.sandbox.msgraph().grant_at_most(2_880);
    let hub = world.running_hub().await;
    hub.tend().await;
    let mut people = People { rng: fastrand::Rng::with_seed(seed), messages: Vec::new(), arrived: 0 };
    let graph = world.sandbox.msgraph();
    for step in 0..DAYS * STEPS_A_DAY {
        let (day, of_day) = (step / STEPS_A_DAY, step % STEPS_A_DAY);
        match (day, of_day) {
            // Every kind of trouble on its own, and then together.
            (3, 0) => world.sandbox.faults().set(FaultProfile {
                dropped_webhook: 0.2,
                duplicate_webhook: 0.2,
                reordered_webhook: 0.05,
                ..FaultProfile::none()
            }),
            (5, 10) => assert_eq!(graph.fire_lifecycle(LifecycleEvent::ReauthorizationRequired), 1),
            (7, 3) | (22, 1) => assert_eq!(graph.fire_lifecycle(LifecycleEvent::Missed), 1),
            (9, 20) | (24, 33) => {
                // Told of it or not: a lost lifecycle notification is the worst kind of lost notification.
                if day == 24 {
                    graph.drop_subscriptions()
                } else {
                    graph.fire_lifecycle(LifecycleEvent::SubscriptionRemoved);
                }
            }
            // The next renewal is refused once.
            (12, 0) => graph.refuse_renewals(1),
            (14, 12) => world.door.closed.store(true, Ordering::SeqCst),
            (14, 24) => world.door.closed.store(false, Ordering::SeqCst),
            (17, 7) | (27, 30) => graph.expire_delta(MAILBOX),
            (18, 0) => world.sandbox.faults().set(FaultProfile {
                dropped_webhook: 0.2,
                duplicate_webhook: 0.2,
                reordered_webhook: 0.05,
                cut: 0.05,
                throttled: 0.05,
                expired_cursor: 0.02,
                ..FaultProfile::none()
            }),
            (29, 33) => world.sandbox.faults().set(FaultProfile::none()),
            _ => {}
        }
        world.pass(STEP);
        if !(day == 29 && of_day > 40) {
            people.act(&world, step);
        }
        // For six hours of day 14 nothing here runs. Otherwise the hub looks while notifications are on their way.
        if !(day == 14 && (12..24).contains(&of_day)) {
            hub.tend().await;
        }
        // Time stands still while an event is handled: a lease of a minute must not end because thirty pass at once.
        world.settle().await;
    }
    hub.tend().await;
    world.settle().await;
    (world, hub)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sub_lifecycle_30d() {
    let (world, hub) = thirty_days(30).await;
    let handled = world.handled();
    let truth = world.truth();
    let told = counted(handled.iter().map(|one: &Handled| plain(&one.change, &one.id, one.etag.as_deref())));
    let real = counted(truth.iter().map(|one| plain(one.change, &one.id, Some(&one.etag))));
    let missed: Vec<_> = real.iter().filter(|(change, count)| told.get(*change).unwrap_or(&0) < *count).collect();
    let doubled: Vec<_> = told.iter().filter(|(change, count)| real.get(*change).unwrap_or(&0) < *count).collect();
    assert!(missed.is_empty(), "{} of {} changes were missed: {missed:?}", missed.len(), truth.len());
    assert!(doubled.is_empty(), "{} were handled twice, or never happened: {doubled:?}", doubled.len());

    // It was the thirty days that were meant.
    let view = hub.only().await;
    assert!(truth.len() > 400, "{} changes", truth.len());
    assert!(view.counts.renewed >= 20, "{:?}", view.counts);
    assert!(view.counts.created + view.counts.adopted >= 4 && view.counts.gaps >= 6 && view.counts.resyncs >= 2, "{:?}", view.counts);
    assert!(handled.iter().filter(|one| one.found).count() > 20);
    let faults = world.sandbox.faults();
    assert!(
        faults.count(FaultKind::DroppedWebhook) > 50
            && faults.count(FaultKind::DuplicateWebhook) > 50
            && faults.count(FaultKind::ReorderedWebhook) > 10
    );
    let lost: Vec<_> = world.book.hub.lock().unwrap().iter().filter(|(kind, _)| kind == SUBSCRIPTION_LOST).cloned().collect();
    assert!((3..=12).contains(&lost.len()), "{lost:?}");
    assert_eq!(world.sandbox.msgraph().subscription_ids(), [view.vendor_id.unwrap()]);
    assert_eq!((view.gap, view.failures), (None, 0));
}

//! The end of a case: wait until nothing is left to do, then hold what was acknowledged against what was done.

use std::time::Duration;

use anyhow::Result;
use connector_core::state::QueueDepth;
use serde_json::json;
use tokio::time::Instant;

use super::world::World;
use crate::chaos::verdict::Verdict;

/// How often is looked.
const EVERY: Duration = Duration::from_millis(250);

/// What is left when the wait is over.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    pub(crate) took: Duration,
    pub(crate) depth: QueueDepth,
}

/// Waits until every one of these events took effect and the queues are empty; no longer than `patience`.
pub(crate) async fn settle(world: &World, acked: &[String], patience: Duration) -> Result<Settled> {
    let began = Instant::now();
    let look = world.look().await?;
    loop {
        let missing = world.effects.with(|ledger| ledger.missing(acked).len());
        // While a server is coming back it may refuse to be looked at.
        let depth = look.depth().await;
        let idle = depth.as_ref().is_ok_and(|depth| depth.pending + depth.leased == 0);
        if (missing == 0 && idle) || began.elapsed() > patience {
            return Ok(Settled { took: began.elapsed(), depth: depth? });
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The promise of the event path: nothing that was acknowledged is lost, nothing is done twice, nothing gave up.
pub(crate) fn judge(verdict: &mut Verdict, world: &World, acked: &[String], settled: &Settled) {
    let ledger = world.effects.ledger();
    let (missing, doubled) = (ledger.missing(acked), ledger.doubled());
    verdict.require(missing.is_empty(), || {
        format!("{} acknowledged events had no effect, for example {:?}", missing.len(), &missing[..missing.len().min(3)])
    });
    verdict.require(doubled.is_empty(), || {
        format!("{} events had more than one effect, for example {:?}", doubled.len(), doubled.iter().take(3).collect::<Vec<_>>())
    });
    verdict.require(ledger.wrong.is_empty(), || {
        format!("{} requests should not have been made: {:?}", ledger.wrong.len(), &ledger.wrong[..ledger.wrong.len().min(3)])
    });
    let depth = settled.depth;
    verdict.require(depth.pending + depth.leased == 0, || {
        format!("after {:?} there is still work: {} waiting, {} in work", settled.took, depth.pending, depth.leased)
    });
    verdict.require(depth.dead == 0, || format!("{} dead letters", depth.dead));
    verdict.figure("missing", missing.len());
    verdict.figure("effects", ledger.effects());
    verdict.figure("doubled", doubled.len());
    verdict.figure("replayed_under_the_same_key", ledger.replays);
    verdict.figure("answers_cut_off_after_the_effect", ledger.hangups);
    verdict.figure("dead_letters", depth.dead);
    verdict.figure("settled_in_secs", json!(settled.took.as_secs()));
}

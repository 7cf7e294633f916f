//! The stage of the call path that answers reads from the cache, and drops what writes made stale.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use async_trait::async_trait;
use connector_core::{Error, ErrorKind, OpReply, ReplyBody, Result, TenantId, spec::OpSpec};

use super::{Cache, Kept, Key, tag_key};
use crate::{
    canonical,
    request::{CallOutcome, Governed},
    stack::{Next, Stage},
    stats::{Counters, one},
    tags,
};

/// The stage that answers reads from the cache, and drops what writes made stale.
#[derive(Debug)]
pub(crate) struct CacheStage {
    pub(crate) cache: Arc<Cache>,
    pub(crate) counters: Arc<Counters>,
}

impl CacheStage {
    fn key(call: &Governed) -> Key {
        canonical::digest(&[
            call.tenant.as_str().as_bytes(),
            call.connection_id().as_bytes(),
            call.op.name.as_bytes(),
            call.digest.as_bytes(),
            &call.loaded.generation.to_le_bytes(),
        ])
    }

    fn count(call: &Governed, result: &'static str) {
        let adapter = call.loaded.connector.spec().id.clone();
        metrics::counter!("integration_cache_requests_total", "adapter" => adapter, "operation" => call.op.name.clone(), "result" => result)
            .increment(1);
    }

    /// Takes it from the fleet (`true`), or fetches and keeps it.
    async fn fetch(&self, local: Key, ttl: Duration, call: &mut Governed, next: Next<'_>) -> Result<(Kept, bool)> {
        let since = self.cache.clockwork.load(Relaxed);
        let second = match &self.cache.second {
            None => None,
            Some(second) => match second.key(call) {
                None => None,
                Some(key) => match second.look(&self.cache, &key, since).await {
                    Ok(kept) => {
                        self.cache.kept.insert(local, kept.clone()).await;
                        return Ok((kept, true));
                    }
                    Err(stamp) => stamp.map(|stamp| (second, key, stamp)),
                },
            },
        };
        one(&self.cache.misses);
        let outcome = next.run(call).await?;
        let CallOutcome::Done(reply) = outcome else {
            return Err(Error::internal("a read that may be cached came back as something else than a reply"));
        };
        let tags = self.tags(call, &call.op, &reply)?;
        let keep = reply.partial.is_empty() && !reply.meta.absent;
        let ttl = if keep { ttl } else { Duration::ZERO };
        let kept = Kept { body: reply.body, next: reply.next, meta: reply.meta, tags, since, until: self.cache.clock.now() + ttl, ttl };
        if !ttl.is_zero() {
            self.cache.kept.insert(local, kept.clone()).await;
            if let Some((second, key, stamp)) = second {
                second.keep(key, &kept, stamp);
            }
        }
        Ok((kept, false))
    }

    fn tags(&self, call: &Governed, op: &OpSpec, reply: &OpReply) -> Result<Arc<[Key]>> {
        if op.cache.as_ref().is_none_or(|cache| cache.tags.is_empty()) {
            return Ok(Arc::from([]));
        }
        let body = match &reply.body {
            ReplyBody::Raw { .. } => serde_json::Value::Null,
            other => other.to_value()?,
        };
        let connector = &call.loaded.connector.spec().id;
        Ok(tags::of_reply(op, &call.params, &body).iter().map(|tag| tag_key(&call.tenant, connector, tag)).collect())
    }

    fn write_touched(&self, call: &Governed, outcome: &Result<CallOutcome>) {
        let reply = match outcome {
            Ok(CallOutcome::Done(reply)) if !matches!(reply.body, ReplyBody::Raw { .. }) => reply.body.to_value().ok(),
            _ => None,
        };
        touch(&self.cache, &call.loaded, &call.tenant, &call.params, reply.as_ref());
    }
}

/// Drops the tags a write may have made stale.
pub(crate) fn touch(
    cache: &Cache,
    loaded: &crate::catalogue::Loaded,
    tenant: &TenantId,
    args: &serde_json::Map<String, serde_json::Value>,
    reply: Option<&serde_json::Value>,
) {
    let args = serde_json::Value::Object(args.clone());
    for tag in loaded.templates.touched_by(&args, reply) {
        cache.invalidate(tenant, &loaded.connector.spec().id, &tag);
    }
}

#[async_trait]
impl Stage for CacheStage {
    fn name(&self) -> &'static str {
        "cache"
    }

    async fn run(&self, call: &mut Governed, next: Next<'_>) -> Result<CallOutcome> {
        if call.is_write() {
            let outcome = next.run(call).await;
            if call.sent {
                self.write_touched(call, &outcome);
            }
            return outcome;
        }
        let Some(ttl) = call.op.cache.as_ref().map(connector_core::spec::CacheSpec::ttl).filter(|ttl| !ttl.is_zero()) else {
            return next.run(call).await;
        };
        // A read that may be queued may come back as a job, which cannot be shared.
        if call.queue == Some(true) {
            return next.run(call).await;
        }
        let key = Self::key(call);
        if let Some(kept) = self.cache.get(&key).await {
            one(&self.cache.hits);
            one(&self.counters.cache_saved);
            Self::count(call, "hit");
            return Ok(CallOutcome::Done(kept.reply()));
        }
        let mut led = false;
        let deadline = call.cx()?.deadline;
        let found = {
            let flight = self.cache.flights.run(key, || {
                led = true;
                self.fetch(key, ttl, call, next)
            });
            match deadline {
                None => flight.await,
                Some(deadline) => match tokio::time::timeout_at(deadline, flight).await {
                    Ok(found) => found,
                    Err(_) => Arc::new(Err(Error::new(ErrorKind::Timeout, "another caller's fetch of the same did not end before the deadline"))),
                },
            }
        };
        let shared = matches!(&*found, Ok((_, true)));
        if led && shared {
            one(&self.cache.hits);
            one(&self.counters.cache_saved);
            Self::count(call, "shared");
        } else if led {
            Self::count(call, "miss");
        } else if found.is_ok() {
            one(&self.cache.joined);
            one(&self.counters.cache_saved);
            Self::count(call, "joined");
        } else if found
            .as_ref()
            .as_ref()
            .is_err_and(|error| matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Overloaded | ErrorKind::Cancelled))
            && deadline.is_none_or(|deadline| deadline > self.cache.clock.now())
        {
            // The caller who fetched had less time than this one; its failure is not this one's.
            let (kept, shared) = self.fetch(key, ttl, call, next).await?;
            Self::count(call, if shared { "shared" } else { "miss" });
            let mut reply = kept.reply();
            reply.meta.cached = shared;
            return Ok(CallOutcome::Done(reply));
        }
        match &*found {
            Ok((kept, _)) => {
                let mut reply = kept.reply();
                reply.meta.cached = !led || shared;
                reply.meta.waited = if led { kept.meta.waited } else { Duration::ZERO };
                Ok(CallOutcome::Done(reply))
            }
            Err(error) => Err(error.clone()),
        }
    }
}

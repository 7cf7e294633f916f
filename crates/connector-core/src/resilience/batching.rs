//! Micro-batching: single requests that come at about the same time become one batch request.
//!
//! The first caller opens a batch; it is sent when its window ends or it is full. It runs in a task of its own, so a caller
//! who leaves takes nothing from the others.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};

/// Sends one batch. A key without a result was not found.
type Send<K, V> = dyn Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, Result<V>>>> + std::marker::Send + Sync;

/// Collects keys and sends them together.
pub struct Batcher<K, V> {
    inner: Arc<Inner<K, V>>,
}

struct Inner<K, V> {
    max: usize,
    window: Duration,
    send: Box<Send<K, V>>,
    open: Mutex<Open<K, V>>,
}

struct Open<K, V> {
    /// Tells one open batch from the next, so that a timer never sends a batch it does not belong to.
    number: u64,
    waiting: HashMap<K, Vec<oneshot::Sender<Result<V>>>>,
}

impl<K, V> fmt::Debug for Batcher<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("max", &self.inner.max).field("window", &self.inner.window).finish_non_exhaustive()
    }
}

impl<K, V> Batcher<K, V>
where
    K: Eq + Hash + Clone + std::marker::Send + 'static,
    V: Clone + std::marker::Send + 'static,
{
    /// Sends at most `max` keys together, no later than `window` after the first came.
    ///
    /// `send` gives a result per key; its own failure goes to every caller of the batch.
    pub fn new<F>(max: usize, window: Duration, send: F) -> Self
    where
        F: Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, Result<V>>>> + std::marker::Send + Sync + 'static,
    {
        let open = Mutex::new(Open { number: 0, waiting: HashMap::new() });
        Self { inner: Arc::new(Inner { max: max.max(1), window, send: Box::new(send), open }) }
    }

    /// The result for one key. Callers of the same key share it.
    ///
    /// # Errors
    /// The key's own error, a copy of the batch's, or [`ErrorKind::NotFound`] if the reply does not mention the key.
    pub async fn get(&self, key: K) -> Result<V> {
        let (reply, result) = oneshot::channel();
        {
            let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
            let first = open.waiting.is_empty();
            open.waiting.entry(key).or_default().push(reply);
            if open.waiting.len() >= self.inner.max {
                let batch = open.take();
                tokio::spawn(self.inner.clone().run(batch));
            } else if first {
                tokio::spawn(self.inner.clone().run_after_window(open.number));
            }
        }
        result.await.unwrap_or_else(|_| Err(Error::internal("a batch ended without answering")))
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner).waiting.is_empty()
    }
}

type Batch<K, V> = HashMap<K, Vec<oneshot::Sender<Result<V>>>>;

impl<K, V> Open<K, V> {
    fn take(&mut self) -> Batch<K, V> {
        self.number += 1;
        std::mem::take(&mut self.waiting)
    }
}

impl<K, V> Inner<K, V>
where
    K: Eq + Hash + Clone + std::marker::Send + 'static,
    V: Clone + std::marker::Send + 'static,
{
    async fn run_after_window(self: Arc<Self>, number: u64) {
        tokio::time::sleep(self.window).await;
        let batch = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.number != number {
                return;
            }
            open.take()
        };
        self.run(batch).await;
    }

    async fn run(self: Arc<Self>, mut batch: Batch<K, V>) {
        // Whoever stopped waiting is not asked for.
        batch.retain(|_, callers| {
            callers.retain(|caller| !caller.is_closed());
            !callers.is_empty()
        });
        if batch.is_empty() {
            return;
        }
        let replies = (self.send)(batch.keys().cloned().collect()).await;
        let mut replies = replies.map_err(Shared);
        for (key, callers) in batch {
            let result = match &mut replies {
                Ok(found) => found.remove(&key).unwrap_or_else(|| Err(Error::new(ErrorKind::NotFound, "the batch reply does not mention it"))),
                Err(Shared(error)) => Err(error.clone()),
            };
            for caller in callers {
                // A caller may have left meanwhile; then nobody misses the result.
                drop(caller.send(result.clone()));
            }
        }
    }
}

/// The failure of a whole batch.
struct Shared(Error);

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::join_all};

    use super::*;

    fn recording(max: usize) -> (Batcher<u32, u32>, Arc<Mutex<Vec<usize>>>) {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = sizes.clone();
        let batcher = Batcher::new(max, Duration::from_millis(5), move |keys: Vec<u32>| {
            seen.lock().unwrap().push(keys.len());
            let found = keys
                .into_iter()
                .filter(|key| key % 10 != 9)
                .map(|key| (key, if key % 10 == 8 { Err(Error::invalid("eights are refused")) } else { Ok(key * 2) }));
            let found = Ok(found.collect());
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                found
            }
            .boxed()
        });
        (batcher, sizes)
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_calls_become_one_and_each_gets_its_own() {
        let (batcher, sizes) = recording(100);
        let results = join_all((0..10).map(|key| batcher.get(key))).await;
        for (key, result) in (0u32..).zip(results) {
            match key {
                8 => assert_eq!(result.unwrap_err().kind(), ErrorKind::Invalid),
                9 => assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound),
                _ => assert_eq!(result.unwrap(), key * 2),
            }
        }
        assert_eq!(*sizes.lock().unwrap(), [10]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_goes_at_once_and_equal_keys_count_once() {
        let (batcher, sizes) = recording(4);
        let start = tokio::time::Instant::now();
        let results = join_all([1, 1, 2, 3, 4, 5, 6].map(|key| batcher.get(key))).await;
        assert!(results.into_iter().all(|result| result.is_ok()));
        assert_eq!(*sizes.lock().unwrap(), [4, 2]);
        assert_eq!(start.elapsed().as_millis(), 25);
        assert!(batcher.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_batch_fails_for_everybody_and_leavers_disturb_nobody() {
        let batcher: Batcher<u32, u32> =
            Batcher::new(10, Duration::from_millis(5), |_| async { Err(Error::new(ErrorKind::Transient, "the vendor failed")) }.boxed());
        let (left, stayed) = tokio::join!(tokio::time::timeout(Duration::from_millis(1), batcher.get(1)), batcher.get(2));
        assert!(left.is_err());
        assert_eq!(stayed.unwrap_err().kind(), ErrorKind::Transient);
    }
}

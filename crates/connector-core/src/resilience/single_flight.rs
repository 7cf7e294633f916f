//! Many callers want the same thing at once: one fetches it, all get it.
//!
//! The first caller leads. If it goes away before it is done, the next one takes over, so nobody waits for a caller who left.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// One fetch: the lock is the lead, the value what the leader found.
type Flight<V> = Arc<tokio::sync::Mutex<Option<Arc<V>>>>;

/// Joins concurrent calls for the same key into one.
#[derive(Debug)]
pub struct SingleFlight<K: Eq + Hash, V> {
    flights: Mutex<HashMap<K, (Flight<V>, usize)>>,
}

impl<K: Eq + Hash, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self { flights: Mutex::new(HashMap::new()) }
    }
}

impl<K: Eq + Hash + Clone, V> SingleFlight<K, V> {
    /// Nothing under way.
    pub fn new() -> Self {
        Self::default()
    }

    /// What `fetch` gives, from this caller's own call or from the one that is already under way for `key`.
    /// Callers who come after it has ended fetch anew; this is not a cache.
    pub async fn run<F, Fut>(&self, key: K, fetch: F) -> Arc<V>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        let seat = Seat::take(self, key);
        let mut lead = seat.flight.lock().await;
        if let Some(found) = &*lead {
            return found.clone();
        }
        let found = Arc::new(fetch().await);
        *lead = Some(found.clone());
        drop(lead);
        seat.land();
        found
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, (Flight<V>, usize)>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys are being fetched.
    pub fn in_flight(&self) -> usize {
        self.lock().len()
    }
}

/// A caller's part in a flight.
struct Seat<'a, K: Eq + Hash + Clone, V> {
    of: &'a SingleFlight<K, V>,
    key: K,
    flight: Flight<V>,
}

impl<'a, K: Eq + Hash + Clone, V> Seat<'a, K, V> {
    fn take(of: &'a SingleFlight<K, V>, key: K) -> Self {
        let mut flights = of.lock();
        let (flight, seats) = flights.entry(key.clone()).or_default();
        *seats += 1;
        let flight = flight.clone();
        drop(flights);
        Self { of, key, flight }
    }

    /// The value is there: whoever comes now starts a new flight.
    fn land(&self) {
        let mut flights = self.of.lock();
        if flights.get(&self.key).is_some_and(|(flight, _)| Arc::ptr_eq(flight, &self.flight)) {
            flights.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash + Clone, V> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.of.lock();
        if let Some((flight, seats)) = flights.get_mut(&self.key)
            && Arc::ptr_eq(flight, &self.flight)
        {
            *seats -= 1;
            if *seats == 0 {
                flights.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sixty_four_callers_make_one_call() {
        let flights = SingleFlight::<&str, u32>::new();
        let runs = AtomicU32::new(0);
        let callers = (0..64).map(|_| {
            flights.run("token", || async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                runs.fetch_add(1, Ordering::Relaxed) + 1
            })
        });
        let found = futures_util::future::join_all(callers).await;
        assert!(found.iter().all(|value| **value == 1));
        assert_eq!((runs.load(Ordering::Relaxed), flights.in_flight()), (1, 0));
        assert_eq!(*flights.run("token", || async { runs.fetch_add(1, Ordering::Relaxed) + 1 }).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_takes_over_from_a_leader_who_left() {
        let flights = Arc::new(SingleFlight::<&str, &str>::new());
        let leader = tokio::spawn({
            let flights = flights.clone();
            async move { flights.run("k", std::future::pending).await }
        });
        tokio::task::yield_now().await;
        let follower = tokio::spawn({
            let flights = flights.clone();
            async move { flights.run("k", || async { "mine" }).await }
        });
        tokio::task::yield_now().await;
        leader.abort();
        assert_eq!(*follower.await.unwrap(), "mine");
        assert_eq!(flights.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_callers_left_nothing_stays_behind() {
        let flights = SingleFlight::<&str, &str>::new();
        let gone = tokio::time::timeout(Duration::from_secs(1), flights.run("k", std::future::pending)).await;
        assert!(gone.is_err());
        assert_eq!(flights.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn different_keys_do_not_wait_for_each_other() {
        let flights = SingleFlight::<u8, u8>::new();
        let slow = flights.run(1, || async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            1
        });
        let quick = flights.run(2, || async { 2 });
        tokio::select! {
            _ = slow => panic!("the slow one came first"),
            found = quick => assert_eq!(*found, 2),
        }
    }
}

//! When a server of scripts is asked, and for how long.
//!
//! After a question that went unanswered the server counts as lost: whoever asks is told so at once, and a task in the background probes it
//! every half second until it answers again. So a lost server costs the calls of one moment, once.

use std::{
    fmt::Debug,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use connector_core::error::{Error, ErrorKind, Result};
use sha1::{Digest as _, Sha1};

/// How long a lost server is left alone between two probes.
const REST: Duration = Duration::from_millis(500);
/// After so many unanswered probes the way to the server is made anew: it may lead to a machine that is gone.
const RENEW_AFTER: u32 = 4;

/// A script and the digest that servers know it by.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, digest: OnceLock::new() }
    }

    pub(crate) fn text(&self) -> &'static str {
        self.text
    }

    /// SHA-1 in hex, as `EVALSHA` wants it.
    pub(crate) fn digest(&self) -> &str {
        self.digest.get_or_init(|| hex::encode(Sha1::digest(self.text)))
    }
}

/// A part of a script's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// A number.
    Int(i64),
    /// A text, as bytes.
    Text(Vec<u8>),
}

/// A server that runs scripts.
#[async_trait]
pub(crate) trait Eval: Debug + Send + Sync + 'static {
    /// Runs the script and gives the array it returns. Need not bound its time.
    async fn eval(&self, script: &Script, keys: &[String], args: &[String]) -> Result<Vec<Item>>;

    /// Gives up the way to the server and makes a new one.
    fn renew(&self);
}

/// A server, and whether it is asked at the moment.
#[derive(Debug)]
pub(crate) struct Asked<E> {
    server: E,
    budget: Duration,
    lost: AtomicBool,
    probe: &'static Script,
    probe_key: String,
}

impl<E: Eval> Asked<E> {
    /// `probe` writes to `probe_key`, so that a server that only reads counts as lost.
    pub(crate) fn new(server: E, budget: Duration, probe: &'static Script, probe_key: String) -> Self {
        Self { server, budget, lost: AtomicBool::new(false), probe, probe_key }
    }

    pub(crate) fn server(&self) -> &E {
        &self.server
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Runs a script within the budget, if the server is not lost.
    pub(crate) async fn ask(self: &Arc<Self>, script: &Script, keys: &[String], args: &[String]) -> Result<Vec<Item>> {
        if self.is_lost() {
            return Err(Error::new(ErrorKind::Transient, "the fleet's server is out of reach and is being probed; nothing else depends on it"));
        }
        let said = self.within_budget(script, keys, args).await;
        if let Err(error) = &said
            && !self.lost.swap(true, Ordering::AcqRel)
        {
            tracing::warn!(target: "connectors::fleet", %error, "the fleet's server is lost; it is probed until it answers");
            tokio::spawn(probe(Arc::downgrade(self)));
        }
        said
    }

    async fn within_budget(&self, script: &Script, keys: &[String], args: &[String]) -> Result<Vec<Item>> {
        match tokio::time::timeout(self.budget, self.server.eval(script, keys, args)).await {
            Ok(said) => said,
            Err(_) => {
                let waited = self.budget.as_millis();
                Err(Error::new(ErrorKind::Timeout, format!("the fleet's server gave no answer within {waited} ms; check it, or raise the budget")))
            }
        }
    }
}

/// Probes a lost server until it answers or nobody needs it any more.
async fn probe<E: Eval>(asked: Weak<Asked<E>>) {
    for failed in 1.. {
        tokio::time::sleep(REST).await;
        let Some(asked) = asked.upgrade() else { return };
        match asked.within_budget(asked.probe, std::slice::from_ref(&asked.probe_key), &[]).await {
            Ok(_) => {
                asked.lost.store(false, Ordering::Release);
                tracing::info!(target: "connectors::fleet", "the fleet's server answers again");
                return;
            }
            Err(error) => {
                tracing::debug!(target: "connectors::fleet", %error, "the fleet's server is still lost");
                if failed % RENEW_AFTER == 0 {
                    asked.server.renew();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    static PROBE: Script = Script::new("return {1}");

    #[derive(Debug, Default)]
    struct Server {
        hangs: AtomicBool,
        asked: AtomicU32,
        renewed: AtomicU32,
    }

    #[async_trait]
    impl Eval for Server {
        async fn eval(&self, _: &Script, _: &[String], _: &[String]) -> Result<Vec<Item>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            Ok(vec![Item::Int(1)])
        }

        fn renew(&self) {
            self.renewed.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_costs_its_budget_once_and_is_found_again() {
        let asked = Arc::new(Asked::new(Server::default(), Duration::from_millis(50), &PROBE, "k".into()));
        let ask = || asked.ask(&PROBE, &[], &[]);
        ask().await.unwrap();
        asked.server.hangs.store(true, Ordering::SeqCst);
        let start = tokio::time::Instant::now();
        assert_eq!(ask().await.unwrap_err().kind(), ErrorKind::Timeout);
        for _ in 0..100 {
            assert_eq!(ask().await.unwrap_err().kind(), ErrorKind::Transient);
        }
        assert_eq!(start.elapsed(), Duration::from_millis(50));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let probes = asked.server.asked.load(Ordering::SeqCst) - 2;
        assert!((8..=10).contains(&probes) && asked.server.renewed.load(Ordering::SeqCst) == 2, "{probes}");
        asked.server.hangs.store(false, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(600)).await;
        ask().await.unwrap();
    }

    #[test]
    fn a_digest_is_the_one_servers_compute() {
        // printf 'return {1}' | sha1sum
        assert_eq!(PROBE.digest(), "9c8545b8579e405965831fc6d1e3d0b3ac248d51");
    }
}

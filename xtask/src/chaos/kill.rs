//! `refresh-kill`: a process dies at each place where a renewal can die; another one goes on. Only between the server's answer and the disk may
//! tokens be lost, and then it is told exactly once and nothing is tried any more.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use connector_core::{CallCx, credential::CredentialQuery, token::TokenStore as _};
use rustix::process::Signal;
use serde_json::json;

use super::{
    failpoint::FailPoint,
    fleet::{Authorized, Worker},
    lot::Lot,
    provider::{LIFETIME, Provider},
    proxy::Proxy,
    verdict::Verdict,
    worker::{CREDENTIAL, FAIL_AT, LEASE_MS, TOKEN_URL, connection},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often each failpoint is tried
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Callers in each process
    #[arg(long, default_value_t = 5)]
    tasks: usize,
    /// For the report; nothing here is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What a lease is cut to here: a dead process holds it no longer than this.
const LEASE: Duration = Duration::from_millis(1500);
/// How often the survivors may be asked before they must have settled.
const TRIES: usize = 5;

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let provider = Provider::start().await?;
    let proxy = Proxy::start(provider.issuer()).await?;
    let dir = tempfile::tempdir()?;
    let lot = Lot::create(dir.path()).await?;
    let mut verdict = Verdict::new("refresh-kill", options.seed);
    let mut outside = 0;
    for at in FailPoint::ALL {
        let mut sum = Sum::default();
        for round in 0..options.rounds {
            let one = Round { provider: &provider, proxy: &proxy, lot: &lot, at, tasks: options.tasks, name: format!("{at}-{round}") };
            one.run(&mut verdict, &mut sum).await.with_context(|| format!("killing at {at}, round {round}"))?;
        }
        outside += if at.may_lose() { 0 } else { sum.lost };
        let figures = json!({
            "rounds": options.rounds, "killed": sum.killed, "lost": sum.lost, "token_requests": sum.requests,
            "reauth_notices": sum.notices, "requests_after_the_end": sum.after,
        });
        verdict.figure(&at.to_string(), figures);
    }
    verdict.figure("lost_outside_the_gap", outside);
    verdict.conclude()
}

#[derive(Default)]
struct Sum {
    killed: u64,
    lost: u64,
    requests: usize,
    notices: usize,
    after: usize,
}

/// One kill and what follows.
struct Round<'a> {
    provider: &'a Provider,
    proxy: &'a Proxy,
    lot: &'a Lot,
    at: FailPoint,
    tasks: usize,
    name: String,
}

impl Round<'_> {
    async fn run(&self, verdict: &mut Verdict, sum: &mut Sum) -> Result<()> {
        let at = self.at;
        self.lot.connect(&self.name, &self.provider.family().await?).await?;
        let expired = LIFETIME + 60;
        let before = self.proxy.count();

        let mut victim = self.worker(Some(at)).await?;
        let survived = victim.authorize(self.tasks, expired).await?;
        let signal = if survived.is_none() { victim.ended_by().await? } else { None };
        verdict.require(signal == Some(Signal::KILL.as_raw()), || format!("{at}: the process never came to the failpoint"));
        sum.killed += u64::from(signal.is_some());

        let mut heir = self.worker(None).await?;
        let settled = self.settle(&mut heir, expired).await?;
        let lost = settled.ok == 0;
        let requests = self.proxy.count() - before;

        // From here on nothing may be sent: either there is a good token, or a person has to come.
        let settled_at = self.proxy.count();
        let mut third = self.worker(None).await?;
        for worker in [&mut heir, &mut third] {
            for _ in 0..3 {
                let again = worker.authorize(self.tasks, expired).await?.context("a survivor ended")?;
                verdict.require((again.ok == 0) == lost, || format!("{at}: lost for one process and not for another: {:?}", again.failed));
            }
        }
        let after = self.proxy.count() - settled_at;
        let told: BTreeSet<u64> = [&victim, &heir, &third].into_iter().flat_map(|worker| worker.reauths.iter().map(|(serial, _)| *serial)).collect();

        verdict.require(!lost || at.may_lose(), || format!("{at}: the tokens are lost: {:?}", settled.failed));
        verdict.require(told.len() == usize::from(lost), || format!("{at}: {} notices, lost: {lost}", told.len()));
        verdict.require(after == 0, || format!("{at}: {after} token requests after everything was settled"));
        verdict.require(requests <= 2, || format!("{at}: {requests} token requests for one renewal"));
        // The server's own view: what is kept works, or the family is over, which is what a second use of a burnt token does.
        let cx = CallCx::new(connection(&self.name)?);
        let row = self.lot.vault.load(&CredentialQuery::of(&cx, &self.name).for_errand("chaos.check")).await?.context("the row is gone")?;
        let alive = self.provider.active(&row.record.tokens.access).await?;
        verdict.require(alive != lost, || format!("{at}: lost: {lost}, but the server says that the token is active: {alive}"));
        sum.lost += u64::from(lost);
        sum.requests += requests;
        sum.notices += told.len();
        sum.after += after;
        Ok(())
    }

    async fn worker(&self, at: Option<FailPoint>) -> Result<Worker> {
        let mut env = self.lot.env();
        env.push((CREDENTIAL, self.name.clone()));
        env.push((TOKEN_URL, self.proxy.token_url()));
        env.push((LEASE_MS, LEASE.as_millis().to_string()));
        if let Some(at) = at {
            env.push((FAIL_AT, at.to_string()));
        }
        Worker::start("caller", &env).await
    }

    /// Asks until all callers agree: all have a token, or all are told that a person has to come.
    async fn settle(&self, worker: &mut Worker, ahead: u64) -> Result<Authorized> {
        let mut last = Authorized::default();
        for _ in 0..TRIES {
            last = worker.authorize(self.tasks, ahead).await?.context("a survivor ended")?;
            let failed: u64 = last.failed.values().sum();
            let ended = !last.failed.is_empty() && last.failed.keys().all(|failure| failure.starts_with("AuthExpired"));
            if failed == 0 || (last.ok == 0 && ended) {
                return Ok(last);
            }
            tokio::time::sleep(LEASE).await;
        }
        anyhow::bail!("the survivors do not come to an end: {:?}", last.failed)
    }
}

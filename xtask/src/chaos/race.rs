//! `refresh-race`: a token expires under many callers in many processes. One token request for each expiry, everybody gets its token, and the
//! family lives.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use connector_core::{CallCx, credential::CredentialQuery, token::TokenStore as _};
use secrecy::ExposeSecret as _;

use super::{
    fleet::{Authorized, Order, Said, Worker},
    lot::Lot,
    provider::{LIFETIME, Provider},
    proxy::Proxy,
    verdict::{Verdict, percentile},
    worker::{CREDENTIAL, TOKEN_URL, connection, digest, merge},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Worker processes
    #[arg(long, default_value_t = 8)]
    procs: usize,
    /// How often the token expires
    #[arg(long, default_value_t = 200)]
    rotations: u64,
    /// Callers in each process at each expiry
    #[arg(long, default_value_t = 50)]
    tasks: usize,
    /// How long a caller may wait beyond the token request itself, milliseconds
    #[arg(long, default_value_t = 1000)]
    within_ms: u64,
    /// For the report; the order of events is the machine's
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const NAME: &str = "race";

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let provider = Provider::start().await?;
    let proxy = Proxy::start(provider.issuer()).await?;
    let dir = tempfile::tempdir()?;
    let lot = Lot::create(dir.path()).await?;
    lot.connect(NAME, &provider.family().await?).await?;

    let env = [lot.env(), vec![(CREDENTIAL, NAME.to_owned()), (TOKEN_URL, proxy.token_url())]].concat();
    let mut workers = Vec::new();
    for _ in 0..options.procs {
        workers.push(Worker::start("caller", &env).await?);
    }

    let mut verdict = Verdict::new("refresh-race", options.seed);
    let mut sum = Sum::default();
    // Round 0 finds a fresh token; from then on each round begins when the one before has just expired.
    for round in 0..=options.rotations {
        let before = proxy.count();
        let order = Order::Authorize { tasks: options.tasks, ahead_secs: round * (LIFETIME + 60) };
        for worker in &mut workers {
            worker.tell(&order).await?;
        }
        let mut heard = Authorized::default();
        for worker in &mut workers {
            let Some(Said::Authorized(one)) = worker.hear().await? else { anyhow::bail!("a worker ended in round {round}") };
            heard.ok += one.ok;
            merge(&mut heard.failed, &one.failed);
            merge(&mut heard.tokens, &one.tokens);
            heard.waits.extend(one.waits);
        }
        let calls = proxy.since(before);
        let expected = usize::from(round > 0);
        verdict.require(calls.len() == expected, || format!("round {round}: {} token requests, not {expected}", calls.len()));
        verdict.require(heard.failed.is_empty(), || format!("round {round}: callers failed: {:?}", heard.failed));
        verdict.require(heard.tokens.len() == 1, || format!("round {round}: {} different tokens were used", heard.tokens.len()));

        let query_cx = CallCx::new(connection(NAME)?);
        let row = lot.vault.load(&CredentialQuery::of(&query_cx, NAME).for_errand("chaos.check")).await?.context("the tokens are gone")?;
        let kept = digest(format!("Bearer {}", row.record.tokens.access.expose_secret()).as_bytes());
        verdict.require(heard.tokens.contains_key(&kept), || format!("round {round}: callers used another token than the one that is kept"));
        verdict.require(provider.active(&row.record.tokens.access).await?, || format!("round {round}: the server does not know the token"));
        if round == options.rotations {
            let refresh = row.record.tokens.refresh.context("there is no refresh token")?;
            sum.family_alive = provider.active(&refresh).await?;
        }

        let took: u64 = calls.iter().map(|call| u64::try_from(call.took.as_micros()).unwrap_or(u64::MAX)).sum();
        let worst = heard.waits.iter().max().copied().unwrap_or(0);
        if round > 0 {
            sum.over = sum.over.max(worst.saturating_sub(took));
            sum.waits.extend(heard.waits);
            sum.took.push(took);
        }
        sum.requests += calls.len();
        sum.refused += calls.iter().filter(|call| call.error.is_some()).count();
        sum.callers += heard.ok;
        merge(&mut sum.failed, &heard.failed);
    }
    let notices: usize = workers.iter().map(|worker| worker.reauths.len()).sum();
    let revoked = usize::from(!sum.family_alive);
    verdict.require(sum.family_alive, || "the family was revoked: a refresh token was used twice".into());
    verdict.require(notices == 0, || format!("{notices} notices that a person has to connect again"));
    verdict.require(sum.over <= options.within_ms * 1000, || format!("a caller waited {} ms longer than the token request took", sum.over / 1000));
    verdict.figure("procs", options.procs);
    verdict.figure("tasks", options.tasks);
    verdict.figure("rounds", options.rotations);
    verdict.figure("token_requests", sum.requests);
    verdict.figure("token_requests_refused", sum.refused);
    verdict.figure("families_revoked", revoked);
    verdict.figure("callers", sum.callers);
    verdict.figure("failures", sum.failed.values().sum::<u64>());
    verdict.figure("reauth_notices", notices);
    verdict.figure("wait_p50_ms", percentile(&mut sum.waits, 0.5) / 1000);
    verdict.figure("wait_p99_ms", percentile(&mut sum.waits, 0.99) / 1000);
    verdict.figure("wait_max_ms", percentile(&mut sum.waits, 1.0) / 1000);
    verdict.figure("token_request_p50_ms", percentile(&mut sum.took, 0.5) / 1000);
    verdict.figure("worst_wait_beyond_request_ms", sum.over / 1000);
    verdict.conclude()
}

/// What all rounds came to.
#[derive(Default)]
struct Sum {
    requests: usize,
    refused: usize,
    callers: u64,
    failed: BTreeMap<String, u64>,
    /// Microseconds.
    waits: Vec<u64>,
    took: Vec<u64>,
    over: u64,
    family_alive: bool,
}

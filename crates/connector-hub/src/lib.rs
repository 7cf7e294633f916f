#![doc = include_str!("../README.md")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints")]

mod cli;
mod demo;
pub mod http;
pub mod keys;
mod output;
mod page;
mod process;
mod queue;
mod setup;
mod trail;
mod when;

use std::{io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// The command line, from the first argument to the exit code.
pub fn main() -> ExitCode {
    // Before anything can be in memory that must not be on disk.
    process::harden();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::usage(error),
    };
    logging(&cli);
    // The binary may fix the process-wide TLS provider; libraries never do.
    #[allow(clippy::disallowed_methods, reason = "the hub's own command line is the one place that may")]
    let provider = rustls::crypto::ring::default_provider().install_default();
    if provider.is_err() {
        tracing::debug!("a TLS provider was installed already");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the async runtime could not start: {error}");
            return ExitCode::from(1);
        }
    };
    let result = runtime.block_on(cli::run(cli));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(code) => code,
        Err(error) => output::failure(&error),
    }
}

/// Logs go to stderr, so that stdout is only ever the answer. `RUST_LOG` decides how much; warnings if it is not set.
fn logging(cli: &cli::Cli) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(cli.default_log()));
    let registry = tracing_subscriber::registry().with(filter);
    // A log that cannot be written must not stop the work.
    if cli.logs_json() {
        registry.with(fmt::layer().json().with_writer(std::io::stderr)).init();
    } else {
        registry.with(fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).with_target(false)).init();
    }
}

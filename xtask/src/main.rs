//! The workspace's own chores: codegen, tests, tidy, benches, and the checks that drive the whole product. Nothing depends on it.
//!
//! What drives the whole product is behind the features `chaos` (also for `e2e`) and `leakcheck`, so that the chores stay quick to build;
//! without them those commands build and run this program again with them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints")]

mod bench;
#[cfg(feature = "chaos")]
mod chaos;
mod codegen;
#[cfg(feature = "chaos")]
mod counterparts;
#[cfg(feature = "chaos")]
mod e2e;
mod heavy;
#[cfg(feature = "chaos")]
mod hub;
#[cfg(feature = "leakcheck")]
mod leakcheck;
mod new;
mod render;
mod run;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the connectors workspace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the folder of a new connector, ready for its manifest
    New {
        /// Its id: lower case, the crate becomes `connector-<id>`
        id: String,
    },
    /// Write typed operations, specs, tool lists, docs and the facade's registry from the manifests
    Codegen {
        /// Change nothing; fail if anything is not up to date
        #[arg(long)]
        check: bool,
    },
    /// Print one JSON line for each operation's example request
    Render,
    /// Run all tests
    Test {
        /// Passed on to the test runner
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run what a merge needs: format, generated files, tidy, clippy, tests, documentation
    Ci,
    /// Check the invariants that can be checked by reading
    Tidy,
    /// Run the benches and print one table with ratios
    Bench {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Only benches whose name contains this
        filter: Option<String>,
        /// Options of `bench ingress`: `--rps N --secs S --store Sqlite --assert p99=100ms,max=1s`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Break things on purpose and check a promise; ends with one JSON line, exit code 1 on a breach
    #[command(disable_help_flag = true)]
    Chaos {
        /// The case and its options; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Put one marked secret of each kind through everything and look for it everywhere
    #[command(disable_help_flag = true)]
    Leakcheck {
        /// Options; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Drive the real hub from outside, as a person would
    #[command(disable_help_flag = true)]
    E2e {
        /// The story and its options; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    let result = match Cli::parse().command {
        Command::Chaos { args } => heavy::chaos(&args),
        Command::Leakcheck { args } => heavy::leakcheck(&args),
        Command::E2e { args } => heavy::e2e(&args),
        Command::New { id } => done(new::new(&id)),
        Command::Codegen { check } => done(codegen::run(check)),
        Command::Render => done(render::run()),
        Command::Test { args } => done(run::test(&args)),
        Command::Ci => done(run::ci()),
        Command::Tidy => done(tidy::run()),
        Command::Bench { json, filter, options } => done(bench::run(json, filter.as_deref(), &options)),
    };
    match result {
        Ok(code) => code,
        // The chain of causes, without the backtrace that `Debug` would add.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

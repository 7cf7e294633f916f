//! The workspace's own chores: codegen, tests, tidy, benches. Nothing depends on it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints")]

mod bench;
mod codegen;
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
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::New { id } => new::new(&id),
        Command::Codegen { check } => codegen::run(check),
        Command::Render => render::run(),
        Command::Test { args } => run::test(&args),
        Command::Ci => run::ci(),
        Command::Tidy => tidy::run(),
        Command::Bench { json, filter } => bench::run(json, filter.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The chain of causes, without the backtrace that `Debug` would add.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

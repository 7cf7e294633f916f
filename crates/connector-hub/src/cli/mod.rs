//! The command line: what there is to say, and who does it.

mod call;
pub(crate) mod catalogue;
mod config;
mod health;
mod manifest;
mod queue;
mod sandbox;
mod serve;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::{demo, setup::Setup};

/// Link programs, teams and AI agents to the systems a company runs on.
#[derive(Debug, Parser)]
#[command(name = "connector-hub", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    /// The configuration file [default: ./hub.yaml if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "CONNECTORS_CONFIG")]
    config: Option<PathBuf>,
    /// Where the hub keeps its data (SQLite)
    #[arg(long, global = true, value_name = "DIR", env = "CONNECTORS_DATA_DIR", default_value = "./.connectors")]
    data_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the support-desk story against local fakes of the vendors and check that nothing was lost or done twice
    Demo(demo::DemoArgs),
    /// Run the hub
    Serve {
        /// The address to listen on
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
    },
    /// Run the fake vendors alone
    Sandbox {
        /// The address to listen on
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4010")]
        listen: SocketAddr,
        /// Only this vendor; may be given several times
        #[arg(long, value_name = "V")]
        vendor: Vec<String>,
        /// How much goes wrong
        #[arg(long, default_value = "none")]
        faults: Faults,
        /// The seed that decides what goes wrong
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// List the connectors
    Connectors,
    /// Show a connector's integration sheet: authentication, operations, limits, errors, webhooks
    Describe {
        /// The connector's id
        connector: String,
    },
    /// List the tools
    Tools {
        /// Only this connector's
        #[arg(long)]
        connector: Option<String>,
    },
    /// Call one tool and print its reply as JSON
    Call(call::CallArgs),
    /// Check connections: state, credential, breaker, limits, errors, latency
    Health,
    /// Dead letters: work that gave up and is kept for review
    #[command(subcommand)]
    Dlq(queue::DlqCommand),
    /// Events that vendors told us
    #[command(subcommand)]
    Events(queue::EventsCommand),
    /// Write custom connectors
    #[command(subcommand)]
    Manifest(manifest::ManifestCommand),
    /// Where a setting comes from
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How much goes wrong in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Faults {
    /// Nothing
    None,
    /// A little, as on an ordinary day
    Light,
    /// A lot, as in an incident
    Heavy,
}

impl Faults {
    pub(crate) fn profile(self) -> connector_sandbox::FaultProfile {
        match self {
            Self::None => connector_sandbox::FaultProfile::none(),
            Self::Light => connector_sandbox::FaultProfile::light(),
            Self::Heavy => connector_sandbox::FaultProfile::heavy(),
        }
    }
}

impl Cli {
    /// How much is logged if `RUST_LOG` does not say.
    pub(crate) fn default_log(&self) -> &'static str {
        match self.command {
            Command::Serve { .. } => "info",
            // What goes wrong there goes wrong on purpose; the closing table counts it.
            Command::Demo(_) => "off",
            _ => "warn",
        }
    }

    /// A server's logs are read by machines.
    pub(crate) fn logs_json(&self) -> bool {
        matches!(self.command, Command::Serve { .. })
    }
}

/// Carries out the command.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode> {
    let Global { json, config, data_dir } = cli.global;
    let setup = Setup::new(config, data_dir);
    match cli.command {
        Command::Demo(args) => demo::run(args, json).await,
        Command::Serve { listen } => serve::run(&setup, listen).await,
        Command::Sandbox { listen, vendor, faults, seed } => sandbox::run(listen, &vendor, faults, seed, json).await,
        Command::Connectors => catalogue::connectors(&setup, json).await,
        Command::Describe { connector } => catalogue::describe(&setup, &connector, json).await,
        Command::Tools { connector } => catalogue::tools(&setup, connector.as_deref(), json).await,
        Command::Call(args) => call::run(&setup, args).await,
        Command::Health => health::run(&setup, json).await,
        Command::Dlq(command) => queue::dlq(&setup, command, json).await,
        Command::Events(command) => queue::events(&setup, command, json).await,
        Command::Manifest(command) => manifest::run(command, json),
        Command::Config(command) => config::run(&setup, command, json).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "connector-hub", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

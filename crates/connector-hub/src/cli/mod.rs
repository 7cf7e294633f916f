//! The command line: what there is to say, and who does it.

mod approvals;
mod audit;
mod call;
pub(crate) mod catalogue;
mod config;
mod connect;
mod credentials;
mod events;
mod fields;
mod health;
mod keys;
mod manifest;
mod queue;
mod sandbox;
mod scopes;
mod serve;
mod subscriptions;
mod validate;
mod vault;

use std::{io::IsTerminal as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use connector_core::Actor;

use crate::{demo, output, setup::Setup};

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
#[command(next_help_heading = "Options of every command")]
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
    /// The tenant
    #[arg(long, global = true, value_name = "T", default_value = "default")]
    tenant: String,
    /// The workspace
    #[arg(long, global = true, value_name = "W", default_value = "default")]
    workspace: String,
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
    /// Connect an account: in the browser, on another device, or with keys
    Connect(connect::ConnectArgs),
    /// Destroy a connection's tokens and keys, and tell the vendor where it can be told
    Disconnect {
        /// The connection's id
        connection: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// The least scopes that tools need, and what a connection has too little or too much
    Scopes(scopes::ScopesArgs),
    /// Secrets of connections: keep, grant, rotate, revoke; never shown
    #[command(subcommand)]
    Credentials(credentials::CredentialsCommand),
    /// The master keys that secrets are sealed under
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    /// Writes that wait for somebody else's yes
    #[command(subcommand)]
    Approvals(approvals::ApprovalsCommand),
    /// API keys of people and programs that call the hub
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Who did what, and proof that nobody changed the record of it
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Dead letters: work that gave up and is kept for review
    #[command(subcommand)]
    Dlq(queue::DlqCommand),
    /// Events that vendors told us
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// What vendors were asked to tell us, and whether they still do
    #[command(subcommand)]
    Subscriptions(subscriptions::SubscriptionsCommand),
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
            // `setup` says in plain words that a master key was made.
            _ => "warn,connector_vault::config=error",
        }
    }

    /// A server's logs are read by machines.
    pub(crate) fn logs_json(&self) -> bool {
        matches!(self.command, Command::Serve { .. })
    }
}

/// Who sits at this terminal, as far as the terminal knows. Whoever may read the data directory is an administrator anyway; the name is
/// for the record, and keeps a person from approving their own write by mistake.
pub(crate) fn person() -> Actor {
    let name = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|variable| std::env::var(variable).ok().filter(|name| !name.trim().is_empty()));
    #[cfg(unix)]
    let fallback = || format!("uid {}", rustix::process::getuid().as_raw());
    #[cfg(not(unix))]
    let fallback = || "unknown".to_owned();
    Actor::User(connector_core::redact::printable(&name.unwrap_or_else(fallback), 63).into())
}

/// Asks before something that cannot be taken back. Without a terminal, or without a yes, it is not done.
pub(crate) fn confirmed(yes: bool, question: &str) -> Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(output::Usage(format!("{question} This cannot be taken back; add --yes")).into());
    }
    eprint!("{question} This cannot be taken back. Type yes to go on: ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Carries out the command.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode> {
    let Global { json, config, data_dir, tenant, workspace } = cli.global;
    let setup = Setup::new(config, data_dir, &tenant, &workspace);
    match cli.command {
        Command::Demo(args) => demo::run(args, json).await,
        Command::Serve { listen } => serve::run(&setup, listen).await,
        Command::Sandbox { listen, vendor, faults, seed } => sandbox::run(listen, &vendor, faults, seed, json).await,
        Command::Connectors => catalogue::connectors(&setup, json).await,
        Command::Describe { connector } => catalogue::describe(&setup, &connector, json).await,
        Command::Tools { connector } => catalogue::tools(&setup, connector.as_deref(), json).await,
        Command::Call(args) => call::run(&setup, args).await,
        Command::Health => health::run(&setup, json).await,
        Command::Connect(args) => connect::run(&setup, args, json).await,
        Command::Disconnect { connection, yes } => connect::disconnect(&setup, &connection, yes, json).await,
        Command::Scopes(args) => scopes::run(&setup, args, json).await,
        Command::Credentials(command) => credentials::run(&setup, command, json).await,
        Command::Vault(command) => vault::run(&setup, command, json).await,
        Command::Approvals(command) => approvals::run(&setup, command, json).await,
        Command::Keys(command) => keys::run(&setup, command, json).await,
        Command::Audit(command) => audit::run(&setup, command, json).await,
        Command::Dlq(command) => queue::dlq(&setup, command, json).await,
        Command::Events(command) => events::run(&setup, command, json).await,
        Command::Subscriptions(command) => subscriptions::run(&setup, command, json).await,
        Command::Manifest(command) => manifest::run(command, json),
        Command::Config(command) => config::run(&setup, command, json).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "connector-hub", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

//! The one binary, `polyphony`: every role, alone or together, and the operator's commands.

mod commands;
mod roles;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use polyphony_platform::{config::Config, http::install_crypto_provider, telemetry};
use polyphony_projections::Moment;
use uuid::Uuid;

#[derive(Parser)]
#[command(name = "polyphony", version, about = "Multi-model AI chat platform on one event log")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every role in one process.
    All,
    /// Serve the HTTP interface.
    Api,
    /// Work on answers.
    Worker,
    /// Keep the read models.
    Projector,
    /// Publish the log, and issue forgotten jobs again.
    Relay,
    /// Bring the database up to date.
    Migrate,
    /// Build a read model anew from the log.
    Rebuild {
        /// Its name, for example `session_list_v1`.
        #[arg(required_unless_present = "all")]
        name: Option<String>,
        /// All of them.
        #[arg(long, conflicts_with = "name")]
        all: bool,
        /// Change nothing: build it in scratch tables and compare every row with what is live.
        #[arg(long)]
        verify: bool,
    },
    /// Print the life of a session, event by event.
    Replay {
        /// Its id.
        #[arg(long)]
        session: Uuid,
        /// Only up to this time (RFC 3339) or position in the log.
        #[arg(long)]
        at: Option<Moment>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Check the audit chain, and prove what is in the log.
    Audit {
        #[command(subcommand)]
        command: commands::AuditCommand,
    },
    /// Say how many answers an account may have in the making at a time.
    Allowance {
        /// E-mail address of the account.
        email: String,
        /// How many.
        in_flight: u32,
    },
    /// Look at the models: catalogue, prices, what providers offer.
    Models {
        #[command(subcommand)]
        command: commands::models::ModelsCommand,
    },
    /// Check the deployment, and say what to do.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write the tables anew that erased texts may have been in: the disk forgets them, too. Each is locked meanwhile.
    Scrub,
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Read the configuration and print it without its secrets.
    Check,
    /// Print fresh secrets, to be kept in a file that `POLYPHONY_SECRETS_FILE` names.
    GenerateSecrets,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    install_crypto_provider();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Before telemetry is up, or as its last word: the operator must see why.
            commands::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    if let Command::Config { command: ConfigCommand::GenerateSecrets } = command {
        return commands::generate_secrets();
    }
    let config = Config::load()?;
    if let Command::Config { command: ConfigCommand::Check } = command {
        return commands::check_config(&config);
    }
    telemetry::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async move {
        match command {
            Command::All => roles::run(config, roles::Roles::ALL).await,
            Command::Api => roles::run(config, roles::Roles { api: true, ..roles::Roles::NONE }).await,
            Command::Worker => roles::run(config, roles::Roles { worker: true, ..roles::Roles::NONE }).await,
            Command::Projector => roles::run(config, roles::Roles { projector: true, ..roles::Roles::NONE }).await,
            Command::Relay => roles::run(config, roles::Roles { relay: true, ..roles::Roles::NONE }).await,
            Command::Migrate => commands::migrate(&config).await,
            Command::Allowance { email, in_flight } => commands::set_allowance(&config, &email, in_flight).await,
            Command::Models { command } => commands::models::run(&config, command).await,
            Command::Rebuild { name, all: _, verify } => commands::rebuild(config, name, verify).await,
            Command::Replay { session, at, json } => commands::replay(config, session, at, json).await,
            Command::Audit { command } => commands::audit(config, command).await,
            Command::Doctor { json } => commands::doctor(config, json).await,
            Command::Scrub => commands::scrub(config).await,
            Command::Config { .. } => Ok(()),
        }
    })
}

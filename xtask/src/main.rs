//! What people do with the repository: `up`, `test`, `bench`, `faults`, `tidy`, `codegen`.

mod bench;
mod cargo;
mod codegen;
mod faults;
mod test;
mod tidy;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use polyphony_devstack::progress;

#[derive(Parser)]
#[command(about = "Everything that people do with this repository")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build and start everything privately; print one line when it is ready.
    Up {
        /// With optimisation.
        #[arg(long)]
        release: bool,
    },
    /// Start a stack of its own, run every test, leave nothing behind.
    Test {
        /// Passed on to `cargo test`.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Measure the product beside the bare provider, on a durable stack of its own.
    Bench {
        /// Which measurement.
        #[command(subcommand)]
        what: bench::What,
    },
    /// Inject faults for some minutes and audit every promise, or try every known mistake (`--mutations`).
    Faults {
        /// For the run itself: `--minutes 5 --seed 1`, `--mutations`, `--only <mistake>`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Check the repository's rules.
    Tidy,
    /// Write the generated files again.
    Codegen,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up { release } => up::run(release),
        Command::Test { args } => test::run(&args),
        Command::Bench { what } => bench::run(&what),
        Command::Faults { args } => faults::run(&args),
        Command::Tidy => tidy::run(),
        Command::Codegen => codegen::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

//! `bench`: a mock provider, a load client, and the workloads that are run with them.
//!
//! Every token of the mock carries the time at which it was written, so the client knows the latency of each chunk
//! whatever sits between the two. All figures of one run are made on one machine within one process, direct and
//! through the product in turn: their ratios count, the absolute values only hold for that machine.
//!
//! People call it through `cargo xtask bench`, which builds and starts what it needs.

mod http;
mod load;
mod marks;
mod mock;
mod proc;
mod report;
mod smoke;
mod sse;
mod target;

use std::net::SocketAddr;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures Polyphony beside the bare provider")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the mock provider.
    Mock {
        /// Address to listen on.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Run the workloads and print what they gave, as a table.
    Smoke(smoke::Args),
}

fn main() -> anyhow::Result<()> {
    // One thread each: the machine has few cores, and the product needs them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match Cli::parse().command {
            Command::Mock { listen } => mock::serve(listen).await,
            Command::Smoke(args) => smoke::run(&args).await,
        }
    })
}

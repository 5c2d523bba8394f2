//! The workloads of `cargo xtask bench smoke`, direct and through the product (its own interface, and `/v1`) in turn.

use std::time::Duration;

use anyhow::Result;

use crate::{
    load::{self, Workload},
    proc, report,
    target::Target,
};

#[derive(clap::Args)]
pub struct Args {
    /// `host:port` of the mock.
    #[arg(long)]
    mock: String,
    /// `host:port` of the product.
    #[arg(long)]
    product: String,
    /// Process of the product, for its CPU time and memory.
    #[arg(long)]
    product_pid: u32,
    /// Process of the mock: its CPU time is nobody's fault.
    #[arg(long)]
    mock_pid: u32,
    /// How often each workload is run; the report gives medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only the workload of this name.
    #[arg(long)]
    only: Option<String>,
}

/// Name, what it shows, and the workload.
pub const WORKLOADS: [(&str, &str, Workload); 4] = [
    (
        "first-1",
        "one stream at a time",
        Workload { model: "mock-n20-i10", clients: 1, chats: 60, tokens: 20, ramp: Duration::ZERO },
    ),
    (
        "streams-100",
        "100 streams of 200 tokens, 10 ms apart",
        Workload { model: "mock-n200-i10", clients: 100, chats: 200, tokens: 200, ramp: Duration::from_secs(1) },
    ),
    (
        "streams-500",
        "500 streams of 200 tokens, 20 ms apart",
        Workload { model: "mock-n200-i20", clients: 500, chats: 1000, tokens: 200, ramp: Duration::from_secs(2) },
    ),
    (
        "completions-64",
        "64 clients, answers of one token",
        Workload { model: "mock-n1-i0", clients: 64, chats: 3000, tokens: 1, ramp: Duration::ZERO },
    ),
];

/// Runs them all and prints the report.
///
/// # Errors
/// The product or the mock can't be reached.
pub async fn run(args: &Args) -> Result<()> {
    let [own, openai] = Target::product(&args.product).await?;
    let direct = Target::Direct { host: args.mock.clone() };
    let targets: Vec<_> = report::TARGETS.into_iter().zip([direct, own, openai]).collect();
    let mut rows = Vec::new();
    let asked = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    for (name, about, workload) in WORKLOADS.into_iter().filter(|(name, ..)| asked(name)) {
        for round in 0..args.rounds {
            for (target_name, target) in &targets {
                let cpu = || {
                    let ours = proc::usage(std::process::id()).cpu + proc::usage(args.mock_pid).cpu;
                    (proc::usage(args.product_pid).cpu, proc::machine_cpu() - ours)
                };
                let before = cpu();
                let seen = load::run(target, workload).await?;
                let after = cpu();
                let peak_rss = proc::usage(args.product_pid).peak_rss;
                let row = report::Row::new(name, about, target_name, round, &seen).with_cpu(
                    after.0 - before.0,
                    after.1 - before.1,
                    peak_rss,
                );
                report::progress(&row);
                rows.push(row);
            }
        }
    }
    report::print(&rows, args.rounds);
    Ok(())
}

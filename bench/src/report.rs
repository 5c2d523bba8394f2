//! What a run gave: a line as it happens, and a table of medians at the end.

use std::io::Write as _;

use crate::load::Seen;

/// What the workloads run through: the bare provider, the product's own interface, and its OpenAI one.
pub const TARGETS: [&str; 3] = ["direct", "product", "/v1"];

/// One run of one workload against one target. Times in milliseconds.
#[derive(Clone, Debug)]
pub struct Row {
    workload: &'static str,
    about: &'static str,
    target: &'static str,
    round: usize,
    chats: usize,
    rate: f64,
    first_p50: f64,
    first_p99: f64,
    relay_p50: f64,
    relay_p99: f64,
    errors: Vec<String>,
    product_cpu: f64,
    machine_cpu: f64,
    peak_rss: f64,
}

/// A quantile of unsorted microseconds, in milliseconds.
fn quantile(values: &[u64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len().saturating_sub(1)) as f64 * q;
    sorted.get(index.round() as usize).copied().unwrap_or(0) as f64 / 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl Row {
    /// The figures of the clients.
    pub fn new(workload: &'static str, about: &'static str, target: &'static str, round: usize, seen: &Seen) -> Self {
        Self {
            workload,
            about,
            target,
            round,
            chats: seen.first.len(),
            rate: seen.rate,
            first_p50: quantile(&seen.first, 0.5),
            first_p99: quantile(&seen.first, 0.99),
            relay_p50: quantile(&seen.relay, 0.5),
            relay_p99: quantile(&seen.relay, 0.99),
            errors: seen.errors.clone(),
            product_cpu: 0.0,
            machine_cpu: 0.0,
            peak_rss: 0.0,
        }
    }

    /// CPU seconds of the product, and of the whole machine without client and mock; the product's largest memory in
    /// MiB. Setting the chats up is in them.
    pub const fn with_cpu(mut self, product: f64, machine: f64, peak_rss: f64) -> Self {
        self.product_cpu = product;
        self.machine_cpu = machine;
        self.peak_rss = peak_rss;
        self
    }
}

/// Says how a run went.
pub fn progress(row: &Row) {
    let _ = writeln!(
        std::io::stderr(),
        "{:14} {:8} round {}: {:7.1}/s  first p50 {:.2} p99 {:.2} ms  relay p50 {:.2} p99 {:.2} ms  errors {}{}",
        row.workload,
        row.target,
        row.round + 1,
        row.rate,
        row.first_p50,
        row.first_p99,
        row.relay_p50,
        row.relay_p99,
        row.errors.len(),
        row.errors.first().map(|error| format!(": {error}")).unwrap_or_default(),
    );
}

/// Prints the table of medians, as Markdown.
pub fn print(rows: &[Row], rounds: usize) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(
        out,
        "| workload | through | chats/s | first chunk p50 ms | p99 | over direct p50 | relay p50 ms | p99 | \
         CPU s per 1,000 chats: product | whole machine | peak RSS MiB | errors |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let mut direct_first = 0.0;
    for run in rows.chunk_by(|a, b| a.workload == b.workload) {
        for target in TARGETS {
            let own: Vec<&Row> = run.iter().filter(|row| row.target == target).collect();
            let of = |figure: fn(&Row) -> f64| median(own.iter().map(|row| figure(row)).collect());
            let per_1000 = |figure: fn(&Row) -> f64| {
                median(own.iter().map(|row| figure(row) * 1e3 / row.chats.max(1) as f64).collect())
            };
            let first = of(|row| row.first_p50);
            let is_direct = target == "direct";
            if is_direct {
                direct_first = first;
            }
            let or_none = |text: String| if is_direct { "–".to_owned() } else { text };
            let _ = writeln!(
                out,
                "| {}: {} | {target} | {:.1} | {first:.2} | {:.2} | {} | {:.2} | {:.2} | {} | {} | {} | {} |",
                run[0].workload,
                run[0].about,
                of(|row| row.rate),
                of(|row| row.first_p99),
                or_none(format!("{:.2}", first - direct_first)),
                of(|row| row.relay_p50),
                of(|row| row.relay_p99),
                or_none(format!("{:.2}", per_1000(|row| row.product_cpu))),
                or_none(format!("{:.2}", per_1000(|row| row.machine_cpu))),
                or_none(format!("{:.0}", of(|row| row.peak_rss))),
                own.iter().map(|row| row.errors.len()).sum::<usize>(),
            );
        }
    }
    let _ = writeln!(out, "\nMedians of {rounds} rounds, all targets in turn.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        let values: Vec<u64> = (1..=101).rev().map(|value| value * 1_000).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99)), (51.0, 100.0));
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}

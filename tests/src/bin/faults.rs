//! The long run: `cargo xtask faults` starts it. Faults upon faults for some minutes, or every mistake of the list; the
//! auditor's table at the end, histories and verdicts in a file, and the exit code says whether all held.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use polyphony_tests::{
    Cluster, Sampler, audit::audit_within, baseline::Baseline, driver::PATIENCE, history::History, load::Load,
    nemesis::Nemesis, rough, twin::Twin,
};
use serde_json::json;

#[derive(Parser)]
struct Cli {
    /// How long faults are injected.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// What the choices are made from; the same seed makes the same ones.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Instead, builds each known mistake in and expects that the auditor finds it.
    #[arg(long)]
    mutations: bool,
    /// Only this mistake.
    #[arg(long)]
    only: Option<String>,
    /// Where the history and the verdicts are written.
    #[arg(long, default_value = "target/faults")]
    folder: PathBuf,
}

const MODELS: &str = "twice-n30,slice3-n30,plain-n120-i25";
/// Of a provider by itself, since its failures are held against all that it has.
const RUDE: &str = "fin-n30,s503-first1,error-n20";
const ASKED: [&str; 8] = [
    "emu/plain-n40-i10",
    "emu/plain-n120-i25",
    "emu/plain-n5-i0",
    "rude/fin-n30",
    "emu/twice-n30",
    "rude/s503-first1",
    "rude/error-n20",
    "emu/slice3-n30",
];

fn say(text: &str) {
    // A closed standard output leaves nobody to tell.
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let held = if cli.mutations { Box::pin(mutations(cli.only.as_deref())).await } else { Box::pin(long(&cli)).await };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn long(cli: &Cli) -> bool {
    let mut cluster = Cluster::with_own_postgres(&[], MODELS).await;
    cluster.provider("rude", RUDE);
    let mut nemesis = Nemesis::new(cli.seed);
    nemesis.raise(&mut cluster).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let twin = Twin::start(&Nemesis::fleet()).await;
    let before = Baseline::measure(&mut cluster, &nemesis.nodes(), twin, &history, PATIENCE).await;
    let (here, twin) = (before.pace.here.as_millis(), before.pace.twin.as_millis());
    say(&format!(
        "while all is well: the slowest of the first short answers took {here} ms, at a twin that is left alone {twin} ms"
    ));
    let load = Load::start(&nemesis.nodes(), &history, 8, &ASKED).await;
    let (begun, time) = (Instant::now(), Duration::from_secs(60 * cli.minutes));
    let mut told = Instant::now();
    // On a slow machine, as much longer as it takes until each fault has been there, twice the time at most.
    while begun.elapsed() < time || (begun.elapsed() < time * 2 && !nemesis.missing().is_empty()) {
        nemesis.round(&mut cluster).await;
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            let faults: usize = nemesis.counts.values().sum();
            say(&format!("{:>4} s: {} asks, {faults} rounds", begun.elapsed().as_secs(), history.len()));
        }
    }
    nemesis.heal(&mut cluster).await;
    load.finish().await;
    let report = audit_within(&mut cluster, &history, sampler, Duration::from_secs(60), Some(&before)).await;
    fs::create_dir_all(&cli.folder).unwrap();
    let file = cli.folder.join(format!("history-{}.json", cli.seed));
    let asks: Vec<_> = history.asks().iter().map(|ask| ask.to_json()).collect();
    let points = cluster.injected();
    let all = json!({"seed": cli.seed, "minutes": cli.minutes, "faults": nemesis.counts, "points": points,
        "verdicts": report.to_json(), "asks": asks});
    fs::write(&file, serde_json::to_string_pretty(&all).unwrap()).unwrap();
    say("\nfault                                     injected");
    for fault in nemesis.missing() {
        say(&format!("{fault:<40} {:>9}", 0));
    }
    for (fault, count) in &nemesis.counts {
        say(&format!("{fault:<40} {count:>9}"));
    }
    for (point, count) in points {
        say(&format!("point {point:<34} {count:>9}"));
    }
    say(&format!("\n{report}\n{} asks; history: {}", history.len(), file.display()));
    let missing = nemesis.missing();
    if !missing.is_empty() {
        say(&format!("never injected: {}", missing.join(", ")));
    }
    report.red().is_empty() && missing.is_empty()
}

async fn mutations(only: Option<&str>) -> bool {
    let mut held = true;
    let chosen = |name: &str| only.is_none_or(|only| only == name);
    if chosen("none") {
        let report = Box::pin(rough::course("")).await;
        held &= report.red().is_empty();
        say(&format!("without a mistake: {}\n{report}", if report.red().is_empty() { "green" } else { "RED" }));
    }
    for (name, what, breaks) in rough::MUTATIONS.iter().filter(|(name, ..)| chosen(name)) {
        let begun = Instant::now();
        let report = Box::pin(rough::course(name)).await;
        let red = report.red();
        let found = if breaks.is_empty() { red.is_empty() } else { breaks.iter().any(|id| red.contains(id)) };
        held &= found;
        let word = if found { "found" } else { "NOT FOUND" };
        let seconds = begun.elapsed().as_secs();
        say(&format!("{name:<26} {word:<10} red: {red:?}, expected one of {breaks:?}, {seconds} s ({what})"));
        for verdict in &report.verdicts {
            if let Some(first) = verdict.broken.first() {
                say(&format!("    {:<4} {first}", verdict.id));
            }
        }
    }
    held
}

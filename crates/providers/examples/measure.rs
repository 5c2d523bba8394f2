//! Measures the decoder, the converter and the tokeniser: `cargo run --release -p polyphony-providers --example measure`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for the terminal")]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use polyphony_domain::{
    catalog::Model,
    content::{Message, Role},
    context::{Entry, Thread},
};
use polyphony_providers::{
    Options,
    compatible::{Quirks, converter},
    context::Contexts,
    sse::Decoder,
    tokens,
};
use uuid::Uuid;

/// Resident memory of this process in MiB (Linux).
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Best of five.
fn best(mut run: impl FnMut()) -> Duration {
    let times = (0..5).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    times.min().unwrap_or_default()
}

fn report(what: &str, bytes: usize, events: usize, took: Duration) {
    let seconds = took.as_secs_f64();
    println!("{what}: {:.0} MB/s, {:.0} ns per event", bytes as f64 / 1e6 / seconds, seconds * 1e9 / events as f64);
}

/// How long it takes to make somebody's conversation fit while others send megabytes of hostile text.
async fn neighbours() {
    let contexts = Contexts::default();
    let model = Model { context_length: 128_000, ..Model::declared("openai", "m") };
    let fit = async |texts: Vec<String>| {
        let mut thread = Thread::default();
        let message = |text: &String| Message::text(Role::User, text.as_str());
        let entries = texts.iter().map(|text| Entry { message: message(text), turn: None, protected: false });
        thread.entries = entries.collect();
        let start = Instant::now();
        let _ = contexts.fit(&thread, &model, Options::default(), Uuid::nil()).await;
        start.elapsed()
    };
    // Twenty messages of 2 kB, none of them counted before.
    let prose = |n: usize| (0..20).map(|m| format!("{n} {m} {}", "The kettle boils. ".repeat(110))).collect();
    contexts.warm_up().await;
    let units =
        [("nothing", ""), ("prose", "The kettle boils. "), ("blanks", " "), ("one letter", "a"), ("newlines", "\n")];
    for (round, (name, unit)) in units.into_iter().enumerate() {
        let flooding = AtomicBool::new(!unit.is_empty());
        let flood = async |who: usize| {
            let mut n = 0;
            while flooding.load(Ordering::Relaxed) {
                n += 1;
                // A megabyte, in texts that are short enough to be counted.
                let texts = (0..4).map(|m| format!("{who} {n} {m} {}", unit.repeat(249_000 / unit.len().max(1))));
                fit(texts.collect()).await;
            }
        };
        let measured = async {
            let mut times = Vec::new();
            for n in 0..100 {
                times.push(fit(prose(round * 1_000 + n)).await);
            }
            flooding.store(false, Ordering::Relaxed);
            times.sort();
            println!(
                "40 kB of prose beside 3 people with 1 MB of {name}: median {:.1} ms, p99 {:.1} ms",
                times[50].as_secs_f64() * 1e3,
                times[98].as_secs_f64() * 1e3
            );
        };
        tokio::join!(measured, flood(1), flood(2), flood(3));
    }
}

fn main() {
    let chunk = concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp","#,
        r#""choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}],"obfuscation":"x"}"#,
        "\n\n"
    );
    let count = 100_000;
    let token_stream = chunk.repeat(count);
    let tiny = "data:x\n\n".repeat(1_000_000);
    let line = format!("data: {}\n\n", "x".repeat(1_000_000)).repeat(20);
    for (name, text, events) in
        [("tokens", &token_stream, count), ("10^6 tiny events", &tiny, 1_000_000), ("1 MB lines", &line, 20)]
    {
        let took = best(|| {
            let (mut decoder, mut seen) = (Decoder::default(), 0);
            for read in text.as_bytes().chunks(8 * 1024) {
                decoder.feed(read, &mut |event| seen += event.data.len()).unwrap();
            }
            assert!(seen > 0);
        });
        report(&format!("decoder, {name}"), text.len(), events, took);
    }
    for (name, size) in [("8 KiB reads", 8 * 1024), ("an event per read", chunk.len())] {
        let took = best(|| {
            let mut converter = converter(&Quirks::COMMON);
            for read in token_stream.as_bytes().chunks(size) {
                let mut events = Vec::new();
                converter.feed(read, &mut events);
                assert!(!events.is_empty());
            }
        });
        report(&format!("converter, {name}"), token_stream.len(), count, took);
    }
    drop((token_stream, tiny, line));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = resident();
    let start = Instant::now();
    runtime.block_on(tokens::count_text("Hello".to_owned(), "openai"));
    println!("vocabulary: {:.0} ms, RSS {before:.1} → {:.1} MiB", start.elapsed().as_secs_f64() * 1e3, resident());
    let english = "The quick brown fox jumps over the lazy dog. ";
    let units = [
        ("English", english),
        ("Chinese", "敏捷的棕色狐狸跳过了那只懒狗。"),
        ("blanks", " "),
        ("one letter", "a"),
        ("newlines", "\n"),
        ("marks", "e\u{301}"),
        ("signs", "/\n"),
    ];
    for (name, unit) in units {
        // Just below the most that is counted at all.
        let text = unit.repeat(250_000 / unit.len());
        let took = best(|| assert!(runtime.block_on(tokens::count_text(text.clone(), "openai")).tokens > 0));
        println!("250 kB of {name}: {:.0} ms", took.as_secs_f64() * 1e3);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(neighbours());
    println!("RSS after counting: {:.1} MiB", resident());
}

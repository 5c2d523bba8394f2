//! Measures the decoder, the converter and the tokeniser: `cargo run --release -p polyphony-providers --example measure`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for the terminal")]

use std::time::{Duration, Instant};

use polyphony_providers::{
    compatible::{Quirks, converter},
    sse::Decoder,
    tokens,
};

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
    let english = "The quick brown fox jumps over the lazy dog. ".repeat(4_400);
    for (name, text) in [("English", english), ("blanks", " ".repeat(200_000)), ("one letter", "a".repeat(200_000))] {
        let start = Instant::now();
        let counted = runtime.block_on(tokens::count_text(text, "openai"));
        println!("200 kB of {name}: {} tokens in {:.0} ms", counted.tokens, start.elapsed().as_secs_f64() * 1e3);
    }
    println!("RSS after counting: {:.1} MiB", resident());
}

//! `polyphony-audit-verify`: checks a proof or an export with nothing but public keys.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    process::ExitCode,
};

use polyphony_audit_verify::{
    Flaw,
    checkpoint::PublicKey,
    export::{Line, Walk},
    proof::Proof,
};

const USAGE: &str = "usage: polyphony-audit-verify proof|export FILE KEY...\n\n\
    FILE is what `polyphony audit prove` or `polyphony audit export` wrote (- for standard input), each KEY a public\n\
    key as `polyphony audit keys` prints it. The exit code is 0 when everything holds, 1 when something doesn't, 2\n\
    when the command isn't complete.\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if matches!(arguments.first().map(String::as_str), Some("--help" | "-h" | "help")) {
        let _ = io::stdout().write_all(USAGE.as_bytes());
        return ExitCode::SUCCESS;
    }
    let [what, file, keys @ ..] = arguments.as_slice() else { return usage() };
    if keys.is_empty() {
        return usage();
    }
    let checked = match what.as_str() {
        "proof" => proof(file, keys),
        "export" => export(file, keys),
        _ => return usage(),
    };
    let (text, code) = match checked {
        Ok(words) => (format!("OK: {words}\n"), ExitCode::SUCCESS),
        Err(flaw) => (format!("NOT OK: {flaw}\n"), ExitCode::FAILURE),
    };
    // A closed standard output leaves the exit code to say it.
    let _ = io::stdout().write_all(text.as_bytes());
    code
}

fn usage() -> ExitCode {
    let _ = io::stderr().write_all(USAGE.as_bytes());
    ExitCode::from(2)
}

fn malformed(error: impl std::fmt::Display) -> Flaw {
    Flaw::Malformed(error.to_string())
}

fn open(file: &str) -> Result<Box<dyn io::BufRead>, Flaw> {
    if file == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    Ok(Box::new(BufReader::new(File::open(file).map_err(malformed)?)))
}

fn trusted(keys: &[String]) -> Result<Vec<PublicKey>, Flaw> {
    keys.iter().map(|key| PublicKey::parse(key)).collect()
}

fn proof(file: &str, keys: &[String]) -> Result<String, Flaw> {
    let mut text = String::new();
    open(file)?.read_to_string(&mut text).map_err(malformed)?;
    let proof: Proof = serde_json::from_str(&text).map_err(malformed)?;
    proof.verify(&trusted(keys)?)?;
    let (event, checkpoint) = (&proof.event, &proof.checkpoint);
    Ok(format!(
        "{} {} of {} {}, recorded {}, is event {} of {} under the root that {} signed at {}",
        event.event_type,
        event.event_id,
        event.aggregate_type,
        event.aggregate_id,
        event.recorded_at,
        proof.index + 1,
        checkpoint.size,
        checkpoint.key,
        checkpoint.at
    ))
}

fn export(file: &str, keys: &[String]) -> Result<String, Flaw> {
    let mut walk = Walk::new(trusted(keys)?);
    for line in open(file)?.lines() {
        let line: Line = serde_json::from_str(&line.map_err(malformed)?).map_err(malformed)?;
        walk.step(&line)?;
    }
    let seen = walk.end()?;
    Ok(format!("{} events up to position {} under {} checkpoints", seen.events, seen.position, seen.checkpoints))
}

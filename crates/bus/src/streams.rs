//! The streams, declared in one place. `nats/streams.json` is made from this table.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use polyphony_platform::patience;

use crate::subjects;

const MINUTE: Duration = Duration::from_secs(60);
/// How long the server knows what it was given, and takes it once. Nobody relies on it.
const DUPLICATES: Duration = Duration::from_secs(120);

/// Name of the event stream.
pub const EVENTS: &str = "EVENTS";
/// Name of the job stream.
pub const JOBS: &str = "JOBS";
/// Name of the chunk stream.
pub const CHUNKS: &str = "CHUNKS";

/// Every stream.
pub fn all() -> [Config; 3] {
    [
        Config {
            name: EVENTS.to_owned(),
            description: Some("the log in commit order; a copy, Postgres has the original".to_owned()),
            subjects: vec![subjects::EVENTS.to_owned()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            discard: DiscardPolicy::Old,
            max_age: 7 * 24 * 60 * MINUTE,
            max_bytes: 4 << 30,
            duplicate_window: patience!("bus.duplicate_window", DUPLICATES),
            allow_direct: true,
            num_replicas: 1,
            ..Config::default()
        },
        Config {
            name: JOBS.to_owned(),
            description: Some("answers to be made; hints, the sweeper issues lost ones again".to_owned()),
            subjects: vec![subjects::JOBS.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            // A full queue refuses: the answer waits in Postgres and the sweeper brings it later.
            discard: DiscardPolicy::New,
            max_messages: 200_000,
            max_age: 24 * 60 * MINUTE,
            duplicate_window: patience!("bus.duplicate_window", DUPLICATES),
            num_replicas: 1,
            ..Config::default()
        },
        Config {
            name: CHUNKS.to_owned(),
            description: Some("text on its way to its readers".to_owned()),
            subjects: vec![subjects::CHUNKS.to_owned()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::Memory,
            discard: DiscardPolicy::Old,
            max_age: 15 * MINUTE,
            max_bytes: 128 << 20,
            allow_direct: true,
            num_replicas: 1,
            ..Config::default()
        },
    ]
}

/// The table as the file `nats/streams.json`.
///
/// # Errors
/// A stream can't be written as JSON, which the test of the file rules out.
pub fn streams_json() -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(&all())? + "\n")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    #[test]
    fn the_committed_stream_definitions_are_fresh() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nats/streams.json");
        let fresh = super::streams_json().unwrap();
        if env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&path, &fresh).unwrap();
        }
        assert_eq!(fs::read_to_string(path).unwrap(), fresh, "run `cargo xtask codegen`");
    }
}

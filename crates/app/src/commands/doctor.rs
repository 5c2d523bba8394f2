//! `polyphony doctor`: how a deployment is, and what to do about it.

use anyhow::bail;
use polyphony_bus::{Bus, streams};
use polyphony_eventstore::{Store, vitals::Vitals};
use polyphony_platform::{config::Config, secrets::Secrets};
use polyphony_projections::{usage, vitals};
use serde::Serialize;

use super::{print, table::table};
use crate::roles;

/// Postgres 18 is what this is built and tested with; 14 has everything that it needs.
const OLDEST_POSTGRES: i32 = 140_000;
/// Seconds that the horizon may lag before views do.
const OLD_HORIZON: f64 = 10.0;
/// Seconds that a view or the chain may be behind.
const LATE: i64 = 30;
/// Jobs that lie in their stream, which takes twenty times as many.
const MANY_JOBS: u64 = 10_000;
/// Milliseconds that clocks may be apart.
const SKEW: i64 = 2_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Bad,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    found: String,
    /// What to do; empty where all is well.
    advice: &'static str,
}

fn check(
    name: impl Into<String>,
    is_well: bool,
    otherwise: State,
    found: impl Into<String>,
    advice: &'static str,
) -> Check {
    let (state, advice) = if is_well { (State::Ok, "") } else { (otherwise, advice) };
    Check { name: name.into(), state, found: found.into(), advice }
}

/// Checks everything that can be reached.
///
/// # Errors
/// Something is bad, so that the exit code says so, too.
pub async fn doctor(config: Config, json: bool) -> anyhow::Result<()> {
    let mut checks = Vec::new();
    match roles::open_store(&config).await {
        Ok((store, secrets)) => {
            postgres(&store, &secrets, &config, &mut checks).await;
            projections(&store, &config, &mut checks).await;
        }
        Err(error) => {
            checks.push(check("postgres", false, State::Bad, format!("{error:#}"), "start it, or set DATABASE_URL"))
        }
    }
    nats(&config, &mut checks).await;
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&checks)?))?;
    } else {
        print(&report(&checks))?;
    }
    match checks.iter().filter(|check| check.state == State::Bad).count() {
        0 => Ok(()),
        bad => bail!("{bad} of {} checks are bad", checks.len()),
    }
}

fn report(checks: &[Check]) -> String {
    let word = |state| match state {
        State::Ok => "ok",
        State::Warn => "WARN",
        State::Bad => "BAD",
    };
    let rows: Vec<[String; 4]> = checks
        .iter()
        .map(|check| [check.name.clone(), word(check.state).to_owned(), check.found.clone(), check.advice.to_owned()])
        .collect();
    table(["CHECK", "STATE", "FOUND", "WHAT TO DO"], &rows)
}

async fn postgres(store: &Store, secrets: &Secrets, config: &Config, checks: &mut Vec<Check>) {
    match store.vitals(config.relay.undo_seconds).await {
        Ok(vitals) => checks.extend(of_vitals(&vitals, secrets, config)),
        Err(error) => {
            let advice = "run `polyphony migrate`, and see whether the role may read the schema";
            checks.push(check("postgres", false, State::Bad, chain_of(&error), advice));
            return;
        }
    }
    match store.chain_head().await {
        Ok(head) => {
            let size = head.checkpoint.map_or(0, |checkpoint| checkpoint.size);
            let advice = "the chain is behind the relay: run a relay of this version, then `polyphony audit verify`";
            checks.push(check("audit chain", head.at == head.relay, State::Bad, format!("{size} events"), advice));
            let behind = store.count_after(head.relay, 100_000).await.unwrap_or(0);
            let oldest = store.read_after(head.relay, 1).await.ok().and_then(|mut events| events.pop());
            let late = oldest.map_or(0, |event| (chrono::Utc::now() - event.recorded_at).num_seconds());
            let advice = "see whether a relay runs, and whether NATS takes its messages";
            checks.push(check("relay", late < LATE, State::Bad, format!("{behind} events, {late} s behind"), advice));
        }
        Err(error) => checks.push(check("audit chain", false, State::Bad, chain_of(&error), "run `polyphony migrate`")),
    }
}

fn of_vitals(vitals: &Vitals, secrets: &Secrets, config: &Config) -> Vec<Check> {
    let durable = vitals.unsafe_settings.is_empty();
    let durability = if durable { "on".to_owned() } else { format!("off: {}", vitals.unsafe_settings.join(", ")) };
    let unsafe_state = if config.safety.allow_volatile { State::Warn } else { State::Bad };
    let old_keks: i64 = vitals
        .kek_versions
        .iter()
        .filter(|(version, _)| secrets.kek.needs_rewrap(*version))
        .map(|(_, keys)| keys)
        .sum();
    let missing: Vec<i32> =
        vitals.kek_versions.iter().map(|(version, _)| *version).filter(|version| !secrets.kek.has(*version)).collect();
    let keks =
        vitals.kek_versions.iter().map(|(version, keys)| format!("v{version}: {keys}")).collect::<Vec<_>>().join(", ");
    let (used, most) = vitals.connections;
    vec![
        check(
            "postgres version",
            vitals.version_number >= OLDEST_POSTGRES,
            State::Bad,
            &*vitals.version,
            "upgrade to Postgres 14 or newer (18 is tested)",
        ),
        check(
            "schema",
            vitals.pending_migrations == 0,
            State::Bad,
            format!("{} migrations to come", vitals.pending_migrations),
            "run `polyphony migrate`",
        ),
        check(
            "durability",
            durable,
            unsafe_state,
            durability,
            "turn fsync, full_page_writes and synchronous_commit on",
        ),
        check(
            "horizon",
            vitals.horizon_age_seconds < OLD_HORIZON,
            State::Warn,
            format!("{:.1} s", vitals.horizon_age_seconds),
            "end the oldest writing transaction (pg_stat_activity, backend_xid): relay and views wait for it",
        ),
        check(
            "idle transactions",
            vitals.idle_in_transaction == 0,
            State::Warn,
            format!("{} for over a minute", vitals.idle_in_transaction),
            "set idle_in_transaction_session_timeout = 30s on the server",
        ),
        check(
            "clock",
            vitals.clock_ahead_ms.abs() < SKEW,
            State::Warn,
            format!("the database is {} ms ahead", vitals.clock_ahead_ms),
            "let both machines keep time by NTP",
        ),
        check(
            "partitions",
            vitals.months_ahead >= 2 && vitals.in_default_partition == 0,
            State::Warn,
            format!("{} months, {} events in none of them", vitals.months_ahead, vitals.in_default_partition),
            "run a relay (it makes them daily); events in none come from a clock that was far off, and are only slower",
        ),
        check(
            "leases",
            vitals.stuck_runs == 0,
            State::Warn,
            format!("{} answers untouched for five minutes", vitals.stuck_runs),
            "see whether a worker and a relay run, and what the workers log",
        ),
        check(
            "key ring",
            missing.is_empty(),
            State::Bad,
            keks,
            "put the missing version back into the secrets: data sealed with it can't be read",
        ),
        check(
            "key rotation",
            old_keks == 0,
            State::Warn,
            format!("{old_keks} keys wrapped by an old version"),
            "keep the old versions in the ring until none is left",
        ),
        check(
            "erasures",
            vitals.overdue_erasures == 0,
            State::Bad,
            format!("{} overdue", vitals.overdue_erasures),
            "run a relay: its leader erases deleted sessions when their time is over",
        ),
        check(
            "connections",
            used * 10 < most * 9,
            State::Warn,
            format!("{used} of {most}"),
            "lower database.max_connections of the processes, or raise max_connections",
        ),
    ]
}

async fn projections(store: &Store, config: &Config, checks: &mut Vec<Check>) {
    match vitals::models(store).await {
        Ok(models) => {
            for model in models {
                let found =
                    format!("{} events, {} s behind; {} parked", model.behind, model.behind_seconds, model.parked);
                let advice = if model.parked > 0 {
                    "look into read.parked_events; `polyphony rebuild` tries parked events again"
                } else {
                    "see whether a projector runs, and what it logs"
                };
                let is_well = model.behind_seconds < LATE && model.parked == 0;
                checks.push(check(model.name, is_well, State::Warn, found, advice));
            }
        }
        Err(error) => checks.push(check("projections", false, State::Bad, chain_of(&error), "run `polyphony migrate`")),
    }
    match vitals::analytics(store, &usage::client(&config.clickhouse)).await {
        Ok((version, has_tables)) => {
            checks.push(check("clickhouse", has_tables, State::Bad, version, "run `polyphony migrate`"));
        }
        Err(error) => {
            let advice = "start it, or set CLICKHOUSE_URL: only dashboards need it, they are late meanwhile";
            checks.push(check("clickhouse", false, State::Warn, chain_of(&error), advice));
        }
    }
}

async fn nats(config: &Config, checks: &mut Vec<Check>) {
    // It declares what streams are missing, as every start does.
    match Bus::connect(&config.nats.url, "doctor").await {
        Ok(bus) => {
            let (missing, why) = match bus.missing_streams().await {
                Ok(missing) => (missing, String::new()),
                Err(error) => (vec!["all".to_owned()], chain_of(&error)),
            };
            let found =
                if missing.is_empty() { bus.version() } else { format!("no stream {} {why}", missing.join(", ")) };
            checks.push(check("nats", missing.is_empty(), State::Bad, found, "see whether JetStream is on"));
            let stored = bus.stored().await.unwrap_or_default();
            let jobs = stored.iter().find(|(name, _)| name == streams::JOBS).map_or(0, |(_, messages)| *messages);
            let found =
                stored.iter().map(|(name, messages)| format!("{name} {messages}")).collect::<Vec<_>>().join(", ");
            let advice = "see whether workers run: answers wait for one";
            checks.push(check("messages", jobs < MANY_JOBS, State::Warn, found, advice));
        }
        Err(error) => {
            checks.push(check(
                "nats",
                false,
                State::Bad,
                chain_of(&error),
                "start NATS 2.11 or newer with JetStream, or set NATS_URL",
            ));
        }
    }
}

/// An error with its causes.
fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

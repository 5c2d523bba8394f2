//! `polyphony audit`: checking the chain, exporting parts of it, proving what is in the log.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use polyphony_audit_verify::{
    checkpoint::{Checkpoint, PublicKey},
    export::{Line, Seen, Walk},
};
use polyphony_eventstore::{
    Store,
    audit::{AuditKeys, AuditRange},
};
use polyphony_platform::{config::Config, secrets::Secrets};
use polyphony_projections::Moment;
use uuid::Uuid;

use super::print;
use crate::roles;

/// What to do with the audit chain.
#[derive(Subcommand)]
pub enum AuditCommand {
    /// Check every event against the chain and every signature; name the first flaw.
    Verify {
        /// An export to check instead of the database.
        file: Option<PathBuf>,
        /// A checkpoint that was kept elsewhere: the log must still hold everything under it.
        #[arg(long)]
        since: Option<PathBuf>,
        /// Public keys to trust instead of those of the secrets file.
        #[arg(long = "key")]
        keys: Vec<String>,
    },
    /// Write a part of the log with its chain, to be checked elsewhere; whole batches.
    Export {
        /// From this time (RFC 3339) or position on.
        #[arg(long)]
        from: Option<Moment>,
        /// Up to this time (RFC 3339) or position.
        #[arg(long)]
        to: Option<Moment>,
        /// Where to.
        file: PathBuf,
    },
    /// Print a proof that an answer, or any event, is in the log.
    Prove {
        /// Id of the answer or of the event.
        id: Uuid,
    },
    /// Print the newest signed checkpoint, to be kept where nobody can change it.
    Checkpoint,
    /// Print the public keys, the one that signs now first.
    Keys,
}

/// Does it.
///
/// # Errors
/// The first flaw, or what failed.
pub async fn audit(config: Config, command: AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::Verify { file: Some(file), since: _, keys } => {
            let seen = verify_file(&file, trusted(&keys)?)?;
            report(&seen)
        }
        AuditCommand::Verify { file: None, since, keys } => {
            let (store, _) = roles::open_store(&config).await?;
            if let Some(kept) = since {
                holds(&store, &kept, &trusted(&keys)?).await?;
            }
            let seen = verify_log(&store, trusted(&keys)?).await?;
            report(&seen)
        }
        AuditCommand::Export { from, to, file } => {
            let (store, _) = roles::open_store(&config).await?;
            export(&store, range(from, to), &file).await
        }
        AuditCommand::Prove { id } => {
            let (store, _) = roles::open_store(&config).await?;
            print(&format!("{}\n", serde_json::to_string_pretty(&store.prove(id).await?)?))
        }
        AuditCommand::Checkpoint => {
            let (store, _) = roles::open_store(&config).await?;
            let checkpoint = store.chain_head().await?.checkpoint.context("nothing has been chained yet")?;
            print(&format!("{}\n", serde_json::to_string_pretty(&checkpoint)?))
        }
        AuditCommand::Keys => {
            let keys = AuditKeys::new(&Secrets::load()?.audit).public();
            print(&keys.iter().map(|key| format!("{}  {}\n", key.text(), key.fingerprint())).collect::<String>())
        }
    }
}

/// The keys that are given, else those of the secrets.
fn trusted(keys: &[String]) -> anyhow::Result<Vec<PublicKey>> {
    if keys.is_empty() {
        return Ok(AuditKeys::new(&Secrets::load()?.audit).public());
    }
    Ok(keys.iter().map(|key| PublicKey::parse(key)).collect::<Result<_, _>>()?)
}

fn report(seen: &Seen) -> anyhow::Result<()> {
    let last = match &seen.last {
        None => "nothing has been chained yet".to_owned(),
        Some(last) => format!("the last signed at {} by {}", last.at, last.key),
    };
    print(&format!(
        "OK: {} events up to position {} under {} checkpoints, {last}\n",
        seen.events, seen.position, seen.checkpoints
    ))
}

async fn verify_log(store: &Store, keys: Vec<PublicKey>) -> anyhow::Result<Seen> {
    let mut walk = Walk::new(keys);
    store.audit_lines(AuditRange::default(), |line| walk.step(&line).map_err(anyhow::Error::from)).await?;
    Ok(walk.end()?)
}

fn verify_file(file: &Path, keys: Vec<PublicKey>) -> anyhow::Result<Seen> {
    let mut walk = Walk::new(keys);
    for line in BufReader::new(File::open(file).with_context(|| file.display().to_string())?).lines() {
        walk.step(&serde_json::from_str::<Line>(&line?)?)?;
    }
    Ok(walk.end()?)
}

/// Whether the log still holds what a kept checkpoint covers. The walk that follows checks that its root is that of
/// the events.
async fn holds(store: &Store, kept: &Path, keys: &[PublicKey]) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(kept).with_context(|| kept.display().to_string())?;
    let kept: Checkpoint = serde_json::from_str(&text).context("the kept checkpoint can't be read")?;
    kept.verify(keys)?;
    match store.checkpoint_over(kept.size).await? {
        Some(stored) if stored.root == kept.root => Ok(()),
        Some(_) => bail!("the log is another one than when its first {} events were signed at {}", kept.size, kept.at),
        None => bail!("the log has lost events: {} of them were signed at {}", kept.size, kept.at),
    }
}

fn range(from: Option<Moment>, to: Option<Moment>) -> AuditRange {
    let split = |moment: Option<Moment>| -> (Option<DateTime<Utc>>, Option<i64>) {
        match moment {
            None => (None, None),
            Some(Moment::Time(time)) => (Some(time), None),
            Some(Moment::Position(position)) => (None, Some(position)),
        }
    };
    let ((since, from), (until, to)) = (split(from), split(to));
    AuditRange { since, until, from, to }
}

async fn export(store: &Store, range: AuditRange, file: &Path) -> anyhow::Result<()> {
    let mut out = BufWriter::new(File::create(file).with_context(|| file.display().to_string())?);
    let mut events = 0_u64;
    store
        .audit_lines(range, |line| {
            events += u64::from(matches!(line, Line::Event { .. }));
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n").map_err(anyhow::Error::from)
        })
        .await?;
    out.flush()?;
    print(&format!("{events} events\n"))
}

//! `polyphony rebuild`: read models built anew from the log, or compared with it.

use anyhow::bail;
use polyphony_platform::config::Config;
use polyphony_projections::{rebuild as rebuilding, usage};

use super::{print, table::table};
use crate::roles;

/// Builds one or all read models anew; with `verify`, only compares them with what the log makes.
///
/// # Errors
/// The first that could not be built. With `verify`, also that something differs.
pub async fn rebuild(config: Config, name: Option<String>, verify: bool) -> anyhow::Result<()> {
    let (store, _) = roles::open_store(&config).await?;
    let clickhouse = usage::client(&config.clickhouse);
    let names = name.map_or_else(|| rebuilding::NAMES.map(str::to_owned).to_vec(), |name| vec![name]);
    if !verify {
        for name in names {
            let built = rebuilding::rebuild(&store, &clickhouse, &name).await?;
            let resumed = match built.resumed_at {
                0 => String::new(),
                events => format!(" ({events} of them by an earlier build that broke off)"),
            };
            print(&format!("{name}: {} events{resumed}\n", built.events))?;
        }
        return Ok(());
    }
    let (mut rows, mut differing, mut failures) = (vec![], vec![], vec![]);
    for name in names {
        let verdict = match rebuilding::verify(&store, &clickhouse, &name).await {
            Ok(verdict) => verdict,
            // The others can be compared all the same: the views don't need ClickHouse.
            Err(error) => {
                let dash = || "-".to_owned();
                rows.push([name.clone(), "NOT COMPARED".to_owned(), dash(), dash(), dash(), dash()]);
                failures.push(anyhow::Error::new(error).context(format!("{name} can't be compared")));
                continue;
            }
        };
        let state = if verdict.is_equal() { "equal" } else { "DIFFERENT" };
        rows.push([
            name.clone(),
            state.to_owned(),
            verdict.live.to_string(),
            verdict.rebuilt.to_string(),
            verdict.differing.to_string(),
            format!("{}.{}", verdict.at.xid, verdict.at.position),
        ]);
        differing.extend(verdict.first.into_iter().map(|id| format!("{name}: {id}\n")));
    }
    print(&table(["PROJECTION", "STATE", "LIVE", "REBUILT", "DIFFERING", "AT"], &rows))?;
    if differing.is_empty() {
        return failures.into_iter().next().map_or(Ok(()), Err);
    }
    print(&format!("\nthe first that differ:\n{}", differing.concat()))?;
    bail!("what is live is not what the log makes; `polyphony rebuild` makes it so");
}

//! How far a projection is behind, as metrics.

use std::time::{Duration, Instant};

use chrono::Utc;
use polyphony_domain::record::Cursor;

use super::Deps;
use crate::ProjectionError;

/// How often it is measured.
const PERIOD: Duration = Duration::from_secs(2);
/// Most events counted.
const LIMIT: u32 = 100_000;

/// How far a projection is behind.
#[derive(Default)]
pub(super) struct Lag {
    measured: Option<Instant>,
}

impl Lag {
    /// Measures, unless that has just been done.
    pub(super) async fn measure(&mut self, deps: &Deps, name: &'static str, at: Cursor) -> Result<(), ProjectionError> {
        if self.measured.is_some_and(|measured| measured.elapsed() < PERIOD) {
            return Ok(());
        }
        self.measured = Some(Instant::now());
        let events = deps.store.count_after(at, LIMIT).await?;
        let oldest = if events == 0 { None } else { deps.store.read_after(at, 1).await?.pop() };
        let seconds = oldest.map_or(0, |event| (Utc::now() - event.recorded_at).num_milliseconds().max(0));
        metrics::gauge!("polyphony_projection_lag_events", "projection" => name).set(events as f64);
        metrics::gauge!("polyphony_projection_lag_seconds", "projection" => name).set(seconds as f64 / 1e3);
        Ok(())
    }
}

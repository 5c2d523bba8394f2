//! Looks at the cursors while a run goes on: none may ever have passed an event that is not committed yet.

use std::time::Duration;

use sqlx::PgPool;
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};

use crate::audit::Verdict;

const PERIOD: Duration = Duration::from_millis(25);

/// One snapshot: cursors at or above the oldest transaction that may still write.
const TOO_FAR: &str = "WITH horizon AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin) \
    SELECT string_agg(name || ' at ' || xid::text || ', horizon ' || xmin::text, '; ') FROM (\
        SELECT name, xid FROM read.checkpoints UNION ALL SELECT 'relay', xid FROM ops.relay) AS cursors, horizon \
    WHERE cursors.xid >= horizon.xmin";

/// A running sampler.
pub struct Sampler {
    stop: oneshot::Sender<()>,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Sampler {
    /// Begins to look.
    pub fn start(pool: &PgPool) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let pool = pool.clone();
        let task = tokio::spawn(async move {
            let (mut samples, mut broken) = (0, Vec::new());
            while matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                // A database that is away is a fault, not a finding.
                if let Ok(found) = sqlx::query_scalar::<_, Option<String>>(TOO_FAR).fetch_one(&pool).await {
                    samples += 1;
                    broken.extend(found.map(|found| format!("a cursor was too far: {found}")));
                }
                sleep(PERIOD).await;
            }
            (samples, broken)
        });
        Self { stop, task }
    }

    /// Ends it, and adds what it has seen to the verdict.
    pub(crate) async fn finish(self, verdict: &mut Verdict) {
        let _ = self.stop.send(());
        let (samples, broken) = self.task.await.unwrap();
        verdict.sampled(samples, broken);
    }
}

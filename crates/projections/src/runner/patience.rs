//! What becomes of an event that can't be applied: it is tried again, then put aside, and the projection goes on.

use std::{error::Error, iter::successors, time::Duration};

use polyphony_domain::record::{Cursor, StoredEvent};

use super::{Deps, Projection};
use crate::{ProjectionError, checkpoint::Checkpoint, typed::Poison};

/// How often a batch is tried that an event spoils.
const TRIES: u32 = 3;
/// Pause before each of the others.
const PAUSE: Duration = Duration::from_millis(50);

/// Applies events. Poison among them is found by halving the batch, and parked.
///
/// # Errors
/// Everything that isn't an event's fault: that is tried again for ever, by the caller.
pub(super) async fn apply<P: Projection>(
    projection: &P,
    deps: &Deps,
    mut at: Checkpoint,
    events: Vec<StoredEvent>,
) -> Result<Cursor, ProjectionError> {
    let (mut tries, mut waiting) = (1, vec![events]);
    while let Some(mut events) = waiting.pop() {
        // A batch that was begun before may have gone further than these.
        events.retain(|event| event.cursor > at.cursor);
        match projection.apply(deps, at, events.clone()).await {
            Ok(to) => at.cursor = to,
            Err(error) if !error.is_poison() => return Err(error),
            Err(error) if tries < TRIES => {
                let name = projection.name();
                tracing::warn!(projection = name, error = &error as &dyn Error, "an event spoils its batch");
                tries += 1;
                waiting.push(events);
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => match events.as_slice() {
                [] => return Err(error),
                [event] => {
                    projection.skip(deps, at, poison(event, &error)).await?;
                    at.cursor = event.cursor;
                }
                _ => {
                    waiting.push(events.split_off(events.len() / 2));
                    waiting.push(events);
                }
            },
        }
    }
    Ok(at.cursor)
}

/// An event that can't be applied, and why.
fn poison(event: &StoredEvent, error: &ProjectionError) -> Poison {
    let reason = match error {
        ProjectionError::Unreadable { reason, .. } => reason.clone(),
        error => {
            let chain = successors(Some(error as &(dyn Error + 'static)), |error| (*error).source());
            chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
        }
    };
    Poison { event_id: event.event_id, cursor: event.cursor, error: reason }
}

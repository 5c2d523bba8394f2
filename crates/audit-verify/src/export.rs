//! A part of the log with its chain, one JSON object a line, and the walk that checks it. The service checks its whole
//! log by the same walk, line by line, without writing them down.

use serde::{Deserialize, Serialize};

use crate::{
    Flaw,
    checkpoint::{Checkpoint, PublicKey},
    event::LoggedEvent,
    proof::hash,
    tree::Frontier,
};

/// Names the form of an export.
pub const FORMAT: &str = "polyphony-audit-export-1";

/// A line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case", deny_unknown_fields)]
pub enum Line {
    /// The first: the tree before the part.
    Begin {
        /// [`FORMAT`].
        format: String,
        /// Events before it.
        size: u64,
        /// Roots of the complete subtrees of the tree before it, hex, the largest first.
        peaks: Vec<String>,
        /// The signed root of that tree; none for the empty one.
        checkpoint: Option<Checkpoint>,
    },
    /// An event that is in the log and in the chain.
    Event {
        /// The event.
        event: LoggedEvent,
        /// The id that was chained here.
        chained: String,
        /// The leaf that was chained, hex.
        leaf: String,
    },
    /// An event that is in the chain but not in the log any more.
    Removed {
        /// Its position.
        position: i64,
        /// Its id.
        event_id: String,
    },
    /// An event that is in the log but not in the chain, though others after it are.
    Inserted {
        /// Its position.
        position: i64,
        /// Its id.
        event_id: String,
    },
    /// A part of the chain is missing.
    Gap {},
    /// The signed root after a batch of events.
    Checkpoint(Checkpoint),
    /// The last: how many events there are in all up to here.
    End {
        /// Events.
        size: u64,
    },
}

/// What a walk has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Events that were checked.
    pub events: u64,
    /// Checkpoints that were checked.
    pub checkpoints: u64,
    /// The last of them.
    pub last: Option<Checkpoint>,
    /// Position of the last event.
    pub position: i64,
}

/// Walks along a log, line by line, up to its first flaw.
pub struct Walk {
    keys: Vec<PublicKey>,
    frontier: Option<Frontier>,
    seen: Seen,
    /// Events since the last checkpoint.
    open: u64,
    ended: bool,
}

impl Walk {
    /// A walk that trusts these keys.
    pub fn new(keys: Vec<PublicKey>) -> Self {
        Self { keys, frontier: None, seen: Seen::default(), open: 0, ended: false }
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// The first flaw of the log; the walk is over then.
    pub fn step(&mut self, line: &Line) -> Result<(), Flaw> {
        if self.ended {
            return Err(Flaw::Malformed("there is something after the end".to_owned()));
        }
        let position = self.seen.position;
        match (line, &mut self.frontier) {
            (Line::Begin { format, size, peaks, checkpoint }, None) => {
                self.frontier = Some(begin(format, *size, peaks, checkpoint.as_ref(), &self.keys)?);
            }
            (Line::Event { event, chained, leaf }, Some(frontier)) => {
                let (position, event_id) = (event.position, event.event_id.clone());
                if *chained != event_id {
                    return Err(Flaw::Moved { position, event_id, expected: chained.clone() });
                }
                let leaf = hash(leaf)?;
                if event.leaf() != leaf {
                    return Err(Flaw::Changed { position, event_id });
                }
                frontier.push(leaf, |_, _| {});
                self.seen.position = position;
                self.seen.events += 1;
                self.open += 1;
            }
            (Line::Removed { position, event_id }, Some(_)) => {
                return Err(Flaw::Removed { position: *position, event_id: event_id.clone() });
            }
            (Line::Inserted { position, event_id }, Some(_)) => {
                return Err(Flaw::Inserted { position: *position, event_id: event_id.clone() });
            }
            (Line::Gap {}, Some(frontier)) => return Err(Flaw::Gap { size: frontier.size(), position }),
            (Line::Checkpoint(checkpoint), Some(frontier)) => {
                let size = frontier.size();
                if checkpoint.size != size || checkpoint.root()? != frontier.root() {
                    return Err(Flaw::Root { size, position });
                }
                checkpoint.verify(&self.keys)?;
                self.seen.checkpoints += 1;
                self.seen.last = Some(checkpoint.clone());
                self.open = 0;
            }
            (Line::End { size }, Some(frontier)) => {
                // Events under no signature could be anything.
                if *size != frontier.size() || self.open > 0 {
                    return Err(Flaw::Gap { size: frontier.size(), position });
                }
                self.ended = true;
            }
            (_, None) => return Err(Flaw::Malformed("it does not begin with its beginning".to_owned())),
            (Line::Begin { .. }, Some(_)) => return Err(Flaw::Malformed("it begins twice".to_owned())),
        }
        Ok(())
    }

    /// Ends the walk.
    ///
    /// # Errors
    /// [`Flaw::Malformed`] when the log has no end: it was cut off.
    pub fn end(self) -> Result<Seen, Flaw> {
        if self.ended { Ok(self.seen) } else { Err(Flaw::Malformed("it was cut off: its end is missing".to_owned())) }
    }
}

fn begin(
    format: &str,
    size: u64,
    peaks: &[String],
    checkpoint: Option<&Checkpoint>,
    keys: &[PublicKey],
) -> Result<Frontier, Flaw> {
    if format != FORMAT {
        return Err(Flaw::Malformed(format!("the format is not {FORMAT}")));
    }
    let peaks = peaks.iter().map(|peak| hash(peak)).collect::<Result<Vec<_>, _>>()?;
    let frontier = Frontier::new(size, peaks).ok_or_else(|| Flaw::Malformed("the peaks don't fit".to_owned()))?;
    match checkpoint {
        None if size == 0 => Ok(frontier),
        Some(checkpoint) if checkpoint.size == size && checkpoint.root()? == frontier.root() => {
            checkpoint.verify(keys)?;
            Ok(frontier)
        }
        _ => Err(Flaw::Root { size, position: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::Signing, event::tests::event, proof::Proof, tree};

    fn key() -> Signing {
        Signing::new(&[7; 32])
    }

    /// Ten events with a checkpoint after every third and at the end.
    fn lines() -> Vec<Line> {
        let mut frontier = Frontier::default();
        let mut lines = vec![Line::Begin { format: FORMAT.into(), size: 0, peaks: vec![], checkpoint: None }];
        for n in 1..=10 {
            let event = event(n);
            frontier.push(event.leaf(), |_, _| {});
            lines.push(Line::Event { chained: event.event_id.clone(), leaf: hex::encode(event.leaf()), event });
            if n % 3 == 0 || n == 10 {
                let checkpoint = key().sign(frontier.size(), &frontier.root(), "t".into());
                lines.push(Line::Checkpoint(checkpoint));
            }
        }
        lines.push(Line::End { size: 10 });
        lines
    }

    fn walk(lines: &[Line]) -> Result<Seen, Flaw> {
        let mut walk = Walk::new(vec![key().public()]);
        for line in lines {
            // As it comes out of a file.
            walk.step(&serde_json::from_str(&serde_json::to_string(line).unwrap()).unwrap())?;
        }
        walk.end()
    }

    #[test]
    fn an_untouched_log_is_walked_to_its_end() {
        let seen = walk(&lines()).unwrap();
        assert_eq!((seen.events, seen.checkpoints, seen.position), (10, 4, 10));
        assert_eq!(seen.last.unwrap().size, 10);
    }

    #[test]
    fn the_first_flaw_is_named() {
        let changed = |change: fn(&mut Vec<Line>)| {
            let mut lines = lines();
            change(&mut lines);
            walk(&lines).unwrap_err()
        };
        let event_of = |position: i64| event(position).event_id;
        let flaw = changed(|lines| {
            let Line::Event { event, .. } = &mut lines[5] else { panic!("an event") };
            event.payload.push(' ');
        });
        assert_eq!(flaw, Flaw::Changed { position: 4, event_id: event_of(4) });
        // Somebody who changes the leaf, too, has no key to sign with.
        let flaw = changed(|lines| {
            let Line::Event { event, leaf, .. } = &mut lines[5] else { panic!("an event") };
            event.payload.push(' ');
            *leaf = hex::encode(event.leaf());
        });
        assert_eq!(flaw, Flaw::Root { size: 6, position: 6 });
        let flaw = changed(|lines| {
            let Line::Checkpoint(checkpoint) = &mut lines[8] else { panic!("a checkpoint") };
            checkpoint.signature = "00".repeat(64);
        });
        assert_eq!(flaw, Flaw::Signature { size: 6 });
        assert_eq!(changed(|lines| drop(lines.remove(5))), Flaw::Root { size: 5, position: 6 });
        assert_eq!(changed(|lines| lines.swap(5, 6)), Flaw::Root { size: 6, position: 6 });
        assert!(matches!(changed(|lines| lines.truncate(9)), Flaw::Malformed(_)));
        // Without the last checkpoint nothing vouches for the last event.
        assert_eq!(changed(|lines| drop(lines.remove(14))), Flaw::Gap { size: 10, position: 10 });
        assert!(matches!(changed(|lines| drop(lines.remove(0))), Flaw::Malformed(_)));
    }

    #[test]
    fn a_proof_holds_for_its_event_alone() {
        let leaves: Vec<_> = (1..=10).map(|n| event(n).leaf()).collect();
        let mut frontier = Frontier::default();
        leaves.iter().for_each(|leaf| frontier.push(*leaf, |_, _| {}));
        let checkpoint = key().sign(10, &frontier.root(), "t".into());
        let path = tree::steps(3, 10).into_iter().map(|step| {
            let roots: Vec<_> = step
                .iter()
                .map(|subtree| {
                    let begin = usize::try_from(subtree.index << subtree.level).unwrap();
                    tree::complete(leaves[begin..begin + (1 << subtree.level)].to_vec())
                })
                .collect();
            hex::encode(tree::step_hash(&roots))
        });
        let format = crate::proof::FORMAT.into();
        let proof = Proof { format, event: event(4), index: 3, path: path.collect(), checkpoint };
        let keys = [key().public()];
        assert_eq!(proof.verify(&keys), Ok(()));
        let wrong = Flaw::Changed { position: 5, event_id: event(5).event_id };
        assert_eq!(Proof { event: event(5), ..proof.clone() }.verify(&keys), Err(wrong));
        assert!(Proof { index: 4, ..proof.clone() }.verify(&keys).is_err());
        assert!(proof.verify(&[Signing::new(&[8; 32]).public()]).is_err());
    }
}

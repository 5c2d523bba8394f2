//! Where a client wants to go on: `Last-Event-ID` of one answer, or of several.

use std::collections::HashMap;

use axum::http::HeaderMap;
use polyphony_domain::ids::AnswerId;

use super::position::Position;
use crate::error::ApiError;

/// The last events that a client has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// Of the only answer of its stream.
    one: Option<Position>,
    /// By answer.
    lanes: HashMap<AnswerId, Position>,
}

fn parse(text: &str) -> Option<Resume> {
    if !text.contains(':') {
        return Some(Resume { one: Some(text.parse().ok()?), lanes: HashMap::new() });
    }
    let lane = |part: &str| {
        let (answer, at) = part.trim().split_once(':')?;
        Some((answer.parse().ok()?, at.parse().ok()?))
    };
    Some(Resume { one: None, lanes: text.split(',').map(lane).collect::<Option<_>>()? })
}

impl Resume {
    /// Reads `Last-Event-ID`: `<attempt>.<n>`, or a comma list of `<message_id>:<attempt>.<n>`.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` for anything else.
    pub fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(id) = headers.get("last-event-id") else { return Ok(Self::default()) };
        let refused =
            || ApiError::invalid("Last-Event-ID", "must look like 1.57, with several answers <message_id>:1.57");
        id.to_str().ok().and_then(parse).ok_or_else(refused)
    }

    /// Where to go on with an answer; `None` from its beginning.
    pub fn of(&self, answer: AnswerId) -> Option<Position> {
        self.lanes.get(&answer).copied().or(self.one)
    }

    /// Refuses a position that doesn't say which of several answers it belongs to.
    ///
    /// # Errors
    /// `VALIDATION_FAILED`.
    pub fn check_lanes(&self) -> Result<(), ApiError> {
        match self.one {
            Some(_) => Err(ApiError::invalid("Last-Event-ID", "must name the answers of a stream that has several")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_goes_on_by_its_number_and_several_by_their_ids() {
        let (a, b) = (AnswerId::new(uuid::Uuid::from_u128(1)), AnswerId::new(uuid::Uuid::from_u128(2)));
        assert_eq!(parse("1.57").unwrap().of(a), Some(Position { attempt: 1, n: 57 }));
        let both = parse(&format!("{a}:1.2, {b}:3.4")).unwrap();
        assert_eq!(
            (both.of(a), both.of(b)),
            (Some(Position { attempt: 1, n: 2 }), Some(Position { attempt: 3, n: 4 }))
        );
        assert_eq!(parse(&format!("{a}:1.2")).unwrap().of(b), None);
        for wrong in ["", "1", "x:1.2", &format!("{a}:"), &format!("{a}:1.2,"), &format!("{a}:1.2,1.3")] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

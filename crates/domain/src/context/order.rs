//! Ordering a summary: which model makes it, and the hidden turn that it is.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{MOST_OUTPUT, Range};
use crate::{
    catalog::Model,
    ids::{KeyId, SessionId, TurnId},
    turn::{AnswerRequest, Params, Prompt, TurnPurpose, UsageRecord},
};

/// Smallest window, in tokens, of a model that summarises instead of the conversation's own.
const LEAST_WINDOW: u32 = 64_000;

/// The model that summarises what was said with `own`: the cheapest of the same provider that has room for it. The
/// conversation thus goes to nobody who hasn't seen it already.
pub fn summariser<'a>(models: &'a [Model], own: &'a Model, at: DateTime<Utc>) -> &'a Model {
    let sample = UsageRecord { input: 10_000, output: 1_000, ..UsageRecord::default() };
    let cost = |model: &Model| model.bill(&sample, at).cost;
    let is_priced = |model: &Model| model.price(at).is_some();
    let fits = |model: &&Model| {
        model.provider == own.provider
            && is_priced(model)
            && !model.is_retired(at)
            && model.context_length >= LEAST_WINDOW.min(own.context_length)
    };
    // Where prices aren't known, nothing is known to be cheaper.
    let cheapest = models.iter().filter(fits).min_by_key(|model| cost(model));
    cheapest.filter(|cheapest| is_priced(own) && cost(cheapest) < cost(own)).unwrap_or(own)
}

impl Range {
    /// The one turn that summarises the range by itself, the same wherever it is thought of: so a range is summarised
    /// once. It has the time of the answer that the range ends with.
    pub fn turn_id(&self) -> TurnId {
        // FNV-1a, 128 bits: the id must only be the same for the same range, and differ for others.
        let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        let ids = [self.first.as_uuid(), self.last.as_uuid(), self.parent.as_uuid()];
        for byte in ids.iter().flat_map(|id| id.as_bytes()) {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
        let time = self.parent.as_uuid().as_u128() & (0xffff_ffff_ffff_u128 << 80);
        let random = hash & !(0xffff_ffff_ffff_u128 << 80) & !(0xf << 76) & !(0x3 << 62);
        TurnId::new(Uuid::from_u128(time | 0x7 << 76 | 0x2 << 62 | random))
    }

    /// The hidden turn that has a model summarise the range.
    pub fn order(
        &self,
        session_id: SessionId,
        by_request: bool,
        model: &Model,
        key_id: Option<KeyId>,
    ) -> (Prompt, AnswerRequest) {
        let prompt = Prompt {
            session_id,
            parent: Some(self.parent),
            purpose: TurnPurpose::Summary { first: self.first, last: self.last, by_request },
            ..Prompt::default()
        };
        let max_tokens = Some(MOST_OUTPUT.min(model.max_output).min(model.context_length / 4));
        let params = Params { max_tokens, ..Params::default() };
        (prompt, AnswerRequest { model: model.reference(), params, key_id, ..AnswerRequest::default() })
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::{catalog::Catalog, ids::AnswerId};

    #[test]
    fn the_cheapest_of_the_same_provider_summarises() {
        let catalog = Catalog::new(|_| true, [Model::declared("lab", "own")]).unwrap();
        let at = NaiveDate::from_ymd_opt(2026, 11, 24).unwrap().and_time(chrono::NaiveTime::MIN).and_utc();
        let by = |name: &str| summariser(catalog.models(), catalog.resolve(name).unwrap(), at);
        assert_eq!(by("gpt-5.2").provider, "openai");
        assert_ne!(by("gpt-5.2").name, "gpt-5.2");
        assert_eq!(by("lab/own").name, "own");
        assert_eq!(by("demo/demo").name, "demo");
    }

    #[test]
    fn a_range_has_one_turn_with_the_time_of_its_end() {
        let id = |n: u128| Uuid::from_u128(0x0190_0000_0000_u128 << 80 | 0x7 << 76 | n);
        let range = Range { first: TurnId::new(id(1)), last: TurnId::new(id(2)), parent: AnswerId::new(id(3)) };
        assert_eq!(range.turn_id(), range.turn_id());
        assert_ne!(range.turn_id(), Range { parent: AnswerId::new(id(4)), ..range }.turn_id());
        let turn = range.turn_id().as_uuid();
        assert_eq!((turn.get_version_num(), turn.as_u128() >> 80), (7, 0x0190_0000_0000));
    }
}

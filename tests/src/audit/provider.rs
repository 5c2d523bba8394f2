//! What the provider was asked and has billed, against the log: I5, I6.

use std::collections::BTreeSet;

use polyphony_testkit::emulator::{Call, Ended};

use super::{Ledger, Verdict};
use crate::history::Ask;

/// Calls that one attempt may make while nothing was shown.
const TRIES: usize = 3;

/// I5, without the analytics.
pub(super) fn money(ledger: &Ledger, calls: &[Call]) -> Verdict {
    let mut verdict = Verdict::of("I5");
    let (mut logged, mut billed) = ((0, 0), (0, 0));
    for (id, answer) in ledger.answers.iter().filter(|(_, answer)| !answer.marker.is_empty()) {
        for record in &answer.records {
            let usage = &record.usage;
            if usage.estimated {
                continue;
            }
            let said: Vec<_> = calls
                .iter()
                .filter(|call| call.marker == answer.marker && call.text.starts_with(record.text.as_str()))
                .filter_map(|call| call.billed)
                .collect();
            // An attempt that reached nobody has used nothing.
            let nothing = usage.input == 0 && usage.output == 0;
            let found = said.iter().find(|billed| {
                (billed.input, billed.output, billed.cached) == (usage.input, usage.output, usage.cached_input)
            });
            verdict.expect(found.is_some() || nothing, || {
                format!("{id} is billed {}+{}; the provider has billed {said:?}", usage.input, usage.output)
            });
            logged = (logged.0 + usage.input, logged.1 + usage.output);
            if let Some(found) = found {
                billed = (billed.0 + found.input, billed.1 + found.output);
            }
        }
        // What the provider has billed for an answer that came whole is in the log, and not as an estimate.
        if answer.ends.first().is_some_and(|kind| kind == "answer_completed")
            && let Some(record) = answer.record()
        {
            let whole = calls.iter().find(|call| {
                call.marker == answer.marker
                    && call.text == record.text.as_str()
                    && call.ended.is_some_and(|(_, how)| how == Ended::Sent)
            });
            // A report of nothing at all is none: the product counts for itself then.
            let reported = whole.and_then(|call| call.billed).is_some_and(|billed| billed.input + billed.output > 0);
            verdict.expect(!(record.usage.estimated && reported), || format!("{id}: the report of usage was lost"));
        }
    }
    verdict.expect(logged == billed, || format!("the log has {logged:?} tokens, the provider billed {billed:?}"));
    verdict
}

/// I6.
pub(super) fn calls(ledger: &Ledger, asks: &[Ask], calls: &[Call]) -> Verdict {
    let mut verdict = Verdict::of("I6");
    for (id, answer) in ledger.answers.iter().filter(|(_, answer)| !answer.marker.is_empty()) {
        let (attempts, made) =
            (answer.attempts.len(), calls.iter().filter(|call| call.marker == answer.marker).count());
        verdict.expect(made <= attempts * TRIES, || format!("{id}: {made} calls in {attempts} attempts"));
        for record in &answer.records {
            let told = speakers(record.text.as_str(), &answer.marker);
            verdict.expect(told.len() <= 1, || format!("{id}: one text by the calls {told:?}"));
        }
    }
    for ask in asks {
        let told = speakers(&ask.text, &ask.marker);
        verdict.expect(told.len() <= 1, || format!("{} was shown the calls {told:?} as one text", ask.marker));
    }
    verdict
}

/// Numbers of the calls whose pieces are in a text: each piece begins with marker and number.
fn speakers(text: &str, marker: &str) -> BTreeSet<u32> {
    let pieces = text.match_indices(marker).filter_map(|(start, _)| {
        let number = text[start + marker.len()..].strip_prefix('.')?;
        number.split('.').next()?.parse().ok()
    });
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_behind_a_text_are_told_apart() {
        let text = "wm-0123abcd-1.1.0 a\nwm-0123abcd-1.2.0 b\nwm-0123abcd-11.7.0 c";
        assert_eq!(speakers(text, "wm-0123abcd-1"), BTreeSet::from([1, 2]));
        assert!(speakers(text, "wm-ffffffff-1").is_empty());
    }
}

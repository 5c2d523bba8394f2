//! What the clients saw, against the log: I1, I2, I4, I9.

use std::collections::HashMap;

use polyphony_testkit::emulator::{Call, markers};

use super::{Ledger, Verdict};
use crate::{
    Cluster,
    history::{Ask, Outcome},
};

/// I1.
pub(super) fn acknowledged(ledger: &Ledger, asks: &[Ask]) -> Verdict {
    let mut verdict = Verdict::of("I1");
    for ask in asks {
        let stored = ledger.prompts.get(&ask.marker).copied().unwrap_or(0);
        let ids: Vec<&String> =
            ledger.answers.iter().filter(|(_, answer)| answer.marker == ask.marker).map(|(id, _)| id).collect();
        match &ask.outcome {
            Outcome::Taken(id) => verdict.expect(stored == 1 && ids == [id], || {
                format!("{} was taken as {id}; the log has {stored} prompts and the answers {ids:?}", ask.marker)
            }),
            Outcome::Refused(status) => {
                verdict.expect(stored == 0, || format!("{} was refused with {status} and is in the log", ask.marker));
            }
            Outcome::Unknown => {
                verdict.expect(stored <= 1, || format!("{} is {stored} times in the log", ask.marker));
            }
        }
        let wrong = ask.faults.iter().find(|fault| fault.starts_with("answered") || fault.starts_with("a second"));
        verdict.expect(wrong.is_none(), || format!("{}: {}", ask.marker, wrong.map_or("", String::as_str)));
    }
    verdict
}

/// I2.
pub(super) async fn ended(cluster: &Cluster, ledger: &Ledger) -> Verdict {
    let mut verdict = Verdict::of("I2");
    for (id, answer) in &ledger.answers {
        let once = answer.requests == 1 && answer.ends.len() == 1 && answer.after_end.is_empty();
        verdict.expect(once, || {
            let (requests, ends, after) = (answer.requests, &answer.ends, &answer.after_end);
            format!("{id}: {requests} requests, ends {ends:?}, after the end {after:?}")
        });
        let counted = answer.attempts.iter().zip(1..).all(|(attempt, number)| *attempt == number);
        verdict.expect(counted, || format!("{id}: attempts {:?}", answer.attempts));
    }
    let open = cluster.count("SELECT count(*) FROM ops.runs").await;
    verdict.expect(open == 0, || format!("{open} answers are still in flight"));
    verdict
}

/// I4.
pub(super) fn text(ledger: &Ledger, asks: &[Ask], calls: &[Call]) -> Verdict {
    let mut verdict = Verdict::of("I4");
    let mut by_marker: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in calls {
        by_marker.entry(&call.marker).or_default().push(call);
    }
    for (id, answer) in ledger.answers.iter().filter(|(_, answer)| !answer.marker.is_empty()) {
        let Some(record) = answer.record() else { continue };
        let (stored, kind) = (record.text.as_str(), answer.ends.first().map_or("", String::as_str));
        let calls = by_marker.get(answer.marker.as_str()).map_or(&[][..], Vec::as_slice);
        let sent = match kind {
            "answer_completed" => calls.iter().any(|call| call.text == stored),
            _ => stored.is_empty() || calls.iter().any(|call| call.text.starts_with(stored)),
        };
        verdict.expect(sent, || format!("{id} ({kind}) holds {} bytes that no call has sent", stored.len()));
    }
    for ask in asks {
        let faults: Vec<_> = ask.faults.iter().filter(|fault| !fault.starts_with("answered")).collect();
        verdict.expect(faults.is_empty(), || format!("{}: {}", ask.marker, faults[0]));
        let Outcome::Taken(id) = &ask.outcome else { continue };
        let Some(record) = ledger.answers.get(id).and_then(|answer| answer.record()) else { continue };
        let stored = record.text.as_str();
        if ask.end.is_some() {
            verdict.expect(ask.text == stored && ask.ends == 1, || {
                let same = ask.text.bytes().zip(stored.bytes()).take_while(|(a, b)| a == b).count();
                let (seen, kept) = (ask.text.len(), stored.len());
                format!("{}: {seen} bytes seen, {kept} stored, the same up to {same}; {} ends", ask.marker, ask.ends)
            });
        }
    }
    verdict
}

/// I9.
pub(super) fn apart(asks: &[Ask]) -> Verdict {
    let mut verdict = Verdict::of("I9");
    for ask in asks {
        let person = ask.marker.get(3..11).unwrap_or_default();
        let foreign = markers(&String::from_utf8_lossy(&ask.bytes)).into_iter().find(|found| found.person != person);
        verdict.expect(foreign.is_none(), || {
            format!("{} has received {}", ask.marker, foreign.map(|found| found.text).unwrap_or_default())
        });
    }
    verdict
}

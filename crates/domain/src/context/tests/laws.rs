//! The planner's laws.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

/// Any conversation: exchanges of one to four pieces, some with tools.
fn any_pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = (0_u64..500, 0_u64..=100, prop::bool::weighted(0.1), prop::bool::weighted(0.3));
    prop::collection::vec(prop::collection::vec(piece, 1..5), 1..12).prop_map(|exchanges| {
        let mut pieces = Vec::new();
        for (exchange, of) in exchanges.into_iter().enumerate() {
            for (at, (tokens, share, protected, answers)) in of.into_iter().enumerate() {
                let tool_output = tokens * share / 100;
                pieces.push(Piece { tokens, tool_output, protected, exchange, answers_previous: answers && at > 0 });
            }
        }
        if let Some(last) = pieces.last_mut() {
            last.protected = true;
        }
        // What the thread does for pairs.
        for at in (1..pieces.len()).rev() {
            if pieces[at].answers_previous && pieces[at].protected {
                pieces[at - 1].protected = true;
            }
        }
        for at in 1..pieces.len() {
            if pieces[at].answers_previous && pieces[at - 1].protected {
                pieces[at].protected = true;
            }
        }
        pieces
    })
}

fn any_covers(pieces: &[Piece], picks: &[(usize, usize, u64, bool)]) -> Vec<Cover> {
    let starts: Vec<usize> =
        (0..pieces.len()).filter(|at| *at == 0 || pieces[*at].exchange != pieces[at - 1].exchange).collect();
    let mut borders = starts.clone();
    borders.push(pieces.len());
    let cover = |(a, b, tokens, by_request): &(usize, usize, u64, bool)| {
        let (a, b) = (a % borders.len(), b % borders.len());
        let (first, end) = (borders[a.min(b)], borders[a.max(b)]);
        (first < end).then_some(Cover { first, end, tokens: *tokens, by_request: *by_request })
    };
    picks.iter().filter_map(cover).collect()
}

const fn rank(fate: Fate) -> u8 {
    match fate {
        Fate::Kept => 3,
        Fate::WithoutToolOutput => 2,
        Fate::Marked | Fate::Summarised(_) => 1,
        Fate::Dropped => 0,
    }
}

proptest! {
    #[test]
    fn the_planner_keeps_its_laws(
        pieces in any_pieces(),
        picks in prop::collection::vec((0_usize..20, 0_usize..20, 1_u64..400, any::<bool>()), 0..4),
        fixed in 0_u64..200,
        budget in 0_u64..6_000,
        more in 0_u64..3_000,
    ) {
        let covers = any_covers(&pieces, &picks);
        let planned = plan(&pieces, &covers, fixed, budget);
        let must: u64 = fixed + pieces.iter().filter(|piece| piece.protected).map(|piece| piece.tokens).sum::<u64>();
        match &planned {
            Err(_) => {
                // Only where what must be shown and the marks around it don't fit.
                let marks = MARK_TOKENS * (pieces.len() as u64 + 1);
                prop_assert!(must + marks > budget);
            }
            Ok(plan) => {
                prop_assert!(plan.used <= budget);
                prop_assert!(must <= plan.used);
                for (piece, fate) in pieces.iter().zip(&plan.fates) {
                    prop_assert!(!piece.protected || *fate == Fate::Kept);
                }
                // Calls and results share their fate.
                let neighbours = || pieces.windows(2).zip(plan.fates.windows(2));
                for (pieces, fates) in neighbours() {
                    let gone = |fate: Fate| rank(fate) < 2;
                    if pieces[1].answers_previous {
                        prop_assert_eq!(gone(fates[1]), gone(fates[0]));
                    }
                }
                // An exchange is shown from its beginning, or not at all.
                for (pieces, fates) in neighbours() {
                    if pieces[1].exchange == pieces[0].exchange {
                        let is_out = |fate: Fate| matches!(fate, Fate::Dropped | Fate::Summarised(_));
                        prop_assert_eq!(is_out(fates[1]), is_out(fates[0]));
                    }
                }
                // What was planned needs no further plan.
                let left: Vec<Piece> = pieces.iter().zip(&plan.fates).filter_map(|(piece, fate)| match fate {
                    Fate::Kept => Some(piece.clone()),
                    Fate::WithoutToolOutput => Some(Piece { tokens: piece.tokens - piece.tool_output + MARK_TOKENS, tool_output: 0, ..piece.clone() }),
                    Fate::Marked => Some(Piece { tokens: MARK_TOKENS, tool_output: 0, ..piece.clone() }),
                    _ => None,
                }).collect();
                let apart = plan.used - fixed - left.iter().map(|piece| piece.tokens).sum::<u64>();
                let again = super::plan(&left, &[], fixed + apart, budget).unwrap();
                prop_assert!(again.fates.iter().all(|fate| *fate == Fate::Kept));
                prop_assert_eq!(again.used, plan.used);
                // More room never shows less.
                let wider = super::plan(&pieces, &covers, fixed, budget + more).unwrap();
                for (narrow, wide) in plan.fates.iter().zip(&wider.fates) {
                    prop_assert!(rank(*wide) >= rank(*narrow));
                }
            }
        }
    }

    #[test]
    fn what_is_shown_keeps_order_and_takes_turns(
        sizes in prop::collection::vec((1_usize..60, 1_usize..60), 1..15),
        pinned in prop::collection::vec(0_usize..30, 0..3),
        budget in 100_u64..2_000,
    ) {
        let mut talk = Talk::default();
        let mut parent = None;
        for (prompt, answer) in &sizes {
            parent = Some(talk.say(parent, &"p".repeat(*prompt), &"a".repeat(*answer)));
        }
        let ids: Vec<Uuid> = Thread::before(&talk.history(), parent).message_ids().collect();
        talk.session.pinned.extend(pinned.iter().filter_map(|at| ids.get(*at)));
        let last = talk.say(parent, "last", "");
        let thread = Thread::to(&talk.history(), talk.turn_of(last));
        if let Ok(plan) = plan(&pieces(&thread), &covers(&thread), 0, budget) {
            let conversation = thread.shown(&plan);
            for pair in conversation.messages.windows(2) {
                prop_assert_ne!(pair[0].role, pair[1].role);
            }
            prop_assert_eq!(conversation.messages.first().map(|message| message.role), Some(Role::User));
            let shown: Vec<Uuid> = conversation.messages.iter().filter_map(|message| message.message_id).collect();
            let order: Vec<Uuid> = thread.message_ids().filter(|id| shown.contains(id)).collect();
            prop_assert_eq!(&shown, &order);
            for id in &talk.session.pinned {
                prop_assert!(shown.contains(id));
            }
        }
    }
}

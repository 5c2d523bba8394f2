//! Two people, several keys, and time that doesn't pass by itself.

use uuid::Uuid;

use super::*;

fn candidate(key: u128, priority: i64) -> Candidate {
    let slot = Slot { provider: "lab".into(), key: Some((KeyId::new(Uuid::from_u128(key)), 1)) };
    Candidate { slot, priority }
}

fn error(kind: ErrorKind, retry_after: Option<u64>) -> ProviderError {
    ProviderError { retry_after: retry_after.map(Duration::from_secs), ..ProviderError::of(kind) }
}

fn taken(board: &Arc<Switchboard>, candidates: &[Candidate], now: Instant) -> usize {
    board.take(candidates, now).unwrap().unwrap().0
}

#[test]
fn the_load_is_spread_over_keys_of_one_priority() {
    let (board, now) = (Arc::new(Switchboard::default()), Instant::now());
    let keys = [candidate(1, 0), candidate(2, 0), candidate(3, 1)];
    let calls: Vec<_> = (0..4).map(|_| board.take(&keys, now).unwrap().unwrap()).collect();
    assert_eq!(calls.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 0, 1]);
    // The first ends: it is the least loaded now.
    let mut calls = calls.into_iter();
    drop(calls.next());
    assert_eq!(taken(&board, &keys, now), 0);
    drop(calls);
    // Nothing in flight: the least used.
    assert_eq!(taken(&board, &keys, now), 1);
    assert!(board.take(&[], now).is_none());
}

#[test]
fn a_limited_key_rests_as_long_as_its_provider_says() {
    let (board, now) = (Arc::new(Switchboard::default()), Instant::now());
    let keys = [candidate(1, 0), candidate(2, 5)];
    board.learn(&keys[0].slot, Err(&error(ErrorKind::RateLimited, Some(30))), now);
    assert_eq!(taken(&board, &keys, now), 1);
    let blocked = board.take(&keys[..1], now).unwrap().err().unwrap();
    assert_eq!(blocked, Blocked { wait: Duration::from_secs(30), kind: ErrorKind::RateLimited });
    assert!(!board.has_free(&keys[..1], now) && board.has_free(&keys, now));
    assert_eq!(taken(&board, &keys, now + Duration::from_secs(30)), 0);
    // Without a word it's a second, then two …
    for seconds in [1, 2, 4, 8] {
        let slot = &candidate(7, 0);
        board.learn(&slot.slot, Err(&error(ErrorKind::RateLimited, None)), now);
        let blocked = board.take(std::slice::from_ref(slot), now).unwrap().err().unwrap();
        assert_eq!(blocked.wait, Duration::from_secs(seconds));
    }
}

#[test]
fn a_key_without_balance_comes_last_but_is_not_given_up() {
    let (board, now) = (Arc::new(Switchboard::default()), Instant::now());
    let keys = [candidate(1, 0), candidate(2, 5)];
    board.learn(&keys[0].slot, Err(&error(ErrorKind::QuotaExceeded, None)), now);
    assert_eq!(taken(&board, &keys, now), 1);
    assert_eq!(taken(&board, &keys[..1], now), 0);
    assert_eq!(taken(&board, &keys, now + DEMOTED), 0);
}

#[test]
fn a_key_whose_allowance_is_used_up_gives_way_before_it_is_refused() {
    let (board, now) = (Arc::new(Switchboard::default()), Instant::now());
    let keys = [candidate(1, 0), candidate(2, 5)];
    let left = |remaining| Allowance { remaining, limit: Some(60), reset: Some(Duration::from_secs(30)) };
    let limits = |remaining| Limits { requests: Some(left(9)), tokens: Some(left(remaining)) };
    board.heed(&keys[0].slot, limits(1), now);
    assert_eq!(taken(&board, &keys, now), 0);
    board.heed(&keys[0].slot, limits(0), now);
    // The call itself went well.
    board.learn(&keys[0].slot, Ok(()), now);
    assert_eq!(taken(&board, &keys, now), 1);
    // Alone it's tried all the same.
    assert_eq!(taken(&board, &keys[..1], now), 0);
    assert_eq!(taken(&board, &keys, now + Duration::from_secs(30)), 0);
}

#[test]
fn a_breaker_belongs_to_one_key_and_bad_keys_do_not_open_it() {
    let (board, now) = (Arc::new(Switchboard::default()), Instant::now());
    let (mine, yours) = ([candidate(1, 0)], [candidate(2, 0)]);
    for _ in 0..50 {
        for kind in [ErrorKind::InvalidKey, ErrorKind::BadRequest, ErrorKind::ContextTooLong, ErrorKind::Protocol] {
            board.learn(&mine[0].slot, Err(&error(kind, None)), now);
        }
    }
    assert_eq!(taken(&board, &mine, now), 0);
    for _ in 0..5 {
        board.learn(&mine[0].slot, Err(&error(ErrorKind::Timeout, None)), now);
    }
    assert_eq!(board.take(&mine, now).unwrap().err().unwrap().kind, ErrorKind::Overloaded);
    assert_eq!(taken(&board, &yours, now), 0);
    // A rotated key is another one.
    let rotated = Slot { key: mine[0].slot.key.map(|(key, _)| (key, 2)), ..mine[0].slot.clone() };
    assert_eq!(taken(&board, &[Candidate { slot: rotated, priority: 0 }], now), 0);
    // After the pause one call tries, and a second one has to wait for it.
    let later = now + Duration::from_secs(10);
    let probe = board.take(&mine, later).unwrap().unwrap();
    assert!(board.take(&mine, later).unwrap().is_err());
    drop(probe);
    assert_eq!(taken(&board, &mine, later), 0);
}

#[test]
fn what_is_remembered_is_bounded() {
    let (board, now) = (Arc::new(Switchboard::default()), Instant::now());
    board.learn(&candidate(1, 0).slot, Err(&error(ErrorKind::RateLimited, Some(60))), now);
    for key in 2..10_000 {
        drop(board.take(&[candidate(key, 0)], now));
    }
    let slots = board.slots();
    assert!(slots.len() <= MANY + 1 && slots.contains_key(&candidate(1, 0).slot));
}

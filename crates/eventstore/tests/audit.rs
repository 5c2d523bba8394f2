//! The audit chain on a real Postgres: made by a leader, checked, proven, and broken by somebody who owns the database.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{sync::Arc, time::Duration};

use polyphony_audit_verify::{
    Flaw,
    export::{Line, Seen, Walk},
};
use polyphony_domain::{
    ids::{AccountId, SessionId},
    record::Cursor,
    session::{Session, SessionCommand},
};
use polyphony_eventstore::{
    CommandContext, Root, Store, StoreError,
    audit::{AuditKeys, AuditRange, Chain, ProofError},
    erasure::Due,
};
use polyphony_platform::{
    config::DatabaseConfig,
    secrets::{KekRing, Secrets},
};
use polyphony_testkit::{TestDatabase, database};
use uuid::Uuid;

struct Log {
    database: TestDatabase,
    store: Store,
    keys: Arc<AuditKeys>,
}

impl Log {
    async fn new() -> Self {
        let database = database().await;
        let config = DatabaseConfig {
            url: database.url.clone(),
            max_connections: 8,
            acquire_timeout_ms: 10_000,
            statement_timeout_ms: 30_000,
        };
        let store = Store::connect(&config, KekRing::generate()).await.unwrap();
        let secrets = Secrets::parse(&Secrets::generate_toml()).unwrap();
        Self { database, store, keys: Arc::new(AuditKeys::new(&secrets.audit)) }
    }

    /// Opens a session and renames it; `events` in all.
    async fn write(&self, events: usize) -> Due {
        let (owner_id, session_id) = (AccountId::new(Uuid::now_v7()), SessionId::new(Uuid::now_v7()));
        let context = || CommandContext::internal(owner_id, "user", Uuid::now_v7());
        let id = session_id.as_uuid();
        let open = SessionCommand::Open { owner_id, title: Some("a".into()), model: None, system_prompt: None };
        self.store.command::<Session>(context(), Root::New(id)).run(id, open).await.unwrap();
        for n in 1..events {
            let title = Some(format!("title {n}"));
            let rename = SessionCommand::Change { title, system_prompt: None, metadata: None };
            self.store.command::<Session>(context(), Root::Existing(id)).run(id, rename).await.unwrap();
        }
        Due { session_id, owner_id }
    }

    /// Everything is below the horizon, which transactions of other tests hold back, too.
    async fn settled(&self) {
        let newest = "SELECT max(position) FROM events";
        let newest: i64 = sqlx::query_scalar(newest).fetch_one(&self.database.pool).await.unwrap();
        let wait = async {
            while self.store.head().await.unwrap().position < newest {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
    }

    /// Chains all that there is, as the relay does, in batches of this size.
    async fn chain(&self, batch: u32) {
        self.settled().await;
        let (mut leadership, mut at) = self.lead().await;
        let mut chain = Chain::take_up(&self.store, &mut leadership, at, self.keys.clone()).await.unwrap().unwrap();
        loop {
            let events = self.store.read_logged_after(at, batch).await.unwrap();
            let Some(last) = events.last() else { break };
            let to = Cursor { xid: last.xid, position: last.position };
            assert!(chain.advance(&mut leadership, at, to, &events).await.unwrap());
            at = to;
        }
        leadership.resign().await.unwrap();
    }

    async fn lead(&self) -> (polyphony_eventstore::relay_state::Leadership, Cursor) {
        // The server ends a session, and its lock with it, a moment after the client has.
        loop {
            if let Some(leading) = self.store.lead_relay().await.unwrap() {
                return leading;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn verify_range(&self, range: AuditRange) -> Result<Seen, Flaw> {
        let mut walk = Walk::new(self.keys.public());
        self.store.audit_lines(range, |line| Step::of(walk.step(&line))).await.map_err(Step::flaw)?;
        walk.end()
    }

    async fn verify(&self) -> Result<Seen, Flaw> {
        self.verify_range(AuditRange::default()).await
    }

    /// Changes what nobody should be able to change.
    async fn tamper(&self, sql: &str) {
        let mut connection = self.database.pool.acquire().await.unwrap();
        for sql in ["SET session_replication_role = replica", sql, "SET session_replication_role = DEFAULT"] {
            sqlx::query(sql).execute(&mut *connection).await.unwrap();
        }
    }

    async fn event(&self, nth: i64) -> (i64, String) {
        let sql = "SELECT position, event_id::text FROM events ORDER BY xid, position OFFSET $1 LIMIT 1";
        sqlx::query_as(sql).bind(nth).fetch_one(&self.database.pool).await.unwrap()
    }
}

/// What ends a walk.
#[derive(Debug)]
enum Step {
    Flaw(Flaw),
    Store(StoreError),
}

impl Step {
    fn of(step: Result<(), Flaw>) -> Result<(), Self> {
        step.map_err(Self::Flaw)
    }

    fn flaw(self) -> Flaw {
        match self {
            Self::Flaw(flaw) => flaw,
            Self::Store(error) => panic!("{error}"),
        }
    }
}

impl From<StoreError> for Step {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[tokio::test]
async fn an_untouched_log_verifies_from_end_to_end_and_by_parts() {
    let log = Log::new().await;
    assert_eq!(log.verify().await.unwrap().events, 0);
    log.write(30).await;
    log.chain(7).await;
    log.write(10).await;
    log.chain(512).await;
    let seen = log.verify().await.unwrap();
    assert_eq!((seen.events, seen.checkpoints), (40, 6));
    let (from, to) = (log.event(10).await.0, log.event(20).await.0);
    let seen = log.verify_range(AuditRange { from: Some(from), to: Some(to), ..AuditRange::default() }).await.unwrap();
    // Whole batches: 7 to 20.
    assert_eq!((seen.events, seen.checkpoints, seen.position), (14, 2, log.event(20).await.0));
    // Somebody else's keys are not ours.
    let strangers = Secrets::parse(&Secrets::generate_toml()).unwrap().audit;
    let mut walk = Walk::new(AuditKeys::new(&strangers).public());
    let result = log.store.audit_lines(AuditRange::default(), |line| Step::of(walk.step(&line))).await;
    assert!(matches!(result.map_err(Step::flaw), Err(Flaw::Key { size: 7, .. })));
}

#[tokio::test]
async fn a_log_that_is_older_than_its_chain_is_chained_from_its_beginning() {
    let log = Log::new().await;
    log.write(20).await;
    log.settled().await;
    let head = log.store.head().await.unwrap();
    let sql = format!("UPDATE ops.relay SET xid = '{}'::xid8, position = {}", head.xid, head.position);
    sqlx::query(&sql).execute(&log.database.pool).await.unwrap();
    assert!(matches!(log.verify().await, Err(Flaw::Gap { size: 0, .. })));
    log.chain(512).await;
    assert_eq!(log.verify().await.unwrap().events, 20);
    assert_eq!(log.store.relay_cursor().await.unwrap(), head);
}

#[tokio::test]
async fn a_leader_that_was_replaced_adds_nothing() {
    let log = Log::new().await;
    log.write(6).await;
    log.settled().await;
    let (mut old, at) = log.lead().await;
    let mut stale = Chain::take_up(&log.store, &mut old, at, log.keys.clone()).await.unwrap().unwrap();
    // Another one believes that it leads, as after a connection that was cut without anybody's noticing.
    sqlx::query("UPDATE ops.relay SET epoch = epoch + 1").execute(&log.database.pool).await.unwrap();
    let events = log.store.read_logged_after(at, 3).await.unwrap();
    let to = Cursor { xid: events[2].xid, position: events[2].position };
    assert!(!stale.advance(&mut old, at, to, &events).await.unwrap());
    assert_eq!(log.store.chain_head().await.unwrap().checkpoint, None);
    old.resign().await.unwrap();
    log.chain(4).await;
    assert_eq!(log.verify().await.unwrap().events, 6);
}

#[tokio::test]
async fn whatever_is_done_to_the_log_is_found_where_it_was_done() {
    let log = Log::new().await;
    log.write(40).await;
    log.chain(16).await;
    let (position, event_id) = log.event(21).await;
    let (next, next_id) = log.event(22).await;
    let at = format!("WHERE position = {position}");
    let broken = async |sql: &str, undo: &str| {
        log.tamper(sql).await;
        let flaw = log.verify().await.unwrap_err();
        log.tamper(undo).await;
        assert_eq!(log.verify().await.unwrap().events, 40, "{undo}");
        flaw
    };
    let changed = Flaw::Changed { position, event_id: event_id.clone() };
    for (column, value, back) in [
        ("payload", "(payload::text || ' ')::json", "rtrim(payload::text)::json"),
        ("metadata", "(' ' || metadata::text)::json", "ltrim(metadata::text)::json"),
        ("recorded_at", "recorded_at + interval '1 microsecond'", "recorded_at - interval '1 microsecond'"),
        ("event_type", "'session_deleted'", "'session_renamed'"),
        ("event_version", "'2'", "'1'"),
        ("sequence", "sequence + 1000", "sequence - 1000"),
        ("owner_id", "root_id", &format!("(SELECT owner_id FROM events WHERE position = {next})")),
    ] {
        let set = |value: &str| format!("UPDATE events SET {column} = {value} {at}");
        assert_eq!(broken(&set(value), &set(back)).await, changed, "{column}");
    }
    let forged = Uuid::now_v7();
    let flaw = broken(
        &format!("UPDATE events SET event_id = '{forged}' {at}"),
        &format!("UPDATE events SET event_id = '{event_id}' {at}"),
    )
    .await;
    let expected = event_id.clone();
    assert_eq!(flaw, Flaw::Moved { position, event_id: forged.to_string(), expected: expected.clone() });
    // Two events change their places.
    let order = "UPDATE events SET xid = CASE position WHEN :one THEN (SELECT xid FROM events WHERE position = :two) \
         ELSE (SELECT xid FROM events WHERE position = :one) END, position = :one + :two - position \
         WHERE position IN (:one, :two)";
    let order = order.replace(":one", &position.to_string()).replace(":two", &next.to_string());
    let flaw = broken(&order, &order).await;
    assert_eq!(flaw, Flaw::Moved { position, event_id: next_id, expected });
    // One is inserted, one is removed.
    let insert = "INSERT INTO events SELECT aggregate_type, aggregate_id, sequence + 500, event_type, event_version, \
         payload, metadata, :one + 1000000, xid, gen_random_uuid(), root_id, owner_id, recorded_at FROM events \
         WHERE position = :one";
    let insert = insert.replace(":one", &position.to_string());
    let flaw = broken(&insert, "DELETE FROM events WHERE position > 1000000").await;
    assert!(matches!(flaw, Flaw::Inserted { position: at, .. } if at == position + 1_000_000), "{flaw:?}");
    log.tamper(&format!("CREATE TABLE kept AS SELECT * FROM events {at}")).await;
    let flaw = broken(&format!("DELETE FROM events {at}"), "INSERT INTO events SELECT * FROM kept").await;
    assert_eq!(flaw, Flaw::Removed { position, event_id: event_id.clone() });
    // A part of the chain is removed, with its events or without; a signature is changed.
    let chain = "CREATE TABLE chained AS SELECT * FROM ops.audit_chain WHERE first = 16";
    log.tamper(chain).await;
    let delete = "DELETE FROM ops.audit_chain WHERE first = 16";
    let flaw = broken(delete, "INSERT INTO ops.audit_chain SELECT * FROM chained").await;
    assert_eq!(flaw, Flaw::Gap { size: 16, position: log.event(15).await.0 });
    let reverse =
        "UPDATE ops.audit_chain SET signature = set_byte(signature, 0, get_byte(signature, 0) # 1) WHERE first = 16";
    assert_eq!(broken(reverse, reverse).await, Flaw::Signature { size: 32 });
    let last = "CREATE TABLE tail AS SELECT * FROM ops.audit_chain WHERE first = 32";
    log.tamper(last).await;
    let flaw =
        broken("DELETE FROM ops.audit_chain WHERE first = 32", "INSERT INTO ops.audit_chain SELECT * FROM tail").await;
    assert_eq!(flaw, Flaw::Gap { size: 32, position: log.event(31).await.0 });
}

#[tokio::test]
async fn a_chain_that_was_changed_is_not_gone_on_with() {
    let log = Log::new().await;
    log.write(20).await;
    log.chain(8).await;
    // Somebody who changes an event and its leaf has no key to sign the root with.
    log.tamper("UPDATE ops.audit_chain SET entries = set_byte(entries, 63, get_byte(entries, 63) # 1) WHERE first = 0")
        .await;
    let flaw = log.verify().await.unwrap_err();
    assert!(matches!(flaw, Flaw::Changed { position, .. } if position == log.event(0).await.0), "{flaw:?}");
    let (mut leadership, at) = log.lead().await;
    let taken = Chain::take_up(&log.store, &mut leadership, at, log.keys.clone()).await;
    assert!(matches!(taken.map(|_| ()), Err(StoreError::AuditChain)));
}

#[tokio::test]
async fn an_export_is_checked_elsewhere_and_a_proof_needs_nothing_else() {
    let log = Log::new().await;
    log.write(600).await;
    log.chain(50).await;
    let mut lines = Vec::new();
    let range =
        AuditRange { from: Some(log.event(120).await.0), to: Some(log.event(180).await.0), ..AuditRange::default() };
    let keep = |line: Line| {
        lines.push(serde_json::to_string(&line).unwrap());
        Ok::<_, StoreError>(())
    };
    log.store.audit_lines(range, keep).await.unwrap();
    let check = |lines: &[String]| -> Result<Seen, Flaw> {
        let mut walk = Walk::new(log.keys.public());
        for line in lines {
            walk.step(&serde_json::from_str(line).unwrap())?;
        }
        walk.end()
    };
    assert_eq!(check(&lines).unwrap().events, 100);
    let (position, event_id) = log.event(130).await;
    let broken: Vec<String> = lines.iter().map(|line| line.replace(&event_id, &Uuid::nil().to_string())).collect();
    assert!(matches!(check(&broken), Err(Flaw::Changed { position: at, .. }) if at == position));
    // From every part of a tree that has stored nodes and more.
    for nth in [0, 1, 127, 255, 256, 300, 511, 512, 599] {
        let (_, event_id) = log.event(nth).await;
        let proof = log.store.prove(event_id.parse().unwrap()).await.unwrap();
        assert_eq!(
            (proof.index, proof.checkpoint.size, proof.verify(&log.keys.public())),
            (nth.unsigned_abs(), 600, Ok(()))
        );
        assert!(proof.path.len() <= 10);
    }
    let nodes: i64 =
        sqlx::query_scalar("SELECT count(*) FROM ops.audit_nodes").fetch_one(&log.database.pool).await.unwrap();
    assert_eq!(nodes, 2);
    let unknown = log.store.prove(Uuid::now_v7()).await;
    assert!(matches!(unknown, Err(ProofError::Unknown(_))), "{unknown:?}");
    log.write(1).await;
    let early = log.store.prove(log.event(600).await.1.parse().unwrap()).await;
    assert!(matches!(early, Err(ProofError::NotYet)), "{early:?}");
}

#[tokio::test]
async fn an_erasure_changes_no_leaf() {
    let log = Log::new().await;
    let due = log.write(5).await;
    log.chain(3).await;
    let (_, event_id) = log.event(2).await;
    let before = log.store.prove(event_id.parse().unwrap()).await.unwrap();
    let command = log.store.command::<Session>(
        CommandContext::internal(due.owner_id, "user", Uuid::now_v7()),
        Root::Existing(due.session_id.as_uuid()),
    );
    command.run(due.session_id.as_uuid(), SessionCommand::Delete(true)).await.unwrap();
    log.store.erase_session(due).await.unwrap();
    log.chain(3).await;
    let life = log.store.life_of(due.session_id.as_uuid()).await.unwrap();
    assert_eq!((life.len(), &life[0].data["title"]), (7, &serde_json::json!("[erased]")));
    assert_eq!(log.verify().await.unwrap().events, 7);
    assert_eq!(before.verify(&log.keys.public()), Ok(()));
    let after = log.store.prove(event_id.parse().unwrap()).await.unwrap();
    assert_eq!((after.event.clone(), after.verify(&log.keys.public())), (before.event, Ok(())));
}

#[tokio::test]
async fn nobody_changes_the_chain_by_mistake() {
    let log = Log::new().await;
    log.write(3).await;
    log.chain(3).await;
    for table in ["ops.audit_chain", "ops.audit_nodes"] {
        for sql in [
            format!("TRUNCATE {table}"),
            "DELETE FROM ops.audit_chain".into(),
            "UPDATE ops.audit_chain SET key = ''".into(),
        ] {
            let refused = sqlx::query(&sql).execute(&log.database.pool).await.unwrap_err();
            assert!(refused.to_string().contains("append only"), "{sql}: {refused}");
        }
    }
}

//! Erasing an account: no key of it survives, whatever runs at the same time, and no table is forgotten.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeSet, sync::Arc};

use polyphony_domain::{
    account::{Account, AccountCommand, Role},
    ids::{AccountId, SessionId},
    session::{Session, SessionCommand},
};
use polyphony_eventstore::{
    CommandContext, Effect, Root, Store,
    erasure::{KEPT, OF_ACCOUNT},
};
use polyphony_platform::{config::DatabaseConfig, secrets::KekRing};
use polyphony_testkit::{TestDatabase, database};
use uuid::Uuid;

async fn store(database: &TestDatabase, ring: &KekRing) -> Store {
    let config = DatabaseConfig {
        url: database.url.clone(),
        max_connections: 16,
        acquire_timeout_ms: 10_000,
        statement_timeout_ms: 30_000,
    };
    Store::connect(&config, ring.clone()).await.unwrap()
}

fn context(owner: AccountId) -> CommandContext {
    CommandContext::internal(owner, "user", Uuid::now_v7())
}

async fn register(store: &Store) -> AccountId {
    let id = AccountId::new(Uuid::now_v7());
    let command = AccountCommand::Register { email: "a@example.org".into(), nickname: None, role: Role::User };
    store.command::<Account>(context(id), Root::New(id.as_uuid())).run(id.as_uuid(), command).await.unwrap();
    id
}

async fn erase(store: &Store, account_id: AccountId) -> bool {
    let command = store.command::<Account>(context(account_id), Root::Existing(account_id.as_uuid()));
    let command = command.effects(move |_, _| vec![Effect::EraseAccount { account_id }]);
    command.run(account_id.as_uuid(), AccountCommand::Erase).await.is_ok()
}

async fn open(store: &Store, owner_id: AccountId) -> Option<SessionId> {
    let id = SessionId::new(Uuid::now_v7());
    let open = SessionCommand::Open { owner_id, title: Some("mine".into()), model: None, system_prompt: None };
    let command = store.command::<Session>(context(owner_id), Root::New(id.as_uuid()));
    command.run(id.as_uuid(), open).await.ok().map(|_| id)
}

#[tokio::test]
async fn no_session_that_is_opened_meanwhile_keeps_its_key() {
    let database = database().await;
    let ring = KekRing::generate();
    let store = Arc::new(store(&database, &ring).await);
    let account = register(&store).await;
    let other = register(&store).await;
    assert!(open(&store, account).await.is_some());
    let opening = (0..40).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { open(&store, account).await })
    });
    let opening: Vec<_> = opening.collect();
    assert!(erase(&store, account).await);
    futures::future::join_all(opening).await;
    assert!(open(&store, account).await.is_none());
    assert!(!erase(&store, account).await, "it is erased once");
    let living = "SELECT count(*) FROM ops.data_keys WHERE owner_id = $1 AND wrapped IS NOT NULL";
    let living = async |owner: AccountId| -> i64 {
        sqlx::query_scalar(living).bind(owner.as_uuid()).fetch_one(&database.pool).await.unwrap()
    };
    assert_eq!((living(account).await, living(other).await), (0, 1));
    assert!(open(&store, other).await.is_some(), "somebody else goes on");
}

#[tokio::test]
async fn a_key_in_memory_opens_nothing_once_it_is_to_be_forgotten() {
    let database = database().await;
    let ring = KekRing::generate();
    let (here, there) = (store(&database, &ring).await, store(&database, &ring).await);
    let account = register(&here).await;
    let session = open(&here, account).await.unwrap();
    let title = async |store: &Store| {
        let (session, _) = store.load::<Session>(session.as_uuid()).await.unwrap();
        session.title.unwrap().into_string()
    };
    assert_eq!((title(&here).await, title(&there).await), ("mine".to_owned(), "mine".to_owned()));
    assert!(erase(&here, account).await);
    here.forget_keys(account.as_uuid());
    assert_eq!(title(&here).await, "[erased]");
    // The other process has not been told yet; by its account, it forgets the session, too.
    there.forget_keys(account.as_uuid());
    assert_eq!(title(&there).await, "[erased]");
}

#[tokio::test]
async fn every_table_with_an_account_is_thought_of() {
    let database = database().await;
    let columns = "SELECT table_schema || '.' || table_name, column_name::text FROM information_schema.columns \
         WHERE table_schema = 'ops' AND column_name IN ('account_id', 'owner_id', 'user_id', 'scope')";
    let found: Vec<(String, String)> = sqlx::query_as(columns).fetch_all(&database.pool).await.unwrap();
    let found: BTreeSet<_> = found.into_iter().filter(|(table, _)| !KEPT.contains(&table.as_str())).collect();
    let known: BTreeSet<_> =
        OF_ACCOUNT.iter().map(|(table, column)| ((*table).to_owned(), (*column).to_owned())).collect();
    assert_eq!(found, known, "rows of an erased account would stay");
}

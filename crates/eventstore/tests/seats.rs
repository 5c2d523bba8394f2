//! The fair queue on a real Postgres: seats, waiting, handing on, round robin.
#![expect(clippy::unwrap_used, reason = "a test")]

use futures::future::join_all;
use polyphony_domain::{
    ids::{AccountId, AnswerId, SessionId, TurnId},
    session::{Session, SessionCommand},
    turn::{
        AnswerEnd, AnswerRequest, AttemptReason, AttemptRecord, Finish, ModelRef, NewAnswer, Prompt, Turn, TurnCommand,
    },
};
use polyphony_eventstore::{
    CommandContext, Effect, ExecuteError, NewRun, Root, Seats, Store, error::Refused, seats::Aftermath,
};
use polyphony_platform::{config::DatabaseConfig, secrets::KekRing};
use polyphony_testkit::{TestDatabase, database};
use uuid::Uuid;

const SEATS: Seats = Seats { in_flight: Some(2), waiting: 100, unstarted: 1_000 };

async fn store(database: &TestDatabase, seats: Seats) -> Store {
    let config = DatabaseConfig {
        url: database.url.clone(),
        max_connections: 16,
        acquire_timeout_ms: 10_000,
        statement_timeout_ms: 30_000,
    };
    Store::connect(&config, KekRing::generate()).await.unwrap().with_seats(seats)
}

/// A person with a session.
#[derive(Clone, Copy, Debug)]
struct Person {
    owner: AccountId,
    session: SessionId,
}

/// An answer that was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    person: Person,
    turn: TurnId,
    answer: AnswerId,
}

impl Person {
    async fn new(store: &Store) -> Self {
        let (owner, session) = (AccountId::new(Uuid::now_v7()), SessionId::new(Uuid::now_v7()));
        let open = SessionCommand::Open { owner_id: owner, title: None, model: None, system_prompt: None };
        let context = CommandContext::internal(owner, "user", Uuid::now_v7());
        let root = Root::New(session.as_uuid());
        store.command::<Session>(context, root).from_nothing().run(session.as_uuid(), open).await.unwrap();
        Self { owner, session }
    }

    async fn ask(self, store: &Store) -> Result<(Asked, Aftermath), ExecuteError<polyphony_domain::turn::TurnError>> {
        let (turn, answer) = (TurnId::new(Uuid::now_v7()), AnswerId::new(Uuid::now_v7()));
        let prompt = Prompt { session_id: self.session, content: "hi".into(), ..Prompt::default() };
        let post = TurnCommand::Post {
            prompt,
            answers: vec![NewAnswer { answer_id: answer, request: AnswerRequest::default() }],
        };
        let (session_id, owner_id) = (self.session, self.owner);
        let executed = store
            .command::<Turn>(
                CommandContext::internal(owner_id, "user", Uuid::now_v7()),
                Root::Existing(session_id.as_uuid()),
            )
            .from_nothing()
            .effects(move |_, turn_version| {
                let (answer_id, turn_id) = (answer, turn);
                vec![Effect::CreateRun(NewRun { answer_id, turn_id, session_id, owner_id, turn_version, guard: None })]
            })
            .run(turn.as_uuid(), post)
            .await?;
        Ok((Asked { person: self, turn, answer }, executed.after))
    }
}

impl Asked {
    async fn command(
        &self,
        store: &Store,
        command: TurnCommand,
        effect: Effect,
    ) -> Result<Aftermath, ExecuteError<polyphony_domain::turn::TurnError>> {
        let context = CommandContext::internal(self.person.owner, "worker", Uuid::now_v7());
        let root = Root::Existing(self.person.session.as_uuid());
        let command = store
            .command::<Turn>(context, root)
            .effects(move |_, _| vec![effect.clone()])
            .run(self.turn.as_uuid(), command);
        Ok(command.await?.after)
    }

    async fn start(&self, store: &Store) -> Result<Aftermath, ExecuteError<polyphony_domain::turn::TurnError>> {
        let (answer_id, worker, reason) = (self.answer, "w".to_owned(), AttemptReason::First);
        let start = TurnCommand::StartAttempt { answer_id, attempt: 1, worker: worker.clone(), reason, model: None };
        self.command(store, start, Effect::StartRun { answer_id, attempt: 1, worker, lease_seconds: 30 }).await
    }

    async fn end(&self, store: &Store) -> Aftermath {
        let answer_id = self.answer;
        let record = AttemptRecord { attempt: 1, ..AttemptRecord::empty(ModelRef::default()) };
        let end = AnswerEnd::Completed(record, Finish::new("stop"));
        let end = TurnCommand::End { answer_id, end: end.into() };
        self.command(store, end, Effect::EndRun { answer_id, attempt: 1 }).await.unwrap()
    }
}

async fn counted(database: &TestDatabase, sql: &str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&database.pool).await.unwrap()
}

#[tokio::test]
async fn with_one_seat_left_twenty_commands_at_once_get_exactly_one() {
    let database = database().await;
    let store = store(&database, SEATS).await;
    let person = Person::new(&store).await;
    let (_, first) = person.ask(&store).await.unwrap();
    assert!(first.waiting.is_empty());
    let all = join_all((0..20).map(|_| person.ask(&store))).await;
    let seated = all.iter().filter(|asked| asked.as_ref().unwrap().1.waiting.is_empty()).count();
    assert_eq!(seated, 1);
    assert_eq!(counted(&database, "SELECT sum(taken)::bigint FROM ops.seats").await, 2);
    let of = store.seats_of(person.owner).await.unwrap();
    assert_eq!((of.allowance, of.in_flight, of.waiting), (Some(2), 2, 19));
}

#[tokio::test]
async fn a_seat_goes_to_the_next_in_line_and_back_when_nobody_waits() {
    let database = database().await;
    let store = store(&database, SEATS).await;
    let person = Person::new(&store).await;
    let mut asked = Vec::new();
    for place in 0..4_u32 {
        let (one, after) = person.ask(&store).await.unwrap();
        let position = after.waiting.first().map(|waiting| waiting.position);
        assert_eq!(position, place.checked_sub(1).filter(|position| *position > 0));
        asked.push(one);
    }
    // Who has no seat can't begin, whatever the bus says.
    let refused = asked[2].start(&store).await.unwrap_err();
    assert_eq!(refused.refused(), Some(Refused::RunTaken));
    assert_eq!(store.queue_position(asked[3].answer).await.unwrap(), Some(2));
    asked[0].start(&store).await.unwrap();
    assert!(asked[0].end(&store).await.seated);
    assert_eq!(store.queue_position(asked[2].answer).await.unwrap(), None);
    // Its job is due at once.
    let due: Vec<AnswerId> = store.reissue_runs(60, 10).await.unwrap().iter().map(|run| run.answer_id).collect();
    assert_eq!(due, [asked[2].answer]);
    for (one, next) in [(1, true), (2, false), (3, false)] {
        asked[one].start(&store).await.unwrap();
        assert_eq!(asked[one].end(&store).await.seated, next);
    }
    assert_eq!(counted(&database, "SELECT sum(taken)::bigint FROM ops.seats").await, 0);
    assert_eq!(counted(&database, "SELECT count(*) FROM ops.runs").await, 0);
}

#[tokio::test]
async fn past_the_bound_an_account_is_refused_and_nothing_is_appended() {
    let database = database().await;
    let store = store(&database, Seats { waiting: 3, ..SEATS }).await;
    let person = Person::new(&store).await;
    for _ in 0..5 {
        person.ask(&store).await.unwrap();
    }
    let before = counted(&database, "SELECT count(*) FROM events").await;
    assert_eq!(person.ask(&store).await.unwrap_err().refused(), Some(Refused::QueueFull));
    assert_eq!(counted(&database, "SELECT count(*) FROM events").await, before);
    // Somebody else is served.
    let other = Person::new(&store).await;
    assert!(other.ask(&store).await.unwrap().1.waiting.is_empty());
}

#[tokio::test]
async fn free_room_is_given_out_round_robin_over_the_accounts() {
    let database = database().await;
    // No job may be unstarted: everybody waits, however many seats are free.
    let closed = store(&database, Seats { in_flight: Some(8), waiting: 1_000, unstarted: 0 }).await;
    let (greedy, modest) = (Person::new(&closed).await, Person::new(&closed).await);
    for _ in 0..30 {
        greedy.ask(&closed).await.unwrap();
    }
    let modest: Vec<Asked> = [modest.ask(&closed).await.unwrap().0, modest.ask(&closed).await.unwrap().0].into();
    assert_eq!(closed.seat_waiting().await.unwrap(), 0);
    let open = closed.clone().with_seats(Seats { in_flight: Some(8), waiting: 1_000, unstarted: 4 });
    assert_eq!(open.seat_waiting().await.unwrap(), 4);
    // Two of the room's four went to whoever came last but asked for little.
    for one in &modest {
        assert_eq!(open.queue_position(one.answer).await.unwrap(), None);
    }
    assert_eq!(open.seats_of(greedy.owner).await.unwrap().in_flight, 2);
    // The rest of the room comes when jobs are begun; an account never gets more than its seats.
    let roomy = open.with_seats(Seats { in_flight: Some(8), waiting: 1_000, unstarted: 1_000 });
    assert_eq!(roomy.seat_waiting().await.unwrap(), 6);
    assert_eq!(roomy.seats_of(greedy.owner).await.unwrap().in_flight, 8);
    assert_eq!(roomy.seat_waiting().await.unwrap(), 0);
}

#[tokio::test]
async fn an_account_that_serves_an_api_has_its_seats_in_several_rows() {
    let database = database().await;
    let store = store(&database, SEATS).await;
    let person = Person::new(&store).await;
    sqlx::query("INSERT INTO ops.allowances VALUES ($1, 256)")
        .bind(person.owner.as_uuid())
        .execute(&database.pool)
        .await
        .unwrap();
    for chunk in 0..10 {
        join_all((0..32).map(|_| person.ask(&store))).await.into_iter().for_each(|asked| {
            asked.unwrap();
        });
        assert!(store.seats_of(person.owner).await.unwrap().in_flight <= 256, "chunk {chunk}");
    }
    // A row may be full while another isn't: what waited for that is given out, up to the last seat.
    store.seat_waiting().await.unwrap();
    let of = store.seats_of(person.owner).await.unwrap();
    assert_eq!((of.in_flight, of.waiting), (256, 64));
    assert_eq!(counted(&database, "SELECT count(*) FROM ops.seats").await, 4);
}

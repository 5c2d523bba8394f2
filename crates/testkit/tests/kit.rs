//! What other crates' tests rely on.

use polyphony_testkit as testkit;
use sqlx::Connection as _;

#[tokio::test]
async fn databases_are_migrated_and_apart() {
    let (one, two) = (testkit::database().await, testkit::database().await);
    sqlx::query("CREATE TABLE mine (n int)").execute(&one.pool).await.unwrap();
    assert!(sqlx::query("SELECT * FROM mine").execute(&two.pool).await.is_err());
    let migrations = "SELECT count(*) FROM _sqlx_migrations";
    assert!(sqlx::query_scalar::<_, i64>(migrations).fetch_one(&two.pool).await.unwrap() > 0);
}

#[tokio::test]
async fn dropped_database_goes_although_somebody_is_connected() {
    let database = testkit::empty_database().await;
    let url = database.url.clone();
    let mut still_here = sqlx::PgConnection::connect(&url).await.unwrap();
    drop(database);
    // The server ends our connection when it drops the database.
    while sqlx::query("SELECT pg_sleep(0.01)").execute(&mut still_here).await.is_ok() {}
    assert!(sqlx::PgConnection::connect(&url).await.is_err());
}

#[tokio::test]
async fn private_nats_keeps_its_port_through_a_crash_and_loses_its_store() {
    let nats = testkit::private_nats().await;
    let url = nats.url().to_owned();
    let pid = nats.pid();
    nats.kill9();
    nats.delete_data();
    nats.start();
    assert_eq!(nats.url(), url);
    assert_ne!(nats.pid(), pid);
}

#[tokio::test]
async fn clickhouse_databases_are_apart() {
    let (one, two) = (testkit::clickhouse_database().await, testkit::clickhouse_database().await);
    assert_eq!(one.url, two.url);
    assert_ne!(one.name, two.name);
    let (status, _) =
        polyphony_devstack::post(&one.url, &format!("CREATE TABLE {}.t (n Int8) ENGINE = Memory", one.name)).unwrap();
    assert_eq!(status, 200);
    let (status, answer) = polyphony_devstack::post(&two.url, &format!("SELECT * FROM {}.t", two.name)).unwrap();
    assert_eq!(status, 404, "{answer}");
}

#[test]
fn ports_are_not_given_twice() {
    let ports: std::collections::BTreeSet<_> = (0..50).map(|_| testkit::free_port()).collect();
    assert_eq!(ports.len(), 50);
}

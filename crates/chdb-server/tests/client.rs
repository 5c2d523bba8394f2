//! The official `clickhouse` crate against this server, with its default settings: compression and validation on.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

use std::{path::Path, sync::LazyLock};

use clickhouse::{Client, Compression, Row, error::Error};
use polyphony_devstack::{Deps, Endpoints, Ports, Stack, StackOptions};
use serde::{Deserialize, Serialize};

static STACK: LazyLock<Stack> = LazyLock::new(|| {
    let mut options = StackOptions::temporary(Path::new(env!("CARGO_BIN_EXE_chdb-server"))).unwrap();
    let elsewhere = || Some("not started".to_owned());
    options.external = Endpoints { database_url: elsewhere(), nats_url: elsewhere(), clickhouse_url: None };
    options.ports = Ports::default();
    Stack::start(&Deps::install().unwrap(), options).unwrap()
});

async fn database(name: &str) -> Client {
    let client = Client::default().with_url(&STACK.endpoints().clickhouse_url);
    client.query(&format!("CREATE DATABASE {name}")).execute().await.unwrap();
    client.with_database(name)
}

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Usage {
    id: u64,
    model: String,
    tokens: Option<u32>,
    tags: Vec<String>,
}

fn usage(id: u64) -> Usage {
    // Bytes that SQL would trip over, if they ever went through it.
    Usage {
        id,
        model: format!("gpt\n'\\`\u{0};{id}"),
        tokens: id.is_multiple_of(2).then_some(7),
        tags: vec![String::new(), "ü".into()],
    }
}

const USAGE: &str = "CREATE TABLE usage (id UInt64, model String, tokens Nullable(UInt32), tags Array(String)) \
    ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100";

async fn insert(client: &Client, rows: impl IntoIterator<Item = Usage>) -> Result<(), Error> {
    let mut insert = client.insert::<Usage>("usage").await?;
    for row in rows {
        insert.write(&row).await?;
    }
    insert.end().await
}

#[tokio::test]
async fn rows_come_back_as_they_were_inserted() {
    let client = database("rows").await;
    client.query(USAGE).execute().await.unwrap();
    insert(&client, (0..10_000).map(usage)).await.unwrap();
    let rows = client.query("SELECT ?fields FROM usage ORDER BY id").fetch_all::<Usage>().await.unwrap();
    assert_eq!(rows, (0..10_000).map(usage).collect::<Vec<_>>());
}

#[tokio::test]
async fn uncompressed_client_works_too() {
    let client = database("uncompressed").await.with_compression(Compression::None).with_validation(false);
    client.query(USAGE).execute().await.unwrap();
    insert(&client, [usage(1)]).await.unwrap();
    assert_eq!(client.query("SELECT ?fields FROM usage").fetch_one::<Usage>().await.unwrap(), usage(1));
    assert_eq!(client.query("SELECT ?fields FROM usage WHERE 0").fetch_optional::<Usage>().await.unwrap(), None);
}

#[derive(Debug, PartialEq, Row, Deserialize)]
struct Given {
    text: String,
    number: u64,
    list: Vec<String>,
}

#[tokio::test]
async fn parameters_are_values_and_never_sql() {
    let client = database("params").await;
    let hostile = "'; DROP DATABASE params; -- \\ \n\t";
    let query = client.query("SELECT {text:String} AS text, {number:UInt64} AS number, {list:Array(String)} AS list");
    let query = query.param("text", hostile).param("number", 42).param("list", vec!["a'b", "c"]);
    let row = query.fetch_one::<Given>().await.unwrap();
    assert_eq!(row, Given { text: hostile.into(), number: 42, list: vec!["a'b".into(), "c".into()] });
    assert_eq!(client.query("SELECT ?").bind(hostile).fetch_one::<String>().await.unwrap(), hostile);
}

#[tokio::test]
async fn errors_have_the_code_and_text_of_the_engine() {
    let client = database("errors").await;
    let error = client.query("SELECT * FROM nowhere").fetch_all::<u8>().await.unwrap_err();
    assert!(matches!(&error, Error::BadResponse(text) if text.starts_with("Code: 60. DB::Exception:")), "{error}");
    let error = client.query("SELECT throwIf(number = 3) FROM numbers(5)").fetch_all::<u8>().await.unwrap_err();
    assert!(matches!(&error, Error::BadResponse(text) if text.starts_with("Code: 395.")), "{error}");
    let error = client.query("SELECT 1").with_setting("no_such_setting", "1").fetch_all::<u8>().await.unwrap_err();
    assert!(matches!(&error, Error::BadResponse(text) if text.starts_with("Code: 115.")), "{error}");
}

#[tokio::test]
async fn session_state_does_not_reach_the_next_request() {
    let client = database("sticky").await;
    client.query("SET max_block_size = 77").execute().await.unwrap();
    client.query("USE system").execute().await.unwrap();
    let seen = client
        .query("SELECT currentDatabase(), toUInt64(getSetting('max_block_size'))")
        .fetch_one::<(String, u64)>()
        .await
        .unwrap();
    assert_eq!(seen.0, "sticky");
    assert_ne!(seen.1, 77);
    let query = client.query("SELECT toUInt64(getSetting('max_block_size'))").with_setting("max_block_size", "77");
    assert_eq!(query.fetch_one::<u64>().await.unwrap(), 77);
}

#[tokio::test]
async fn same_deduplication_token_inserts_once_also_into_the_views() {
    let client = database("dedup").await;
    client.query(USAGE).execute().await.unwrap();
    client
        .query(
            "CREATE TABLE per_model (model String, n SimpleAggregateFunction(sum, UInt64), \
             tokens AggregateFunction(quantilesTDigest(0.5, 0.95), UInt32)) \
             ENGINE = AggregatingMergeTree ORDER BY model SETTINGS non_replicated_deduplication_window = 100",
        )
        .execute()
        .await
        .unwrap();
    client
        .query(
            "CREATE MATERIALIZED VIEW per_model_mv TO per_model AS SELECT model, count() AS n, \
             quantilesTDigestState(0.5, 0.95)(assumeNotNull(tokens)) AS tokens FROM usage GROUP BY model",
        )
        .execute()
        .await
        .unwrap();
    let counts = async || {
        let rows = client.query("SELECT count() FROM usage").fetch_one::<u64>().await.unwrap();
        let seen = client.query("SELECT sum(n) FROM per_model").fetch_one::<u64>().await.unwrap();
        (rows, seen)
    };
    let client_with = |token: &str| {
        let client = client.clone().with_setting("insert_deduplication_token", token);
        client.with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
    };
    insert(&client_with("batch-1"), [usage(0)]).await.unwrap();
    insert(&client_with("batch-1"), [usage(0)]).await.unwrap();
    assert_eq!(counts().await, (1, 1));
    // The same row in another batch is another row.
    insert(&client_with("batch-2"), [usage(0)]).await.unwrap();
    assert_eq!(counts().await, (2, 2));
    let quantiles = "SELECT quantilesTDigestMerge(0.5, 0.95)(tokens) FROM per_model";
    assert_eq!(client.query(quantiles).fetch_one::<Vec<f32>>().await.unwrap(), [7.0, 7.0]);
}

#[tokio::test]
async fn partitions_can_be_dropped_and_replaced() {
    let client = database("partitions").await;
    for table in ["live", "rebuilt"] {
        let sql = format!(
            "CREATE TABLE {table} (day Date, n UInt64) ENGINE = MergeTree ORDER BY day PARTITION BY toYYYYMM(day)"
        );
        client.query(&sql).execute().await.unwrap();
    }
    client.query("INSERT INTO live VALUES ('2026-01-01', 1), ('2026-02-01', 2)").execute().await.unwrap();
    client.query("INSERT INTO rebuilt VALUES ('2026-02-01', 20)").execute().await.unwrap();
    client.query("ALTER TABLE live REPLACE PARTITION 202602 FROM rebuilt").execute().await.unwrap();
    client.query("ALTER TABLE live DROP PARTITION 202601").execute().await.unwrap();
    assert_eq!(client.query("SELECT n FROM live").fetch_all::<u64>().await.unwrap(), [20]);
}

#[tokio::test]
async fn broken_insert_inserts_nothing() {
    let client = database("broken").await;
    client.query(USAGE).execute().await.unwrap();
    let mut insert = client.insert_formatted_with("INSERT INTO usage FORMAT RowBinary");
    insert.send(bytes::Bytes::from_static(b"\x01\x02\x03")).await.unwrap();
    let error = insert.end().await.unwrap_err();
    assert!(matches!(&error, Error::BadResponse(text) if text.contains("CANNOT_READ_ALL_DATA")), "{error}");
    assert_eq!(client.query("SELECT count() FROM usage").fetch_one::<u64>().await.unwrap(), 0);
}

#[tokio::test]
async fn several_statements_in_one_request_are_refused_as_by_the_real_server() {
    let client = database("several").await;
    let error = client.query("SELECT 1; SELECT 2").fetch_all::<u8>().await.unwrap_err();
    assert!(matches!(&error, Error::BadResponse(text) if text.starts_with("Code: 62.")), "{error}");
}

#[tokio::test]
async fn requests_run_side_by_side() {
    let client = database("parallel").await;
    client.query(USAGE).execute().await.unwrap();
    let tasks = (0..16).map(|id| {
        let client = client.clone();
        tokio::spawn(async move { insert(&client, [usage(id)]).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    assert_eq!(client.query("SELECT count() FROM usage").fetch_one::<u64>().await.unwrap(), 16);
}

#[tokio::test]
async fn data_survives_a_restart_and_a_kill() {
    let mut options = StackOptions::temporary(Path::new(env!("CARGO_BIN_EXE_chdb-server"))).unwrap();
    let elsewhere = || Some("not started".to_owned());
    options.external = Endpoints { database_url: elsewhere(), nats_url: elsewhere(), clickhouse_url: None };
    let stack = Stack::start(&Deps::install().unwrap(), options).unwrap();
    // A fresh one each time: a pooled connection to the stopped server would fail first.
    let client = || Client::default().with_url(&stack.endpoints().clickhouse_url);
    client().query(USAGE).execute().await.unwrap();
    insert(&client(), [usage(1)]).await.unwrap();
    let server = stack.clickhouse().unwrap();
    server.stop().unwrap();
    assert!(insert(&client(), [usage(2)]).await.is_err());
    server.start().unwrap();
    insert(&client(), [usage(2)]).await.unwrap();
    server.kill().unwrap();
    server.start().unwrap();
    assert_eq!(client().query("SELECT count() FROM usage").fetch_one::<u64>().await.unwrap(), 2);
}

-- Facts: one row for each finished attempt. Money in integer nano-dollars.
CREATE TABLE IF NOT EXISTS usage_events
(
    event_id         UUID,
    user_id          UUID,
    session_id       UUID,
    answer_id        UUID,
    attempt          UInt32,
    ts               DateTime64(3, 'UTC'),
    model_id         UUID,
    model            String,
    provider         LowCardinality(String),
    outcome          LowCardinality(String),
    tokens_input     UInt64,
    tokens_output    UInt64,
    tokens_cached    UInt64,
    tokens_reasoning UInt64,
    cost_nanos       Int64,
    estimated        UInt8,
    price_version    LowCardinality(String),
    queue_ms         UInt32,
    first_chunk_ms   UInt32,
    total_ms         UInt32
)
ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (user_id, ts, event_id)
TTL toDateTime(ts) + INTERVAL 5 YEAR
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS usage_hourly
(
    user_id       UUID,
    hour          DateTime('UTC'),
    model_id      UUID,
    model         String,
    provider      LowCardinality(String),
    requests      SimpleAggregateFunction(sum, UInt64),
    errors        SimpleAggregateFunction(sum, UInt64),
    tokens_input  SimpleAggregateFunction(sum, UInt64),
    tokens_output SimpleAggregateFunction(sum, UInt64),
    cost_nanos    SimpleAggregateFunction(sum, Int64)
)
ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(hour) ORDER BY (user_id, hour, model_id, model, provider)
TTL hour + INTERVAL 1 YEAR
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_hourly_mv TO usage_hourly AS
SELECT user_id, toStartOfHour(ts) AS hour, model_id, model, provider,
       toUInt64(count()) AS requests, toUInt64(countIf(outcome IN ('failed', 'interrupted'))) AS errors,
       sum(tokens_input) AS tokens_input, sum(tokens_output) AS tokens_output, sum(cost_nanos) AS cost_nanos
FROM usage_events GROUP BY user_id, hour, model_id, model, provider;

CREATE TABLE IF NOT EXISTS usage_daily
(
    user_id       UUID,
    day           Date,
    model_id      UUID,
    model         String,
    provider      LowCardinality(String),
    requests      SimpleAggregateFunction(sum, UInt64),
    errors        SimpleAggregateFunction(sum, UInt64),
    tokens_input  SimpleAggregateFunction(sum, UInt64),
    tokens_output SimpleAggregateFunction(sum, UInt64),
    cost_nanos    SimpleAggregateFunction(sum, Int64),
    sessions      AggregateFunction(uniqExact, UUID),
    latency       AggregateFunction(quantilesTDigest(0.5, 0.95), UInt32),
    first_chunk   AggregateFunction(quantilesTDigest(0.5, 0.95), UInt32)
)
ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(day) ORDER BY (user_id, day, model_id, model, provider)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_daily_mv TO usage_daily AS
SELECT user_id, toDate(ts) AS day, model_id, model, provider,
       toUInt64(count()) AS requests, toUInt64(countIf(outcome IN ('failed', 'interrupted'))) AS errors,
       sum(tokens_input) AS tokens_input, sum(tokens_output) AS tokens_output, sum(cost_nanos) AS cost_nanos,
       uniqExactState(session_id) AS sessions,
       quantilesTDigestState(0.5, 0.95)(total_ms) AS latency,
       quantilesTDigestState(0.5, 0.95)(first_chunk_ms) AS first_chunk
FROM usage_events GROUP BY user_id, day, model_id, model, provider;

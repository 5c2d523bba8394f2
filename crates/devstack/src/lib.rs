//! Private Postgres, NATS and ClickHouse engine from the package registries.

//! From an HTTP request to a statement: where ClickHouse's interface looks for the query, its data and its settings.

use anyhow::{Context as _, Result, bail};
use axum::http::{HeaderMap, header::CONTENT_TYPE};
use bytes::Bytes;

use crate::{lz4, multipart, sql};

/// Request parameters that aren't settings of the engine, and mean nothing here: there are no users, sessions or
/// query ids, and every result is complete before its first byte is sent.
const IGNORED: [&str; 11] = [
    "user",
    "password",
    "role",
    "query_id",
    "quota_key",
    "session_id",
    "session_timeout",
    "session_check",
    "wait_end_of_query",
    "buffer_size",
    "send_progress_in_http_headers",
];

/// Settings of the real server's HTTP layer, which this engine has not.
const IGNORED_PREFIXES: [&str; 2] = ["http_", "enable_http_"];

/// What to run.
#[derive(Debug, Default)]
pub struct Statement {
    /// The query; for an INSERT with data, without the data.
    pub sql: String,
    /// The data of an INSERT, decompressed.
    pub data: Option<Bytes>,
    /// The format of the result when the query names none.
    pub format: String,
    /// The database that unqualified names are in.
    pub database: Option<String>,
    /// Settings of this statement.
    pub settings: Vec<(String, String)>,
    /// Values of `{name:Type}`.
    pub params: Vec<(String, String)>,
}

impl Statement {
    /// Reads a request. Its errors are the client's fault.
    pub fn parse(query_string: &str, headers: &HeaderMap, body: Bytes) -> Result<Self> {
        let mut statement = Self { format: "TabSeparated".into(), ..Self::default() };
        let mut decompress = false;
        for (name, value) in url::form_urlencoded::parse(query_string.as_bytes()) {
            match &*name {
                "query" => statement.sql = value.into_owned(),
                "decompress" => decompress = value == "1",
                "compress" if value == "1" => bail!("compress=1 is not supported"),
                "compress" => {}
                _ => statement.set(&name, value.into_owned())?,
            }
        }
        for (header, name) in [("x-clickhouse-database", "database"), ("x-clickhouse-format", "default_format")] {
            if let Some(value) = headers.get(header) {
                statement.set(name, value.to_str().context("a header is not text")?.to_owned())?;
            }
        }
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_type.starts_with("multipart/form-data") {
            for (name, value) in multipart::fields(content_type, &body)? {
                match &*name {
                    "query" => statement.sql = value,
                    _ => statement.set(&name, value)?,
                }
            }
            return Ok(statement);
        }
        let body = if decompress { lz4::decompress(&body)?.into() } else { body };
        statement.take(body)?;
        Ok(statement)
    }

    fn set(&mut self, name: &str, value: String) -> Result<()> {
        match name {
            "database" => self.database = Some(value).filter(|value| !value.is_empty()),
            "default_format" => self.format = value,
            _ if IGNORED.contains(&name) => {}
            _ if IGNORED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => {}
            _ => {
                if let Some(param) = name.strip_prefix("param_") {
                    self.params.push((param.to_owned(), value));
                } else if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty() {
                    self.settings.push((name.to_owned(), value));
                } else {
                    bail!("{name:?} is not the name of a setting");
                }
            }
        }
        Ok(())
    }

    /// Without a query in the address, the body is it; with an INSERT there, the body is its data.
    fn take(&mut self, body: Bytes) -> Result<()> {
        let text = |body: &Bytes| -> Result<String> {
            Ok(str::from_utf8(body)
                .context("the query is not UTF-8; send binary data with the query in the address")?
                .to_owned())
        };
        if self.sql.is_empty() {
            self.sql = text(&body)?;
        } else if sql::split_insert(&self.sql).is_some() {
            self.data = Some(body);
        } else if !body.is_empty() {
            self.sql = format!("{}\n{}", self.sql, text(&body)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str, body: &'static [u8]) -> Result<Statement> {
        Statement::parse(query, &HeaderMap::new(), Bytes::from_static(body))
    }

    #[test]
    fn body_is_the_query_unless_the_address_has_one() {
        assert_eq!(parse("default_format=CSV", b"SELECT 1").unwrap().sql, "SELECT 1");
        assert_eq!(parse("query=SELECT", b"1").unwrap().sql, "SELECT\n1");
        let insert = parse("query=INSERT+INTO+t+FORMAT+RowBinary&database=d", b"\xff\0").unwrap();
        assert_eq!(insert.data.as_deref(), Some(&b"\xff\0"[..]));
        assert_eq!(insert.database.as_deref(), Some("d"));
    }

    #[test]
    fn settings_and_params_are_told_apart() {
        let statement = parse("max_threads=2&param_a=b&query_id=x&wait_end_of_query=1", b"SELECT 1").unwrap();
        assert_eq!(statement.settings, [("max_threads".into(), "2".into())]);
        assert_eq!(statement.params, [("a".into(), "b".into())]);
    }

    #[test]
    fn name_of_a_setting_can_not_carry_sql() {
        assert!(parse("a%3D1,b=2", b"SELECT 1").is_err());
    }
}

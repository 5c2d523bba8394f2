//! The engine on one data folder: a fresh session for each request, so that no `USE` or `SET` reaches the next one.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;

use crate::{
    ffi::{Connection, Library, QueryResult},
    request::Statement,
    sql::{self, quote_identifier, quote_literal},
};

/// A failed statement, in the server's words: `Code: 60. DB::Exception: …`.
#[derive(Debug)]
pub struct EngineError(pub String);

/// A statement's rows and the numbers about it.
#[derive(Debug)]
pub struct Output {
    /// In the format asked for.
    pub rows: Bytes,
    /// For `X-ClickHouse-Summary`.
    pub counts: [(&'static str, u64); 5],
}

/// The running engine.
pub struct Engine {
    library: Arc<Library>,
    data: PathBuf,
    /// Closing the last session would stop the engine.
    anchor: Mutex<Option<Connection>>,
}

impl Engine {
    /// Loads the library and starts the engine.
    pub fn open(library: &Path, data: &Path) -> Result<Arc<Self>> {
        std::fs::create_dir_all(data).with_context(|| format!("creating {}", data.display()))?;
        let data = std::fs::canonicalize(data)?;
        let library = Library::load(library)?;
        let anchor = Mutex::new(Some(library.connect(&data)?));
        Ok(Arc::new(Self { library, data, anchor }))
    }

    /// Runs one request's statement in a session of its own. Blocks.
    pub fn run(&self, statement: &Statement) -> Result<Output, EngineError> {
        let mut session = self.library.connect(&self.data).map_err(|error| EngineError(format!("{error:#}")))?;
        for preparation in preparations(statement) {
            finished(session.query(preparation.as_bytes(), "Null", &[]))?;
        }
        let Statement { sql, data, format, params, .. } = statement;
        match data {
            Some(data) => {
                let insert = sql::split_insert(sql).ok_or_else(not_an_insert)?;
                let result = session.insert(insert.head, insert.format, params, data).map_err(EngineError)?;
                finished(result)
            }
            // This engine would run them all; the real server doesn't, and tests must not pass here alone.
            None if sql.contains(';') && session.count_statements(sql.as_bytes()) > 1 => Err(several_statements()),
            None => finished(session.query(sql.as_bytes(), format, params)),
        }
    }

    /// Stops the engine's threads, so that the exit finds nothing running.
    pub fn close(&self) {
        drop(self.anchor.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.library.shutdown();
    }
}

fn preparations(statement: &Statement) -> Vec<String> {
    let mut preparations = Vec::new();
    if let Some(database) = &statement.database {
        preparations.push(format!("USE {}", quote_identifier(database)));
    }
    if !statement.settings.is_empty() {
        let settings = statement.settings.iter().map(|(name, value)| format!("{name} = {}", quote_literal(value)));
        preparations.push(format!("SET {}", settings.collect::<Vec<_>>().join(", ")));
    }
    preparations
}

fn finished(result: QueryResult) -> Result<Output, EngineError> {
    if let Some(error) = result.error() {
        return Err(EngineError(error));
    }
    let counts = result.counts();
    Ok(Output { rows: Bytes::from_owner(result), counts })
}

fn not_an_insert() -> EngineError {
    EngineError(
        "Code: 62. DB::Exception: the request has data, but its query is no INSERT with a FORMAT. (SYNTAX_ERROR)"
            .into(),
    )
}

fn several_statements() -> EngineError {
    EngineError("Code: 62. DB::Exception: Multi-statements are not allowed. (SYNTAX_ERROR)".into())
}

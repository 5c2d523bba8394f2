//! `polyphony replay`: the life of a session, event by event.

use std::fmt::Write as _;

use anyhow::{Context, bail};
use polyphony_eventstore::history::Happening;
use polyphony_platform::config::Config;
use polyphony_projections::Moment;
use serde_json::Value;
use uuid::Uuid;

use super::print;
use crate::roles;

/// Longest text that is shown of a field.
const EXCERPT: usize = 72;

/// Prints a session's events in order, up to a moment if one is given.
///
/// # Errors
/// There is no such session, or the log can't be read.
pub async fn replay(config: Config, session: Uuid, at: Option<Moment>, json: bool) -> anyhow::Result<()> {
    let (store, _) = roles::open_store(&config).await?;
    let mut life = store.life_of(session).await.context("the session can't be read")?;
    if life.is_empty() {
        bail!("there is no session {session}");
    }
    if let Some(at) = at {
        life.truncate(at.cut(&life));
        if life.is_empty() {
            bail!("the session {session} was not there yet");
        }
    }
    for happening in &life {
        let line = if json { serde_json::to_string(happening)? } else { line(happening) };
        print(&format!("{line}\n"))?;
    }
    Ok(())
}

/// `time  actor  what happened  place: what it says`.
fn line(happening: &Happening) -> String {
    let Happening { at, actor, kind, aggregate, position, data, .. } = happening;
    let mut line = format!("{}  {actor:<10}  {kind:<20}  {aggregate}@{position}", at.format("%F %T%.6f"));
    let mut fields = Vec::new();
    flatten("", data, &mut fields);
    for (name, value) in fields {
        let _ = write!(line, "  {name}={value}");
    }
    line
}

/// The leaves of a value with their paths; what is empty is left out.
fn flatten(path: &str, value: &Value, into: &mut Vec<(String, String)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&below(name), value, into)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| flatten(&below(&index.to_string()), value, into));
        }
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => into.push((path.to_owned(), excerpt(text))),
        other => into.push((path.to_owned(), other.to_string())),
    }
}

/// The beginning of a text on one line.
fn excerpt(text: &str) -> String {
    let shown: String = text.chars().take(EXCERPT).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{more}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_says_something_is_shown() {
        let mut fields = vec![];
        flatten("", &json!({"a": {"b": 1, "c": ""}, "d": ["x\ny"], "e": null}), &mut fields);
        assert_eq!(fields, [("a.b".into(), "1".into()), ("d.0".into(), "\"x\\ny\"".into())]);
        assert!(excerpt(&"茶".repeat(100)).ends_with("\"…"));
    }
}

//! docs/EVENTS.md: the events of the log with their fields, made from the golden files.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

use serde_json::Value;

/// Of each field, whether it holds personal data.
type Fields = BTreeMap<String, bool>;

fn holds_personal_data(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key("$personal") || fields.values().any(holds_personal_data),
        Value::Array(values) => values.iter().any(holds_personal_data),
        _ => false,
    }
}

fn events(folder: &Path) -> BTreeMap<String, BTreeMap<(String, String), Fields>> {
    let mut aggregates: BTreeMap<String, BTreeMap<(String, String), Fields>> = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // `turn.answer_completed.v1.full.json`
        let mut words = name.split('.');
        let (aggregate, event, version) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let event = (event.to_owned(), version.to_owned());
        let known = aggregates.entry(aggregate.to_owned()).or_default().entry(event.clone()).or_default();
        for (field, value) in json[&event.0].as_object().into_iter().flatten() {
            *known.entry(field.clone()).or_default() |= holds_personal_data(value);
        }
    }
    aggregates
}

#[test]
fn the_catalogue_of_events_is_fresh() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = "# Events\n\nWhat the log holds, made from `crates/domain/tests/golden` (`cargo xtask codegen`), where \
                    each event has an example. Fields\nin *italics* hold personal data: they are sealed with the data key of \
                    their session or account. A stored name and\nversion is frozen for ever; fields are only added.\n"
        .to_owned();
    for (aggregate, events) in events(&here.join("tests/golden")) {
        let _ = write!(text, "\n## {aggregate}\n\n| event | version | fields |\n|---|---|---|\n");
        for ((event, version), fields) in events {
            let words = |(field, personal): (&String, &bool)| {
                if *personal { format!("*{field}*") } else { format!("`{field}`") }
            };
            let fields: Vec<String> = fields.iter().map(words).collect();
            let _ = writeln!(text, "| `{event}` | {version} | {} |", fields.join(", "));
        }
    }
    let path = here.join("../../docs/EVENTS.md");
    if env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), text, "run `cargo xtask codegen`");
}

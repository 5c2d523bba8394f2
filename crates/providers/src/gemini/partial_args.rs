//! Arguments of a call that come in pieces, each with the path of its place: `$.route.stops[1].name`.

use serde_json::{Map, Value};

/// Highest index of an array, and most steps of a path, that a piece may name.
const MOST: usize = 1_024;

/// The arguments so far.
pub(super) struct Arguments(Value);

enum Step {
    Field(String),
    Item(usize),
}

impl Arguments {
    /// Begins with what is given at once.
    pub(super) fn new(given: &Value) -> Self {
        Self(if given.is_object() { given.clone() } else { Value::Object(Map::new()) })
    }

    /// Adds a piece: text goes on where text is, everything else takes its place. A path that makes no sense is passed over.
    pub(super) fn add(&mut self, partial: &Value) {
        let Some(steps) = partial["jsonPath"].as_str().and_then(steps) else { return };
        let Some(place) = steps.into_iter().try_fold(&mut self.0, go) else { return };
        if let Some(piece) = partial["stringValue"].as_str() {
            match place {
                Value::String(text) => text.push_str(piece),
                other => *other = piece.into(),
            }
        } else if let Some(value) = ["numberValue", "boolValue"].into_iter().find_map(|name| partial.get(name)) {
            *place = value.clone();
        }
    }

    pub(super) fn into_json(self) -> String {
        self.0.to_string()
    }
}

/// Goes one step down, making the way where there is none yet.
fn go(place: &mut Value, step: Step) -> Option<&mut Value> {
    match step {
        Step::Field(name) => {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            Some(place.as_object_mut()?.entry(name).or_insert(Value::Null))
        }
        Step::Item(index) => {
            if place.is_null() {
                *place = Value::Array(vec![]);
            }
            let items = place.as_array_mut()?;
            if items.len() <= index {
                items.resize(index + 1, Value::Null);
            }
            items.get_mut(index)
        }
    }
}

/// Reads `$.a.b[0]['c d']`.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == MOST {
            return None;
        }
        if let Some(field) = rest.strip_prefix('.') {
            let end = field.find(['.', '[']).unwrap_or(field.len());
            steps.push(Step::Field(field[..end].to_owned()));
            rest = &field[end..];
            continue;
        }
        let inner = rest.strip_prefix('[')?;
        let quote = inner.chars().next().filter(|quote| ['\'', '"'].contains(quote));
        if let Some(quote) = quote {
            let (name, after) = inner[1..].split_once(quote)?;
            steps.push(Step::Field(name.to_owned()));
            rest = after.strip_prefix(']')?;
        } else {
            let (index, after) = inner.split_once(']')?;
            steps.push(Step::Item(index.parse().ok().filter(|index| *index < MOST)?));
            rest = after;
        }
    }
    // The arguments as a whole have no place of their own.
    (!steps.is_empty()).then_some(steps)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_find_their_place() {
        let mut arguments = Arguments::new(&json!({"given": 1}));
        for piece in [
            json!({"jsonPath": "$.place.name", "stringValue": "New ", "willContinue": true}),
            json!({"jsonPath": "$.place.name", "stringValue": "York"}),
            json!({"jsonPath": "$.stops[1]['zip code']", "numberValue": 10001}),
            json!({"jsonPath": "$.fast", "boolValue": true}),
            json!({"jsonPath": "$.none", "nullValue": "NULL_VALUE"}),
            json!({"jsonPath": "$.fast.nonsense", "stringValue": "x"}),
            json!({"jsonPath": "nonsense", "stringValue": "x"}),
            json!({"jsonPath": "$.far[99999999]", "stringValue": "x"}),
        ] {
            arguments.add(&piece);
        }
        let read: Value = serde_json::from_str(&arguments.into_json()).unwrap();
        let expected = json!({"given": 1, "place": {"name": "New York"}, "stops": [null, {"zip code": 10001}],
            "fast": true, "none": null});
        assert_eq!(read, expected);
    }

    proptest! {
        #[test]
        fn any_path_is_survived(path in "\\$?[.\\[\\]'\"a0你-]{0,12}") {
            let mut arguments = Arguments::new(&Value::Null);
            arguments.add(&json!({"jsonPath": path, "stringValue": "x"}));
            prop_assert!(serde_json::from_str::<Value>(&arguments.into_json()).unwrap().is_object());
        }
    }
}

//! Tool calls, put together from fragments.

use polyphony_domain::content::ToolCall;
use serde_json::Value;

use super::wire::{FunctionFragment, ToolFragment};
use crate::answer::Output;

/// Most tool calls of one answer.
const MOST_CALLS: usize = 256;
/// Most bytes of one answer's arguments.
const MOST_BYTES: usize = 4 << 20;

/// The answer asks for more than anything sensible.
pub(super) struct TooMany;

#[derive(Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

/// The calls of one answer, in the order of their first fragments.
#[derive(Default)]
pub(super) struct Tools {
    calls: Vec<Call>,
    bytes: usize,
}

impl Tools {
    pub(super) const fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Takes a fragment: it continues the call of its index, or the last one where there is no index.
    ///
    /// Another id together with a name begins a new call under the same index (some hosts number every call 0), and so
    /// does a name without an index. A new id alone doesn't: some hosts invent one for every fragment.
    pub(super) fn fragment(&mut self, fragment: ToolFragment<'_>) -> Result<(), TooMany> {
        let index = fragment.index.number();
        let id = fragment.id.text();
        let named = fragment.function.as_ref().is_some_and(|function| !function.name.text().is_empty());
        let place = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1).filter(|_| !named),
        };
        let is_other = |call: &Call| named && !id.is_empty() && !call.id.is_empty() && call.id != id;
        let place = place.filter(|place| !is_other(&self.calls[*place])).unwrap_or(self.calls.len());
        if place == MOST_CALLS {
            return Err(TooMany);
        }
        if place == self.calls.len() {
            self.calls.push(Call { index, ..Call::default() });
        }
        let call = &mut self.calls[place];
        if call.id.is_empty() {
            id.clone_into(&mut call.id);
        }
        let Some(FunctionFragment { name, arguments }) = fragment.function else { return Ok(()) };
        if !name.text().is_empty() {
            name.text().clone_into(&mut call.name);
        }
        let before = call.arguments.len();
        match arguments {
            Some(Value::String(piece)) => call.arguments.push_str(&piece),
            Some(Value::Null) | None => {}
            Some(whole) => call.arguments = whole.to_string(),
        }
        self.bytes += call.arguments.len().saturating_sub(before);
        if self.bytes > MOST_BYTES { Err(TooMany) } else { Ok(()) }
    }

    /// Hands the calls out, complete.
    pub(super) fn finish(&mut self, out: &mut Output) {
        self.calls.sort_by_key(|call| call.index);
        for Call { id, name, arguments, .. } in self.calls.drain(..) {
            out.tool_call(ToolCall { call_id: id, name, arguments: arguments.into(), opaque: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use polyphony_domain::content::Part;

    use super::*;
    use crate::AdapterEvent;

    fn assemble(fragments: &[&str]) -> Vec<(String, String, String)> {
        let (mut tools, mut out) = (Tools::default(), Output::default());
        for fragment in fragments {
            assert!(tools.fragment(serde_json::from_str(fragment).unwrap()).is_ok());
        }
        tools.finish(&mut out);
        out.take()
            .into_iter()
            .map(|event| match event.unwrap() {
                AdapterEvent::Part(Part::ToolCall(it)) => {
                    // One that was made up for a call without an id is another one each time.
                    let id = it.call_id.split('_').next().unwrap_or_default().to_owned();
                    (id, it.name, it.arguments.into_string())
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
        (id.to_owned(), name.to_owned(), arguments.to_owned())
    }

    #[test]
    fn fragments_find_their_call() {
        let by_index = [
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":""}}"#,
            r#"{"index":1,"id":"b","function":{"name":"g"}}"#,
            r#"{"index":0,"id":"","function":{"name":"","arguments":"{\"x\":"}}"#,
            r#"{"index":0,"id":"other","function":{"name":null,"arguments":"1}"}}"#,
        ];
        assert_eq!(assemble(&by_index), [call("a", "f", r#"{"x":1}"#), call("b", "g", "{}")]);
    }

    #[test]
    fn calls_with_one_index_or_none_stay_apart() {
        let all_zero = [
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#,
            r#"{"index":0,"id":"b","function":{"name":"f","arguments":"{\"y\":2}"}}"#,
        ];
        assert_eq!(assemble(&all_zero), [call("a", "f", "{}"), call("b", "f", r#"{"y":2}"#)]);
        let unnumbered = [
            r#"{"function":{"name":"f","arguments":{"x":1}}}"#,
            r#"{"index":null,"id":"b","function":{"name":"g","arguments":"{"}}"#,
            r#"{"function":{"arguments":"}"}}"#,
        ];
        assert_eq!(assemble(&unnumbered), [call("call", "f", r#"{"x":1}"#), call("b", "g", "{}")]);
    }

    #[test]
    fn endless_calls_are_refused() {
        let mut tools = Tools::default();
        let fragment = |index| format!(r#"{{"index":{index},"function":{{"name":"f"}}}}"#);
        let fed =
            (0..=MOST_CALLS).try_for_each(|index| tools.fragment(serde_json::from_str(&fragment(index)).unwrap()));
        assert!(fed.is_err());
    }
}

//! Ids of tool calls: some providers leave them out, others repeat them. A call gets an id of its own then, so that its
//! result can name it.

use std::collections::HashSet;

use polyphony_domain::content::Part;
use uuid::Uuid;

use crate::AdapterEvent;

/// The ids of one answer.
#[derive(Default)]
pub(crate) struct CallIds(HashSet<String>);

impl CallIds {
    /// Replaces the id of a call if it's empty or was there before.
    pub(crate) fn complete(&mut self, mut event: AdapterEvent) -> AdapterEvent {
        if let AdapterEvent::Part(Part::ToolCall(call)) = &mut event {
            if call.call_id.is_empty() || self.0.contains(&call.call_id) {
                call.call_id = format!("call_{}", Uuid::now_v7().simple());
            }
            self.0.insert(call.call_id.clone());
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use polyphony_domain::content::ToolCall;

    use super::*;

    #[test]
    fn every_call_has_an_id_of_its_own() {
        let mut ids = CallIds::default();
        let mut complete = |id: &str| {
            let call = ToolCall { call_id: id.to_owned(), ..ToolCall::default() };
            match ids.complete(AdapterEvent::Part(Part::ToolCall(call))) {
                AdapterEvent::Part(Part::ToolCall(call)) => call.call_id,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(complete("a"), "a");
        let others: HashSet<String> = ["", "a", "", "b"].into_iter().map(&mut complete).collect();
        assert!(others.len() == 4 && others.contains("b") && !others.contains("a") && !others.contains(""));
    }
}

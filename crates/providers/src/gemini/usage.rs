//! Gemini's count of tokens: thoughts stand beside the candidates, and tools' prompts beside the prompt.

use serde_json::Value;

use crate::Usage;

/// Reads the usage metadata; `None` where they count nothing.
pub(super) fn usage(raw: Value) -> Option<Usage> {
    let number = |name: &str| raw.get(name).and_then(Value::as_u64);
    let sum = |names: [&str; 2]| names.into_iter().filter_map(number).fold(0, u64::saturating_add);
    let input = sum(["promptTokenCount", "toolUsePromptTokenCount"]);
    let output = sum(["candidatesTokenCount", "thoughtsTokenCount"]);
    if input == 0 && output == 0 {
        return None;
    }
    let (cached_input, reasoning) = (number("cachedContentTokenCount"), number("thoughtsTokenCount"));
    Some(Usage { input, output, cached_input, cache_write: None, reasoning, raw })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn thoughts_count_as_output() {
        let raw = json!({"promptTokenCount": 17, "candidatesTokenCount": 241, "totalTokenCount": 772,
            "toolUsePromptTokenCount": 102, "thoughtsTokenCount": 412, "cachedContentTokenCount": 5});
        let usage = usage(raw).unwrap();
        assert_eq!((usage.input, usage.output, usage.input + usage.output), (119, 653, 772));
        assert_eq!((usage.reasoning, usage.cached_input), (Some(412), Some(5)));
    }

    #[test]
    fn nothing_counted_is_no_usage() {
        assert_eq!(usage(json!({"trafficType": "ON_DEMAND"})), None);
        assert_eq!(usage(Value::Null), None);
    }
}

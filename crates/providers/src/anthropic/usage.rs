//! Anthropic's count of tokens: its input leaves out what was read from the cache or written to it.

use serde_json::Value;

use crate::Usage;

/// Reads a usage object; `None` where it counts nothing.
pub(super) fn usage(raw: Value) -> Option<Usage> {
    let number = |name: &str| raw.get(name).and_then(Value::as_u64);
    let (cached_input, cache_write) = (number("cache_read_input_tokens"), number("cache_creation_input_tokens"));
    let input = [number("input_tokens"), cached_input, cache_write].into_iter().flatten().fold(0, u64::saturating_add);
    let output = number("output_tokens").unwrap_or(0);
    if input == 0 && output == 0 {
        return None;
    }
    let details = raw.get("output_tokens_details");
    let reasoning = details.and_then(|details| {
        ["thinking_tokens", "reasoning_tokens"].into_iter().find_map(|name| details[name].as_u64())
    });
    Some(Usage { input, output, cached_input, cache_write, reasoning, raw })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_cached_counts_as_input() {
        let raw = json!({"input_tokens": 3, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 50, "output_tokens": 7});
        let usage = usage(raw.clone()).unwrap();
        assert_eq!((usage.input, usage.output), (453, 7));
        assert_eq!((usage.cached_input, usage.cache_write, usage.raw), (Some(400), Some(50), raw));
    }

    #[test]
    fn nothing_counted_is_no_usage() {
        for raw in [Value::Null, json!({}), json!({"input_tokens": 0, "output_tokens": 0})] {
            assert_eq!(usage(raw), None);
        }
    }
}

//! The host's count of tokens.

use serde_json::Value;

use crate::Usage;

/// Reads a usage object; `None` for null and for objects that count nothing (a placeholder before the real report).
pub(super) fn usage(raw: Value) -> Option<Usage> {
    let number = |object: &Value, name: &str| object.get(name).and_then(Value::as_u64);
    let detail = |of: &str, name: &str| raw.get(of).and_then(|details| number(details, name));
    let input = number(&raw, "prompt_tokens").or_else(|| number(&raw, "input_tokens")).unwrap_or(0);
    let mut output = number(&raw, "completion_tokens").or_else(|| number(&raw, "output_tokens")).unwrap_or(0);
    if input == 0 && output == 0 {
        return None;
    }
    let cached_input = detail("prompt_tokens_details", "cached_tokens")
        .or_else(|| number(&raw, "prompt_cache_hit_tokens"))
        .or_else(|| number(&raw, "cached_tokens"));
    let cache_write = detail("prompt_tokens_details", "cache_write_tokens");
    let reasoning = detail("completion_tokens_details", "reasoning_tokens");
    // xAI counts reasoning beside the completion: then, and only then, the total says so.
    if let (Some(total), Some(reasoning)) = (number(&raw, "total_tokens"), reasoning)
        && reasoning > 0
        && total == input.saturating_add(output).saturating_add(reasoning)
    {
        output = output.saturating_add(reasoning);
    }
    Some(Usage { input, output, cached_input, cache_write, reasoning, raw })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reasoning_is_added_only_where_the_total_says_so() {
        let of = |total: u64| {
            usage(json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": total,
                "completion_tokens_details": {"reasoning_tokens": 3}}))
            .unwrap()
            .output
        };
        assert_eq!((of(15), of(18)), (5, 8));
    }

    #[test]
    fn placeholders_are_no_usage() {
        for raw in [Value::Null, json!({}), json!({"prompt_tokens": 0, "completion_tokens": 0}), json!("x")] {
            assert_eq!(usage(raw), None);
        }
    }
}

//! The Responses dialect's count of tokens.

use serde_json::Value;

use crate::Usage;

/// Reads a usage object; `None` where it counts nothing.
pub(super) fn usage(raw: Value) -> Option<Usage> {
    let number = |path: &str| raw.pointer(path).and_then(Value::as_u64);
    let (input, output) = (number("/input_tokens").unwrap_or(0), number("/output_tokens").unwrap_or(0));
    if input == 0 && output == 0 {
        return None;
    }
    Some(Usage {
        input,
        output,
        cached_input: number("/input_tokens_details/cached_tokens"),
        cache_write: number("/input_tokens_details/cache_write_tokens"),
        reasoning: number("/output_tokens_details/reasoning_tokens"),
        raw,
    })
}

//! Lists of models, in the form of every provider.

use serde_json::Value;

use crate::ModelInfo;

/// Reads `{data: [{id}]}`, `{models: [{name}]}`, or the bare array.
pub(crate) fn models(body: &[u8]) -> Option<Vec<ModelInfo>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let list = ["data", "models"].into_iter().find_map(|name| body.get(name)).unwrap_or(&body).as_array()?;
    Some(list.iter().filter_map(model).collect())
}

fn model(entry: &Value) -> Option<ModelInfo> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let number = |names: &[&str]| names.iter().find_map(|name| entry.pointer(name).and_then(Value::as_u64));
    // Gemini lists models that only embed; those that answer say so.
    let methods = entry.get("supportedGenerationMethods").and_then(Value::as_array);
    if methods.is_some_and(|methods| !methods.iter().any(|method| method == "generateContent")) {
        return None;
    }
    let name = text("id").or_else(|| text("name"))?;
    Some(ModelInfo {
        name: name.strip_prefix("models/").unwrap_or(name).to_owned(),
        display_name: text("display_name")
            .or_else(|| text("displayName"))
            .or_else(|| text("id").and_then(|_| text("name")))
            .map(str::to_owned),
        context_length: number(&[
            "/inputTokenLimit",
            "/max_input_tokens",
            "/context_length",
            "/context_window",
            "/max_context_length",
            "/max_model_len",
            "/meta/n_ctx",
            "/meta/n_ctx_train",
        ]),
        max_output: number(&[
            "/outputTokenLimit",
            "/max_output_tokens",
            "/max_tokens",
            "/max_completion_tokens",
            "/top_provider/max_completion_tokens",
        ]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_models_are_read_in_every_form() {
        let forms = [
            r#"{"object":"list","data":[{"id":"a"},{"id":"b"}]}"#,
            r#"{"models":[{"name":"a"},{"name":"models/b"}]}"#,
            r#"[{"id":"a"},{"id":"b"}]"#,
        ];
        for form in forms {
            let names: Vec<String> = models(form.as_bytes()).unwrap().into_iter().map(|model| model.name).collect();
            assert_eq!(names, ["a", "b"]);
        }
        assert_eq!(models(b"<html>"), None);
        assert_eq!(models(b"{\"error\":{}}"), None);
    }

    #[test]
    fn windows_are_read_where_the_provider_says_them() {
        let listed = models(include_bytes!("../tests/fixtures/gemini/models-list.json")).unwrap();
        let flash = listed.iter().find(|model| model.name == "gemini-2.5-flash").unwrap();
        assert_eq!((flash.context_length, flash.max_output), (Some(1_048_576), Some(65_536)));
        assert_eq!(flash.display_name.as_deref(), Some("Gemini 2.5 Flash"));
        assert!(!listed.iter().any(|model| model.name.contains("embedding")));
        let openrouter = br#"{"data":[{"id":"x/y","name":"X: Y","context_length":8192,"top_provider":{"max_completion_tokens":null}}]}"#;
        let model = models(openrouter).unwrap().remove(0);
        assert_eq!(
            (model.display_name.as_deref(), model.context_length, model.max_output),
            (Some("X: Y"), Some(8192), None)
        );
        let cerebras = models(include_bytes!("../tests/fixtures/cerebras/models-list.json")).unwrap();
        assert_eq!(cerebras.len(), 3);
    }
}

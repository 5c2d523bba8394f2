//! What a person prefers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The settings, in the contract's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// `system`, `light` or `dark`.
    pub theme: String,
    /// A language tag, for example `en` or `zh-CN`; none follows the browser.
    pub language: Option<String>,
    /// Whether the person's own pages encrypt messages.
    pub encrypt_messages: bool,
    /// Model of turns for which neither the request nor the session names one, `provider/name`.
    pub default_model_id: Option<String>,
    /// Whether a model may find the titles of sessions.
    pub auto_title: bool,
    /// What else clients keep here.
    pub custom: Map<String, Value>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: "system".to_owned(),
            language: None,
            encrypt_messages: false,
            default_model_id: None,
            auto_title: true,
            custom: Map::new(),
        }
    }
}

//! What is measured: the bare provider, or the product in front of it.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::http::Http;

/// What every chat asks. A few words, as most prompts are.
const PROMPT: &str = "Say something about the weather in one line.";

/// Where chats go.
#[derive(Clone, Debug)]
pub enum Target {
    /// The mock itself.
    Direct {
        /// `host:port`.
        host: String,
    },
    /// The product's own interface: each chat is the first turn of a session. The session has a title: finding one
    /// would be a second completion for each chat.
    Product {
        /// `host:port`.
        host: String,
        /// Access token.
        token: String,
    },
    /// The product as OpenAI's interface: stateless calls, all kept in the account's session of the day.
    OpenAi {
        /// `host:port`.
        host: String,
        /// Personal access token.
        token: String,
    },
}

impl Target {
    /// The product in both ways, with a new account.
    ///
    /// # Errors
    /// It can't be reached, or refuses to register anybody.
    pub async fn product(host: &str) -> Result<[Self; 2]> {
        let email = format!("bench-{}@example.org", crate::marks::now_us());
        let body = json!({"email": email, "password": "a bench needs no secret"});
        let answer = Http::new(host.to_owned(), None).post_json("/api/v1/auth/register", &body).await?;
        let token = answer["data"]["access_token"].as_str().context("no access token")?.to_owned();
        let mut http = Http::new(host.to_owned(), Some(token.clone()));
        let issued = http.post_json("/api/v1/users/me/tokens", &json!({"name": "bench"})).await?;
        let personal = issued["data"]["token"].as_str().context("no personal access token")?.to_owned();
        let host = host.to_owned();
        Ok([Self::Product { host: host.clone(), token }, Self::OpenAi { host, token: personal }])
    }

    /// A connection to it.
    pub fn connection(&self) -> Http {
        match self {
            Self::Direct { host } => Http::new(host.clone(), None),
            Self::Product { host, token } | Self::OpenAi { host, token } => {
                Http::new(host.clone(), Some(token.clone()))
            }
        }
    }

    /// What has to be there before a chat: the product's session.
    ///
    /// # Errors
    /// The product refuses.
    pub async fn prepare(&self, http: &mut Http) -> Result<Value> {
        match self {
            Self::Direct { .. } | Self::OpenAi { .. } => Ok(Value::Null),
            Self::Product { .. } => {
                let answer = http.post_json("/api/v1/sessions", &json!({"title": "Bench"})).await?;
                Ok(answer["data"]["id"].clone())
            }
        }
    }

    /// Path and body of a chat.
    pub fn chat(&self, model: &str, prepared: &Value) -> (&'static str, Value) {
        let completion = |model: &str| {
            let messages = json!([{"role": "user", "content": PROMPT}]);
            ("/v1/chat/completions", json!({"model": model, "stream": true, "messages": messages}))
        };
        match self {
            Self::Direct { .. } => completion(model),
            Self::OpenAi { .. } => completion(&format!("mock/{model}")),
            Self::Product { .. } => {
                let body = json!({"session_id": prepared, "content": PROMPT, "model_id": format!("mock/{model}")});
                ("/api/v1/chat/completions", body)
            }
        }
    }
}

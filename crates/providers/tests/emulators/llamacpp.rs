//! A real llama.cpp server, with a tiny model that talks nonsense: real chat, real streams, real counts, a real window.

use polyphony_domain::turn::Params;
use polyphony_providers::ModelInfo;

use super::*;

async fn peer() -> Option<Peer> {
    Peer::start(|emulators, folder, port| emulators.llamacpp(folder, port)).await
}

/// Its models, once the first one is loaded: until then it says that it is busy.
async fn loaded(peer: &Peer) -> Vec<ModelInfo> {
    let adapter = compatible("llamacpp", &peer.url("/v1"));
    for _ in 0..600 {
        match adapter.list_models(None).await {
            Err(error) if error.retryable() => tokio::time::sleep(Duration::from_millis(50)).await,
            listed => return listed.unwrap(),
        }
    }
    panic!("the model was not loaded within 30 s");
}

#[tokio::test]
async fn a_real_server_is_understood_in_two_dialects() {
    let Some(peer) = peer().await else { return };
    loaded(&peer).await;
    let sides = [compatible("llamacpp", &peer.url("/v1")), anthropic(&peer.url(""))];
    for adapter in sides {
        let params = Params { max_tokens: Some(12), seed: Some(1), ..Params::default() };
        let answer = ask(&*adapter, &asked("你好"), &Options { params, ..options("tiny") }).await.unwrap();
        assert!(["length", "stop"].contains(&answer.finish.as_str()), "{answer:?}");
        let usage = answer.usage.unwrap();
        // Its Anthropic dialect doesn't say the input where the first token, which differs between processors, is half a
        // character: its `message_start` is lost.
        assert!(usage.input > 0 || adapter.provider() == "anthropic", "{usage:?}");
        assert!((1..=12).contains(&usage.output), "{usage:?}");
        assert!(!answer.text.is_empty());
        let long = ask_patiently(&*adapter, &asked(&"many words ".repeat(400)), &options("tiny")).await;
        assert_eq!(kind(long), ErrorKind::ContextTooLong, "{}", adapter.provider());
    }
}

#[tokio::test]
async fn a_real_server_lists_its_model_with_its_window() {
    let Some(peer) = peer().await else { return };
    let models = loaded(&peer).await;
    let tiny = models.iter().find(|model| model.name == "tiny").unwrap();
    assert_eq!(tiny.context_length, Some(512));
}

//! The official SDKs work as they are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use polyphony_devstack::Sdks;
use polyphony_tests::{Client, Deployment, Peer, REDACTED, SIGNATURE, THOUGHT, eventually};
use serde_json::{Value, json};

use super::person;

/// Runs a script with the SDKs at hand; what it said, if it failed.
async fn run(script: &str, arguments: [String; 3]) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(script);
    said(path, arguments.to_vec()).await.err().map(|said| format!("{script}: {said}"))
}

/// What a script says, in whichever way it ends.
async fn said(path: PathBuf, arguments: Vec<String>) -> Result<String, String> {
    let output = tokio::task::spawn_blocking(move || {
        Sdks::install().unwrap().script(&path).unwrap().args(arguments).output().unwrap()
    });
    let output = output.await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// The model that signs its thoughts.
const THINKER: &str = "claude-sonnet-4-5";
/// The scripts of the official SDKs.
const SCRIPTS: [&str; 4] = ["openai_sdk.py", "anthropic_sdk.py", "openai_sdk.mjs", "anthropic_sdk.mjs"];

#[tokio::test]
async fn the_official_sdks_work_as_they_are() {
    let peer = Peer::start().await;
    let deployment = Deployment::with_peer(&peer).await;
    let all = deployment.start("all").await;
    let (person, token) = person(&all.url()).await;
    let session = person.session("demo/demo").await;
    let arguments = [all.url(), token.token, session.to_string()];
    let failed = futures::future::join_all(SCRIPTS.map(|script| run(script, arguments.clone()))).await;
    let failed: Vec<String> = failed.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // Tools, pictures and instructions reached the provider as they were meant.
    let asked = peer.asked();
    assert!(asked.iter().any(|body| body["tools"][0]["function"]["name"] == "weather"));
    let pictures = asked.iter().filter(|body| body.to_string().contains("data:image/png;base64,iVBOR"));
    assert_eq!(pictures.count(), 6);
    let results = asked.iter().flat_map(|body| body["messages"].as_array().unwrap());
    assert!(results.filter(|message| message["role"] == "tool").all(|message| message["content"] == "rain"));
    // Each shy model was asked until it answered, by the worker's tries and the SDK's own retry, and not once more.
    for sdk in ["openai of Python", "anthropic of Python", "openai of Node", "anthropic of Node"] {
        let asking = |body: &&Value| body["messages"][0]["content"] == format!("Are you there, {sdk}?");
        assert_eq!(asked.iter().filter(asking).count(), 4, "{sdk}");
    }
    // Thoughts go back to whom they belong, with the signature, and to nobody else.
    let holds = |body: &Value, what: &str| body["messages"].to_string().contains(what);
    let returned: Vec<&Value> = asked.iter().filter(|body| holds(body, SIGNATURE)).collect();
    assert_eq!(returned.len(), 6);
    for body in returned {
        assert_eq!((&body["model"], holds(body, THOUGHT), holds(body, REDACTED)), (&json!(THINKER), true, true));
        assert_eq!(body["thinking"]["type"], "enabled");
    }
    assert!(asked.iter().all(|body| body["model"] == THINKER || !holds(body, THOUGHT)));
    // Who hangs up leaves an answer that is made and kept.
    let kept = "SELECT count(*) FROM events WHERE event_type = 'answer_completed' \
                AND payload #>> '{answer_completed,record,model,name}' = 'demo-n300-i10'";
    eventually("what nobody waited for is complete", async || (deployment.count(kept).await == 8).then_some(())).await;
    assert_eq!(person.thread(session, true).await.len(), 16);
}

#[tokio::test]
async fn the_official_sdks_come_again_when_they_are_told_to() {
    let settings = [
        ("POLYPHONY_LIMITS__RELAXED", "false"),
        ("POLYPHONY_LIMITS__IN_FLIGHT", "1"),
        ("POLYPHONY_LIMITS__WAITING", "0"),
    ];
    let deployment = Deployment::new(&settings).await;
    let all = deployment.start("all").await;
    let url = all.url();
    let ((_, one), (_, other)) = tokio::join!(person(&url), person(&url));
    let arguments = |token: Client| [url.clone(), token.token, String::new()];
    let (python, node) = tokio::join!(run("busy_sdk.py", arguments(one)), run("busy_sdk.mjs", arguments(other)));
    assert_eq!((python, node), (None, None));
    // Two answers and two streams of each; what was refused left nothing.
    assert_eq!(deployment.count("SELECT count(*) FROM events WHERE event_type = 'prompt_posted'").await, 8);
}

/// The blocks of a section of the README in this language.
fn blocks<'a>(section: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    section.split(&begin).skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

#[tokio::test]
async fn the_lines_of_the_readme_work() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with("Use it from an SDK\n")).unwrap();
    let deployment = Deployment::new(&[]).await;
    let all = deployment.start("all").await;
    let person = Client::register(&all.url()).await;
    let mut curl = Command::new("bash");
    curl.args(["-c", blocks(section, "sh")[0]]);
    curl.env("API", format!("{}/api/v1", all.url())).env("TOKEN", &person.token);
    let output = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
    let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert!(token.starts_with("pat_"), "{token} {}", String::from_utf8_lossy(&output.stderr));
    let scripts = blocks(section, "python");
    assert_eq!(scripts.len(), 2);
    for (n, script) in scripts.into_iter().enumerate() {
        let script = script.replace("http://127.0.0.1:8080", &all.url()).replace("pat_…", &token);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{}-{n}.py", std::process::id()));
        fs::write(&path, script).unwrap();
        let said = said(path.clone(), vec![]).await;
        fs::remove_file(path).unwrap();
        assert!(said.as_ref().is_ok_and(|said| said.contains("You wrote “Hello!”")), "{said:?}");
    }
}

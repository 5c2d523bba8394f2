//! What each adapter carries, found out by asking it: the table of `docs/PROVIDERS.md`.

use std::{fmt::Write as _, fs, path::Path};

use polyphony_domain::{
    content::{Conversation, Media, MediaSource, Message, Part, Role, Tool, ToolCall, ToolChoice, ToolResult},
    turn::{Params, ResponseFormat},
};
use polyphony_providers::{Loss, Options};

use super::{Side, sides};

const BEGIN: &str = "<!-- matrix: written by a test -->\n";
const END: &str = "<!-- end of the matrix -->";

/// A feature, and what makes use of it.
type Feature = (&'static str, fn(&Side) -> Vec<Loss>);

fn losses(side: &Side, parts: Vec<Part>, options: Options) -> Vec<Loss> {
    let asked = Message { role: Role::User, parts, message_id: None, provider: None };
    side.adapter.render(&Conversation { system: None, messages: vec![asked] }, &options).losses
}

fn media(media_type: &str, source: MediaSource) -> Media {
    Media { media_type: media_type.into(), source }
}

fn inline() -> MediaSource {
    MediaSource::Inline("QUJD".into())
}

fn with(side: &Side, params: Params) -> Vec<Loss> {
    losses(side, vec![Part::text("hi")], Options { params, ..side.options() })
}

fn tools(side: &Side, choice: ToolChoice) -> Vec<Loss> {
    let tool = Tool { name: "f".into(), parameters: r#"{"type":"object"}"#.into(), ..Tool::default() };
    let options = Options { tools: vec![tool], tool_choice: Some(choice), ..side.options() };
    losses(side, vec![Part::text("hi")], options)
}

/// The side's own reasoning and call, with its result, in mid-conversation.
fn own_history(side: &Side) -> Vec<Loss> {
    let opaque = match side.name {
        "anthropic" => r#"{"type":"thinking","signature":"s"}"#,
        "openai (responses)" => r#"{"id":"rs","encrypted_content":"s"}"#,
        _ => "s",
    };
    let call = ToolCall { call_id: "a".into(), name: "f".into(), arguments: "{}".into(), opaque: None };
    let thought = Part::Reasoning { text: "hm".into(), opaque: Some(opaque.into()) };
    let provider = Some(side.adapter.provider().to_owned());
    let answered =
        Message { role: Role::Assistant, parts: vec![thought, Part::ToolCall(call)], message_id: None, provider };
    let result = ToolResult { call_id: "a".into(), name: "f".into(), content: "1".into(), is_error: false };
    let result = Message { parts: vec![Part::ToolResult(result)], ..Message::text(Role::User, "") };
    let messages = vec![Message::text(Role::User, "hi"), answered, result];
    let tool = Tool { name: "f".into(), parameters: r#"{"type":"object"}"#.into(), ..Tool::default() };
    let options = Options { tools: vec![tool], ..side.options() };
    side.adapter.render(&Conversation { system: None, messages }, &options).losses
}

fn instruction(side: &Side) -> Vec<Loss> {
    let messages = vec![
        Message::text(Role::User, "hi"),
        Message::text(Role::Assistant, "Hi."),
        Message::text(Role::System, "Be brief."),
        Message::text(Role::User, "go on"),
    ];
    side.adapter.render(&Conversation { system: None, messages }, &side.options()).losses
}

const FEATURES: [Feature; 17] = [
    ("pictures, inline", |it| losses(it, vec![Part::Image { media: media("image/png", inline()) }], it.options())),
    ("pictures by address", |it| {
        let url = MediaSource::Url("https://example.org/a.png".into());
        losses(it, vec![Part::Image { media: media("image/png", url) }], it.options())
    }),
    ("PDF, inline", |it| {
        losses(it, vec![Part::File { name: "a".into(), media: media("application/pdf", inline()) }], it.options())
    }),
    ("PDF by address", |it| {
        let url = MediaSource::Url("https://example.org/a.pdf".into());
        losses(it, vec![Part::File { name: "a".into(), media: media("application/pdf", url) }], it.options())
    }),
    ("tools", |it| tools(it, ToolChoice::Auto)),
    ("a tool required", |it| tools(it, ToolChoice::Named("f".into()))),
    ("its own reasoning and calls go back", own_history),
    ("instructions in mid-conversation", instruction),
    ("`reasoning_effort`", |it| with(it, Params { reasoning_effort: Some("low".into()), ..Params::default() })),
    ("`response_format`: a schema", |it| {
        let schema = ResponseFormat::JsonSchema { name: "s".into(), schema: "{}".into(), strict: None };
        with(it, Params { response_format: Some(schema), ..Params::default() })
    }),
    ("`response_format`: any JSON", |it| {
        with(it, Params { response_format: Some(ResponseFormat::JsonObject), ..Params::default() })
    }),
    ("`temperature`", |it| with(it, Params { temperature: Some(0.5), ..Params::default() })),
    ("`stop`", |it| with(it, Params { stop: vec!["END".into()], ..Params::default() })),
    ("`seed`", |it| with(it, Params { seed: Some(7), ..Params::default() })),
    ("penalties", |it| {
        with(it, Params { presence_penalty: Some(0.5), frequency_penalty: Some(0.5), ..Params::default() })
    }),
    ("`max_tokens`", |it| with(it, Params { max_tokens: Some(5_000), ..Params::default() })),
    ("tokens counted by the provider", |it| {
        let loss = Loss::of(polyphony_providers::LossKind::Parameter, "");
        if it.adapter.capabilities().count_tokens { vec![] } else { vec![loss] }
    }),
];

fn table() -> String {
    let sides = sides();
    let mut table = String::from("| |");
    for side in &sides {
        let _ = write!(table, " {}<br>`{}` |", side.name, side.model);
    }
    let _ = write!(table, "\n|---|{}\n", "---|".repeat(sides.len()));
    for (name, lost) in FEATURES {
        let _ = write!(table, "| {name} |");
        for side in &sides {
            table += if lost(side).is_empty() { " yes |" } else { " – |" };
        }
        table.push('\n');
    }
    table
}

#[test]
fn the_documented_matrix_is_what_the_adapters_do() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/PROVIDERS.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let table = table();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(written, table, "run `cargo xtask codegen`");
    }
}

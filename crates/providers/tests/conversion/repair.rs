//! Histories that no provider would take as they are: orphans, repeated ids, empty beginnings, erased texts.

use polyphony_domain::{
    content::{Citation, Conversation, Media, MediaSource, Message, Part, Role, ToolCall, ToolResult},
    personal::Personal,
    turn::{Params, ResponseFormat},
};
use polyphony_providers::{LossKind, Options};
use proptest::prelude::*;

use super::{sides, valid};

fn of(role: Role, parts: Vec<Part>) -> Message {
    Message {
        role,
        parts,
        message_id: None,
        provider: Some("anthropic".to_owned()).filter(|_| role == Role::Assistant),
    }
}

fn call(id: &str, arguments: &str) -> Part {
    // A name that some take.
    let name = if arguments == "[" { "f.g" } else { "f" };
    Part::ToolCall(ToolCall { call_id: id.into(), name: name.into(), arguments: arguments.into(), opaque: None })
}

fn result(id: &str) -> Part {
    Part::ToolResult(ToolResult { call_id: id.into(), name: "f".into(), content: "42".into(), is_error: false })
}

fn every_side_takes(messages: Vec<Message>, lost: &[LossKind]) {
    let conversation = Conversation { system: None, messages };
    for side in sides() {
        let rendered = side.adapter.render(&conversation, &side.options());
        valid::check(side.name, &serde_json::from_slice(&rendered.body).unwrap(), side.name);
        if side.converter.is_some() {
            for kind in lost {
                assert!(rendered.losses.iter().any(|loss| loss.kind == *kind), "{}: {kind:?} is unsaid", side.name);
            }
        }
    }
}

#[test]
fn orphans_are_repaired_and_said() {
    every_side_takes(
        vec![
            Message::text(Role::User, "hi"),
            of(Role::Assistant, vec![call("a", "{}")]),
            Message::text(Role::User, "so?"),
        ],
        &[LossKind::ToolCall],
    );
    every_side_takes(vec![of(Role::User, vec![result("nobody's")])], &[LossKind::ToolResult]);
    every_side_takes(
        vec![of(Role::User, vec![call("mine", "{}")]), Message::text(Role::User, "x")],
        &[LossKind::ToolCall],
    );
}

#[test]
fn names_that_a_target_refuses_are_rewritten_in_call_and_result() {
    let long = "x".repeat(200);
    for name in ["look up!", "寻找", "7z", "", "-", "default_api:search", "fs.read", long.as_str()] {
        let call = ToolCall { call_id: "a".into(), name: name.into(), ..ToolCall::default() };
        let result = ToolResult { call_id: "a".into(), name: name.into(), content: "42".into(), is_error: false };
        let lost: &[LossKind] = if name.contains(['!', '寻']) { &[LossKind::ToolCall] } else { &[] };
        every_side_takes(
            vec![
                Message::text(Role::User, "hi"),
                of(Role::Assistant, vec![Part::ToolCall(call)]),
                of(Role::User, vec![Part::ToolResult(result), Part::text("so?")]),
            ],
            lost,
        );
    }
}

#[test]
fn results_find_their_calls_wherever_they_stand() {
    every_side_takes(
        vec![
            Message::text(Role::User, "hi"),
            of(Role::Assistant, vec![call("a", "{}"), Part::text("wait"), call("b", "nonsense")]),
            Message::text(Role::User, "meanwhile"),
            of(Role::User, vec![result("b")]),
            of(Role::Assistant, vec![Part::text("hm")]),
            of(Role::User, vec![result("a")]),
            of(Role::Assistant, vec![call("a", "[1]")]),
            of(Role::User, vec![result("a"), Part::text("thanks")]),
        ],
        &[],
    );
}

#[test]
fn strange_beginnings_and_empty_or_erased_messages_are_taken() {
    every_side_takes(vec![Message::text(Role::Assistant, "Hello. "), Message::text(Role::Assistant, "More. ")], &[]);
    every_side_takes(vec![], &[]);
    every_side_takes(vec![Message::text(Role::User, "  "), Message::text(Role::User, "hi")], &[]);
    let erased = Part::Text { text: Personal::Erased };
    every_side_takes(vec![of(Role::User, vec![erased, Part::text("hi")])], &[LossKind::Message]);
    let source = Part::Citation(Citation { url: "https://example.org".into(), title: None });
    every_side_takes(
        vec![Message::text(Role::User, "hi"), of(Role::Assistant, vec![Part::text("x"), source])],
        &[LossKind::Citation],
    );
    let stored = Media { media_type: "image/png".into(), source: MediaSource::Stored(uuid::Uuid::nil()) };
    every_side_takes(vec![of(Role::User, vec![Part::Image { media: stored }])], &[LossKind::Image]);
}

#[test]
fn a_refusal_that_was_shown_is_not_said_twice() {
    let refusal = Part::Refusal { text: "I can't.".into() };
    let answered = of(Role::Assistant, vec![Part::text("I can't."), refusal]);
    let conversation = Conversation { system: None, messages: vec![Message::text(Role::User, "hi"), answered] };
    for side in sides().into_iter().filter(|side| side.converter.is_some()) {
        let written = side.body(&conversation, &side.options()).to_string();
        assert_eq!(written.matches("I can't.").count(), 1, "{}", side.name);
    }
}

#[test]
fn every_parameter_is_sent_or_its_loss_is_said() {
    let params = Params {
        temperature: Some(0.7),
        top_p: Some(0.9),
        max_tokens: Some(5_000),
        stop: vec!["END".into()],
        presence_penalty: Some(0.5),
        frequency_penalty: Some(0.5),
        seed: Some(7),
        reasoning_effort: Some("low".into()),
        response_format: Some(ResponseFormat::JsonSchema { name: "s".into(), schema: "{}".into(), strict: Some(true) }),
        parallel_tool_calls: None,
    };
    let conversation = Conversation { system: None, messages: vec![Message::text(Role::User, "hi")] };
    for side in sides() {
        let options = Options { params: params.clone(), ..side.options() };
        let rendered = side.adapter.render(&conversation, &options);
        let written = String::from_utf8(rendered.body.to_vec()).unwrap();
        let said = |name: &str| rendered.losses.iter().any(|loss| loss.reason.starts_with(name));
        for (name, value) in [("temperature", "0.7"), ("top_p", "0.9"), ("stop", "END"), ("seed", ":7")] {
            assert!(
                written.contains(value) || said(name) || side.converter.is_none(),
                "{}: {name}: {written}",
                side.name
            );
        }
        assert!(written.contains("5000"), "{}", side.name);
    }
}

fn part() -> impl Strategy<Value = Part> {
    let id = prop::sample::select(vec!["", "a", "b", "an id with blanks", "x2"]);
    prop_oneof![
        "[a 你\n]{0,5}".prop_map(Part::text),
        (id.clone(), prop::sample::select(vec!["{}", "", "[", "{\"x\":1}"])).prop_map(|(id, it)| call(id, it)),
        id.prop_map(result),
        any::<bool>().prop_map(|signed| Part::Reasoning {
            text: "hm".into(),
            opaque: signed.then(|| r#"{"type":"thinking","signature":"s"}"#.into()),
        }),
        Just(Part::Refusal { text: "no".into() }),
        Just(Part::Image {
            media: Media { media_type: "image/png".into(), source: MediaSource::Inline("QQ==".into()) }
        }),
    ]
}

fn any_message() -> impl Strategy<Value = Message> {
    let role = prop::sample::select(vec![Role::User, Role::Assistant, Role::System]);
    (role, prop::collection::vec(part(), 0..5)).prop_map(|(role, parts)| of(role, parts))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_history_becomes_a_valid_request(messages in prop::collection::vec(any_message(), 0..8)) {
        let conversation = Conversation { system: None, messages };
        for side in sides() {
            let body = side.body(&conversation, &side.options());
            valid::check(side.name, &body, side.name);
        }
    }
}

//! The OpenAI chat dialect on the wire, read leniently: unknown fields are ignored, missing ones are empty, and a
//! field of an unexpected type is empty too instead of spoiling the whole chunk.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default)]
    pub(super) choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    pub(super) usage: Option<Value>,
    #[serde(default)]
    pub(super) error: Option<Value>,
    #[serde(default)]
    pub(super) x_groq: Option<Groq>,
    /// Addresses of sources.
    #[serde(default)]
    pub(super) citations: Option<Value>,
    /// An error's own fields, from hosts that don't wrap them (`object: "error"`, `message`, `detail`).
    #[serde(borrow, default)]
    pub(super) object: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) message: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) detail: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) code: Loose<'a>,
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Loose<'a>,
}

#[derive(Deserialize)]
pub(super) struct Groq {
    #[serde(default)]
    pub(super) usage: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(borrow, default)]
    pub(super) index: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) delta: Option<Delta<'a>>,
    /// Where a whole answer came instead of a stream.
    #[serde(borrow, default)]
    pub(super) message: Option<Delta<'a>>,
    #[serde(borrow, default)]
    pub(super) finish_reason: Loose<'a>,
    /// The text that ended it, as vLLM says it; a number where it was a token.
    #[serde(borrow, default)]
    pub(super) stop_reason: Loose<'a>,
    /// The same, as SGLang says it.
    #[serde(borrow, default)]
    pub(super) matched_stop: Loose<'a>,
    /// Moonshot reports it inside the choice.
    #[serde(default)]
    pub(super) usage: Option<Value>,
}

#[derive(Default, Deserialize)]
pub(super) struct Delta<'a> {
    /// A string, or Mistral's array of parts.
    #[serde(borrow, default)]
    pub(super) content: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) reasoning_content: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) reasoning: Loose<'a>,
    /// OpenRouter's form; the text stands in `reasoning` as well.
    #[serde(borrow, default)]
    pub(super) reasoning_details: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) refusal: Loose<'a>,
    /// Sources.
    #[serde(default)]
    pub(super) annotations: Option<Value>,
    /// Of models that speak.
    #[serde(default)]
    pub(super) audio: Option<Value>,
    #[serde(borrow, default)]
    pub(super) tool_calls: Option<Vec<ToolFragment<'a>>>,
    /// The form before `tool_calls`.
    #[serde(borrow, default)]
    pub(super) function_call: Option<FunctionFragment<'a>>,
}

#[derive(Deserialize)]
pub(super) struct ToolFragment<'a> {
    #[serde(borrow, default)]
    pub(super) index: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) id: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) function: Option<FunctionFragment<'a>>,
}

#[derive(Deserialize)]
pub(super) struct FunctionFragment<'a> {
    #[serde(borrow, default)]
    pub(super) name: Loose<'a>,
    /// Text, or an object from hosts that don't stream it.
    #[serde(default)]
    pub(super) arguments: Option<Value>,
}

/// A part of a content array, as Mistral sends them: `{type: "text", text}` or `{type: "thinking", thinking: […]}`.
#[derive(Deserialize)]
pub(super) struct ContentPart<'a> {
    #[serde(borrow, default)]
    pub(super) text: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) thinking: Loose<'a>,
}

/// A field that should be a string (or a small number, or content parts), whatever a host makes of it.
#[derive(Default)]
pub(super) enum Loose<'a> {
    /// Missing, null, or of no use.
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Number(u64),
    Parts(Vec<ContentPart<'a>>),
}

impl Loose<'_> {
    /// The text; empty for anything else.
    pub(super) fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_ref()),
            Self::Number(number) => Value::from(*number),
            Self::Nothing | Self::Parts(_) => Value::Null,
        }
    }

    /// The number, also when it's written as text.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            Self::Nothing | Self::Parts(_) => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Loose<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Loose<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Loose::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Loose::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Loose::Number(number))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Loose::Nothing)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Loose::Nothing)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Loose::Nothing)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Loose::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut parts = Vec::new();
                while let Some(element) = sequence.next_element::<Loose<'de>>()? {
                    match element {
                        Loose::Parts(part) => parts.extend(part),
                        text @ Loose::Text(_) => parts.push(ContentPart { text, thinking: Loose::Nothing }),
                        Loose::Nothing | Loose::Number(_) => {}
                    }
                }
                Ok(Loose::Parts(parts))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                ContentPart::deserialize(MapAccessDeserializer::new(map)).map(|part| Loose::Parts(vec![part]))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// The chunk without the fields that have another form than they should; `None` if it's no JSON at all.
pub(super) fn tidy(data: &str) -> Option<String> {
    let mut chunk: Value = serde_json::from_str(data).ok()?;
    drop_unless(&mut chunk, "x_groq", Value::is_object);
    drop_unless(&mut chunk, "choices", Value::is_array);
    for choice in objects(&mut chunk, "choices") {
        for name in ["delta", "message"] {
            drop_unless(choice, name, Value::is_object);
            let Some(delta) = choice.get_mut(name) else { continue };
            drop_unless(delta, "function_call", Value::is_object);
            drop_unless(delta, "tool_calls", Value::is_array);
            objects(delta, "tool_calls").iter_mut().for_each(|call| drop_unless(call, "function", Value::is_object));
        }
    }
    Some(chunk.to_string())
}

fn drop_unless(object: &mut Value, name: &str, fits: fn(&Value) -> bool) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(name).is_some_and(|value| !fits(value))
    {
        fields.remove(name);
    }
}

/// The objects of a list, which keeps nothing else.
fn objects<'a>(object: &'a mut Value, name: &str) -> &'a mut [Value] {
    let Some(list) = object.get_mut(name).and_then(Value::as_array_mut) else { return &mut [] };
    list.retain(Value::is_object);
    list
}

//! What travels: jobs and chunk states as JSON, chunk frames in a few bytes, since they are the hottest path.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use polyphony_domain::{
    chunk_map::{ChunkKind, ChunkMap},
    ids::{AccountId, AnswerId, SessionId, TurnId},
};
use serde::{Deserialize, Serialize};

/// Which workers a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobClass {
    /// A person waits.
    Interactive,
}

impl JobClass {
    /// The word in subjects and consumer names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
        }
    }
}

/// An answer to be made. It says where to look, not what to do: the log says that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The answer.
    pub answer_id: AnswerId,
    /// Its turn.
    pub turn_id: TurnId,
    /// Its session.
    pub session_id: SessionId,
    /// Whose.
    pub owner_id: AccountId,
    /// How often it has been issued, this time included.
    pub issue: u32,
    /// When the answer was asked for, Unix milliseconds.
    pub requested_at_ms: i64,
    /// Whether the prompt may have brought its conversation with it, so that the session's isn't needed. Only a hint where
    /// to look first.
    #[serde(default = "yes")]
    pub may_stand_alone: bool,
}

const fn yes() -> bool {
    true
}

/// What a frame carries. The JSON bodies are the `data` of the contract's events, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkBody {
    /// A piece of the answer, UTF-8.
    Text(Bytes),
    /// A piece of the reasoning, UTF-8.
    Reasoning(Bytes),
    /// JSON of `restart`: forget what came before.
    Restart(Bytes),
    /// JSON of `done`.
    Done(Bytes),
    /// JSON of `error`.
    Error(Bytes),
}

/// Why nothing comes of an answer for a while. It has no number: who misses it misses nothing of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The attempt that waits.
    pub attempt: u32,
    /// Until when, Unix milliseconds.
    pub until_ms: i64,
    /// A word for why: `rate_limited`, `overloaded` or `provider_failed`.
    pub reason: String,
}

/// What is said about an answer while it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A piece of it, or its end.
    Frame(ChunkFrame),
    /// That it waits.
    Waiting(Waiting),
}

/// Kind of what isn't a frame.
const WAITING: u8 = b'w';

impl Said {
    /// A frame as it is, or the kind and JSON.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Frame(frame) => frame.encode(),
            Self::Waiting(waiting) => {
                let json = serde_json::to_vec(waiting).unwrap_or_default();
                [&[WAITING][..], &json].concat().into()
            }
        }
    }

    /// Reads what was said; `None` for rubbish.
    pub fn decode(bytes: Bytes) -> Option<Self> {
        match bytes.first() {
            Some(&WAITING) => Some(Self::Waiting(serde_json::from_slice(&bytes[1..]).ok()?)),
            _ => ChunkFrame::decode(bytes).map(Self::Frame),
        }
    }
}

/// One chunk on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkFrame {
    /// Attempt, from 1.
    pub attempt: u32,
    /// Number within the attempt; 0 for `restart`, one more than the last chunk's for the end.
    pub n: u32,
    /// What it carries.
    pub body: ChunkBody,
}

const HEADER: usize = 9;

impl ChunkFrame {
    /// Kind, attempt and number in nine bytes, then the body.
    pub fn encode(&self) -> Bytes {
        let (kind, body) = match &self.body {
            ChunkBody::Text(body) => (b't', body),
            ChunkBody::Reasoning(body) => (b'r', body),
            ChunkBody::Restart(body) => (b's', body),
            ChunkBody::Done(body) => (b'd', body),
            ChunkBody::Error(body) => (b'e', body),
        };
        let mut frame = BytesMut::with_capacity(HEADER + body.len());
        frame.put_u8(kind);
        frame.put_u32(self.attempt);
        frame.put_u32(self.n);
        frame.extend_from_slice(body);
        frame.freeze()
    }

    /// Reads a frame; `None` for what isn't one.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < HEADER {
            return None;
        }
        let (kind, attempt, n) = (bytes.get_u8(), bytes.get_u32(), bytes.get_u32());
        std::str::from_utf8(&bytes).ok()?;
        let body = match kind {
            b't' => ChunkBody::Text(bytes),
            b'r' => ChunkBody::Reasoning(bytes),
            b's' => ChunkBody::Restart(bytes),
            b'd' => ChunkBody::Done(bytes),
            b'e' => ChunkBody::Error(bytes),
            _ => return None,
        };
        Some(Self { attempt, n, body })
    }

    /// Whether it ends the stream.
    pub const fn is_end(&self) -> bool {
        matches!(self.body, ChunkBody::Done(_) | ChunkBody::Error(_))
    }
}

/// Everything that a running attempt has shown: what a viewer needs who comes late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkState {
    /// The attempt.
    pub attempt: u32,
    /// Name of the model that it asks.
    #[serde(default)]
    pub model: String,
    /// The text so far.
    pub text: String,
    /// The reasoning so far.
    pub reasoning: String,
    /// How both were cut.
    pub chunks: ChunkMap,
    /// What it waits for, where it does.
    #[serde(default)]
    pub waiting: Option<Waiting>,
}

impl ChunkState {
    /// The frames after number `after`, as they were sent.
    pub fn frames_after(&self, after: u32) -> impl Iterator<Item = ChunkFrame> + '_ {
        self.chunks.cut(&self.text, &self.reasoning).filter(move |(n, ..)| *n > after).map(|(n, kind, piece)| {
            let piece = Bytes::copy_from_slice(piece.as_bytes());
            let body = if kind == ChunkKind::Text { ChunkBody::Text(piece) } else { ChunkBody::Reasoning(piece) };
            ChunkFrame { attempt: self.attempt, n, body }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire_and_rubbish_is_refused() {
        for body in [ChunkBody::Text("你好".into()), ChunkBody::Reasoning("".into()), ChunkBody::Done("{}".into())] {
            let frame = ChunkFrame { attempt: 2, n: 7, body };
            assert_eq!(ChunkFrame::decode(frame.encode()), Some(frame.clone()));
            assert_eq!(Said::decode(frame.encode()), Some(Said::Frame(frame)));
        }
        let waiting = Said::Waiting(Waiting { attempt: 1, until_ms: 5, reason: "overloaded".into() });
        assert_eq!(Said::decode(waiting.encode()), Some(waiting.clone()));
        // A node of an older version passes it over.
        assert_eq!(ChunkFrame::decode(waiting.encode()), None);
        assert_eq!(Said::decode(Bytes::from_static(b"w{")), None);
        for rubbish in [&b""[..], b"t1234", b"x\0\0\0\x01\0\0\0\x01a", b"t\0\0\0\x01\0\0\0\x01\xff"] {
            assert_eq!(ChunkFrame::decode(Bytes::from_static(rubbish)), None);
        }
    }
}

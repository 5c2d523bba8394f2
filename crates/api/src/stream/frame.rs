//! Server-sent events as the contract has them. One JSON object on one line, so no text can forge an event.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use polyphony_bus::wire::{ChunkBody, ChunkFrame};
use serde::Serialize;
use uuid::Uuid;

/// The id of an event: `<attempt>.<n>`, with the answer before it where a stream carries several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameId {
    pub lane: Option<Uuid>,
    pub attempt: u32,
    pub n: u32,
}

impl FrameId {
    fn write(self, into: &mut BytesMut) {
        let Self { lane, attempt, n } = self;
        let _ = match lane {
            Some(lane) => writeln!(into, "id: {lane}:{attempt}.{n}"),
            None => writeln!(into, "id: {attempt}.{n}"),
        };
    }
}

/// `data` of `stream` and `reasoning`.
#[derive(Serialize)]
struct Piece<'a> {
    message_id: Uuid,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
}

/// Writes one event.
pub fn event(into: &mut BytesMut, id: Option<FrameId>, event: &str, data: &[u8]) {
    if let Some(id) = id {
        id.write(into);
    }
    let _ = write!(into, "event: {event}\ndata: ");
    into.put_slice(data);
    into.put_slice(b"\n\n");
}

/// Writes a frame.
pub fn frame(into: &mut BytesMut, lane: Option<Uuid>, message_id: Uuid, model: &str, frame: &ChunkFrame) {
    let id = Some(FrameId { lane, attempt: frame.attempt, n: frame.n });
    match &frame.body {
        ChunkBody::Text(text) => {
            let content = std::str::from_utf8(text).unwrap_or_default();
            piece(into, id, "stream", &Piece { message_id, content, model: Some(model) });
        }
        ChunkBody::Reasoning(text) => {
            let content = std::str::from_utf8(text).unwrap_or_default();
            piece(into, id, "reasoning", &Piece { message_id, content, model: None });
        }
        ChunkBody::Restart(data) => event(into, id, "restart", data),
        ChunkBody::Done(data) => event(into, id, "done", data),
        ChunkBody::Error(data) => event(into, id, "error", data),
    }
}

fn piece(into: &mut BytesMut, id: Option<FrameId>, name: &str, piece: &Piece<'_>) {
    if let Some(id) = id {
        id.write(into);
    }
    let _ = write!(into, "event: {name}\ndata: ");
    // Straight into the buffer: this is what happens once for every token.
    if serde_json::to_writer((&mut *into).writer(), piece).is_err() {
        into.put_slice(b"{}");
    }
    into.put_slice(b"\n\n");
}

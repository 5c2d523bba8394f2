//! Server-sent events as the contract has them. One JSON object on one line, so no text can forge an event.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use polyphony_bus::wire::{ChunkBody, ChunkFrame};
use serde::Serialize;
use uuid::Uuid;

/// `data` of `stream` and `reasoning`.
#[derive(Serialize)]
struct Piece<'a> {
    message_id: Uuid,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
}

/// Writes one event.
pub fn event(into: &mut BytesMut, id: Option<(u32, u32)>, event: &str, data: &[u8]) {
    if let Some((attempt, n)) = id {
        let _ = writeln!(into, "id: {attempt}.{n}");
    }
    let _ = write!(into, "event: {event}\ndata: ");
    into.put_slice(data);
    into.put_slice(b"\n\n");
}

/// Writes a frame.
pub fn frame(into: &mut BytesMut, message_id: Uuid, model: &str, frame: &ChunkFrame) {
    let id = Some((frame.attempt, frame.n));
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

fn piece(into: &mut BytesMut, id: Option<(u32, u32)>, name: &str, piece: &Piece<'_>) {
    if let Some((attempt, n)) = id {
        let _ = writeln!(into, "id: {attempt}.{n}");
    }
    let _ = write!(into, "event: {name}\ndata: ");
    // Straight into the buffer: this is what happens once for every token.
    if serde_json::to_writer((&mut *into).writer(), piece).is_err() {
        into.put_slice(b"{}");
    }
    into.put_slice(b"\n\n");
}

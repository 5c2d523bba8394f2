//! The running attempt as others may see it: the text so far and how it was cut into chunks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use polyphony_bus::wire::{ChunkState, Waiting};
use polyphony_domain::chunk_map::{ChunkKind, ChunkMap};

/// What has been streamed so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// The attempt.
    pub(super) attempt: u32,
    /// The name of the model that is asked.
    pub(super) model: String,
    /// The answer's text.
    pub(super) text: String,
    /// The reasoning.
    pub(super) reasoning: String,
    /// How both were cut.
    pub(super) chunks: ChunkMap,
    /// What it waits for, where it does.
    pub(super) waiting: Option<Waiting>,
}

/// Shared between the attempt that writes it and the task that answers `chunkstate` requests.
#[derive(Clone, Default)]
pub(super) struct Live(Arc<Mutex<Shown>>);

impl Live {
    pub(super) fn lock(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another attempt begins: what was shown is forgotten.
    pub(super) fn begin(&self, attempt: u32, model: &str) {
        *self.lock() = Shown { attempt, model: model.to_owned(), ..Shown::default() };
    }
}

impl From<Shown> for ChunkState {
    fn from(shown: Shown) -> Self {
        let Shown { attempt, model, text, reasoning, chunks, waiting } = shown;
        Self { attempt, model, text, reasoning, chunks, waiting }
    }
}

impl Shown {
    /// Adds a chunk; returns its number.
    pub(super) fn push(&mut self, kind: ChunkKind, piece: &str) -> u32 {
        let whole = if kind == ChunkKind::Text { &mut self.text } else { &mut self.reasoning };
        whole.push_str(piece);
        self.chunks.push(kind, piece.len());
        self.waiting = None;
        self.chunks.len()
    }
}

//! Completion worker.

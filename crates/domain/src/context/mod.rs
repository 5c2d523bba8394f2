//! The context of a model: which part of a conversation it is shown, and what that leaves out.
//!
//! [`History`] is a session's turns, [`Thread`] the conversation along one branch of them, [`plan()`] decides what fits
//! a [`Window`], [`Thread::shown`] is the conversation that this leaves, and [`Receipt`] says what was done. All of it
//! is pure: tokens are counted elsewhere and come in as numbers.

mod history;
mod messages;
mod order;
mod pairs;
mod plan;
mod receipt;
mod shown;
mod size;
mod summary;
#[cfg(test)]
mod tests;
mod thread;
mod window;
mod words;

pub use self::{
    history::History,
    order::summariser,
    pairs::Mended,
    plan::{Cover, Fate, MARK_TOKENS, Piece, Plan, TooLong, plan},
    receipt::{Change, Converted, Receipt, ReceiptPart, Shown},
    size::{Texts, estimate, texts_of, texts_of_tools},
    summary::{MOST_OUTPUT, Range, Summary, transcript},
    thread::{Entry, Thread},
    window::Window,
    words::Language,
};

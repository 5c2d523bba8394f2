//! Read models: what they are made of, how they follow the log, how they are read and built anew.
//!
//! A projection applies a batch of events and its checkpoint in one transaction. It follows the event stream for
//! speed and the log for truth. Queries show a caller everything that the caller has written.

mod checkpoint;
mod error;
mod freshness;
pub mod message_thread;
mod model;
mod past;
pub mod reads;
pub mod rebuild;
pub mod runner;
pub mod session_list;
#[cfg(test)]
mod tests;
mod typed;
pub mod usage;
pub mod vitals;

pub use self::{
    error::ProjectionError,
    message_thread::{MessagePage, MessageRow},
    past::{Moment, NoMoment, Occurred},
    reads::{Page, ReadModels, SessionQuery},
    session_list::SessionRow,
    usage::{KeyUsage, Overview, Period},
};

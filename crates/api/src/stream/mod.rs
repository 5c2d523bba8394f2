//! Streams to viewers: one subscription per node, fanned out in process; resumed from the worker or from the log.

mod frame;
mod hub;
mod position;
mod viewer;

pub use self::{
    hub::{Ear, Hub, run as run_hub},
    position::Position,
    viewer::{Viewing, last_event_id, sse, wait_for_end},
};

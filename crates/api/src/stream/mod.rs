//! Streams to viewers: one subscription per node, fanned out in process; resumed from the worker or from the log.

mod follower;
mod frame;
mod hub;
mod lanes;
mod position;
mod resume;
mod viewer;

pub use self::{
    follower::{Follower, Viewing, wait_for_end},
    hub::{Ear, Hub, run as run_hub},
    lanes::{Lane, sse_lanes},
    resume::Resume,
    viewer::{HEARTBEAT, heartbeat, respond, sse},
};

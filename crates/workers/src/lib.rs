//! The background roles: the completion worker with what follows an answer, the relay of the log, and the sweeper of forgotten answers.
//!
//! Nothing here is right because of a message: a job is a hint, and every step is fenced in Postgres.

pub mod completion;
mod follow_up;
pub mod forget;
pub mod relay;
pub mod routing;
pub mod sweeper;

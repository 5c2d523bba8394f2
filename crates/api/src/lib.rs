//! The HTTP interface. Thin: handlers check, the domain decides, the store writes; streams come from the bus.

mod auth;
mod docs;
mod error;
mod extract;
mod idempotency;
mod limit;
mod middleware;
mod respond;
mod routes;
mod server;
mod shapes;
mod state;
mod stream;

pub use self::{
    docs::openapi_json,
    server::{ServeError, serve, serve_metrics},
    state::Deps,
};

//! The two routes: `/ping`, and `/` for everything else.

use std::sync::Arc;

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    engine::{Engine, EngineError},
    request::Statement,
};

/// A request is held in memory whole.
const MAX_BODY: usize = 1 << 30;

struct Server {
    engine: Arc<Engine>,
    slots: Semaphore,
}

/// The server's routes.
pub fn router(engine: Arc<Engine>, concurrency: u32) -> Router {
    let slots = Semaphore::new(concurrency.max(1) as usize);
    Router::new()
        .route("/ping", get(|| async { "Ok.\n" }))
        .route("/", get(run).post(run))
        .with_state(Arc::new(Server { engine, slots }))
}

async fn run(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return (StatusCode::BAD_REQUEST, "the request's body is broken off or too large\n").into_response();
    };
    let statement = match Statement::parse(parts.uri.query().unwrap_or_default(), &parts.headers, body) {
        Ok(statement) if statement.sql.trim().is_empty() => return "Ok.\n".into_response(),
        Ok(statement) => statement,
        Err(error) => {
            return EngineError(format!("Code: 36. DB::Exception: {error:#}. (BAD_ARGUMENTS)")).into_response();
        }
    };
    // The semaphore is never closed.
    let _slot = server.slots.acquire().await;
    let engine = Arc::clone(&server.engine);
    match spawn_blocking(move || engine.run(&statement)).await {
        Ok(Ok(output)) => output.into_response(),
        Ok(Err(error)) => error.into_response(),
        Err(error) => EngineError(format!("Code: 1001. DB::Exception: {error}. (STD_EXCEPTION)")).into_response(),
    }
}

//! ClickHouse's HTTP interface in front of `libchdb`, the ClickHouse engine as a library; for development and tests.
//!
//! It speaks what the `clickhouse` crate and `curl` need, buffers requests and results whole, and knows neither users
//! nor encryption: it listens on loopback only. Production uses the real server.

mod engine;
mod ffi;
mod http;
mod lz4;
mod multipart;
mod request;
mod response;
mod sql;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// ClickHouse's HTTP interface in front of libchdb; for development and tests.
#[derive(Parser)]
struct Options {
    /// Path of libchdb.so.
    #[arg(long)]
    library: PathBuf,
    /// Folder of the tables. One process only.
    #[arg(long)]
    data_dir: PathBuf,
    /// Loopback address to listen on.
    #[arg(long)]
    listen: SocketAddr,
    /// Statements that run at the same time; others wait.
    #[arg(long, default_value_t = 8)]
    concurrency: u32,
}

fn main() -> Result<()> {
    let options = Options::parse();
    // There are no passwords, and `file()` reads what this account can read.
    ensure!(options.listen.ip().is_loopback(), "{} is not a loopback address", options.listen);
    let engine = engine::Engine::open(&options.library, &options.data_dir)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let served = runtime.block_on(serve(&options, Arc::clone(&engine)));
    // Whatever statement still runs after the grace of the connections is cut off by the exit.
    drop(runtime);
    engine.close();
    served
}

async fn serve(options: &Options, engine: Arc<engine::Engine>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener =
        TcpListener::bind(options.listen).await.with_context(|| format!("listening on {}", options.listen))?;
    let app = http::router(engine, options.concurrency);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
        .context("serving")
}

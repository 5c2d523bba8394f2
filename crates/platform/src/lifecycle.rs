//! Starting and stopping: the first signal asks to finish, the second ends.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Two-stage shutdown, driven by SIGINT and SIGTERM.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Cancelled by the first signal: take nothing new, finish what runs.
    pub soft: CancellationToken,
    /// Cancelled by the second: end now.
    pub hard: CancellationToken,
}

impl Shutdown {
    /// Listens for the signals.
    ///
    /// # Errors
    /// The process can't have signal handlers.
    pub fn on_signals() -> std::io::Result<Self> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let shutdown = Self::default();
        let tokens = shutdown.clone();
        tokio::spawn(async move {
            for token in [tokens.soft, tokens.hard] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                tracing::info!("stopping");
                token.cancel();
            }
        });
        Ok(shutdown)
    }
}

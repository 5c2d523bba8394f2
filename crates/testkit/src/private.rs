//! A server of one test alone, which it may stop, kill and rob of its data.

use std::path::Path;

use polyphony_devstack::{
    Part, Stack,
    process::{Signal, send},
};

use crate::{
    ok,
    servers::{Server, start},
};

/// Megabytes of a small disk: what an empty server takes, and some.
const SMALL_DISK: u32 = 160;

/// One server, stopped and removed when dropped. Its port and password stay the same while it is started again.
pub struct Private {
    stack: Stack,
    server: Server,
}

/// A NATS server of its own; starts in a fraction of a second.
///
/// # Panics
/// When it can't be started.
pub async fn private_nats() -> Private {
    private(Server::Nats, None).await
}

/// A Postgres of its own, with an empty database; see [`crate::migrate`].
///
/// # Panics
/// When it can't be started.
pub async fn private_postgres() -> Private {
    private(Server::Postgres, None).await
}

/// A ClickHouse engine of its own.
///
/// # Panics
/// When it can't be started.
pub async fn private_clickhouse() -> Private {
    private(Server::Clickhouse, None).await
}

/// Postgres and NATS with their data on small disks, see [`Private::fill_disk`]. Linux only.
///
/// # Panics
/// When they can't be started.
pub async fn private_on_small_disks() -> (Private, Private) {
    let on = |server| private(server, Some(SMALL_DISK));
    tokio::join!(on(Server::Postgres), on(Server::Nats))
}

async fn private(server: Server, small_disk: Option<u32>) -> Private {
    let stack = blocking(move || start(server, small_disk)).await;
    Private { stack, server }
}

/// Runs what blocks without holding up the test's other tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> T {
    ok(tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.into())))
}

impl Private {
    /// Where clients connect.
    pub fn url(&self) -> &str {
        self.part().url()
    }

    /// Starts it again and waits until it is ready.
    ///
    /// # Panics
    /// When it runs or doesn't start.
    pub fn start(&self) {
        ok(self.part().start());
    }

    /// Stops it gracefully.
    ///
    /// # Panics
    /// When it can't be waited for.
    pub fn stop(&self) {
        ok(self.part().stop());
    }

    /// Kills it, as `kill -9`.
    ///
    /// # Panics
    /// When it can't be waited for.
    pub fn kill9(&self) {
        ok(self.part().kill());
    }

    /// Has it stand still, as a machine that is out of breath; nothing happens when it doesn't run.
    ///
    /// # Panics
    /// When it can't be reached.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it can't be reached.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            ok(send(pid, signal));
        }
    }

    /// Deletes its data, as a lost disk would. It must be stopped.
    ///
    /// # Panics
    /// When it runs.
    pub fn delete_data(&self) {
        ok(self.part().delete_data());
    }

    /// Fills its small disk up.
    ///
    /// # Panics
    /// When it doesn't run or has none.
    pub fn fill_disk(&self) {
        ok(self.part().fill_disk());
    }

    /// Makes room on its small disk.
    ///
    /// # Panics
    /// When it doesn't run or has none.
    pub fn free_disk(&self) {
        ok(self.part().free_disk());
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.part().pid()
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        self.part().log()
    }

    fn part(&self) -> &Part {
        let part = match self.server {
            Server::Postgres => self.stack.postgres(),
            Server::Nats => self.stack.nats(),
            Server::Clickhouse => self.stack.clickhouse(),
        };
        ok(part.ok_or_else(|| anyhow::anyhow!("a private stack has its one server")))
    }
}

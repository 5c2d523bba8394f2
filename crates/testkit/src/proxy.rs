//! A TCP proxy that misbehaves on demand: it stands between a role and what the role talks to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::sleep,
};

use crate::ok;

/// Most bytes carried at a time.
const BUFFER: usize = 16 * 1024;
/// Bytes that wait at the proxy at most, on their way from a server.
const RECEIVE_BUFFER: u32 = 64 * 1024;
/// How often a silenced connection looks whether it may speak again.
const LOOK: Duration = Duration::from_millis(5);

/// Which way bytes go that a conduct is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Both.
    #[default]
    Both,
    /// From the server to the client.
    Down,
    /// From the client to the server.
    Up,
}

/// How a connection is broken off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Break {
    /// Closed: the client reads an end.
    #[default]
    Close,
    /// Reset: the client reads an error.
    Reset,
    /// The client reads an end, the server still hears the client.
    Half,
}

/// How the proxy treats its connections, those that are open included. The default is a good one.
#[derive(Clone, Debug, Default)]
pub struct Conduct {
    /// Which way the rest is about.
    pub way: Way,
    /// Each piece is late by this.
    pub latency: Duration,
    /// Most bytes a second.
    pub rate: Option<u32>,
    /// Pieces have at most so many bytes.
    pub slice: Option<usize>,
    /// A connection is broken off after so many bytes.
    pub cut_after: Option<u64>,
    /// How.
    pub cut: Break,
    /// Bytes are swallowed.
    pub blackhole: bool,
    /// Bytes wait, as on a pulled cable: nothing is lost when it is plugged in again.
    pub stalled: bool,
    /// New connections are closed at once.
    pub refuse: bool,
}

/// A running proxy; it goes when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    conduct: watch::Sender<Conduct>,
    /// Raised to break what is open.
    breaks: watch::Sender<(u64, Break)>,
    carried: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Stands before `upstream`, for example `127.0.0.1:4222`.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn before(upstream: SocketAddr) -> Self {
        let listener = ok(TcpListener::bind("127.0.0.1:0").await.map_err(Into::into));
        let port = ok(listener.local_addr().map_err(Into::into)).port();
        let (conduct, watched) = watch::channel(Conduct::default());
        let (breaks, broken) = watch::channel((0, Break::Close));
        let carried = Arc::new(AtomicU64::new(0));
        let count = carried.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if watched.borrow().refuse {
                    continue;
                }
                let lines = Lines { conduct: watched.clone(), carried: count.clone() };
                tokio::spawn(carry(client, upstream, lines, broken.clone()));
            }
        });
        Self { port, conduct, breaks, carried, task }
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A URL of the upstream, with the proxy's address in it.
    pub fn instead_in(&self, url: &str) -> String {
        let (head, tail) = url.split_once("127.0.0.1:").unwrap_or((url, ""));
        let rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{head}127.0.0.1:{}{rest}", self.port)
    }

    /// Changes how it behaves, for open connections too.
    pub fn behave(&self, conduct: Conduct) {
        self.conduct.send_replace(conduct);
    }

    /// Behaves well again.
    pub fn heal(&self) {
        self.behave(Conduct::default());
    }

    /// Breaks every open connection now.
    pub fn break_all(&self, how: Break) {
        self.breaks.send_modify(|(count, kind)| (*count, *kind) = (*count + 1, how));
    }

    /// Bytes carried so far, both ways.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.break_all(Break::Close);
    }
}

#[derive(Clone)]
struct Lines {
    conduct: watch::Receiver<Conduct>,
    carried: Arc<AtomicU64>,
}

/// Connects with a small buffer, so that a stalled line is felt soon.
async fn connect(upstream: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if upstream.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.connect(upstream).await
}

async fn carry(mut client: TcpStream, upstream: SocketAddr, lines: Lines, mut broken: watch::Receiver<(u64, Break)>) {
    let Ok(mut server) = connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    broken.mark_unchanged();
    let how = {
        let ((client_in, client_out), (server_in, server_out)) = (client.split(), server.split());
        let down = lines.clone().pump(Way::Down, server_in, client_out);
        let up = lines.pump(Way::Up, client_in, server_out);
        tokio::select! {
            ended = async { tokio::try_join!(down, up) } => ended.err().unwrap_or(Break::Close),
            _ = broken.changed() => broken.borrow().1,
        }
    };
    if how == Break::Reset {
        // No lingering: what is unsent is dropped, and the peers get a reset.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

impl Lines {
    /// Carries bytes one way until they end, or the connection is to be broken off.
    async fn pump(
        self,
        way: Way,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), Break> {
        let (mut buffer, mut count) = (vec![0; BUFFER], 0_u64);
        loop {
            // Only what may be sent is read: a pulled cable must be felt as back-pressure.
            while self.applies(way).is_some_and(|conduct| conduct.stalled) {
                sleep(LOOK).await;
            }
            let read = match from.read(&mut buffer).await {
                Ok(0) => {
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                Ok(read) => read,
                Err(_) => return Err(Break::Close),
            };
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                while self.applies(way).is_some_and(|conduct| conduct.stalled) {
                    sleep(LOOK).await;
                }
                let conduct = self.applies(way).unwrap_or_default();
                let mut piece = rest.len().min(conduct.slice.unwrap_or(usize::MAX).max(1));
                if let Some(left) = conduct.cut_after.map(|most| most.saturating_sub(count)) {
                    piece = piece.min(usize::try_from(left).unwrap_or(usize::MAX));
                    if piece == 0 {
                        if conduct.cut == Break::Half {
                            let _ = to.shutdown().await;
                            return Ok(());
                        }
                        return Err(conduct.cut);
                    }
                }
                if let Some(rate) = conduct.rate {
                    piece = piece.min(rate.max(1) as usize);
                    sleep(Duration::from_secs_f64(piece as f64 / f64::from(rate.max(1)))).await;
                }
                sleep(conduct.latency).await;
                if !conduct.blackhole && to.write_all(&rest[..piece]).await.is_err() {
                    return Err(Break::Close);
                }
                count += piece as u64;
                self.carried.fetch_add(piece as u64, Ordering::Relaxed);
                rest = &rest[piece..];
            }
        }
    }

    /// The conduct, where it is about this way.
    fn applies(&self, way: Way) -> Option<Conduct> {
        let conduct = self.conduct.borrow();
        (conduct.way == Way::Both || conduct.way == way).then(|| conduct.clone())
    }
}

//! The load: closed-loop clients that read every chunk and know how old it is.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::{
    task::LocalSet,
    time::{sleep, timeout},
};

use crate::{
    http::Http,
    marks::{self, now_us},
    sse::Texts,
    target::Target,
};

/// A chat that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Model, which scripts the mock.
    pub model: &'static str,
    /// Clients at a time.
    pub clients: usize,
    /// Chats in all.
    pub chats: usize,
    /// Tokens that each answer must have.
    pub tokens: usize,
    /// The first chats of the clients are spread over this time.
    pub ramp: Duration,
}

/// What the clients have seen. Times in microseconds.
#[derive(Debug, Default)]
pub struct Seen {
    /// From the request to the first token read.
    pub first: Vec<u64>,
    /// From a token's writing to its reading.
    pub relay: Vec<u64>,
    /// Finished chats for each second.
    pub rate: f64,
    /// Why chats failed.
    pub errors: Vec<String>,
}

/// Runs a workload; what has to be prepared is prepared before the clock starts.
///
/// # Errors
/// The target can't be prepared.
pub async fn run(target: &Target, workload: Workload) -> Result<Seen> {
    let mut clients = Vec::new();
    for client in 0..workload.clients {
        let mut http = target.connection();
        // One chat more for each client, which warms its connection up and isn't counted.
        let own = 1 + workload.chats / workload.clients + usize::from(client < workload.chats % workload.clients);
        let mut prepared = Vec::with_capacity(own);
        for _ in 0..own {
            prepared.push(target.prepare(&mut http).await?);
        }
        clients.push((http, prepared));
    }
    let local = LocalSet::new();
    let mut running = Vec::new();
    let (go, start) = tokio::sync::watch::channel(false);
    let warm = Rc::new(Cell::new(0_usize));
    for (client, (http, prepared)) in clients.into_iter().enumerate() {
        let delay = workload.ramp.mul_f64(client as f64 / workload.clients as f64);
        let (target, start, warm) = (target.clone(), start.clone(), warm.clone());
        running.push(local.spawn_local(client_loop(target, workload, http, prepared, delay, start, warm)));
    }
    local
        .run_until(async {
            while warm.get() < workload.clients {
                sleep(Duration::from_millis(1)).await;
            }
            let begun = Instant::now();
            go.send_replace(true);
            let mut seen = Seen::default();
            for client in running {
                let one = client.await?;
                seen.first.extend(one.first);
                seen.relay.extend(one.relay);
                seen.errors.extend(one.errors);
            }
            seen.rate = seen.first.len() as f64 / begun.elapsed().as_secs_f64();
            Ok(seen)
        })
        .await
}

async fn client_loop(
    target: Target,
    workload: Workload,
    mut http: Http,
    mut prepared: Vec<Value>,
    delay: Duration,
    mut start: tokio::sync::watch::Receiver<bool>,
    warm: Rc<Cell<usize>>,
) -> Seen {
    let mut ignored = Seen::default();
    if let Some(one) = prepared.pop() {
        let _ = timeout(PATIENCE, chat(&target, workload, &mut http, &one, &mut ignored)).await;
    }
    warm.set(warm.get() + 1);
    let _ = start.wait_for(|go| *go).await;
    sleep(delay).await;
    let mut seen = Seen::default();
    for one in &prepared {
        let error = match timeout(PATIENCE, chat(&target, workload, &mut http, one, &mut seen)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "it took too long".to_owned(),
        };
        seen.errors.push(error);
        http.reset();
    }
    seen
}

async fn chat(target: &Target, workload: Workload, http: &mut Http, prepared: &Value, seen: &mut Seen) -> Result<()> {
    let (path, body) = target.chat(workload.model, prepared);
    // Connecting is no part of what is measured.
    http.connect().await?;
    let asked = now_us();
    let mut answer = http.post(path, &body).await?.into_body();
    let (mut texts, mut reader, mut tokens) = (Texts::default(), marks::Reader::default(), 0);
    while let Some(frame) = answer.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        texts.feed(&data, |text| {
            let now = now_us();
            reader.feed(text, |written| {
                if tokens == 0 {
                    seen.first.push(now.saturating_sub(asked));
                }
                tokens += 1;
                seen.relay.push(now.saturating_sub(written));
            });
        })?;
    }
    if tokens != workload.tokens {
        bail!("{tokens} of {} tokens", workload.tokens);
    }
    Ok(())
}

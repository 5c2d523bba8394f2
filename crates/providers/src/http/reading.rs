//! Reads an answer from the connection, and minds the time.

use std::{collections::VecDeque, time::Duration};

use futures::{StreamExt, stream};
use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use super::{Timeouts, limits::limits};
use crate::{AdapterEvent, AdapterStream, ErrorKind, ProviderError, answer::Converter, error::retry_after};

/// The events of an answer whose head has come.
pub(super) fn read(response: Response, converter: Converter, timeouts: Timeouts) -> AdapterStream {
    let wait = retry_after(response.headers());
    let now = Instant::now();
    let ready = limits(response.headers()).map(AdapterEvent::Limits).map(Ok).into_iter().collect();
    let reading =
        Reading { response, converter, ready, ended: false, timeouts, wait, heard: now, content: now, tail: None };
    stream::unfold(reading, Reading::next).boxed()
}

struct Reading {
    response: Response,
    converter: Converter,
    ready: VecDeque<Result<AdapterEvent, ProviderError>>,
    ended: bool,
    timeouts: Timeouts,
    /// The head's wish for a wait, for an error that comes only after it.
    wait: Option<Duration>,
    /// When bytes came last.
    heard: Instant,
    /// When content came last.
    content: Instant,
    /// Once the answer itself is complete: until when the rest is waited for.
    tail: Option<Instant>,
}

impl Reading {
    async fn next(mut self) -> Option<(Result<AdapterEvent, ProviderError>, Self)> {
        loop {
            match self.ready.pop_front() {
                Some(Ok(event)) => return Some((Ok(event), self)),
                Some(Err(mut error)) => {
                    // Nothing that comes after an error counts.
                    self.ended = true;
                    self.ready.clear();
                    error.retry_after = error.retry_after.or(self.wait);
                    return Some((Err(error), self));
                }
                None if self.ended => return None,
                None => self.read().await,
            }
        }
    }

    async fn read(&mut self) {
        let deadline = (self.heard + self.timeouts.idle).min(self.content + self.timeouts.content);
        let deadline = self.tail.map_or(deadline, |tail| tail.min(deadline));
        let mut events = Vec::new();
        // Asked first, since a flood of pings is always ready and would never let the deadline be seen.
        let read = if Instant::now() < deadline {
            timeout_at(deadline, self.response.chunk()).await
        } else {
            timeout_at(deadline, std::future::pending()).await
        };
        match &read {
            Ok(Ok(Some(bytes))) => {
                self.heard = Instant::now();
                self.converter.feed(bytes, &mut events);
                if self.converter.take_progress() || !events.is_empty() {
                    self.content = self.heard;
                }
                if self.converter.is_done() {
                    // From the end marker on, whatever else trickles in.
                    let drained = self.heard + self.timeouts.drain;
                    self.tail = Some(self.tail.map_or(drained, |tail| tail.min(drained)));
                } else if self.converter.is_finished() {
                    self.tail = self.tail.or(Some(self.heard + self.timeouts.trailer));
                }
            }
            // What breaks or dawdles after the finish reason has nothing of the answer left to break.
            Ok(Err(_)) | Err(_) if self.tail.is_none() => {
                let kind = if read.is_err() { ErrorKind::Timeout } else { ErrorKind::Interrupted };
                self.converter.abort(kind, &mut events);
                self.ended = true;
            }
            Ok(Ok(None) | Err(_)) | Err(_) => {
                self.converter.finish(&mut events);
                self.ended = true;
            }
        }
        self.ready.extend(events);
    }
}

//! Events: published by the relay in commit order, each with the place of the one before it.

use std::future::Future;

use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use futures::{Stream, StreamExt};
use polyphony_domain::record::{Cursor, StoredEvent};

use crate::{Bus, BusError, subjects};

/// More bytes than the headers of an event can have.
const HEADERS: usize = 1024;
const AGGREGATE: &str = "Polyphony-Aggregate";
const PREVIOUS: &str = "Polyphony-Previous";
const TRACE: &str = "traceparent";

/// An event as it came.
#[derive(Clone, Debug)]
pub struct EventDelivery {
    /// The event, sealed as it stands in the log.
    pub event: StoredEvent,
    /// Place of the event before it. A reader that isn't there has missed something and reads the log.
    pub previous: Cursor,
}

impl Bus {
    /// Publishes an event; the returned future resolves when the stream has it, so that many can be in flight. One that
    /// is larger than the server takes is left out: the log has it.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn publish_event(
        &self,
        event: &StoredEvent,
        previous: Cursor,
    ) -> Result<impl Future<Output = Result<(), BusError>> + Send + use<>, BusError> {
        let mut headers = HeaderMap::new();
        headers.insert(AGGREGATE, event.aggregate_id.to_string().as_str());
        headers.insert(PREVIOUS, format!("{}.{}", previous.xid, previous.position).as_str());
        if let Some(trace) = event.metadata.get(TRACE).and_then(|trace| trace.as_str()) {
            headers.insert(TRACE, trace);
        }
        let payload = serde_json::to_vec(event).map_err(BusError::failed)?;
        let sent = if payload.len() + HEADERS > self.client.server_info().max_payload {
            // Readers see a gap here, and read the log.
            tracing::warn!(event = %event.event_id, bytes = payload.len(), "an event is too large for the bus");
            None
        } else {
            let message =
                PublishMessage::build().message_id(event.event_id.to_string()).headers(headers).payload(payload.into());
            Some(self.jetstream.send_publish(subjects::event(event), message).await.map_err(BusError::failed)?)
        };
        Ok(async move {
            let Some(ack) = sent else { return Ok(()) };
            ack.await.map(|_| ()).map_err(BusError::failed)
        })
    }

    /// The events as the relay publishes them, from now on. Lost and repeated ones are the reader's to notice.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn subscribe_events(&self) -> Result<impl Stream<Item = EventDelivery> + Unpin + Send + use<>, BusError> {
        // A subject that a stream captures is an ordinary subject too: the quickest way to hear of an event, and one
        // that needs no consumer's state on the server.
        let messages = self.client.subscribe(subjects::EVENTS).await.map_err(BusError::failed)?;
        Ok(messages.filter_map(|message| {
            let read = || {
                let previous = message.headers.as_ref()?.get(PREVIOUS)?.as_str();
                let (xid, position) = previous.split_once('.')?;
                let previous = Cursor { xid: xid.parse().ok()?, position: position.parse().ok()? };
                Some(EventDelivery { event: serde_json::from_slice(&message.payload).ok()?, previous })
            };
            std::future::ready(read())
        }))
    }
}

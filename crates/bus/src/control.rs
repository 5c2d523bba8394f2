//! Pokes and stops: core messages that only save waiting.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use polyphony_domain::{
    ids::{AnswerId, DeviceId},
    record::Cursor,
};
use uuid::Uuid;

use crate::{Bus, BusError, subjects};

impl Bus {
    async fn tell(&self, subject: String, payload: Bytes) {
        if let Err(error) = self.client.publish(subject, payload).await {
            tracing::debug!(%error, "a poke was not sent");
        }
    }

    /// Tells the relay that something was appended.
    pub async fn poke_relay(&self) {
        self.tell(subjects::POKE_RELAY.to_owned(), Bytes::new()).await;
    }

    /// What the relay is told.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn subscribe_relay_pokes(&self) -> Result<impl Stream<Item = ()> + Unpin + Send + use<>, BusError> {
        let pokes = self.client.subscribe(subjects::POKE_RELAY).await.map_err(BusError::failed)?;
        Ok(pokes.map(|_| ()))
    }

    /// Tells the sweeper that an answer which waited may begin.
    pub async fn poke_sweeper(&self) {
        self.tell(subjects::POKE_SWEEPER.to_owned(), Bytes::new()).await;
    }

    /// What the sweeper is told.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn subscribe_sweeper_pokes(&self) -> Result<impl Stream<Item = ()> + Unpin + Send + use<>, BusError> {
        let pokes = self.client.subscribe(subjects::POKE_SWEEPER).await.map_err(BusError::failed)?;
        Ok(pokes.map(|_| ()))
    }

    /// Tells everyone how far a projection is.
    pub async fn poke_projection(&self, name: &str, cursor: Cursor) {
        let payload = format!("{}.{}", cursor.xid, cursor.position);
        self.tell(subjects::projection(name), payload.into()).await;
    }

    /// Names and places of all projections, as they move.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn subscribe_projection_pokes(
        &self,
    ) -> Result<impl Stream<Item = (String, Cursor)> + Unpin + Send + use<>, BusError> {
        let pokes = self.client.subscribe(subjects::projection("*")).await.map_err(BusError::failed)?;
        Ok(pokes.filter_map(|message| {
            let read = || {
                let (xid, position) = std::str::from_utf8(&message.payload).ok()?.split_once('.')?;
                let name = message.subject.split('.').nth(2)?.to_owned();
                Some((name, Cursor { xid: xid.parse().ok()?, position: position.parse().ok()? }))
            };
            std::future::ready(read())
        }))
    }

    /// Tells the worker of an answer to stop.
    pub async fn publish_stop(&self, answer: AnswerId) {
        self.tell(subjects::stop(answer), Bytes::new()).await;
    }

    /// The answers that are to stop.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn subscribe_stops(&self) -> Result<impl Stream<Item = AnswerId> + Unpin + Send + use<>, BusError> {
        let stops = self.client.subscribe(subjects::STOPS).await.map_err(BusError::failed)?;
        Ok(stops.filter_map(|message| std::future::ready(subjects::id(&message.subject, 1))))
    }

    /// Tells every node that a device session has ended.
    pub async fn publish_revoked(&self, device: DeviceId) {
        self.tell(subjects::REVOKED.to_owned(), device.to_string().into()).await;
    }

    /// The device sessions that have ended.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn subscribe_revoked(&self) -> Result<impl Stream<Item = DeviceId> + Unpin + Send + use<>, BusError> {
        let revoked = self.client.subscribe(subjects::REVOKED).await.map_err(BusError::failed)?;
        Ok(revoked.filter_map(|message| {
            std::future::ready(std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok()))
        }))
    }

    /// Tells every process to forget the data keys of a session or account that has been erased.
    pub async fn poke_erased(&self, root: Uuid) {
        self.tell(subjects::ERASED.to_owned(), root.to_string().into()).await;
    }

    /// The sessions and accounts that have been erased.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    pub async fn subscribe_erased(&self) -> Result<impl Stream<Item = Uuid> + Unpin + Send + use<>, BusError> {
        let erased = self.client.subscribe(subjects::ERASED).await.map_err(BusError::failed)?;
        Ok(erased.filter_map(|message| {
            std::future::ready(std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok()))
        }))
    }
}

//! Ids: one UUIDv7 newtype for each kind of thing, so that they can't be mixed up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])+ $name:ident),+ $(,)?) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that names this kind of thing.
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// The UUID inside.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )+};
}

ids! {
    /// An account: a person who signs in.
    AccountId,
    /// A device session: one sign-in, with its family of refresh tokens.
    DeviceId,
    /// A provider key that a person has stored.
    KeyId,
    /// A personal access token.
    TokenId,
    /// A chat session.
    SessionId,
    /// A turn: one prompt and its answers. It is also the id of the user's message.
    TurnId,
    /// An answer of a model. It is also the id of the assistant's message.
    AnswerId,
    /// A model of the catalogue.
    ModelId,
    /// One event.
    EventId,
}

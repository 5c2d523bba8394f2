//! The pure domain: aggregates, commands, events, money and ids.
//!
//! No I/O lives here: ids, times and prices come in with the command, and `handle` only decides. The stored
//! form of an event (column values) is in [`record`]; how personal fields are marked for sealing in [`personal`].

pub mod access_token;
pub mod account;
pub mod api_key;
pub mod branch;
pub mod catalog;
pub mod chunk_map;
pub mod content;
pub mod context;
pub mod device_session;
pub mod ids;
pub mod model_config;
pub mod money;
pub mod personal;
pub mod record;
pub mod session;
pub mod turn;

/// Implements `cqrs_es::DomainEvent` from one table of stored names, and the list of all of them.
///
/// Stored names and versions are frozen for ever: a changed shape gets the next version and an upcaster.
#[macro_export]
macro_rules! event_catalogue {
    ($event:ident { $($variant:ident => ($name:literal, $version:literal)),+ $(,)? }) => {
        impl cqrs_es::DomainEvent for $event {
            fn event_type(&self) -> String {
                match self { $(Self::$variant { .. } => $name.to_owned()),+ }
            }

            fn event_version(&self) -> String {
                match self { $(Self::$variant { .. } => $version.to_owned()),+ }
            }
        }

        impl $event {
            /// Every stored event type of this aggregate with its current version.
            pub const CATALOGUE: &'static [(&'static str, &'static str)] = &[$(($name, $version)),+];
        }
    };
}

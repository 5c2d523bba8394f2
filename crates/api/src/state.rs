//! What every handler shares.

use std::{ops::Deref, sync::Arc};

use polyphony_bus::Bus;
use polyphony_domain::catalog::Catalog;
use polyphony_eventstore::Store;
use polyphony_platform::{config::Config, http::EgressPolicy, secrets::Secrets};
use polyphony_projections::ReadModels;
use polyphony_providers::{context::Contexts, registry::Registry};

use crate::{auth::Revocations, limit::Limits, stream::Hub};

/// What the interface needs from outside.
pub struct Deps {
    /// The log.
    pub store: Store,
    /// Jobs and chunks.
    pub bus: Bus,
    /// Read models.
    pub reads: ReadModels,
    /// Models.
    pub catalog: Arc<Catalog>,
    /// Providers.
    pub registry: Registry,
    /// Where a key's base URL may point.
    pub egress: Arc<EgressPolicy>,
    /// Token keys and pepper.
    pub secrets: Secrets,
    /// Settings.
    pub config: Arc<Config>,
    /// Token counts.
    pub contexts: Contexts,
}

/// Shared state; cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

/// The state itself.
pub struct Inner {
    deps: Deps,
    /// Device sessions whose access tokens are void.
    pub revocations: Revocations,
    /// Rate limits.
    pub limits: Limits,
    /// Streams to viewers.
    pub hub: Hub,
}

impl AppState {
    pub fn new(deps: Deps) -> Self {
        let limits = Limits::new(deps.config.limits.relaxed);
        Self(Arc::new(Inner { deps, revocations: Revocations::default(), limits, hub: Hub::default() }))
    }
}

impl Deref for AppState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Deref for Inner {
    type Target = Deps;

    fn deref(&self) -> &Deps {
        &self.deps
    }
}

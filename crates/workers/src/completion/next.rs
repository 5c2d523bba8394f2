//! What an answer can turn to: the keys for its model, and after them the fallback models.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use polyphony_domain::{
    catalog::Model,
    ids::{AccountId, KeyId, ModelId},
    turn::{Answer, AttemptReason, ModelRef, Prompt},
};
use polyphony_eventstore::StoreError;
use polyphony_providers::{ErrorKind, ProviderError};

use super::Deps;
use crate::routing::{Call, Candidate, Slot};

/// The longest wait for a key when there is nothing else to turn to.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest wait for a key when there is something else to turn to.
const IMPATIENCE: Duration = Duration::from_secs(5);
/// Operators' keys come after everybody's own.
const LAST: i64 = i64::MAX;

/// The way of one answer through keys and models, as far as this process has gone it.
#[derive(Default)]
pub(super) struct Trail {
    tried: HashSet<(ModelId, Slot)>,
    models: HashSet<ModelId>,
    /// All slots by provider, once they have been looked up.
    known: HashMap<String, Vec<Candidate>>,
}

/// What there is besides the slot that is being used.
#[derive(Clone, Copy)]
pub(super) struct Others {
    /// Another key for the model is free.
    pub(super) key: bool,
    /// There is a fallback that has not been asked.
    pub(super) model: bool,
}

impl Others {
    /// The longest wait for the slot itself that makes sense after such a failure.
    pub(super) const fn patience(self, kind: ErrorKind) -> Duration {
        match kind {
            ErrorKind::RateLimited if self.key => Duration::ZERO,
            // It has taken long enough already.
            ErrorKind::Timeout if self.key || self.model => Duration::ZERO,
            _ if self.key || self.model => IMPATIENCE,
            _ => PATIENCE,
        }
    }
}

/// The way a model's provider can be called.
pub(super) enum Way {
    /// With this slot.
    Free(Call),
    /// Not now; the error says when.
    Blocked(ProviderError),
    /// Not at all.
    Closed(ProviderError),
}

impl Trail {
    /// The slots for a model that have not been tried yet. The keys are looked up once in an answer's time.
    async fn candidates(
        &mut self,
        deps: &Deps,
        owner: AccountId,
        model: &ModelRef,
    ) -> Result<Vec<Candidate>, StoreError> {
        self.look_up(deps, owner, &model.provider).await?;
        Ok(self.untried(model))
    }

    /// Looks the keys for a provider up, if they haven't been yet.
    pub(super) async fn look_up(&mut self, deps: &Deps, owner: AccountId, provider: &str) -> Result<(), StoreError> {
        if !self.known.contains_key(provider) {
            self.known.insert(provider.to_owned(), slots(deps, owner, provider).await?);
        }
        Ok(())
    }

    /// The same, of a model whose keys have been looked up before.
    fn untried(&self, model: &ModelRef) -> Vec<Candidate> {
        let known = self.known.get(&model.provider).into_iter().flatten();
        known.filter(|candidate| !self.tried.contains(&(model.id, candidate.slot.clone()))).cloned().collect()
    }

    /// Takes the best slot for a model.
    pub(super) async fn way(&mut self, deps: &Deps, owner: AccountId, model: &ModelRef) -> Result<Way, StoreError> {
        if deps.registry.adapter(&model.provider).is_none() {
            let words = "this deployment doesn't serve the model's provider any more";
            return Ok(Way::Closed(ProviderError::new(ErrorKind::ModelUnavailable, words)));
        }
        let candidates = self.candidates(deps, owner, model).await?;
        Ok(match deps.switchboard.take(&candidates, Instant::now()) {
            Some(Ok((index, call))) => {
                self.models.insert(model.id);
                if let Some(candidate) = candidates.into_iter().nth(index) {
                    self.tried.insert((model.id, candidate.slot));
                }
                Way::Free(call)
            }
            Some(Err(blocked)) => {
                let words = match blocked.kind {
                    ErrorKind::RateLimited => "the provider asks to slow down",
                    _ => "the provider has kept failing and is left alone for a while",
                };
                let error =
                    ProviderError { retry_after: Some(blocked.wait), ..ProviderError::new(blocked.kind, words) };
                Way::Blocked(error)
            }
            None => Way::Closed(ProviderError::new(ErrorKind::InvalidKey, "there is no key that the provider takes")),
        })
    }

    /// What there is besides the slot that is being used.
    pub(super) fn others(&self, deps: &Deps, answer: &Answer) -> Others {
        Others {
            key: deps.switchboard.has_free(&self.untried(&answer.model), Instant::now()),
            model: answer.request.fallbacks.iter().any(|fallback| !self.models.contains(&fallback.id)),
        }
    }

    /// What follows a failure before any text was shown: another key, else the next fallback that can do what is
    /// asked for; `None` when there is nothing left to try.
    pub(super) async fn next(
        &mut self,
        deps: &Deps,
        owner: AccountId,
        answer: &Answer,
        prompt: Option<&Prompt>,
        error: &ProviderError,
    ) -> Result<Option<(AttemptReason, ModelRef)>, StoreError> {
        if error.kind == ErrorKind::ContentFilter {
            // The request itself was refused; sending it elsewhere isn't ours to decide.
            return Ok(None);
        }
        if another_key_may_help(error.kind) {
            let candidates = self.candidates(deps, owner, &answer.model).await?;
            if deps.switchboard.has_free(&candidates, Instant::now()) {
                return Ok(Some((AttemptReason::ProviderFailed, answer.model.clone())));
            }
        }
        self.models.insert(answer.model.id);
        let parts = prompt.map_or(&[][..], |prompt| &prompt.parts);
        let can = |model: &Model| model.lacks(&answer.request, parts).is_empty();
        for fallback in &answer.request.fallbacks {
            let known = deps.catalog.resolve(&fallback.id.to_string());
            if !known.is_some_and(can) || !self.models.insert(fallback.id) {
                continue;
            }
            let candidates = self.candidates(deps, owner, fallback).await?;
            if deps.switchboard.has_free(&candidates, Instant::now()) {
                return Ok(Some((AttemptReason::Failover, fallback.clone())));
            }
        }
        Ok(None)
    }
}

/// All slots of a provider: the person's keys, and last what is everybody's.
async fn slots(deps: &Deps, owner: AccountId, provider: &str) -> Result<Vec<Candidate>, StoreError> {
    let slot = |key| Slot { provider: provider.to_owned(), key };
    // The demo has no keys, and nobody has to be asked for that.
    let own = if provider == "demo" { vec![] } else { deps.store.routable_keys(owner, provider).await? };
    let mut slots: Vec<Candidate> = own
        .into_iter()
        .map(|key| Candidate { slot: slot(Some((key.key_id, key.version))), priority: key.priority.into() })
        .collect();
    let free_of_keys = slots.is_empty() && !deps.registry.needs_key(provider);
    if free_of_keys || deps.registry.operator_key(provider).is_some() {
        slots.push(Candidate { slot: slot(None), priority: LAST });
    }
    Ok(slots)
}

/// Whether the same request may fare better with another key, which may also mean another host.
const fn another_key_may_help(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidKey
            | ErrorKind::RateLimited
            | ErrorKind::QuotaExceeded
            | ErrorKind::ModelUnavailable
            | ErrorKind::Overloaded
            | ErrorKind::Timeout
            | ErrorKind::Interrupted
            | ErrorKind::Unreachable
    )
}

/// The person's key of a call.
pub(super) fn key_of(call: &Call) -> Option<KeyId> {
    call.slot().key.map(|(key, _)| key)
}

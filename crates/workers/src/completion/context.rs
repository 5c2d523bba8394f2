//! What a model is told: the conversation from the log, made to fit the model, rendered, with its receipt.

use polyphony_domain::{
    catalog::Model,
    context::{History, Range, Receipt, Thread},
    ids::TurnId,
    turn::{Answer, ModelRef},
};
use polyphony_eventstore::load::SessionLog;
use polyphony_providers::{
    Adapter, ErrorKind, Options, ProviderError, ProviderKey, Rendered,
    context::{Fitted, Signature, fit_transcript, note_losses},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Deps, purpose};

/// Requests that one attempt may send when the provider keeps saying that they are too long. Each has three fifths of
/// the one before, so the last one has an eighth of the first.
pub(super) const MOST_SIZES: u32 = 5;
/// Part of the room that the newest messages keep when the older ones are to be summarised.
const KEPT: u64 = 2;

/// A request that is ready to be sent.
pub(super) struct Prepared {
    /// The request.
    pub(super) rendered: Rendered,
    /// What it is made of.
    pub(super) receipt: Receipt,
    /// What it holds of signatures, which its provider may refuse.
    pub(super) signatures: Vec<Signature>,
    /// What should be summarised for the turns after this one, since there was no room for it.
    pub(super) compaction: Option<Range>,
}

/// What is to be prepared.
pub(super) struct Ask<'a> {
    /// The session.
    pub(super) log: &'a SessionLog,
    /// The turn.
    pub(super) turn: TurnId,
    /// The answer.
    pub(super) answer: &'a Answer,
    /// The model that is asked.
    pub(super) model: &'a Model,
    /// The key that is used, or the account where there is none.
    pub(super) whose: Uuid,
    /// That key.
    pub(super) key: Option<&'a ProviderKey>,
}

/// Prepares the request for an answer.
///
/// # Errors
/// [`ErrorKind::ContextTooLong`] when not even the system prompt, the pinned messages and the last prompt fit.
pub(super) async fn prepare(deps: &Deps, ask: &Ask<'_>, adapter: &dyn Adapter) -> Result<Prepared, ProviderError> {
    let Ask { log, turn, answer, model, whose, key } = *ask;
    let options = options(answer, model);
    let history = log.history();
    let prompt = history.turn(turn).and_then(|turn| turn.prompt.as_ref());
    let (fitted, thread) = match prompt.and_then(Range::of) {
        Some((range, _)) => {
            let thread = Thread::of_range(&history, &range)
                .ok_or_else(|| ProviderError::new(ErrorKind::BadRequest, "there is nothing left to summarise"))?;
            (fit_transcript(&deps.contexts, thread, model, options, whose).await, None)
        }
        None => {
            let thread = thread(&history, turn, answer);
            (deps.contexts.fit_exactly(&thread, model, options, whose, (adapter, key)).await, Some(thread))
        }
    };
    let fitted = fitted.map_err(|_| ProviderError::of(ErrorKind::ContextTooLong))?;
    let signatures = fitted.signatures(&model.provider);
    let Fitted { conversation, options, mut receipt, tokens } = fitted;
    let rendered = adapter.render(&conversation, &options);
    receipt.request_hash = Sha256::digest(&rendered.body).iter().map(|byte| format!("{byte:02x}")).collect();
    note_losses(&mut receipt, &rendered.losses);
    let thread = thread.filter(|_| receipt.lacks_room());
    let compaction = thread.and_then(|thread| thread.range_to_summarise(&tokens, receipt.budget / KEPT));
    Ok(Prepared { rendered, receipt, signatures, compaction })
}

/// The conversation that an answer is made from, with what its purpose adds to the prompt.
fn thread(history: &History<'_>, id: TurnId, answer: &Answer) -> Thread {
    let mut thread = Thread::to(history, id);
    let Some(turn) = history.turn(id) else { return thread };
    if let Some(words) = purpose::told(turn, answer) {
        thread.tell(words);
    }
    let brings_its_own = turn.prompt.as_ref().is_none_or(|prompt| prompt.given.is_some());
    if thread.system.is_none() && turn.is_conversation() && !brings_its_own {
        // The session says nothing, so that the person's own word for the model counts.
        let own = answer.request.system_prompt.as_ref();
        thread.system = own.filter(|text| !text.is_erased() && !text.as_str().is_empty()).cloned();
    }
    thread
}

/// The model as the catalogue has it; one that has left the catalogue is only known by name.
pub(super) fn known(deps: &Deps, model: &ModelRef) -> Model {
    let known = deps.catalog.resolve(&model.id.to_string()).cloned();
    known.unwrap_or_else(|| Model { id: model.id, ..Model::declared(&model.provider, &model.name) })
}

/// The options of one answer.
fn options(answer: &Answer, model: &Model) -> Options {
    let request = &answer.request;
    // What was asked for may be out of the range of a model that takes another one's place.
    let params = if model.id == request.model.id { request.params.clone() } else { model.fit(request.params.clone()) };
    Options {
        model: model.name.clone(),
        params,
        tools: request.tools.clone(),
        tool_choice: request.tool_choice.clone(),
    }
}

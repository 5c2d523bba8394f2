//! Making a conversation fit its model: counting, planning, and what refusals and real usage teach.
//!
//! The rules are the domain's ([`polyphony_domain::context`]); here are the tokeniser, the counts that are kept, and
//! what this process has learned. All of that may be lost at any time: it only makes counts better or quicker.

mod counting;
mod exact;
mod learned;
mod signatures;

use std::sync::Arc;

use polyphony_domain::{
    catalog::Model,
    content::{Conversation, Part},
    context::{
        Converted, Cover, Language, MARK_TOKENS, Piece, Plan, Receipt, Shown, Texts, Thread, TooLong, Window, plan,
        texts_of, texts_of_tools,
    },
    turn::UsageRecord,
};
use uuid::Uuid;

pub use self::signatures::Signature;
use self::{counting::Counter, learned::Learned};
use crate::{Loss, LossKind, Options, conversation::left_out, tokens};

/// Tokens of the frame around a message.
const FRAME: u64 = 4;

/// Counts and lessons; cheap to clone, all clones share them.
#[derive(Clone, Default)]
pub struct Contexts(Arc<Inner>);

#[derive(Default)]
struct Inner {
    counter: Counter,
    learned: Learned,
}

/// A conversation that fits.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// What is shown.
    pub conversation: Conversation,
    /// How the answer is to be made: where the window is nearly full, with fewer tokens for it.
    pub options: Options,
    /// What was done; its hash is still empty.
    pub receipt: Receipt,
    /// Tokens of each message of the thread.
    pub tokens: Vec<u64>,
}

impl Fitted {
    /// What a provider has signed or encrypted in it.
    pub fn signatures(&self, provider: &str) -> Vec<Signature> {
        signatures::of(&self.conversation, provider)
    }
}

impl Contexts {
    /// Makes a thread fit a model. `whose` is the key that is used, or the account where there is none: what a provider
    /// refuses may depend on it, and one person's refusals are nobody else's.
    ///
    /// # Errors
    /// [`TooLong`] when not even the system prompt, the pinned messages and the last prompt fit.
    pub async fn fit(
        &self,
        thread: &Thread,
        model: &Model,
        mut options: Options,
        whose: Uuid,
    ) -> Result<Fitted, TooLong> {
        let window = Window::of(model, options.params.max_tokens, self.0.learned.limit(model.id, whose));
        let sizes = self.sizes(thread, model, &options).await;
        let plan = plan(&sizes.pieces, &sizes.covers(thread), sizes.system + sizes.tools, window.budget())?;
        let mut receipt = sizes.receipt(thread, model, &options, window, &plan);
        let most = window.room(plan.used);
        match options.params.max_tokens {
            Some(asked) if u64::from(asked) > most => {
                options.params.max_tokens = Some(u32::try_from(most).unwrap_or(u32::MAX));
                let why = format!("lowered to {most}: more doesn't fit the window");
                receipt.convert([Converted::new("max_tokens", None, why)]);
            }
            // An adapter that must name a number would name the model's largest.
            None if u64::from(model.max_output) > most && plan.used > window.length / 2 => {
                options.params.max_tokens = Some(u32::try_from(window.reserved).unwrap_or(u32::MAX));
            }
            _ => {}
        }
        let tokens = sizes.pieces.iter().map(|piece| piece.tokens).collect();
        let mut conversation = thread.shown(&plan);
        let is_refused = |signature| self.0.learned.is_refused(model.id, whose, signature);
        note_losses(&mut receipt, &signatures::leave_out(&mut conversation, &model.provider, is_refused));
        if !model.can("vision") {
            note_losses(&mut receipt, &drop_pictures(&mut conversation));
        }
        Ok(Fitted { conversation, options, receipt, tokens })
    }

    /// The provider refused what it, or another of its organisations, has signed: none of that is shown to it again for a
    /// while. `false` where the conversation held nothing signed.
    pub fn signatures_refused(&self, model: &Model, whose: Uuid, signatures: &[Signature]) -> bool {
        self.0.learned.refuse(model.id, whose, signatures);
        !signatures.is_empty()
    }

    /// The provider refused a request as too long: from now on less is sent. `false` when there is nothing to take away
    /// any more.
    pub fn refused(&self, model: &Model, whose: Uuid, receipt: &Receipt) -> bool {
        self.0.learned.refused(model.id, whose, receipt.used)
    }

    /// A provider said what a request really had: later counts for the model come nearer to that.
    pub fn learn(&self, model: &Model, receipt: &Receipt, usage: &UsageRecord) {
        if !usage.estimated {
            self.0.learned.calibrate(model.id, receipt.used, usage.input);
        }
    }

    /// Builds the vocabulary, so that the first count needn't.
    pub async fn warm_up(&self) {
        let _ = tokio::task::spawn_blocking(|| tokens::count("a")).await;
    }

    async fn sizes(&self, thread: &Thread, model: &Model, options: &Options) -> Sizes {
        let (language, sees) = (thread.language(), model.can("vision"));
        let messages: Vec<Texts<'_>> =
            thread.entries.iter().map(|entry| texts_of(&entry.message, &model.provider, sees)).collect();
        let summaries: Vec<String> =
            thread.summaries.iter().map(|summary| language.summary(summary.text.as_str())).collect();
        let system = thread.system.as_ref().map(|system| system.as_str());
        let mut all: Vec<&str> = Vec::new();
        // The newest last: where not everything can be counted at once, that is what counts.
        all.extend(messages.iter().flat_map(|message| message.texts.iter().chain(&message.tool_output)));
        all.extend(summaries.iter().map(String::as_str));
        let tools_from = all.len();
        all.extend(texts_of_tools(&options.tools));
        let system_from = all.len();
        all.extend(system);
        let counts = self.0.counter.count(&all).await;
        let scale =
            Scale { thousandths: tokens::factor(&model.provider) * self.0.learned.calibration(model.id) / 1_000 };
        let sum = |counts: &[tokens::TokenCount]| scale.of(counts.iter().map(|count| count.tokens).sum());
        let mut rest = &counts[..];
        let mut take = |many: usize| {
            let (taken, left) = rest.split_at(many);
            rest = left;
            taken
        };
        let exchanges = thread.exchanges();
        let mut pieces = Vec::with_capacity(messages.len());
        for ((texts, entry), exchange) in messages.iter().zip(&thread.entries).zip(exchanges) {
            let said = sum(take(texts.texts.len()));
            let output = sum(take(texts.tool_output.len()));
            let marks = MARK_TOKENS * (texts.tool_output.len() as u64).saturating_sub(1);
            pieces.push(Piece {
                tokens: FRAME + said + output + scale.of(texts.flat),
                tool_output: output.saturating_sub(marks),
                protected: entry.protected,
                exchange,
                answers_previous: entry.message.parts.iter().any(|part| matches!(part, Part::ToolResult(_))),
            });
        }
        let summaries = summaries.iter().map(|_| sum(take(1))).collect();
        let tools = sum(&counts[tools_from..system_from]) + FRAME * options.tools.len() as u64;
        let system = sum(&counts[system_from..]) + if system.is_some() { FRAME } else { 0 };
        let estimated = scale.thousandths != 1_000 || counts.iter().any(|count| count.estimated);
        Sizes { pieces, summaries, system, tools, estimated }
    }
}

/// From tokens of the public tokeniser to those of a model.
struct Scale {
    thousandths: u64,
}

impl Scale {
    fn of(&self, tokens: u64) -> u64 {
        (tokens * self.thousandths).div_ceil(1_000)
    }
}

/// What everything costs.
struct Sizes {
    pieces: Vec<Piece>,
    summaries: Vec<u64>,
    system: u64,
    tools: u64,
    estimated: bool,
}

impl Sizes {
    fn covers(&self, thread: &Thread) -> Vec<Cover> {
        let cover = |(summary, tokens): (&polyphony_domain::context::Summary, &u64)| Cover {
            first: summary.first,
            end: summary.end,
            tokens: *tokens,
            by_request: summary.by_request,
        };
        thread.summaries.iter().zip(&self.summaries).map(cover).collect()
    }

    fn receipt(&self, thread: &Thread, model: &Model, options: &Options, window: Window, plan: &Plan) -> Receipt {
        let shown = Shown {
            model: model.slug(),
            window,
            pieces: &self.pieces,
            plan,
            system: self.system,
            tools: (self.tools, options.tools.len() as u64),
            summaries: &self.summaries,
            estimated: self.estimated,
        };
        Receipt::of(thread, shown)
    }
}

/// What an adapter could not take over, for the receipt.
pub fn note_losses(receipt: &mut Receipt, losses: &[Loss]) {
    receipt.convert(losses.iter().map(|loss| {
        let why: String = loss.reason.chars().take(200).collect();
        Converted::new(loss.kind.as_str(), loss.message_id, why)
    }));
}

/// Takes away the pictures of earlier messages, for a model that can't see. What is lost is said, to the model too.
fn drop_pictures(conversation: &mut Conversation) -> Vec<Loss> {
    let mut losses = Vec::new();
    for message in &mut conversation.messages {
        let mut seen = message.parts.iter_mut().filter(|part| matches!(part, Part::Image { .. })).peekable();
        if seen.peek().is_some() {
            losses.push(Loss::within(message.message_id, LossKind::Image, "a picture: the model can't see"));
        }
        seen.for_each(|part| *part = left_out("picture"));
    }
    losses
}

/// The conversation that has a model summarise a thread: the thread as far as it fits, as one transcript.
///
/// # Errors
/// [`TooLong`] when the window has no room for the instructions and one message.
pub async fn fit_transcript(
    contexts: &Contexts,
    mut thread: Thread,
    model: &Model,
    options: Options,
    whose: Uuid,
) -> Result<Fitted, TooLong> {
    /// Most bytes of one message in a transcript.
    const LONGEST: usize = 16 * 1024;
    let language: Language = thread.language();
    thread.system = None;
    let mut thread = thread.unprotected().bounded(LONGEST);
    thread.system = polyphony_domain::context::transcript(&Conversation::default(), language).system;
    let mut fitted = contexts.fit(&thread, model, options, whose).await?;
    fitted.conversation = polyphony_domain::context::transcript(&fitted.conversation, language);
    Ok(fitted)
}

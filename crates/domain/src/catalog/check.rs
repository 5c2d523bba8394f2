//! What a model can be asked for: checked before anything is appended or sent.

use crate::{
    catalog::Model,
    content::Part,
    turn::{AnswerRequest, Params, ResponseFormat},
};

/// A part of a request that a model can't do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The field, as the contract names it.
    pub field: &'static str,
    /// Why, for a person.
    pub reason: String,
}

/// The words for how much a model is to think.
const EFFORTS: [&str; 5] = ["none", "minimal", "low", "medium", "high"];

/// The highest temperature that a provider takes; the lowest is 0 everywhere.
pub fn highest_temperature(provider: &str) -> f32 {
    match provider {
        "anthropic" | "moonshot" | "zhipu" => 1.0,
        "mistral" => 1.5,
        _ => 2.0,
    }
}

impl Model {
    /// Whether the model has a capability. Of a declared model only what the declaration says is known, so it isn't said to
    /// lack any other.
    pub fn can(&self, capability: &str) -> bool {
        match (capability, self.sees) {
            ("vision", Some(sees)) => sees,
            _ => self.is_declared || self.capabilities.iter().any(|own| own == capability),
        }
    }

    /// Whether the model can take what is asked and what the prompt brings along; else every field that is wrong.
    ///
    /// Only the prompt counts: what an earlier model was shown and this one can't see is left out, and said so.
    ///
    /// # Errors
    /// The fields that are wrong, each with its reason.
    pub fn check(&self, request: &AnswerRequest, prompt: &[Part]) -> Result<(), Vec<Unfit>> {
        let mut unfit = self.lacks(request, prompt);
        self.check_ranges(&request.params, &mut unfit);
        if unfit.is_empty() { Ok(()) } else { Err(unfit) }
    }

    /// The fields that ask for what the model doesn't have at all.
    pub fn lacks(&self, request: &AnswerRequest, prompt: &[Part]) -> Vec<Unfit> {
        let mut unfit = Vec::new();
        let mut need = |needed: bool, capability: &str, field, what: &str| {
            if needed && !self.can(capability) {
                unfit.push(Unfit { field, reason: format!("{} {what}", self.display_name) });
            }
        };
        let image = prompt.iter().any(|part| matches!(part, Part::Image { .. }));
        need(image, "vision", "attachments", "can't see pictures");
        need(!request.tools.is_empty(), "tools", "tools", "can't call tools");
        let effort = request.params.reasoning_effort.as_deref();
        let thinks = effort.is_some_and(|effort| effort != "none");
        need(thinks, "reasoning", "params.reasoning_effort", "doesn't think before it answers");
        let schema = matches!(request.params.response_format, Some(ResponseFormat::JsonSchema { .. }));
        need(schema, "json_schema", "params.response_format", "can't keep to a schema");
        unfit
    }

    fn check_ranges(&self, params: &Params, unfit: &mut Vec<Unfit>) {
        let mut wrong = |field, reason: String| unfit.push(Unfit { field, reason });
        let mut range = |field, value: Option<f32>, low: f32, high: f32| {
            if value.is_some_and(|value| !(low..=high).contains(&value)) {
                wrong(field, format!("must be from {low} to {high}"));
            }
        };
        range("params.temperature", params.temperature, 0.0, highest_temperature(&self.provider));
        range("params.top_p", params.top_p, 0.0, 1.0);
        range("params.presence_penalty", params.presence_penalty, -2.0, 2.0);
        range("params.frequency_penalty", params.frequency_penalty, -2.0, 2.0);
        let most = self.most_output();
        if params.max_tokens.is_some_and(|tokens| tokens == 0 || tokens > most) {
            wrong("params.max_tokens", format!("must be from 1 to {most} for this model"));
        }
        if params.stop.len() > 16 || params.stop.iter().any(|stop| stop.is_empty() || stop.len() > 256) {
            wrong("params.stop", "must be at most 16 texts of 1 to 256 bytes".to_owned());
        }
        if params.reasoning_effort.as_deref().is_some_and(|effort| !EFFORTS.contains(&effort)) {
            wrong("params.reasoning_effort", format!("must be one of {}", EFFORTS.join(", ")));
        }
    }

    /// Most tokens of an answer: of a declared model only the window is a bound.
    pub const fn most_output(&self) -> u32 {
        if self.is_declared { self.context_length } else { self.max_output }
    }

    /// The parameters for this model where they were meant for another one, whose ranges may be wider.
    #[must_use]
    pub fn fit(&self, mut params: Params) -> Params {
        if self.fixed_sampling {
            params.temperature = None;
            params.top_p = None;
        }
        params.temperature = params.temperature.map(|value| value.min(highest_temperature(&self.provider)));
        params.max_tokens = params.max_tokens.map(|most| most.min(self.most_output()));
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::Catalog,
        content::{Media, MediaSource, Tool},
    };

    fn fields(slug: &str, request: &AnswerRequest, prompt: &[Part]) -> Vec<&'static str> {
        let own = |name: &str, sees| Model { sees, ..Model::declared("lab", name) };
        let declared = [own("own", None), own("seer", Some(true)), own("blind", Some(false))];
        let catalog = Catalog::new(|_| true, declared).unwrap();
        let checked = catalog.resolve(slug).unwrap().check(request, prompt);
        checked.err().unwrap_or_default().into_iter().map(|unfit| unfit.field).collect()
    }

    fn request(params: Params) -> AnswerRequest {
        AnswerRequest { params, ..AnswerRequest::default() }
    }

    #[test]
    fn what_a_model_cannot_do_is_refused_by_field() {
        let source = MediaSource::Inline("AAAA".into());
        let image = [Part::Image { media: Media { media_type: "image/png".into(), source } }];
        let plain = AnswerRequest::default();
        assert_eq!(fields("deepseek/deepseek-v4-pro", &plain, &image), ["attachments"]);
        assert!(fields("anthropic/claude-sonnet-4-6", &plain, &image).is_empty());
        let tools = AnswerRequest { tools: vec![Tool::default()], ..AnswerRequest::default() };
        assert_eq!(fields("demo/demo", &tools, &[]), ["tools"]);
        // What a declared model can do is its host's to say.
        assert!(fields("lab/own", &tools, &image).is_empty());
        assert!(fields("lab/seer", &tools, &image).is_empty());
        assert_eq!(fields("lab/blind", &tools, &image), ["attachments"]);
        let effort = |word: &str| request(Params { reasoning_effort: Some(word.into()), ..Params::default() });
        assert_eq!(fields("gpt-4.1", &effort("high"), &[]), ["params.reasoning_effort"]);
        assert!(fields("gpt-4.1", &effort("none"), &[]).is_empty());
        assert_eq!(fields("gpt-5.5", &effort("huge"), &[]), ["params.reasoning_effort"]);
    }

    #[test]
    fn parameters_have_the_range_of_the_model() {
        let warm = request(Params { temperature: Some(1.5), ..Params::default() });
        assert_eq!(fields("anthropic/claude-sonnet-4-6", &warm, &[]), ["params.temperature"]);
        assert!(fields("gpt-4.1", &warm, &[]).is_empty());
        let nan = request(Params { temperature: Some(f32::NAN), top_p: Some(1.1), ..Params::default() });
        assert_eq!(fields("gpt-4.1", &nan, &[]), ["params.temperature", "params.top_p"]);
        let long = |most| request(Params { max_tokens: Some(most), ..Params::default() });
        assert_eq!(fields("gpt-4.1", &long(32_769), &[]), ["params.max_tokens"]);
        assert_eq!(fields("gpt-4.1", &long(0), &[]), ["params.max_tokens"]);
        assert!(fields("gpt-4.1", &long(32_768), &[]).is_empty());
        assert!(fields("lab/own", &long(20_000), &[]).is_empty());
    }

    #[test]
    fn parameters_of_another_model_are_brought_into_range() {
        let catalog = Catalog::new(|_| true, []).unwrap();
        let params =
            Params { temperature: Some(1.5), top_p: Some(0.5), max_tokens: Some(900_000), ..Params::default() };
        let fitted = catalog.resolve("anthropic/claude-sonnet-4-6").unwrap().fit(params.clone());
        assert_eq!((fitted.temperature, fitted.top_p, fitted.max_tokens), (Some(1.0), Some(0.5), Some(128_000)));
        let fitted = catalog.resolve("anthropic/claude-opus-5-5").unwrap().fit(params);
        assert_eq!((fitted.temperature, fitted.top_p), (None, None));
    }
}

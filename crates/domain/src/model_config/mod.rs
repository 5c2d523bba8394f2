//! A person's own settings for one model: what a request leaves open is taken from here.

use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    ids::{AccountId, ModelId},
    personal::Personal,
    turn::{ModelRef, Params},
};

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// Sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Most tokens of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Nucleus sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// What the model is told first where the session says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<Personal>,
    /// Models to turn to, in this order, when this one can't answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<ModelRef>,
}

impl Configuration {
    /// The sampling parameters alone.
    pub fn params(&self) -> Params {
        Params { temperature: self.temperature, max_tokens: self.max_tokens, top_p: self.top_p, ..Params::default() }
    }

    /// The parameters of a request, with what it leaves open.
    pub fn complete(&self, params: Params) -> Params {
        Params {
            temperature: params.temperature.or(self.temperature),
            max_tokens: params.max_tokens.or(self.max_tokens),
            top_p: params.top_p.or(self.top_p),
            ..params
        }
    }
}

/// State: the settings, empty before they were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The settings.
    pub configuration: Configuration,
}

impl ModelConfig {
    /// The id of an account's settings for a model: a UUID of version 7's shape that begins with the account's time.
    pub fn id(account: AccountId, model: ModelId) -> Uuid {
        // FNV-1a, 128 bits: ids must only differ, and be the same everywhere and always.
        let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        for byte in account.as_uuid().as_bytes().iter().chain(model.as_uuid().as_bytes()) {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
        const TIME: u128 = 0xffff_ffff_ffff << 80;
        let random = hash & !TIME & !(0xf << 76) & !(0x3 << 62);
        Uuid::from_u128(account.as_uuid().as_u128() & TIME | 0x7 << 76 | 0x2 << 62 | random)
    }
}

/// What can be asked of it.
#[derive(Clone, Debug)]
pub enum ModelConfigCommand {
    /// Replaces the settings.
    Configure {
        /// The model.
        model: ModelRef,
        /// The settings, whole.
        configuration: Configuration,
    },
}

/// What has happened to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelConfigEvent {
    /// A person set how a model is to be asked.
    ModelConfigured {
        /// The model.
        model: ModelRef,
        /// The settings, whole.
        #[serde(flatten)]
        configuration: Configuration,
    },
}

crate::event_catalogue!(ModelConfigEvent { ModelConfigured => ("model_configured", "1") });

/// It refuses nothing: what a model takes is its caller's matter, who has the catalogue.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ModelConfigError {}

impl Aggregate for ModelConfig {
    const TYPE: &'static str = "model_config";
    type Command = ModelConfigCommand;
    type Event = ModelConfigEvent;
    type Error = ModelConfigError;
    type Services = ();

    async fn handle(
        &mut self,
        command: ModelConfigCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), ModelConfigError> {
        let ModelConfigCommand::Configure { model, configuration } = command;
        if self.configuration != configuration {
            sink.write(ModelConfigEvent::ModelConfigured { model, configuration }, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ModelConfigEvent) {
        let ModelConfigEvent::ModelConfigured { configuration, .. } = event;
        self.configuration = configuration;
    }
}

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn cool() -> Configuration {
        Configuration { temperature: Some(0.2), max_tokens: Some(100), ..Configuration::default() }
    }

    #[test]
    fn settings_are_replaced_whole_and_the_same_ones_leave_no_trace() {
        let configure = |configuration| ModelConfigCommand::Configure { model: ModelRef::default(), configuration };
        let configured =
            |configuration| ModelConfigEvent::ModelConfigured { model: ModelRef::default(), configuration };
        let test = || TestFramework::<ModelConfig>::with(()).given(vec![configured(cool())]);
        test().when(configure(cool())).then_expect_events(vec![]);
        let none = Configuration::default();
        test().when(configure(none.clone())).then_expect_events(vec![configured(none)]);
    }

    #[test]
    fn a_request_counts_before_the_settings() {
        let params = Params { temperature: Some(0.9), stop: vec!["END".into()], ..Params::default() };
        let complete = cool().complete(params);
        assert_eq!((complete.temperature, complete.max_tokens, complete.stop.len()), (Some(0.9), Some(100), 1));
    }

    #[test]
    fn every_account_and_model_has_its_own() {
        let account = AccountId::new(Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001));
        let id = |model| ModelConfig::id(account, ModelId::new(Uuid::from_u128(model)));
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
        assert_ne!(id(1), ModelConfig::id(AccountId::default(), ModelId::new(Uuid::from_u128(1))));
        assert_eq!((id(1).get_version_num(), id(1).as_u128() >> 80), (7, account.as_uuid().as_u128() >> 80));
    }
}

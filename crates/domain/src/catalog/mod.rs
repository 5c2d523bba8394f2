//! The catalogue of models: what each can do and what it costs.
//!
//! It is made of the curated `catalog/models.json` and of the models that the operator's configuration declares.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ids::ModelId,
    money::NanoUsd,
    turn::{ModelRef, UsageRecord},
};

/// The built-in demo model, which is free and needs no key.
pub const DEMO: &str = "demo/demo";

/// The curated models that ship with the product.
const CURATED: &str = include_str!("models.json");

/// Prices in nano-dollars for a million tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// Input tokens.
    pub input: i64,
    /// Input tokens that the provider had cached; the price of input where it's absent.
    #[serde(default)]
    pub cached_input: Option<i64>,
    /// Output tokens, reasoning included.
    pub output: i64,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Id: derived from provider and name, so that it is the same on every node.
    #[serde(skip)]
    pub id: ModelId,
    /// Provider.
    pub provider: String,
    /// The provider's name of it.
    pub name: String,
    /// Name for people.
    pub display_name: String,
    /// Window in tokens.
    pub context_length: u32,
    /// Most tokens of one answer.
    pub max_output: u32,
    /// Prices; none where they aren't known (cost is then 0 and marked unpriced).
    #[serde(default)]
    pub prices: Option<Prices>,
    /// Version of the price book that the prices come from.
    #[serde(default)]
    pub price_version: String,
    /// `text`, `vision`, `tools`, `reasoning` …
    #[serde(default)]
    pub capabilities: Vec<String>,
}

impl Model {
    /// A model of which only the name is known.
    pub fn declared(provider: &str, name: &str) -> Self {
        Self {
            id: model_id(provider, name),
            provider: provider.to_owned(),
            name: name.to_owned(),
            display_name: name.to_owned(),
            // The smallest window among current hosted models: too small is safe, too large is an error upstream.
            context_length: 32_768,
            max_output: 4_096,
            prices: None,
            price_version: String::new(),
            capabilities: vec!["text".to_owned()],
        }
    }

    /// `provider/name`.
    pub fn slug(&self) -> String {
        format!("{}/{}", self.provider, self.name)
    }

    /// The reference that events carry.
    pub fn reference(&self) -> ModelRef {
        ModelRef { id: self.id, provider: self.provider.clone(), name: self.name.clone() }
    }

    /// What `usage` costs: exact integers, each class rounded half up once.
    pub fn cost(&self, usage: &UsageRecord) -> NanoUsd {
        let Some(prices) = &self.prices else { return NanoUsd::default() };
        let cached = usage.cached_input.min(usage.input);
        NanoUsd::of_tokens(usage.input - cached, prices.input)
            + NanoUsd::of_tokens(cached, prices.cached_input.unwrap_or(prices.input))
            + NanoUsd::of_tokens(usage.output, prices.output)
    }
}

/// The id of a model: a UUID of version 7's shape whose time is fixed and whose random part is a hash of the name.
pub fn model_id(provider: &str, name: &str) -> ModelId {
    // FNV-1a, 128 bits: ids must only differ, and be the same everywhere and always.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in provider.bytes().chain([b'/']).chain(name.bytes()) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    // 2026-01-01T00:00:00Z, the start of the catalogue.
    const EPOCH_MS: u128 = 1_767_225_600_000;
    let random = hash & !(0xffff_ffff_ffff_u128 << 80) & !(0xf << 76) & !(0x3 << 62);
    ModelId::new(Uuid::from_u128(EPOCH_MS << 80 | 0x7 << 76 | 0x2 << 62 | random))
}

/// All models that this deployment knows.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    models: Vec<Model>,
    by_name: HashMap<String, usize>,
}

impl Catalog {
    /// The curated models of providers that `is_served` accepts, and those that the configuration declares.
    ///
    /// # Errors
    /// The curated file can't be read; a test keeps that from happening.
    pub fn new(
        is_served: impl Fn(&str) -> bool,
        declared: impl IntoIterator<Item = Model>,
    ) -> Result<Self, serde_json::Error> {
        let curated: Vec<Model> = serde_json::from_str(CURATED)?;
        let mut catalog = Self::default();
        for mut model in curated.into_iter().filter(|model| is_served(&model.provider)).chain(declared) {
            model.id = model_id(&model.provider, &model.name);
            catalog.add(model);
        }
        Ok(catalog)
    }

    fn add(&mut self, model: Model) {
        if self.by_name.contains_key(&model.slug()) {
            return;
        }
        let index = self.models.len();
        self.by_name.insert(model.slug(), index);
        self.by_name.insert(model.id.to_string(), index);
        // A bare name means the first provider that has it.
        self.by_name.entry(model.name.clone()).or_insert(index);
        self.models.push(model);
    }

    /// The model that an id, a name or `provider/name` means.
    pub fn resolve(&self, reference: &str) -> Option<&Model> {
        self.by_name.get(reference).and_then(|index| self.models.get(*index))
    }

    /// All models, in the catalogue's order.
    pub fn models(&self) -> &[Model] {
        &self.models
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curated_catalogue_is_readable_and_has_the_demo_model() {
        let catalog = Catalog::new(|_| true, [Model::declared("lab", "tiny")]).unwrap();
        assert!(catalog.resolve(DEMO).is_some());
        let tiny = catalog.resolve("tiny").unwrap();
        assert_eq!(catalog.resolve(&tiny.id.to_string()), Some(tiny));
        assert_eq!(tiny.id.as_uuid().get_version_num(), 7);
        for model in catalog.models() {
            assert!(model.max_output <= model.context_length, "{}", model.slug());
        }
    }

    #[test]
    fn cached_tokens_have_their_own_price() {
        // claude-sonnet-4-5: 1,000 in of which 400 cached, 100 out = $0.00342.
        let prices = Prices { input: 3_000_000_000, cached_input: Some(300_000_000), output: 15_000_000_000 };
        let model = Model { prices: Some(prices), ..Model::declared("anthropic", "claude-sonnet-4-5") };
        let usage = UsageRecord { input: 1_000, output: 100, cached_input: 400, ..UsageRecord::default() };
        assert_eq!(model.cost(&usage).to_string(), "0.003420");
    }
}

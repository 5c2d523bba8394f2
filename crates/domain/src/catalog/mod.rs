//! The catalogue of models: what each can do and what it costs.
//!
//! It is made of the curated `catalog/models.json` and of the models that the operator's configuration declares.

mod check;
mod price;

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    check::{Unfit, highest_temperature},
    price::{Bill, Price, Rates, Tier},
};
use crate::{
    ids::ModelId,
    turn::{ModelRef, UsageRecord},
};

/// The built-in demo model, which is free and needs no key.
pub const DEMO: &str = "demo/demo";

/// What a model may be able to do.
pub const CAPABILITIES: [&str; 7] = ["text", "vision", "files", "tools", "reasoning", "json_schema", "prompt_caching"];

/// The curated models that ship with the product.
const CURATED: &str = include_str!("../../../../catalog/models.json");

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
    /// Versions of its price, oldest first; none where it isn't known (cost is then 0 and marked unpriced).
    #[serde(default)]
    pub prices: Vec<Price>,
    /// Some of [`CAPABILITIES`].
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// It takes no temperature and no `top_p`.
    #[serde(default)]
    pub fixed_sampling: bool,
    /// Day on which its provider is said to take it away.
    #[serde(default)]
    pub retires_on: Option<NaiveDate>,
    /// Only its name is known: what it can do is its host's to say.
    #[serde(skip)]
    pub is_declared: bool,
    /// Whether it sees, where a declaration says so.
    #[serde(skip)]
    pub sees: Option<bool>,
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
            prices: vec![],
            capabilities: vec!["text".to_owned()],
            fixed_sampling: false,
            retires_on: None,
            is_declared: true,
            sees: None,
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

    /// The price that holds at a time.
    pub fn price(&self, at: DateTime<Utc>) -> Option<&Price> {
        price::on(&self.prices, at.date_naive())
    }

    /// What `usage` costs at a time.
    pub fn bill(&self, usage: &UsageRecord, at: DateTime<Utc>) -> Bill {
        self.price(at)
            .map(|price| Bill { cost: price.cost(usage), price_version: price.version.clone() })
            .unwrap_or_default()
    }

    /// Whether its provider is said to have taken it away by then.
    pub fn is_retired(&self, at: DateTime<Utc>) -> bool {
        self.retires_on.is_some_and(|day| day <= at.date_naive())
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
            if model.sees == Some(true) {
                model.capabilities.push("vision".to_owned());
            }
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
        for model in catalog.models().iter().filter(|model| !model.is_declared) {
            assert!(model.max_output <= model.context_length, "{}", model.slug());
            assert!(model.prices.is_sorted_by_key(|price| price.effective_from), "{}", model.slug());
            assert!(!model.prices.is_empty() && model.capabilities.contains(&"text".to_owned()), "{}", model.slug());
            assert!(model.capabilities.iter().all(|own| CAPABILITIES.contains(&own.as_str())), "{}", model.slug());
            for price in &model.prices {
                assert!(price.tiers.is_sorted_by_key(|tier| tier.above), "{}", model.slug());
            }
        }
    }

    #[test]
    fn the_catalogue_has_about_forty_models_of_every_hosted_provider() {
        let catalog = Catalog::new(|_| true, []).unwrap();
        assert!((40..=60).contains(&catalog.models().len()), "{}", catalog.models().len());
        let hosted = [
            "openai",
            "anthropic",
            "gemini",
            "deepseek",
            "qwen",
            "moonshot",
            "zhipu",
            "mistral",
            "groq",
            "openrouter",
            "xai",
        ];
        for provider in hosted {
            assert!(catalog.models().iter().any(|model| model.provider == provider), "{provider}");
        }
    }

    /// What genai-prices 0.2.3 says of the same usage on 2026-11-24; `catalog/oracle.py` asks it.
    #[test]
    fn costs_are_those_of_the_independent_oracle() {
        let catalog = Catalog::new(|_| true, []).unwrap();
        let at = "2026-11-24T12:00:00Z".parse().unwrap();
        for line in include_str!("oracle.csv").lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let number = |index: usize| fields[index].parse::<u64>().unwrap();
            let usage = UsageRecord {
                input: number(1),
                cached_input: number(2),
                cache_write: number(3),
                output: number(4),
                ..UsageRecord::default()
            };
            let bill = catalog.resolve(fields[0]).unwrap().bill(&usage, at);
            assert_eq!(bill.cost.0.to_string(), fields[5], "{line}");
            assert_eq!(bill.price_version, "2026-11-24");
        }
        let sonnet = catalog.resolve("claude-sonnet-4-5").unwrap();
        let usage = UsageRecord { input: 1_000, output: 100, cached_input: 400, ..UsageRecord::default() };
        assert_eq!(sonnet.bill(&usage, at).cost.to_string(), "0.003420");
        assert_eq!(Model::declared("lab", "own").bill(&usage, at), Bill::default());
    }

    #[test]
    fn a_model_is_retired_from_its_day_on() {
        let catalog = Catalog::new(|_| true, []).unwrap();
        let old = catalog.resolve("gpt-5-mini").unwrap();
        assert!(!old.is_retired("2026-12-10T23:59:59Z".parse().unwrap()));
        assert!(old.is_retired("2026-12-11T00:00:00Z".parse().unwrap()));
    }
}

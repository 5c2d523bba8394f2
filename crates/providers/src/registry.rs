//! Which adapters this deployment has: the demo, the presets, and what the operator's configuration declares.

use std::{collections::HashMap, sync::Arc};

use polyphony_domain::catalog::{Catalog, Model};
use polyphony_platform::{
    config::{Config, items},
    http::EgressPolicy,
};
use reqwest::Client;
use url::Url;

use crate::{
    Adapter, ErrorKind, ProviderError, ProviderKey,
    anthropic::{self, Anthropic},
    compatible::{Compatible, Quirks, preset, presets},
    demo::Demo,
    gemini::{self, Gemini},
    openai::OpenAi,
};

/// Which adapter a provider has.
#[derive(Clone, Copy)]
enum Kind {
    Demo,
    OpenAi(Quirks),
    Anthropic,
    Gemini,
    Compatible(Quirks),
}

impl Kind {
    /// By the word of the configuration.
    fn declared(word: &str) -> Option<Self> {
        let openai = preset("openai").map_or(Quirks::COMMON, |preset| preset.quirks);
        match word {
            "openai" => Some(Self::OpenAi(Quirks { key_optional: true, ends_with_done: false, ..openai })),
            "anthropic" => Some(Self::Anthropic),
            "gemini" => Some(Self::Gemini),
            "compatible" => Some(Self::Compatible(Quirks { key_optional: true, ..Quirks::COMMON })),
            _ => None,
        }
    }

    fn adapter(self, name: &str, base_url: &Url, client: &Client) -> Arc<dyn Adapter> {
        let client = client.clone();
        match self {
            Self::Demo => Arc::new(Demo),
            Self::OpenAi(quirks) => Arc::new(OpenAi::new(name, base_url, quirks, client)),
            Self::Anthropic => Arc::new(Anthropic::new(name, base_url, client)),
            Self::Gemini => Arc::new(Gemini::new(name, base_url, client)),
            Self::Compatible(quirks) => Arc::new(Compatible::new(name, base_url, quirks, client)),
        }
    }
}

struct Provider {
    display_name: String,
    adapter: Arc<dyn Adapter>,
    kind: Kind,
    /// It works without a key.
    key_optional: bool,
    operator_key: Option<String>,
}

/// The adapters by provider; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    providers: Arc<HashMap<String, Provider>>,
    client: Client,
}

/// A provider as a caller may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderInfo {
    /// Its name.
    pub name: String,
    /// Name for people.
    pub display_name: String,
    /// Whether a person needs a key of one's own to use it.
    pub needs_key: bool,
}

/// The configuration declares a provider that can't be served.
#[derive(Debug, thiserror::Error)]
#[error("provider {0}: {1}")]
pub struct RegistryError(String, &'static str);

impl Registry {
    /// Makes the adapters.
    ///
    /// # Errors
    /// [`RegistryError`] for a declared provider without a base URL, of an unknown kind, or with a seeing model that it
    /// doesn't have.
    pub fn new(config: &Config, client: Client) -> Result<Self, RegistryError> {
        let mut providers = HashMap::new();
        let mut add = |name: &str, display_name: &str, kind: Kind, key_optional: bool, standard: &str| {
            let own = config.providers.get(name);
            let standard = || Url::parse(standard).map_err(|_| RegistryError(name.to_owned(), "it needs a base_url"));
            let base_url = own.and_then(|own| own.base_url.clone()).map_or_else(standard, Ok)?;
            let adapter = kind.adapter(name, &base_url, &client);
            let operator_key = own.and_then(|own| own.api_key.clone());
            let display_name = display_name.to_owned();
            providers.insert(name.to_owned(), Provider { display_name, adapter, kind, key_optional, operator_key });
            Ok(())
        };
        add("demo", "Demo", Kind::Demo, true, "demo://demo")?;
        add("anthropic", "Anthropic", Kind::Anthropic, false, anthropic::BASE_URL)?;
        add("gemini", "Google Gemini", Kind::Gemini, false, gemini::BASE_URL)?;
        for preset in presets() {
            // A local host is there when the operator says which models it has, or when it was found.
            if preset.quirks.key_optional && !config.providers.contains_key(preset.name) {
                continue;
            }
            let kind = match preset.name {
                "openai" => Kind::OpenAi(preset.quirks),
                _ => Kind::Compatible(preset.quirks),
            };
            add(preset.name, preset.display_name, kind, preset.quirks.key_optional, preset.base_url)?;
        }
        let known = |name: &str| preset(name).is_some() || ["demo", "anthropic", "gemini"].contains(&name);
        for (name, own) in &config.providers {
            let is_declared = |seeing: &str| items(&own.models).any(|model| model == seeing);
            if !own.vision.iter().flat_map(|list| items(list)).all(is_declared) {
                return Err(RegistryError(name.clone(), "vision names a model that models doesn't"));
            }
        }
        for (name, own) in config.providers.iter().filter(|(name, _)| !known(name)) {
            let kind = own.kind.as_deref().ok_or_else(|| {
                RegistryError(name.clone(), "it is not a known name, so it needs kind = \"compatible\"")
            })?;
            let kind = Kind::declared(kind).ok_or_else(|| {
                RegistryError(name.clone(), "kind must be `compatible`, `openai`, `anthropic` or `gemini`")
            })?;
            add(name, name, kind, true, "")?;
        }
        Ok(Self { providers: Arc::new(providers), client })
    }

    /// The models of these providers: the curated ones, and those that the configuration names.
    ///
    /// # Errors
    /// The curated file can't be read, which a test rules out.
    pub fn catalog(&self, config: &Config) -> Result<Catalog, serde_json::Error> {
        let declared = config.providers.iter().filter(|(name, _)| self.providers.contains_key(*name)).flat_map(
            |(provider, own)| {
                let sees = move |name: &str| own.vision.as_ref().map(|list| items(list).any(|seeing| seeing == name));
                items(&own.models).map(move |name| Model { sees: sees(name), ..Model::declared(provider, name) })
            },
        );
        Catalog::new(|provider| self.providers.contains_key(provider), declared)
    }

    /// Whether the models of a provider sign their thoughts as Anthropic's do.
    pub fn signs_thoughts(&self, provider: &str) -> bool {
        self.providers.get(provider).is_some_and(|provider| matches!(provider.kind, Kind::Anthropic))
    }

    /// The adapter of a provider.
    pub fn adapter(&self, provider: &str) -> Option<Arc<dyn Adapter>> {
        self.providers.get(provider).map(|provider| provider.adapter.clone())
    }

    /// The adapter of a provider at a host that a key names.
    ///
    /// # Errors
    /// The host must not be called.
    pub fn at_host(
        &self,
        provider: &str,
        base_url: &str,
        egress: &EgressPolicy,
    ) -> Result<Arc<dyn Adapter>, ProviderError> {
        let blocked = || ProviderError::new(ErrorKind::Unreachable, "the key's base URL must not be called");
        let url = Url::parse(base_url).map_err(|_| blocked())?;
        egress.check_url(&url).map_err(|_| blocked())?;
        let kind = self.providers.get(provider).map_or(Kind::Compatible(Quirks::COMMON), |provider| provider.kind);
        Ok(kind.adapter(provider, &url, &self.client))
    }

    /// The operator's own key for a provider.
    pub fn operator_key(&self, provider: &str) -> Option<ProviderKey> {
        let key = self.providers.get(provider)?.operator_key.clone()?;
        Some(ProviderKey::new(key.into_bytes()))
    }

    /// Whether a person needs a key of one's own for a provider.
    pub fn needs_key(&self, provider: &str) -> bool {
        self.providers.get(provider).is_some_and(|provider| !provider.key_optional && provider.operator_key.is_none())
    }

    /// Whether a provider is served.
    pub fn serves(&self, provider: &str) -> bool {
        self.providers.contains_key(provider)
    }

    /// All providers, by name.
    pub fn providers(&self) -> Vec<ProviderInfo> {
        let mut infos: Vec<ProviderInfo> = self
            .providers
            .iter()
            .map(|(name, provider)| ProviderInfo {
                name: name.clone(),
                display_name: provider.display_name.clone(),
                needs_key: self.needs_key(name),
            })
            .collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        infos
    }
}

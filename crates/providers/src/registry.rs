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
    compatible::{Compatible, Quirks, preset, presets},
    demo::Demo,
};

struct Provider {
    display_name: String,
    adapter: Arc<dyn Adapter>,
    quirks: Quirks,
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
    /// [`RegistryError`] for a declared provider without a base URL, or of an unknown kind.
    pub fn new(config: &Config, client: Client) -> Result<Self, RegistryError> {
        let mut providers = HashMap::new();
        let quirks = Quirks { key_optional: true, ..Quirks::COMMON };
        let demo = Provider { display_name: "Demo".to_owned(), adapter: Arc::new(Demo), quirks, operator_key: None };
        providers.insert("demo".to_owned(), demo);
        let declared = |name: &str| config.providers.get(name);
        for preset in presets() {
            // A local host is there when the operator says which models it has.
            if preset.quirks.key_optional && declared(preset.name).is_none() {
                continue;
            }
            let Ok(standard) = Url::parse(preset.base_url) else { continue };
            let own = declared(preset.name);
            let base_url = own.and_then(|own| own.base_url.clone()).unwrap_or(standard);
            let provider = Provider {
                display_name: preset.display_name.to_owned(),
                adapter: Arc::new(Compatible::new(preset.name, &base_url, preset.quirks, client.clone())),
                quirks: preset.quirks,
                operator_key: own.and_then(|own| own.api_key.clone()),
            };
            providers.insert(preset.name.to_owned(), provider);
        }
        for (name, own) in config.providers.iter().filter(|(name, _)| preset(name).is_none() && *name != "demo") {
            match own.kind.as_deref() {
                Some("compatible") => {}
                Some(_) => return Err(RegistryError(name.clone(), "kind must be `compatible`")),
                // Known by the contract; their adapters are not built yet, so only their base URL may be named.
                None if ["anthropic", "gemini"].contains(&name.as_str()) => continue,
                None => {
                    return Err(RegistryError(
                        name.clone(),
                        "it is not a known name, so it needs kind = \"compatible\"",
                    ));
                }
            }
            let base_url = own.base_url.as_ref().ok_or_else(|| RegistryError(name.clone(), "it needs a base_url"))?;
            let provider = Provider {
                display_name: name.clone(),
                adapter: Arc::new(Compatible::new(name, base_url, quirks, client.clone())),
                quirks,
                operator_key: own.api_key.clone(),
            };
            providers.insert(name.clone(), provider);
        }
        Ok(Self { providers: Arc::new(providers), client })
    }

    /// The models of these providers: the curated ones, and those that the configuration names.
    ///
    /// # Errors
    /// The curated file can't be read, which a test rules out.
    pub fn catalog(&self, config: &Config) -> Result<Catalog, serde_json::Error> {
        let declared = config
            .providers
            .iter()
            .filter(|(name, _)| self.providers.contains_key(*name))
            .flat_map(|(provider, own)| items(&own.models).map(|name| Model::declared(provider, name)));
        Catalog::new(|provider| self.providers.contains_key(provider), declared)
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
        let quirks = self.providers.get(provider).map_or(Quirks::COMMON, |provider| provider.quirks);
        Ok(Arc::new(Compatible::new(provider, &url, quirks, self.client.clone())))
    }

    /// The operator's own key for a provider.
    pub fn operator_key(&self, provider: &str) -> Option<ProviderKey> {
        let key = self.providers.get(provider)?.operator_key.clone()?;
        Some(ProviderKey::new(key.into_bytes()))
    }

    /// Whether a person needs a key of one's own for a provider.
    pub fn needs_key(&self, provider: &str) -> bool {
        self.providers
            .get(provider)
            .is_some_and(|provider| !provider.quirks.key_optional && provider.operator_key.is_none())
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

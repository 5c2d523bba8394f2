//! `polyphony models`: the catalogue, its prices, and what the providers themselves say.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Subcommand};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{ProgressBar, ProgressStyle};
use polyphony_domain::{
    catalog::{Catalog, Model},
    money::NanoUsd,
    turn::UsageRecord,
};
use polyphony_platform::config::Config;
use polyphony_providers::{ProviderError, registry::Registry};
use serde_json::json;

use super::print;
use crate::roles;

/// The longest that one provider is waited for.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Subcommand)]
pub enum ModelsCommand {
    /// Show the catalogue: windows, prices for a million tokens, and who can use what.
    List {
        /// Of this provider only.
        #[arg(long)]
        provider: Option<String>,
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Ask every configured provider whether it takes the operator's key, or whether its host answers.
    Check,
    /// Say what a call would cost.
    Price(PriceArgs),
    /// Ask the providers for their models: what the catalogue lacks, and what is gone.
    Discover {
        /// This provider only.
        #[arg(long)]
        provider: Option<String>,
    },
}

#[derive(Args)]
pub struct PriceArgs {
    /// Id, name, or `provider/name`.
    model: String,
    /// Input tokens in all.
    #[arg(long, default_value_t = 1_000)]
    input: u64,
    /// How many of them came from the provider's cache.
    #[arg(long, default_value_t = 0)]
    cached: u64,
    /// How many of them were written to the provider's cache.
    #[arg(long, default_value_t = 0)]
    written: u64,
    /// Output tokens.
    #[arg(long, default_value_t = 1_000)]
    output: u64,
    /// With the price of this day.
    #[arg(long)]
    at: Option<NaiveDate>,
}

/// Runs a subcommand.
pub async fn run(config: &Config, command: ModelsCommand) -> anyhow::Result<()> {
    // As the roles see it: with the model servers that are found on this machine.
    let mut config = config.clone();
    polyphony_providers::discovery::discover(&mut config).await;
    let config = &config;
    let (_, registry) = roles::outbound(config)?;
    let catalog = registry.catalog(config)?;
    match command {
        ModelsCommand::List { provider, json } => {
            check_name(&registry, provider.as_deref())?;
            list(&catalog, &registry, provider.as_deref(), json)
        }
        ModelsCommand::Check => check(config, &registry).await,
        ModelsCommand::Price(args) => price(&catalog, &args),
        ModelsCommand::Discover { provider } => discover(&catalog, &registry, provider.as_deref()).await,
    }
}

/// Refuses a name that no provider has.
fn check_name(registry: &Registry, name: Option<&str>) -> anyhow::Result<()> {
    match name.filter(|name| !registry.serves(name)) {
        None => Ok(()),
        Some(name) => {
            let names: Vec<String> = registry.providers().into_iter().map(|provider| provider.name).collect();
            bail!("there is no provider {name} here; there are {}", names.join(", "))
        }
    }
}

/// What to do where nobody can be asked.
const NOBODY: &str = "no provider has an operator's key or a host of its own, so people bring their own keys; \
    to ask one from here, set for example POLYPHONY_PROVIDERS__OPENAI__API_KEY";

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// Dollars without needless zeroes.
fn dollars(nanos: i64) -> String {
    let text = NanoUsd(nanos).to_string();
    let text = text.trim_end_matches('0');
    text.strip_suffix('.').unwrap_or(text).to_owned()
}

fn usable(registry: &Registry, model: &Model) -> &'static str {
    if registry.operator_key(&model.provider).is_some() {
        "operator's key"
    } else if registry.needs_key(&model.provider) {
        "own key"
    } else {
        "free"
    }
}

fn list(catalog: &Catalog, registry: &Registry, provider: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let now = Utc::now();
    let models = catalog.models().iter().filter(|model| provider.is_none_or(|provider| model.provider == provider));
    if as_json {
        for model in models {
            let line = json!({
                "id": model.id, "model": model.slug(), "context_length": model.context_length,
                "max_output": model.max_output, "capabilities": model.capabilities, "price": model.price(now),
                "retires_on": model.retires_on, "usable": usable(registry, model),
            });
            print(&format!("{line}\n"))?;
        }
        return Ok(());
    }
    let mut table = table(&["model", "window", "output", "$ in", "$ cached", "$ out", "can", "usable with", "notes"]);
    for model in models {
        let rates = model.price(now).map(|price| &price.rates);
        let rate = |value: Option<i64>| right(value.map_or_else(|| "?".to_owned(), dollars));
        let mut notes = Vec::new();
        if model.price(now).is_some_and(|price| !price.tiers.is_empty()) {
            notes.push("long prompts cost more".to_owned());
        }
        if let Some(day) = model.retires_on {
            notes.push(format!("retires {day}"));
        }
        table.add_row(vec![
            Cell::new(model.slug()),
            right(model.context_length),
            right(model.max_output),
            rate(rates.map(|rates| rates.input)),
            rate(rates.map(|rates| rates.cached_input.unwrap_or(rates.input))),
            rate(rates.map(|rates| rates.output)),
            Cell::new(model.capabilities.join(" ")),
            Cell::new(usable(registry, model)),
            Cell::new(notes.join(", ")),
        ]);
    }
    print(&format!("{table}\n"))
}

fn price(catalog: &Catalog, args: &PriceArgs) -> anyhow::Result<()> {
    let model = catalog
        .resolve(&args.model)
        .with_context(|| format!("there is no model {}; `polyphony models list` shows all", args.model))?;
    if args.cached.saturating_add(args.written) > args.input {
        bail!("--cached and --written are parts of --input, so together they can't be more");
    }
    let at: DateTime<Utc> = args.at.map_or_else(Utc::now, |day| day.and_time(chrono::NaiveTime::MIN).and_utc());
    let price = model.price(at).with_context(|| format!("the price of {} is not known", model.slug()))?;
    let rates = price.rates(args.input);
    let plain = args.input - args.cached - args.written;
    let rows = [
        ("input", plain, rates.input),
        ("cached input", args.cached, rates.cached_input.unwrap_or(rates.input)),
        ("cache write", args.written, rates.cache_write.unwrap_or(rates.input)),
        ("output", args.output, rates.output),
    ];
    let mut table = table(&["tokens", "", "$ per million", "$"]);
    for (class, tokens, rate) in rows.into_iter().filter(|(_, tokens, _)| *tokens > 0) {
        let cost = NanoUsd::of_tokens(tokens, rate);
        table.add_row(vec![Cell::new(class), right(tokens), right(dollars(rate)), right(cost)]);
    }
    let usage = UsageRecord {
        input: args.input,
        cached_input: args.cached,
        cache_write: args.written,
        output: args.output,
        ..UsageRecord::default()
    };
    table.add_row(vec![Cell::new("total"), Cell::new(""), Cell::new(""), right(price.cost(&usage))]);
    let (slug, version, source) = (model.slug(), &price.version, &price.source);
    print(&format!("{slug}, price of {version} from {source}\n{table}\n"))
}

/// Something to do with each provider, with a bar that shows how far it is.
fn bar(count: usize) -> ProgressBar {
    let bar = ProgressBar::new(count as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Asks a provider for its models, with the operator's key or without one.
async fn models_of(registry: &Registry, provider: &str) -> Result<Vec<String>, ProviderError> {
    let Some(adapter) = registry.adapter(provider) else { return Ok(vec![]) };
    let key = registry.operator_key(provider);
    let asked = tokio::time::timeout(TIMEOUT, adapter.list_models(key.as_ref())).await;
    let models = asked.unwrap_or_else(|_| Err(ProviderError::of(polyphony_providers::ErrorKind::Timeout)))?;
    Ok(models.into_iter().map(|model| model.name).collect())
}

/// The providers that can be asked without anybody's own key; the demo is no host.
fn askable(registry: &Registry) -> Vec<String> {
    let names = registry.providers().into_iter().map(|provider| provider.name);
    names
        .filter(|name| name != "demo" && (!registry.needs_key(name) || registry.operator_key(name).is_some()))
        .collect()
}

async fn check(config: &Config, registry: &Registry) -> anyhow::Result<()> {
    let providers = askable(registry);
    if providers.is_empty() {
        return print(&format!("{NOBODY}\n"));
    }
    let progress = bar(providers.len());
    let mut table = table(&["provider", "host", "asked with", "answer", "ms"]);
    let mut failed = 0;
    for provider in providers {
        progress.set_message(provider.clone());
        let began = Instant::now();
        let key = registry.operator_key(&provider);
        let answer = match (&key, registry.adapter(&provider)) {
            (Some(key), Some(adapter)) => tokio::time::timeout(TIMEOUT, adapter.validate_key(key))
                .await
                .unwrap_or_else(|_| Err(ProviderError::of(polyphony_providers::ErrorKind::Timeout))),
            _ => models_of(registry, &provider).await.map(drop),
        };
        failed += usize::from(answer.is_err());
        let host = config.providers.get(&provider).and_then(|own| own.base_url.as_ref());
        table.add_row(vec![
            Cell::new(&provider),
            Cell::new(host.and_then(|url| url.host_str()).unwrap_or("standard")),
            Cell::new(if key.is_some() { "operator's key" } else { "no key" }),
            Cell::new(answer.map_or_else(|error| format!("{}: {}", error.api_code(), error.message), |()| "ok".into())),
            right(began.elapsed().as_millis()),
        ]);
        progress.inc(1);
    }
    progress.finish_and_clear();
    print(&format!("{table}\n"))?;
    if failed > 0 {
        bail!("{failed} of the providers can't be used");
    }
    Ok(())
}

async fn discover(catalog: &Catalog, registry: &Registry, only: Option<&str>) -> anyhow::Result<()> {
    check_name(registry, only)?;
    let mut providers = askable(registry);
    providers.retain(|provider| only.is_none_or(|only| only == provider));
    match only {
        Some("demo") => return print("the demo is built in: it has the models that the catalogue has\n"),
        Some(only) if providers.is_empty() => {
            let variable = only.to_uppercase();
            bail!("{only} needs an operator's key to be asked: POLYPHONY_PROVIDERS__{variable}__API_KEY");
        }
        None if providers.is_empty() => return print(&format!("{NOBODY}\n")),
        _ => {}
    }
    let progress = bar(providers.len());
    let mut table = table(&["provider", "model", "state"]);
    let mut failed = Vec::new();
    for provider in providers {
        progress.set_message(provider.clone());
        match models_of(registry, &provider).await {
            Ok(offered) => {
                let known: Vec<&str> = catalog
                    .models()
                    .iter()
                    .filter(|model| model.provider == provider)
                    .map(|model| model.name.as_str())
                    .collect();
                let new = offered.iter().map(String::as_str).filter(|name| !known.contains(name));
                let gone = known.iter().copied().filter(|name| !offered.iter().any(|other| other == name));
                let states = new.map(|name| (name, "not in the catalogue")).chain(gone.map(|name| (name, "gone")));
                for (name, state) in states {
                    table.add_row(vec![provider.as_str(), name, state]);
                }
            }
            Err(error) => failed.push(format!("{provider}: {}", error.message)),
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if table.is_empty() && failed.is_empty() {
        return print("the catalogue has exactly what the providers offer\n");
    }
    if !table.is_empty() {
        print(&format!("{table}\n"))?;
    }
    if !failed.is_empty() {
        bail!("could not be asked: {}", failed.join("; "));
    }
    Ok(())
}

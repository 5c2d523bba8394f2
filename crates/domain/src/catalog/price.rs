//! The price book: what each class of tokens costs, by version and by length of the prompt.
//!
//! A bill names the version that it was made with. Versions are only ever added, so an old bill stays what it was.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::{money::NanoUsd, turn::UsageRecord};

/// Nano-dollars for a million tokens, by class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Input tokens.
    pub input: i64,
    /// Input tokens that came from the provider's cache; the price of input where it's absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<i64>,
    /// Input tokens that were written to the provider's cache; the price of input where it's absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<i64>,
    /// Output tokens, reasoning included.
    pub output: i64,
}

impl Rates {
    /// What `usage` costs: exact integers, each class rounded half up once.
    pub fn cost(&self, usage: &UsageRecord) -> NanoUsd {
        let cached = usage.cached_input.min(usage.input);
        let written = usage.cache_write.min(usage.input - cached);
        NanoUsd::of_tokens(usage.input - cached - written, self.input)
            + NanoUsd::of_tokens(cached, self.cached_input.unwrap_or(self.input))
            + NanoUsd::of_tokens(written, self.cache_write.unwrap_or(self.input))
            + NanoUsd::of_tokens(usage.output, self.output)
    }
}

/// Other rates for long prompts. They hold for all tokens of the call, not only for those over the threshold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// They hold for prompts of more tokens than this.
    pub above: u64,
    /// The rates.
    #[serde(flatten)]
    pub rates: Rates,
}

/// One version of a model's price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Its name, which bills carry.
    pub version: String,
    /// First day on which it holds, UTC.
    pub effective_from: NaiveDate,
    /// Where it is from.
    pub source: String,
    /// The rates for prompts below every tier.
    #[serde(flatten)]
    pub rates: Rates,
    /// Rates for longer prompts, by threshold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
}

impl Price {
    /// The rates for a prompt of `input` tokens.
    pub fn rates(&self, input: u64) -> &Rates {
        self.tiers.iter().rev().find(|tier| input > tier.above).map_or(&self.rates, |tier| &tier.rates)
    }

    /// What `usage` costs.
    pub fn cost(&self, usage: &UsageRecord) -> NanoUsd {
        self.rates(usage.input).cost(usage)
    }
}

/// What was used, priced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// Cost; 0 where the price isn't known.
    pub cost: NanoUsd,
    /// Version of the price book; empty where the price isn't known.
    pub price_version: String,
}

/// The version that holds on a day: the newest that has begun, or the first of all.
pub(super) fn on(book: &[Price], day: NaiveDate) -> Option<&Price> {
    book.iter().rev().find(|price| price.effective_from <= day).or_else(|| book.first())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn price(version: &str, input: i64) -> Price {
        let rates = Rates { input, cached_input: None, cache_write: None, output: 4 * input };
        let from = day(version);
        Price { version: version.into(), effective_from: from, source: "test".into(), rates, tiers: vec![] }
    }

    #[test]
    fn a_new_price_leaves_older_days_alone() {
        let book = [price("2026-01-01", 1_000), price("2026-03-01", 2_000)];
        let version = |text| on(&book, day(text)).unwrap().version.as_str();
        assert_eq!(version("2026-02-28"), "2026-01-01");
        assert_eq!(version("2026-03-01"), "2026-03-01");
        // Before the book began, its first price is the best that is known.
        assert_eq!(version("2025-12-31"), "2026-01-01");
        assert_eq!(on(&[], day("2026-01-01")), None);
    }

    #[test]
    fn every_class_has_its_own_rate_and_none_is_counted_twice() {
        let rates =
            Rates { input: 1_000_000, cached_input: Some(100_000), cache_write: Some(1_250_000), output: 5_000_000 };
        let usage = UsageRecord { input: 10, cached_input: 3, cache_write: 2, output: 4, ..UsageRecord::default() };
        // 5 plain, 3 cached, 2 written, 4 out.
        assert_eq!(rates.cost(&usage), NanoUsd(5 + 3 + 20));
        let odd = UsageRecord { input: 2, cached_input: 9, cache_write: 9, ..UsageRecord::default() };
        assert_eq!(rates.cost(&odd), NanoUsd::of_tokens(2, 100_000));
        let plain = Rates { cached_input: None, cache_write: None, ..rates };
        assert_eq!(plain.cost(&usage), NanoUsd(10 + 20));
    }

    #[test]
    fn a_long_prompt_changes_the_rate_of_all_its_tokens() {
        let mut long = price("2026-01-01", 1_000_000);
        long.tiers = [(200, 2_000_000), (400, 3_000_000)]
            .map(|(above, input)| Tier { above, rates: Rates { input, ..long.rates.clone() } })
            .to_vec();
        let cost = |input| long.cost(&UsageRecord { input, ..UsageRecord::default() }).0;
        assert_eq!((cost(200), cost(201), cost(400), cost(401)), (200, 402, 800, 1_203));
    }
}

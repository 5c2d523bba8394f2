//! Money as integers: nano-dollars (10⁻⁹ US dollars). Never a float.

use std::{fmt, iter::Sum, ops::Add, str::FromStr};

use serde::{Deserialize, Serialize};

/// An amount in nano-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(pub i64);

impl NanoUsd {
    /// The price of `tokens` tokens at `per_million` nano-dollars for a million of them, rounded half up.
    pub fn of_tokens(tokens: u64, per_million: i64) -> Self {
        let exact = i128::from(tokens) * i128::from(per_million);
        Self(i64::try_from((exact + 500_000).div_euclid(1_000_000)).unwrap_or(i64::MAX))
    }
}

impl Add for NanoUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for NanoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for NanoUsd {
    /// Dollars as a decimal string: at least six places, nine where they're needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let (dollars, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        if rest % 1_000 == 0 {
            write!(f, "{sign}{dollars}.{:06}", rest / 1_000)
        } else {
            let digits = format!("{rest:09}");
            write!(f, "{sign}{dollars}.{}", digits.trim_end_matches('0'))
        }
    }
}

/// Not an amount of dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number of dollars with at most 9 decimals")]
pub struct NotAnAmount;

impl FromStr for NanoUsd {
    type Err = NotAnAmount;

    /// Reads dollars as a decimal number, exactly: digits, with a point and up to nine decimals.
    fn from_str(text: &str) -> Result<Self, NotAnAmount> {
        let (dollars, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(dollars) || !is_number(decimals) || decimals.len() > 9 {
            return Err(NotAnAmount);
        }
        let dollars: i64 = dollars.parse().map_err(|_| NotAnAmount)?;
        let nanos: i64 = format!("{decimals:0<9}").parse().map_err(|_| NotAnAmount)?;
        let whole = dollars.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanos));
        whole.map(Self).ok_or(NotAnAmount)
    }
}

#[cfg(test)]
mod tests {
    use super::NanoUsd;

    #[test]
    fn amounts_are_read_exactly() {
        for (text, nanos) in [("0.05", 50_000_000), ("3", 3_000_000_000), ("0.000000037", 37)] {
            assert_eq!(text.parse(), Ok(NanoUsd(nanos)));
        }
        for wrong in ["", ".5", "1.", "-1", "+1", "1e3", "0.0000000001", "99999999999"] {
            assert!(wrong.parse::<NanoUsd>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_read_as_decimal_dollars() {
        assert_eq!(NanoUsd(0).to_string(), "0.000000");
        assert_eq!(NanoUsd(1_234_000).to_string(), "0.001234");
        assert_eq!(NanoUsd(37).to_string(), "0.000000037");
        assert_eq!(NanoUsd(-2_500_000_000).to_string(), "-2.500000");
    }

    #[test]
    fn token_cost_is_exact_and_rounds_half_up() {
        // 1,000 tokens at $0.15 a million are $0.00015.
        assert_eq!(NanoUsd::of_tokens(1_000, 150_000_000), NanoUsd(150_000));
        assert_eq!(NanoUsd::of_tokens(1, 500_000), NanoUsd(1));
        assert_eq!(NanoUsd::of_tokens(1, 499_999), NanoUsd(0));
        assert_eq!(NanoUsd::of_tokens(u64::MAX, i64::MAX), NanoUsd(i64::MAX));
    }
}

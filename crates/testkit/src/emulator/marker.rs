//! Markers: words that say whose prompt it was, found again wherever its text may have gone.

use std::time::{Duration, SystemTime};

/// `wm-<8 hex digits of the person>-<number of the prompt>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Marker {
    /// All of it.
    pub text: String,
    /// Its person.
    pub person: String,
}

impl Marker {
    /// The marker of a person's prompt.
    pub fn new(person: &str, number: u32) -> Self {
        Self { text: format!("wm-{person}-{number}"), person: person.to_owned() }
    }
}

/// All markers in a text, in order.
pub fn markers(text: &str) -> Vec<Marker> {
    let found = text.match_indices("wm-").filter_map(|(start, _)| {
        let person = text.get(start + 3..start + 11)?;
        let number = text.get(start + 11..)?.strip_prefix('-')?;
        let digits = number.len() - number.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let valid = digits > 0 && person.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| Marker { text: text[start..start + 12 + digits].to_owned(), person: person.to_owned() })
    });
    found.collect()
}

/// A moment from now in the form of HTTP.
pub(super) fn http_date(from_now: Duration) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let moment = SystemTime::now() + from_now;
    let seconds = moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize - 1],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of a day since 1970.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_in_any_text() {
        let text = "ask wm-0123abcd-7: then wm-0123abcd-12.3.4 你好 wm-xyz-1 wm-0123abcd-";
        let found: Vec<_> = markers(text).into_iter().map(|marker| marker.text).collect();
        assert_eq!(found, ["wm-0123abcd-7", "wm-0123abcd-12"]);
        assert_eq!(markers(&Marker::new("0123abcd", 3).text), [Marker::new("0123abcd", 3)]);
    }

    #[test]
    fn days_are_counted_as_in_the_calendar() {
        assert_eq!((civil(0), civil(59), civil(19_782)), ((1970, 1, 1), (1970, 3, 1), (2024, 2, 29)));
        assert!(http_date(Duration::ZERO).ends_with(" GMT"));
    }
}

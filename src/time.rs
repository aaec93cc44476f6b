//! Points in time as text.

use std::time::Duration;

/// A point in time, given as what has passed since 1970, as RFC 3339 in UTC: `2026-07-28T12:00:00Z`.
#[must_use]
pub fn rfc3339(since_epoch: Duration) -> String {
    format!("{}Z", to_the_second(since_epoch))
}

/// The same with milliseconds: `2026-07-28T12:00:00.000Z`.
#[must_use]
pub fn rfc3339_ms(since_epoch: Duration) -> String {
    format!("{}.{:03}Z", to_the_second(since_epoch), since_epoch.subsec_millis())
}

fn to_the_second(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 0000-03-01, so that the leap day is a year's last (Gregorian calendar, 400 year cycle).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_785_240_000, "2026-07-28T12:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
        }
        assert_eq!(rfc3339_ms(Duration::from_micros(7_999)), "1970-01-01T00:00:00.007Z");
        assert_eq!(rfc3339(Duration::from_millis(1_999)), "1970-01-01T00:00:01Z");
    }
}

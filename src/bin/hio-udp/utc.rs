//! Times for people.

use crate::packets::{Nanos, SECOND};

/// A time as RFC 3339 writes it, in UTC, as exact as it is told: `2026-11-24T23:03:00.000000001Z`.
pub fn text(time: Nanos) -> String {
    let exact = exact(time);
    let (seconds, fraction) = exact.trim_end_matches('Z').split_once('.').expect("a point before the fraction");
    match fraction.trim_end_matches('0') {
        "" => format!("{seconds}Z"),
        fraction => format!("{seconds}.{fraction}Z"),
    }
}

/// The same with all nine digits, so that texts sort as times do: `2026-11-24T23:03:00.500000000Z`.
pub fn exact(time: Nanos) -> String {
    let ([year, month, day, hour, minute, second], nanos) = parts(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// For names of files, to the second: `20261124T230300Z`.
pub fn compact(time: Nanos) -> String {
    let ([year, month, day, hour, minute, second], _) = parts(time);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Year, month, day, hour, minute and second, and the nanoseconds behind them.
fn parts(time: Nanos) -> ([Nanos; 6], Nanos) {
    let (seconds, nanos) = (time.div_euclid(SECOND), time.rem_euclid(SECOND));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    ([year, month, day, second / 3600, second / 60 % 60, second % 60], nanos)
}

/// Year, month and day of so many days after 1970-01-01; the method is Howard Hinnant's `civil_from_days`.
fn civil(days: Nanos) -> (Nanos, Nanos, Nanos) {
    // Years begin in March here, so that a leap day is the last of its year; eras have 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + Nanos::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_a_calendar_has_them() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_795_564_800, "2026-11-25T00:00:00Z"),
        ] {
            assert_eq!(text(seconds * SECOND), written);
        }
        assert_eq!(text(1_500_000_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(exact(1_500_000_000), "1970-01-01T00:00:01.500000000Z");
        assert_eq!(compact(1_709_251_199 * SECOND), "20240229T235959Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z");
        // Whatever a file says.
        assert!(!text(1 << 98).is_empty() && !text(-(1 << 98)).is_empty());
    }
}

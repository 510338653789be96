//! The one written form of event time, `YYYY-MM-DDTHH:MM:SS.mmmZ`, read and written exactly.
//! Used for transactions, rule sets, alerts and sample data.

use millstream_runtime::time::Timestamp;

/// Bytes of a written time.
pub const TIME_LENGTH: usize = 24;

const MS_PER_DAY: i64 = 86_400_000;

/// The greatest time that has a written form, `9999-12-31T23:59:59.999Z`.
pub const GREATEST_TIME: Timestamp = 253_402_300_799_999;

/// The smallest time that has a written form, `0000-01-01T00:00:00.000Z`.
pub const SMALLEST_TIME: Timestamp = -62_167_219_200_000;

/// Reads a time; `None` unless the text has exactly this form and is a date of the (proleptic) Gregorian calendar.
/// There are no leap seconds and no hour 24.
#[must_use]
#[inline]
pub fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let text: &[u8; TIME_LENGTH] = text.try_into().ok()?;
    let separators = text[4] == b'-'
        && text[7] == b'-'
        && text[10] == b'T'
        && text[13] == b':'
        && text[16] == b':'
        && text[19] == b'.'
        && text[23] == b'Z';
    // Digits map to 0..=9, all else to more; collecting the worst keeps the common case free of branches.
    let mut worst = 0_u8;
    let mut digit = |at: usize| {
        let value = text[at].wrapping_sub(b'0');
        worst = worst.max(value);
        i64::from(value)
    };
    let year = digit(0) * 1000 + digit(1) * 100 + digit(2) * 10 + digit(3);
    let month = digit(5) * 10 + digit(6);
    let day = digit(8) * 10 + digit(9);
    let hour = digit(11) * 10 + digit(12);
    let minute = digit(14) * 10 + digit(15);
    let second = digit(17) * 10 + digit(18);
    let millisecond = digit(20) * 100 + digit(21) * 10 + digit(22);
    let in_range =
        (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month) && hour < 24 && minute < 60;
    if !separators || worst > 9 || !in_range || second >= 60 {
        return None;
    }
    let days = days_since_epoch(year, month, day);
    Some(days * MS_PER_DAY + hour * 3_600_000 + minute * 60_000 + second * 1_000 + millisecond)
}

/// Writes a time. A time beyond the years 0000 to 9999 is written as the nearest one that has a form.
#[must_use]
pub fn format_time(time: Timestamp) -> [u8; TIME_LENGTH] {
    let time = time.clamp(SMALLEST_TIME, GREATEST_TIME);
    let (days, rest) = (time.div_euclid(MS_PER_DAY), time.rem_euclid(MS_PER_DAY));
    let (year, month, day) = date_of(days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |at: usize, width: usize, mut value: i64| {
        for place in (at..at + width).rev() {
            text[place] = b'0' + u8::try_from(value % 10).expect("a remainder of ten is one digit");
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, rest / 3_600_000);
    put(14, 2, rest / 60_000 % 60);
    put(17, 2, rest / 1_000 % 60);
    put(20, 3, rest % 1_000);
    text
}

/// Writes a time as a string.
#[must_use]
pub fn time_text(time: Timestamp) -> String {
    String::from_utf8(format_time(time).to_vec()).expect("the form is ASCII")
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01, by Howard Hinnant's `days_from_civil` ("chrono-Compatible Low-Level Date Algorithms").
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day, by Howard Hinnant's `civil_from_days`.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times_are_read_and_written() {
        for (text, time) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2026-01-01T00:00:00.000Z", 1_767_225_600_000),
            ("2024-02-29T23:59:59.999Z", 1_709_251_199_999),
            ("1969-12-31T23:59:59.999Z", -1),
            ("0000-01-01T00:00:00.000Z", SMALLEST_TIME),
            ("9999-12-31T23:59:59.999Z", GREATEST_TIME),
        ] {
            assert_eq!(parse_time(text.as_bytes()), Some(time), "{text}");
            assert_eq!(time_text(time), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000",
            "2026-01-01 00:00:00.000Z",
            "2026-01-01t00:00:00.000z",
            "2026-02-29T00:00:00.000Z",
            "1900-02-29T00:00:00.000Z",
            "2026-04-31T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:60:00.000Z",
            "2026-12-31T23:59:60.000Z",
            "2026-01-01T00:00:00.00aZ",
            "2026-01-01T00:00:00.0000Z",
            "+026-01-01T00:00:00.000Z",
        ] {
            assert_eq!(parse_time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let mut days = days_since_epoch(1600, 1, 1);
        for year in 1600..2400 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    assert_eq!(days_since_epoch(year, month, day), days);
                    assert_eq!(date_of(days), (year, month, day));
                    days += 1;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(time in SMALLEST_TIME..=GREATEST_TIME) {
            prop_assert_eq!(parse_time(&format_time(time)), Some(time));
        }
    }
}

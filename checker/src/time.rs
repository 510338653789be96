//! Timestamps of the contract, `2026-01-01T00:00:00.000Z`, as milliseconds since the epoch and back. Used by every
//! other file of the checker. Dates are proleptic Gregorian; nothing but exactly this form is a time.

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Milliseconds since 1970-01-01T00:00:00.000Z, or nothing when the text has not exactly the form of the contract.
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let form = b"dddd-dd-ddTdd:dd:dd.dddZ";
    if bytes.len() != form.len() {
        return None;
    }
    for (byte, wanted) in bytes.iter().zip(form) {
        let fits = if *wanted == b'd' { byte.is_ascii_digit() } else { byte == wanted };
        if !fits {
            return None;
        }
    }
    let number = |from: usize, to: usize| bytes[from..to].iter().fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second, millis) = (number(11, 13), number(14, 16), number(17, 19), number(20, 23));
    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_before_year(year) + (1..month).map(|m| days_of_month(year, m)).sum::<i64>() + day - 1;
    Some(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + millis)
}

/// The form of the contract.
pub fn format(time: i64) -> String {
    let (mut days, rest) = (time.div_euclid(DAY_MS), time.rem_euclid(DAY_MS));
    // Never after the year sought, on either side of the epoch.
    let mut year = 1970 + days.div_euclid(366).min(days.div_euclid(365));
    while days_before_year(year + 1) <= days {
        year += 1;
    }
    days -= days_before_year(year);
    let mut month = 1;
    while days >= days_of_month(year, month) {
        days -= days_of_month(year, month);
        month += 1;
    }
    let (hour, minute, second, millis) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", days + 1)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the first of January of the year; negative before 1970.
fn days_before_year(year: i64) -> i64 {
    let leaps = |y: i64| y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400);
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        assert_eq!(parse("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(parse("1969-12-31T23:59:59.999Z"), Some(-1));
        assert_eq!(parse("2026-01-01T00:00:00.000Z"), Some(1_767_225_600_000));
        assert_eq!(parse("2000-02-29T12:34:56.789Z"), Some(951_827_696_789));
        assert_eq!(parse("2024-12-31T23:59:59.999Z"), Some(1_735_689_599_999));
    }

    #[test]
    fn the_form_is_exact() {
        for bad in [
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.00Z",
            "2026-01-01T00:00:00.0000Z",
            "2026-01-01T00:00:00.000z",
            "2026-01-01 00:00:00.000Z",
            "2026-01-01T00:00:00.000+00:00",
            "2026-02-29T00:00:00.000Z",
            "1900-02-29T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z",
            "2026-04-31T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:60:00.000Z",
            "2026-01-01T00:00:60.000Z",
            " 2026-01-01T00:00:00.000Z",
            "",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn format_is_the_inverse_of_parse() {
        let mut time = parse("0000-01-01T00:00:00.000Z").expect("a time");
        let last = parse("9999-12-31T23:59:59.999Z").expect("a time");
        while time <= last {
            assert_eq!(parse(&format(time)), Some(time));
            time += 8 * DAY_MS + 3_723_004;
        }
        assert_eq!(format(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(format(last), "9999-12-31T23:59:59.999Z");
    }
}

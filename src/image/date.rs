//! Dates in UTC, as RFC 3339 writes them.

/// Returns the seconds since 1970 of `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM:SSZ`, or `None` for any
/// other text.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let (date, time) = match text.split_at_checked(10)? {
        (date, "") => (date, "00:00:00"),
        (date, rest) => (date, rest.strip_prefix(['T', 't', ' '])?.strip_suffix(['Z', 'z'])?),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_valid = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    is_valid.then(|| ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let fits = |(part, digits): (&&str, usize)| {
        part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if parts.len() != 3 || !parts.iter().zip(digits).all(fits) {
        return None;
    }
    let numbers: Vec<i64> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    numbers.try_into().ok()
}

fn days_of(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // The leap days of all years before `year`, by the rules of the Gregorian calendar.
    let leap_days_before = |year: i64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let days_before = (1..month).map(|month| days_of(year, month)).sum::<i64>();
    (year - 1970) * 365 + leap_days_before(year) - leap_days_before(1970) + days_before + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_in_utc() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("2024-01-01", Some(1_704_067_200)),
            ("2024-02-29", Some(1_709_164_800)),
            ("2000-03-01T00:00:01Z", Some(951_868_801)),
            ("2100-01-01", Some(4_102_444_800)),
            ("2024-01-01T12:34:56Z", Some(1_704_112_496)),
            ("2024-01-01 12:34:56Z", Some(1_704_112_496)),
            ("1969-12-31", Some(-86_400)),
            ("2023-02-29", None),
            ("2024-13-01", None),
            ("2024-00-10", None),
            ("2024-1-01", None),
            ("2024-01-01T24:00:00Z", None),
            ("2024-01-01T12:34:56+02:00", None),
            ("2024-01-01T12:34:56", None),
            ("+024-01-01", None),
            ("today", None),
            ("2024-01-0ä", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}

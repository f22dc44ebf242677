//! The days of the last password change in `/etc/shadow`.
//!
//! Tools that make an account write the day of the build, or the day of the source date epoch if
//! they know `SOURCE_DATE_EPOCH`. Both are normalized. At first boot, the account works as if its
//! password had been set on that day.
//!
//! Source: shadow(5); Linux-PAM, `modules/pam_unix/passverify.c`, `check_shadow_expiry`.

use super::times::Times;

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// 2100-01-01 in days since 1970. A password of that day does not expire while the image is in use.
///
/// An empty field means "aging is disabled" according to shadow(5), but Linux-PAM before 1.6
/// (Debian 12, Ubuntu 22.04, EL 9) reads it as day -1 and refuses the login. All versions accept a
/// day in the future. When the user changes the password, it expires after `max` days from then on.
const NEVER: i64 = 47_482;

/// Fields of a line, counted from 0.
const LAST_CHANGE: usize = 2;
const MAX_DAYS: usize = 4;

/// Returns `content` without the days on which the build ran.
pub(super) fn normalize(content: &[u8], times: &Times) -> Vec<u8> {
    let days = Days {
        epoch: times.clamp.epoch.div_euclid(SECONDS_PER_DAY),
        first: times.started.div_euclid(SECONDS_PER_DAY),
        last: times.ended.div_euclid(SECONDS_PER_DAY),
    };
    let line = |line: &[u8]| days.normalize_line(line);
    content.split(|byte| *byte == b'\n').map(line).collect::<Vec<_>>().join(&b'\n')
}

struct Days {
    epoch: i64,
    first: i64,
    last: i64,
}

impl Days {
    fn normalize_line(&self, line: &[u8]) -> Vec<u8> {
        let mut fields: Vec<Vec<u8>> = line.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect();
        let day = fields.get(LAST_CHANGE).and_then(|field| number(field));
        if day.is_some_and(|day| self.is_of_the_build(day)) {
            let max = fields.get(MAX_DAYS).and_then(|field| number(field));
            fields[LAST_CHANGE] = self.replacement(max).to_string().into_bytes();
        }
        fields.join(&b':')
    }

    /// Day 0 is never a day of the build: it requires a new password at the next login, so it must
    /// stay.
    fn is_of_the_build(&self, day: i64) -> bool {
        day > 0 && (day == self.epoch || (day > self.epoch && (self.first..=self.last).contains(&day)))
    }

    /// Returns the day of the epoch, or [`NEVER`] if the password would expire before 2100: with an
    /// old epoch, nobody could log in at first boot.
    fn replacement(&self, max: Option<i64>) -> i64 {
        match max {
            Some(max) if max >= 0 && self.epoch.saturating_add(max) < NEVER => NEVER,
            // Day 0 would require a new password.
            _ => self.epoch.max(1),
        }
    }
}

fn number(field: &[u8]) -> Option<i64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::times::Clamp;
    use super::*;

    #[test]
    fn days_of_the_build_are_replaced_and_all_others_stay() {
        // The build began on day 20787 and ended on day 20788; the epoch's day is 3652.
        let times = Times {
            clamp: Clamp::to(3652 * 86_400 + 5),
            started: 20_787 * 86_400,
            ended: 20_788 * 86_400 + 9,
        };
        for (line, expected) in [
            ("a:$6$x:20787:0:99999:7:::", "a:$6$x:3652:0:99999:7:::"),
            ("a:$6$x:20788:0::7:::", "a:$6$x:3652:0::7:::"),
            ("a:$6$x:20788:0:-1:7:::", "a:$6$x:3652:0:-1:7:::"),
            ("a:$6$x:20787:0:90:7:::", "a:$6$x:47482:0:90:7:::"),
            ("a:$6$x:20788:5:90:7:30:21000:", "a:$6$x:47482:5:90:7:30:21000:"),
            ("a:$6$x:20788:0:10000:7:::", "a:$6$x:47482:0:10000:7:::"),
            ("set with SOURCE_DATE_EPOCH:x:3652:0:90:7:::", "set with SOURCE_DATE_EPOCH:x:47482:0:90:7:::"),
            ("a:*:3652:0:99999:7:::", "a:*:3652:0:99999:7:::"),
            ("must change:x:0:0:90:7:::", "must change:x:0:0:90:7:::"),
            ("no aging:x::0:90:7:::", "no aging:x::0:90:7:::"),
            ("past:x:19000:0:90:7:::", "past:x:19000:0:90:7:::"),
            ("yesterday:x:20786:0:90:7:::", "yesterday:x:20786:0:90:7:::"),
            ("future:x:21000:0:90:7:::", "future:x:21000:0:90:7:::"),
            ("old:x:10:0:90:7:::", "old:x:10:0:90:7:::"),
            ("+broken", "+broken"),
            ("word:x:today:0:90:7:::", "word:x:today:0:90:7:::"),
            ("", ""),
        ] {
            let text = format!("root:*:5:::::\n{line}\n");
            let expected = format!("root:*:5:::::\n{expected}\n");
            let normalized = normalize(text.as_bytes(), &times);
            assert_eq!(String::from_utf8(normalized.clone()), Ok(expected), "{line}");
            assert_eq!(normalize(&normalized, &times), normalized, "twice is as once: {line}");
        }
    }

    #[test]
    fn an_epoch_of_1970_does_not_force_a_new_password() {
        let times = Times { clamp: Clamp::to(0), started: 20_787 * 86_400, ended: 20_787 * 86_400 };
        assert_eq!(normalize(b"a:x:20787:0:99999:7:::", &times), b"a:x:1:0:99999:7:::");
        assert_eq!(normalize(b"a:x:0:0:99999:7:::", &times), b"a:x:0:0:99999:7:::");
    }

    /// An epoch of today, or later than the build.
    #[test]
    fn a_day_before_the_epoch_stays() {
        let times =
            Times { clamp: Clamp::to(20_790 * 86_400), started: 20_787 * 86_400, ended: 20_787 * 86_400 };
        assert_eq!(normalize(b"a:x:20787:0:99999:7:::", &times), b"a:x:20787:0:99999:7:::");
    }
}

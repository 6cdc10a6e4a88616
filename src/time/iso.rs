//! Dates and times as ISO 8601 writes them: the usual forms by integers alone, all others by the calendar library.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};

use super::Instant;

/// What a text tells of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iso {
    /// A date.
    Date(NaiveDate),
    /// A time with an offset.
    Instant(Instant),
    /// A wall-clock time without an offset.
    Local(NaiveDateTime),
}

/// Reads `2024-03-01`, `2024-03-01T10:20:30.5+01:00` (RFC 3339) or the same without an offset; none where it is none of them.
pub fn read_iso(text: &str) -> Option<Iso> {
    usual(text.as_bytes()).or_else(|| any(text))
}

/// `YYYY-MM-DD`, and `YYYY-MM-DD?HH:MM:SS[.f][Z|±HH:MM]` with a `T` or a space; none leaves it to [`any`].
fn usual(text: &[u8]) -> Option<Iso> {
    let (date, time) = text.split_at_checked(10)?;
    let year = two(date, 0)? * 100 + two(date, 2)?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, two(date, 5)?, two(date, 8)?)?;
    if time.is_empty() {
        return Some(Iso::Date(date));
    }
    let (clock, mut rest) = time.split_at_checked(9)?;
    if !matches!(clock[0], b'T' | b' ') || clock[3] != b':' || clock[6] != b':' {
        return None;
    }
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        let value = fraction[..digits].iter().fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
        nanos = value * 10_u32.pow(9 - u32::try_from(digits).ok()?);
        rest = &fraction[digits..];
    }
    // A second 60 is refused here, and left to the library.
    let local = date.and_time(NaiveTime::from_hms_nano_opt(two(clock, 1)?, two(clock, 4)?, two(clock, 7)?, nanos)?);
    match *rest {
        [] => Some(Iso::Local(local)),
        [b'Z'] => Some(Iso::Instant(local.and_utc())),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (two(rest, 1)?, two(rest, 4)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let ahead = TimeDelta::seconds(i64::from(hours * 3600 + minutes * 60));
            let utc = if sign == b'-' { local + ahead } else { local - ahead };
            Some(Iso::Instant(utc.and_utc()))
        }
        _ => None,
    }
}

/// The number of two digits that stand at a place.
fn two(text: &[u8], at: usize) -> Option<u32> {
    match text.get(at..at + 2)? {
        &[tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(u32::from(tens - b'0') * 10 + u32::from(ones - b'0')),
        _ => None,
    }
}

fn any(text: &str) -> Option<Iso> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(Iso::Instant(instant.to_utc()));
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(Iso::Date(date));
    }
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .into_iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .map(Iso::Local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_read_by_integers_alone() {
        for text in [
            "2024-02-29",
            "2024-02-29T23:59:59Z",
            "2024-02-29 23:59:59.123456",
            "0000-01-01T00:00:00.1-23:59",
            "9999-12-31T23:59:59.999999999+00:00",
        ] {
            assert!(usual(text.as_bytes()).is_some(), "{text}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(20_000))]
        #[test]
        fn a_text_means_the_same_whoever_reads_it(
            text in "[0-2][0-9]{2}[0-9]-[0-1][0-9]-[0-3][0-9]([T t][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,12})?(Z|z|[+-][0-2][0-9]:?[0-6][0-9])?)?",
        ) {
            if let Some(found) = usual(text.as_bytes()) {
                proptest::prop_assert_eq!(any(&text), Some(found), "{}", text);
            }
        }
    }
}

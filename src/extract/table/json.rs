//! Values as JSON text, written straight into the body of a page: no digit passes through a float on the way.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub(super) use super::super::rows::{member_key as member, push_text as text};

/// Bytes in base64.
pub(super) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// A whole number.
pub(super) fn signed(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    unsigned(out, number.unsigned_abs());
}

/// A whole number that is not negative.
pub(super) fn unsigned(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    while number >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&pair(number % 100));
        number /= 100;
    }
    // What is left is one digit, or nothing where an even count of them was written.
    if number > 0 || at == digits.len() {
        at -= 1;
        digits[at] = pair(number)[1];
    }
    out.extend_from_slice(&digits[at..]);
}

/// A number below 100 as two digits.
fn pair(number: u64) -> [u8; 2] {
    const PAIRS: [[u8; 2]; 100] = {
        let mut pairs = [[b'0'; 2]; 100];
        let (mut tens, mut ones, mut at) = (b'0', b'0', 0);
        while at < 100 {
            pairs[at] = [tens, ones];
            (tens, ones) = if ones == b'9' { (tens + 1, b'0') } else { (tens, ones + 1) };
            at += 1;
        }
        pairs
    };
    usize::try_from(number).ok().and_then(|number| PAIRS.get(number)).copied().unwrap_or_default()
}

/// A float with as few digits as tell it from all others; what JSON has no number for is a text.
pub(super) fn float(out: &mut Vec<u8>, number: f64) {
    let begin = out.len();
    if !number.is_finite() || serde_json::to_writer(&mut *out, &number).is_err() {
        out.truncate(begin);
        not_finite(out, number.is_nan(), number > 0.0);
    }
}

/// A float of 32 bits, with the digits that tell it from all others of 32 bits.
pub(super) fn small_float(out: &mut Vec<u8>, number: f32) {
    if number.is_finite() {
        // The language writes floats without an exponent: long, and exact.
        out.extend_from_slice(number.to_string().as_bytes());
    } else {
        not_finite(out, number.is_nan(), number > 0.0);
    }
}

/// What is no finite number, in the words that PostgreSQL and DuckDB share.
pub(super) fn not_finite(out: &mut Vec<u8>, is_nan: bool, positive: bool) {
    out.extend_from_slice(match (is_nan, positive) {
        (true, _) => b"\"NaN\"",
        (false, true) => b"\"Infinity\"",
        (false, false) => b"\"-Infinity\"",
    });
}

/// A number of four digits, or of as many as it has.
pub(super) fn four_digits(out: &mut Vec<u8>, number: u64) {
    if number > 9999 {
        return unsigned(out, number);
    }
    let ([a, b], [c, d]) = (pair(number / 100), pair(number % 100));
    out.extend_from_slice(&[a, b, c, d]);
}

/// A date by its days since 1970-01-01, without quotes; years before 1 end with ` (BC)`, as DuckDB reads them.
pub(super) fn date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil(days);
    four_digits(out, if year > 0 { year.unsigned_abs() } else { (1 - year).unsigned_abs() });
    let ([a, b], [c, d]) = (pair(month), pair(day));
    out.extend_from_slice(&[b'-', a, b, b'-', c, d]);
    if year <= 0 {
        out.extend_from_slice(b" (BC)");
    }
}

/// A time of day by its microseconds, without quotes.
pub(super) fn time(out: &mut Vec<u8>, micros: u64) {
    let seconds = micros / 1_000_000;
    let hours = seconds / 3600;
    if hours > 99 {
        unsigned(out, hours);
    } else {
        out.extend_from_slice(&pair(hours));
    }
    for number in [seconds / 60 % 60, seconds % 60] {
        out.push(b':');
        out.extend_from_slice(&pair(number));
    }
    let fraction = micros % 1_000_000;
    if fraction > 0 {
        out.push(b'.');
        for number in [fraction / 10_000, fraction / 100 % 100, fraction % 100] {
            out.extend_from_slice(&pair(number));
        }
    }
}

const DAY: i64 = 86_400_000_000;

/// A timestamp by its microseconds since 1970-01-01T00:00:00, quoted; with a `Z` where it is an instant.
pub(super) fn timestamp(out: &mut Vec<u8>, micros: i64, instant: bool) {
    let (days, of_day) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    out.push(b'"');
    let begin = out.len();
    date(out, days);
    let before_christ = out.ends_with(b")");
    if before_christ {
        out.truncate(out.len() - b" (BC)".len());
    }
    // In ISO 8601 a `T` stands between the two; what is before year 1 is not of it.
    out.push(if before_christ { b' ' } else { b'T' });
    debug_assert!(out.len() > begin);
    time(out, of_day.unsigned_abs());
    if before_christ {
        out.extend_from_slice(b" (BC)");
        if instant {
            out.extend_from_slice(b"+00");
        }
    } else if instant {
        out.push(b'Z');
    }
    out.push(b'"');
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, u64, u64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097).unsigned_abs();
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = i64::try_from(year_of_era).unwrap_or(0) + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_text_is_the_same_after_it_was_read_again() {
        for original in ["", "plain", "a \"quote\"", "back\\slash", "line\nbreak\r\ttab", "\u{1}\u{1f}", "한국 🎬"]
        {
            let json = written(|out| text(out, original));
            assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), original);
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        assert_eq!(written(|out| signed(out, i64::MIN)), "-9223372036854775808");
        assert_eq!(written(|out| unsigned(out, u64::MAX)), "18446744073709551615");
        assert_eq!(written(|out| unsigned(out, 0)), "0");
        assert_eq!(written(|out| float(out, 0.1)), "0.1");
        assert_eq!(written(|out| small_float(out, 0.1)), "0.1");
        assert_eq!(written(|out| float(out, f64::NEG_INFINITY)), "\"-Infinity\"");
        assert_eq!(written(|out| small_float(out, f32::NAN)), "\"NaN\"");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let mut day = chrono::NaiveDate::from_ymd_opt(1, 1, 1).expect("a date");
        let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
        while let Some(next) = day.checked_add_days(chrono::Days::new(97)).filter(|day| day < &epoch_after()) {
            let days = (day - epoch).num_days();
            assert_eq!(written(|out| date(out, days)), day.format("%Y-%m-%d").to_string());
            day = next;
        }
        assert_eq!(written(|out| timestamp(out, -1, true)), "\"1969-12-31T23:59:59.999999Z\"");
        assert_eq!(written(|out| timestamp(out, 86_400_000_000, false)), "\"1970-01-02T00:00:00\"");
        assert_eq!(written(|out| date(out, -719_529)), "0002-12-31 (BC)");
        assert_eq!(written(|out| time(out, 86_400_000_000)), "24:00:00");
    }

    fn epoch_after() -> chrono::NaiveDate {
        chrono::NaiveDate::from_ymd_opt(9999, 12, 31).expect("a date")
    }
}

//! What one number's digits and one text's words tell, found by a look at how they are written.

use super::shape::{Literal, Wording};
use crate::time::{Iso, read_iso};

/// So many decimal digits a 64-bit float holds, whatever they are.
const EXACT: usize = 15;

/// So many digits tell every 64-bit float from all others.
const MOST: usize = 17;

impl Literal {
    /// What a JSON number tells; none where it is no number.
    pub fn of(literal: &[u8]) -> Option<Self> {
        plain(literal).or_else(|| any(std::str::from_utf8(literal).ok()?))
    }

    /// Whether the warehouse's JSON reader, which goes through a 64-bit float, may change the number.
    ///
    /// Several decimals of 16 or 17 digits are one float, and programs differ in which of them they write for it.
    pub fn must_travel_as_text(self) -> bool {
        let many = usize::from(self.digits) + usize::from(self.scale) > EXACT;
        (self.inexact && (self.fraction || self.vast)) || (self.fraction && many)
    }
}

/// Digits, perhaps with a point, so few that a float holds them; none leaves it to [`any`].
fn plain(literal: &[u8]) -> Option<Literal> {
    let unsigned = literal.strip_prefix(b"-").unwrap_or(literal);
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if unsigned.len() > EXACT + 1 {
        return None;
    }
    let whole = digits(unsigned);
    let zeros = unsigned.iter().take_while(|byte| **byte == b'0').count();
    let before = whole.saturating_sub(zeros);
    let count = |length: usize| u16::try_from(length).ok();
    match unsigned.get(whole..)? {
        [] if (1..=EXACT).contains(&whole) => Some(Literal { digits: count(before)?, ..Literal::default() }),
        [b'.', behind @ ..] if whole > 0 && digits(behind) == behind.len() && before + behind.len() <= EXACT => {
            let scale = behind.len() - behind.iter().rev().take_while(|byte| **byte == b'0').count();
            Some(Literal { fraction: true, digits: count(before)?, scale: count(scale)?, ..Literal::default() })
        }
        _ => None,
    }
}

fn any(literal: &str) -> Option<Literal> {
    let unsigned = literal.strip_prefix('-').unwrap_or(literal);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.parse::<i32>().ok()?)),
        None => (unsigned, None),
    };
    let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(behind) {
        return None;
    }
    let significant = whole.trim_start_matches('0');
    let count = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
    if exponent.is_none() && mantissa.len() == whole.len() {
        let (mut huge, mut vast, mut inexact) = (false, false, false);
        if significant.len() > EXACT {
            huge = literal.parse::<i64>().is_err();
            vast = huge && literal.parse::<i128>().is_err();
            inexact = !survives(literal);
        }
        return Some(Literal { fraction: false, huge, vast, inexact, digits: count(significant.len()), scale: 0 });
    }
    let inexact = (exponent.is_some() || significant.len() + behind.len() > EXACT) && !survives(literal);
    let (digits, scale) = match exponent {
        None => (count(significant.len()), count(behind.trim_end_matches('0').len())),
        Some(_) if is_zero(whole) && is_zero(behind) => (0, 0),
        Some(exponent) => {
            // The exponent moves the point; zeros at either end need no digit.
            let point = significant_point(whole, behind) + i64::from(exponent);
            let all = format!("{whole}{behind}");
            let length = i64::try_from(all.trim_matches('0').len()).unwrap_or(i64::MAX);
            let bound = |value: i64| u16::try_from(value.max(0)).unwrap_or(u16::MAX);
            (bound(point), bound(length - point))
        }
    };
    Some(Literal { fraction: true, huge: false, vast: false, inexact, digits, scale })
}

fn is_zero(digits: &str) -> bool {
    digits.bytes().all(|byte| byte == b'0')
}

/// How many digits from the first that is not zero to the point; negative for zeros behind the point.
fn significant_point(whole: &str, behind: &str) -> i64 {
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let significant = whole.trim_start_matches('0');
    if significant.is_empty() { length(behind.trim_start_matches('0')) - length(behind) } else { length(significant) }
}

/// How many digits there are from the first to the last that is not zero.
fn significant_digits(literal: &str) -> usize {
    let mantissa = literal.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0');
    digits.enumerate().filter(|(_, digit)| *digit != b'0').last().map_or(0, |(last, _)| last + 1)
}

/// Whether a literal is the same number after a way through a 64-bit float.
fn survives(literal: &str) -> bool {
    if significant_digits(literal) > MOST {
        return false;
    }
    let Ok(value) = literal.parse::<f64>() else { return false };
    if !value.is_finite() {
        return false;
    }
    // Most floats were written by a program, with just the digits that tell them from all others.
    let mut shortest = [0_u8; 32];
    let mut rest = shortest.as_mut_slice();
    let written = serde_json::to_writer(&mut rest, &value).is_ok();
    let left = rest.len();
    if written && shortest[..shortest.len() - left] == *literal.as_bytes() {
        return true;
    }
    let plain = |text: &str| {
        let text = text.trim_start_matches('-');
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i32 = exponent.trim_start_matches('+').parse().unwrap_or(0);
        let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{behind}");
        let point = i32::try_from(whole.len()).unwrap_or(0) + exponent;
        let leading = digits.len() - digits.trim_start_matches('0').len();
        (digits.trim_matches('0').to_owned(), point - i32::try_from(leading).unwrap_or(0))
    };
    plain(literal) == plain(&format!("{value:e}"))
}

/// How many bytes there are before the first that ends or breaks a text, or begins an escape; eight are looked at at once.
pub fn plain_length(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // After Alan Mycroft's test for a zero byte: the lowest byte that is marked is right, and only that one is asked for.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, rest) = text.as_chunks::<8>();
    for (index, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) | control;
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let plain = |byte: &&u8| **byte >= 0x20 && **byte != b'"' && **byte != b'\\';
    text.len() - rest.len() + rest.iter().take_while(plain).count()
}

impl Wording {
    /// What the inside of a JSON text looks like.
    pub fn of(raw: &[u8]) -> Self {
        let digit = |at: usize| raw.get(at).is_some_and(u8::is_ascii_digit);
        let date = raw.len() >= 10
            && raw.len() <= 40
            && raw[4] == b'-'
            && raw[7] == b'-'
            && [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(digit);
        let Some(text) = date.then(|| std::str::from_utf8(raw).ok()).flatten() else { return Self::Plain };
        match read_iso(text) {
            Some(Iso::Date(_)) => Self::Date,
            // No warehouse has a second 60.
            _ if text.get(16..19) == Some(":60") => Self::Plain,
            Some(Iso::Instant(_)) => Self::Offset,
            Some(Iso::Local(_)) => Self::Naive,
            None => Self::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_a_float_would_change_travels_as_text() {
        let travels = |text: &str| Literal::of(text.as_bytes()).expect("a number").must_travel_as_text();
        for text in [
            "12345678901234567.891",
            "1e400",
            "0.30000000000000004",
            "0.1000000000000000055",
            "123456789012345678901234567890123456789012",
        ] {
            assert!(travels(text), "{text}");
        }
        for text in ["0.300000000000001", "9007199254740993", "1e3", "-0.50", "0012"] {
            assert!(!travels(text), "{text}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(20_000))]
        #[test]
        fn a_short_number_tells_the_same_by_either_way(text in "-?[0-9]{0,16}(\\.[0-9]{0,16})?") {
            if let Some(found) = plain(text.as_bytes()) {
                proptest::prop_assert_eq!(any(&text), Some(found), "{}", text);
            }
        }

        #[test]
        fn a_float_survives_as_its_program_writes_it(number in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
            let text = serde_json::to_string(&number).expect("JSON");
            proptest::prop_assert!(!Literal::of(text.as_bytes()).expect("a number").inexact, "{}", text);
        }
    }
}

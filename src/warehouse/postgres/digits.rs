//! Decimals as PostgreSQL's `numeric` takes them: in groups of four digits, none of them lost.

/// What `numeric_recv` takes at most before the point; no number of a source has as many digits.
const LONGEST: usize = 4_000;

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;

/// A decimal in plain digits.
struct Plain {
    negative: bool,
    /// The digits before the point, without zeros in front.
    whole: String,
    /// The digits behind it.
    behind: String,
}

/// Reads a number, its exponent worked into the place of the point; none where it is no number.
fn read(text: &str) -> Option<Plain> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && behind.is_empty() || !is_digits(whole) || !is_digits(behind) {
        return None;
    }
    let (mut whole, mut behind) = (whole.to_owned(), behind.to_owned());
    let shift = usize::try_from(exponent.unsigned_abs()).ok().filter(|shift| *shift <= LONGEST)?;
    if exponent > 0 {
        while behind.len() < shift {
            behind.push('0');
        }
        let rest = behind.split_off(shift);
        whole.push_str(&behind);
        behind = rest;
    } else if shift > 0 {
        let zeros = shift.saturating_sub(whole.len());
        whole.insert_str(0, &"0".repeat(zeros));
        let moved = whole.split_off(whole.len() - shift);
        behind.insert_str(0, &moved);
    }
    let whole = whole.trim_start_matches('0').to_owned();
    (whole.len() <= LONGEST && behind.len() <= LONGEST).then_some(Plain { negative, whole, behind })
}

/// A whole number that is written with a point or an exponent.
pub(super) fn whole(text: &str) -> Option<i64> {
    let number = read(text)?;
    if number.behind.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let sign = if number.negative { "-" } else { "" };
    let digits = if number.whole.is_empty() { "0" } else { &number.whole };
    format!("{sign}{digits}").parse().ok()
}

/// Writes a number; none where it is no number, or has more digits behind the point than `scale` allows.
pub(super) fn write(text: &str, scale: Option<u8>, out: &mut Vec<u8>) -> Option<()> {
    if text.eq_ignore_ascii_case("nan") {
        return write_groups(&[], 0, NAN, 0, out);
    }
    let mut number = read(text)?;
    if let Some(scale) = scale.map(usize::from)
        && number.behind.len() > scale
    {
        if number.behind[scale..].bytes().any(|byte| byte != b'0') {
            return None;
        }
        number.behind.truncate(scale);
    }
    let dscale = i16::try_from(number.behind.len()).ok()?;
    // Groups are aligned at the point.
    let mut whole = number.whole;
    whole.insert_str(0, &"0".repeat((4 - whole.len() % 4) % 4));
    let mut behind = number.behind;
    behind.push_str(&"0".repeat((4 - behind.len() % 4) % 4));
    let weight = i16::try_from(whole.len() / 4).ok()? - 1;
    let all = format!("{whole}{behind}");
    let mut groups: Vec<i16> = Vec::with_capacity(all.len() / 4);
    for group in all.as_bytes().chunks(4) {
        groups.push(group.iter().fold(0, |sum, digit| sum * 10 + i16::from(digit - b'0')));
    }
    let leading = groups.iter().take_while(|group| **group == 0).count();
    let groups = &groups[leading..];
    let length = groups.len() - groups.iter().rev().take_while(|group| **group == 0).count();
    let groups = &groups[..length];
    let weight = if groups.is_empty() { 0 } else { weight - i16::try_from(leading).ok()? };
    let sign = if number.negative && !groups.is_empty() { NEGATIVE } else { POSITIVE };
    write_groups(groups, weight, sign, dscale, out)
}

fn write_groups(groups: &[i16], weight: i16, sign: u16, dscale: i16, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&i16::try_from(groups.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&dscale.to_be_bytes());
    for group in groups {
        out.extend_from_slice(&group.to_be_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, scale: Option<u8>) -> Option<Vec<i16>> {
        let mut out = Vec::new();
        write(text, scale, &mut out)?;
        Some(out.chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect())
    }

    #[test]
    fn digits_stand_in_groups_of_four_around_the_point() {
        assert_eq!(words("0", None), Some(vec![0, 0, 0, 0]));
        assert_eq!(words("12345.678", None), Some(vec![3, 1, 0, 3, 1, 2345, 6780]));
        assert_eq!(words("-0.00001", None), Some(vec![1, -2, 0x4000, 5, 1000]));
        assert_eq!(words("1.5e3", None), Some(vec![1, 0, 0, 0, 1500]));
        assert_eq!(words("15e-1", None), Some(vec![2, 0, 0, 1, 1, 5000]));
        assert_eq!(words("1.500", Some(1)), Some(vec![2, 0, 0, 1, 1, 5000]));
        assert_eq!(words("1.55", Some(1)), None);
        assert_eq!(words("x", None), None);
        assert_eq!(whole("1.20e1"), Some(12));
        assert_eq!(whole("-0.0"), Some(0));
        assert_eq!(whole("0.5"), None);
    }
}

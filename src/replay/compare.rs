//! Comparing rows: which are missing, which are unexpected, and in which cells the others differ.

use std::collections::HashMap;

use serde_json::Value;

use super::{Difference, Fault};
use crate::model::trial::Subject;
use crate::warehouse::Rows;

/// So many rows of a difference are shown.
const SHOWN: usize = 20;

/// So many columns of a difference are shown, besides those that differ.
const WIDTH: usize = 8;

/// Rows that are unlike each other are paired only where there are no more of them.
const PAIRED: usize = 300;

/// Expected rows.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The cells.
    pub rows: Vec<Vec<Value>>,
    /// Whether all cells are texts, as in CSV, where no text is null too.
    pub texts: bool,
}

/// Columns of haul itself, which no test compares unless it names them.
pub(super) fn is_own(column: &str) -> bool {
    column.starts_with("_haul_")
}

/// The cell of a column; dots in its name lead into records.
pub(super) fn cell<'r>(found: &Rows, row: &'r [Value], column: &str) -> Option<&'r Value> {
    if let Some(index) = found.columns.iter().position(|name| name == column) {
        return row.get(index);
    }
    let (first, rest) = column.split_once('.')?;
    let index = found.columns.iter().position(|name| name == first)?;
    rest.split('.').try_fold(row.get(index)?, |value, name| value.get(name))
}

/// A cell as people read it; null is nothing.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// By this, rows of a file are in an order.
pub(super) fn sort_key(row: &[Value]) -> Vec<(bool, i128, String)> {
    // Numbers come in the order of numbers, as far as their whole part tells it.
    let key = |value: &Value| match decimal(value) {
        Some(number) => (false, number.whole(), shown(value)),
        None => (true, 0, shown(value)),
    };
    row.iter().map(key).collect()
}

/// Compares what was found with what is expected; none where it is the same.
pub(super) fn tables(
    subject: &Subject,
    expected: &Table,
    found: &Rows,
    columns: &[String],
    keys: &[String],
    ordered: bool,
) -> Option<Fault> {
    let missing: Vec<&String> = columns.iter().filter(|column| !is_there(found, column)).collect();
    // A table without rows has no records to look into.
    if !(missing.is_empty() || found.rows.is_empty() && found.columns.is_empty()) {
        let names = missing.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let there: Vec<&str> = found.columns.iter().map(String::as_str).filter(|name| !is_own(name)).collect();
        let what = format!("{subject} has no column {names}; it has {}", there.join(", "));
        return Some(Fault { what, ..Fault::default() });
    }
    let nothing = Value::Null;
    let project = |table: &[String], row: &[Value]| -> Vec<Value> {
        let place = |column: &String| table.iter().position(|name| name == column);
        columns.iter().map(|column| place(column).and_then(|at| row.get(at)).unwrap_or(&nothing).clone()).collect()
    };
    let want: Vec<Vec<Value>> = expected.rows.iter().map(|row| project(&expected.columns, row)).collect();
    let have: Vec<Vec<Value>> = found
        .rows
        .iter()
        .map(|row| columns.iter().map(|column| cell(found, row, column).unwrap_or(&nothing).clone()).collect())
        .collect();
    let pairs = if ordered {
        in_order(&want, &have, expected.texts)
    } else {
        unordered(&want, &have, columns, keys, expected.texts)
    };
    let differs = pairs.iter().filter(|pair| !matches!(pair, Pair::Same)).count();
    (differs > 0).then(|| {
        let count = |wanted: fn(&Pair) -> bool| pairs.iter().filter(|pair| wanted(pair)).count();
        let counts = [
            (count(|pair| matches!(pair, Pair::Missing(_))), "missing"),
            (count(|pair| matches!(pair, Pair::Unexpected(_))), "unexpected"),
            (count(|pair| matches!(pair, Pair::Differs(..))), "different"),
        ];
        let counts: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        let what = format!(
            "{subject} is not as expected: {} expected, {} came; {}",
            rows_word(want.len()),
            have.len(),
            counts.join(", ")
        );
        Fault { what, difference: Some(difference(&pairs, &want, &have, columns, keys, expected.texts)), hint: None }
    })
}

fn rows_word(count: usize) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

fn is_there(found: &Rows, column: &str) -> bool {
    let first = column.split('.').next().unwrap_or(column);
    found.columns.iter().any(|name| name == column || name == first)
}

/// What became of an expected row, or of one that was found.
enum Pair {
    Same,
    Missing(usize),
    Unexpected(usize),
    Differs(usize, usize),
}

fn in_order(want: &[Vec<Value>], have: &[Vec<Value>], texts: bool) -> Vec<Pair> {
    (0..want.len().max(have.len()))
        .map(|index| match (want.get(index), have.get(index)) {
            (Some(one), Some(other)) if same_row(one, other, texts) => Pair::Same,
            (Some(_), Some(_)) => Pair::Differs(index, index),
            (Some(_), None) => Pair::Missing(index),
            _ => Pair::Unexpected(index),
        })
        .collect()
}

fn unordered(want: &[Vec<Value>], have: &[Vec<Value>], columns: &[String], keys: &[String], texts: bool) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut waiting: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, row) in have.iter().enumerate().rev() {
        waiting.entry(digest(row)).or_default().push(index);
    }
    let mut left = Vec::new();
    for (index, row) in want.iter().enumerate() {
        let equal = waiting.get_mut(&digest(row)).and_then(|places| {
            let at = places.iter().rposition(|place| same_row(row, &have[*place], texts))?;
            Some(places.remove(at))
        });
        match equal {
            Some(_) => pairs.push(Pair::Same),
            None => left.push(index),
        }
    }
    let mut rest: Vec<usize> = waiting.into_values().flatten().collect();
    rest.sort_unstable();
    let keys: Vec<usize> = keys.iter().filter_map(|key| columns.iter().position(|column| column == key)).collect();
    for index in left {
        match partner(&want[index], &rest, have, &keys, texts) {
            Some(at) => pairs.push(Pair::Differs(index, rest.remove(at))),
            None => pairs.push(Pair::Missing(index)),
        }
    }
    pairs.extend(rest.into_iter().map(Pair::Unexpected));
    pairs
}

/// The row that an expected one most likely was meant to be: that of its keys, or the one with most cells in common.
fn partner(row: &[Value], rest: &[usize], have: &[Vec<Value>], keys: &[usize], texts: bool) -> Option<usize> {
    if !keys.is_empty() {
        return rest.iter().position(|place| keys.iter().all(|key| same(&row[*key], &have[*place][*key], texts)));
    }
    if rest.len() > PAIRED {
        return None;
    }
    let alike = |place: &usize| row.iter().zip(&have[*place]).filter(|(one, other)| same(one, other, texts)).count();
    let best = rest
        .iter()
        .enumerate()
        .map(|(at, place)| (alike(place), at))
        .max_by_key(|(count, at)| (*count, usize::MAX - at));
    best.filter(|(count, _)| *count * 2 >= row.len() && *count > 0).map(|(_, at)| at)
}

/// Rows of different digests are different; the other way round it need not be.
fn digest(row: &[Value]) -> String {
    let mut text = String::new();
    for value in row {
        match (value, decimal(value)) {
            (_, Some(number)) => text.push_str(&number.text()),
            (Value::String(written), None) if instant(written).is_none() && !written.starts_with(['{', '[']) => {
                text.push_str(written);
            }
            (Value::Bool(flag), None) => text.push_str(if *flag { "true" } else { "false" }),
            _ => {}
        }
        text.push('\u{1f}');
    }
    text
}

fn same_row(expected: &[Value], found: &[Value], texts: bool) -> bool {
    expected.len() == found.len() && expected.iter().zip(found).all(|(one, other)| same(one, other, texts))
}

/// Whether a cell is the expected one: numbers by their value, instants by what they mean.
pub(super) fn same(expected: &Value, found: &Value, texts: bool) -> bool {
    match (expected, found) {
        (Value::Null, Value::String(text)) if texts => text.is_empty(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other, texts))
        }
        (Value::Object(one), Value::Object(other)) => {
            let names = one.keys().chain(other.keys());
            let nothing = Value::Null;
            names
                .into_iter()
                .all(|name| same(one.get(name).unwrap_or(&nothing), other.get(name).unwrap_or(&nothing), texts))
        }
        (Value::String(text), Value::Array(_) | Value::Object(_)) => {
            serde_json::from_str(text).is_ok_and(|read: Value| same(&read, found, false))
        }
        (Value::String(text), Value::Bool(flag)) if texts => *text == flag.to_string(),
        (Value::String(one), Value::String(other)) if one == other => true,
        (one, other) => match (decimal(one), decimal(other)) {
            (Some(one), Some(other)) => one.text() == other.text(),
            (None, None) => match (one.as_str().and_then(instant), other.as_str().and_then(instant)) {
                (Some(one), Some(other)) => one == other,
                _ => one == other,
            },
            _ => false,
        },
    }
}

/// An instant or a wall clock's time, however it is written.
fn instant(text: &str) -> Option<chrono::NaiveDateTime> {
    if text.len() < 16 || !text.as_bytes()[..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = text.replacen(' ', "T", 1);
    let full = if text.len() > 3 && text.as_bytes()[text.len() - 3] == b'+' { format!("{text}:00") } else { text };
    chrono::DateTime::parse_from_rfc3339(&full)
        .map(|at| at.naive_utc())
        .or_else(|_| full.parse::<chrono::NaiveDateTime>())
        .ok()
}

/// A number by its digits: no value is ever rounded to be compared.
struct Decimal {
    negative: bool,
    /// Without zeros at either end.
    digits: String,
    /// Where the point stands, counted from before the first digit.
    point: i64,
}

impl Decimal {
    fn text(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        format!("#{sign}{}e{}", self.digits, self.point)
    }

    /// The whole part, as far as it fits.
    fn whole(&self) -> i128 {
        let Ok(point) = usize::try_from(self.point) else { return 0 };
        let mut digits: String = self.digits.chars().take(point.min(36)).collect();
        while digits.len() < point.min(36) {
            digits.push('0');
        }
        let whole: i128 = digits.parse().unwrap_or(0);
        if self.negative { -whole } else { whole }
    }
}

fn decimal(value: &Value) -> Option<Decimal> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let (negative, rest) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    // A text like 007 is a name, no number.
    let named = whole.len() > 1 && whole.starts_with('0');
    if whole.is_empty() || !plain(whole) || !plain(fraction) || named || mantissa.ends_with('.') {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_start_matches('0');
    let point = i64::try_from(whole.len()).ok()? + exponent - i64::try_from(digits.len() - trimmed.len()).ok()?;
    let trimmed = trimmed.trim_end_matches('0');
    let zero = trimmed.is_empty();
    Some(Decimal { negative: negative && !zero, digits: trimmed.to_owned(), point: if zero { 0 } else { point } })
}

fn difference(
    pairs: &[Pair],
    want: &[Vec<Value>],
    have: &[Vec<Value>],
    columns: &[String],
    keys: &[String],
    texts: bool,
) -> Difference {
    let differing: Vec<bool> = (0..columns.len())
        .map(|at| {
            let differs = |pair: &Pair| matches!(pair, Pair::Differs(one, other) if !same(&want[*one][at], &have[*other][at], texts));
            pairs.iter().any(differs)
        })
        .collect();
    let mut chosen: Vec<usize> =
        (0..columns.len()).filter(|at| differing[*at] || keys.contains(&columns[*at])).collect();
    for at in 0..columns.len() {
        if chosen.len() < WIDTH && !chosen.contains(&at) {
            chosen.push(at);
        }
    }
    chosen.sort_unstable();
    let line = |sign: &str, cells: &dyn Fn(usize) -> String| {
        std::iter::once(sign.to_owned()).chain(chosen.iter().map(|at| cells(*at))).collect::<Vec<_>>()
    };
    let told = |value: &Value| if value.is_null() { "null".to_owned() } else { shown(value) };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for pair in pairs {
        match pair {
            Pair::Same => {}
            Pair::Missing(one) => rows.push(line("-", &|at| told(&want[*one][at]))),
            Pair::Unexpected(other) => rows.push(line("+", &|at| told(&have[*other][at]))),
            Pair::Differs(one, other) => rows.push(line("~", &|at| {
                let (one, other) = (&want[*one][at], &have[*other][at]);
                if same(one, other, texts) { told(other) } else { format!("{} → {}", told(one), told(other)) }
            })),
        }
    }
    let more = rows.len().saturating_sub(SHOWN);
    rows.truncate(SHOWN);
    let names = std::iter::once(String::new()).chain(chosen.iter().map(|at| columns[*at].clone())).collect();
    Difference { columns: names, rows, more }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_compared_by_their_digits_and_instants_by_their_meaning() {
        for (one, other) in [
            (json!(4), json!("4.00")),
            (json!(0.5), json!("0.50")),
            (json!("12345678901234567890.10"), json!("12345678901234567890.1")),
            (json!(1e21), json!("1000000000000000000000")),
            (json!("2019-01-01T00:00:00Z"), json!("2019-01-01 00:00:00+00")),
            (json!("2019-01-01T09:00:00+09:00"), json!("2019-01-01 00:00:00+00")),
            (json!({ "a": null, "b": 1 }), json!({ "b": 1.0 })),
        ] {
            assert!(same(&one, &other, false), "{one} {other}");
            assert_eq!(digest(std::slice::from_ref(&one)), digest(std::slice::from_ref(&other)), "{one} {other}");
        }
        for (one, other) in [
            (json!("007"), json!("7")),
            (json!("12345678901234567891"), json!("12345678901234567890")),
            (json!(null), json!("")),
            (json!("a"), json!(null)),
            (json!("-1"), json!("1")),
        ] {
            assert!(!same(&one, &other, false), "{one} {other}");
        }
        assert!(same(&Value::Null, &json!(""), true), "CSV has no null of its own");
        assert!(same(&json!("true"), &json!(true), true) && same(&json!("[1, 2]"), &json!([1, 2]), true));
    }
}

//! The rows of a query: as JSON with all their digits, and as lines of a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Context, Kind, Result};

/// The first words of statements that a query is not.
const WRITES: [&str; 9] = ["insert", "update", "delete", "merge", "create", "drop", "alter", "truncate", "copy"];

/// What a query is, for somebody who has asked for something else.
pub(super) const ONLY_READS: &str =
    "a query asks for rows: SELECT, FROM, WITH, SHOW or DESCRIBE; it changes nothing in the warehouse";

/// Whether a statement begins like one that writes.
pub(super) fn writes(statement: &str) -> bool {
    let word = statement.split_whitespace().next().unwrap_or_default().to_lowercase();
    WRITES.contains(&word.as_str())
}

/// The rows of a query.
///
/// No digit is lost: whole numbers of up to 64 bits and floats are JSON numbers; longer whole numbers, and decimals of any
/// length, are JSON texts.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rows {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows.
    #[schema(value_type = Vec<Vec<Object>>)]
    pub rows: Vec<Vec<Value>>,
    /// Whether there were more.
    pub truncated: bool,
}

/// Writes rows as JSON, one object a line.
pub(super) fn write_lines(rows: &Rows, path: &Path) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    let mut file = BufWriter::new(File::create(path).context(Kind::Storage, doing)?);
    for row in &rows.rows {
        let members: serde_json::Map<String, Value> = rows.columns.iter().cloned().zip(row.iter().cloned()).collect();
        serde_json::to_writer(&mut file, &members).context(Kind::Storage, doing)?;
        file.write_all(b"\n").context(Kind::Storage, doing)?;
    }
    file.flush().context(Kind::Storage, doing)
}

/// The members of an object in their order, unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// What a cell's JSON says. Infinity and what is no number have no word in JSON; they stay the text that they are.
pub(super) fn parsed(text: &str) -> Value {
    let value = serde_json::from_str::<&RawValue>(text).and_then(exact);
    value.unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// A value whose numbers are texts where they would be rounded: whole ones beyond 64 bits, and longer than a float.
fn exact(raw: &RawValue) -> serde_json::Result<Value> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(text)?.into_iter().map(exact).collect(),
        Some(b'{') => {
            let members = serde_json::from_str::<Members<'_>>(text)?.0;
            members.into_iter().map(|(name, value)| Ok((name, exact(value)?))).collect()
        }
        Some(b'-' | b'0'..=b'9') => {
            let whole = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
            if whole && (text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok()) {
                return serde_json::from_str(text);
            }
            // The JSON reader's floats may be off by their last bit; the language's own are not.
            let float = text.parse().ok().filter(|float| !whole && same_digits(text, *float));
            let float = float.and_then(serde_json::Number::from_f64);
            Ok(float.map_or_else(|| Value::String(text.to_owned()), Value::Number))
        }
        _ => serde_json::from_str(text),
    }
}

/// Whether a float tells every digit of the number that it was read from.
fn same_digits(text: &str, float: f64) -> bool {
    let plain = |text: &str| {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i64 = exponent.parse().unwrap_or_default();
        let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{}{behind}", whole.trim_start_matches('-'));
        let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
        let zeros = length(&digits) - length(digits.trim_start_matches('0'));
        let point = length(whole.trim_start_matches('-')) + exponent - zeros;
        (digits.trim_matches('0').to_owned(), point)
    };
    let (digits, point) = plain(text);
    digits.is_empty() || (digits, point) == plain(&format!("{float:e}"))
}

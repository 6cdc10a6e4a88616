//! Rows as documents of a collection, and back: which document is which row of which unit, and that none loses anything.

use std::ops::Range;

use mongodb::bson::raw::{CString, RawBsonRef, RawDocument};
use mongodb::bson::{Decimal128, Document, RawArrayBuf, RawBson, RawDocumentBuf, cstr, doc};
use serde_json::Value;

use super::json::{self, Unreadable};
use crate::time::UnitKey;

/// The member that says whose rows a document is of.
pub const UNIT: &str = "_haul_unit";

/// The member with the number of the pull.
pub const PULL: &str = "_haul_pull";

/// The member that has a row's own `_id`.
const OWN_ID: &str = "_haul_id";

/// The member that has the row's exact text, where the other members do not give it back.
const EXACT: &str = "_haul_row";

/// All of the members that are not the row's.
const OURS: [&str; 5] = ["_id", UNIT, PULL, OWN_ID, EXACT];

/// The documents that one lease wrote of one unit: `2024-05-01/0000000007/0000000042` is the row 42 under the generation 7.
///
/// A generation belongs to one attempt of one process: what another one writes never has the same name. In the order of
/// these names, the rows of a unit stand together, and within them those of one generation.
pub fn id(unit: &UnitKey, generation: u64, row: u64) -> String {
    format!("{unit}/{generation:010}/{row:010}")
}

/// The names of all rows of some generations of a unit; the end is not part of it.
pub fn ids(unit: &UnitKey, generations: Range<u64>) -> Document {
    let bound = |generation: u64| format!("{unit}/{generation:010}/");
    doc! { "_id": { "$gte": bound(generations.start), "$lt": bound(generations.end) } }
}

/// A row as a document; where its members would not give back the row's very text, that text is one of them.
///
/// # Errors
/// A row that is no JSON, which the stage never has.
pub fn document(row: &[u8], id: String, unit: &UnitKey, pull: i64) -> serde_json::Result<RawDocumentBuf> {
    let value: Value = serde_json::from_slice(row)?;
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), id);
    document.append(cstr!("_haul_unit"), unit.as_str());
    document.append(cstr!("_haul_pull"), pull);
    if let Value::Object(members) = value {
        for (name, value) in members {
            let name = if name == "_id" { OWN_ID.to_owned() } else { name };
            let fits = name == OWN_ID || !OURS.contains(&name.as_str());
            if let (true, Some(name), Some(value)) = (fits, storable(name), bson(value)) {
                document.append(&*name, value);
            }
        }
    }
    let mut again = Vec::with_capacity(row.len());
    if self::row(&document, &mut again).is_err() || again != row {
        document.append(cstr!("_haul_row"), String::from_utf8_lossy(row).as_ref());
    }
    Ok(document)
}

/// Writes the row that a document was made of.
///
/// # Errors
/// A document that no row was made into.
pub fn row(document: &RawDocument, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    match document.get(EXACT) {
        Ok(Some(RawBsonRef::String(exact))) => {
            out.extend_from_slice(exact.as_bytes());
            Ok(())
        }
        _ => json::members(out, document, 0, |name| match name {
            OWN_ID => Some(Some("_id")),
            "_id" | UNIT | PULL => None,
            _ => Some(None),
        }),
    }
}

/// A name that every server takes, at any level.
fn storable(name: String) -> Option<CString> {
    let plain = !name.is_empty() && !name.starts_with('$') && !name.contains('.');
    plain.then(|| CString::try_from(name).ok()).flatten()
}

/// A value of JSON in the type that keeps most of it; none where a name in it cannot be stored.
fn bson(value: Value) -> Option<RawBson> {
    Some(match value {
        Value::Null => RawBson::Null,
        Value::Bool(flag) => RawBson::Boolean(flag),
        Value::String(text) => RawBson::String(text),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => i32::try_from(whole).map_or(RawBson::Int64(whole), RawBson::Int32),
            // Wider than any whole number of BSON, but a decimal has the digits.
            (None, Some(whole)) => RawBson::Decimal128(whole.to_string().parse::<Decimal128>().ok()?),
            (None, None) => RawBson::Double(number.as_f64()?),
        },
        Value::Array(values) => {
            let mut array = RawArrayBuf::new();
            for value in values {
                array.push(bson(value)?);
            }
            RawBson::Array(array)
        }
        Value::Object(members) => {
            let mut document = RawDocumentBuf::new();
            for (name, value) in members {
                document.append(&*storable(name)?, bson(value)?);
            }
            RawBson::Document(document)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(text: &str) -> (RawDocumentBuf, String) {
        let unit = UnitKey::whole();
        let document = document(text.as_bytes(), id(&unit, 7, 42), &unit, 3).expect("a document");
        let mut out = Vec::new();
        row(&document, &mut out).expect("a row");
        (document, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_row_is_the_same_row_again() {
        let exact = |document: &RawDocumentBuf| document.get("_haul_row").expect("BSON").is_some();
        for (text, needs_text) in [
            (r#"{"id":1,"name":"Ann","at":"2024-05-01","tags":["a",null,{"x":1.5}],"big":9007199254740993}"#, false),
            (r#"{"_id":"65f0","n":18446744073709551615,"d":1.0,"e":-0.0,"t":"a\n\"b\\"}"#, false),
            (r#"{"n":170141183460469231731687303715884105727}"#, true),
            (r#"{"n":1.10}"#, true),
            (r#"{"n":1E5}"#, true),
            (r#"{"t":"\u00e9","s":"\/"}"#, true),
            (r#"{"a":1,"a":2}"#, true),
            (r#"{"$set":1,"a.b":2,"":3,"in":{"$oid":1}}"#, true),
            (r#"{"_haul_row":"x","_haul_pull":1,"_haul_id":5,"_id":6}"#, true),
            ("{}", false),
        ] {
            let (document, again) = there_and_back(text);
            assert_eq!(again, text);
            assert_eq!(exact(&document), needs_text, "{text}");
            assert_eq!(document.get_str("_id").expect("an id"), "all/0000000007/0000000042");
        }
    }

    proptest::proptest! {
        #[test]
        fn numbers_and_texts_come_back_as_they_were(whole in proptest::num::i64::ANY, float in proptest::num::f64::ANY, text in "\\PC*") {
            let row = serde_json::json!({ "w": whole, "f": float, "t": text, "o": { "l": [whole, float] } }).to_string();
            proptest::prop_assert_eq!(there_and_back(&row).1, row);
        }
    }
}

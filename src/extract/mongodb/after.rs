//! The documents behind an `_id`, whatever the types of the ones that follow.
//!
//! A sort puts values of all types into one order, but a comparison in a condition meets values of its own type only:
//! what follows is asked for as the rest of that type, and then as all types that stand behind it. The order:
//! <https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/>

use mongodb::bson::{Bson, Document, RawBson, doc};

/// The codes of the types in the order in which MongoDB sorts their values; types in one line are compared by value.
const ORDER: [&[i32]; 16] = [
    &[-1],
    &[6, 10],
    &[1, 16, 18, 19],
    &[2, 14],
    &[3],
    &[4],
    &[5],
    &[7],
    &[8],
    &[9],
    &[17],
    &[11],
    &[12],
    &[13],
    &[15],
    &[127],
];

/// The conditions that, one after the other, ask for all that stands behind an `_id`.
pub(super) fn conditions(last: &RawBson) -> Vec<Document> {
    let code = i32::from(last.element_type() as u8);
    // The smallest of all types has the largest byte.
    let code = if code == 255 { -1 } else { code };
    let line = ORDER.iter().position(|codes| codes.contains(&code)).unwrap_or(0);
    let later: Vec<i32> = ORDER[line + 1..].iter().flat_map(|codes| codes.iter().copied()).collect();
    let rest = match last {
        // There is one value of each of these types.
        RawBson::MinKey | RawBson::MaxKey | RawBson::Null | RawBson::Undefined => None,
        // It stands before all numbers, but no number is greater than it.
        RawBson::Double(number) if number.is_nan() => Some(doc! { "_id": { "$gte": f64::NEG_INFINITY } }),
        RawBson::Decimal128(number) if number.to_string() == "NaN" => {
            Some(doc! { "_id": { "$gte": f64::NEG_INFINITY } })
        }
        other => Bson::try_from(other.clone()).ok().map(|last| doc! { "_id": { "$gt": last } }),
    };
    let later = (!later.is_empty()).then(|| doc! { "_id": { "$type": later } });
    rest.into_iter().chain(later).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_the_rest_of_the_type_and_then_the_types_behind_it() {
        assert_eq!(
            conditions(&RawBson::Boolean(false)),
            [doc! { "_id": { "$gt": false } }, doc! { "_id": { "$type": [9, 17, 11, 12, 13, 15, 127] } }]
        );
        assert_eq!(conditions(&RawBson::MinKey).len(), 1);
        assert!(conditions(&RawBson::MinKey)[0].to_string().contains("[6, 10, 1,"));
        assert_eq!(conditions(&RawBson::Double(f64::NAN))[0], doc! { "_id": { "$gte": f64::NEG_INFINITY } });
        assert_eq!(conditions(&RawBson::MaxKey), Vec::<Document>::new());
    }
}

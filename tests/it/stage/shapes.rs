//! Merging shapes and widening types: in any order, any grouping, any number of times.

use haul::model::schema::{Column, LogicalType};
use haul::model::shape::{Field, Literal, Number, Place, Seen, Shape, Wording, Words};
use proptest::prelude::*;

fn place() -> impl Strategy<Value = Place> {
    (1_u64..5, 1_u64..5).prop_map(|(page, row)| Place { page, row })
}

fn number() -> impl Strategy<Value = Number> {
    let literal =
        (any::<[bool; 4]>(), 0_u16..40, 0_u16..40).prop_map(|([fraction, huge, vast, inexact], digits, scale)| {
            Literal { fraction, huge, vast, inexact, digits, scale }
        });
    prop::collection::vec((literal, place()), 1..4).prop_map(|literals| {
        // Each is seen by itself, so that the order of the places does not matter.
        literals.into_iter().fold(Number::default(), |known, (literal, place)| {
            let mut one = Number::default();
            one.note(literal, place);
            known.merge(one)
        })
    })
}

fn words() -> impl Strategy<Value = Words> {
    let wording = prop::sample::select(vec![Wording::Date, Wording::Offset, Wording::Naive, Wording::Plain]);
    prop::collection::vec((wording, place()), 1..4).prop_map(|texts| {
        texts.into_iter().fold(Words::default(), |known, (wording, place)| {
            let mut one = Words::default();
            one.note(wording, place);
            known.merge(one)
        })
    })
}

fn seen() -> impl Strategy<Value = Seen> {
    let leaf = (prop::option::of(place()), prop::option::of(number()), prop::option::of(words()))
        .prop_map(|(boolean, number, text)| Seen { boolean, number, text, object: None, list: None });
    leaf.prop_recursive(2, 12, 3, |inner| {
        let list = prop::option::of((place(), inner.clone().prop_map(Box::new)));
        (inner.clone(), prop::option::of((place(), fields(inner))), list).prop_map(|(seen, object, list)| Seen {
            object,
            list,
            ..seen
        })
    })
}

fn fields(seen: impl Strategy<Value = Seen>) -> impl Strategy<Value = Shape> {
    prop::collection::hash_map("[a-d]", (place(), seen), 0..4).prop_map(|map| Shape {
        fields: map.into_iter().map(|(name, (first, seen))| Field { name, first, seen }).collect(),
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    fields(seen())
}

fn merged(one: &Shape, two: &Shape) -> Shape {
    let mut merged = one.clone();
    merged.merge(two.clone());
    merged
}

/// The same shape with its members sorted by name, everywhere.
fn sorted(shape: &Shape) -> Shape {
    fn all(seen: &mut Seen) {
        if let Some((_, shape)) = &mut seen.object {
            *shape = sorted(shape);
        }
        if let Some((_, element)) = &mut seen.list {
            all(element);
        }
    }
    let mut shape = shape.clone();
    shape.fields.sort_by(|one, two| one.name.cmp(&two.name));
    shape.fields.iter_mut().for_each(|field| all(&mut field.seen));
    shape
}

fn data_type() -> impl Strategy<Value = LogicalType> {
    let plain = prop_oneof![
        prop::sample::select(vec![
            LogicalType::Boolean,
            LogicalType::BigInt,
            LogicalType::HugeInt,
            LogicalType::Double,
            LogicalType::Date,
            LogicalType::Timestamp,
            LogicalType::Text,
            LogicalType::Json,
        ]),
        prop::sample::select(vec!["TINYINT", "INTEGER", "UINTEGER", "UBIGINT", "FLOAT", "UUID"])
            .prop_map(|name| LogicalType::Other(name.to_owned())),
        (1_u8..=38, 0_u8..=38)
            .prop_map(|(precision, scale)| LogicalType::Decimal { precision, scale: scale.min(precision) }),
    ];
    plain.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|element| LogicalType::List(Box::new(element))),
            prop::collection::btree_map("[a-c]", inner, 1..3).prop_map(|fields| LogicalType::Struct(
                fields.into_iter().map(|(name, data_type)| Column { name, data_type }).collect()
            )),
        ]
    })
}

/// The type with the fields of records sorted by name.
fn ordered(data_type: &LogicalType) -> LogicalType {
    match data_type {
        LogicalType::List(element) => LogicalType::List(Box::new(ordered(element))),
        LogicalType::Struct(fields) => {
            let mut fields: Vec<Column> = fields
                .iter()
                .map(|field| Column { name: field.name.clone(), data_type: ordered(&field.data_type) })
                .collect();
            fields.sort_by(|one, two| one.name.cmp(&two.name));
            LogicalType::Struct(fields)
        }
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn merging_is_commutative(one in shape(), two in shape()) {
        prop_assert_eq!(sorted(&merged(&one, &two)), sorted(&merged(&two, &one)));
    }

    #[test]
    fn merging_is_associative(one in shape(), two in shape(), three in shape()) {
        let left = merged(&merged(&one, &two), &three);
        let right = merged(&one, &merged(&two, &three));
        prop_assert_eq!(sorted(&left), sorted(&right));
    }

    #[test]
    fn merging_is_idempotent(one in shape(), two in shape()) {
        prop_assert_eq!(&merged(&one, &one), &one);
        let both = merged(&one, &two);
        prop_assert_eq!(merged(&both, &two), both);
    }

    #[test]
    fn settling_changes_no_more_than_the_order(one in shape()) {
        let mut settled = one.clone();
        settled.settle();
        prop_assert_eq!(sorted(&settled), sorted(&one));
        let mut twice = settled.clone();
        twice.settle();
        prop_assert_eq!(twice, settled);
    }

    #[test]
    fn a_shape_survives_the_journal(one in shape()) {
        let text = serde_json::to_string(&one).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Shape>(&text).expect("a shape"), one);
    }

    #[test]
    fn widening_is_commutative_and_what_is_wide_enough_stays(one in data_type(), two in data_type()) {
        prop_assert_eq!(one.widen(&one), Some(one.clone()));
        let (left, right) = (one.widen(&two), two.widen(&one));
        prop_assert_eq!(left.as_ref().map(ordered), right.as_ref().map(ordered));
        if let Some(wide) = left {
            prop_assert_eq!(wide.widen(&one).as_ref().map(ordered), Some(ordered(&wide)));
            prop_assert_eq!(wide.widen(&two).as_ref().map(ordered), Some(ordered(&wide)));
        }
    }
}

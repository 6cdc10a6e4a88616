//! A fingerprint depends on the rows of its unit alone: not on their order, their pages, or the space within them.

use proptest::prelude::*;

use super::{folder, sealed, spec, window};
use haul::model::ledger::Fingerprint;
use haul::model::pipeline::{Outside, TimeColumn, TimeFormat};
use haul::stage::Manifest;

fn of(manifest: &Manifest) -> Fingerprint {
    manifest.units.values().next().expect("a unit").1
}

fn print(pages: &[&str]) -> Fingerprint {
    let folder = folder();
    of(&sealed(folder.path(), spec(), pages))
}

#[test]
fn pages_rows_and_spaces_are_no_part_of_it() {
    let plain = print(&["{\"a\":1,\"b\":[1,2]}\n{\"a\":2,\"b\":\"x y\"}"]);
    assert_eq!(print(&["{\"a\":2,\"b\":\"x y\"}", "", "{\"a\":1,\"b\":[1,2]}"]), plain);
    assert_eq!(print(&["{ \"a\" : 1 ,\t\"b\" : [ 1,2 ] }\n{\"a\":2, \"b\":\"x y\"}"]), plain);
}

#[test]
fn everything_else_is_part_of_it() {
    let row = "{\"a\":1,\"b\":\"x y\"}";
    let plain = print(&[row]);
    for other in [
        "{\"b\":\"x y\",\"a\":1}",
        "{\"a\":1.0,\"b\":\"x y\"}",
        "{\"a\":\"1\",\"b\":\"x y\"}",
        "{\"a\":1,\"b\":\"x  y\"}",
        "{\"a\":1,\"b\":\"x y\",\"c\":null}",
        "{\"a\":1}",
        "",
    ] {
        assert_ne!(print(&[other]), plain, "{other}");
    }
    assert_ne!(print(&[row, row]), plain, "a row that comes twice is there twice");
    assert_ne!(print(&[row, row]), print(&[row, row, row]));
    assert_eq!(print(&[]), Fingerprint::default(), "no rows, no digest");
    assert_ne!(plain, Fingerprint::default());
}

#[test]
fn a_day_has_the_same_fingerprint_whether_it_was_pulled_alone_or_in_a_window() {
    let row = "{\"t\":\"2024-03-01T10:00:00Z\",\"n\":1}";
    let folder = folder();
    let time = TimeColumn { path: "t".to_owned(), format: TimeFormat::Iso, outside: Outside::Drop };
    let manifest =
        sealed(folder.path(), window(&["2024-03-01", "2024-03-02"], time), &[row, "{\"t\":\"2024-03-02\",\"n\":2}"]);
    assert_eq!(of(&manifest), print(&[row]));
}

/// A row and the way it is written.
fn row() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[ -~]{0,6}".prop_map(Into::into),
        "[가-힣😀]{0,2}".prop_map(Into::into),
    ];
    let value = leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Into::into),
            prop::collection::hash_map("[a-c]", inner, 0..3).prop_map(|map| map.into_iter().collect()),
        ]
    });
    prop::collection::vec(("[a-d]", value), 0..4).prop_map(|members| members.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn shuffled_and_divided_otherwise_rows_have_the_same_fingerprint(
        rows in prop::collection::vec(row(), 0..12),
        order in any::<prop::sample::Index>(),
        size in 1_usize..5,
        seed in any::<u64>(),
    ) {
        let one: Vec<String> = rows.iter().map(ToString::to_string).collect();
        let mut other = rows.clone();
        // A rotation and swaps by the seed are shuffle enough, and shrink well.
        if !other.is_empty() {
            other.rotate_left(order.index(rows.len()));
            for at in 1..other.len() {
                if (seed >> (at % 64)) & 1 == 1 {
                    other.swap(at, at / 2);
                }
            }
        }
        let many: Vec<String> = other
            .chunks(size)
            .map(|page| {
                let rows = page.iter().map(|row| serde_json::to_string_pretty(row).expect("JSON").replace('\n', " "));
                rows.collect::<Vec<_>>().join("\n")
            })
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let whole = one.join("\n");
        let whole: &[&str] = if rows.is_empty() { &[] } else { &[&whole] };
        prop_assert_eq!(print(whole), print(&many));
    }
}

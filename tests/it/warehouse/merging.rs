//! Whatever values come after each other: a commit is refused, or every value is in the table with all its digits.

use haul::error::Kind;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use super::bench::{Bench, Driver, Load, day};

/// The literal of a number, of many kinds; where there is an emulator, of those that it has digits for.
fn number(driver: Driver) -> impl Strategy<Value = String> {
    let few = prop_oneof![
        3 => "-?(0|[1-9][0-9]{0,8})",
        2 => "-?(0|[1-9][0-9]{0,18})",
        3 => "-?(0|[1-9][0-9]{0,5})\\.[0-9]{1,4}",
        2 => "-?(0|[1-9][0-9]{0,9})\\.[0-9]{7,9}",
    ];
    let many = prop_oneof![
        3 => "-?(0|[1-9][0-9]{0,8})",
        2 => "-?(0|[1-9][0-9]{0,18})",
        1 => "-?[1-9][0-9]{0,36}",
        3 => "-?(0|[1-9][0-9]{0,5})\\.[0-9]{1,4}",
        2 => "-?(0|[1-9][0-9]{0,9})\\.[0-9]{12,18}",
        1 => "-?[1-9]\\.[0-9]{0,12}[1-9]e[+-]?[0-9]{1,2}",
    ];
    driver.pick(many.clone().boxed(), many.boxed(), few.boxed())
}

/// Sign, digits without zeros at the ends, and the place of the point: the same for all ways to write a number.
fn canonical(literal: &str) -> (bool, String, i64) {
    let (negative, text) = literal.strip_prefix('-').map_or((false, literal), |text| (true, text));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{behind}");
    let point = length(whole) + exponent.trim_start_matches('+').parse::<i64>().expect("an exponent");
    let leading = length(&digits) - length(digits.trim_start_matches('0'));
    let digits = digits.trim_matches('0').to_owned();
    if digits.is_empty() { (false, digits, 0) } else { (negative, digits, point - leading) }
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).expect("a short text")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:e}", number.as_f64().expect("a float")),
        other => other.to_string(),
    }
}

async fn fill(bench: &Bench, table: usize, pulls: &[Vec<String>]) -> Result<usize, TestCaseError> {
    let mut there: Vec<(bool, String, i64)> = Vec::new();
    let mut refused = 0;
    for (number, values) in pulls.iter().enumerate() {
        let mut load = Load::of(day(&format!("2024-03-{:02}", number + 1)));
        load.table.name = format!("t{table}");
        let rows: Vec<String> = values.iter().map(|value| format!("{{\"n\":{value}}}")).collect();
        match bench.load(&load, &[&rows.join("\n")]).await {
            Ok(_) => there.extend(values.iter().map(|value| canonical(value))),
            Err(error) => {
                prop_assert_eq!(error.kind(), Kind::Data, "{:?}", error);
                refused += 1;
            }
        }
    }
    if there.is_empty() {
        return Ok(refused);
    }
    let rows = bench.rows(&format!("SELECT n FROM raw.t{table}")).await;
    let mut found: Vec<_> = rows.iter().map(|row| canonical(&shown(&row[0]))).collect();
    found.sort();
    there.sort();
    prop_assert_eq!(found, there);
    Ok(refused)
}

fn numbers_are_refused_or_keep_every_digit_whatever_came_before(driver: Driver) {
    driver.run(|bench| async move {
        // So many tables are filled, each by three commits.
        let tables = driver.pick(25, 25, 5);
        let mut runner = TestRunner::new(Config::with_cases(tables));
        let pulls = prop::collection::vec(prop::collection::vec(number(driver), 1..4), 3);
        let (mut refused, mut commits) = (0, 0);
        for table in 0..tables as usize {
            let pulls = pulls.new_tree(&mut runner).expect("pulls");
            let pulls = proptest::strategy::ValueTree::current(&pulls);
            commits += pulls.len();
            refused += fill(&bench, table, &pulls).await.unwrap_or_else(|error| panic!("{pulls:?}: {error}"));
        }
        assert!(refused * 2 < commits, "most numbers fit together: {refused} of {commits} were refused");
    });
}

fn times_are_refused_or_are_the_same_instant_whatever_came_before(driver: Driver) {
    driver.run(|bench| async move {
        let dates = "\"2024-03-01\"";
        let naive = "\"2024-03-01T12:00:00.25\"";
        let offset = "\"2024-03-02T00:00:00+12:00\"";
        let text = "\"soon\"";
        let first = r#"["2024-03-01 00:00:00","2024-03-01 12:00:00.25","2024-03-01 12:00:00"]"#;
        let table = [
            // BigQuery's dates cannot become times, so that these are refused.
            ([dates, naive, offset], driver.pick(first, first, r#"["2024-03-01"]"#).to_owned()),
            ([offset, dates, text], driver.instants(r#"["2024-03-01 12:00:00","2024-03-01 00:00:00"]"#)),
            ([text, offset, dates], r#"["soon","2024-03-02T00:00:00+12:00","2024-03-01"]"#.to_owned()),
            ([dates, text, dates], r#"["2024-03-01","2024-03-01"]"#.to_owned()),
        ];
        for (number, (values, wanted)) in table.into_iter().enumerate() {
            for (at, value) in values.iter().enumerate() {
                let mut load = Load::of(day(&format!("2024-03-{:02}", at + 1)));
                load.table.name = format!("times{number}");
                if let Err(error) = bench.load(&load, &[&format!("{{\"n\":{value}}}")]).await {
                    assert_eq!(error.kind(), Kind::Data, "{error:?}");
                }
            }
            let found = bench.text(&format!("SELECT array_agg(n ORDER BY _haul_unit) FROM raw.times{number}")).await;
            assert_eq!(found, format!("[[{wanted}]]"));
        }
    });
}

suite!(
    numbers_are_refused_or_keep_every_digit_whatever_came_before,
    times_are_refused_or_are_the_same_instant_whatever_came_before
);

//! What a step says of its rows: their types, their names, what is nested, what is new, and what lies outside of their time.

use serde_json::{Value, json};

use crate::support::mornings::{Mornings, counted};
use crate::support::scripted::Scripted;

const DATE: &str = "2024-05-04";
const DAY: &str = "2024-05-03";

/// A pipeline over one day, with more keys for its extract.
fn with(api: &Scripted, more: &str) -> Mornings {
    let pipeline = r#"
[window]
lookback = 1

[[extract]]
name = "items"
connection = "api"
request = { path = "/rows", params = { key = "{{ ds }}" } }
paginate = { by = "offset", limit = 4, total = "$.total" }
records = "$.rows[*]"
"#;
    Mornings::new(&api.url, &format!("{pipeline}{more}\n"))
}

/// The columns of the table with their types.
fn columns(days: &Mornings) -> Vec<(String, String)> {
    let sql = "select column_name as c, data_type as t from duckdb_columns() where schema_name = 'raw' and \
               table_name = 'items' and column_name not like '\\_haul%' escape '\\' order by column_index";
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let rows = days.project.query(sql);
    rows.as_array().expect("rows").iter().map(|row| (text(&row["c"]), text(&row["t"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, data_type)| ((*name).to_owned(), (*data_type).to_owned())).collect()
}

fn row() -> Value {
    json!({ "itemId": 9_007_199_254_740_993_u64, "Unit Price": "12.50", "seen": "2024-05-03T01:00:00Z",
            "place": { "name": "here" }, "tags": ["a"] })
}

#[test]
fn columns_are_named_typed_and_nested_as_the_step_says() {
    let api = Scripted::start();
    api.put(DAY, vec![row()]);
    let plain = with(&api, "");
    plain.run(DATE, 0);
    let as_they_come = [
        ("itemId", "BIGINT"),
        ("Unit Price", "VARCHAR"),
        ("seen", "TIMESTAMP"),
        ("place", "STRUCT(\"name\" VARCHAR)"),
        ("tags", "VARCHAR[]"),
    ];
    assert_eq!(columns(&plain), pairs(&as_they_come));
    let id = plain.project.query("select \"itemId\"::varchar as id from raw.items");
    assert_eq!(id[0]["id"], "9007199254740993");

    let said = with(
        &api,
        "naming = \"snake\"\nnested = \"json\"\ncolumns = { itemId = \"VARCHAR\", \"Unit Price\" = \"DECIMAL(10,2)\" }",
    );
    said.run(DATE, 0);
    let declared = [
        ("item_id", "VARCHAR"),
        ("unit_price", "DECIMAL(10,2)"),
        ("seen", "TIMESTAMP"),
        ("place", "JSON"),
        ("tags", "JSON"),
    ];
    assert_eq!(columns(&said), pairs(&declared));
    assert_eq!(said.project.query("select sum(unit_price * 2)::varchar as n from raw.items")[0]["n"], "25.00");
}

#[test]
fn a_new_column_is_added_left_out_or_refused_as_the_contract_says() {
    for (contract, code, expected) in [("evolve", 0, 3), ("discard", 0, 2), ("freeze", 1, 2)] {
        let api = Scripted::start();
        api.put(DAY, vec![json!({ "id": 1, "n": 1 })]);
        let days = with(&api, &format!("contract = \"{contract}\""));
        days.run(DATE, 0);
        api.put(DAY, vec![json!({ "id": 1, "n": 1, "new": true }), json!({ "id": 2, "n": 2, "new": false })]);
        let said = days.run(DATE, code);
        assert_eq!(columns(&days).len(), expected, "{contract}: {said}");
        let rows = days.rows("raw.items")[DAY];
        match contract {
            "discard" => assert!(said.contains("left out by the contract: new"), "{said}"),
            "freeze" => {
                assert!(
                    said.contains("the column `new` (BOOLEAN) is new") && said.contains("hint: the contract is"),
                    "{said}"
                );
                assert_eq!(rows, 1, "the old rows stay");
            }
            _ => assert_eq!(rows, 2),
        }
    }
}

#[test]
fn a_type_that_the_column_cannot_hold_is_refused_with_both_types() {
    let api = Scripted::start();
    api.put(DAY, vec![json!({ "id": 1, "n": 1 })]);
    let days = with(&api, "");
    days.run(DATE, 0);
    api.put(DAY, vec![json!({ "id": 1, "n": 1.5 })]);
    days.run(DATE, 0);
    assert_eq!(columns(&days)[1].1, "DOUBLE", "a wider type is taken");
    api.put(DAY, vec![json!({ "id": 1, "n": true })]);
    let said = days.run(DATE, 1);
    assert!(said.contains("the column `n` is DOUBLE in the table and BOOLEAN in the new rows"), "{said}");
    assert!(said.contains("hint: declare it: `columns = { n = \"DOUBLE\" }`"), "{said}");
    api.put(DAY, vec![json!({ "id": 1, "n": 1 }), json!({ "id": 2, "n": [2] })]);
    let said = days.run(DATE, 1);
    assert!(said.contains("`n`") && said.contains("row 2") && said.contains("page 1"), "{said}");
    assert_eq!(days.project.query("select n from raw.items")[0]["n"], 1.5, "the old rows stay");
}

#[test]
fn rows_outside_of_their_day_are_kept_dropped_or_refused() {
    let at = |time: &str| json!({ "id": time, "at": time });
    for (outside, code, rows, words) in [
        ("keep", 0, 2, "1 row lies outside of the unit and was kept"),
        ("drop", 0, 1, "1 row lies outside of the unit and was left out"),
        ("refuse", 1, 0, "row 2 of page 1 is of 2024-05-04 00:00:00 UTC, outside of 2024-05-03 00:00:00 UTC"),
    ] {
        let api = Scripted::start();
        api.put(DAY, vec![at("2024-05-03T23:59:59Z"), at("2024-05-04T00:00:00Z")]);
        let days = with(&api, &format!("time_column = \"at\"\noutside = \"{outside}\""));
        let said = days.run(DATE, code);
        assert!(said.contains(words), "{outside}: {said}");
        if code == 0 {
            assert_eq!(days.rows("raw.items"), counted(&[(DAY, rows)]), "{outside}");
            continue;
        }
        assert!(said.contains("hint: say what to do with such rows"), "{said}");
        // The way that the hint shows is a way out.
        let pipeline = std::fs::read_to_string(days.project.path().join("pipelines/days.toml")).expect("the pipeline");
        days.project.write("pipelines/days.toml", &pipeline.replace("\"refuse\"", "\"drop\""));
        days.run(DATE, 0);
        assert_eq!(days.rows("raw.items"), counted(&[(DAY, 1)]));
    }
}

#[test]
fn a_row_without_its_time_is_refused_with_its_place() {
    let api = Scripted::start();
    api.put(DAY, vec![json!({ "at": 1_714_694_400 }), json!({ "at": null })]);
    let days = with(&api, "time_column = \"at\"\ntime_format = \"epoch\"");
    let said = days.run(DATE, 1);
    assert!(said.contains("row 2 of page 1 has `null` for its time `at`"), "{said}");
    assert!(said.contains("hint: `time_format`"), "{said}");
}

#[test]
fn a_declared_type_never_rounds_a_number_without_a_word() {
    let api = Scripted::start();
    api.put(DAY, vec![json!({ "id": 1, "price": 12.5 }), json!({ "id": 2.0, "price": 3 })]);
    let days = with(&api, "columns = { id = \"BIGINT\", price = \"DECIMAL(10,2)\" }");
    days.run(DATE, 0);
    let prices = || days.project.query("select id, price::varchar as price from raw.items order by id");
    let kept = json!([{ "id": 1, "price": "12.50" }, { "id": 2, "price": "3.00" }]);
    assert_eq!(prices(), kept);
    for (row, told) in [
        (json!({ "id": 3, "price": 1.005 }), "`price` is declared DECIMAL(10,2), and has a number with 3 digits"),
        (json!({ "id": 3.5, "price": 1 }), "`id` is declared BIGINT, and has a number with 1 digit behind the point"),
    ] {
        api.put(DAY, vec![json!({ "id": 1, "price": 1 }), json!({ "id": 2, "price": 2 }), row]);
        let said = days.run(DATE, 1);
        assert!(said.contains(told) && said.contains("on page 1, row 3"), "{said}");
        assert_eq!(prices(), kept, "the old rows stay");
    }
}

//! Files as the place that rows go to: Parquet, CSV and JSON Lines, a file for each day.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Bench, DAYS, MORNING};
use crate::support::project::told;

const LAKE: &str = "[lake]\ntype = \"files\"\nurl = \"lake\"\n";

/// A load of the days' rows into files of this path.
fn export(into: &str, more: &str) -> String {
    format!("[[load]]\nname = \"export\"\nfrom = \"items\"\nconnection = \"lake\"\ninto = \"{into}\"\n{more}\n")
}

/// The rows of files, as DuckDB reads them.
pub fn rows(from: &str, order: &str) -> Value {
    let file = duckdb::Connection::open_in_memory().expect("DuckDB");
    let sql = format!("select to_json(list(row_ order by {order}))::varchar from {from} as row_");
    let text: Option<String> = file.query_row(&sql, [], |row| row.get(0)).expect("rows");
    serde_json::from_str(&text.unwrap_or_else(|| "[]".to_owned())).expect("JSON")
}

/// The files below a folder but for haul's own, in their order.
fn files(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                walk(root, &entry, found);
            } else {
                found.push(entry.strip_prefix(root).expect("below").to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.retain(|file| !file.contains("_haul_loads"));
    found.sort();
    found
}

#[test]
fn each_day_has_a_file_of_parquet_with_all_digits() {
    let bench =
        Bench::new(&export("exports/dt={{ ds }}/part.parquet", "columns = { amount = \"DECIMAL(20,4)\" }"), LAKE);
    bench.run();
    let lake = bench.project().path().join("lake");
    assert_eq!(files(&lake), DAYS.map(|day| format!("exports/dt={day}/part.parquet")));
    let from = format!("read_parquet('{}/exports/*/*.parquet', hive_partitioning = true)", lake.display());
    let found = rows(
        &format!("(select id, amount::varchar as amount, big, typeof(amount) as kind, dt::varchar as dt from {from})"),
        "id",
    );
    assert_eq!(found.as_array().expect("rows").len(), 12);
    let first = json!({ "id": "2024-05-01/0", "amount": "0.2500", "big": 9_007_199_254_740_993_u64, "kind": "DECIMAL(20,4)", "dt": "2024-05-01" });
    assert_eq!(found[0], first);
    bench.run();
    assert!(bench.ended("export").iter().all(|ended| ended.contains("skipped")), "{:?}", bench.ended("export"));
}

#[test]
fn csv_and_json_lines_give_back_what_the_rows_were() {
    let csv = export("csv/{{ ds }}.csv.gz", "");
    let lines = export("lines/{{ ds_nodash }}.jsonl", "").replace("\"export\"", "\"lines\"");
    let bench = Bench::new(&format!("{csv}\n{lines}"), LAKE);
    bench.run();
    let lake = bench.project().path().join("lake");
    let text = fs::read_to_string(lake.join("lines/20240502.jsonl")).expect("lines");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines[1],
        r#"{"id":"2024-05-02/1","day":"2024-05-02","amount":1.25,"big":9007199254740994,"text":"line 1\n\"quoted\", é"}"#
    );
    let read = format!("read_csv('{}', all_varchar = true)", lake.join("csv/2024-05-02.csv.gz").display());
    let found = rows(&read, "id");
    assert_eq!(
        found[1],
        json!({ "id": "2024-05-02/1", "day": "2024-05-02", "amount": "1.25", "big": "9007199254740994", "text": "line 1\n\"quoted\", é" })
    );
    assert_eq!(found.as_array().expect("rows").len(), 4);
}

#[test]
fn a_changed_day_replaces_its_file_and_an_emptied_one_removes_it() {
    let bench = Bench::new(&export("days/{{ ds }}.jsonl", ""), LAKE);
    bench.run();
    let lake = bench.project().path().join("lake");
    let before = fs::metadata(lake.join("days/2024-05-01.jsonl")).expect("a file").modified().expect("a time");
    bench.day("2024-05-02", 9);
    bench.day("2024-05-03", 0);
    bench.run();
    let count = |day: &str| fs::read_to_string(lake.join(format!("days/{day}.jsonl"))).expect("a file").lines().count();
    assert_eq!((count("2024-05-01"), count("2024-05-02")), (4, 9));
    assert_eq!(files(&lake), ["days/2024-05-01.jsonl", "days/2024-05-02.jsonl"]);
    let after = fs::metadata(lake.join("days/2024-05-01.jsonl")).expect("a file").modified().expect("a time");
    assert_eq!(before, after, "the unchanged day's file is left alone");
    // An empty day stays empty: nothing is due again because its file is not there.
    bench.run();
    assert!(bench.ended("export").iter().all(|ended| ended.contains("skipped")), "{:?}", bench.ended("export"));
    bench.day("2024-05-03", 1);
    bench.run();
    assert_eq!(count("2024-05-03"), 1);
}

#[test]
fn a_file_that_somebody_removed_is_written_again() {
    let bench = Bench::new(&export("days/{{ ds }}.csv", ""), LAKE);
    bench.run();
    let lake = bench.project().path().join("lake");
    fs::remove_file(lake.join("days/2024-05-02.csv")).expect("a file");
    let told = bench.run();
    assert!(told.contains("was no longer in the warehouse"), "{told}");
    assert!(lake.join("days/2024-05-02.csv").is_file());
    assert_eq!(bench.ended("export")[1], "2024-05-02 loaded");
}

#[test]
fn a_large_day_has_several_files_and_a_smaller_one_leaves_none_behind() {
    let bench = Bench::new(&export("days/{{ ds }}/part.csv", "max_file_size = \"600 KB\""), LAKE);
    bench.day("2024-05-02", 40_000);
    bench.run();
    let lake = bench.project().path().join("lake");
    let parts: Vec<String> = files(&lake).into_iter().filter(|file| file.contains("2024-05-02")).collect();
    assert!(parts.len() > 2 && parts.contains(&"days/2024-05-02/part-2.csv".to_owned()), "{parts:?}");
    let read = format!("read_csv('{}/days/2024-05-02/*.csv')", lake.display());
    let counted = rows(&format!("(select count(*) as n, count(distinct id) as ids from {read})"), "n");
    assert_eq!(counted, json!([{ "n": 40_000, "ids": 40_000 }]));
    bench.day("2024-05-02", 3);
    bench.run();
    let parts: Vec<String> = files(&lake).into_iter().filter(|file| file.contains("2024-05-02")).collect();
    assert_eq!(parts, ["days/2024-05-02/part.csv"]);
}

#[test]
fn a_whole_table_is_one_file_and_appended_days_are_files_of_their_pulls() {
    let whole = export("all/items.parquet", "write = \"full\"");
    let more =
        export("log/{{ ds }}.jsonl", "write = \"append\"\nappend_repeats = true").replace("\"export\"", "\"log\"");
    let bench = Bench::new(&format!("{whole}\n{more}"), LAKE);
    bench.run();
    bench.day("2024-05-03", 6);
    bench.run();
    let lake = bench.project().path().join("lake");
    let expected = [
        "all/items.parquet",
        "log/2024-05-01-pull1.jsonl",
        "log/2024-05-02-pull1.jsonl",
        "log/2024-05-03-pull1.jsonl",
        "log/2024-05-03-pull2.jsonl",
    ];
    assert_eq!(files(&lake), expected);
    let all =
        rows(&format!("(select count(*) as n from read_parquet('{}'))", lake.join("all/items.parquet").display()), "n");
    assert_eq!(all, json!([{ "n": 14 }]));
}

#[test]
fn what_a_format_cannot_hold_is_refused_with_what_would_be_right() {
    for (path, column, value, says) in [
        ("x/{{ ds }}.csv", "tags", "[1, 2]", "CSV has no nested values"),
        ("x/{{ ds }}.parquet", "huge", "170141183460469231731687303715884105727", "DECIMAL(38,0)"),
    ] {
        let bench = Bench::new(&export(path, ""), LAKE);
        bench.project().write("days/2024-05-02.jsonl", &format!("{{\"id\": \"1\", \"{column}\": {value}}}\n"));
        let output = bench.try_run();
        let told = told(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(says) && told.contains("columns = {"), "{told}");
        assert!(!bench.project().path().join("lake").join(path.replace("{{ ds }}", "2024-05-02")).exists());
        // Declared as what the format has, the same value is written.
        let word = if column == "tags" { "JSON" } else { "VARCHAR" };
        bench.steps(&export(path, &format!("columns = {{ {column} = \"{word}\" }}")));
        bench.run();
        let file = bench.project().path().join("lake").join(path.replace("{{ ds }}", "2024-05-02"));
        let read = if column == "tags" { "read_csv" } else { "read_parquet" };
        let found = rows(&format!("(select {column}::varchar as v from {read}('{}'))", file.display()), "v");
        assert_eq!(found[0]["v"].as_str().expect("a text").replace(' ', ""), value.replace(' ', ""));
    }
}

#[test]
fn two_days_cannot_have_the_same_file() {
    let bench = Bench::new(&export("x/{{ window.start }}.csv", ""), LAKE);
    let output = bench.try_run();
    let told = told(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("is the path of two units"), "{told}");
}

#[test]
fn files_of_others_come_into_the_warehouse() {
    let steps = "[[load]]\nname = \"orders\"\nfrom_connection = \"lake\"\nfrom = \"in/{{ ds }}/*.csv\"\ncolumns = { id = \"BIGINT\", price = \"DECIMAL(10,3)\" }\n";
    let bench = Bench::new(steps, LAKE);
    for day in DAYS {
        bench.project().write(&format!("lake/in/{day}/a.csv"), "id,price\n1,2.125\n2,3.500\n");
    }
    bench.run();
    let rows = bench.query("warehouse", "select count(*) as n, sum(price)::varchar as price from raw.orders");
    assert_eq!(rows, json!([{ "n": 6, "price": "16.875" }]));
    let _ = MORNING;
}

#[test]
fn a_check_sees_the_rows_before_any_file_is_written() {
    let more = "\n[[load.checks]]\nunique = \"id\"\n";
    let bench = Bench::new(&export("x/{{ ds }}.parquet", more), LAKE);
    bench.project().write("days/2024-05-02.jsonl", "{\"id\": \"a\"}\n{\"id\": \"a\"}\n");
    let output = bench.try_run();
    let told = told(&output);
    assert!(told.contains("the check `unique(id)` of the new rows failed"), "{told}");
    let lake = bench.project().path().join("lake");
    assert_eq!(files(&lake), ["x/2024-05-01.parquet", "x/2024-05-03.parquet"]);
}

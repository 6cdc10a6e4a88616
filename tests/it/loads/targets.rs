//! What a database does with loaded rows, whichever it is: brought there and back, once, again when they changed.

use std::os::unix::process::ExitStatusExt;

use serde_json::{Value, json};

use super::{Bench, DAYS, MORNING};
use crate::support::databases::{Database, SECRET};
use crate::support::project::told;

/// Rows of every type, from the days' files to the database, and from there back into the warehouse.
fn there_and_back(write: &str) -> String {
    format!(
        r#"
[[transform]]
name = "typed"
write = {write}
sql = """
select id, day::date as day, cast(amount as decimal(20,4)) as amount, big, text,
  case when amount > 2 then null else amount > 1 end as flag, amount::double / 3 as ratio,
  timestamp '2024-05-01 23:59:59.123456' as at, time '12:34:56.789' as clock,
  170141183460469231731687303715884105727::hugeint as huge, json_object('a', 1.5, 'b', [1, null]) as doc
from {{{{ ref('items') }}}} {condition}
"""

[[load]]
name = "serve"
from = "typed"
connection = "origin"
into = "typed"
write = {write}

[[load]]
name = "back"
from = "serve"
into = "raw.back"
write = {write}
columns = {{ huge = "HUGEINT", doc = "JSON", flag = "BOOLEAN", clock = "TIME" }}
"#,
        condition = if write == "\"full\"" { "" } else { "where _haul_unit = {{ ds | sql }}" },
    )
}

fn bench(database: &dyn Database, steps: &str) -> Bench {
    Bench::new(steps, &database.connection(SECRET))
}

/// The rows of the warehouse's own table, and of the one that came back.
fn both(bench: &Bench) -> [Value; 2] {
    ["mart.typed", "raw.back"].map(|table| {
        let sql = format!("select * exclude (_haul_pull) replace (doc::varchar as doc, ratio::varchar as ratio) from {table} order by id");
        let mut rows = bench.query("warehouse", &sql);
        for row in rows.as_array_mut().expect("rows") {
            // A database may write the same document with other spaces.
            let doc: Value = serde_json::from_str(row["doc"].as_str().expect("a document")).expect("JSON");
            row["doc"] = doc;
        }
        rows
    })
}

pub fn every_type_comes_back_as_it_went(database: &dyn Database) {
    let bench = bench(database, &there_and_back("\"replace\""));
    bench.run();
    let [own, back] = both(&bench);
    assert_eq!(own.as_array().expect("rows").len(), 12);
    assert_eq!(own, back);
    let types = |table: &str| {
        let sql = format!("select column_name, column_type from (describe {table}) order by all");
        bench.query("warehouse", &sql)
    };
    assert_eq!(types("mart.typed"), types("raw.back"));
}

pub fn only_what_changed_is_written(database: &dyn Database) {
    let bench = bench(database, &there_and_back("\"replace\""));
    bench.run();
    bench.run();
    let unchanged = "skipped: nothing that it reads has changed";
    assert_eq!(bench.ended("serve"), DAYS.map(|day| format!("{day} {unchanged}")));
    bench.day("2024-05-02", 6);
    bench.day("2024-05-03", 0);
    bench.run();
    assert_eq!(
        bench.ended("serve"),
        [format!("2024-05-01 {unchanged}"), "2024-05-02 loaded".to_owned(), "2024-05-03 loaded".to_owned()]
    );
    let [own, back] = both(&bench);
    assert_eq!(own.as_array().expect("rows").len(), 10);
    assert_eq!(own, back);
}

pub fn a_whole_table_is_replaced(database: &dyn Database) {
    let bench = bench(database, &there_and_back("\"full\""));
    bench.run();
    bench.day("2024-05-02", 1);
    bench.run();
    let [own, back] = both(&bench);
    assert_eq!(own.as_array().expect("rows").len(), 9);
    assert_eq!(own, back);
}

/// Two days have rows of one key: the later day's stays, and a day that is loaded again takes none away.
pub fn rows_of_one_key_are_merged(database: &dyn Database) {
    let steps = r#"
[[transform]]
name = "users"
sql = "select 'user ' || (row_number() over (order by id))::varchar as name, day, amount from {{ ref('items') }} where _haul_unit = {{ ds | sql }}"

[[load]]
name = "serve"
from = "users"
connection = "origin"
into = "users"
write = "merge"
keys = ["name"]

[[load]]
name = "back"
from = "serve"
into = "raw.back"
write = "full"
"#;
    let bench = bench(database, steps);
    bench.day("2024-05-03", 2);
    bench.run();
    let rows = || bench.query("warehouse", "select name, day from raw.back order by name");
    let user = |n: u32, day: &str| json!({ "name": format!("user {n}"), "day": day });
    let last = |n: u32| rows()[n as usize - 1]["day"].clone();
    assert_eq!(rows().as_array().expect("rows").len(), 4);
    // Which of the days came last is not told; a later run of one day decides.
    bench.day("2024-05-02", 3);
    bench.run();
    assert_eq!((1..=3).map(last).collect::<Vec<_>>(), vec![json!("2024-05-02"); 3]);
    assert_eq!(rows()[0], user(1, "2024-05-02"));
    assert_eq!(rows().as_array().expect("rows").len(), 4);
}

/// A process that is killed anywhere leaves nothing that the next does not bring to the same end.
pub fn killed_anywhere_it_ends_the_same(database: &dyn Database) {
    let bench = bench(database, &there_and_back("\"replace\""));
    let now = format!("{MORNING}T06:00:00Z");
    for point in ["sealed:4", "judged:5", "committed:7", "committed:8", "recorded:8"] {
        let killed = bench.project().output(&["run", "days", "--date", MORNING, "--now", &now, "--kill-at", point]);
        assert!(killed.status.signal() == Some(9) || killed.status.success(), "{point}: {}", told(&killed));
    }
    bench.run();
    let [own, back] = both(&bench);
    assert_eq!(own, back);
    assert_eq!(own.as_array().expect("rows").len(), 12);
}

/// A table of somebody else's making has narrower columns: what does not fit is told with its column, and nothing is written.
pub fn what_does_not_fit_is_refused(database: &dyn Database) {
    for (column, narrow, told_as) in [("big", "smallint", "big"), ("amount", "decimal(6,1)", "amount")] {
        let bench = bench(database, &there_and_back("\"merge\"\nkeys = [\"id\"]"));
        database.execute(&["DROP TABLE IF EXISTS typed"]);
        database.execute(&[&format!("CREATE TABLE typed (id varchar(40), {column} {narrow}, text text)")]);
        let output = bench.try_run();
        let told = told(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let of_load = told.lines().filter(|line| line.contains("serve")).collect::<Vec<_>>().join("\n");
        assert!(of_load.contains(&format!("`{told_as}`")), "{told}");
        database.execute(&["DROP TABLE IF EXISTS typed"]);
    }
}

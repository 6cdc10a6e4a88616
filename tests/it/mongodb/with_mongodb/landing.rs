//! Rows that land in a collection, and the load step that brings them into a table.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mongodb::bson::{Document, doc};
use serde_json::{Value, json};

use super::Bench;
use crate::support::doors::{Door, Reply};
use crate::support::mornings::counted;
use crate::support::project::told;

pub const MORNING: &str = "2024-05-04";
pub const DAYS: [&str; 3] = ["2024-05-01", "2024-05-02", "2024-05-03"];

/// An API of days whose rows a test sets as text.
pub struct Api {
    pub door: Door,
    days: Arc<Mutex<HashMap<String, Vec<String>>>>,
}

impl Api {
    pub fn start() -> Self {
        let days: Arc<Mutex<HashMap<String, Vec<String>>>> = Arc::default();
        let shown = Arc::clone(&days);
        let door = Door::start(move |asked| {
            let asked_for = |name: &str| {
                let pairs = asked.query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).unwrap_or_default()
            };
            let days = shown.lock().expect("no test panicked here");
            let rows: Vec<&String> = match asked_for("day").as_str() {
                "" => days.values().flatten().collect(),
                day => days.get(day).into_iter().flatten().collect(),
            };
            let page: usize = asked_for("page").parse().unwrap_or(1);
            let page: Vec<&str> = rows.iter().skip((page - 1) * 10).take(10).map(|row| row.as_str()).collect();
            Reply::new(200, format!("[{}]", page.join(",")))
        });
        Self { door, days }
    }

    pub fn put(&self, day: &str, rows: Vec<String>) {
        self.days.lock().expect("no test panicked here").insert(day.to_owned(), rows);
    }

    /// Fills the three days with rows that are easily damaged.
    pub fn fill(&self) {
        for day in DAYS {
            self.put(day, rows(day, 0..25));
        }
    }

    pub fn connection(&self) -> String {
        format!("[api]\ntype = \"http\"\nurl = \"{}\"\n", self.door.url)
    }

    pub fn bench(&self, pipeline: &str) -> Bench {
        Bench::with(pipeline, &self.connection())
    }
}

/// Rows of a day, with what a database of documents could lose of them.
pub fn rows(day: &str, numbers: std::ops::Range<u32>) -> Vec<String> {
    let row = |n: u32| {
        format!(
            r#"{{"_id":"{day}/{n}","id":{n},"at":"{day}T{:02}:00:00Z","big":{},"huge":{},"price":{n}.10,"exact":12345678901234567.{n:04},"e":1.5e{},"text":"\u00e9 \/ {n}","nested":{{"$set":{n},"a.b":[{n},null],"deep":{{"x":{n}.5}}}},"none":null}}"#,
            n % 24,
            9_007_199_254_740_993 + u64::from(n),
            170_141_183_460_469_231_731_687_303_715_884_105_000_u128 + u128::from(n),
            n % 5,
        )
    };
    numbers.map(row).collect()
}

const REQUEST: &str =
    "request = { path = \"/rows\", params = { day = \"{{ ds }}\" } }\npaginate = { by = \"page\", size = 10 }";

/// Three days that land in `users` and are loaded from there.
pub fn pipeline(more: &str) -> String {
    format!(
        r#"
[window]
lookback = 3

[[extract]]
name = "users"
connection = "api"
{REQUEST}
stage = {{ connection = "mongo", collection = "users" }}
{more}

[[load]]
name = "users_table"
from = "users"
into = "raw.users"
"#
    )
}

/// The rows of a table but for haul's own columns, and the types of its columns.
pub fn table(bench: &Bench, table: &str) -> [Value; 2] {
    let rows = format!("select * exclude (_haul_pull), cast(_haul_unit as varchar) as unit from {table} order by _id");
    [bench.project().query(&rows), bench.project().query(&format!("describe {table}"))]
}

/// The documents that landed, each without its name, in their order.
pub fn documents(bench: &Bench) -> Vec<Document> {
    let mut all = bench.database.all("users");
    for document in &mut all {
        document.remove("_id");
        document.remove("_haul_pull");
    }
    all
}

#[test]
fn rows_arrive_as_if_they_had_been_loaded_directly() {
    let api = Api::start();
    api.fill();
    let direct = format!("\n[[extract]]\nname = \"direct\"\nconnection = \"api\"\n{REQUEST}\ninto = \"raw.direct\"\n");
    let bench = api.bench(&format!("{}{direct}", pipeline("")));
    bench.mornings.run(MORNING, 0);
    let [rows, types] = table(&bench, "raw.users");
    let [direct_rows, direct_types] = table(&bench, "raw.direct");
    assert_eq!(types, direct_types);
    assert_eq!(rows.as_array().expect("rows").len(), 75);
    for (row, direct) in rows.as_array().expect("rows").iter().zip(direct_rows.as_array().expect("rows")) {
        assert_eq!(row, direct);
    }
    let fingerprints = |table: &str| {
        let sql = format!("select unit, rows, fingerprint from _haul_loads where table_name = '{table}' order by unit");
        bench.project().query(&sql)
    };
    assert_eq!(fingerprints("raw.users"), fingerprints("raw.direct"));
    // What landed can be used as it is: members under their names, and who wrote them.
    let document = &bench.database.all("users")[3];
    assert_eq!(document.get_str("_id").expect("a name"), "2024-05-01/0000000001/0000000003");
    assert_eq!(document.get_str("_haul_unit").expect("a unit"), "2024-05-01");
    assert_eq!(document.get_str("_haul_id").expect("the row's own id"), "2024-05-01/3");
    assert_eq!(document.get_i64("big").expect("a number"), 9_007_199_254_740_996);
    let plan = bench.mornings.json(MORNING, &["plan", "days", "--date", MORNING]);
    let task = plan[0]["tasks"].as_array().expect("tasks").iter().find(|task| task["step"] == "users_table");
    let task = task.expect("the load's task");
    assert_eq!((&task["kind"], &task["after"]), (&json!("load"), &json!(["users 2024-05-01"])));
}

#[test]
fn a_day_that_changed_lands_again_and_only_that_day_is_loaded() {
    let api = Api::start();
    api.fill();
    let bench = api.bench(&pipeline(""));
    bench.mornings.run(MORNING, 0);
    let mut changed = rows(DAYS[1], 0..24);
    changed[7] = changed[7].replace("\\u00e9", "another");
    api.put(DAYS[1], changed);
    bench.mornings.run(MORNING, 0);
    let outcome = bench.mornings.outcome();
    assert_eq!(outcome["users 2024-05-02"], "loaded");
    assert_eq!(outcome["users_table 2024-05-02"], "loaded");
    for day in [DAYS[0], DAYS[2]] {
        assert_eq!(outcome[&format!("users {day}")], "unchanged");
        assert_eq!(outcome[&format!("users_table {day}")], "skipped: nothing that it reads has changed");
    }
    assert_eq!(bench.mornings.rows("raw.users"), counted(&[(DAYS[0], 25), (DAYS[1], 24), (DAYS[2], 25)]));
    assert_eq!(documents(&bench).len(), 74);
    assert_eq!(bench.mornings.commits("raw.users"), counted(&[(DAYS[0], 1), (DAYS[1], 2), (DAYS[2], 1)]));
}

#[test]
fn an_emptied_day_is_held_where_it_lands_and_empties_everywhere_once_approved() {
    let api = Api::start();
    api.fill();
    let bench = api.bench(&pipeline(""));
    bench.mornings.run(MORNING, 0);
    api.put(DAYS[2], Vec::new());
    let told = bench.mornings.run(MORNING, 3);
    assert!(told.contains("haul approve mongo.users 2024-05-03"), "{told}");
    assert_eq!(documents(&bench).len(), 75);
    bench.mornings.text(MORNING, &["approve", "mongo.users", DAYS[2]]);
    assert_eq!(documents(&bench).len(), 50);
    bench.mornings.run(MORNING, 0);
    assert_eq!(bench.mornings.rows("raw.users"), counted(&[(DAYS[0], 25), (DAYS[1], 25)]));
}

#[test]
fn what_somebody_removes_or_changes_in_the_collection_is_found() {
    let api = Api::start();
    api.fill();
    let bench = api.bench(&pipeline(""));
    bench.mornings.run(MORNING, 0);
    bench.database.delete("users", doc! { "_haul_unit": DAYS[1] });
    let words = bench.mornings.run(MORNING, 0);
    assert!(words.contains("mongo.users: 1 loaded unit was no longer in the warehouse"), "{words}");
    assert_eq!(documents(&bench).len(), 75);
    // A document too few is found by the load, which takes nothing rather than something wrong.
    bench.database.delete("users", doc! { "_haul_unit": DAYS[1], "id": 5 });
    let output = bench.mornings.at(MORNING, &["run", "days", "--date", MORNING, "--select", "users_table", "--force"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("it has 24 rows, 25 landed"), "{}", told(&output));
    assert_eq!(bench.mornings.rows("raw.users"), counted(&[(DAYS[0], 25), (DAYS[1], 25), (DAYS[2], 25)]));
    bench.mornings.text(MORNING, &["run", "days", "--date", MORNING, "--force"]);
    assert_eq!(documents(&bench).len(), 75);
}

#[test]
fn rows_of_a_whole_window_and_of_no_window_land_too() {
    let api = Api::start();
    api.fill();
    let window = pipeline("per = \"window\"\ntime_column = \"at\"").replace(", params = { day = \"{{ ds }}\" }", "");
    let bench = api.bench(&window);
    bench.mornings.run(MORNING, 0);
    assert_eq!(bench.mornings.rows("raw.users"), counted(&[(DAYS[0], 25), (DAYS[1], 25), (DAYS[2], 25)]));
    let whole = window.replace("[window]\nlookback = 3\n", "").replace("per = \"window\"\ntime_column = \"at\"", "");
    let bench = api.bench(&whole);
    bench.mornings.run(MORNING, 0);
    assert_eq!(bench.project().query("select count(*) as n from raw.users"), json!([{ "n": 75 }]));
    assert_eq!(bench.database.all("_haul_loads")[0].get_str("_id").expect("a name"), "users/all");
}

#[test]
fn a_lease_that_is_no_longer_the_newest_points_at_nothing() {
    let api = Api::start();
    api.fill();
    let bench = api.bench(&pipeline(""));
    bench.mornings.run(MORNING, 0);
    // Another process has claimed the second day with a later generation, and is still at work.
    let condition = doc! { "_id": "users/2024-05-02" };
    bench.database.update("_haul_loads", condition.clone(), doc! { "$set": { "fence": 99_i64 } });
    for day in DAYS {
        api.put(day, rows(day, 0..26));
    }
    let told = bench.mornings.run(MORNING, 1);
    assert!(told.contains("a later one has claimed the unit"), "{told}");
    assert_eq!(bench.mornings.rows("raw.users"), counted(&[(DAYS[0], 26), (DAYS[1], 25), (DAYS[2], 26)]));
    assert_eq!(documents(&bench).len(), 77);
}

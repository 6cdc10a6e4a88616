//! The kill suite: the binary dies by SIGKILL everywhere, is run again, and nothing is lost, doubled or asked for twice.

mod with_bigquery;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::databases::{Database, PostgresDatabase, SECRET};
use crate::support::days::{DaysApi, PageKey};
use crate::support::project::Project;

const PIPELINE: &str = r#"
[window]
grain = "day"
lookback = 3

[[extract]]
name = "items"
connection = "api"
request = { path = "/items", params = { day = "{{ ds }}" } }
paginate = { by = "offset", limit = 25, total = "$.total" }
records = "$.items[*]"
into = "raw.items"

[[extract]]
name = "notes"
connection = "api"
request = { path = "/notes", params = { day = "{{ ds }}" } }
paginate = { by = "cursor", param = "cursor", at = "$.next" }
records = "$.notes[*]"
into = "raw.notes"

[[transform]]
name = "daily"
sql = "select day, count(*) as items, sum(amount) as amount from {{ ref('items') }} where _haul_unit = {{ unit.start | date | sql }} group by day"
into = "mart.daily"
"#;

const DATE: &str = "2024-05-04";

/// Where the rows of the victims go.
enum Warehouse {
    DuckDb,
    Postgres(PostgresDatabase),
    BigQuery,
}

impl Warehouse {
    /// An empty warehouse, as the connection `warehouse` of a project.
    fn clear(&self) -> String {
        match self {
            Self::DuckDb => "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n".to_owned(),
            Self::Postgres(database) => {
                database.execute(&["DROP SCHEMA IF EXISTS raw CASCADE", "DROP SCHEMA IF EXISTS mart CASCADE"]);
                database.connection(SECRET).replace("[origin]", "[warehouse]")
            }
            Self::BigQuery => with_bigquery::connection(),
        }
    }

    fn pipeline(&self) -> &'static str {
        match self {
            Self::DuckDb | Self::Postgres(_) => PIPELINE,
            Self::BigQuery => with_bigquery::PIPELINE,
        }
    }

    /// The rows of each table without the numbers of their pulls, and what is known of each unit.
    fn queries(&self) -> &'static [&'static str] {
        match self {
            Self::DuckDb => &[
                "select * exclude (_haul_pull) from raw.items order by id",
                "select * exclude (_haul_pull) from raw.notes order by id",
                "select * exclude (_haul_pull) from mart.daily order by day",
                "select table_name, unit, rows, fingerprint, count(*) as commits from _haul_loads group by all order by all",
            ],
            Self::Postgres(_) => &[
                "select to_jsonb(t) - '_haul_pull' as row from raw.items t order by id",
                "select to_jsonb(t) - '_haul_pull' as row from raw.notes t order by id",
                "select to_jsonb(t) - '_haul_pull' as row from mart.daily t order by day",
                "select table_name, unit, rows, fingerprint, count(*) as commits from \
                 (select * from raw._haul_loads union all select * from mart._haul_loads) l group by 1, 2, 3, 4 order by 1, 2, 3, 4",
            ],
            Self::BigQuery => with_bigquery::QUERIES,
        }
    }
}

/// A project of its own for one kill.
struct Victim<'w> {
    project: Project,
    warehouse: &'w Warehouse,
}

impl<'w> Victim<'w> {
    fn new(api: &DaysApi, warehouse: &'w Warehouse) -> Self {
        let project = Project::with_api(&api.url, "max_concurrent = 2");
        let api = format!("[api]\ntype = \"http\"\nurl = \"{}\"\nmax_concurrent = 2\n", api.url);
        project.write("connections.toml", &format!("{}\n{api}", warehouse.clear()));
        project.write("pipelines/days.toml", warehouse.pipeline());
        Self { project, warehouse }
    }

    fn run_to_the_end(&self) {
        self.project.stdout(&["run", "days", "--date", DATE]);
    }

    /// Rows, fingerprints and the ledger: everything that an undisturbed run would have left, but for times.
    fn picture(&self) -> Vec<Value> {
        let mut picture: Vec<Value> = self.warehouse.queries().iter().map(|sql| self.project.query(sql)).collect();
        picture.push(self.ledger());
        picture
    }

    fn ledger(&self) -> Value {
        let mut ledger = self.project.json(&["status", "--now", "2024-05-04T06:00:00Z"]);
        forget_times(&mut ledger);
        ledger
    }

    /// What became of the newest run, as the state file has it; none when no run had begun.
    fn last_run_status(&self) -> Option<String> {
        let runs = self.project.json(&["runs"]);
        Some(runs.as_array()?.first()?["status"].as_str().expect("a status").to_owned())
    }

    /// The pages that the journals of this project call durable, and those of the units that are in the warehouse.
    fn durable(&self) -> BTreeSet<PageKey> {
        let mut pages = BTreeSet::new();
        for journal in journals(&self.project.path().join(".haul/stage")) {
            let text = fs::read_to_string(&journal).unwrap_or_default();
            let place = journal.to_string_lossy().into_owned();
            let path = if place.contains("days.items") { "items" } else { "notes" };
            let day = place.split('/').rev().nth(2).expect("stage/step/unit/pull/journal").to_owned();
            // The last line may be torn; whatever has no line end is not durable.
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
                if let Some(at) = find(&line, "at") {
                    pages.insert((path.to_owned(), day.clone(), position(at)));
                }
            }
        }
        pages
    }
}

fn journals(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(journals(&path));
        } else if path.file_name().is_some_and(|name| name == "journal.jsonl") {
            found.push(path);
        }
    }
    found
}

fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(name).or_else(|| members.values().find_map(|member| find(member, name))),
        _ => None,
    }
}

fn position(at: &Value) -> String {
    match at {
        Value::Object(members) => match members.values().next() {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        },
        _ => String::new(),
    }
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| {
                !name.ends_with("_at")
                    && !["pull", "generation", "last_pull", "runs", "last_run", "run"].contains(&name.as_str())
            });
            members.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}

/// When a process is killed.
#[derive(Clone, Copy)]
enum Moment {
    /// At a boundary that it has crossed.
    Boundary,
    /// At any time.
    Any,
}

/// Runs until the boundary kills the process, runs again, and compares with the undisturbed picture.
fn kill_and_compare(
    api: &DaysApi,
    warehouse: &Warehouse,
    undisturbed: &[Value],
    moment: Moment,
    kill: impl FnOnce(&Project) -> String,
) -> bool {
    let victim = Victim::new(api, warehouse);
    api.forget();
    let what = kill(&victim.project);
    // A process that was killed before its run had begun, or after it had ended, shows nothing.
    let killed = victim.last_run_status().is_some_and(|status| status != "succeeded");
    // One that had only its own end left to write down has nothing to go on with: the next run is a new one.
    let done = matches!(moment, Moment::Any) && Some(&victim.ledger()) == undisturbed.last();
    if !killed || done {
        return false;
    }
    let durable = victim.durable();
    let before = api.counts();
    victim.run_to_the_end();
    let after = api.counts();
    for page in &durable {
        assert_eq!(after.get(page), before.get(page), "{what}: the durable page {page:?} was asked for again");
    }
    for (page, count) in &after {
        assert!(*count <= 2, "{what}: {page:?} was asked for {count} times");
    }
    let picture = victim.picture();
    for (got, expected) in picture.iter().zip(undisturbed) {
        assert_eq!(got, expected, "{what}: the picture differs from that of an undisturbed run");
    }
    true
}

fn killed_at_every_boundary_a_run_ends_as_if_nothing_had_happened(warehouse: &Warehouse) {
    let api = DaysApi::start();
    let first = Victim::new(&api, warehouse);
    first.run_to_the_end();
    let undisturbed = first.picture();
    let mut points = Vec::new();
    for (boundary, occurrences) in [
        ("leased", vec![1, 3, 6, 8]),
        ("page", vec![1, 2, 5, 9, 14, 20, 28, 33]),
        ("sealed", vec![1, 2, 4, 6]),
        ("judged", vec![1, 3, 5, 6]),
        ("committed", vec![1, 2, 4, 6, 7, 9]),
        ("recorded", vec![1, 2, 4, 6, 7, 9]),
    ] {
        points.extend(occurrences.into_iter().map(|nth| format!("{boundary}:{nth}")));
    }
    assert!(points.len() >= 30);
    for point in points {
        let killed = kill_and_compare(&api, warehouse, &undisturbed, Moment::Boundary, |project| {
            let output = project.output(&["run", "days", "--date", DATE, "--kill-at", &point]);
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9), "{point}: {output:?}");
            point.clone()
        });
        assert!(killed, "{point} was not in the middle of a run");
    }
}

fn killed_at_any_moment_a_run_ends_as_if_nothing_had_happened(warehouse: &Warehouse) {
    let api = DaysApi::start();
    let first = Victim::new(&api, warehouse);
    let begun = Instant::now();
    first.run_to_the_end();
    let whole = begun.elapsed();
    let undisturbed = first.picture();
    // The pauses walk through the run in steps that never fall on the same moments again; those that miss it do not count.
    let mut killed = 0;
    for step in 1..=200_u32 {
        killed += usize::from(kill_and_compare(&api, warehouse, &undisturbed, Moment::Any, |project| {
            let pause = whole * (step * 37 % 100) / 100;
            kill_after(project, pause);
            format!("killed after {pause:?} of {whole:?}")
        }));
        if killed == 20 {
            return;
        }
    }
    panic!("only {killed} runs had begun when they were killed");
}

fn kill_after(project: &Project, pause: Duration) {
    let mut child = project
        .haul(&["run", "days", "--date", DATE])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("haul starts");
    // The moment of death is the test's input; nothing is concluded from how far the run has come by then.
    std::thread::sleep(pause);
    child.kill().expect("a kill");
    child.wait().expect("an end");
}

fn a_journal_torn_in_the_middle_of_a_line_is_gone_on_with(warehouse: &Warehouse) {
    let api = DaysApi::start();
    let first = Victim::new(&api, warehouse);
    first.run_to_the_end();
    let undisturbed = first.picture();
    for cut in [1_u64, 7, 40, 200] {
        kill_and_compare(&api, warehouse, &undisturbed, Moment::Boundary, |project| {
            let output = project.output(&["run", "days", "--date", DATE, "--kill-at", "page:9"]);
            assert!(!output.status.success());
            for journal in journals(&project.path().join(".haul/stage")) {
                let length = fs::metadata(&journal).expect("a journal").len();
                let file = fs::OpenOptions::new().write(true).open(&journal).expect("a journal");
                file.set_len(length.saturating_sub(cut)).expect("a shorter journal");
            }
            format!("the last {cut} bytes of each journal are gone")
        });
    }
}

mod duckdb {
    use super::Warehouse;

    #[test]
    fn killed_at_every_boundary_a_run_ends_as_if_nothing_had_happened() {
        super::killed_at_every_boundary_a_run_ends_as_if_nothing_had_happened(&Warehouse::DuckDb);
    }

    #[test]
    fn killed_at_any_moment_a_run_ends_as_if_nothing_had_happened() {
        super::killed_at_any_moment_a_run_ends_as_if_nothing_had_happened(&Warehouse::DuckDb);
    }

    #[test]
    fn a_journal_torn_in_the_middle_of_a_line_is_gone_on_with() {
        super::a_journal_torn_in_the_middle_of_a_line_is_gone_on_with(&Warehouse::DuckDb);
    }
}

mod with_postgres {
    use std::sync::{Mutex, mpsc};

    use super::Warehouse;
    use crate::support::databases::{Database, PostgresDatabase, SECRET};
    use crate::support::doors::{Door, Ran, Reply};
    use crate::support::project::Project;

    fn warehouse() -> Warehouse {
        Warehouse::Postgres(PostgresDatabase::new())
    }

    #[test]
    fn killed_at_every_boundary_a_run_ends_as_if_nothing_had_happened() {
        super::killed_at_every_boundary_a_run_ends_as_if_nothing_had_happened(&warehouse());
    }

    #[test]
    fn killed_at_any_moment_a_run_ends_as_if_nothing_had_happened() {
        super::killed_at_any_moment_a_run_ends_as_if_nothing_had_happened(&warehouse());
    }

    /// A project of this warehouse whose only step asks this API for one day.
    fn project(database: &PostgresDatabase, url: &str) -> Project {
        let project = Project::with_api(url, "");
        let warehouse = database.connection(SECRET).replace("[origin]", "[warehouse]");
        let api = format!("[api]\ntype = \"http\"\nurl = \"{url}\"\n");
        project.write("connections.toml", &format!("{warehouse}\n{api}"));
        let request = "request = { path = \"/rows\", params = { day = \"{{ ds }}\" } }";
        let step = format!("[[extract]]\nname = \"items\"\nconnection = \"api\"\n{request}\n");
        project.write("pipelines/days.toml", &format!("[window]\ngrain = \"day\"\n\n{step}"));
        project
    }

    /// Machines of their own: each with its own state, both with the same warehouse.
    #[test]
    fn a_worker_that_comes_back_after_others_have_gone_on_writes_nothing() {
        let database = PostgresDatabase::new();
        let (came, arrived) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let slow = Door::start(move |_| {
            let _ = came.send(());
            let _ = released.lock().expect("no test panicked here").recv();
            Reply::new(200, "[{\"from\":\"sleeper\"}]")
        });
        let sleeper = project(&database, &slow.url);
        let run = ["run", "days", "--date", "2024-05-04"];
        let child =
            sleeper.haul(&run).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
        let child = child.expect("haul starts");
        arrived.recv().expect("it asks");
        for revision in 1..=2 {
            let quick =
                Door::start(move |_| Reply::new(200, format!("[{{\"from\":\"other\",\"revision\":{revision}}}]")));
            let other = project(&database, &quick.url);
            Ran::of(&mut other.haul(&run)).well();
        }
        let before = sleeper.query("select * from raw.items");
        assert_eq!(before[0]["from"], "other", "{before}");
        release.send(()).expect("it waits");
        let slept = Ran::from(child.wait_with_output().expect("it ends"));
        assert_ne!(slept.code, Some(0), "{}", slept.told());
        assert!(slept.told().contains("the lease on 2024-05-03 of raw.items"), "{}", slept.told());
        assert_eq!(sleeper.query("select * from raw.items"), before);
        let loads = sleeper.query("select count(*) as n from raw._haul_loads");
        assert_eq!(loads[0]["n"], 2, "{loads}");
    }
}

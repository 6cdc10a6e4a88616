//! Days that come late, come again, change while they are read, or are read by a process that dies.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::time::SystemTime;

use super::{project, rows, run, store};
use crate::support::files::{gzip, parquet};
use crate::support::project::{Project, told};

/// The exit code of a run whose source does not have everything yet.
const LATE: i32 = 4;

const DAYS: &str = r#"
[window]
lookback = 2
guard = { allow_empty = true, max_shrink = "100%" }

[[extract]]
name = "sales"
files = "landing/{{ ds }}/*.csv"
"#;

const COUNTS: &str = "select cast(_haul_unit as varchar), count(*), string_agg(item, ' ' order by item) from raw.sales group by 1 order by 1";

/// The newest run's outcome for each unit, in the words of the ledger.
fn outcomes(project: &Project, date: &str) -> String {
    told(&project.output(&["runs", "--now", &format!("{date}T07:00:00Z")]))
}

#[test]
fn a_day_without_files_is_late_and_not_empty() {
    let project = project("", DAYS);
    store(&project, "landing/2024-05-02/a.csv", b"item\nx\n");
    let late = run(&project, "2024-05-04", LATE);
    assert!(late.contains("late") && late.contains("landing/2024-05-03/*.csv"), "{late}");
    assert_eq!(rows(&project, COUNTS), ["2024-05-02|1|x"]);
    // The day arrives; a file without a byte has no rows, and is there all the same.
    store(&project, "landing/2024-05-03/a.csv", b"");
    let there = run(&project, "2024-05-04", 0);
    assert!(!there.contains("late"), "{there}");
    store(&project, "landing/2024-05-03/b.csv", b"item\ny\nz\n");
    run(&project, "2024-05-04", 0);
    assert_eq!(rows(&project, COUNTS), ["2024-05-02|1|x", "2024-05-03|2|y z"]);
    // Files that go away again do not take their rows with them.
    fs::remove_dir_all(project.path().join("landing/2024-05-03")).expect("a folder");
    let gone = run(&project, "2024-05-04", LATE);
    assert!(gone.contains("late"), "{gone} {}", outcomes(&project, "2024-05-04"));
    assert_eq!(rows(&project, COUNTS), ["2024-05-02|1|x", "2024-05-03|2|y z"]);
}

#[test]
fn a_day_that_may_have_no_files_is_empty_when_that_is_said() {
    let project = project("", &format!("{DAYS}allow_none = true\n"));
    store(&project, "landing/2024-05-02/a.csv", b"item\nx\n");
    store(&project, "landing/2024-05-03/a.csv", b"item\ny\n");
    run(&project, "2024-05-04", 0);
    fs::remove_file(project.path().join("landing/2024-05-03/a.csv")).expect("a file");
    let told = run(&project, "2024-05-04", 0);
    assert!(!told.contains("late"), "{told}");
    assert_eq!(rows(&project, COUNTS), ["2024-05-02|1|x"]);
}

#[test]
fn files_that_are_as_they_were_are_not_read() {
    let project = project("", DAYS);
    let path = project.path().join("landing/2024-05-03/a.csv");
    store(&project, "landing/2024-05-02/a.csv", b"item\nx\n");
    store(&project, "landing/2024-05-03/a.csv", b"item\ny\n");
    run(&project, "2024-05-04", 0);
    // Other bytes that look the same from outside: who reads them fails.
    let modified = fs::metadata(&path).and_then(|meta| meta.modified()).expect("a time");
    fs::write(&path, b"\"tem\ny\n").expect("a file");
    let at = |time: SystemTime| File::options().write(true).open(&path).and_then(|file| file.set_modified(time));
    at(modified).expect("a time");
    run(&project, "2024-05-04", 0);
    assert_eq!(rows(&project, COUNTS), ["2024-05-02|1|x", "2024-05-03|1|y"]);
    // A step that asks for something else of them has to read them.
    project.write("pipelines/days.toml", &format!("{DAYS}file_column = \"source_file\"\n"));
    let told = run(&project, "2024-05-04", 1);
    assert!(told.contains("landing/2024-05-03/a.csv") && told.contains("line 1"), "{told}");
    project.write("pipelines/days.toml", DAYS);
    fs::write(&path, b"item\ny\nz\n").expect("a file");
    run(&project, "2024-05-04", 0);
    assert_eq!(rows(&project, COUNTS), ["2024-05-02|1|x", "2024-05-03|2|y z"]);
}

/// So many rows fill three pages.
const MANY: usize = 60_000;

fn many(item: &str) -> Vec<String> {
    (0..MANY).map(|number| format!("{number},{item}{}", "-".repeat(60))).collect()
}

/// Kills a run behind its second page, and says how many rows were durable for the run that goes on.
fn killed_then_run(project: &Project, between: impl FnOnce()) -> String {
    let arguments = ["run", "days", "--date", "2024-05-04", "--now", "2024-05-04T06:00:00Z"];
    let mut killing = arguments.to_vec();
    killing.extend(["--kill-at", "page:2"]);
    let killed = project.output(&killing);
    assert_eq!(killed.status.signal(), Some(9), "{}", told(&killed));
    between();
    run(project, "2024-05-04", 0)
}

const ONE: &str = "[window]\nlookback = 1\n\n[[extract]]\nname = \"sales\"\nfiles = \"landing/{{ ds }}.*\"\ncolumns = { id = \"BIGINT\" }\n";

fn check(project: &Project, item: &str) {
    let sums = "select count(*), count(distinct id), sum(id), min(left(item, 1)), max(left(item, 1)) from raw.sales";
    let sum = MANY * (MANY - 1) / 2;
    assert_eq!(rows(project, sums), [format!("{MANY}|{MANY}|{sum}|{item}|{item}")]);
}

#[test]
fn a_pull_that_is_killed_within_a_file_goes_on_there() {
    let csv = format!("id,item\n{}\n", many("x").join("\n"));
    let json: Vec<String> = (0..MANY).map(|id| format!("{{\"id\":{id},\"item\":\"x{}\"}}", "-".repeat(60))).collect();
    for ending in ["csv", "csv.gz", "json", "parquet"] {
        let project = project("", ONE);
        let path = format!("landing/2024-05-03.{ending}");
        match ending {
            "csv" => store(&project, &path, csv.as_bytes()),
            "csv.gz" => store(&project, &path, &gzip(csv.as_bytes())),
            "json" => store(&project, &path, format!("[{}]", json.join(",\n")).as_bytes()),
            _ => {
                store(&project, &path, b"");
                let select = format!(
                    "COPY (SELECT i AS id, 'x' || repeat('-', 60) AS item FROM range({MANY}) t(i)) TO '{}' (FORMAT parquet)",
                    project.path().join(&path).display()
                );
                duckdb::Connection::open_in_memory().expect("a database").execute_batch(&select).expect("a file");
            }
        }
        let told = killed_then_run(&project, || {});
        assert!(told.contains("2 pages"), "{ending}: it goes on behind its durable pages: {told}");
        check(&project, "x");
    }
}

#[test]
fn a_file_that_changed_in_between_is_read_anew() {
    let project = project("", ONE);
    store(&project, "landing/2024-05-03.csv", format!("id,item\n{}\n", many("x").join("\n")).as_bytes());
    let other = format!("id,item\n{}\n", many("z").join("\n"));
    killed_then_run(&project, || store(&project, "landing/2024-05-03.csv", other.as_bytes()));
    check(&project, "z");
}

#[test]
fn files_of_the_whole_window_are_divided_by_their_rows_own_time() {
    let pipeline = "[window]\nlookback = 2\n\n[[extract]]\nname = \"sales\"\nper = \"window\"\nfiles = \"landing/*.parquet\"\ntime_column = \"moment\"\noutside = \"drop\"\n";
    let project = project("", pipeline);
    fs::create_dir_all(project.path().join("landing")).expect("a folder");
    let row = |at: &str| format!("{{\"moment\":\"{at}\",\"item\":\"x\"}}");
    let rows_of = ["2024-05-01T23:59:59", "2024-05-02T00:00:00", "2024-05-03T10:00:00", "2024-05-03T11:00:00"].map(row);
    parquet(&project.path().join("landing/all.parquet"), "moment TIMESTAMP, item VARCHAR", &rows_of);
    run(&project, "2024-05-04", 0);
    assert_eq!(rows(&project, COUNTS), ["2024-05-02|1|x", "2024-05-03|2|x x"]);
}

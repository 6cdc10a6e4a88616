//! Files on a web server: by their exact names, with credentials that stay there, and gone on with where they broke off.

use std::os::unix::process::ExitStatusExt;

use super::{project, rows, run};
use crate::support::project::told;
use crate::support::shelf::{Shelf, Thing};

const SECRET: &str = "open-sesame-43";

const PIPELINE: &str =
    "[window]\nlookback = 2\n\n[[extract]]\nname = \"sales\"\nconnection = \"web\"\nfiles = \"exports/{{ ds }}.csv\"\n";

const COUNTS: &str = "select cast(_haul_unit as varchar), count(*) from raw.sales group by 1 order by 1";

fn connection(url: &str) -> String {
    format!(
        "[web]\ntype = \"files\"\nurl = \"{url}\"\nuser = \"me\"\npassword = \"{SECRET}\"\nheaders = {{ X-Key = \"{SECRET}\" }}\n"
    )
}

#[test]
fn files_of_a_web_server_are_read_once_and_their_absence_is_late() {
    let shelf = Shelf::start();
    let project = project(&connection(&shelf.url), PIPELINE);
    shelf.put("/exports/2024-05-02.csv", Thing::File(b"item\nx\ny\n".to_vec(), "text/csv"));
    let late = run(&project, "2024-05-04", 4);
    assert!(late.contains("late"), "{late}");
    assert_eq!(rows(&project, COUNTS), ["2024-05-02|2"]);
    let asked = shelf.asked();
    assert!(
        asked.iter().all(|asked| asked.authorization.as_deref() == Some("Basic bWU6b3Blbi1zZXNhbWUtNDM=")),
        "{asked:?}"
    );
    shelf.put("/exports/2024-05-03.csv", Thing::File(b"item\nz\n".to_vec(), "text/csv"));
    run(&project, "2024-05-04", 0);
    assert_eq!(rows(&project, COUNTS), ["2024-05-02|2", "2024-05-03|1"]);
    assert_eq!(shelf.got(), ["/exports/2024-05-03.csv"], "the other is as it was");
}

#[test]
fn a_body_that_breaks_off_is_gone_on_with() {
    let shelf = Shelf::start();
    let project = project(&connection(&shelf.url), PIPELINE);
    let lines: String = (0..20_000).map(|number| format!("item {number}\n")).collect();
    let bytes = format!("item\n{lines}").into_bytes();
    shelf.put("/exports/2024-05-02.csv", Thing::Cut(bytes.clone(), 70_000, 2));
    shelf.put("/exports/2024-05-03.csv", Thing::File(b"item\nz\n".to_vec(), "text/csv"));
    run(&project, "2024-05-04", 0);
    assert_eq!(rows(&project, COUNTS), ["2024-05-02|20000", "2024-05-03|1"]);
    assert_eq!(rows(&project, "select count(distinct item) from raw.sales"), ["20001"]);
    let parts = shelf.asked().into_iter().filter(|asked| asked.range.is_some()).count();
    assert_eq!(parts, 2, "only what was missing was asked for again");
}

#[test]
fn a_killed_pull_asks_only_for_the_rest_of_a_file() {
    let shelf = Shelf::start();
    let pipeline = PIPELINE.replace("lookback = 2", "lookback = 1");
    let project = project(&connection(&shelf.url), &pipeline);
    let lines: String = (0..60_000).map(|number| format!("{number},{}\n", "-".repeat(80))).collect();
    shelf.put("/exports/2024-05-03.csv", Thing::File(format!("id,item\n{lines}").into_bytes(), "text/csv"));
    let now = ["--date", "2024-05-04", "--now", "2024-05-04T06:00:00Z"];
    let killed = project.output(&[&["run", "days", "--kill-at", "page:2"], &now[..]].concat());
    assert_eq!(killed.status.signal(), Some(9), "{}", told(&killed));
    shelf.asked();
    run(&project, "2024-05-04", 0);
    assert_eq!(rows(&project, "select count(*), count(distinct id) from raw.sales"), ["60000|60000"]);
    let asked = shelf.asked();
    let rest: Vec<u64> = asked
        .iter()
        .filter_map(|asked| asked.range.as_deref()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        .collect();
    assert!(matches!(rest[..], [from] if from > 3_000_000), "{asked:?}");
}

#[test]
fn a_web_server_lists_nothing_and_its_credentials_go_nowhere_else() {
    let (shelf, other) = (Shelf::start(), Shelf::start());
    let project = project(&connection(&shelf.url), &PIPELINE.replace("{{ ds }}.csv", "{{ ds }}*.csv"));
    let told_of_it = run(&project, "2024-05-04", 1);
    assert!(told_of_it.contains("does not list its files"), "{told_of_it}");
    project.write("pipelines/days.toml", PIPELINE);
    shelf.put("/exports/2024-05-02.csv", Thing::Redirect(format!("{}/x.csv", other.url)));
    shelf.put("/exports/2024-05-03.csv", Thing::Status(403));
    let all = run(&project, "2024-05-04", 1) + &told(&project.output(&["connections", "show", "web"]));
    assert!(all.contains("redirect") && all.contains("403"), "{all}");
    assert!(other.asked().is_empty(), "nobody else was asked");
    assert!(!all.contains(SECRET), "{all}");
}

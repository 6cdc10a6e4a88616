//! Half a file, and what is no file at all: the error names file and line, and nothing of it is loaded.

use super::{project, rows, run, store};
use crate::support::files::{gzip, zip, zstd};

#[test]
fn a_broken_file_is_named_with_its_line_and_changes_nothing() {
    let pipeline = |files: &str| format!("[[extract]]\nname = \"rows\"\nfiles = \"{files}\"\n");
    let project = project("", &pipeline("good.csv"));
    store(&project, "good.csv", b"id,name\n1,a\n");
    run(&project, "2024-05-04", 0);
    let good = rows(&project, "select * from raw.rows");
    let long: String = (0..5000).map(|id| format!("{id},name {id}\n")).collect();
    let long = format!("id,name\n{long}");
    let packed = gzip(long.as_bytes());
    let frame = zstd(long.as_bytes());
    for (name, bytes, found) in [
        ("cut.csv.gz", packed[..packed.len() / 2].to_vec(), vec!["line ", "compressed data end"]),
        ("cut.csv.zst", frame[..frame.len() / 2].to_vec(), vec!["line "]),
        (
            "ragged.csv",
            b"id,name\n1,a\n2\n3,c\n".to_vec(),
            vec!["line 3 has 1 cell, the header has 2 cells", "found `2`"],
        ),
        ("quote.csv", b"id,name\n1,a\n2,\"b\n3,c\n".to_vec(), vec!["line 3 opens a quote that is never closed"]),
        ("latin.csv", b"id,name\n1,caf\xE9\n".to_vec(), vec!["line 2 is not UTF-8"]),
        ("cut.json", b"[{\"id\":1},\n{\"id\":2},\n{\"id\"".to_vec(), vec!["line 3 begins a row that never ends"]),
        ("open.json", b"[{\"id\":1},\n{\"id\":2}\n".to_vec(), vec!["line 3", "its list is not closed"]),
        ("wrong.jsonl", b"{\"id\":1}\n{\"id\":}\n".to_vec(), vec!["line 2 is not JSON", "{\"id\":}"]),
        ("list.jsonl", b"[{\"id\":1}]".to_vec(), vec!["line 1", "format = \"json\""]),
        ("wrong.parquet", b"PAR1 this is no Parquet file".to_vec(), vec!["no whole Parquet file"]),
        ("no.csv.gz", b"this is not gzip".to_vec(), vec!["gzip"]),
        ("no.zip", b"this is not zip".to_vec(), vec!["unpacking it"]),
        ("what.dat", b"id\n1\n".to_vec(), vec!["the ending of `bad/what.dat` tells no format", "format = "]),
    ] {
        store(&project, &format!("bad/{name}"), &bytes);
        // A good file comes before it: its rows are not loaded either.
        project.write("pipelines/days.toml", &pipeline(&format!("{{good.csv,bad/{name}}}")));
        let output = project.output(&["run", "days"]);
        let told = crate::support::project::told(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {told}");
        assert!(told.contains(&format!("bad/{name}")), "{name}: {told}");
        for part in found {
            assert!(told.contains(part), "{name}: {part} is not in {told}");
        }
        assert_eq!(rows(&project, "select * from raw.rows"), good, "{name}");
    }
    let two = {
        let one = zip("a.csv", b"id\n1\n");
        store(&project, "bad/plain.zip", &one);
        project.write("pipelines/days.toml", &pipeline("bad/plain.zip"));
        run(&project, "2024-05-05", 0)
    };
    assert!(two.contains("loaded"), "{two}");
}

#[test]
fn a_folder_that_is_the_same_for_every_day_and_is_not_there_is_no_late_day() {
    let files =
        |pattern: &str| format!("[window]\nlookback = 1\n\n[[extract]]\nname = \"rows\"\nfiles = \"{pattern}\"\n");
    let project = project("", &files("landng/{{ ds }}/*.csv"));
    project.write("landing/2024-05-01/a.csv", "id\n1\n");
    let told = run(&project, "2024-05-04", 1);
    assert!(told.contains("landng: there is no such folder"), "{told}");
    for late in ["landing/{{ ds }}/*.csv", "{{ ds }}/*.csv", "landing/{{ ds }}.csv"] {
        project.write("pipelines/days.toml", &files(late));
        run(&project, "2024-05-04", 4);
    }
}

#[test]
fn a_folder_that_is_not_there_is_no_late_day() {
    let connection = "[landing]\ntype = \"files\"\nurl = \"file:///nowhere/at/all\"\n";
    let project = project(
        connection,
        "[window]\nlookback = 1\n\n[[extract]]\nname = \"rows\"\nconnection = \"landing\"\nfiles = \"{{ ds }}/*.csv\"\n",
    );
    let told = run(&project, "2024-05-04", 1);
    assert!(told.contains("/nowhere/at/all") && !told.contains("late"), "{told}");
    let test = project.output(&["connections", "test", "landing"]);
    assert!(!test.status.success());
}

//! Files in a folder: CSV, compressed JSON Lines and Parquet of each day.

use std::fs;
use std::io::Write;

use super::super::{Event, Origin, passes};
use crate::support::files::{event_csv, gzip, parquet};
use crate::support::project::Project;

/// How the days of a folder are written.
enum Kind {
    Csv,
    JsonLines,
    Parquet,
}

impl Origin for Kind {
    fn connection(&self) -> String {
        "[origin]\ntype = \"files\"\nurl = \"landing\"\n".to_owned()
    }

    fn step(&self) -> String {
        "connection = \"origin\"\nfiles = \"{{ ds }}/*\"".to_owned()
    }

    fn furnish(&self, project: &Project) {
        fs::create_dir_all(project.path().join("landing")).expect("a folder");
    }

    fn put(&self, project: &Project, day: &str, events: &[Event]) {
        let folder = project.path().join("landing").join(day);
        fs::create_dir_all(&folder).expect("a folder");
        match self {
            Self::Csv => fs::write(folder.join("events.csv"), event_csv(events)).expect("a file"),
            Self::JsonLines => {
                // Two files, the second of which may have nothing in it.
                let half = events.len() / 2;
                for (name, events) in [("a.jsonl.gz", &events[..half]), ("b.jsonl.gz", &events[half..])] {
                    let lines: String = events.iter().map(|event| event.json() + "\n").collect();
                    fs::File::create(folder.join(name))
                        .and_then(|mut file| file.write_all(&gzip(lines.as_bytes())))
                        .expect("a file");
                }
            }
            Self::Parquet => {
                let rows: Vec<String> = events.iter().map(Event::json).collect();
                let columns = "id BIGINT, happened_at TIMESTAMPTZ, amount DECIMAL(18,4), name VARCHAR, note VARCHAR";
                parquet(&folder.join("events.parquet"), columns, &rows);
            }
        }
    }

    fn gone(&self) -> Option<String> {
        None
    }
}

#[test]
fn csv_in_a_folder_passes() {
    passes(&Kind::Csv);
}

#[test]
fn compressed_json_lines_in_a_folder_pass() {
    passes(&Kind::JsonLines);
}

#[test]
fn parquet_in_a_folder_passes() {
    passes(&Kind::Parquet);
}

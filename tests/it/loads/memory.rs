//! A load of many rows in bounded memory: what it takes of the machine does not grow with what it brings.

use std::fs;
use std::process::Stdio;

use crate::support::project::Project;

/// Rows of a kilobyte each.
const ROWS: u64 = 200_000;

/// The most memory that the process may have had at any time, in KiB. An unoptimized binary takes about 180 MiB for a load of a
/// few rows; all of these rows at once would be another 200 MiB, in whatever form they were kept.
const MOST: u64 = 300 << 10;

/// The peak of a process's resident memory until now, in KiB (proc(5), `VmHWM`).
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn a_load_of_many_rows_takes_no_more_memory_than_a_small_one() {
    let project = Project::empty();
    project.write("haul.toml", "warehouse = \"warehouse\"\n");
    project.write(
        "connections.toml",
        "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\nmemory_limit = \"64MB\"\n\n[lake]\ntype = \"files\"\nurl = \"lake\"\n",
    );
    // A hash for each row, so that no two of them are alike.
    let sql = format!("select i as id, repeat(md5(i::varchar), 32) as text from range({ROWS}) t(i)");
    project.write(
        "pipelines/days.toml",
        &format!("[[load]]\nname = \"many\"\nfrom_connection = \"warehouse\"\nsql = \"{sql}\"\nconnection = \"lake\"\ninto = \"many.jsonl\"\nwrite = \"full\"\n"),
    );
    let mut child = project
        .haul(&["run", "days"])
        // Each arena of the C library keeps what its threads have given back; with many cores that hides what is kept for a reason.
        .env("MALLOC_ARENA_MAX", "2")
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("haul starts");
    let mut most = 0;
    let status = loop {
        most = most.max(peak(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().expect("a process") {
            break status;
        }
        // A peak is remembered by the system: it is only read often enough to be seen before the end.
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
    let files = fs::read_dir(project.path().join("lake")).expect("files");
    let files: Vec<_> = files.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect();
    let (mut lines, mut bytes) = (0, 0);
    for path in &files {
        let text = fs::read_to_string(path).expect("a file");
        lines += text.lines().count() as u64;
        bytes += text.len() as u64;
    }
    assert!(lines == ROWS && bytes > 200_000_000, "{lines} lines, {bytes} bytes in {files:?}");
    assert!((50 << 10..MOST).contains(&most), "{} MiB at most for {} MB of rows", most >> 10, bytes / 1_000_000);
}

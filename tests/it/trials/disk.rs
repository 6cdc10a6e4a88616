//! A disk that is full: one clear error, nothing lost, and the work goes on once there is room again.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::*;
use crate::support::doors::{Door, Reply};
use crate::support::gate::until;
use crate::support::project::told;

/// Pages of the API, and how large each one's text is: hardly anything of it can be packed.
const PAGES: usize = 12;
const TEXT: usize = 400_000;

/// A small disk, and everything on it.
struct Disk(PathBuf);

impl Disk {
    /// None where nobody lets us mount one.
    fn mount(folder: &Path, kibibytes: usize) -> Option<Self> {
        fs::create_dir_all(folder).expect("a folder");
        let size = format!("size={kibibytes}k");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output();
        mount.is_ok_and(|mount| mount.status.success()).then(|| Self(folder.to_owned()))
    }

    /// Fills it, but for about so many bytes.
    fn fill(&self, left: usize) {
        let mut filler = File::create(self.0.join("filler")).expect("a file");
        while filler.write_all(&[7; 4096]).is_ok() {}
        let length = filler.metadata().expect("its length").len();
        filler.set_len(length.saturating_sub(left as u64)).expect("it is cut");
    }

    /// Makes room again.
    fn free(&self) {
        fs::remove_file(self.0.join("filler")).expect("the filler");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// An API with pages of noise.
fn noise() -> Door {
    Door::start(|asked| {
        let page: usize = asked.query.rsplit("cursor=").next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut seed = page as u64 + 1;
        let mut text = String::with_capacity(TEXT + 16);
        while text.len() < TEXT {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(&format!("{seed:x}"));
        }
        let next = (page + 1 < PAGES).then(|| (page + 1).to_string());
        Reply::json(&serde_json::json!({ "rows": [{ "page": page, "text": text }], "next": next }))
    })
}

fn project(api: &Door) -> Project {
    let project = Project::with_api(&api.url, "");
    project.write("haul.toml", QUICK);
    project.write(
        "pipelines/noise.toml",
        "[window]\nlookback = 1\n[[extract]]\nname = \"noise\"\nconnection = \"api\"\n\
         request = { path = \"/noise\", params = { day = \"{{ ds }}\" } }\nrecords = \"$.rows[*]\"\n\
         paginate = { by = \"cursor\", param = \"cursor\", at = \"$.next\" }\n",
    );
    project
}

/// Everything came, once; and of the pages no more than the one under way was asked for twice.
fn is_whole(project: &Project, api: &Door) {
    let rows = project
        .query("select count(*) as rows, count(distinct page) as pages, min(length(text)) as shortest from raw.noise");
    let pages = serde_json::json!(PAGES);
    assert_eq!((&rows[0]["rows"], &rows[0]["pages"]), (&pages, &pages), "{rows}");
    assert!(rows[0]["shortest"].as_u64().is_some_and(|length| length >= TEXT as u64), "{rows}");
    let asked = api.asked().len();
    assert!((PAGES..=PAGES + 2).contains(&asked), "{asked} requests for {PAGES} pages");
}

fn is_one_clear_error(output: &Output, place: &str, words: &[&str]) {
    let text = told(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(place) && words.iter().any(|word| text.contains(word)), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn a_run_on_a_full_disk_says_so_and_the_next_one_goes_on_where_it_was() {
    let api = noise();
    let project = project(&api);
    let run = ["run", "noise", "--date", "2024-05-04"];
    if let Some(disk) = Disk::mount(&project.path().join(".haul"), 12_000) {
        // The store is there before, and some pages have room.
        project.stdout(&["runs"]);
        disk.fill(1_200_000);
        let output = project.output(&run);
        is_one_clear_error(&output, ".haul", &["the disk is full", "No space left on device"]);
        disk.free();
        project.stdout(&run);
        is_whole(&project, &api);
    } else {
        // No file may be longer than a page or two: whoever writes hears the same as of a full disk.
        let limited = |arguments: &[&str]| {
            let command = project.haul(&[]);
            let mut shell = Command::new("sh");
            shell.current_dir(project.path()).args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" \"$@\""]);
            shell.arg(command.get_program()).args(arguments).stdin(std::process::Stdio::null());
            shell.output().expect("a shell")
        };
        is_one_clear_error(&limited(&run), ".haul", &["File too large"]);
        project.stdout(&run);
        is_whole(&project, &api);
    }
}

#[test]
fn a_daemon_on_a_full_disk_says_so_and_ends_what_it_has_once_there_is_room() {
    let api = noise();
    let project = project(&api);
    let Some(disk) = Disk::mount(&project.path().join(".haul"), 12_000) else { return };
    let served = Served::start(&project, &[]);
    project.stdout(&["trigger", "noise", "--date", "2024-05-04"]);
    until("some pages", || (api.asked().len() > 2).then_some(()));
    disk.fill(0);
    until("a word about it", || (served.said("full") + served.said("No space left") > 0).then_some(()));
    // Whoever asks now is told the same.
    let refused = project.output(&["trigger", "noise", "--date", "2024-05-08"]);
    is_one_clear_error(&refused, "state.db", &["the disk is full", "No space left on device"]);
    disk.free();
    let jobs = || project.json(&["queue", "--all"]);
    let job = until("the end of the job", || {
        jobs().as_array().and_then(|all| all.first().cloned()).filter(|job| job["state"] == "done")
    });
    assert_eq!(job["outcome"], "succeeded", "{job}");
    assert_eq!(jobs().as_array().map(Vec::len), Some(1), "what was refused is not there");
    served.stop();
    is_whole(&project, &api);
}

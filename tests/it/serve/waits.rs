//! Runs that only wait: they keep no worker, and do not hold up the end.

use super::*;
use crate::support::gate::Served;

const WAITS: &str = "[window]\nlookback = 1\n[[wait]]\nname = \"file\"\nfiles = \"there.txt\"\npoll = \"50ms\"\n\
                     [[run]]\nname = \"it\"\nshell = true\nper = \"window\"\ncommand = 'echo waited >> out.txt'\nafter = [\"file\"]\n";

#[test]
fn a_run_that_only_waits_gives_its_worker_back() {
    let project = shared();
    project.write("haul.toml", &format!("{QUICK}workers = 1\n"));
    project.write("pipelines/waits.toml", WAITS);
    project.write("pipelines/works.toml", &command("", "echo worked >> out.txt"));
    let served = Served::start(&project, &[]);
    project.stdout(&["trigger", "waits", "--date", "2024-05-04"]);
    job_until(&project, "the wait", |job| job["pipeline"] == "waits" && job["started_at"].is_string());
    project.stdout(&["trigger", "works", "--date", "2024-05-04"]);
    until("the other", || (lines(&project, "out.txt") == ["worked"]).then_some(()));
    project.write("there.txt", "");
    until("the end of the wait", || (lines(&project, "out.txt") == ["worked", "waited"]).then_some(()));
    served.stop();
}

#[test]
fn a_run_that_only_waits_does_not_hold_up_the_end_and_waits_on_afterwards() {
    let project = shared();
    project.write("pipelines/waits.toml", WAITS);
    let mut served = Served::start(&project, &[]);
    project.stdout(&["trigger", "waits", "--date", "2024-05-04"]);
    until("the wait", || {
        let shown = project.json(&["queue"]);
        let run = shown[0]["run"].as_str()?.to_owned();
        project.json(&["show", &run]).to_string().contains("running").then_some(())
    });
    served.signal("TERM");
    assert_eq!(served.end(), Some(0), "long before the 30 seconds that a run may take");
    assert_eq!(jobs(&project)[0]["state"], "queued");
    project.write("there.txt", "");
    let served = Served::start(&project, &[]);
    served.says("succeeded");
    served.stop();
}

//! The orderly end: what is under way ends, or is given back; and what the supervisor of services hears.

use super::*;
use crate::support::gate::{Door, Served};
use crate::support::running::Running;

fn begun(door: Door) -> (Gate, Project, Served) {
    let gate = Gate::start(door);
    let project = gated(&gate);
    let served = Served::start(&project, &[]);
    project.stdout(&["trigger", "rows", "--date", "2024-05-04"]);
    gate.wait_for(1);
    (gate, project, served)
}

#[test]
fn a_run_under_way_ends_before_the_daemon_does_and_no_other_begins() {
    let (gate, project, mut served) = begun(Door::Shut);
    served.signal("TERM");
    served.says("stopping: no new runs are begun, 1 run has 30s to end");
    project.stdout(&["trigger", "rows", "--date", "2024-05-06"]);
    gate.is(Door::Open);
    assert_eq!(served.end(), Some(0));
    let all = jobs(&project);
    assert_eq!((&all[0]["outcome"], &all[1]["state"]), (&Value::from("succeeded"), &Value::from("queued")), "{all:?}");
    assert_eq!(project.query("select count(*) as n from raw.rows")[0]["n"], 1);
}

#[test]
fn a_run_that_takes_too_long_is_given_back_and_the_next_daemon_ends_it() {
    let gate = Gate::start(Door::Shut);
    let project = gated(&gate);
    project.write("haul.toml", &format!("{QUICK}drain_timeout = \"300ms\"\n"));
    let mut served = Served::start(&project, &[]);
    project.stdout(&["trigger", "rows", "--date", "2024-05-04"]);
    gate.wait_for(1);
    served.signal("INT");
    assert_eq!(served.end(), Some(0));
    let job = jobs(&project).remove(0);
    assert_eq!((&job["state"], &job["attempts"]), (&Value::from("queued"), &Value::from(0)), "{job}");
    assert_eq!(project.json(&["runs"])[0]["status"], "cancelled");
    gate.is(Door::Open);
    let served = Served::start(&project, &[]);
    served.says("succeeded");
    served.stop();
    let job = jobs(&project).remove(0);
    assert_eq!(job["runs"].as_array().map(Vec::len), Some(2), "{job}");
}

#[test]
fn who_waits_for_a_run_that_is_given_back_hears_what_becomes_of_it() {
    let gate = Gate::start(Door::Shut);
    let project = gated(&gate);
    project.write("haul.toml", &format!("{QUICK}drain_timeout = \"300ms\"\nlisten = \"127.0.0.1:0\"\n"));
    let mut served = Served::start(&project, &[]);
    served.says("the API answers");
    let mut running = Running::start(&project, &["run", "rows", "--date", "2024-05-04"]);
    running.says("runs it");
    gate.wait_for(1);
    served.signal("TERM");
    let (code, said) = running.end();
    assert_eq!(served.end(), Some(0));
    assert_eq!(code, Some(1), "{said}");
    for words in
        ["has ended, and job 1 is back in the queue", "the next `haul serve` goes on with it", "`haul cancel 1`"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("error sending request"), "{said}");
    gate.is(Door::Open);
    let served = Served::start(&project, &[]);
    served.says("succeeded");
    served.stop();
}

#[test]
fn a_task_that_fails_while_the_process_is_draining_has_its_final_state_stored() {
    let (gate, project, mut served) = begun(Door::Shut);
    served.signal("TERM");
    served.says("stopping");
    gate.is(Door::Refuses);
    assert_eq!(served.end(), Some(0));
    let runs = project.json(&["runs"]);
    assert_eq!(runs[0]["status"], "failed", "{runs}");
    let shown = project.json(&["show", runs[0]["id"].as_str().expect("a run")]);
    assert!(shown.to_string().contains("404"), "{shown}");
    let job = jobs(&project).remove(0);
    assert_eq!((&job["state"], &job["outcome"]), (&Value::from("done"), &Value::from("failed")), "{job}");
}

#[test]
fn a_second_signal_ends_at_once_and_the_next_daemon_goes_on() {
    let (gate, project, mut served) = begun(Door::Shut);
    served.signal("TERM");
    served.says("stopping");
    served.signal("TERM");
    assert_eq!(served.end(), Some(143));
    assert_eq!(jobs(&project)[0]["state"], "leased");
    gate.is(Door::Open);
    let served = Served::start(&project, &[]);
    served.says("gave no word");
    served.says("succeeded");
    served.stop();
}

#[cfg(unix)]
#[test]
fn the_supervisor_of_services_hears_of_the_beginning_of_life_and_of_the_end() {
    let project = shared();
    project.write("pipelines/a.toml", &command("", "true"));
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&place).expect("a socket");
    socket.set_read_timeout(Some(std::time::Duration::from_mins(1))).expect("a deadline");
    let mut command = project.haul(&["serve", "--log", "json"]);
    command.env("NOTIFY_SOCKET", &place).env("WATCHDOG_USEC", "300000");
    let mut served = Served::of(command);
    let mut heard = Vec::new();
    let mut hear = |text: &str| {
        while !heard.last().is_some_and(|last: &String| last.contains(text)) {
            let mut bytes = [0; 256];
            let length = socket.recv(&mut bytes).expect("a datagram");
            heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        heard.len()
    };
    assert_eq!(hear("READY=1"), 1, "nothing is told before");
    hear("WATCHDOG=1");
    served.signal("TERM");
    hear("STOPPING=1");
    assert_eq!(served.end(), Some(0));
    socket.set_nonblocking(true).expect("a socket");
    let mut bytes = [0; 256];
    while let Ok(length) = socket.recv(&mut bytes) {
        let word = String::from_utf8_lossy(&bytes[..length]).into_owned();
        assert!(!word.contains("STOPPING"), "the end begins once: {word}");
    }
}

//! Loads that are cut off: what a process brings after it was given up does not appear.

use super::*;

/// kestra#19722: a worker that was killed during a load, and whose run was cancelled, wrote all the same.
#[test]
fn a_load_whose_process_is_killed_and_whose_run_is_cancelled_is_never_seen() {
    let house = House::new(GATED);
    let gate = house.shut();
    let mut served = Served::start(&house.project, &[]);
    house.project.stdout(&["trigger", "p", "--date", "2024-05-04"]);
    house.wait_for_loads(1);
    served.signal("KILL");
    served.end();
    house.project.stdout(&["cancel", "1"]);
    // The server is still at the statement, and nobody has said that the run is over.
    house.open(gate);
    let served = Served::start(&house.project, &[]);
    let job = house.ended();
    assert_eq!(job["outcome"], "cancelled", "{job}");
    assert!(job["reason"].as_str().is_some_and(|why| why.contains("gave no word until its lease ended")), "{job}");
    house.wait_for_quiet();
    assert_eq!(house.commits(), []);
    // Asked for again, it is there once.
    house.project.stdout(&["trigger", "p", "--date", "2024-05-04"]);
    served.says("succeeded");
    served.stop();
    assert_eq!(house.commits(), [("2024-05-03".to_owned(), 1, 1)]);
}

/// The same, with a network that says nothing any more in the place of a death.
#[test]
fn a_load_whose_network_is_cut_and_whose_run_is_cancelled_ends_and_is_never_seen() {
    let house = House::new(GATED);
    let gate = house.shut();
    let (served, cable) = house.served_by_cable();
    house.project.stdout(&["trigger", "p", "--date", "2024-05-04"]);
    house.wait_for_loads(1);
    cable.cut();
    house.open(gate);
    house.project.stdout(&["cancel", "1"]);
    // Nobody can ask the server to stop, and nobody waits for its answer for ever.
    served.says("cancelled");
    let job = house.ended();
    assert_eq!(job["outcome"], "cancelled", "{job}");
    cable.mend();
    house.wait_for_quiet();
    assert_eq!(house.commits(), []);
    house.project.stdout(&["trigger", "p", "--date", "2024-05-04"]);
    served.says("succeeded");
    served.stop();
    assert_eq!(house.commits(), [("2024-05-03".to_owned(), 1, 1)]);
}

/// A process that stood still, cut off from the warehouse in the middle of its commit, holds up nobody, and comes back too late.
#[test]
fn a_stale_process_that_comes_back_in_the_middle_of_its_commit_writes_nothing() {
    let house = House::new(GATED);
    let gate = house.shut();
    let (stale, cable) = house.served_by_cable();
    house.project.stdout(&["trigger", "p", "--date", "2024-05-04"]);
    house.wait_for_loads(1);
    stale.signal("STOP");
    cable.cut();
    // Its transaction goes on to stand in the warehouse, with the locks of its unit.
    house.open(gate);
    let other = Served::start(&house.project, &[]);
    other.says("gave no word until its lease ended");
    other.says("succeeded");
    let job = house.ended();
    assert_eq!((&job["outcome"], &job["generation"]), (&Value::from("succeeded"), &Value::from(2)), "{job}");
    let commits = house.commits();
    assert_eq!(commits, [("2024-05-03".to_owned(), 1, 1)]);
    cable.mend();
    stale.signal("CONT");
    stale.says("its lease is lost");
    stale.says("another process's");
    house.wait_for_quiet();
    stale.stop();
    other.stop();
    assert_eq!((house.commits(), house.jobs().remove(0)), (commits, job), "all is as the other has left it");
}

//! What is away for a while, the state store or the warehouse, unschedules nothing.

use chrono::{DateTime, Utc};

use super::*;
use crate::support::gate::until;
use crate::support::project::told;

const EVERY_SECOND: &str = "[schedule]\nevery = \"1s\"\n[window]\nlookback = 1\n[[transform]]\nname = \"one\"\n\
                            sql = \"select 1 as x\"\ninto = \"mart.one\"\n";

/// Every second from the first occurrence to the last one has its end, and every run that was asked for was successful.
fn nothing_is_lost(project: &Project) {
    let found = project.json(&["occurrences", "--limit", "1000"]);
    let found = found.as_array().expect("a list");
    let mut at: Vec<DateTime<Utc>> = Vec::new();
    for one in found {
        let end = one["end"].as_str().expect("an end");
        // Where a run was under way at the end of the daemon, what came meanwhile waits for it.
        assert!(["ran", "coalesced", "waiting"].contains(&end), "{one}");
        assert!(end == "ran" || one["reason"].is_string(), "{one}");
        at.push(one["at"].as_str().and_then(|at| at.parse().ok()).expect("an instant"));
    }
    at.sort_unstable();
    assert!(at.len() > 5 && at.windows(2).all(|two| (two[1] - two[0]).num_milliseconds() == 1000), "{at:?}");
    let jobs = project.json(&["queue", "--all"]);
    let jobs = jobs.as_array().expect("a list");
    let done = jobs.iter().filter(|job| job["state"] == "done");
    assert!(done.clone().count() > 3, "{jobs:#?}");
    for job in done {
        assert_eq!(job["outcome"], "succeeded", "{job}");
    }
    for one in found.iter().filter(|one| one["end"] == "ran") {
        assert!(jobs.iter().any(|job| job["id"] == one["job"]), "the run of {one} was asked for");
    }
}

/// windmill#10174: a database that was away for a moment took the schedules with it.
#[test]
fn a_state_store_that_is_locked_for_long_unschedules_nothing() {
    let project = Project::empty();
    project.write("haul.toml", QUICK);
    project.write("connections.toml", "[warehouse]\ntype = \"duckdb\"\npath = \":memory:\"\n");
    project.write("pipelines/p.toml", EVERY_SECOND);
    let served = Served::start(&project, &[]);
    served.says_times("succeeded", 2);
    let locked = Locked::of(&project);
    // Longer than anybody waits for it: this is told, once.
    let told = served.says("database is locked");
    assert!(told["message"].as_str().is_some_and(|text| text.contains("state.db")), "{told}");
    assert!(told["detail"].as_str().is_some_and(|text| text.contains("another process is writing to it")), "{told}");
    let before = served.said("succeeded");
    locked.let_go();
    served.says("the state store can be used again");
    served.says_times("succeeded", before + 3);
    assert_eq!(served.said("the state store can be used again"), 1);
    served.stop();
    nothing_is_lost(&project);
}

#[test]
fn looks_do_not_wait_for_who_writes_to_the_state_store() {
    let project = Project::empty();
    project.write("haul.toml", QUICK);
    project.write("connections.toml", "[warehouse]\ntype = \"duckdb\"\npath = \"w.duckdb\"\n");
    project.write("pipelines/p.toml", EVERY_SECOND);
    project.stdout(&["run", "p", "--date", "2024-05-04"]);
    let locked = Locked::of(&project);
    for look in [
        &["status"][..],
        &["runs"],
        &["show", "p-2024-05-04-1"],
        &["queue"],
        &["occurrences"],
        &["incidents"],
        &["costs"],
        &["drift", "mart.one"],
        &["report"],
        &["schedule"],
        &["plan", "p", "--date", "2024-05-04"],
    ] {
        let looked = project.output(look);
        assert!(looked.status.success(), "{look:?}: {}", told(&looked));
    }
    locked.let_go();
}

#[test]
fn a_warehouse_that_is_away_for_some_runs_unschedules_nothing() {
    let house = House::new(EVERY_SECOND);
    let (served, cable) = house.served_by_cable();
    served.says_times("succeeded", 2);
    cable.unplug();
    let told = served.says_times("tried again", 4);
    assert!(told[0]["message"].as_str().is_some_and(|text| text.contains("failed, and is tried again at")), "{told:?}");
    let before = served.said("succeeded");
    let wait = |found: Value| found.as_array().expect("a list").iter().filter(|one| one["end"] == "waiting").count();
    until("occurrences that wait", || (wait(house.project.json(&["occurrences"])) >= 3).then_some(()));
    cable.mend();
    served.says_times("succeeded", before + 3);
    served.stop();
    nothing_is_lost(&house.project);
    let waited = until("occurrences", || Some(house.project.json(&["occurrences", "--limit", "1000"]).to_string()));
    assert!(waited.contains("coalesced"), "what came meanwhile was made up by one run: {waited}");
}

//! Processes that die or stand still: their work is done by others, once, and what they bring later is refused.

use super::*;
use crate::support::gate::{Door, Served};

/// Blocks the first time, until a file is there; says so the others.
const FIRST_BLOCKS: &str = "if mkdir first 2>/dev/null; then echo begun >> out.txt; until [ -f go ]; do sleep 0.05; done; echo late >> out.txt; \
     else echo done >> out.txt; fi";

fn blocked() -> (Project, Served) {
    let project = shared();
    project.write("pipelines/a.toml", &command("", FIRST_BLOCKS));
    let served = Served::start(&project, &[]);
    project.stdout(&["trigger", "a", "--date", "2024-05-04"]);
    until("the command", || (lines(&project, "out.txt") == ["begun"]).then_some(()));
    (project, served)
}

#[test]
fn the_work_of_a_killed_daemon_is_done_by_the_other_within_a_lease() {
    let (project, mut served) = blocked();
    let other = Served::start(&project, &[]);
    served.signal("KILL");
    served.end();
    other.says("gave no word until its lease ended");
    other.says("succeeded");
    other.stop();
    project.write("go", "");
    let job = jobs(&project).remove(0);
    assert_eq!((&job["outcome"], &job["deaths"]), (&Value::from("succeeded"), &Value::from(1)), "{job}");
    let runs = project.json(&["runs"]);
    assert_eq!(
        (&runs[0]["status"], &runs[1]["status"]),
        (&Value::from("succeeded"), &Value::from("cancelled")),
        "{runs}"
    );
    assert_eq!(lines(&project, "out.txt")[1], "done");
}

#[test]
fn a_daemon_that_comes_back_after_its_lease_has_ended_writes_nothing() {
    let (project, served) = blocked();
    let other = Served::start(&project, &[]);
    served.signal("STOP");
    other.says("gave no word until its lease ended");
    other.says("succeeded");
    let job = jobs(&project).remove(0);
    assert_eq!(job["outcome"], "succeeded");
    served.signal("CONT");
    served.says("its lease is lost");
    served.says("another process's");
    served.stop();
    other.stop();
    assert_eq!(jobs(&project).remove(0), job, "the job is as the other has left it");
}

#[test]
fn a_run_longer_than_its_lease_starts_once() {
    let gate = Gate::start(Door::Shut);
    let project = gated(&gate);
    let served = Served::start(&project, &[]);
    project.stdout(&["trigger", "rows", "--date", "2024-05-04"]);
    gate.wait_for(1);
    let claimed: chrono::DateTime<chrono::Utc> =
        jobs(&project)[0]["claimed_at"].as_str().and_then(|at| at.parse().ok()).expect("an instant");
    // Three leases later it is still its own.
    job_until(&project, "a lease that was prolonged", |job| {
        let until = job["lease_until"].as_str().and_then(|at| at.parse::<chrono::DateTime<chrono::Utc>>().ok());
        until.is_some_and(|until| until - claimed > chrono::Duration::seconds(4))
    });
    gate.is(Door::Open);
    served.says("succeeded");
    served.stop();
    assert_eq!(gate.asked(), ["2024-05-03"]);
    assert_eq!((&jobs(&project)[0]["generation"], &jobs(&project)[0]["deaths"]), (&Value::from(1), &Value::from(0)));
}

#[tokio::test]
async fn a_process_that_dies_between_its_claim_and_its_start_keeps_no_place() {
    use haul::model::job::ClaimRules;
    let project = shared();
    project.write("pipelines/a.toml", &command("", "echo done >> out.txt"));
    project.stdout(&["trigger", "a", "--date", "2024-05-04"]);
    let state = haul::state::State::open(&project.path().join(".haul")).await.expect("the store");
    let rules = ClaimRules::of(["a"], std::time::Duration::from_secs(1), 1);
    #[expect(clippy::disallowed_methods, reason = "the binary beside it goes by the machine's clock")]
    let claimed = state.claim("nobody", &rules, chrono::Utc::now()).await.expect("a claim").expect("a job");
    let served = Served::start(&project, &[]);
    served.says("gave no word");
    served.says("succeeded");
    served.stop();
    let job = state.job(claimed.id).await.expect("the store").expect("the job");
    assert_eq!((job.generation, job.deaths), (2, 1));
    assert_eq!(lines(&project, "out.txt"), ["done"]);
}

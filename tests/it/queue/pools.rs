//! Pools: slots that all pipelines and processes share, and the keys that name them.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::{at, store};
use crate::support::project::{Project, told};
use crate::support::scripted::Scripted;

/// A pipeline of one extract of one day in the pool `api`.
const POOLED: &str = r#"
pool = "api"

[window]
lookback = 1

[[extract]]
name = "NAME"
connection = "api"
request = { path = "/rows", params = { key = "NAME", day = "{{ ds }}" } }
records = "$.rows[*]"

[[transform]]
name = "free_NAME"
pool = "other"
sql = "select count(*) as n from {{ ref('NAME') }} where _haul_unit = {{ ds | sql }}"
"#;

/// Two pipelines whose extracts share a pool of one slot, in warehouses of their own.
fn two(api: &Scripted) -> Project {
    let project = Project::with_api(&api.url, "");
    project.write("haul.toml", "[pools]\napi = 1\nother = 2\n");
    let warehouse = |name: &str| format!("[{name}_db]\ntype = \"duckdb\"\npath = \"{name}.duckdb\"\n");
    let more = format!("[api]\ntype = \"http\"\nurl = \"{}\"\n{}{}", api.url, warehouse("one"), warehouse("two"));
    project.write("connections.toml", &more);
    for name in ["one", "two"] {
        let text = format!("warehouse = \"{name}_db\"\n{}", POOLED.replace("NAME", name));
        project.write(&format!("pipelines/{name}.toml"), &text);
        api.put_day(name, 3);
    }
    project
}

fn begin(project: &Project, name: &str) -> Child {
    let mut command = project.haul(&["run", name, "--date", "2024-05-02"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("haul starts")
}

/// Waits until the child has said this on its stderr; returns all that it has said.
fn says(child: &mut Child, what: &str) -> String {
    use std::io::Read as _;
    let mut stderr = child.stderr.take().expect("a stream");
    let mut said = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).contains(what) {
        let count = stderr.read(&mut byte).expect("a stream");
        assert!(count > 0, "it ended without `{what}`: {}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    child.stderr = Some(stderr);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn tasks_of_two_processes_share_the_slots_of_a_pool_and_a_wait_is_told() {
    let api = Scripted::start();
    let project = two(&api);
    api.close("one", 0);
    let mut first = begin(&project, "one");
    api.wait_for("one", 0);
    let mut second = begin(&project, "two");
    let said = says(&mut second, "1 of 1 are taken, by one-2024-05-02-1 one");
    assert!(said.contains("tasks wait for a slot of the pool `api`"), "{said}");
    assert_eq!(api.asked(), ["one@0"], "the second waits for its slot");
    api.open();
    assert!(first.wait().expect("an end").success());
    let ended = second.wait_with_output().expect("an end");
    assert!(ended.status.success(), "{}", told(&ended));
    assert_eq!(api.asked(), ["two@0"]);
}

#[cfg(unix)]
#[test]
fn the_slot_of_a_process_that_was_killed_is_free_at_once() {
    let api = Scripted::start();
    let project = two(&api);
    api.close("one", 0);
    let mut first = begin(&project, "one");
    api.wait_for("one", 0);
    first.kill().expect("a kill");
    first.wait().expect("an end");
    let begun = Instant::now();
    let ended = begin(&project, "two").wait_with_output().expect("an end");
    assert!(ended.status.success(), "{}", told(&ended));
    assert!(begun.elapsed() < Duration::from_mins(1), "long before the lease has ended");
}

#[tokio::test]
async fn a_slot_is_leased_renewed_given_back_and_none_is_taken_where_another_pool_is_full() {
    const A: &[(&str, u32)] = &[("a", 1)];
    const B: &[(&str, u32)] = &[("b", 2)];
    const BOTH: &[(&str, u32)] = &[("b", 2), ("a", 1)];
    let (_folder, state) = store().await;
    let take = |holder: &'static str, pools: &'static [(&'static str, u32)], second: i64| {
        let state = state.clone();
        async move { state.try_slots(pools, holder, at(second), at(second + 60)).await.expect("a look") }
    };
    // These runs have no process that could die: their leases count.
    let _one = state.begin_run("one", "2024", haul::model::run::Trigger::Manual, at(0)).await.expect("a run");
    let _two = state.begin_run("two", "2024", haul::model::run::Trigger::Manual, at(0)).await.expect("a run");
    assert!(take("one-2024-1 x", A, 0).await);
    assert!(!take("two-2024-1 x", A, 1).await);
    assert!(!take("two-2024-1 x", BOTH, 1).await);
    assert_eq!(state.slots(at(1)).await.expect("a look").len(), 1, "all or none");
    assert!(take("two-2024-1 y", B, 1).await && take("two-2024-1 z", B, 1).await);
    assert_eq!(state.keep_slots("one-2024-1", at(50), at(110)).await.expect("kept"), 1);
    assert!(!take("two-2024-1 x", A, 100).await, "it was renewed");
    assert!(take("two-2024-1 x", A, 111).await, "and then it was not");
    state.free_slots("two-2024-1 x").await.expect("given back");
    assert!(take("one-2024-1 x", A, 112).await);
    // The clock goes back by an hour: what was taken later than now does not count.
    assert!(take("two-2024-1 x", A, -3600).await);
}

#[tokio::test]
async fn slots_are_given_in_the_order_of_coming_and_a_dead_waiter_holds_nobody_up() {
    const A: &[(&str, u32)] = &[("a", 1)];
    const BOTH: &[(&str, u32)] = &[("a", 1), ("b", 1)];
    let (_folder, state) = store().await;
    for pipeline in ["one", "two", "three"] {
        state.begin_run(pipeline, "2024", haul::model::run::Trigger::Manual, at(0)).await.expect("a run");
    }
    let take = |holder: &'static str, pools: &'static [(&'static str, u32)], second: i64| {
        let state = state.clone();
        async move { state.try_slots(pools, holder, at(second), at(second + 60)).await.expect("a look") }
    };
    let free = |holder: &'static str| state.free_slots(holder);
    assert!(take("one-2024-1 x", A, 0).await);
    assert!(!take("two-2024-1 x", BOTH, 1).await);
    assert!(!take("three-2024-1 x", A, 2).await);
    free("one-2024-1 x").await.expect("given back");
    // Whoever looks first: the second is in front of the third, and the first behind both.
    assert!(!take("three-2024-1 x", A, 3).await);
    assert!(!take("one-2024-1 y", A, 3).await);
    assert!(take("two-2024-1 x", BOTH, 3).await);
    free("two-2024-1 x").await.expect("given back");
    assert!(!take("one-2024-1 y", A, 4).await);
    assert!(take("three-2024-1 x", A, 4).await);
    free("three-2024-1 x").await.expect("given back");
    assert!(take("one-2024-1 y", A, 5).await);

    // Another task of a run that waits takes its run's turn.
    assert!(!take("two-2024-1 x", A, 6).await);
    assert!(!take("three-2024-1 x", A, 6).await);
    free("one-2024-1 y").await.expect("given back");
    assert!(take("two-2024-1 y", A, 7).await);
    // A waiter that does not ask any more loses its place: three asks, two has not.
    assert!(!take("three-2024-1 x", A, 9).await);
    free("two-2024-1 y").await.expect("given back");
    assert!(!take("three-2024-1 x", A, 10).await, "two-2024-1 x is in front");
    assert!(take("three-2024-1 x", A, 12).await, "and was, until it had not asked for five seconds");
    free("three-2024-1 x").await.expect("given back");

    // Nor does one whose process is dead: no run of this name lives.
    assert!(take("one-2024-1 x", A, 20).await);
    assert!(!take("dead-2024-1 x", A, 20).await);
    assert!(!take("two-2024-1 x", A, 21).await);
    free("one-2024-1 x").await.expect("given back");
    assert!(take("two-2024-1 x", A, 21).await);
}

#[test]
fn a_pool_that_is_not_there_and_other_wrong_words_are_told_where_they_stand() {
    let api = Scripted::start();
    let project = two(&api);
    let text = POOLED.replace("NAME", "one").replace(
        "\"api\"\n\n",
        "[\"apis\", \"other\", \"other\"]\npriority = 5000\ntimeout = \"0s\"\n\n[retry]\nmin_backoff = \"2h\"\n\n",
    );
    project.write("pipelines/one.toml", &format!("warehouse = \"one_db\"\n{text}"));
    let output = project.output(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    let said = told(&output);
    for word in [
        "there is no pool `apis`",
        "did you mean `api`?",
        "the pool `other` is named twice",
        "the priority 5000 lies outside of -1000 to 1000",
        "nothing ends within no time",
        "the first pause is longer than the longest",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    project.write("haul.toml", "");
    let none = told(&project.output(&["check"]));
    assert!(none.contains("`[pools]`, `apis = 4`"), "{none}");
}

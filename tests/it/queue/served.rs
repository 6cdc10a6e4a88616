//! Jobs as `haul serve` works on them: what the ledger has is not asked for again, what passes is tried again, and the rest is not.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::mornings::Mornings;
use crate::support::project::told;
use crate::support::scripted::Scripted;

/// A request is sent once, a run up to three times.
const DAYS: &str = r#"
[window]
lookback = 3

[retry]
max_attempts = 3
min_backoff = "100ms"
max_backoff = "100ms"

[[extract]]
name = "items"
connection = "api"
request = { path = "/rows", params = { key = "{{ ds }}" } }
paginate = { by = "offset", limit = 4, total = "$.total" }
records = "$.rows[*]"
retry = { max_attempts = 1 }
"#;

fn may() -> (Scripted, Mornings) {
    let api = Scripted::start();
    (1..=9).for_each(|day| api.put_day(&format!("2024-05-0{day}"), 3));
    let days = Mornings::new(&api.url, DAYS);
    days.project.write("haul.toml", "[serve]\npoll = \"100ms\"\n");
    (api, days)
}

/// A daemon in the project's folder, until the test lets it go.
struct Served(Child);

impl Served {
    fn of(days: &Mornings) -> Self {
        let mut command = days.project.haul(&["serve"]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("haul starts"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until a backfill has ended; returns how it stands.
fn ended(days: &Mornings, id: &str) -> Value {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        let shown = days.project.json(&["backfill", "show", id]);
        if shown["state"] == "done" {
            return shown;
        }
        assert!(Instant::now() < deadline, "{shown:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn queue(days: &Mornings, more: &[&str]) -> String {
    let fill = ["backfill", "days", "--from", "2024-05-01", "--through", "2024-05-05", "--queue", "--chunk", "1"];
    let all: Vec<&str> = fill.iter().chain(more).copied().collect();
    days.project.json(&all)["id"].as_str().expect("a name").to_owned()
}

/// The jobs of a backfill, the first one first: what it was about, how it ended, how often it was begun.
fn jobs(shown: &Value) -> Vec<(String, String, u64)> {
    let jobs = shown["jobs"].as_array().expect("jobs").iter().rev();
    let of = |job: &Value| {
        let key = job["key"].as_str().expect("a key");
        let first = key.split("..").next().and_then(|word| word.rsplit(' ').next()).unwrap_or_default();
        (
            first.to_owned(),
            job["outcome"].as_str().expect("an end").to_owned(),
            job["attempts"].as_u64().expect("a count"),
        )
    };
    jobs.map(of).collect()
}

#[test]
fn days_that_a_run_has_loaded_meanwhile_are_not_asked_for_by_a_backfill_unless_it_says_all() {
    let (api, days) = may();
    let id = queue(&days, &["--order", "oldest"]);
    days.run("2024-05-04", 0);
    assert_eq!(api.asked(), ["2024-05-01@0", "2024-05-02@0", "2024-05-03@0"]);

    let _served = Served::of(&days);
    let shown = ended(&days, &id);
    assert_eq!(api.asked(), ["2024-05-04@0", "2024-05-05@0"], "{shown:#}");
    assert_eq!(jobs(&shown).len(), 5);
    assert!(jobs(&shown).iter().all(|(_, end, _)| end == "succeeded"), "{shown:#}");

    let nothing = days.project.output(&["backfill", "days", "--from", "2024-05-01", "--to", "2024-05-06", "--queue"]);
    assert_eq!(nothing.status.code(), Some(2), "{}", told(&nothing));
    let all = queue(&days, &["--reprocess", "all"]);
    ended(&days, &all);
    assert_eq!(api.asked().len(), 5);
}

#[test]
fn what_passes_is_tried_again_without_what_was_done_and_what_cannot_pass_is_not() {
    let (api, days) = may();
    api.refuse("2024-05-02", 503, "later");
    api.refuse("2024-05-04", 400, "no such day");
    let fill = ["backfill", "days", "--from", "2024-05-01", "--through", "2024-05-05", "--queue", "--chunk"];
    let made = |chunk: &str| days.project.json(&fill.iter().copied().chain([chunk]).collect::<Vec<_>>());
    // Two jobs: the first three days of May, and the other two; the newest come first.
    let id = made("3")["id"].as_str().expect("a name").to_owned();
    let _served = Served::of(&days);
    let shown = ended(&days, &id);
    let newest_first: Vec<_> = jobs(&shown);
    assert_eq!(
        newest_first,
        [("2024-05-04".to_owned(), "failed".to_owned(), 1), ("2024-05-01".to_owned(), "failed".to_owned(), 3),]
    );
    let asked = api.asked();
    let times = |day: &str| asked.iter().filter(|page| page.starts_with(day)).count();
    let counts = ["2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04", "2024-05-05"].map(times);
    assert_eq!(counts, [1, 3, 1, 1, 1], "what was done in the first attempt was done: {asked:?}");
    assert_eq!(shown["progress"]["failed"], 2);
    let text = days.project.stdout(&["backfill", "show", &id]);
    assert!(text.contains("failed") && text.contains("2024-05-01 to 2024-05-04"), "{text}");
}

#[test]
fn a_fresh_day_makes_the_backfill_of_its_own_pipeline_give_way_and_nothing_is_lost() {
    let (api, days) = may();
    days.project.write("haul.toml", "[serve]\npoll = \"100ms\"\nlease = \"2s\"\n");
    api.close("2024-05-02", 0);
    let fill = ["backfill", "days", "--from", "2024-05-01", "--through", "2024-05-03", "--queue"];
    let id = days.project.json(&fill)["id"].as_str().expect("a name").to_owned();
    let _served = Served::of(&days);
    api.wait_for("2024-05-02", 0);
    let triggered = days.project.output(&["trigger", "days", "--date", "2024-05-09"]);
    assert!(triggered.status.success(), "{}", told(&triggered));
    // The fresh days come while the piece of the backfill cannot go on.
    api.wait_for("2024-05-08", 0);
    api.open();
    let shown = ended(&days, &id);
    assert_eq!(shown["jobs"][0]["outcome"], "succeeded", "{shown:#}");
    assert!(shown["jobs"][0]["generation"].as_u64().is_some_and(|generation| generation >= 2), "{shown:#}");
    assert_eq!(shown["jobs"][0]["attempts"], 1, "giving way is no attempt");
}

/// A fan-out is no other thing: what passes for each of its requests passes for the run.
#[test]
fn a_fan_out_whose_server_is_away_is_tried_again_and_one_whose_requests_are_wrong_is_not() {
    for (items, status, attempts) in [(2, 503, 3), (12, 503, 3), (2, 400, 1)] {
        let api = Scripted::start();
        let keys: Vec<String> = (1..=items).map(|item| format!("k{item}")).collect();
        keys.iter().for_each(|key| api.refuse(key, status, "not now"));
        let request = "request = { path = \"/rows\", params = { key = \"{{ item }}\", day = \"{{ ds }}\" } }";
        let (head, step) = DAYS.split_once("request = ").expect("a request");
        let tail = step.split_once("records").expect("records").1;
        let pipeline = format!("{head}for_each = {{ values = {keys:?} }}\n{request}\nrecords{tail}");
        let days = Mornings::new(&api.url, &pipeline);
        days.project.write("haul.toml", "[serve]\npoll = \"100ms\"\n");
        let fill = ["backfill", "days", "--from", "2024-05-01", "--through", "2024-05-01", "--queue"];
        let id = days.project.json(&fill)["id"].as_str().expect("a name").to_owned();
        let _served = Served::of(&days);
        let shown = ended(&days, &id);
        let of: Vec<_> = jobs(&shown).into_iter().map(|(_, end, begun)| (end, begun)).collect();
        assert_eq!(of, [("failed".to_owned(), attempts)], "{items} × {status}: {shown:#}");
    }
}

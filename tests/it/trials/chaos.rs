//! Three processes on one state store and one warehouse, killed, stopped and locked out at random: each unit is committed once.

use std::collections::BTreeMap;

use sqlx::Connection as _;

use super::*;
use crate::support::gate::until;

const PIPELINES: usize = 5;
const DAYS: usize = 8;

/// A day of a pipeline, which takes a moment in the warehouse.
fn pipeline(number: usize) -> String {
    format!(
        "[window]\nlookback = 1\n[[transform]]\nname = \"x\"\ninto = \"mart.x{number}\"\n\
         sql = \"select {{{{ ds | sql }}}} as day, cast(pg_sleep(0.2) as varchar) as slept\"\n"
    )
}

/// Numbers that look random, and are the same in every run of the test.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides).expect("a small number")
    }
}

/// How many jobs have ended.
fn ended(project: &Project) -> usize {
    let jobs = project.json(&["queue", "--all"]);
    jobs.as_array().expect("a list").iter().filter(|job| job["state"] == "done").count()
}

/// Keeps everybody from writing to the state store until some moments have passed.
fn lock_out(house: &House) {
    let file = house.project.path().join(".haul/state.db");
    house.runtime.block_on(async {
        let mut other = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.expect("it");
        sqlx::query("PRAGMA busy_timeout = 60000").execute(&mut other).await.expect("patience");
        sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.expect("the lock");
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        sqlx::query("ROLLBACK").execute(&mut other).await.expect("let go");
        other.close().await.expect("it closes");
    });
}

#[test]
fn three_processes_that_are_killed_stopped_and_locked_out_commit_each_unit_once() {
    let house = House::new(GATED);
    house.project.write("haul.toml", &QUICK.replace("lease = \"1s\"", "lease = \"2s\"\nworkers = 3"));
    std::fs::remove_file(house.project.path().join("pipelines/p.toml")).expect("the gate is not needed");
    for number in 0..PIPELINES {
        house.project.write(&format!("pipelines/p{number}.toml"), &pipeline(number));
    }
    let through = format!("2024-05-0{DAYS}");
    for number in 0..PIPELINES {
        let name = format!("p{number}");
        let range = ["--from", "2024-05-01", "--through", &through, "--queue", "--chunk", "1"];
        house.project.stdout(&["backfill", &name].into_iter().chain(range).collect::<Vec<_>>());
    }
    let all = PIPELINES * DAYS;
    let mut dice = Dice(20_240_501);
    let mut three: Vec<Served> = (0..3).map(|_| Served::start(&house.project, &[])).collect();
    let mut seen = 0;
    let (mut killed, mut stopped) = (0, 0);
    while seen < all {
        let slot = dice.roll(3);
        match dice.roll(3) {
            0 => {
                three[slot].signal("KILL");
                killed += 1;
                three[slot] = Served::start(&house.project, &[]);
            }
            1 => {
                // Stopped until the others have taken what it had, or nothing is left to do.
                three[slot].signal("STOP");
                stopped += 1;
                let reaped = |served: &Served| served.said("gave no word until its lease ended");
                let others = || three.iter().map(reaped).sum::<usize>();
                let (before, had) = (others(), of_process(&house.project, three[slot].id()));
                until("the others take over", || (had == 0 || others() >= before + had).then_some(()));
                three[slot].signal("CONT");
            }
            _ => lock_out(&house),
        }
        let goal = (seen + 4).min(all);
        seen = until("work goes on", || Some(ended(&house.project)).filter(|ended| *ended >= goal));
    }
    drop(three);
    house.wait_for_quiet();
    assert!(killed > 1 && stopped > 1, "{killed} {stopped}");

    let jobs = house.project.json(&["queue", "--all"]);
    let jobs = jobs.as_array().expect("a list");
    assert_eq!(jobs.len(), all);
    let mut deaths = 0;
    for job in jobs {
        assert_eq!(job["outcome"], "succeeded", "{job:#}");
        deaths += job["deaths"].as_u64().expect("a count");
        why_is_on_record(&house, job);
    }
    assert!(deaths > 0, "some job was taken from a process that died or stood still");
    let once: BTreeMap<String, i64> = commits(&house);
    assert_eq!(once.len(), all, "{once:#?}");
    assert!(once.values().all(|count| *count == 1), "{once:#?}");
}

/// How many jobs a process has now.
fn of_process(project: &Project, id: u32) -> usize {
    let jobs = project.json(&["queue"]);
    let own = |job: &&Value| job["owner"].as_str().is_some_and(|owner| owner.contains(&format!("-{id}-")));
    jobs.as_array().expect("a list").iter().filter(|job| job["state"] == "leased").filter(own).count()
}

/// A job that was begun more than once says why.
fn why_is_on_record(house: &House, job: &Value) {
    let id = job["id"].as_i64().expect("a number");
    let notes = house.runtime.block_on(async {
        let state = haul::state::State::open(&house.project.path().join(".haul")).await.expect("the store");
        let notes = state.job_notes(id).await.expect("notes");
        state.close().await;
        notes.into_iter().map(|note| note.note).collect::<Vec<_>>()
    });
    let died = notes.iter().filter(|note| note.contains("gave no word until its lease ended")).count();
    assert_eq!(job["deaths"].as_u64(), Some(died as u64), "{job:#}: {notes:#?}");
    let generation = job["generation"].as_u64().expect("a number");
    assert!(generation <= 1 + notes.len() as u64, "{job:#}: {notes:#?}");
}

/// How often each unit was committed, by its table.
fn commits(house: &House) -> BTreeMap<String, i64> {
    house.runtime.block_on(async {
        let mut session = house.database.session().await;
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT table_name || ' ' || unit, count(*) FROM mart._haul_loads GROUP BY 1")
                .fetch_all(&mut session)
                .await
                .expect("rows");
        rows.into_iter().collect()
    })
}

//! Three processes on one state store and one warehouse, killed, stopped and locked out at random: each unit is committed once.

use std::collections::BTreeMap;

use super::*;
use crate::support::gate::until;

const PIPELINES: usize = 5;

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

/// What is done to them, one after the other: always the same, whatever the speed of the machine.
const ROUNDS: usize = 9;

/// Whenever fewer jobs than this wait, the next day of each pipeline is asked for: nobody is ever without work.
const RESERVE: usize = 15;

/// The house with its pipelines, and the days that were asked for.
struct Yard {
    house: House,
    days: usize,
}

impl Yard {
    /// A warehouse and a daemon's settings, with nothing to do yet.
    fn new() -> Self {
        let house = House::new(GATED);
        house.project.write("haul.toml", &QUICK.replace("lease = \"1s\"", "lease = \"3s\"\nworkers = 3"));
        std::fs::remove_file(house.project.path().join("pipelines/p.toml")).expect("the gate is not needed");
        for number in 0..PIPELINES {
            house.project.write(&format!("pipelines/p{number}.toml"), &pipeline(number));
        }
        Self { house, days: 0 }
    }

    /// How many jobs there are: one for each unit.
    fn all(&self) -> usize {
        PIPELINES * self.days
    }

    /// Asks for the next days of each pipeline.
    fn ask_for(&mut self, days: usize) {
        let (first, last) = (format!("2024-05-{:02}", self.days + 1), format!("2024-05-{:02}", self.days + days));
        for number in 0..PIPELINES {
            let name = format!("p{number}");
            let range = ["--from", &first, "--through", &last, "--queue", "--chunk", "1"];
            self.house.project.stdout(&["backfill", &name].into_iter().chain(range).collect::<Vec<_>>());
        }
        self.days += days;
    }

    /// How many jobs have ended.
    fn ended(&self) -> usize {
        let jobs = self.house.project.json(&["queue", "--all", "--limit", "1000"]);
        jobs.as_array().expect("a list").iter().filter(|job| job["state"] == "done").count()
    }
}

/// Keeps everybody from writing to the state store until some moments have passed.
fn lock_out(project: &Project) {
    let locked = Locked::of(project);
    std::thread::sleep(Duration::from_millis(700));
    locked.let_go();
}

/// Stops a process until the others have taken what it had.
fn stand_still(project: &Project, three: &[Served], slot: usize) {
    let said = || three.iter().map(|served| served.said("gave no word until its lease ended")).sum::<usize>();
    three[slot].signal("STOP");
    // One that stands still in the middle of a write to the store would hold up everybody for as long: it may end that first.
    while Locked::at_once(project).map(Locked::let_go).is_none() {
        three[slot].signal("CONT");
        Locked::of(project).let_go();
        three[slot].signal("STOP");
    }
    let (before, had) = (said(), of_process(project, three[slot].id()));
    until("the others take over", || (said() >= before + had).then_some(()));
    three[slot].signal("CONT");
}

#[test]
fn three_processes_that_are_killed_stopped_and_locked_out_commit_each_unit_once() {
    let mut yard = Yard::new();
    yard.ask_for(6);
    let mut dice = Dice(20_240_501);
    let mut three: Vec<Served> = (0..3).map(|_| Served::start(&yard.house.project, &[])).collect();
    let (mut killed, mut stopped) = (0, 0);
    for _ in 0..ROUNDS {
        let seen = yard.ended();
        if yard.all() < seen + RESERVE {
            yard.ask_for(2);
        }
        let slot = dice.roll(3);
        match dice.roll(3) {
            0 => {
                three[slot].signal("KILL");
                killed += 1;
                three[slot] = Served::start(&yard.house.project, &[]);
            }
            1 => {
                stand_still(&yard.house.project, &three, slot);
                stopped += 1;
            }
            _ => lock_out(&yard.house.project),
        }
        until("work goes on", || (yard.ended() > seen + 1).then_some(()));
    }
    assert_eq!((killed, stopped), (4, 3));
    let all = yard.all();
    until("all is done", || (yard.ended() == all).then_some(()));
    drop(three);
    let house = yard.house;
    house.wait_for_quiet();

    let jobs = house.project.json(&["queue", "--all", "--limit", "1000"]);
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

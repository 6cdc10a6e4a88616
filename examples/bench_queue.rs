//! The queue's benchmark: jobs a second through a store, and how long looks take in a store with a long history.
//!
//! `bench_queue cycles FOLDER SECONDS` enqueues, claims, beats and settles, one job after the other, and with four workers.
//! `bench_queue fill FOLDER PIPELINES JOBS` writes a history: so many ended jobs, runs with ten tasks each, units with pulls.
//! `bench_queue look FOLDER` prints how long the looks of `status`, `runs`, `plan` and the daemon take.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark that cannot go on has failed, and prints")]

use std::path::Path;
use std::time::{Duration, Instant};

use haul::model::job::{ClaimRules, Class, JobEnd, JobFilter, JobState, NewJob, Settled};
use haul::model::name::TableName;
use haul::state::State;
use haul::time::Clock;

const LEASE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["cycles", folder, seconds] => cycles(Path::new(folder), seconds.parse().expect("seconds")).await,
        ["fill", folder, pipelines, jobs] => {
            fill(Path::new(folder), pipelines.parse().expect("a count"), jobs.parse().expect("a count")).await;
        }
        ["look", folder] => look(Path::new(folder)).await,
        other => panic!("cycles FOLDER SECONDS, fill FOLDER PIPELINES JOBS or look FOLDER, not {other:?}"),
    }
}

/// Jobs one after the other, each with four durable transactions; then with four workers on one store.
async fn cycles(folder: &Path, seconds: u64) {
    for workers in [1_u32, 4] {
        let begun = Instant::now();
        let mut crew = Vec::new();
        for worker in 0..workers {
            let state = State::open(folder).await.expect("a store");
            let limit = Duration::from_secs(seconds);
            crew.push(tokio::spawn(async move {
                let name = format!("bench{worker}");
                let rules = ClaimRules::of([name.as_str()], LEASE, workers);
                let mut done = 0_u32;
                while begun.elapsed() < limit {
                    let now = Clock::System.now();
                    let key = format!("{}-{done}", now.timestamp_micros());
                    let job = NewJob::new(&name, &key, "{}", Class::Fresh, now);
                    state.enqueue(&[job], now).await.expect("queued");
                    let job = state.claim(&name, &rules, now).await.expect("a claim").expect("the job");
                    state.beat(job.id, job.generation, now, now + LEASE).await.expect("a beat");
                    let end = Settled::Done { end: JobEnd::Succeeded, reason: None, run: None };
                    assert!(state.settle(job.id, job.generation, end, now).await.expect("settled"));
                    done += 1;
                }
                done
            }));
        }
        let mut all = 0;
        for worker in crew {
            all += worker.await.expect("it ends");
        }
        let rate = f64::from(all) / begun.elapsed().as_secs_f64();
        println!("{workers} worker(s): {rate:.0} jobs a second, each queued, claimed, beaten for and settled");
    }
}

/// A history by the statements of SQLite itself: what takes months would take the benchmark too long.
async fn fill(folder: &Path, pipelines: u64, jobs: u64) {
    State::open(folder).await.expect("a store").close().await;
    let file = format!("sqlite://{}", folder.join("state.db").display());
    let database = sqlx::SqlitePool::connect(&file).await.expect("the file");
    let runs = jobs / 10;
    let units = jobs.div_ceil(pipelines).min(100);
    let statements = [
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {jobs})
             INSERT INTO job (pipeline, key, ask, class, priority, not_before, units, state, attempts, generation, owner, run,
                              queued_at, put_at, claimed_at, started_at, finished_at, outcome)
             SELECT 'p' || (i % {pipelines}), i, '{{}}', i % 3, 0, i, 1, 'done', 1, 1, 'bench', 'p' || (i % {pipelines}) || '-' || i,
                    i, i, i, i, i, 'succeeded' FROM n"
        ),
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {runs})
             INSERT INTO run (id, pipeline, logical_date, number, asked_by, status, started_at, finished_at, loaded)
             SELECT 'p' || (i % {pipelines}) || '-' || i, 'p' || (i % {pipelines}), '2024-01-01', i, 'schedule', 'succeeded',
                    '2024-01-01T00:00:00.000000000Z', '2024-01-01T00:00:01.000000000Z', 10 FROM n"
        ),
        "INSERT INTO event (run, step, unit, at, event)
         SELECT run.id, 'items', '2024-01-' || printf('%02d', value), '2024-01-01T00:00:00.000000000Z',
                '{\"event\":\"loaded\",\"rows\":100,\"changes\":null}'
         FROM run, generate_series(1, 10)"
            .replace("generate_series(1, 10)", "json_each('[1,2,3,4,5,6,7,8,9,10]')"),
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {})
             INSERT INTO unit (table_name, unit, state, last_pull, pulled_at, unchanged_pulls, loaded_pull, loaded_generation,
                               loaded_rows, loaded_fingerprint, loaded_at)
             SELECT 'raw.t' || (i / {units}), date('2024-01-01', '+' || (i % {units}) || ' days'), 'loaded', 1,
                    '2024-06-01T00:00:00.000000000Z', 0, 1, 1, 100, '00000000000000000000000000000001',
                    '2024-06-01T00:00:00.000000000Z' FROM n",
            pipelines * units
        ),
        "ANALYZE".to_owned(),
    ];
    for statement in statements {
        let begun = Instant::now();
        let word =
            statement.split("INTO ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("analyze").to_owned();
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&database).await.expect("a history");
        println!("{word}: {:.1} s", begun.elapsed().as_secs_f64());
    }
    database.close().await;
    let state = State::open(folder).await.expect("the store");
    let now = Clock::System.now();
    let old: Vec<NewJob> =
        (0..5000).map(|n| NewJob::new("p1", &format!("old {n}"), "{}", Class::Backfill, now)).collect();
    state.enqueue(&old, now).await.expect("queued");
}

/// The slowest of several looks, in milliseconds.
macro_rules! timed {
    ($what:literal, $look:expr) => {{
        let mut slowest = Duration::ZERO;
        for _ in 0..5 {
            let begun = Instant::now();
            $look;
            slowest = slowest.max(begun.elapsed());
        }
        println!("{:<62} {:>8.2} ms", $what, slowest.as_secs_f64() * 1e3);
    }};
}

async fn look(folder: &Path) {
    let state = State::open(folder).await.expect("the store");
    let now = Clock::System.now();
    let all: Vec<TableName> = state.tables().await.expect("tables");
    let names: Vec<String> = (0..all.len()).map(|n| format!("p{n}")).collect();
    println!("{} tables", all.len());
    timed!("runs: the last 20", state.runs(None, 20).await.expect("runs"));
    timed!("runs: the last 20 of one pipeline", state.runs(Some("p7"), 20).await.expect("runs"));
    timed!("runs: one with its tasks", state.run("p7-7").await.expect("a run"));
    timed!("plan: the ledger of one table", state.snapshot(&all[..1]).await.expect("units"));
    timed!(
        "status: the last 14 units of 500 tables",
        state.recent(&all[..500.min(all.len())], 14).await.expect("units")
    );
    timed!("status: what somebody should look at, of all tables", state.odd(&all).await.expect("units"));
    timed!("status: the names of all tables", state.tables().await.expect("tables"));
    timed!("queue: how many wait, by class", state.queue_depth(now).await.expect("counts"));
    timed!("queue: the last 100 jobs", state.jobs(&JobFilter::default()).await.expect("jobs"));
    let of_one = JobFilter { pipeline: Some("p7".to_owned()), ..JobFilter::default() };
    timed!("queue: the last 100 jobs of one pipeline", state.jobs(&of_one).await.expect("jobs"));
    let open = JobFilter { states: [JobState::Queued, JobState::Leased].into(), ..JobFilter::default() };
    timed!("queue: 100 unfinished jobs", state.jobs(&open).await.expect("jobs"));
    timed!("daemon: leases that have ended", state.reap(now).await.expect("none"));
    let rules = ClaimRules::of(names.iter().map(String::as_str), LEASE, 10_000);
    let mut claimed = Vec::new();
    timed!("daemon: a claim", claimed.extend(state.claim("bench", &rules, now).await.expect("a claim")));
    timed!("daemon: a claim where the pipeline of 5,000 pieces is busy", {
        let job = NewJob::new("p3", &now.timestamp_micros().to_string(), "{}", Class::Repull, now);
        state.enqueue(&[job], now).await.expect("queued");
        let job = state.claim("bench", &rules, now).await.expect("a claim").expect("a job");
        let end = Settled::Done { end: JobEnd::Succeeded, reason: None, run: None };
        state.settle(job.id, job.generation, end, now).await.expect("settled");
    });
    for job in claimed {
        state
            .settle(job.id, job.generation, Settled::Back { reason: "the end".to_owned() }, now)
            .await
            .expect("settled");
    }
}

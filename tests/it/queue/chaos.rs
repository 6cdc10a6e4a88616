//! Three processes on one queue, killed and stopped in the middle of their work: each job ends once, and why it took longer is
//! on record.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use haul::model::job::{Beat, ClaimRules, Class, Job, JobEnd, JobState, NewJob, Settled};
use haul::state::State;
use haul::time::Clock;

/// Where a worker finds its store, its name, and where it writes what it did.
const FOLDER: &str = "HAUL_TEST_QUEUE";
const NAME: &str = "HAUL_TEST_WORKER";

const LEASE: Duration = Duration::from_secs(1);
const PIPELINES: usize = 20;
const JOBS: usize = 200;

/// A worker of the tests below: this same program, begun once more. Without its folder it has nothing to do.
#[tokio::test]
async fn a_worker() {
    let (Ok(folder), Ok(name)) = (std::env::var(FOLDER), std::env::var(NAME)) else { return };
    let folder = PathBuf::from(folder);
    let state = State::open(&folder).await.expect("the store");
    let names: Vec<String> = (0..PIPELINES).map(|n| format!("p{n}")).chain(["slow".to_owned()]).collect();
    let rules = ClaimRules::of(names.iter().map(String::as_str), LEASE, 1);
    while !folder.join("enough").exists() {
        state.reap(Clock::System.now()).await.expect("a look");
        match state.claim(&name, &rules, Clock::System.now()).await.expect("a claim") {
            Some(job) => work(&state, &folder, &name, &job).await,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Works on a job, and writes down what it thinks became of it.
async fn work(state: &State, folder: &Path, name: &str, job: &Job) {
    fs::write(folder.join(format!("has-{}-{}", job.pipeline, job.generation)), name).expect("a mark");
    // The first process that has the slow job keeps it until it is let go; others finish it as any.
    while job.pipeline == "slow" && job.generation == 1 && !folder.join("let-go").exists() {
        let now = Clock::System.now();
        let beat = state.beat(job.id, job.generation, now, now + LEASE).await.expect("a beat");
        if beat == Beat::Lost {
            break;
        }
        tokio::time::sleep(LEASE / 5).await;
    }
    let done = Settled::Done { end: JobEnd::Succeeded, reason: None, run: None };
    let settled = state.settle(job.id, job.generation, done, Clock::System.now()).await.expect("a settlement");
    let line = format!("{} {} {settled}\n", job.id, job.generation);
    let file = fs::OpenOptions::new().create(true).append(true).open(folder.join(format!("did-{name}")));
    std::io::Write::write_all(&mut file.expect("a file"), line.as_bytes()).expect("a line");
}

/// Begins a worker; it ends when the folder has `enough`, or with the test.
fn worker(folder: &Path, name: &str) -> Guarded {
    let this = std::env::current_exe().expect("this program");
    let child = Command::new(this)
        .args(["--exact", "queue::chaos::a_worker", "--nocapture"])
        .env(FOLDER, folder)
        .env(NAME, name)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn();
    Guarded(child.expect("it starts"))
}

struct Guarded(Child);

impl Guarded {
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().expect("kill");
        assert!(sent.success(), "{signal}");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits for something that comes in time.
async fn until(what: &str, mut seen: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !seen().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn asked_for(state: &State, count: usize) -> i64 {
    let now = Clock::System.now();
    let slow = NewJob { priority: 9, ..NewJob::new("slow", "1", "{}", Class::Fresh, now) };
    let jobs =
        (0..count).map(|n| NewJob::new(&format!("p{}", n % PIPELINES), &n.to_string(), "{}", Class::Repull, now));
    let made = state.enqueue(&[slow].into_iter().chain(jobs).collect::<Vec<_>>(), now).await.expect("queued");
    made[0].id
}

async fn ended(state: &State, id: i64) -> Option<Job> {
    state.job(id).await.expect("a look").filter(|job| job.state == JobState::Done)
}

/// What the workers think: each job with the generations that settled it.
fn told(folder: &Path) -> BTreeMap<i64, Vec<(u64, bool)>> {
    let mut told: BTreeMap<i64, Vec<(u64, bool)>> = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("did-")) {
            for line in fs::read_to_string(path).expect("lines").lines() {
                let words: Vec<&str> = line.split(' ').collect();
                let settled = (words[1].parse().expect("a generation"), words[2] == "true");
                told.entry(words[0].parse().expect("a job")).or_default().push(settled);
            }
        }
    }
    told
}

async fn each_ended_once(state: &State, folder: &Path) {
    until("every job ends", async || super::unfinished(state).await.is_empty()).await;
    fs::write(folder.join("enough"), "").expect("a mark");
    let told = told(folder);
    let twice: BTreeSet<_> =
        told.iter().filter(|(_, ends)| ends.iter().filter(|(_, settled)| *settled).count() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let filter = haul::model::job::JobFilter { limit: 10_000, ..Default::default() };
    let jobs = state.jobs(&filter).await.expect("jobs");
    assert_eq!(jobs.len(), JOBS + 1);
    for job in jobs {
        assert_eq!(job.outcome, Some(JobEnd::Succeeded), "{job:?}");
        // What was begun more than once says why.
        let notes = super::notes(state, job.id).await;
        assert_eq!(job.deaths > 0, notes.contains("gave no word until its lease ended"), "{job:?}: {notes}");
        assert_eq!(u64::from(job.deaths) + 1, job.generation, "{job:?}: {notes}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_process_that_is_killed_with_a_job_loses_it_to_another_within_its_lease() {
    let (folder, state) = super::store().await;
    let slow = asked_for(&state, JOBS).await;
    let victim = worker(folder.path(), "victim");
    until("the first has it", async || folder.path().join("has-slow-1").exists()).await;
    let _others = [worker(folder.path(), "two"), worker(folder.path(), "three")];
    victim.signal("-KILL");
    until("another has ended it", async || ended(&state, slow).await.is_some()).await;
    let job = ended(&state, slow).await.expect("it has ended");
    assert_eq!((job.generation, job.deaths), (2, 1));
    assert!(super::notes(&state, slow).await.contains("victim gave no word"), "{job:?}");
    each_ended_once(&state, folder.path()).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_process_that_was_stopped_for_longer_than_its_lease_comes_back_and_is_refused() {
    let (folder, state) = super::store().await;
    let slow = asked_for(&state, JOBS).await;
    let sleeper = worker(folder.path(), "sleeper");
    until("the first has it", async || folder.path().join("has-slow-1").exists()).await;
    sleeper.signal("-STOP");
    let _others = [worker(folder.path(), "two"), worker(folder.path(), "three")];
    until("another has ended it", async || ended(&state, slow).await.is_some()).await;
    let before = ended(&state, slow).await.expect("it has ended");
    sleeper.signal("-CONT");
    until("the first comes back", async || {
        told(folder.path()).get(&slow).is_some_and(|ends| ends.contains(&(1, false)))
    })
    .await;
    let notes = super::notes(&state, slow).await;
    assert!(notes.contains("sleeper gave no word until its lease ended"), "{notes}");
    assert!(notes.contains("came back and settled as succeeded: refused"), "{notes}");
    assert_eq!(ended(&state, slow).await.expect("it has ended"), before, "nothing has changed");
    each_ended_once(&state, folder.path()).await;
}

//! Claims: which job is next. The most urgent class first, but with a floor, so that no class waits for ever.

use std::collections::BTreeMap;

use super::State;
use super::jobs::{Columns, micros, micros_of, rank};
use super::queue::Writing;
use super::sqlite::Store;
use crate::error::Result;
use crate::model::job::{ClaimRules, Class, Job};
use crate::time::Instant;
use chrono::Duration;

/// Where no piece of a backfill is under way, one that has waited so long may take the last free worker.
const LONG_WAIT: Duration = Duration::minutes(10);

impl State {
    /// Takes the next job for this owner, and leases it: none where none may begin now.
    ///
    /// Classes come in their order, within a class the higher priority, then the older job. Of `rules.floor` claims that could
    /// have gone to a less urgent class, one does: to the first job of the one that has waited longest. Of a pipeline no more jobs
    /// are leased at once than its lane says. A piece of a backfill does not take the owner's last free worker, but by its turn of
    /// the floor, or after a long wait, and never so that all of several workers have one.
    pub async fn claim(&self, owner: &str, rules: &ClaimRules, now: Instant) -> Result<Option<Job>> {
        claim(&self.store, owner, rules, now).await
    }
}

/// What is under way.
struct UnderWay {
    /// The pipelines that may have no further run now, as JSON.
    busy: String,
    /// How many jobs this owner has.
    own: u32,
    /// How many pieces of backfills this owner has.
    own_backfills: u32,
}

/// The first job of a class that may begin.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: i64,
    class: Class,
    queued_at: i64,
}

async fn claim(store: &Store, owner: &str, rules: &ClaimRules, now: Instant) -> Result<Option<Job>> {
    let doing = "claiming a job in";
    // Who looks in vain takes no right to write from those who have something to write.
    let (any,): (bool,) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM job WHERE state = 'queued' AND on_hold = 0 AND class IN (0, 1, 2) AND not_before <= $1)",
    )
    .bind(micros(now))
    .fetch_one(store.readers())
    .await
    .map_err(store.fault(doing))?;
    if !any {
        return Ok(None);
    }
    let mut transaction = store.begin(doing).await?;
    let under_way = under_way(store, &mut transaction, owner, rules).await?;
    if under_way.own >= rules.workers {
        return Ok(None);
    }
    let (first, passed_over) = candidates(store, &mut transaction, &under_way.busy, rules, now).await?;
    let Some(chosen) = choose(&first, &under_way, rules, passed_over, now) else { return Ok(None) };
    let waits = first.iter().any(|other| other.class > chosen.class);
    let turn = match first.first() {
        Some(urgent) if chosen.class > urgent.class => 0,
        _ => passed_over + i64::from(waits),
    };
    if turn != passed_over {
        sqlx::query("UPDATE queue_turn SET passed_over = $1")
            .bind(turn)
            .execute(&mut *transaction)
            .await
            .map_err(store.fault(doing))?;
    }
    let row = sqlx::query(
        "UPDATE job SET state = 'leased', owner = $2, generation = generation + 1, attempts = attempts + 1, claimed_at = $3,
                        lease_until = $3 + $4, leased_for = $4, started_at = NULL, cancel_asked = 0
         WHERE id = $1 RETURNING *",
    )
    .bind(chosen.id)
    .bind(owner)
    .bind(micros(now))
    .bind(micros_of(rules.lease))
    .fetch_one(&mut *transaction)
    .await
    .map_err(store.fault(doing))?;
    let job = Columns(&row).job()?;
    store.commit(transaction, doing).await?;
    Ok(Some(job))
}

/// Which of the first jobs of their classes is taken.
fn choose(
    first: &[Candidate],
    under_way: &UnderWay,
    rules: &ClaimRules,
    passed_over: i64,
    now: Instant,
) -> Option<Candidate> {
    let most_urgent = *first.first()?;
    let workers = rules.workers;
    let beside_others = workers == 1 || under_way.own_backfills + 1 < workers;
    let turn = passed_over + 1 >= i64::from(rules.floor.max(1));
    let less_urgent = first.iter().skip(1).filter(|one| one.class != Class::Backfill || beside_others);
    if turn && let Some(other) = less_urgent.min_by_key(|one| (one.queued_at, one.id)) {
        return Some(*other);
    }
    if most_urgent.class != Class::Backfill || workers == 1 || workers - under_way.own >= 2 {
        return Some(most_urgent);
    }
    let waited = micros(now) - most_urgent.queued_at >= LONG_WAIT.num_microseconds().unwrap_or(i64::MAX);
    (under_way.own_backfills == 0 && waited).then_some(most_urgent)
}

async fn under_way(store: &Store, transaction: &mut Writing, owner: &str, rules: &ClaimRules) -> Result<UnderWay> {
    let doing = "claiming a job in";
    let rows = sqlx::query("SELECT pipeline, owner, class FROM job WHERE state = 'leased'")
        .fetch_all(&mut **transaction)
        .await
        .map_err(store.fault(doing))?;
    let mut runs: BTreeMap<String, u32> = BTreeMap::new();
    let (mut own, mut own_backfills) = (0, 0);
    for row in &rows {
        let row = Columns(row);
        *runs.entry(row.get("pipeline")?).or_default() += 1;
        if row.get::<Option<String>>("owner")?.as_deref() == Some(owner) {
            own += 1;
            own_backfills += u32::from(row.get::<i64>("class")? == rank(Class::Backfill));
        }
    }
    let most = |pipeline: &String| rules.pipelines.get(pipeline).map_or(1, |lane| lane.max_runs.max(1));
    let busy: Vec<&String> = runs.iter().filter(|(name, runs)| **runs >= most(name)).map(|(name, _)| name).collect();
    Ok(UnderWay { busy: serde_json::json!(busy).to_string(), own, own_backfills })
}

/// The first jobs of the classes, of those whose pipelines are the rules' and may have another run, the most urgent class first;
/// and how many claims have passed over less urgent jobs since the last that did not.
async fn candidates(
    store: &Store,
    transaction: &mut Writing,
    busy: &str,
    rules: &ClaimRules,
    now: Instant,
) -> Result<(Vec<Candidate>, i64)> {
    let mut left_alone: Vec<String> = Vec::new();
    loop {
        let rows = sqlx::query(CANDIDATES)
            .bind(micros(now))
            .bind(busy)
            .bind(serde_json::json!(left_alone).to_string())
            .fetch_all(&mut **transaction)
            .await
            .map_err(store.fault("claiming a job in"))?;
        let (mut first, mut passed_over, mut foreign) = (Vec::new(), 0, false);
        for row in &rows {
            let row = Columns(row);
            let (id, pipeline): (i64, String) = (row.get("id")?, row.get("pipeline")?);
            if !rules.pipelines.contains_key(&pipeline) {
                // Of a pipeline that is gone, or stands still: it is met once in each claim.
                left_alone.push(pipeline);
                foreign = true;
                continue;
            }
            first.push(Candidate { id, class: row.class()?, queued_at: row.get("since")? });
            passed_over = row.get("passed_over")?;
        }
        if !foreign {
            return Ok((first, passed_over));
        }
    }
}

/// The first job of each class, by the index that only has what waits.
const CANDIDATES: &str = "
    SELECT first.*, max(job.queued_at, job.put_at) AS since, queue_turn.passed_over FROM (
        SELECT * FROM (SELECT id, pipeline, class FROM job
            WHERE state = 'queued' AND on_hold = 0 AND class = 0 AND not_before <= $1
              AND pipeline NOT IN (SELECT value FROM json_each($2)) AND pipeline NOT IN (SELECT value FROM json_each($3))
            ORDER BY priority DESC, id LIMIT 1)
        UNION ALL
        SELECT * FROM (SELECT id, pipeline, class FROM job
            WHERE state = 'queued' AND on_hold = 0 AND class = 1 AND not_before <= $1
              AND pipeline NOT IN (SELECT value FROM json_each($2)) AND pipeline NOT IN (SELECT value FROM json_each($3))
            ORDER BY priority DESC, id LIMIT 1)
        UNION ALL
        SELECT * FROM (SELECT id, pipeline, class FROM job
            WHERE state = 'queued' AND on_hold = 0 AND class = 2 AND not_before <= $1
              AND pipeline NOT IN (SELECT value FROM json_each($2)) AND pipeline NOT IN (SELECT value FROM json_each($3))
            ORDER BY priority DESC, id LIMIT 1)
    ) AS first JOIN job ON job.id = first.id JOIN queue_turn ON queue_turn.one = 1
    ORDER BY first.class";

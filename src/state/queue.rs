//! The life of a job: asked for, leased, beaten for, settled, taken from the dead; one transaction each.
//!
//! The generation of a job grows with every claim. Whoever beats or settles with an older one has lost the job, and hears
//! so; the units that a lost run may still write are fenced by the generations of their own leases.
//!
//! Leases are told by the clock on the wall, which may be moved. Forward: leases end early, and their holders find themselves
//! lost; the work is done once all the same. Back: no lease lasts longer than its own length from now, so that the
//! jobs of the dead come back in time.

use sqlx::{Row, Sqlite, Transaction};

use super::State;
use super::jobs::{Columns, micros, rank};
use super::rows::word;
use super::sqlite::Store;
use crate::error::Result;
use crate::model::job::{Beat, Class, Enqueued, Hold, Job, JobEnd, NewJob, Settled};
use crate::time::Instant;

/// A job whose lease has ended without a word so often is not tried again: it may be what kills its processes.
pub(super) const MOST_DEATHS: u32 = 5;

/// A transaction that writes.
pub(super) type Writing = Transaction<'static, Sqlite>;

impl State {
    /// Asks for jobs, all or none of them; in their order.
    ///
    /// An unfinished job of the same pipeline and key is that job: it gets the more urgent class, the higher priority and
    /// the earlier time of both.
    pub async fn enqueue(&self, jobs: &[NewJob], now: Instant) -> Result<Vec<Enqueued>> {
        let doing = "queueing jobs in";
        let mut transaction = self.store.begin(doing).await?;
        let mut enqueued = Vec::with_capacity(jobs.len());
        for job in jobs {
            enqueued.push(put(&self.store, &mut transaction, job, now).await?);
        }
        self.store.commit(transaction, doing).await?;
        Ok(enqueued)
    }

    /// Tells that the holder lives, and prolongs its lease to `until`.
    pub async fn beat(&self, id: i64, generation: u64, now: Instant, until: Instant) -> Result<Beat> {
        beat(&self.store, id, generation, now, until).await
    }

    /// Tells which run was begun for a leased job. False: the lease was lost, and the run must not go on.
    pub async fn job_started(&self, id: i64, generation: u64, run: &str, now: Instant) -> Result<bool> {
        started(&self.store, id, generation, run, now).await
    }

    /// How who has leased a job with this generation stands to it now: whether what it is about may still be written.
    pub async fn hold(&self, id: i64, generation: u64) -> Result<Hold> {
        let found: Option<(bool,)> =
            sqlx::query_as("SELECT cancel_asked FROM job WHERE id = $1 AND generation = $2 AND state = 'leased'")
                .bind(id)
                .bind(super::rows::count(generation))
                .fetch_optional(self.store.readers())
                .await
                .map_err(self.store.fault("looking after a job in"))?;
        Ok(match found {
            Some((false,)) => Hold::Firm,
            Some((true,)) => Hold::CalledOff,
            None => Hold::Lost,
        })
    }

    /// Lets go of a job. False: the lease was lost, and nothing was changed but a note of that.
    ///
    /// A job that somebody asked to cancel does not wait again: it ends as cancelled.
    pub async fn settle(&self, id: i64, generation: u64, settled: Settled, now: Instant) -> Result<bool> {
        settle(&self.store, id, generation, settled, now).await
    }

    /// Takes the jobs whose leases have ended from their holders: they wait again, or end as failed where that has happened
    /// too often, or as cancelled where somebody asked for it. Returns them as they stand now.
    pub async fn reap(&self, now: Instant) -> Result<Vec<Job>> {
        reap(&self.store, now).await
    }

    /// Cancels a job: at once where it waits, else its holder hears of it at the next beat.
    ///
    /// Returns the job as it stands now; one that has ended is left as it is.
    pub async fn ask_to_cancel(&self, id: i64, by: &str, now: Instant) -> Result<Option<Job>> {
        let doing = "cancelling a job in";
        let mut transaction = self.store.begin(doing).await?;
        cancel(&self.store, &mut transaction, id, by, now).await?;
        let row = sqlx::query("SELECT * FROM job WHERE id = $1").bind(id).fetch_optional(&mut *transaction).await;
        let job = row.map_err(self.store.fault(doing))?.as_ref().map(|row| Columns(row).job()).transpose()?;
        self.store.commit(transaction, doing).await?;
        Ok(job)
    }
}

/// Puts one job into the queue, or finds the one that is the same work.
pub(super) async fn put(store: &Store, transaction: &mut Writing, job: &NewJob, now: Instant) -> Result<Enqueued> {
    let doing = "queueing jobs in";
    let raised: Option<(i64,)> = sqlx::query_as(
        "UPDATE job SET class = min(class, $3), priority = max(priority, $4),
                        not_before = CASE state WHEN 'queued' THEN min(not_before, $5) ELSE not_before END,
                        on_hold = CASE WHEN $3 < class THEN 0 ELSE on_hold END,
                        scheduled_for = coalesce(scheduled_for, $6), backfill = coalesce(backfill, $7)
         WHERE pipeline = $1 AND key = $2 AND state <> 'done' RETURNING id",
    )
    .bind(&job.pipeline)
    .bind(&job.key)
    .bind(rank(job.class))
    .bind(job.priority)
    .bind(micros(job.not_before))
    .bind(job.scheduled_for.map(micros))
    .bind(&job.backfill)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(store.fault(doing))?;
    if let Some((id,)) = raised {
        return Ok(Enqueued { id, new: false });
    }
    let done = sqlx::query(
        "INSERT INTO job (pipeline, key, ask, class, priority, scheduled_for, not_before, backfill, units, state, queued_at, put_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'queued', $10, $10)",
    )
    .bind(&job.pipeline)
    .bind(&job.key)
    .bind(&job.ask)
    .bind(rank(job.class))
    .bind(job.priority)
    .bind(job.scheduled_for.map(micros))
    .bind(micros(job.not_before))
    .bind(&job.backfill)
    .bind(super::rows::count(job.units))
    .bind(micros(now))
    .execute(&mut **transaction)
    .await
    .map_err(store.fault(doing))?;
    Ok(Enqueued { id: done.last_insert_rowid(), new: true })
}

async fn beat(store: &Store, id: i64, generation: u64, now: Instant, until: Instant) -> Result<Beat> {
    let row = sqlx::query(
        "UPDATE job SET lease_until = $4, leased_for = $4 - $3
         WHERE id = $1 AND generation = $2 AND state = 'leased'
         RETURNING cancel_asked, class = $5 AND EXISTS (
             SELECT 1 FROM job AS fresh
             WHERE fresh.state = 'queued' AND fresh.on_hold = 0 AND fresh.class = 0 AND fresh.pipeline = job.pipeline
               AND fresh.not_before <= $3) AS give_way",
    )
    .bind(id)
    .bind(super::rows::count(generation))
    .bind(micros(now))
    .bind(micros(until))
    .bind(rank(Class::Backfill))
    .fetch_optional(store.writer())
    .await
    .map_err(store.fault("prolonging a lease in"))?;
    let Some(row) = row else { return Ok(Beat::Lost) };
    let row = Columns(&row);
    Ok(match (row.get("cancel_asked")?, row.get("give_way")?) {
        (true, _) => Beat::CancelAsked,
        (false, true) => Beat::GiveWay,
        (false, false) => Beat::Alive,
    })
}

async fn started(store: &Store, id: i64, generation: u64, run: &str, now: Instant) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE job SET run = $3, runs = json_insert(runs, '$[#]', $3), started_at = $4
         WHERE id = $1 AND generation = $2 AND state = 'leased'",
    )
    .bind(id)
    .bind(super::rows::count(generation))
    .bind(run)
    .bind(micros(now))
    .execute(store.writer())
    .await
    .map_err(store.fault("writing a job's run to"))?;
    Ok(done.rows_affected() > 0)
}

async fn settle(store: &Store, id: i64, generation: u64, settled: Settled, now: Instant) -> Result<bool> {
    let doing = "settling a job in";
    let mut transaction = store.begin(doing).await?;
    let held = sqlx::query("SELECT cancel_asked FROM job WHERE id = $1 AND generation = $2 AND state = 'leased'")
        .bind(id)
        .bind(super::rows::count(generation))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(store.fault(doing))?;
    let Some(held) = held else {
        let what = match &settled {
            Settled::Done { end, .. } => format!("settled as {}", end.name()),
            Settled::Again { .. } => "wanted to try again".to_owned(),
            Settled::Back { .. } => "gave back".to_owned(),
        };
        let text = format!("a holder whose lease had ended came back and {what}: refused");
        note(store, &mut transaction, id, generation, &text, now).await?;
        store.commit(transaction, doing).await?;
        return Ok(false);
    };
    let cancelled: bool = held.try_get("cancel_asked").map_err(store.fault(doing))?;
    match settled {
        Settled::Done { end, reason, run } => {
            end_job(store, &mut transaction, id, end, reason.as_deref(), run.as_deref(), now).await?;
        }
        Settled::Again { reason, .. } | Settled::Back { reason } if cancelled => {
            let end = JobEnd::Cancelled;
            end_job(store, &mut transaction, id, end, Some(&format!("cancelled; before that: {reason}")), None, now)
                .await?;
        }
        Settled::Again { not_before, reason } => {
            wait_again(store, &mut transaction, id, not_before, &reason, 0, now).await?;
            note(store, &mut transaction, id, generation, &reason, now).await?;
        }
        Settled::Back { reason } => {
            wait_again(store, &mut transaction, id, now, &reason, 1, now).await?;
            note(store, &mut transaction, id, generation, &reason, now).await?;
        }
    }
    store.commit(transaction, doing).await?;
    Ok(true)
}

/// Puts a job back into the queue; `undone` attempts do not count.
async fn wait_again(
    store: &Store,
    transaction: &mut Writing,
    id: i64,
    not_before: Instant,
    reason: &str,
    undone: i64,
    now: Instant,
) -> Result<()> {
    sqlx::query(
        "UPDATE job SET state = 'queued', not_before = $2, reason = $3, attempts = max(attempts - $4, 0), lease_until = NULL,
                        put_at = $5,
                        on_hold = class = $6 AND coalesce((
                            SELECT min(backfill.state = 'paused') FROM backfill_job
                            JOIN backfill ON backfill.number = backfill_job.backfill AND backfill.state <> 'cancelled'
                            WHERE backfill_job.job = job.id), 0)
         WHERE id = $1",
    )
    .bind(id)
    .bind(micros(not_before))
    .bind(reason)
    .bind(undone)
    .bind(micros(now))
    .bind(rank(Class::Backfill))
    .execute(&mut **transaction)
    .await
    .map_err(store.fault("putting a job back into the queue of"))?;
    Ok(())
}

/// Ends a job, and the backfills that it was the last piece of.
pub(super) async fn end_job(
    store: &Store,
    transaction: &mut Writing,
    id: i64,
    end: JobEnd,
    reason: Option<&str>,
    run: Option<&str>,
    now: Instant,
) -> Result<()> {
    let doing = "ending a job in";
    let row = sqlx::query(
        "UPDATE job SET state = 'done', on_hold = 0, outcome = $2, reason = $3, run = coalesce($4, run), finished_at = $5,
                        lease_until = NULL
         WHERE id = $1 RETURNING EXISTS (SELECT 1 FROM backfill_job WHERE job = $1) AS is_piece",
    )
    .bind(id)
    .bind(word(end))
    .bind(reason)
    .bind(run)
    .bind(micros(now))
    .fetch_one(&mut **transaction)
    .await
    .map_err(store.fault(doing))?;
    if !Columns(&row).get::<bool>("is_piece")? {
        return Ok(());
    }
    // Pieces end in their order: one that has not is found at once from the other end, and not behind thousands that have.
    sqlx::query(
        "UPDATE backfill SET state = CASE state WHEN 'cancelled' THEN state ELSE 'done' END, finished_at = $2
         WHERE number IN (SELECT backfill FROM backfill_job WHERE job = $1) AND finished_at IS NULL AND (
             SELECT job.id FROM backfill_job CROSS JOIN job ON job.id = backfill_job.job
             WHERE backfill_job.backfill = backfill.number AND job.state <> 'done'
             ORDER BY backfill_job.job DESC LIMIT 1) IS NULL",
    )
    .bind(id)
    .bind(micros(now))
    .execute(&mut **transaction)
    .await
    .map_err(store.fault(doing))?;
    Ok(())
}

/// Cancels one job that has not ended.
pub(super) async fn cancel(store: &Store, transaction: &mut Writing, id: i64, by: &str, now: Instant) -> Result<()> {
    let doing = "cancelling a job in";
    let row = sqlx::query("SELECT state, generation FROM job WHERE id = $1 AND state <> 'done'")
        .bind(id)
        .fetch_optional(&mut **transaction)
        .await
        .map_err(store.fault(doing))?;
    let Some(row) = row else { return Ok(()) };
    let (state, generation) = (Columns(&row).get::<String>("state")?, Columns(&row).number("generation")?);
    if state == "queued" {
        end_job(store, transaction, id, JobEnd::Cancelled, Some(&format!("cancelled by {by}")), None, now).await?;
    } else {
        sqlx::query("UPDATE job SET cancel_asked = 1 WHERE id = $1")
            .bind(id)
            .execute(&mut **transaction)
            .await
            .map_err(store.fault(doing))?;
    }
    note(store, transaction, id, generation, &format!("{by} asked to cancel it"), now).await
}

async fn reap(store: &Store, now: Instant) -> Result<Vec<Job>> {
    let doing = "taking jobs from the dead in";
    let (any,): (bool,) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM job WHERE state = 'leased' AND (lease_until < $1 OR lease_until > $1 + leased_for))
             OR EXISTS (SELECT 1 FROM job WHERE state = 'queued' AND put_at > $1)",
    )
    .bind(micros(now))
    .fetch_one(store.readers())
    .await
    .map_err(store.fault(doing))?;
    if !any {
        return Ok(Vec::new());
    }
    let mut transaction = store.begin(doing).await?;
    set_right(store, &mut transaction, now).await?;
    let ended = sqlx::query("SELECT * FROM job WHERE state = 'leased' AND lease_until < $1 ORDER BY id")
        .bind(micros(now))
        .fetch_all(&mut *transaction)
        .await
        .map_err(store.fault(doing))?;
    let mut reaped = Vec::with_capacity(ended.len());
    for row in &ended {
        let job = Columns(row).job()?;
        take_back(store, &mut transaction, &job, now).await?;
        let row = sqlx::query("SELECT * FROM job WHERE id = $1").bind(job.id).fetch_one(&mut *transaction).await;
        reaped.push(Columns(&row.map_err(store.fault(doing))?).job()?);
    }
    store.commit(transaction, doing).await?;
    Ok(reaped)
}

/// Takes one job from a holder that did not beat in time.
async fn take_back(store: &Store, transaction: &mut Writing, job: &Job, now: Instant) -> Result<()> {
    let (owner, deaths) = (job.owner.as_deref().unwrap_or("nobody"), job.deaths + 1);
    let until = job.lease_until.map(|until| until.format("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default();
    let text = format!("{owner} gave no word until its lease ended at {until}");
    sqlx::query("UPDATE job SET deaths = $2 WHERE id = $1")
        .bind(job.id)
        .bind(deaths)
        .execute(&mut **transaction)
        .await
        .map_err(store.fault("taking jobs from the dead in"))?;
    note(store, transaction, job.id, job.generation, &text, now).await?;
    if job.cancel_asked {
        let reason = format!("cancelled; {text}");
        return end_job(store, transaction, job.id, JobEnd::Cancelled, Some(&reason), None, now).await;
    }
    if deaths >= MOST_DEATHS {
        let reason = format!("its process died {deaths} times: {text}");
        return end_job(store, transaction, job.id, JobEnd::Failed, Some(&reason), None, now).await;
    }
    wait_again(store, transaction, job.id, now, &text, 0, now).await
}

/// Where the clock was put back: no lease lasts longer than its length from now, and no pause than it was meant to.
async fn set_right(store: &Store, transaction: &mut Writing, now: Instant) -> Result<()> {
    let doing = "setting the times of jobs right in";
    let leases =
        "UPDATE job SET lease_until = $1 + leased_for WHERE state = 'leased' AND lease_until > $1 + leased_for";
    let pauses = "UPDATE job SET not_before = $1 + max(0, not_before - put_at), put_at = $1
                  WHERE state = 'queued' AND put_at > $1";
    for statement in [leases, pauses] {
        let done = sqlx::query(statement).bind(micros(now)).execute(&mut **transaction).await;
        done.map_err(store.fault(doing))?;
    }
    Ok(())
}

/// Writes down something that happened to a job besides its plain life.
pub(super) async fn note(
    store: &Store,
    transaction: &mut Writing,
    id: i64,
    generation: u64,
    text: &str,
    now: Instant,
) -> Result<()> {
    sqlx::query("INSERT INTO job_note (job, at, generation, note) VALUES ($1, $2, $3, $4)")
        .bind(id)
        .bind(micros(now))
        .bind(super::rows::count(generation))
        .bind(text)
        .execute(&mut **transaction)
        .await
        .map_err(store.fault("writing a note of a job to"))?;
    Ok(())
}

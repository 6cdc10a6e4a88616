//! Incidents in the file: what is wrong is compared with what is known to be wrong, in one transaction.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, SqliteConnection};

use super::ledger::units_at;
use super::rows::{Reading, instant};
use super::sqlite::Store;
use crate::error::{Error, Kind, Result};
use crate::model::incident::{Content, Finding, Incident};
use crate::model::ledger::UnitRecord;
use crate::model::name::TableName;
use crate::model::notify::Topic;
use crate::model::run::RunRecord;
use crate::time::{Instant, UnitKey};

/// A job that is tried again within so long is not given up.
const SOON: chrono::Duration = chrono::Duration::minutes(30);

/// What somebody who judges wants to know besides what is always told.
#[derive(Debug, Clone, Default)]
pub struct FactsAsk {
    /// These units of these tables.
    pub units: Vec<(TableName, UnitKey)>,
    /// The newest evidence of these keys.
    pub keys: Vec<String>,
    /// When these whole tables were brought up to date, and their pipelines succeeded.
    pub whole: Vec<(TableName, String)>,
}

/// How things stand, all at the same moment.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The incidents that are open.
    pub open: Vec<Incident>,
    /// The units that are not loaded, in the order of tables and units.
    pub troubles: Vec<UnitRecord>,
    /// The units that were asked for, where the ledger knows them.
    pub units: HashMap<(TableName, UnitKey), UnitRecord>,
    /// When the last pull of whole tables ended that was not in vain.
    pub pulled: HashMap<TableName, Instant>,
    /// When the last run of their pipelines succeeded.
    pub succeeded: HashMap<String, Instant>,
    /// The newest evidence of the keys that were asked for, of incidents that are over too.
    pub evidence: HashMap<String, Instant>,
    /// The pipelines that could not begin, with why and when.
    pub obstacles: Vec<(String, String, Instant)>,
    /// The pipelines whose failed job is going to be tried again within half an hour.
    pub retried: HashSet<String>,
    /// Words that were kept under their names.
    pub marks: BTreeMap<String, String>,
}

/// What becomes of incidents and messages.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// New incidents with the channels that are told.
    pub opened: Vec<(Finding, Vec<String>)>,
    /// Incidents that go on, as they are now.
    pub changed: Vec<Incident>,
    /// Incidents that are over, with the evidence of it.
    pub closed: Vec<(i64, Instant)>,
    /// Incidents that are over as soon as they are told.
    pub passing: Vec<(Finding, Vec<String>)>,
    /// Messages by channel.
    pub messages: Vec<(String, Content)>,
    /// Words to keep under their names.
    pub marks: Vec<(String, String)>,
}

/// Reads how things stand, lets `judge` say what follows, and writes that, all in one transaction.
///
/// Returns how many messages wait that did not before.
pub(super) async fn judge(
    store: &Store,
    ask: &FactsAsk,
    now: Instant,
    judge: impl FnOnce(Facts) -> Result<Judged>,
) -> Result<usize> {
    let doing = "comparing what is wrong with";
    let mut transaction = store.begin(doing).await?;
    let facts = facts(store, &mut transaction, ask, now).await?;
    let judged = judge(facts)?;
    for (passing, found) in
        judged.opened.iter().map(|one| (false, one)).chain(judged.passing.iter().map(|one| (true, one)))
    {
        open(store, &mut transaction, found, passing.then_some(now), now).await?;
    }
    for incident in &judged.changed {
        change(store, &mut transaction, incident).await?;
    }
    for (id, evidence) in &judged.closed {
        sqlx::query("UPDATE incident SET closed_at = $2, evidence = max(evidence, $3) WHERE id = $1")
            .bind(id)
            .bind(instant(now))
            .bind(instant(*evidence))
            .execute(&mut *transaction)
            .await
            .map_err(store.fault(doing))?;
    }
    for (channel, content) in &judged.messages {
        super::messages::put(store, &mut transaction, channel, content, now).await?;
    }
    for (name, value) in &judged.marks {
        sqlx::query("INSERT OR REPLACE INTO mark (name, value) VALUES ($1, $2)")
            .bind(name)
            .bind(value)
            .execute(&mut *transaction)
            .await
            .map_err(store.fault(doing))?;
    }
    store.commit(transaction, doing).await?;
    Ok(judged.messages.len())
}

async fn facts(store: &Store, connection: &mut SqliteConnection, ask: &FactsAsk, now: Instant) -> Result<Facts> {
    let doing = "reading how things stand in";
    let open = open_in(store, &mut *connection).await?;
    let rows = sqlx::query("SELECT * FROM unit WHERE state <> 'loaded' ORDER BY state, table_name, unit")
        .fetch_all(&mut *connection)
        .await
        .map_err(store.fault(doing))?;
    let troubles = rows.iter().map(|row| Reading(row).record()).collect::<Result<_>>()?;
    let units = units_at(store, &mut *connection, &ask.units).await?;
    let rows = sqlx::query(
        "SELECT key, max(evidence) AS evidence FROM incident
         WHERE key IN (SELECT value FROM json_each($1)) GROUP BY key",
    )
    .bind(serde_json::json!(ask.keys).to_string())
    .fetch_all(&mut *connection)
    .await
    .map_err(store.fault(doing))?;
    let mut evidence = HashMap::new();
    for row in &rows {
        evidence.insert(Reading(row).text("key")?, Reading(row).instant("evidence")?);
    }
    let rows = sqlx::query(
        "SELECT * FROM obstacle WHERE NOT EXISTS
             (SELECT 1 FROM run WHERE run.pipeline = obstacle.pipeline AND run.started_at > obstacle.at)",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(store.fault(doing))?;
    let obstacle = |row: &SqliteRow| {
        let row = Reading(row);
        Ok((row.text("pipeline")?, row.text("reason")?, row.instant("at")?))
    };
    let obstacles = rows.iter().map(obstacle).collect::<Result<_>>()?;
    let marks = marks(store, &mut *connection).await?;
    let mut facts = Facts { open, troubles, units, evidence, obstacles, marks, ..Facts::default() };
    let retried: Vec<(String,)> = sqlx::query_as(
        "SELECT DISTINCT pipeline FROM job WHERE state = 'queued' AND attempts > 0 AND not_before <= $1",
    )
    .bind((now + SOON).timestamp_micros())
    .fetch_all(&mut *connection)
    .await
    .map_err(store.fault(doing))?;
    facts.retried.extend(retried.into_iter().map(|(pipeline,)| pipeline));
    for (table, pipeline) in &ask.whole {
        let row = sqlx::query(
            "SELECT (SELECT max(finished_at) FROM pull WHERE table_name = $1 AND unit = $2
                         AND outcome IN ('loaded', 'unchanged', 'approved')) AS pulled,
                    (SELECT max(finished_at) FROM run WHERE pipeline = $3 AND status = 'succeeded') AS succeeded",
        )
        .bind(table.to_string())
        .bind(UnitKey::whole().as_str())
        .bind(pipeline)
        .fetch_one(&mut *connection)
        .await
        .map_err(store.fault(doing))?;
        let row = Reading(&row);
        facts.pulled.extend(row.maybe_instant("pulled")?.map(|at| (table.clone(), at)));
        facts.succeeded.extend(row.maybe_instant("succeeded")?.map(|at| (pipeline.clone(), at)));
    }
    Ok(facts)
}

/// The words that were kept.
pub(super) async fn marks<'e>(
    store: &Store,
    executor: impl sqlx::Executor<'e, Database = Sqlite>,
) -> Result<BTreeMap<String, String>> {
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT name, value FROM mark")
        .fetch_all(executor)
        .await
        .map_err(store.fault("reading marks in"))?;
    Ok(rows.into_iter().collect())
}

async fn open(
    store: &Store,
    connection: &mut SqliteConnection,
    (finding, channels): &(Finding, Vec<String>),
    closed_at: Option<Instant>,
    now: Instant,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO incident (key, topic, pipeline, subject, units, reason, causes, evidence, opened_at, closed_at,
                               channels)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(&finding.key)
    .bind(finding.topic.name())
    .bind(&finding.pipeline)
    .bind(&finding.subject)
    .bind(list(&finding.units))
    .bind(&finding.reason)
    .bind(list(&finding.causes))
    .bind(instant(finding.evidence))
    .bind(instant(now))
    .bind(closed_at.map(instant))
    .bind(list(channels))
    .execute(connection)
    .await
    .map_err(store.fault("opening an incident in"))?;
    Ok(())
}

async fn change(store: &Store, connection: &mut SqliteConnection, incident: &Incident) -> Result<()> {
    sqlx::query("UPDATE incident SET units = $2, reason = $3, causes = $4, evidence = $5, channels = $6 WHERE id = $1")
        .bind(incident.id)
        .bind(list(&incident.units))
        .bind(&incident.reason)
        .bind(list(&incident.causes))
        .bind(instant(incident.evidence))
        .bind(list(&incident.channels))
        .execute(connection)
        .await
        .map_err(store.fault("writing an incident to"))?;
    Ok(())
}

/// The incidents that are open, the oldest first.
pub(super) async fn open_now(store: &Store) -> Result<Vec<Incident>> {
    open_in(store, store.readers()).await
}

async fn open_in<'e>(store: &Store, executor: impl sqlx::Executor<'e, Database = Sqlite>) -> Result<Vec<Incident>> {
    sqlx::query("SELECT * FROM incident WHERE closed_at IS NULL ORDER BY id")
        .fetch_all(executor)
        .await
        .map_err(store.fault("reading incidents in"))?
        .iter()
        .map(incident)
        .collect()
}

/// The last incidents, newest first; only those that were seen before one, where it is named.
pub(super) async fn last(store: &Store, open: bool, before: Option<i64>, limit: u32) -> Result<Vec<Incident>> {
    let which = if open { "closed_at IS NULL" } else { "1" };
    let statement = format!("SELECT * FROM incident WHERE {which} AND id < $2 ORDER BY id DESC LIMIT $1");
    // One of two statements of our own; all values are bound.
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(limit)
        .bind(before.unwrap_or(i64::MAX))
        .fetch_all(store.readers())
        .await
        .map_err(store.fault("reading incidents in"))?
        .iter()
        .map(incident)
        .collect()
}

/// Keeps why a pipeline could not begin.
pub(super) async fn note_obstacle(store: &Store, pipeline: &str, reason: &str, now: Instant) -> Result<()> {
    let doing = "noting an obstacle in";
    let mut transaction = store.begin(doing).await?;
    sqlx::query("INSERT OR REPLACE INTO obstacle (pipeline, reason, at) VALUES ($1, $2, $3)")
        .bind(pipeline)
        .bind(reason)
        .bind(instant(now))
        .execute(&mut *transaction)
        .await
        .map_err(store.fault(doing))?;
    store.commit(transaction, doing).await
}

/// Notes as obstacles why jobs failed that came to no run, since an instant: the newest of each pipeline.
pub(super) async fn note_vain_jobs(store: &Store, since: Instant) -> Result<()> {
    let doing = "looking for jobs that came to nothing in";
    let vain: Vec<(String, Option<String>, i64)> = sqlx::query_as(
        "SELECT pipeline, reason, finished_at FROM job
         WHERE outcome = 'failed' AND run IS NULL AND finished_at >= $1
           AND NOT EXISTS (SELECT 1 FROM obstacle WHERE obstacle.pipeline = job.pipeline AND obstacle.at >= $2)
         ORDER BY finished_at",
    )
    .bind(since.timestamp_micros())
    .bind(instant(since))
    .fetch_all(store.readers())
    .await
    .map_err(store.fault(doing))?;
    for (pipeline, reason, at) in vain {
        let at = Instant::from_timestamp_micros(at).unwrap_or(since);
        note_obstacle(store, &pipeline, &reason.unwrap_or_else(|| "its job failed".to_owned()), at).await?;
    }
    Ok(())
}

/// The runs that ended at or after an instant, in the order in which they ended.
pub(super) async fn runs_ended(store: &Store, since: Instant) -> Result<Vec<RunRecord>> {
    sqlx::query(
        "SELECT *, (SELECT sum(billed) FROM cost WHERE cost.run = run.id) AS billed_bytes
         FROM run WHERE finished_at >= $1 ORDER BY finished_at, seq",
    )
    .bind(instant(since))
    .fetch_all(store.readers())
    .await
    .map_err(store.fault("listing the runs in"))?
    .iter()
    .map(|row| Reading(row).run())
    .collect()
}

fn list(items: &[String]) -> String {
    serde_json::json!(items).to_string()
}

fn incident(row: &SqliteRow) -> Result<Incident> {
    let reading = Reading(row);
    let items = |column: &str| -> Result<Vec<String>> {
        serde_json::from_str(&reading.text(column)?).map_err(|error| unreadable(column).because(error))
    };
    let topic = reading.text("topic")?;
    Ok(Incident {
        id: row.try_get("id").map_err(|error| unreadable("id").because(error))?,
        key: reading.text("key")?,
        topic: Topic::stored(&topic).ok_or_else(|| unreadable("topic"))?,
        pipeline: row.try_get("pipeline").map_err(|error| unreadable("pipeline").because(error))?,
        subject: reading.text("subject")?,
        units: items("units")?,
        reason: reading.text("reason")?,
        causes: items("causes")?,
        evidence: reading.instant("evidence")?,
        opened_at: reading.instant("opened_at")?,
        told_at: reading.maybe_instant("told_at")?,
        closed_at: reading.maybe_instant("closed_at")?,
        channels: items("channels")?,
    })
}

pub(super) fn unreadable(column: &str) -> Error {
    Error::new(Kind::Storage, format!("reading `{column}` of what is told in the state file"))
}

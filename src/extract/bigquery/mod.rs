//! Event tables on BigQuery: shards and tables are listed without a query, anything else is a query job.
//!
//! A table tells for nothing when it last changed (tables.get), so that a day that is as it was is not read again. Its rows are
//! listed page by page (tabledata.list), which costs nothing either; the service holds on to the version of a listing by its
//! page tokens, and those are what the journal keeps.

mod ask;
mod pull;
mod shard;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use self::ask::Ask;
use self::shard::Found;
use super::table::{TableAsk, TimeRange};
use super::{Failure, Probe, Progress, Pull, Pulled, Sink};
use crate::bigquery::{BigQuery, Caller, Query, QueryJob, Rows, Schema, Table, TableId};
use crate::error::Result;
use crate::model::cost::{Billing, JobKind, Price, Prices, Quote};
use crate::model::hook::RetryPolicy;
use crate::model::source::ProbeRule;

/// A price is asked for so often; the plan goes on without one.
const PRICE_ATTEMPTS: u32 = 2;

/// What a step asks BigQuery for, rendered for a unit or a window.
pub struct BigQueryPull {
    client: BigQuery,
    ask: Ask,
    range: Option<TimeRange>,
    changed_column: Option<String>,
    rule: ProbeRule,
    jobs: Jobs,
    seen: Mutex<Option<Seen>>,
}

/// How the query jobs of a pull are named and limited.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    /// What their names begin with, in letters, digits, `_` and `-`: under one name, one statement is one job.
    pub name: String,
    /// Labels, which bills and job lists show.
    pub labels: BTreeMap<String, String>,
    /// The most that one may be billed for, and who is told what it was.
    pub billing: Billing,
}

/// What is sent for a step, for people; nothing is opened.
///
/// # Errors
/// A text that names no table.
pub fn lines(ask: &TableAsk, project: &str) -> Result<Vec<String>> {
    Ok(ask::lines(&Ask::of(ask, project)?, ask.range.as_ref()))
}

/// What is known of the source before its rows are read.
#[derive(Clone)]
enum Seen {
    /// Rows that are listed.
    Listed { rows: Rows, schema: Schema, version: Option<String> },
    /// A statement that is run.
    Asked { sql: String, version: Option<String> },
}

impl BigQueryPull {
    /// A pull that has not looked at anything yet.
    ///
    /// # Errors
    /// A text that names no table.
    pub fn new(client: BigQuery, ask: TableAsk, jobs: Jobs) -> Result<Self> {
        Ok(Self {
            ask: Ask::of(&ask, client.project())?,
            client,
            range: ask.range,
            changed_column: ask.changed_column,
            rule: ask.probe,
            jobs,
            seen: Mutex::default(),
        })
    }

    /// Forgets what was seen, since it has moved meanwhile.
    async fn forget(&self) {
        *self.seen.lock().await = None;
    }

    /// Looks at the source, once. The inner error says why the unit is late.
    async fn look(&self, caller: &Caller<'_>) -> Result<Result<Seen, String>> {
        let mut seen = self.seen.lock().await;
        if let Some(seen) = &*seen {
            return Ok(Ok(seen.clone()));
        }
        let looked = match &self.ask {
            Ask::Shard { daily, intraday } => {
                match shard::find(&self.client, daily, intraday.as_ref(), caller).await? {
                    Found::Table(id, table) => self.of_table(&id, &table)?,
                    Found::Late(reason) => return Ok(Err(reason)),
                }
            }
            Ask::Table(id) => match self.client.table(id, caller).await {
                Ok(table) => self.of_table(id, &table)?,
                Err(refused) => return Err(shard::not_there(&self.client, id, refused, caller).await),
            },
            Ask::Query(sql) => Seen::Asked { sql: self.of_query(sql, caller).await?, version: None },
        };
        *seen = Some(looked.clone());
        Ok(Ok(looked))
    }

    /// A table that is listed, or asked by a query where only some rows are wanted or where it stores none itself.
    fn of_table(&self, id: &TableId, table: &Table) -> Result<Seen> {
        let version = version(id, table);
        // What is listed has all columns: haul's own have to be left out by a query.
        let own = table.schema.fields.iter().any(|field| super::table::is_own(&field.name));
        if self.range.is_none() && table.is_stored() && !own {
            return Ok(Seen::Listed { rows: Rows::Table(id.clone()), schema: table.schema.clone(), version });
        }
        Ok(Seen::Asked { sql: ask::of_table(id, &table.schema, self.range.as_ref())?, version })
    }

    async fn of_query(&self, sql: &str, caller: &Caller<'_>) -> Result<String> {
        let Some(range) = &self.range else { return Ok(sql.to_owned()) };
        let query = self.job_of(sql);
        let schema = self.client.plan(&query, caller).await.map_err(|refused| ask::beside(refused, sql))?;
        ask::of_query(sql, &schema, range)
    }

    /// A statement under the name that its text gives it.
    fn job_of(&self, sql: &str) -> Query {
        Query {
            id: format!("{}_{:032x}", self.jobs.name, xxhash_rust::xxh3::xxh3_128(sql.as_bytes())),
            sql: sql.to_owned(),
            labels: self.jobs.labels.clone(),
            max_bytes: self.jobs.billing.max_bytes,
        }
    }

    /// Counts the rows of a statement, and finds the largest value of the column that tells of changes.
    async fn count(&self, sql: &str, caller: &Caller<'_>) -> Result<String> {
        let sql = ask::counted(sql, self.changed_column.as_deref());
        let failed = |refused| ask::beside(refused, &sql);
        let job = self.client.query(&self.job_of(&sql), caller).await.map_err(failed)?;
        self.billed(&job, JobKind::Probe, caller).await;
        let rows = Rows::Job(job.clone());
        let page = self.client.page(&rows, &job.schema, None, 1, caller).await.map_err(failed)?;
        Ok(page
            .rows
            .first()
            .map(|row| String::from_utf8_lossy(&page.body[row.clone()]).into_owned())
            .unwrap_or_default())
    }

    /// Tells what a job was billed for. One that does not say it has done its work all the same.
    async fn billed(&self, job: &QueryJob, kind: JobKind, caller: &Caller<'_>) {
        if !self.jobs.billing.receipts.wanted() {
            return;
        }
        match self.client.bill(&job.id, job.location.as_deref(), kind, caller).await {
            Ok(cost) => self.jobs.billing.receipts.add(cost),
            Err(refused) => self.jobs.billing.receipts.miss(&job.id, &refused.error.chain()),
        }
    }

    /// Whether the probe counts rows, by a statement.
    fn counts(&self) -> bool {
        self.rule != ProbeRule::Off && (self.changed_column.is_some() || self.rule == ProbeRule::Count)
    }

    /// What a statement would be billed for.
    async fn price_of(&self, sql: &str, known: &Prices, caller: &Caller<'_>) -> Result<Price> {
        let statement = format!("{} {sql}", self.client.project());
        if let Some(price) = known.get(&statement) {
            return Ok(price);
        }
        let price = self.client.price(sql, caller).await.map_err(|refused| ask::beside(refused, sql))?;
        known.put(statement, price);
        Ok(price)
    }

    async fn quote(&self, known: &Prices, caller: &Caller<'_>) -> Result<Option<Quote>> {
        // The rows of a shard are listed. One that is a view, which nothing tells before its time has come, is held by the
        // limit that its job gets.
        if matches!(self.ask, Ask::Shard { .. }) && self.range.is_none() && !self.counts() {
            return Ok(None);
        }
        let Ok(seen) = self.look(caller).await? else { return Ok(None) };
        let (sql, version) = match &seen {
            Seen::Listed { rows: Rows::Table(id), schema, version } if self.counts() => {
                (ask::of_table(id, schema, None)?, version)
            }
            Seen::Listed { .. } => return Ok(None),
            Seen::Asked { sql, version } => (sql.clone(), version),
        };
        let mut statements = Vec::new();
        if self.counts() {
            statements.push(self.price_of(&ask::counted(&sql, self.changed_column.as_deref()), known, caller).await?);
        }
        if matches!(seen, Seen::Asked { .. }) {
            statements.push(self.price_of(&sql, known, caller).await?);
        }
        let state = version.clone().filter(|_| !self.counts() && self.rule != ProbeRule::Off);
        Ok(Some(Quote::of(&statements, self.client.tariff().clone(), state)))
    }

    async fn state(&self, caller: &Caller<'_>) -> Result<Probe> {
        let seen = match self.look(caller).await? {
            Ok(seen) => seen,
            Err(reason) => return Ok(Probe::Late(reason)),
        };
        let counting = self.counts();
        Ok(match (self.rule, &seen) {
            (ProbeRule::Off, _) => Probe::Unknown,
            (_, Seen::Asked { sql, .. }) if counting => Probe::Is(self.count(sql, caller).await?),
            (_, Seen::Listed { rows: Rows::Table(id), schema, .. }) if counting => {
                Probe::Is(self.count(&ask::of_table(id, schema, None)?, caller).await?)
            }
            (_, Seen::Listed { version, .. } | Seen::Asked { version, .. }) => {
                version.clone().map_or(Probe::Unknown, Probe::Is)
            }
        })
    }
}

/// A table with its state, where it can tell that.
fn version(id: &TableId, table: &Table) -> Option<String> {
    Some(format!("{id}: {}", table.version()?))
}

#[async_trait]
impl Pull for BigQueryPull {
    fn identity(&self) -> String {
        format!("bigquery {} {:?} {:?}", self.client.project(), self.ask, self.range)
    }

    fn place(&self) -> String {
        match &self.ask {
            Ask::Shard { daily: table, .. } | Ask::Table(table) => table.to_string(),
            Ask::Query(_) => format!("a query of the project {}", self.client.project()),
        }
    }

    fn lines(&self) -> Vec<String> {
        ask::lines(&self.ask, self.range.as_ref())
    }

    async fn probe(&self) -> Result<Probe> {
        let (retry, cancel, sent) = (RetryPolicy::default(), CancellationToken::new(), AtomicU64::new(0));
        let caller = Caller {
            retry: &retry,
            cancel: &cancel,
            retrying: &|_, _| {},
            sent: &sent,
            receipts: &self.jobs.billing.receipts,
        };
        self.state(&caller).await
    }

    async fn price(&self, known: &Prices) -> Result<Option<Quote>> {
        let retry = RetryPolicy { max_attempts: PRICE_ATTEMPTS, ..RetryPolicy::default() };
        let (cancel, sent) = (CancellationToken::new(), AtomicU64::new(0));
        let caller = Caller {
            retry: &retry,
            cancel: &cancel,
            retrying: &|_, _| {},
            sent: &sent,
            receipts: &self.jobs.billing.receipts,
        };
        let quote = self.quote(known, &caller).await;
        // What is seen now may be another thing when the rows are read.
        self.forget().await;
        quote
    }

    async fn pages(&self, resume: Progress, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Result<Pulled, Failure> {
        pull::pages(self, resume, sink, cancel).await
    }
}

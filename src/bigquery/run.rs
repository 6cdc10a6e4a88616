//! Jobs of every kind under names of our own: sent once, adopted where they are there already, waited for, cancelled.

use std::collections::BTreeMap;
use std::time::Duration;

use gcp_bigquery_client::model::job::Job;
use gcp_bigquery_client::model::job_configuration::JobConfiguration;
use gcp_bigquery_client::model::job_configuration_query::JobConfigurationQuery;
use gcp_bigquery_client::model::job_configuration_table_copy::JobConfigurationTableCopy;
use gcp_bigquery_client::model::job_reference::JobReference;
use gcp_bigquery_client::model::table_reference::TableReference;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cost::{JobCost, Statistics};
use super::job::label;
use super::refused::{Reason, Why};
use super::{BigQuery, Caller, Refused, TableId};
use crate::error::{Error, Kind, Result};
use crate::model::cost::JobKind;

/// The first pause between two questions for a job; it grows to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two questions for a job.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// How long cancelling a job may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// A job that has its name before it is sent: the same name is the same job, however often it is sent.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// The job's name: letters, digits, `_` and `-`.
    pub id: String,
    /// Labels, which bills and job lists show; brought into the form that BigQuery takes.
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub work: Work,
}

/// What a job does.
#[derive(Debug, Clone)]
pub enum Work {
    /// Runs a statement or a script.
    Statement {
        /// In GoogleSQL.
        sql: String,
        /// It fails without being run where it would be billed for more bytes.
        max_bytes: Option<u64>,
    },
    /// Copies a table or one partition; free of charge.
    Copy {
        /// From here; with a partition's decorator only that partition.
        from: TableId,
        /// Over this table; with a partition's decorator only over that partition.
        to: TableId,
    },
    /// Loads rows from a file or from Google Cloud Storage; free of charge.
    Load(Load),
}

/// A load job's configuration but for where the rows are.
#[derive(Debug, Clone)]
pub struct Load {
    /// The table; with a partition's decorator only that partition.
    pub to: TableId,
    /// The columns, as tables.insert takes them.
    pub fields: Value,
    /// How the table is divided: `timePartitioning`, `clustering`; an object.
    pub layout: Value,
    /// What happens to rows that are there already.
    pub disposition: Disposition,
    /// The objects that have the rows; empty where they are uploaded with the job.
    pub uris: Vec<String>,
}

/// What a job does to rows that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It takes their place.
    Truncate,
    /// It adds to them.
    Append,
    /// It refuses to be the second.
    Empty,
}

/// A job as jobs.get tells of it.
#[derive(Debug, Clone)]
pub struct JobState {
    /// Its name.
    pub id: String,
    /// Where it runs.
    pub location: Option<String>,
    /// Whether it has ended.
    pub done: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it took so far.
    pub cost: JobCost,
    /// The rows that a load job wrote.
    pub rows: Option<u64>,
    /// Whether it loads or copies rows, which is free.
    pub loads: bool,
    error: Option<Reason>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    job_reference: Reference,
    #[serde(default)]
    status: Status,
    #[serde(default)]
    configuration: Configuration,
    #[serde(default)]
    statistics: Statistics,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    #[serde(default)]
    job_id: String,
    #[serde(default)]
    location: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    state: String,
    #[serde(default)]
    error_result: Option<Reason>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    /// `QUERY`, `LOAD`, `COPY` or `EXTRACT`.
    #[serde(default)]
    job_type: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl JobState {
    pub(super) fn read(body: &[u8]) -> Result<Self, Refused> {
        let wire: Wire =
            serde_json::from_slice(body).map_err(|error| Refused::strange("what a job tells of itself", error))?;
        let id = wire.job_reference.job_id;
        Ok(Self {
            cost: wire.statistics.cost(&id),
            rows: wire.statistics.load.output_rows,
            loads: matches!(wire.configuration.job_type.as_str(), "LOAD" | "COPY"),
            location: wire.job_reference.location,
            done: wire.status.state == "DONE",
            labels: wire.configuration.labels,
            error: wire.status.error_result,
            id,
        })
    }

    /// Whether it has ended without having done anything.
    pub fn failed(&self) -> bool {
        self.done && self.error.is_some()
    }

    /// The same job, or why it failed.
    ///
    /// # Errors
    /// What the job says of itself; see [`Refused`].
    pub fn well(self) -> Result<Self, Refused> {
        match &self.error {
            Some(reason) => Err(Refused::job(reason)),
            None => Ok(self),
        }
    }
}

impl Load {
    /// The configuration in the words of the REST reference ("JobConfigurationLoad").
    fn json(&self) -> Value {
        let mut load = json!({
            "destinationTable": reference(&self.to),
            "schema": { "fields": self.fields },
            "sourceFormat": "NEWLINE_DELIMITED_JSON",
            "createDisposition": "CREATE_IF_NEEDED",
            "writeDisposition": match self.disposition {
                Disposition::Truncate => "WRITE_TRUNCATE",
                Disposition::Append => "WRITE_APPEND",
                Disposition::Empty => "WRITE_EMPTY",
            },
            "maxBadRecords": 0,
            "ignoreUnknownValues": false,
        });
        if let (Some(load), Some(layout)) = (load.as_object_mut(), self.layout.as_object()) {
            load.extend(layout.clone());
            if !self.uris.is_empty() {
                load.insert("sourceUris".to_owned(), json!(self.uris));
            }
        }
        load
    }
}

pub(super) fn reference(table: &TableId) -> Value {
    json!({ "projectId": table.project, "datasetId": table.dataset, "tableId": table.table })
}

impl JobRequest {
    fn labels(&self) -> BTreeMap<String, String> {
        self.labels.iter().map(|(name, value)| (label(name), label(value))).collect()
    }
}

impl BigQuery {
    /// Runs a job to its end. One of that name that is there already is waited for instead of being sent a second time.
    ///
    /// # Errors
    /// What the job says of itself; see [`Refused`].
    pub async fn run(&self, job: &JobRequest, caller: &Caller<'_>) -> Result<JobState, Refused> {
        self.settled(job, caller).await?.well()
    }

    /// The same, but a job that failed is told as it is.
    ///
    /// # Errors
    /// A job that cannot be sent or asked for.
    pub async fn settled(&self, job: &JobRequest, caller: &Caller<'_>) -> Result<JobState, Refused> {
        let state = match self.post(caller, &[self.project(), "jobs"], &self.job_json(job)?).await {
            Ok(body) => JobState::read(&body)?,
            Err(refused) if refused.why == Why::Duplicate || refused.broken => {
                // There already; or the answer was lost, and the job may be there all the same.
                match self.job(&job.id, self.location(), caller).await {
                    Ok(Some(state)) => state,
                    Ok(None) | Err(_) => return Err(refused.elsewhere(self.location())),
                }
            }
            Err(refused) => {
                self.unless_wanted(&job.id, &refused).await;
                return Err(refused);
            }
        };
        // The configuration is told by the job itself, whoever sent it.
        if state.done && !state.labels.is_empty() {
            return Ok(self.billed(state, caller));
        }
        self.wait(&job.id, state.location.as_deref(), caller).await
    }

    /// Cancels a job that may have been sent when the wish to stop came.
    pub(super) async fn unless_wanted(&self, id: &str, refused: &Refused) {
        if refused.error.kind() == Kind::Cancelled {
            self.cancel(id, self.location()).await;
        }
    }

    /// A job as the client's models have it.
    fn typed(&self, job: &JobRequest) -> Job {
        let table = |id: &TableId| TableReference::new(&id.project, &id.dataset, &id.table);
        let mut configuration =
            JobConfiguration { labels: Some(job.labels().into_iter().collect()), ..JobConfiguration::default() };
        match &job.work {
            Work::Statement { sql, max_bytes } => {
                configuration.query = Some(JobConfigurationQuery {
                    query: sql.clone(),
                    use_legacy_sql: Some(false),
                    maximum_bytes_billed: max_bytes.map(|bytes| bytes.to_string()),
                    ..JobConfigurationQuery::default()
                });
            }
            Work::Copy { from, to } => {
                configuration.copy = Some(JobConfigurationTableCopy {
                    source_table: Some(table(from)),
                    destination_table: Some(table(to)),
                    create_disposition: Some("CREATE_IF_NEEDED".to_owned()),
                    write_disposition: Some("WRITE_TRUNCATE".to_owned()),
                    ..JobConfigurationTableCopy::default()
                });
            }
            Work::Load(_) => {}
        }
        Job {
            job_reference: Some(JobReference {
                job_id: Some(job.id.clone()),
                location: self.location().map(str::to_owned),
                project_id: Some(self.project().to_owned()),
            }),
            configuration: Some(configuration),
            ..Job::default()
        }
    }

    /// A job in the words of the REST reference: the client's models, and what they do not know, the digits of a column and
    /// newer types.
    pub(super) fn job_json(&self, job: &JobRequest) -> Result<Value, Refused> {
        let mut body =
            serde_json::to_value(self.typed(job)).map_err(|error| Refused::strange("writing a job", error))?;
        if let Work::Load(load) = &job.work {
            body["configuration"]["load"] = load.json();
        }
        Ok(body)
    }

    /// What a job tells of itself (jobs.get); none where there is none of that name.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn job(
        &self,
        id: &str,
        location: Option<&str>,
        caller: &Caller<'_>,
    ) -> Result<Option<JobState>, Refused> {
        let query: Vec<_> = location.map(|location| ("location", location.to_owned())).into_iter().collect();
        match self.get(caller, &[self.project(), "jobs", id], &query).await {
            Ok(body) => JobState::read(&body).map(Some),
            Err(refused) if refused.why == Why::NotFound => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// Waits until a job has ended, well or not. Whoever cancels the caller cancels the job.
    ///
    /// # Errors
    /// A job that is not there, that is cancelled, or that nobody tells of; see [`Refused`].
    pub async fn wait(&self, id: &str, location: Option<&str>, caller: &Caller<'_>) -> Result<JobState, Refused> {
        let mut pause = SHORTEST_PAUSE;
        let mut waited = Duration::ZERO;
        let most = self.inner.settings.job_timeout;
        loop {
            let state = match self.job(id, location, caller).await {
                Ok(Some(state)) => state,
                Ok(None) => {
                    let error = Error::new(Kind::Source, format!("the job {id} is not there any more"));
                    return Err(Refused { why: Why::NotFound, ..error.into() });
                }
                Err(refused) => {
                    if refused.error.kind() == Kind::Cancelled {
                        self.cancel(id, location).await;
                    }
                    return Err(refused);
                }
            };
            if state.done {
                return Ok(self.billed(state, caller));
            }
            if waited >= most {
                self.cancel(id, location).await;
                let text = format!("the job {id} has not ended within {} s and was cancelled", most.as_secs());
                return Err(Error::new(Kind::Warehouse, text)
                    .hint("`job_timeout` of the connection is the longest wait")
                    .into());
            }
            tokio::select! {
                biased;
                () = caller.cancel.cancelled() => {
                    self.cancel(id, location).await;
                    return Err(Error::new(Kind::Cancelled, "stopped").into());
                }
                () = tokio::time::sleep(pause) => {}
            }
            waited += pause;
            pause = pause.mul_f64(1.6).min(LONGEST_PAUSE);
        }
    }

    /// A job at its end, of which the caller has its bill; what failed is not billed.
    pub(super) fn billed(&self, state: JobState, caller: &Caller<'_>) -> JobState {
        if !state.failed() {
            let kind = if state.loads { JobKind::Load } else { JobKind::Query };
            caller.receipts.add(self.bill_of(state.cost.clone(), kind));
        }
        state
    }

    /// Cancels a job that nobody waits for any more (jobs.cancel), as well as that goes.
    pub(super) async fn cancel(&self, id: &str, location: Option<&str>) {
        let cancelled = self.google().job().cancel_job(self.project(), id, location);
        let _ = tokio::time::timeout(FAREWELL, cancelled).await;
    }
}

//! Query jobs under names of our own: sent once, found again where an answer was lost, cancelled when nobody waits any more.

use std::collections::BTreeMap;
use std::time::Duration;

use gcp_bigquery_client::model::job::Job;
use gcp_bigquery_client::model::job_configuration::JobConfiguration;
use gcp_bigquery_client::model::job_configuration_query::JobConfigurationQuery;
use gcp_bigquery_client::model::job_reference::JobReference;
use serde::Deserialize;

use super::refused::{Reason, Why};
use super::table::whole;
use super::{BigQuery, Caller, Refused, Schema};
use crate::error::{Error, Kind, Result};

/// How long the service may hold back an answer while a job runs.
const HOLD: Duration = Duration::from_secs(20);

/// The pause between two questions for a job that runs.
const PAUSE: Duration = Duration::from_millis(200);

/// Names and values of labels are not longer.
const LONGEST_LABEL: usize = 63;

/// A statement to be run.
#[derive(Debug, Clone)]
pub struct Query {
    /// The job's name: letters, digits, `_` and `-`. The same name is the same job, however often it is sent.
    pub id: String,
    /// The statement, in GoogleSQL.
    pub sql: String,
    /// Labels, which bills and job lists show; brought into the form that BigQuery takes.
    pub labels: BTreeMap<String, String>,
    /// The statement fails without being run where it would read more bytes.
    pub max_bytes: Option<u64>,
}

/// A job whose result is there.
#[derive(Debug, Clone)]
pub struct QueryJob {
    /// Its name.
    pub id: String,
    /// Where it ran.
    pub location: Option<String>,
    /// The columns of its result.
    pub schema: Schema,
    /// The rows of its result.
    pub total: Option<u64>,
}

/// What is wanted of jobs.get.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    #[serde(default)]
    status: Status,
    #[serde(default)]
    job_reference: Reference,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    error_result: Option<Reason>,
}

#[derive(Default, Deserialize)]
struct Reference {
    #[serde(default)]
    location: Option<String>,
}

/// What is wanted of jobs.getQueryResults before there are rows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Results {
    #[serde(default)]
    job_complete: bool,
    #[serde(default)]
    schema: Schema,
    #[serde(default, deserialize_with = "whole")]
    total_rows: Option<u64>,
}

impl BigQuery {
    /// Runs a statement and waits for its result.
    ///
    /// A job of that name that is there already is waited for instead of being sent a second time. One that failed for a reason
    /// that passes is sent again under a further name. Whoever cancels the caller cancels the job.
    ///
    /// # Errors
    /// [`Why::Query`] for a wrong or too expensive statement; see [`Refused`].
    pub async fn query(&self, query: &Query, caller: &Caller<'_>) -> Result<QueryJob, Refused> {
        let mut attempt = 1;
        loop {
            let id = if attempt == 1 { query.id.clone() } else { format!("{}_{attempt}", query.id) };
            let refused = match self.begin(&id, query, caller).await {
                Ok(location) => match self.result(&id, location.as_deref(), caller).await {
                    Ok(job) => return Ok(job),
                    Err(refused) => refused,
                },
                Err(refused) => return Err(refused),
            };
            // What is broken has been tried often enough; what a job says of itself has not.
            if !refused.retry || refused.broken || attempt >= caller.retry.max_attempts {
                return Err(refused);
            }
            let pause = caller.retry.min_backoff.saturating_mul(1 << attempt.min(10)).min(caller.retry.max_backoff);
            (caller.retrying)(&refused.error.chain(), pause);
            tokio::select! {
                () = caller.cancel.cancelled() => return Err(Error::new(Kind::Cancelled, "stopped").into()),
                () = tokio::time::sleep(pause) => {}
            }
            attempt += 1;
        }
    }

    /// Sends the job (jobs.insert), and says where it runs.
    async fn begin(&self, id: &str, query: &Query, caller: &Caller<'_>) -> Result<Option<String>, Refused> {
        let job = || Job {
            job_reference: Some(JobReference {
                job_id: Some(id.to_owned()),
                location: self.location().map(str::to_owned),
                project_id: Some(self.project().to_owned()),
            }),
            configuration: Some(JobConfiguration {
                labels: Some(query.labels.iter().map(|(name, value)| (label(name), label(value))).collect()),
                query: Some(JobConfigurationQuery {
                    query: query.sql.clone(),
                    use_legacy_sql: Some(false),
                    maximum_bytes_billed: query.max_bytes.map(|bytes| bytes.to_string()),
                    ..JobConfigurationQuery::default()
                }),
                ..JobConfiguration::default()
            }),
            ..Job::default()
        };
        // The client's model of a job is as large as all that a job can be.
        let insert = || async { Ok(Box::pin(self.google().job().insert(self.project(), job())).await?) };
        let sent = Box::pin(self.patiently(caller, insert)).await;
        match sent {
            Ok(job) => Ok(job.job_reference.and_then(|reference| reference.location)),
            Err(refused) if refused.why == Why::Duplicate => {
                Ok(self.state(id, self.location(), caller).await?.job_reference.location)
            }
            // An answer that was lost or that the client cannot read: the job may be there all the same.
            Err(refused) if refused.broken => match self.state(id, self.location(), caller).await {
                Ok(state) => Ok(state.job_reference.location),
                Err(_) => Err(refused),
            },
            Err(refused) => Err(refused),
        }
    }

    async fn state(&self, id: &str, location: Option<&str>, caller: &Caller<'_>) -> Result<State, Refused> {
        let query: Vec<_> = location.map(|location| ("location", location.to_owned())).into_iter().collect();
        let body = self.get(caller, &[self.project(), "jobs", id], &query).await?;
        serde_json::from_slice(&body).map_err(|error| Refused::strange(format!("the state of the job {id}"), error))
    }

    /// Waits for a job (jobs.getQueryResults without rows) and tells what its result looks like.
    ///
    /// # Errors
    /// [`Why::NotFound`] for a job that is not there or whose result is gone, which it is after a day.
    pub async fn result(&self, id: &str, location: Option<&str>, caller: &Caller<'_>) -> Result<QueryJob, Refused> {
        let mut query = vec![("maxResults", "0".to_owned()), ("timeoutMs", HOLD.as_millis().to_string())];
        query.extend(location.map(|location| ("location", location.to_owned())));
        loop {
            let body = match self.get(caller, &[self.project(), "queries", id], &query).await {
                Ok(body) => body,
                Err(refused) if refused.error.kind() == Kind::Cancelled => {
                    self.cancel(id, location).await;
                    return Err(refused);
                }
                Err(refused) => {
                    // Whether the job failed, or only the question for it, says the job.
                    let state = if refused.broken { None } else { self.state(id, location, caller).await.ok() };
                    return Err(state
                        .and_then(|state| state.status.error_result)
                        .map_or(refused, |reason| Refused::job(&reason)));
                }
            };
            let results: Results = serde_json::from_slice(&body)
                .map_err(|error| Refused::strange(format!("the result of the job {id}"), error))?;
            if results.job_complete {
                let location = location.map(str::to_owned);
                return Ok(QueryJob { id: id.to_owned(), location, schema: results.schema, total: results.total_rows });
            }
            // The service holds its answer back; one that does not is not asked without a pause.
            tokio::select! {
                () = caller.cancel.cancelled() => {
                    self.cancel(id, location).await;
                    return Err(Error::new(Kind::Cancelled, "stopped").into());
                }
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// Lower-case letters, digits, `_` and `-` (REST reference, "Requirements for labels").
pub(super) fn label(text: &str) -> String {
    let allowed = |c: char| if c.is_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    text.to_lowercase().chars().map(allowed).take(LONGEST_LABEL).collect()
}

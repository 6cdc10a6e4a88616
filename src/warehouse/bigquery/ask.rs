//! Statements that only read: their rows, in pages, as the suite of drivers wants them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::Session;
use crate::bigquery::{Caller, Field, Mode, QueryJob, Refused, RowPage, Rows as Listed, Why};
use crate::error::{Context, Error, Kind, Result};
use crate::warehouse::Rows;
use crate::warehouse::excerpt::failed_at;
use crate::warehouse::rows::parsed;

/// Rows of one page.
const PAGE: u64 = 10_000;

/// Texts of one batch of a stream.
const BATCH: usize = 1_000;

impl Session {
    /// Runs a statement that reads, and answers with its first rows.
    pub(super) async fn ask(
        &self,
        sql: &str,
        labels: &BTreeMap<String, String>,
        caller: &Caller<'_>,
    ) -> Result<(QueryJob, RowPage), Refused> {
        self.client.ask(sql, labels, PAGE, caller).await
    }

    /// The rows of a statement of ours, few as they are.
    pub(super) async fn few(
        &self,
        doing: &str,
        sql: &str,
        labels: &BTreeMap<String, String>,
        caller: &Caller<'_>,
    ) -> Result<Vec<Vec<Value>>> {
        let asked = self.ask(sql, labels, caller).await.map_err(|refused| self.failed(doing, refused))?;
        self.rows_of(doing, asked, caller).await
    }

    /// The rows of a statement that has ended.
    pub(super) async fn rows_of(
        &self,
        doing: &str,
        (job, mut page): (QueryJob, RowPage),
        caller: &Caller<'_>,
    ) -> Result<Vec<Vec<Value>>> {
        let failed = |refused: Refused| self.failed(doing, refused);
        let mut rows = Vec::new();
        loop {
            for row in texts(&page) {
                rows.push(values(row, &job.schema.fields)?);
            }
            let Some(token) = page.next.take() else { return Ok(rows) };
            page = self.page(&job, Some(&token), PAGE, caller).await.map_err(failed)?;
        }
    }

    async fn page(
        &self,
        job: &QueryJob,
        token: Option<&str>,
        size: u64,
        caller: &Caller<'_>,
    ) -> Result<RowPage, Refused> {
        self.client.page(&Listed::Job(job.clone()), &job.schema, token, size, caller).await
    }

    /// Refuses what is no SELECT, without running it.
    async fn assert_reads(&self, sql: &str, caller: &Caller<'_>) -> Result<()> {
        let planned = self
            .client
            .dry_run(sql, caller)
            .await
            .map_err(|refused| self.failed_in("planning a query", sql, 0, refused))?;
        match planned.statement_type.as_str() {
            "SELECT" | "" => Ok(()),
            other => Err(Error::new(Kind::Warehouse, format!("a query only reads, and this statement is {other}"))
                .hint("BigQuery's own console changes what is there")),
        }
    }

    /// The first rows of a SELECT.
    pub(super) async fn query(&self, sql: &str, max_rows: usize) -> Result<Rows> {
        if sql.trim().is_empty() {
            return Err(Error::new(Kind::Warehouse, "there is no statement").hint("write a SELECT"));
        }
        let caller = &self.caller();
        self.assert_reads(sql, caller).await?;
        let failed = |refused: Refused| self.failed_in("running a query", sql, 0, refused);
        let (job, mut page) = self.ask(sql, &purpose("query"), caller).await.map_err(failed)?;
        let columns = job.schema.fields.iter().map(|field| field.name.clone()).collect();
        let mut found = Rows { columns, rows: Vec::new(), truncated: false };
        loop {
            for row in texts(&page) {
                if found.rows.len() == max_rows {
                    found.truncated = true;
                    return Ok(found);
                }
                found.rows.push(values(row, &job.schema.fields)?);
            }
            let Some(token) = page.next.take() else { return Ok(found) };
            page = self.page(&job, Some(&token), PAGE, caller).await.map_err(failed)?;
        }
    }

    /// Writes the rows of a SELECT into a file as JSON lines.
    pub(super) async fn export(&self, sql: &str, path: &Path) -> Result<()> {
        let caller = &self.caller();
        self.assert_reads(sql, caller).await?;
        let doing = || format!("writing {}", path.display());
        let failed = |refused: Refused| self.failed_in("running a query", sql, 0, refused);
        let (job, mut page) = self.ask(sql, &purpose("query"), caller).await.map_err(failed)?;
        let mut file = std::fs::File::create(path).context(Kind::Storage, doing)?;
        loop {
            file.write_all(&page.body).context(Kind::Storage, doing)?;
            let Some(token) = page.next.take() else { return Ok(()) };
            page = self.page(&job, Some(&token), PAGE, caller).await.map_err(failed)?;
        }
    }

    /// Sends the texts of a SELECT's only column, in batches.
    pub(super) async fn stream(&self, sql: &str, rows: &mpsc::Sender<Vec<String>>) -> Result<()> {
        let caller = &self.caller();
        self.assert_reads(sql, caller).await?;
        let failed = |refused: Refused| self.failed_in("reading rows", sql, 0, refused);
        let (job, mut page) = self.ask(sql, &purpose("query"), caller).await.map_err(failed)?;
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            for row in texts(&page) {
                let value = values(row, &job.schema.fields)?.into_iter().next().unwrap_or_default();
                batch.push(match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                });
                if batch.len() == BATCH && rows.send(std::mem::take(&mut batch)).await.is_err() {
                    return Ok(());
                }
            }
            if !batch.is_empty() && rows.send(batch).await.is_err() {
                return Ok(());
            }
            let Some(token) = page.next.take() else { return Ok(()) };
            page = self.page(&job, Some(&token), PAGE, caller).await.map_err(failed)?;
        }
    }

    /// What a call came to, in the words of a warehouse.
    pub(super) fn failed(&self, doing: &str, refused: Refused) -> Error {
        if self.cancel.is_cancelled() {
            return Error::new(Kind::Internal, "talking to the warehouse").because("it is closed");
        }
        let error = refused.error;
        // What a source may not do is a fault of the source, what a warehouse may not do one of the warehouse.
        match error.kind() {
            Kind::Source => {
                let hints: Vec<String> = error.hints().iter().map(|hint| (*hint).to_owned()).collect();
                let outer = Error::new(Kind::Warehouse, doing.to_owned()).because(error.chain());
                hints.into_iter().fold(outer, Error::hint)
            }
            _ => error.while_doing(doing.to_owned()),
        }
    }

    /// The same for a statement that a user wrote, beside its line; `shift` lines of ours stand before it.
    pub(super) fn failed_in(&self, doing: &str, sql: &str, shift: usize, refused: Refused) -> Error {
        if refused.why != Why::Query {
            return self.failed(doing, refused);
        }
        let message = refused.error.chain();
        let line = message
            .rsplit_once('[')
            .and_then(|(_, rest)| rest.split_once(':')?.0.parse::<usize>().ok())
            .and_then(|line| line.checked_sub(shift + 1));
        let error = failed_at(doing, sql, line, message);
        refused.error.hints().iter().fold(error, |error, hint| error.hint(*hint))
    }
}

/// The label of what belongs to no step: what it is for.
pub(super) fn purpose(word: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("haul".to_owned(), word.to_owned())])
}

/// The rows of a page, each as one JSON object.
fn texts(page: &RowPage) -> impl Iterator<Item = &str> {
    page.rows.iter().map(|range| std::str::from_utf8(&page.body[range.clone()]).unwrap_or("{}"))
}

/// The values of a row in the order of its columns; a decimal, and a whole number of more than 64 bits, is a text.
fn values(row: &str, fields: &[Field]) -> Result<Vec<Value>> {
    let mut members: BTreeMap<String, &RawValue> =
        serde_json::from_str(row).context(Kind::Source, || "reading a row".to_owned())?;
    fields
        .iter()
        .map(|field| {
            let Some(raw) = members.remove(&field.name) else { return Ok(Value::Null) };
            let exact = matches!(field.type_name.as_str(), "NUMERIC" | "BIGNUMERIC") && field.mode != Mode::Repeated;
            if exact && raw.get() != "null" {
                return Ok(Value::String(raw.get().trim_matches('"').to_owned()));
            }
            Ok(parsed(raw.get()))
        })
        .collect()
}

/// A whole number among a row's values.
pub(super) fn whole(value: Option<&Value>) -> u64 {
    value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok())).unwrap_or(0)
}

/// A text among a row's values.
pub(super) fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

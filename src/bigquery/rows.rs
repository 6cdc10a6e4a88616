//! Pages of rows: of a table as it lies there, which costs nothing, or of a query's result.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

use super::job::label;
use super::table::{Schema, TableId, whole};
use super::value::{Record, end_of_row};
use super::{BigQuery, Caller, QueryJob, Refused};
use crate::error::Result;
use crate::model::cost::{JobCost, JobKind};

/// Where rows are listed.
#[derive(Debug, Clone)]
pub enum Rows {
    /// In a table (tabledata.list).
    Table(TableId),
    /// In the result of a query (jobs.getQueryResults).
    Job(QueryJob),
}

/// One page of rows.
#[derive(Debug, Clone)]
pub struct RowPage {
    /// The rows as JSON, one on each line.
    pub body: Bytes,
    /// Where each begins and ends.
    pub rows: Vec<Range<usize>>,
    /// The token of the page after it, if there is one.
    pub next: Option<String>,
    /// The number of all rows.
    pub total: Option<u64>,
    /// The bytes of the answer.
    pub wire_bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow, default)]
    rows: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    page_token: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    total_rows: Option<u64>,
}

impl BigQuery {
    /// Asks for one page; the first one has no token. `size` is the most rows that it may have.
    ///
    /// # Errors
    /// See [`Refused`]; an answer that does not fit the schema is a fault of the source.
    pub async fn page(
        &self,
        rows: &Rows,
        schema: &Schema,
        token: Option<&str>,
        size: u64,
        caller: &Caller<'_>,
    ) -> Result<RowPage, Refused> {
        let mut query = vec![("maxResults", size.to_string()), ("formatOptions.useInt64Timestamp", "true".to_owned())];
        query.extend(token.map(|token| ("pageToken", token.to_owned())));
        let body = match rows {
            Rows::Table(table) => {
                let path = [&table.project, "datasets", &table.dataset, "tables", &table.table, "data"];
                self.get(caller, &path, &query).await?
            }
            Rows::Job(job) => {
                query.extend(job.location.as_ref().map(|location| ("location", location.clone())));
                self.get(caller, &[self.project(), "queries", &job.id], &query).await?
            }
        };
        let schema = schema.clone();
        // Tens of megabytes of JSON are too much for a thread that serves others.
        tokio::task::spawn_blocking(move || read(&body, &schema))
            .await
            .map_err(|error| Refused::strange("reading a page", error))?
            .map_err(|error| Refused::strange("a page of rows", error))
    }
}

/// What is wanted of jobs.query beside its rows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    #[serde(default)]
    job_complete: bool,
    #[serde(default)]
    schema: Schema,
    #[serde(default)]
    job_reference: Named,
    #[serde(default, deserialize_with = "whole")]
    total_rows: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    total_bytes_billed: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    total_bytes_processed: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    total_slot_ms: Option<u64>,
    #[serde(default)]
    cache_hit: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    #[serde(default)]
    job_id: String,
    #[serde(default)]
    location: Option<String>,
}

impl BigQuery {
    /// Runs a statement that reads little, and answers with its first rows: one call where a job of a name takes three (jobs.query).
    ///
    /// Sent again after a lost answer it is the same statement for fifteen minutes.
    ///
    /// # Errors
    /// [`super::Why::Query`] for a wrong statement; see [`Refused`].
    pub async fn ask(
        &self,
        sql: &str,
        labels: &BTreeMap<String, String>,
        size: u64,
        caller: &Caller<'_>,
    ) -> Result<(QueryJob, RowPage), Refused> {
        let labels: BTreeMap<String, String> = labels.iter().map(|(name, value)| (label(name), label(value))).collect();
        let mut request = serde_json::json!({
            "query": sql, "useLegacySql": false, "labels": labels, "maxResults": size,
            "requestId": format!("{:032x}", rand::random::<u128>()), "formatOptions": { "useInt64Timestamp": true },
        });
        if let Some(location) = self.location() {
            request["location"] = serde_json::json!(location);
        }
        let body = self.post(caller, &[self.project(), "queries"], &request).await?;
        let strange = |error| Refused::strange("the answer to a query", error);
        let answered: Answered = serde_json::from_slice(&body).map_err(strange)?;
        let Named { job_id, location } = answered.job_reference;
        if !answered.job_complete {
            let job = self.result(&job_id, location.as_deref(), caller).await?;
            self.tell_bill(&job_id, location.as_deref(), None, caller).await;
            let page = self.page(&Rows::Job(job.clone()), &job.schema, None, size, caller).await?;
            return Ok((job, page));
        }
        let schema = answered.schema;
        let page = read(&body, &schema).map_err(strange)?;
        let told = answered.total_bytes_billed.map(|billed| JobCost {
            job: job_id.clone(),
            kind: JobKind::Query,
            processed: answered.total_bytes_processed.unwrap_or(0),
            billed,
            slot_ms: answered.total_slot_ms.unwrap_or(0),
            cache_hit: answered.cache_hit,
            tariff: self.tariff().clone(),
        });
        self.tell_bill(&job_id, location.as_deref(), told, caller).await;
        Ok((QueryJob { id: job_id, location, schema, total: answered.total_rows }, page))
    }
}

fn read(body: &[u8], schema: &Schema) -> Result<RowPage, serde_json::Error> {
    let wire: Wire<'_> = serde_json::from_slice(body)?;
    let listed = wire.rows.unwrap_or_default();
    let mut out = Vec::with_capacity(body.len());
    let mut rows = Vec::with_capacity(listed.len());
    for row in listed {
        let start = out.len();
        let mut reader = serde_json::Deserializer::from_str(row.get());
        Record { fields: &schema.fields, out: &mut out }.deserialize(&mut reader)?;
        rows.push(start..out.len());
        end_of_row(&mut out);
    }
    Ok(RowPage {
        body: out.into(),
        rows,
        next: wire.page_token.filter(|token| !token.is_empty()),
        total: wire.total_rows,
        wire_bytes: body.len() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_lists_arrive_as_they_are() {
        let schema: Schema = serde_json::from_value(serde_json::json!({ "fields": [
            { "name": "id", "type": "INTEGER", "mode": "REQUIRED" },
            { "name": "say \"hi\"", "type": "STRING" },
            { "name": "params", "type": "RECORD", "mode": "REPEATED", "fields": [
                { "name": "key", "type": "STRING" },
                { "name": "value", "type": "RECORD", "fields": [{ "name": "n", "type": "FLOAT" }] },
            ] },
            { "name": "tags", "type": "STRING", "mode": "REPEATED" },
            { "name": "span", "type": "RANGE", "rangeElementType": { "type": "DATE" } },
        ] }))
        .expect("a schema");
        let body = serde_json::json!({ "totalRows": "2", "pageToken": "next", "rows": [
            { "f": [
                { "v": "9007199254740993" },
                { "v": "a\nb" },
                { "v": [{ "v": { "f": [{ "v": "k" }, { "v": { "f": [{ "v": "0.5" }] } }] } }, { "v": { "f": [{ "v": null }, { "v": null }] } }] },
                { "v": [{ "v": "x" }] },
                { "v": "[2024-01-01, UNBOUNDED)" },
            ] },
            { "f": [{ "v": "1" }, { "v": null }, { "v": [] }, { "v": null }, { "v": null }] },
        ] });
        let page = read(body.to_string().as_bytes(), &schema).expect("a page");
        let rows: Vec<&str> =
            page.rows.iter().map(|row| std::str::from_utf8(&page.body[row.clone()]).expect("UTF-8")).collect();
        assert_eq!(
            rows,
            [
                r#"{"id":9007199254740993,"say \"hi\"":"a\nb","params":[{"key":"k","value":{"n":0.5}},{"key":null,"value":null}],"tags":["x"],"span":"[2024-01-01, UNBOUNDED)"}"#,
                r#"{"id":1,"say \"hi\"":null,"params":[],"tags":[],"span":null}"#,
            ]
        );
        assert_eq!((page.total, page.next.as_deref()), (Some(2), Some("next")));
    }

    #[test]
    fn rows_that_do_not_fit_the_schema_are_an_error() {
        let schema: Schema =
            serde_json::from_value(serde_json::json!({ "fields": [{ "name": "id", "type": "INTEGER" }] }))
                .expect("a schema");
        for cells in [serde_json::json!([]), serde_json::json!([{ "v": "1" }, { "v": "2" }])] {
            let body = serde_json::json!({ "rows": [{ "f": cells }] }).to_string();
            assert!(read(body.as_bytes(), &schema).is_err(), "{body}");
        }
    }
}

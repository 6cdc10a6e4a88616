//! Jobs of the strict BigQuery: each name is taken once, and what a job does is done before it is answered.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::collections::HashMap;
use std::io::Read as _;

use serde_json::{Value, json};

use super::tables::decorator;
use super::{Answer, Job, PROJECT, Refusal, State, Table, known};

impl State {
    /// jobs.insert; rows are those that were uploaded with it.
    pub(super) fn insert_job(&mut self, job: &Value, rows: Option<&[u8]>) -> Answer {
        known(job, &["jobReference", "configuration"])?;
        known(&job["jobReference"], &["projectId", "jobId", "location"])?;
        let named = job["jobReference"]["jobId"].as_str().unwrap_or("a dry run");
        self.placed(job["jobReference"]["location"].as_str(), named)?;
        let configuration = &job["configuration"];
        known(configuration, &["labels", "query", "load", "copy", "dryRun"])?;
        if configuration["dryRun"] == true {
            let query = json!({ "statementType": "SELECT", "totalBytesProcessed": "0", "schema": { "fields": [] } });
            return Ok(json!({ "status": { "state": "DONE" }, "statistics": { "query": query } }));
        }
        let id = job["jobReference"]["jobId"].as_str().expect("a job of a name").to_owned();
        assert!(id.len() <= 1024 && id.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)), "{id}");
        for (name, value) in configuration["labels"].as_object().expect("labels") {
            let value = value.as_str().expect("a text");
            let plain = |text: &str| {
                text.len() <= 63
                    && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
            };
            assert!(
                plain(name) && name.starts_with(|c: char| c.is_ascii_lowercase()) && plain(value),
                "{name}={value}"
            );
        }
        if self.jobs.contains_key(&id) {
            return Err((409, "duplicate", format!("Already Exists: Job {PROJECT}:EU.{id}")));
        }
        let mut made = Job {
            configuration: configuration.clone(),
            error: None,
            result: (json!([]), Vec::new()),
            rows: 0,
            cancelled: false,
        };
        if !self.endless.iter().any(|name| id.starts_with(name.as_str())) {
            let done = if configuration["load"].is_object() {
                self.load(&configuration["load"], rows)
            } else if configuration["copy"].is_object() {
                self.copy(&configuration["copy"])
            } else {
                self.run(&configuration["query"], &mut made)
            };
            match done {
                Ok(rows) => made.rows = rows,
                Err((_, reason, message)) => made.error = Some((reason.to_owned(), message)),
            }
        }
        self.jobs.insert(id.clone(), made);
        self.job(&id)
    }

    /// Whether a job is looked for where it is: outside of the US and the EU that has to be said ("Specify locations").
    pub(super) fn placed(&self, location: Option<&str>, id: &str) -> Result<(), Refusal> {
        match &self.location {
            Some(own) if location != Some(own) => {
                let place = location.unwrap_or("US");
                Err((
                    404,
                    "notFound",
                    format!("Not found: Job or dataset of {PROJECT}:{id} was not found in location {place}"),
                ))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn job(&self, id: &str) -> Answer {
        let job = self.jobs.get(id).ok_or_else(|| (404, "notFound", format!("Not found: Job {PROJECT}:{id}")))?;
        let endless = self.endless.iter().any(|name| id.starts_with(name.as_str())) && !job.cancelled;
        let mut status = json!({ "state": if endless { "RUNNING" } else { "DONE" } });
        if let Some((reason, message)) = &job.error {
            status["errorResult"] = json!({ "reason": reason, "message": message });
        }
        Ok(json!({
            "kind": "bigquery#job", "id": format!("{PROJECT}:EU.{id}"), "status": status,
            "configuration": job.configuration, "user_email": "robot", "selfLink": "",  "etag": "e",
            "jobReference": { "projectId": PROJECT, "jobId": id, "location": self.location.as_deref().unwrap_or("EU") },
            "statistics": { "load": { "outputRows": job.rows.to_string() } },
        }))
    }

    pub(super) fn results(&self, id: &str, query: &HashMap<String, String>) -> Answer {
        let job = self.jobs.get(id).ok_or_else(|| (404, "notFound", format!("Not found: Job {PROJECT}:{id}")))?;
        if let Some((reason, message)) = &job.error {
            return Err((400, if reason == "stopped" { "stopped" } else { "invalidQuery" }, message.clone()));
        }
        let (fields, rows) = &job.result;
        let mut answer =
            json!({ "jobComplete": true, "schema": { "fields": fields }, "totalRows": rows.len().to_string() });
        if query["maxResults"] != "0" {
            answer["rows"] = json!(rows);
        }
        Ok(answer)
    }

    pub(super) fn load(&mut self, load: &Value, rows: Option<&[u8]>) -> Result<u64, Refusal> {
        const MEMBERS: [&str; 10] = [
            "destinationTable",
            "schema",
            "sourceFormat",
            "createDisposition",
            "writeDisposition",
            "maxBadRecords",
            "ignoreUnknownValues",
            "timePartitioning",
            "clustering",
            "sourceUris",
        ];
        known(load, &MEMBERS)?;
        let mut bytes = rows.unwrap_or_default().to_vec();
        for uri in load["sourceUris"].as_array().into_iter().flatten() {
            let name = uri.as_str().and_then(|uri| uri.strip_prefix("gs://")).expect("an address");
            let object = self.objects.get(name);
            bytes.extend(object.ok_or_else(|| (404, "notFound", format!("Not found: URI gs://{name}")))?);
        }
        let mut text = String::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("gzip");
        } else {
            text = String::from_utf8(bytes).expect("UTF-8");
        }
        let rows: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        let (name, partition) = self.place(&load["destinationTable"]);
        if !self.tables.contains_key(&name) {
            let (dataset, table) = name.split_once('.').expect("a dataset");
            let mut resource = json!({ "tableReference": { "tableId": table }, "schema": load["schema"] });
            for member in ["timePartitioning", "clustering"] {
                if load[member].is_object() {
                    resource[member] = load[member].clone();
                }
            }
            self.insert_table(dataset, resource)?;
        }
        let count = rows.len() as u64;
        let table = self.tables.get(&name).expect("it is there");
        let columns: Vec<String> = table.resource["schema"]["fields"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|field| field["name"].as_str().map(str::to_owned))
            .collect();
        for row in &rows {
            for member in row.as_object().expect("a row").keys() {
                if !columns.contains(member) {
                    return Err((400, "invalid", format!("no such field: {member}")));
                }
            }
        }
        self.write(&name, partition.as_deref(), rows, load["writeDisposition"].as_str().unwrap_or("WRITE_APPEND"))?;
        Ok(count)
    }

    pub(super) fn copy(&mut self, copy: &Value) -> Result<u64, Refusal> {
        let (from, of) = self.place(&copy["sourceTable"]);
        let (to, partition) = self.place(&copy["destinationTable"]);
        let source = self.tables.get(&from).ok_or_else(|| (404, "notFound", format!("Not found: Table {from}")))?;
        let target = self.tables.get(&to).ok_or_else(|| (404, "notFound", format!("Not found: Table {to}")))?;
        let how = |table: &Table| {
            (table.resource["timePartitioning"]["type"].clone(), table.resource["timePartitioning"]["field"].clone())
        };
        if how(source) != how(target) {
            return Err((400, "invalid", "Incompatible table partitioning specification when copying".to_owned()));
        }
        let every = source.resource["timePartitioning"]["type"].as_str().unwrap_or_default();
        let own = |row: &&Value| of.as_ref().is_none_or(|of| *of == decorator(row, every));
        let rows = source.rows.iter().filter(own).cloned().collect();
        self.write(&to, partition.as_deref(), rows, copy["writeDisposition"].as_str().expect("a disposition"))?;
        Ok(0)
    }
}

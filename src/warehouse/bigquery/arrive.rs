//! New rows arrive in a table of their own, which ends by itself: loaded from a stage, or computed by a SELECT.
//!
//! The table and its job are named by what is in them. A process that died after it has sent the job left nothing to do
//! again: its successor finds the job, and waits for it.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;
use xxhash_rust::xxh3::Xxh3;

use super::columns::{field, logical};
use super::commit::Task;
use super::encode::{Encoded, Encoding};
use super::layout::layout;
use crate::bigquery::{BigQuery, Field, JobRequest, JobState, Load, Refused, TableId, Work};
use crate::error::{Context, Error, Kind, Result};
use crate::model::infer::OWN;
use crate::model::schema::{Column, Reading, Reconciled, StagedColumn};
use crate::model::shape::Seen;
use crate::time::{Clock, Grain, Instant, Unit};
use crate::warehouse::dialect::BIGQUERY;
use crate::warehouse::{NewRows, UnitCommit};

/// Rows that nobody came back for are gone after this.
const KEPT: Duration = Duration::from_hours(24);

/// So many names of one job are tried: each of them failed once, or its table is gone again.
const MOST_ATTEMPTS: u32 = 20;

/// New rows in the warehouse.
pub(super) struct Arrival {
    /// Where they are.
    pub table: TableId,
    /// Their columns.
    pub columns: Vec<StagedColumn>,
}

impl Arrival {
    /// The table as statements name it.
    pub fn relation(&self) -> String {
        let TableId { project, dataset, table } = &self.table;
        BIGQUERY.ident(&format!("{project}.{dataset}.{table}"))
    }
}

impl Task<'_> {
    /// What the rows of these units are, as a text that follows from nothing else.
    fn digest(&self, units: &[&UnitCommit], what: &str, columns: &[StagedColumn]) -> String {
        let mut digest = Xxh3::new();
        digest.update(format!("{}\0{what}\0{}\0", self.target, self.session.compress).as_bytes());
        for unit in units {
            digest.update(format!("{}\0{:?}\0{:?}\0", unit.key, unit.staged, unit.inputs).as_bytes());
            if unit.staged.is_none() {
                digest.update(&unit.pull.to_le_bytes());
            }
        }
        for staged in columns {
            let Column { name, data_type } = &staged.column;
            digest.update(format!("{name}\0{data_type}\0{}\0{:?}\0", staged.source, staged.reading).as_bytes());
        }
        format!("{:032x}", digest.digest128())
    }

    fn table_of(&self, digest: &str) -> TableId {
        self.target.sibling(format!("_haul_new_{digest}"))
    }

    /// How the staged rows of these units are written down.
    pub(super) fn encoding(&self, units: &[&UnitCommit], reconciled: &Reconciled, with_pull: bool) -> Encoding {
        let NewRows::Staged { files, unit_in_rows, .. } = &self.commit.rows else {
            return Encoding {
                files: Vec::new(),
                columns: Vec::new(),
                units: None,
                constants: String::new(),
                compress: false,
            };
        };
        let starts = || units.iter().filter_map(|unit| unit.unit.as_ref()).map(start);
        let mut constants = Vec::new();
        if !unit_in_rows
            && self.commit.grain.is_some()
            && let Some(start) = starts().next()
        {
            constants.push(format!("\"_haul_unit\":\"{start}\""));
        }
        if let (true, [only]) = (with_pull, units) {
            constants.push(format!("\"_haul_pull\":{}", only.pull));
        }
        Encoding {
            files: files.clone(),
            columns: reconciled.kept.clone(),
            units: unit_in_rows.then(|| starts().collect::<HashSet<_>>()),
            constants: constants.join(","),
            compress: self.session.compress,
        }
    }

    /// Writes staged rows down, and sees that none is missing.
    pub(super) async fn encoded(&self, encoding: Encoding, units: &[&UnitCommit]) -> Result<Encoded> {
        let folder = encoding.files.first().and_then(|file| file.parent()?.parent().map(std::path::Path::to_owned));
        let encoded = tokio::task::spawn_blocking(move || encoding.run())
            .await
            .context(Kind::Internal, || "writing rows for BigQuery".to_owned())??;
        let expected: u64 = units.iter().filter_map(|unit| unit.staged).map(|(rows, _)| rows).sum();
        if encoded.rows == expected {
            return Ok(encoded);
        }
        let folder = folder.map(|folder| folder.display().to_string()).unwrap_or_default();
        Err(Error::new(Kind::Storage, format!("the stage has {} rows, its manifest says {expected}", encoded.rows))
            .hint(format!("its files were changed since it was sealed; remove the folder {folder} and pull again")))
    }

    /// Loads staged rows of these units.
    pub(super) async fn load(&self, units: &[&UnitCommit], reconciled: &Reconciled, for_copy: bool) -> Result<Arrival> {
        let what = if for_copy { format!("copy {}", self.pulls(units)) } else { "rows".to_owned() };
        let digest = self.digest(units, &what, &reconciled.kept);
        let arrival = Arrival { table: self.table_of(&digest), columns: reconciled.kept.clone() };
        let mut fields = reconciled.kept.iter().map(|staged| field(&staged.column)).collect::<Result<Vec<_>>>()?;
        fields.extend(self.commit.grain.map(super::columns::unit_field));
        // Rows that have nothing but nulls are rows, and a table has at least one column, with a value in each row.
        let with_pull = for_copy || fields.is_empty();
        if with_pull {
            fields.push(super::columns::pull_field());
        }
        let fields = json!(fields);
        let layout = if for_copy { divided(&layout(self.commit)) } else { json!({}) };
        let expected: u64 = units.iter().filter_map(|unit| unit.staged).map(|(rows, _)| rows).sum();
        let failed = |refused: Refused| self.session.failed("loading the staged rows", refused);
        let client = &self.session.client;
        for attempt in 1..=MOST_ATTEMPTS {
            let job = JobRequest {
                id: named(&format!("haul_load_{digest}"), attempt),
                labels: self.labels.clone(),
                work: Work::Load(Load {
                    to: arrival.table.clone(),
                    fields: fields.clone(),
                    layout: layout.clone(),
                    disposition: Self::disposition(attempt),
                    uris: Vec::new(),
                }),
            };
            let known = self.adopted(&job.id).await?;
            let new = known.is_none();
            let state = match known {
                Some(state) => state,
                None => {
                    let mut resource = layout.clone();
                    resource["schema"] = json!({ "fields": fields });
                    resource["expirationTime"] = BigQuery::ends(passes());
                    client.create_table(&arrival.table, resource, &self.caller).await.map_err(failed)?;
                    let encoding = self.encoding(units, reconciled, with_pull);
                    let encoded = self.encoded(encoding, units).await?;
                    let loaded = client.load_files(&job, &encoded.files, &self.caller).await;
                    loaded.map_err(failed)?
                }
            };
            if self.arrived(state, new, &arrival.table, Some(expected)).await.map_err(failed)? {
                return Ok(arrival);
            }
        }
        Err(Error::new(Kind::Warehouse, "loading the staged rows")
            .because(format!("the table {} is gone each time", arrival.table)))
    }

    /// Computes the rows of a SELECT, each with its unit.
    pub(super) async fn compute(&self, sql: &str, time_column: Option<&str>, for_copy: bool) -> Result<Arrival> {
        let plain = sql.trim_end().trim_end_matches(';');
        let client = &self.session.client;
        let failed = |refused: Refused| self.session.failed_in("computing the rows", plain, 0, refused);
        let planned = client.dry_run(plain, &self.caller).await.map_err(failed)?;
        if !matches!(planned.statement_type.as_str(), "SELECT" | "") {
            return Err(Error::new(Kind::Warehouse, "computing the rows")
                .because(format!("the statement is {}, and a transform is a SELECT", planned.statement_type)));
        }
        let own = |field: &&Field| !field.name.to_ascii_lowercase().starts_with(OWN);
        // What it reads may have come from other units: their columns of haul's own are not this row's.
        let fields: Vec<&Field> = planned.schema.fields.iter().filter(own).collect();
        let columns: Vec<StagedColumn> = fields.iter().map(|field| computed(field)).collect();
        let units: Vec<&UnitCommit> = self.commit.units.iter().collect();
        let what = format!(
            "{}\0{}\0{plain}",
            time_column.unwrap_or_default(),
            if for_copy { self.pulls(&units) } else { String::new() }
        );
        let digest = self.digest(&units, &what, &columns);
        let arrival = Arrival { table: self.table_of(&digest), columns };
        let unit = self.unit_of(&fields, time_column)?;
        let mut outputs: Vec<String> =
            arrival.columns.iter().map(|staged| format!("q.{}", BIGQUERY.ident(&staged.column.name))).collect();
        outputs.extend(unit.map(|unit| format!("{unit} AS _haul_unit")));
        if let (true, [only]) = (for_copy, units.as_slice()) {
            outputs.push(format!("{} AS _haul_pull", only.pull));
        }
        let partition = match (for_copy, self.commit.grain) {
            (true, Some(Grain::Hour)) => " PARTITION BY TIMESTAMP_TRUNC(_haul_unit, HOUR)",
            (true, Some(Grain::Month)) => " PARTITION BY DATE_TRUNC(_haul_unit, MONTH)",
            (true, Some(_)) => " PARTITION BY _haul_unit",
            _ => "",
        };
        // The user's statement begins on a line of its own, so that the lines of an error can be counted back.
        let create = format!(
            "CREATE OR REPLACE TABLE {}{partition} OPTIONS (expiration_timestamp = {}) AS SELECT {} FROM (\n{plain}\n) AS q",
            arrival.relation(),
            BIGQUERY.timestamp(passes()),
            outputs.join(", "),
        );
        let failed = |refused: Refused| self.session.failed_in("computing the rows", plain, 1, refused);
        for attempt in 1..=MOST_ATTEMPTS {
            let job = JobRequest {
                id: named(&format!("haul_compute_{digest}"), attempt),
                labels: self.labels.clone(),
                work: Work::Statement { sql: create.clone(), max_bytes: self.commit.billing.max_bytes },
            };
            let known = self.adopted(&job.id).await?;
            let new = known.is_none();
            let state = match known {
                Some(state) => state,
                None => client.settled(&job, &self.caller).await.map_err(failed)?,
            };
            if self.arrived(state, new, &arrival.table, None).await.map_err(failed)? {
                return Ok(arrival);
            }
        }
        Err(Error::new(Kind::Warehouse, "computing the rows")
            .because(format!("the table {} is gone each time", arrival.table)))
    }

    /// The job of this name at its end, if it was sent before.
    async fn adopted(&self, id: &str) -> Result<Option<JobState>> {
        let client = &self.session.client;
        let failed = |refused| self.session.failed("looking for an earlier job", refused);
        let Some(state) = client.job(id, client.location(), &self.caller).await.map_err(failed)? else {
            return Ok(None);
        };
        client.wait(id, state.location.as_deref(), &self.caller).await.map(Some).map_err(failed)
    }

    /// Whether the rows are there; where they are not, the next name is tried.
    async fn arrived(
        &self,
        state: JobState,
        new: bool,
        table: &TableId,
        expected: Option<u64>,
    ) -> Result<bool, Refused> {
        if let Err(refused) = state.well() {
            // What failed before may have been mended since; what fails now is told, unless it passes.
            let passes = refused.error.kind().disposition() == crate::error::Disposition::Retry;
            return if new && !passes { Err(refused) } else { Ok(false) };
        }
        match self.session.client.table(table, &self.caller).await {
            Ok(found) => Ok(expected.is_none_or(|rows| found.num_rows == Some(rows))),
            Err(refused) if refused.why == crate::bigquery::Why::NotFound => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// The expression that tells a computed row's unit.
    fn unit_of(&self, fields: &[&Field], time_column: Option<&str>) -> Result<Option<String>> {
        let units = self.commit.units.iter().filter_map(|unit| unit.unit.as_ref());
        match (self.commit.grain, time_column) {
            (None, _) => Ok(None),
            (Some(_), None) => match self.commit.units.as_slice() {
                [only] => Ok(only.unit.as_ref().map(|unit| BIGQUERY.unit_literal(unit))),
                _ => Err(Error::new(Kind::Config, "dividing the rows of a window into units")
                    .hint("a transform with `per = \"window\"` names its `time_column`")),
            },
            (Some(_), Some(name)) => {
                let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
                    Error::new(Kind::Data, format!("the rows have no column `{name}`"))
                        .hint("`time_column` names a column of the SELECT")
                })?;
                let arms: Vec<String> = units.map(|unit| arm(unit, field)).collect();
                Ok(Some(format!("CASE {} END", arms.join(" "))))
            }
        }
    }

    fn pulls(&self, units: &[&UnitCommit]) -> String {
        units.iter().map(|unit| unit.pull.to_string()).collect::<Vec<_>>().join(",")
    }

    /// Removes new rows that are of no use any more; what stays ends by itself.
    pub(super) async fn leave(&self, arrival: &Arrival) {
        let _ = self.session.client.delete_table(&arrival.table, &self.session.caller()).await;
    }
}

/// When rows that nobody came for may go: by the clock that the warehouse goes by, whatever the date of the run.
fn passes() -> Instant {
    Clock::System.now() + KEPT
}

/// The name of an attempt.
fn named(id: &str, attempt: u32) -> String {
    if attempt == 1 { id.to_owned() } else { format!("{id}_{attempt}") }
}

/// How a table is divided, without when its partitions end.
fn divided(layout: &serde_json::Value) -> serde_json::Value {
    let mut layout = layout.clone();
    if let Some(partitioning) = layout["timePartitioning"].as_object_mut() {
        partitioning.remove("expirationMs");
    }
    layout
}

/// The start of a unit as rows of a stage say it.
fn start(unit: &Unit) -> String {
    match unit.calendar.grain {
        Grain::Hour => unit.start.format("%Y-%m-%d %H:%M:%S").to_string(),
        Grain::Day | Grain::Week | Grain::Month => unit.key().to_string(),
    }
}

fn computed(field: &Field) -> StagedColumn {
    StagedColumn {
        source: field.name.clone(),
        column: Column { name: field.name.clone(), data_type: logical(field) },
        reading: Reading::Direct,
        seen: Seen::default(),
    }
}

/// One unit of a window: a date is compared as a date of the unit's calendar, a time as an instant in UTC.
fn arm(unit: &Unit, field: &Field) -> String {
    let name = format!("q.{}", BIGQUERY.ident(&field.name));
    let literal = BIGQUERY.unit_literal(unit);
    if field.type_name == "DATE" {
        let (first, after) = (unit.date(), unit.calendar.next(unit).date());
        return format!("WHEN {name} >= DATE '{first}' AND {name} < DATE '{after}' THEN {literal}");
    }
    let (first, after) = (BIGQUERY.timestamp(unit.start), BIGQUERY.timestamp(unit.end));
    let name = if field.type_name == "TIMESTAMP" { name } else { format!("CAST({name} AS TIMESTAMP)") };
    format!("WHEN {name} >= {first} AND {name} < {after} THEN {literal}")
}

//! Units replaced as whole partitions: by a load or a copy job with `WRITE_TRUNCATE`, free of charge.
//!
//! Claim, write and commit are one: the job that replaces the partition. Its name says the unit, the lease whose rows it finds
//! there, and a number that grows only past jobs that failed; so of all who want to follow one load only one does. The line of
//! `_haul_loads` comes afterwards, by a job named after the first: whoever sees a partition that was written and not told
//! writes it for its owner, from the labels of the job.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::{Value, json};

use super::arrive::Arrival;
use super::commit::{Task, rows_of};
use super::fence::{COMMIT, passes};
use super::layout::{decorator, fields, layout};
use super::loads::{Known, fields as loads_fields};
use crate::bigquery::{Disposition, JobRequest, JobState, Load, Work};
use crate::error::{Context, Error, Kind, Result};
use crate::model::ledger::Fingerprint;
use crate::model::name::TableName;
use crate::model::schema::Reconciled;
use crate::time::{Instant, Unit};
use crate::warehouse::dialect::LOADS;
use crate::warehouse::verdict::{self, LastLoad};
use crate::warehouse::{CommitOutcome, Committed, UnitCommit};

/// A partition that others get in the way of is tried so often.
const MOST_ATTEMPTS: u32 = 8;

/// The labels that tell what a job has put into its partition.
const GENERATION: &str = "haul_generation";
const PULL: &str = "haul_pull";
const ROWS: &str = "haul_rows";
const PRINT: &str = "haul_print";
const INPUTS: &str = "haul_inputs";
const AT: &str = "haul_at";

/// What one partition is replaced by.
struct Slice<'a> {
    /// Where computed rows stand already.
    arrival: Option<&'a Arrival>,
    unit: &'a UnitCommit,
    span: &'a Unit,
    reconciled: &'a Reconciled,
    committed: &'a Committed,
}

impl Task<'_> {
    /// Replaces each unit's partition, one after the other; each for itself is there as a whole or not at all.
    pub(super) async fn replace_partitions(
        &self,
        arrival: Option<&Arrival>,
        known: &Known,
        written: &[&UnitCommit],
        reconciled: &Reconciled,
        committed: &mut Committed,
    ) -> Result<()> {
        for unit in written {
            let Some(span) = unit.unit.as_ref() else { return Err(Error::internal("a partition without a unit")) };
            let already = {
                let slice = Slice { arrival, unit, span, reconciled, committed };
                self.replace(&slice, known.of(unit)).await?
            };
            if already && let Some(own) = committed.units.iter_mut().find(|one| one.key == unit.key) {
                own.outcome = CommitOutcome::Already;
            }
        }
        Ok(())
    }

    /// Replaces one; says whether this very pull had done so before.
    async fn replace(&self, slice: &Slice<'_>, last: Option<LastLoad>) -> Result<bool> {
        let (unit, committed) = (slice.unit, slice.committed);
        let identity = self.identity(&[unit], committed);
        let row = self.row_of_jobs(unit.key.as_str());
        let labels = self.partition_labels(unit, committed, &identity);
        let (mut base, mut attempt, mut own_failures) = (last.map_or(0, |last| last.generation), 1, 0);
        loop {
            let id = format!("haul_unit_{row}_{base}_{attempt}");
            let state = self.write_partition(&id, &labels, slice).await?;
            let own = state.labels.get(COMMIT).is_some_and(|label| *label == identity);
            let told = state.labels.clone();
            match state.well() {
                Ok(_) => {
                    self.tell(&id, unit, &told).await?;
                    if own {
                        return Ok(false);
                    }
                    let theirs = load_of(&told);
                    if let verdict::Standing::Already { .. } =
                        verdict::standing(&self.commit.table, unit, Some(&theirs), true)?
                    {
                        return Ok(true);
                    }
                    (base, attempt) = (theirs.generation, 1);
                }
                Err(refused) => {
                    own_failures += u32::from(own);
                    if own && (!passes(&refused) || own_failures >= MOST_ATTEMPTS) {
                        return Err(self.session.failed("replacing a partition", refused));
                    }
                    attempt += 1;
                }
            }
        }
    }

    fn partition_labels(&self, unit: &UnitCommit, committed: &Committed, identity: &str) -> BTreeMap<String, String> {
        let own = committed.units.iter().find(|one| one.key == unit.key);
        let print = own.map(|own| own.fingerprint).unwrap_or_default();
        let mut labels = self.labels.clone();
        labels.insert("unit".to_owned(), unit.key.to_string());
        for (name, text) in [
            (COMMIT, identity.to_owned()),
            (GENERATION, unit.generation.to_string()),
            (PULL, unit.pull.to_string()),
            (ROWS, rows_of(committed, unit).to_string()),
            (PRINT, print.to_string()),
            (AT, self.commit.at.timestamp_micros().to_string()),
        ] {
            labels.insert(name.to_owned(), text);
        }
        if let Some(inputs) = &unit.inputs {
            labels.insert(INPUTS.to_owned(), inputs.clone());
        }
        labels
    }

    /// The job that makes the new rows all that the partition has, at its end.
    async fn write_partition(
        &self,
        id: &str,
        labels: &BTreeMap<String, String>,
        slice: &Slice<'_>,
    ) -> Result<JobState> {
        let Slice { arrival, unit, span, reconciled, committed } = *slice;
        let (client, failed) = (&self.session.client, |refused| self.session.failed("replacing a partition", refused));
        let to = self.target.sibling(format!("{}${}", self.target.table, decorator(span)));
        let request = |work| JobRequest { id: id.to_owned(), labels: labels.clone(), work };
        if let Some(arrival) = arrival.filter(|_| rows_of(committed, unit) > 0) {
            let from = arrival.table.sibling(format!("{}${}", arrival.table.table, decorator(span)));
            return client.settled(&request(Work::Copy { from, to }), &self.caller).await.map_err(failed);
        }
        let mut layout = layout(self.commit);
        if let Some(partitioning) = layout["timePartitioning"].as_object_mut() {
            partitioning.remove("expirationMs");
        }
        let load = Load {
            to,
            fields: json!(fields(self.commit, reconciled.kept.iter().map(|staged| &staged.column))?),
            layout,
            disposition: Disposition::Truncate,
            uris: Vec::new(),
        };
        let encoding = self.encoding(&[unit], reconciled, true);
        // A job that is there already is not sent again, so that its rows need not be written down again.
        if let Some(state) = client.job(id, client.location(), &self.caller).await.map_err(failed)? {
            return client.wait(id, state.location.as_deref(), &self.caller).await.map_err(failed);
        }
        let encoded = self.encoded(encoding, &[unit]).await?;
        client.load_files(&request(Work::Load(load)), &encoded.files, &self.caller).await.map_err(failed)
    }

    /// Writes the line of `_haul_loads` that a partition's job stands for; the same line again is no second one.
    async fn tell(&self, job: &str, unit: &UnitCommit, labels: &BTreeMap<String, String>) -> Result<()> {
        let load = load_of(labels);
        let micros = labels.get(AT).and_then(|text| text.parse().ok()).unwrap_or(0);
        let at: Instant = chrono::DateTime::from_timestamp_micros(micros).unwrap_or(self.commit.at);
        let text = |name: &str| labels.get(name).cloned();
        let line = json!({
            "table_name": self.commit.table.to_string(), "unit": unit.key.as_str(),
            "pull": load.pull, "generation": load.generation, "rows": load.rows,
            "fingerprint": load.fingerprint.to_string(), "inputs": text(INPUTS).map_or(Value::Null, Value::from),
            "run": text("run").unwrap_or_default(),
            "committed_at": at.format("%Y-%m-%d %H:%M:%S%.6fZ").to_string(),
            // Commits in transactions have numbers, which these are not part of.
            "number": 0, "job": job,
        });
        let doing = || "writing _haul_loads".to_owned();
        let mut file = tempfile::NamedTempFile::new().context(Kind::Storage, doing)?;
        writeln!(file, "{line}").context(Kind::Storage, doing)?;
        let name = TableName { schema: self.commit.table.schema.clone(), name: LOADS.to_owned() };
        let mut own = self.labels.clone();
        own.insert("unit".to_owned(), unit.key.to_string());
        let request = JobRequest {
            id: format!("{job}_told"),
            labels: own,
            work: Work::Load(Load {
                to: self.session.table_id(&name),
                fields: loads_fields(),
                layout: json!({}),
                disposition: Disposition::Append,
                uris: Vec::new(),
            }),
        };
        let failed = |refused| self.session.failed("writing _haul_loads", refused);
        let told = self.session.client.load_files(&request, &[file.path()], &self.caller).await.map_err(failed)?;
        told.well().map(drop).map_err(failed)
    }
}

/// What the labels of a job say that it has put into its partition.
fn load_of(labels: &BTreeMap<String, String>) -> LastLoad {
    let number = |name: &str| labels.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let fingerprint = labels.get(PRINT).and_then(|text| text.parse::<Fingerprint>().ok()).unwrap_or_default();
    LastLoad { generation: number(GENERATION), pull: number(PULL), rows: number(ROWS), fingerprint }
}

//! How a table is made and changed: partitions, clusters, new columns, wider types.

use serde_json::{Value, json};

use super::columns::{field, pull_field, unit_field};
use super::commit::Task;
use crate::bigquery::{Disposition, JobRequest, Table, Work};
use crate::error::{Error, Kind, Result};
use crate::model::layout::Partition;
use crate::model::schema::{Column, LogicalType, Reconciled, SchemaChange, TableSchema};
use crate::time::{Grain, Unit};
use crate::warehouse::Commit;
use crate::warehouse::dialect::BIGQUERY;

/// So often a change of the columns is tried again because somebody else changed the table at the same time.
const MOST_CHANGES: u32 = 5;

/// How a commit's table is divided, as tables.insert takes it; an empty object where it is not.
pub(super) fn layout(commit: &Commit) -> Value {
    let wish = &commit.layout;
    let by = |column: &str, grain: Grain| Some((column.to_owned(), every(grain)));
    let partition = match (&wish.partition, commit.grain) {
        (Partition::OfWarehouse | Partition::Unit(None), Some(grain)) => by("_haul_unit", grain),
        (Partition::Unit(Some(grain)), Some(_)) => by("_haul_unit", *grain),
        (Partition::Column { name, grain }, _) => by(name, *grain),
        (Partition::None | Partition::OfWarehouse | Partition::Unit(_), _) => None,
    };
    let mut layout = json!({});
    if let Some((column, every)) = partition {
        layout["timePartitioning"] = json!({ "type": every, "field": column });
        if let Some(expires) = wish.expires {
            layout["timePartitioning"]["expirationMs"] = json!(expires.as_millis().to_string());
        }
    }
    if !wish.cluster.is_empty() {
        layout["clustering"] = json!({ "fields": wish.cluster });
    }
    layout
}

/// The length of a partition; weeks lie in that of their first day.
pub(super) fn every(grain: Grain) -> &'static str {
    match grain {
        Grain::Hour => "HOUR",
        Grain::Day | Grain::Week => "DAY",
        Grain::Month => "MONTH",
    }
}

/// A unit's partition as a decorator says it: `20240501`, `2024050113`, `202405`.
pub(super) fn decorator(unit: &Unit) -> String {
    match unit.calendar.grain {
        Grain::Hour => unit.start.format("%Y%m%d%H").to_string(),
        Grain::Day | Grain::Week => unit.date().format("%Y%m%d").to_string(),
        Grain::Month => unit.date().format("%Y%m").to_string(),
    }
}

/// A condition that holds for every row of a table, and that a table which wants a filter takes for one.
pub(super) fn every_row(table: Option<&Table>) -> String {
    let wants = |table: &&Table| table.require_partition_filter == Some(true);
    let by = table.filter(wants).and_then(|table| table.time_partitioning.as_ref()?.field.clone());
    match by {
        Some(column) => {
            let column = BIGQUERY.ident(&column);
            format!("({column} IS NULL OR {column} IS NOT NULL)")
        }
        None => "true".to_owned(),
    }
}

/// The columns of a table as tables.insert takes them, haul's own last.
pub(super) fn fields<'c>(commit: &Commit, columns: impl Iterator<Item = &'c Column>) -> Result<Vec<Value>> {
    let mut fields = columns.map(field).collect::<Result<Vec<_>>>()?;
    fields.extend(commit.grain.map(unit_field));
    fields.push(pull_field());
    Ok(fields)
}

impl Task<'_> {
    /// Brings the table into the form that the new rows need, and says whether it was made for them.
    ///
    /// This stands outside of the transaction, which can change rows only. A commit that fails afterwards leaves a column of
    /// nulls, and no rows.
    pub(super) async fn apply(&self, before: Option<&TableSchema>, reconciled: &Reconciled) -> Result<bool> {
        if reconciled.changes.contains(&SchemaChange::Create) {
            return self.create(reconciled).await;
        }
        for change in &reconciled.changes {
            match change {
                SchemaChange::Widen(column) if !is_nested(&column.data_type) => {
                    let own = before.and_then(|table| table.column(&column.name));
                    if let Some(own) = own {
                        self.assert_held(&BIGQUERY.relation(&self.commit.table), own, &column.data_type).await?;
                        self.alter(own, &column.data_type).await?;
                    }
                }
                SchemaChange::Create | SchemaChange::Add(_) | SchemaChange::Widen(_) => {}
            }
        }
        let grown: Vec<&Column> = reconciled
            .changes
            .iter()
            .filter_map(|change| match change {
                SchemaChange::Add(column) => Some(column),
                SchemaChange::Widen(column) if is_nested(&column.data_type) => Some(column),
                SchemaChange::Create | SchemaChange::Widen(_) => None,
            })
            .collect();
        if !grown.is_empty() {
            self.grow(&grown).await?;
        }
        Ok(false)
    }

    async fn create(&self, reconciled: &Reconciled) -> Result<bool> {
        let mut resource = layout(self.commit);
        let columns = reconciled.kept.iter().map(|staged| &staged.column);
        resource["schema"] = json!({ "fields": fields(self.commit, columns)? });
        if self.commit.layout.require_filter {
            resource["requirePartitionFilter"] = json!(true);
        }
        // Tasks of one step begin together: one of them makes the table, and the others find it.
        let turn = self.session.turn(&self.commit.table).await;
        let _turn = turn.lock().await;
        if self.session.found(&self.target, &self.caller).await?.is_some() {
            return Ok(false);
        }
        let created = self.session.client.create_table(&self.target, resource, &self.caller).await;
        created.map_err(|refused| self.session.failed("creating the table", refused))
    }

    /// Adds columns, and fields to records.
    async fn grow(&self, columns: &[&Column]) -> Result<()> {
        let failed = |refused| self.session.failed("adding columns", refused);
        for _ in 0..MOST_CHANGES {
            let resource = self.session.client.table_json(&self.target, &self.caller).await.map_err(failed)?;
            let mut fields = resource["schema"]["fields"].as_array().cloned().unwrap_or_default();
            for column in columns {
                merge(&mut fields, field(column)?);
            }
            let change = json!({ "schema": { "fields": fields } });
            let etag = resource["etag"].as_str();
            if self.session.client.patch_table(&self.target, &change, etag, &self.caller).await.map_err(failed)? {
                return Ok(());
            }
        }
        Err(Error::new(Kind::Warehouse, "adding columns").because("somebody else changes the table all the time"))
    }

    /// Widens a column in place, as far as BigQuery does that.
    async fn alter(&self, own: &Column, wide: &LogicalType) -> Result<()> {
        use LogicalType::{BigInt, Decimal, Double, HugeInt};
        let (name, relation) = (BIGQUERY.ident(&own.name), BIGQUERY.relation(&self.commit.table));
        let data_type = BIGQUERY.type_of(wide);
        if !matches!((&own.data_type, wide), (BigInt | HugeInt | Decimal { .. }, HugeInt | Decimal { .. } | Double)) {
            return Err(Error::new(
                Kind::Data,
                format!("the column {name} is {} and has to become {wide}", own.data_type),
            )
            .because("BigQuery cannot change that in place")
            .hint(format!(
                "once, by hand: CREATE OR REPLACE TABLE {relation} … AS SELECT * REPLACE (CAST({name} AS {data_type}) AS {name}) FROM {relation}"
            )));
        }
        let sql = format!("ALTER TABLE {relation} ALTER COLUMN {name} SET DATA TYPE {data_type}");
        let job = JobRequest {
            id: format!("haul_ddl_{:032x}", rand::random::<u128>()),
            labels: self.labels.clone(),
            work: Work::Statement { sql, max_bytes: None },
        };
        let ran = self.session.client.run(&job, &self.caller).await;
        ran.map(drop).map_err(|refused| self.session.failed("widening a column", refused))
    }

    /// Refuses a type that does not hold each number that is there.
    pub(super) async fn assert_held(&self, relation: &str, own: &Column, wide: &LogicalType) -> Result<()> {
        if is_nested(&own.data_type) || !own.data_type.may_lose(wide) {
            return Ok(());
        }
        let name = BIGQUERY.ident(&own.name);
        let sql = format!(
            "SELECT COUNTIF(CAST(CAST({name} AS FLOAT64) AS BIGNUMERIC) != CAST({name} AS BIGNUMERIC)) FROM {relation} WHERE {}",
            every_row(self.table.as_ref()),
        );
        let rows = self.session.few("widening a column", &sql, &self.labels, &self.caller).await?;
        let lost = super::ask::whole(rows.first().and_then(|row| row.first()));
        if lost == 0 {
            return Ok(());
        }
        Err(Error::new(
            Kind::Data,
            format!("the column {name} is {}, and {lost} of its values would lose digits as {wide}", own.data_type),
        )
        .hint("declare the column as a DECIMAL that holds both, and change the table's type to it"))
    }

    /// What a load job of this commit does beside its rows.
    pub(super) fn disposition(attempt: u32) -> Disposition {
        if attempt == 1 { Disposition::Empty } else { Disposition::Truncate }
    }
}

fn is_nested(data_type: &LogicalType) -> bool {
    matches!(data_type, LogicalType::Struct(_) | LogicalType::List(_))
}

/// Puts a field among others, or its new fields into the one of its name.
fn merge(fields: &mut Vec<Value>, new: Value) {
    let name = new["name"].as_str().unwrap_or_default().to_lowercase();
    let own = fields.iter_mut().find(|own| own["name"].as_str().is_some_and(|own| own.to_lowercase() == name));
    match own {
        None => fields.push(new),
        Some(own) => {
            if let (Some(inner), Some(more)) = (own["fields"].as_array_mut(), new["fields"].as_array()) {
                for field in more {
                    merge(inner, field.clone());
                }
            }
        }
    }
}

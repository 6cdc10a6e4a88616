//! Datasets and tables made, changed and removed. A table is patched, never put: what we do not know of it stays.

use gcp_bigquery_client::model::dataset::Dataset;
use serde_json::{Value, json};

use super::refused::Why;
use super::run::reference;
use super::{BigQuery, Caller, Refused, TableId};
use crate::time::Instant;

impl BigQuery {
    /// Makes a dataset where the connection's location says; one that is there stays as it is (datasets.insert).
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn ensure_dataset(&self, dataset: &str, caller: &Caller<'_>) -> Result<(), Refused> {
        let model = || {
            let model = Dataset::new(self.project(), dataset);
            match self.location() {
                Some(location) => model.location(location),
                None => model,
            }
        };
        let created = self.patiently(caller, || async { Ok(self.google().dataset().create(model()).await?) }).await;
        match created {
            Err(refused) if refused.why != Why::Duplicate => Err(refused),
            _ => Ok(()),
        }
    }

    /// Makes a table from a resource that lacks only its name; says whether it was made, or there already (tables.insert).
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn create_table(
        &self,
        table: &TableId,
        mut resource: Value,
        caller: &Caller<'_>,
    ) -> Result<bool, Refused> {
        // The client's model of a table has no digits of columns, and no types that came later.
        resource["tableReference"] = reference(table);
        match self.post(caller, &[table.project.as_str(), "datasets", &table.dataset, "tables"], &resource).await {
            Ok(_) => Ok(true),
            Err(refused) if refused.why == Why::Duplicate => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// What a table tells of itself, all of it, as it was answered (tables.get).
    ///
    /// # Errors
    /// [`Why::NotFound`] where there is none.
    pub async fn table_json(&self, table: &TableId, caller: &Caller<'_>) -> Result<Value, Refused> {
        let path = [table.project.as_str(), "datasets", &table.dataset, "tables", &table.table];
        let body = self.get(caller, &path, &[]).await?;
        serde_json::from_slice(&body).map_err(|error| Refused::strange(format!("what {table} tells of itself"), error))
    }

    /// Changes the members of a table that are sent, and no others (tables.patch); with an `etag` only where the table is still
    /// the one that had it, and says whether it was.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn patch_table(
        &self,
        table: &TableId,
        change: &Value,
        etag: Option<&str>,
        caller: &Caller<'_>,
    ) -> Result<bool, Refused> {
        let path = [table.project.as_str(), "datasets", &table.dataset, "tables", &table.table];
        self.patch(caller, &path, change, etag).await
    }

    /// Removes a table, or with a partition's decorator only that partition; one that is not there is gone already.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn delete_table(&self, table: &TableId, caller: &Caller<'_>) -> Result<(), Refused> {
        let path = [table.project.as_str(), "datasets", &table.dataset, "tables", &table.table];
        match self.delete(caller, &path).await {
            Err(refused) if refused.why != Why::NotFound => Err(refused),
            _ => Ok(()),
        }
    }

    /// The member that makes a table end by itself.
    pub fn ends(end: Instant) -> Value {
        json!(end.timestamp_millis().to_string())
    }
}

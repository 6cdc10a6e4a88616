//! Datasets and tables of the strict BigQuery: their resources, their rows, and the partitions that they lie in.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::{Answer, PROJECT, Refusal, State, Table, known};

impl State {
    pub(super) fn insert_dataset(&mut self, resource: &Value) -> Answer {
        known(resource, &["datasetReference", "location"])?;
        let name = resource["datasetReference"]["datasetId"].as_str().expect("a name").to_owned();
        if self.datasets.contains_key(&name) {
            return Err((409, "duplicate", format!("Already Exists: Dataset {PROJECT}:{name}")));
        }
        // Where nothing is said, BigQuery makes it in the United States.
        let location = resource["location"].as_str().unwrap_or("US");
        if self.location.as_deref().is_some_and(|own| own != location) {
            let told = format!("'{location}' violates constraint 'constraints/gcp.resourceLocations'");
            return Err((412, "conditionNotMet", told));
        }
        self.datasets.insert(name, resource["location"].clone());
        Ok(resource.clone())
    }

    pub(super) fn list(&self, dataset: &str) -> Answer {
        if !self.datasets.contains_key(dataset) {
            return Err((404, "notFound", format!("Not found: Dataset {PROJECT}:{dataset}")));
        }
        let names = self.tables.keys().filter_map(|name| name.strip_prefix(&format!("{dataset}.")));
        let tables: Vec<Value> = names
            .map(|name| json!({ "tableReference": { "projectId": PROJECT, "datasetId": dataset, "tableId": name } }))
            .collect();
        Ok(json!({ "kind": "bigquery#tableList", "totalItems": tables.len(), "tables": tables }))
    }

    pub(super) fn insert_table(&mut self, dataset: &str, mut resource: Value) -> Answer {
        const MEMBERS: [&str; 8] = [
            "tableReference",
            "schema",
            "timePartitioning",
            "clustering",
            "expirationTime",
            "description",
            "requirePartitionFilter",
            "labels",
        ];
        known(&resource, &MEMBERS)?;
        known(&resource["timePartitioning"], &["type", "field", "expirationMs"])?;
        let name = resource["tableReference"]["tableId"].as_str().expect("a name").to_owned();
        if !self.datasets.contains_key(dataset) {
            return Err((404, "notFound", format!("Not found: Dataset {PROJECT}:{dataset}")));
        }
        let name = format!("{dataset}.{name}");
        if self.tables.contains_key(&name) {
            return Err((409, "duplicate", format!("Already Exists: Table {PROJECT}:{name}")));
        }
        self.clock += 1;
        resource["type"] = json!("TABLE");
        resource["creationTime"] = json!((1_714_600_000_000 + self.clock).to_string());
        resource["etag"] = json!(format!("e{}", self.clock));
        self.tables.insert(name, Table { resource: resource.clone(), rows: Vec::new() });
        Ok(resource)
    }

    pub(super) fn get_table(&self, dataset: &str, table: &str) -> Answer {
        let name = format!("{dataset}.{table}");
        let found =
            self.tables.get(&name).ok_or_else(|| (404, "notFound", format!("Not found: Table {PROJECT}:{name}")))?;
        let mut resource = found.resource.clone();
        resource["numRows"] = json!(found.rows.len().to_string());
        Ok(resource)
    }

    pub(super) fn patch_table(&mut self, dataset: &str, table: &str, headers: &HeaderMap, change: &Value) -> Answer {
        known(change, &["schema"])?;
        let etag = headers.get("if-match").and_then(|etag| etag.to_str().ok()).expect("a change names what it changes");
        let own = self.get_table(dataset, table)?;
        if own["etag"] != etag {
            return Err((412, "conditionNotMet", "Precondition Failed".to_owned()));
        }
        let names = |schema: &Value| -> Vec<String> {
            let fields = schema["fields"].as_array().cloned().unwrap_or_default();
            fields.iter().filter_map(|field| field["name"].as_str().map(str::to_owned)).collect()
        };
        let new = names(&change["schema"]);
        if names(&own["schema"]).iter().any(|name| !new.contains(name)) {
            return Err((400, "invalid", "Provided Schema does not match Table".to_owned()));
        }
        self.clock += 1;
        let table = self.tables.get_mut(&format!("{dataset}.{table}")).expect("it is there");
        table.resource["schema"] = change["schema"].clone();
        table.resource["etag"] = json!(format!("e{}", self.clock));
        Ok(table.resource.clone())
    }

    /// A table and its partition.
    pub(super) fn place(&self, reference: &Value) -> (String, Option<String>) {
        let (dataset, table) =
            (reference["datasetId"].as_str().expect("a dataset"), reference["tableId"].as_str().expect("a table"));
        match table.split_once('$') {
            Some((table, partition)) => (format!("{dataset}.{table}"), Some(partition.to_owned())),
            None => (format!("{dataset}.{table}"), None),
        }
    }

    pub(super) fn write(
        &mut self,
        name: &str,
        partition: Option<&str>,
        rows: Vec<Value>,
        disposition: &str,
    ) -> Result<(), Refusal> {
        let table = self.tables.get_mut(name).expect("it is there");
        let every = table.resource["timePartitioning"]["type"].as_str().unwrap_or_default().to_owned();
        let decorator = |row: &Value| decorator(row, &every);
        if let Some(partition) = partition {
            assert_eq!(table.resource["timePartitioning"]["field"], "_haul_unit", "{name} has partitions");
            if partition.len() != digits(&every) {
                return Err((400, "invalid", format!("Invalid time partition: {partition} of a table by {every}")));
            }
            if rows.iter().any(|row| decorator(row) != partition) {
                return Err((
                    400,
                    "invalid",
                    "Some rows belong to different partitions rather than destination partition".to_owned(),
                ));
            }
        }
        match disposition {
            "WRITE_TRUNCATE" => table.rows.retain(|row| partition.is_some_and(|partition| decorator(row) != partition)),
            "WRITE_EMPTY" if !table.rows.is_empty() => {
                return Err((409, "duplicate", format!("Already Exists: Table {name}")));
            }
            _ => {}
        }
        table.rows.extend(rows);
        Ok(())
    }
}

/// The partition of a row in a table whose partitions have this length.
pub(super) fn decorator(row: &Value, every: &str) -> String {
    let text = row["_haul_unit"].as_str().unwrap_or_default();
    text.chars().filter(char::is_ascii_digit).take(digits(every)).collect()
}

/// So many digits name a partition.
fn digits(every: &str) -> usize {
    match every {
        "HOUR" => 10,
        "DAY" => 8,
        "MONTH" => 6,
        other => panic!("timePartitioning.type {other}"),
    }
}

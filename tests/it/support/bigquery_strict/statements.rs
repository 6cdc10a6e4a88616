//! The few statements that the strict BigQuery runs: those that are asked of a table which is replaced by partitions.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use super::{Answer, Job, PROJECT, Refusal, State, Table, known};

impl State {
    /// jobs.query: a statement that is answered at once.
    pub(super) fn ask(&mut self, request: &Value) -> Answer {
        const MEMBERS: [&str; 7] =
            ["query", "useLegacySql", "labels", "maxResults", "requestId", "formatOptions", "location"];
        known(request, &MEMBERS)?;
        assert!(request["requestId"].as_str().is_some_and(|id| id.len() <= 36));
        let id = format!("asked_{}", self.jobs.len());
        let query = json!({ "query": request["query"], "useLegacySql": request["useLegacySql"] });
        let configuration = json!({ "labels": request["labels"], "query": query });
        let mut reference = json!({ "jobId": id });
        if request["location"].is_string() {
            reference["location"] = request["location"].clone();
        }
        self.insert_job(&json!({ "jobReference": reference, "configuration": configuration }), None)?;
        let mut answer = self.results(&id, &HashMap::from([("maxResults".to_owned(), "1".to_owned())]))?;
        let location = self.location.as_deref().unwrap_or("EU");
        answer["jobReference"] = json!({ "projectId": PROJECT, "jobId": id, "location": location });
        Ok(answer)
    }

    /// The few statements that are asked of a table that is replaced by partitions.
    pub(super) fn run(&mut self, query: &Value, job: &mut Job) -> Result<u64, Refusal> {
        known(query, &["query", "useLegacySql", "maximumBytesBilled"])?;
        assert_eq!(query["useLegacySql"], false);
        let sql = query["query"].as_str().expect("a statement");
        if let Some(change) = sql.strip_prefix("ALTER TABLE ") {
            return self.alter(&change.replace('`', ""));
        }
        if let Some(table) = sql.strip_prefix("SELECT * FROM ").and_then(|name| self.tables.get(name)) {
            job.result = table_rows(table);
            return Ok(0);
        }
        self.filtered(sql)?;
        let dataset = sql.split_once("FROM `").and_then(|(_, rest)| rest.split('`').next()).unwrap_or_default();
        let columns: Vec<&str> =
            if sql.contains("INFORMATION_SCHEMA.PARTITIONS") || sql.starts_with("SELECT DISTINCT FORMAT_") {
                vec!["unit"]
            } else if sql.contains("_haul_loads") && sql.starts_with("SELECT table_name") {
                vec!["table_name", "unit", "pull", "generation", "rows", "fingerprint", "inputs", "committed_at"]
            } else if sql.contains("_haul_loads") && sql.starts_with("SELECT unit") {
                vec!["unit", "generation", "pull", "rows", "fingerprint", "number"]
            } else if sql.contains("SELECT COUNT(*) FROM _haul_wrong") {
                vec!["wrong", "sample"]
            } else {
                return Err((400, "invalidQuery", format!("this server does not run {sql}")));
            };
        let kind = |name: &str| {
            if ["pull", "generation", "rows", "number"].contains(&name) {
                "INTEGER"
            } else if name == "committed_at" {
                "TIMESTAMP"
            } else {
                "STRING"
            }
        };
        let fields: Vec<Value> = columns.iter().map(|name| json!({ "name": name, "type": kind(name) })).collect();
        let rows = if columns == ["unit"] {
            let parts = || sql.split(['\'', '`']);
            let table = parts().find(|part| self.tables.contains_key(&format!("{dataset}.{part}")));
            let rows =
                self.tables.get(&format!("{dataset}.{}", table.unwrap_or_default())).map(|table| table.rows.clone());
            let units: BTreeSet<String> = rows
                .unwrap_or_default()
                .iter()
                .filter_map(|row| row["_haul_unit"].as_str())
                .map(|unit| match unit.get(11..16) {
                    Some(clock) if sql.contains("%Y-%m-%dT%H:%MZ") => format!("{}T{clock}Z", &unit[..10]),
                    _ => unit.to_owned(),
                })
                .collect();
            units.into_iter().map(|unit| json!({ "f": [{ "v": unit }] })).collect()
        } else if columns[0] == "wrong" {
            vec![json!({ "f": [{ "v": "0" }, { "v": [] }] })]
        } else {
            let mut newest: BTreeMap<(String, String), Value> = BTreeMap::new();
            for row in &self.tables.get(&format!("{dataset}._haul_loads")).cloned().unwrap_or_default().rows {
                let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                let key = (text("table_name"), text("unit"));
                if sql.contains(&format!("'{}'", key.0))
                    && newest.get(&key).is_none_or(|own| own["generation"].as_u64() < row["generation"].as_u64())
                {
                    newest.insert(key, row.clone());
                }
            }
            newest
                .values()
                .map(|row| json!({ "f": columns.iter().map(|name| cell(&row[*name])).collect::<Vec<_>>() }))
                .collect()
        };
        let mut fields = json!(fields);
        if columns[0] == "wrong" {
            fields = json!([{ "name": "wrong", "type": "INTEGER" }, { "name": "sample", "type": "STRING", "mode": "REPEATED" }]);
        }
        job.result = (fields, rows);
        Ok(0)
    }

    /// Whether a statement says which partitions it reads of a table that wants to know that.
    fn filtered(&self, sql: &str) -> Result<(), Refusal> {
        for (name, table) in &self.tables {
            let quoted = format!("`{}`", name.replace('.', "`.`"));
            let wants = table.resource["requirePartitionFilter"] == true;
            let field = table.resource["timePartitioning"]["field"].as_str().unwrap_or("_PARTITIONTIME");
            if wants && sql.split_once(&quoted).is_some_and(|(_, rest)| !rest.contains(field)) {
                let told = format!("Cannot query over table '{name}' without a filter over column(s) '{field}'");
                return Err((400, "invalidQuery", told));
            }
        }
        Ok(())
    }

    /// `dataset.table ALTER COLUMN name SET DATA TYPE type`, for the changes that the documentation has ("Change a column's data
    /// type"): numbers may become wider ones.
    fn alter(&mut self, change: &str) -> Result<u64, Refusal> {
        let words: Vec<&str> = change.split(' ').collect();
        let [table, "ALTER", "COLUMN", column, "SET", "DATA", "TYPE", data_type] = words[..] else {
            return Err((400, "invalidQuery", format!("this server does not run ALTER TABLE {change}")));
        };
        let table = self.tables.get_mut(table).expect("it is there");
        let fields = table.resource["schema"]["fields"].as_array_mut().expect("columns");
        let field = fields.iter_mut().find(|field| field["name"] == column).expect("a column of the table");
        let (name, digits) = data_type.trim_end_matches(')').split_once('(').unwrap_or((data_type, ""));
        let wider: &[&str] = match field["type"].as_str().unwrap_or_default() {
            "INTEGER" => &["NUMERIC", "BIGNUMERIC", "FLOAT64"],
            "NUMERIC" => &["NUMERIC", "BIGNUMERIC", "FLOAT64"],
            "BIGNUMERIC" => &["BIGNUMERIC", "FLOAT64"],
            _ => &[],
        };
        if !wider.contains(&name) {
            let told = format!(
                "ALTER TABLE ALTER COLUMN SET DATA TYPE requires that the existing column type ({}) is assignable to the new type ({name})",
                field["type"]
            );
            return Err((400, "invalidQuery", told));
        }
        *field = json!({ "name": column, "type": name, "mode": "NULLABLE" });
        for (digits, member) in digits.split(',').filter(|digits| !digits.is_empty()).zip(["precision", "scale"]) {
            field[member] = json!(digits.trim());
        }
        Ok(0)
    }
}

/// The columns of a table and its rows as cells.
fn table_rows(table: &Table) -> (Value, Vec<Value>) {
    let fields = &table.resource["schema"]["fields"];
    let names: Vec<&str> = fields.as_array().into_iter().flatten().filter_map(|field| field["name"].as_str()).collect();
    let row = |row: &Value| json!({ "f": names.iter().map(|name| cell(&row[*name])).collect::<Vec<_>>() });
    (fields.clone(), table.rows.iter().map(row).collect())
}

/// A value as rows of results have it: everything is a text.
fn cell(value: &Value) -> Value {
    json!({ "v": match value { Value::Null => Value::Null, Value::String(text) => json!(text), other => json!(other.to_string()) } })
}

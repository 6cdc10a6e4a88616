//! Given rows: read from where they stand, typed, divided into units, and brought into a throwaway warehouse.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::infer::{infer, of_csv};
use crate::error::{Context, Error, Kind, Result};
use crate::model::cost::Billing;
use crate::model::ga4;
use crate::model::layout::Layout;
use crate::model::name::TableName;
use crate::model::pipeline::{Action, Guard, Pipeline, Project, Step, Write};
use crate::model::schema::{Column, Contract, LogicalType};
use crate::model::trial::{Given, GivenRows};
use crate::time::{Calendar, Grain, Instant, Tz, Unit, UnitKey};
use crate::warehouse::{Commit, Labels, NewRows, Permit, UnitCommit, Warehouse};

/// No given table has more rows.
const MOST_ROWS: usize = 1_000_000;

/// The column that tells a row's unit without being one of the table.
const OWN_UNIT: &str = "_haul_unit";

/// The column of a SELECT that tells the place of a row in time; what begins like this gets into no table.
const PLACE: &str = "_haul_place";

/// Given rows with their types and units.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub name: TableName,
    columns: Vec<(String, LogicalType)>,
    /// Divides the rows into units; none for a table that has none.
    pub calendar: Option<Calendar>,
    pub rows: Vec<(Option<Unit>, Map<String, Value>)>,
}

/// Who writes a table, in whatever pipeline of the project.
fn writer<'p>(project: &'p Project, pipeline: &'p Pipeline, table: &TableName) -> Option<(&'p Pipeline, &'p Step)> {
    let others = project.pipelines.iter().filter(|other| other.warehouse == pipeline.warehouse).map(|other| &**other);
    let mut all = std::iter::once(pipeline).chain(others);
    all.find_map(|pipeline| Some((pipeline, &**pipeline.steps.iter().find(|step| step.into == *table)?)))
}

/// Reads given rows.
///
/// # Errors
/// A file that is none of rows, a row that does not tell its unit, a table without any column.
pub(super) async fn read(
    project: &Project,
    pipeline: &Pipeline,
    given: &Given,
    warehouse: &Warehouse,
) -> Result<Table> {
    let doing = || format!("giving {} its rows", given.table);
    let writer = writer(project, pipeline, &given.table);
    let mut types = declared(writer.map(|(_, step)| step));
    let rows = match &given.rows {
        GivenRows::Inline(rows) => rows.clone(),
        GivenRows::File(path) => of_file(&project.root.join(path), path).map_err(|error| error.while_doing(doing()))?,
        GivenRows::Sql(sql) => {
            let found = of_sql(warehouse, sql, &mut types).await;
            found.map_err(|error| error.while_doing(doing()))?
        }
    };
    types.extend(given.columns.clone());
    let columns = columns(&rows, &types);
    if columns.is_empty() {
        return Err(Error::config(doing()).because("they have no columns").hint("columns = { id = \"BIGINT\" }"));
    }
    let windowed = writer.filter(|(_, step)| step.write != Write::Full).and_then(|(pipeline, _)| pipeline.calendar());
    let rows = match windowed {
        None => rows.into_iter().map(|row| (None, row)).collect(),
        Some(calendar) => {
            let teller = teller(given, writer.map(|(_, step)| step), &rows, &columns)?;
            divided(rows, &teller, calendar).map_err(|error| error.while_doing(doing()))?
        }
    };
    Ok(Table { name: given.table.clone(), columns, calendar: windowed, rows })
}

/// The types that the step which writes a table declares.
fn declared(step: Option<&Step>) -> BTreeMap<String, LogicalType> {
    match step.map(|step| &step.action) {
        Some(Action::Extract(extract)) => extract.columns.clone(),
        Some(Action::Load(load)) => load.rows.columns.clone(),
        _ => BTreeMap::new(),
    }
}

/// All columns: those of the rows in their order, then those that are only declared.
fn columns(rows: &[Map<String, Value>], types: &BTreeMap<String, LogicalType>) -> Vec<(String, LogicalType)> {
    let mut names: Vec<&String> = Vec::new();
    let mut seen = BTreeSet::new();
    for name in rows.iter().flat_map(Map::keys).chain(types.keys()) {
        if !name.starts_with("_haul_") && seen.insert(name) {
            names.push(name);
        }
    }
    let typed = names.into_iter().map(|name| {
        let values = || rows.iter().filter_map(|row| row.get(name));
        (name.clone(), types.get(name).cloned().unwrap_or_else(|| infer(values())))
    });
    typed.collect()
}

/// The column by which rows tell their unit.
fn teller(
    given: &Given,
    step: Option<&Step>,
    rows: &[Map<String, Value>],
    columns: &[(String, LogicalType)],
) -> Result<String> {
    if let Some(column) = &given.time_column {
        return Ok(column.clone());
    }
    if rows.iter().any(|row| row.contains_key(OWN_UNIT)) {
        return Ok(OWN_UNIT.to_owned());
    }
    let named = match step.map(|step| &step.action) {
        Some(Action::Extract(extract)) => extract.time.as_ref().map(|time| time.path.clone()),
        Some(Action::Transform(transform)) => transform.time_column.clone(),
        _ => None,
    };
    if let Some(column) = named.filter(|column| rows.iter().any(|row| row.contains_key(column))) {
        return Ok(column);
    }
    let times: Vec<&String> = columns
        .iter()
        .filter(|(_, data_type)| matches!(data_type, LogicalType::Date | LogicalType::Timestamp))
        .map(|(name, _)| name)
        .collect();
    match times.as_slice() {
        [only] => Ok((*only).clone()),
        _ if rows.is_empty() => Ok(OWN_UNIT.to_owned()),
        _ => Err(Error::config(format!("giving {} its rows", given.table))
            .because("nothing tells which unit a row is of")
            .hint("time_column = \"…\" beside the rows; or say it in each: _haul_unit = 2024-05-01")),
    }
}

fn divided(
    rows: Vec<Map<String, Value>>,
    teller: &str,
    calendar: Calendar,
) -> Result<Vec<(Option<Unit>, Map<String, Value>)>> {
    let mut divided = Vec::with_capacity(rows.len());
    for (number, row) in rows.into_iter().enumerate() {
        let value = teller.split('.').try_fold(None, |found: Option<&Value>, part| match found {
            None => row.get(part).map(Some),
            Some(value) => value.get(part).map(Some),
        });
        let unit = value.flatten().and_then(|value| unit_of(value, calendar)).ok_or_else(|| {
            let told = value.flatten().map_or_else(|| "is missing".to_owned(), |value| format!("is {value}"));
            Error::new(Kind::Config, format!("`{teller}` of row {} {told}, which tells no unit", number + 1))
                .hint("a date, an instant, seconds, milliseconds or microseconds since 1970")
        })?;
        divided.push((Some(unit), row));
    }
    Ok(divided)
}

/// The unit that a value lies in: a date, an instant, or a number whose size tells what it counts.
fn unit_of(value: &Value, calendar: Calendar) -> Option<Unit> {
    if let Some(number) = value.as_i64() {
        const SECONDS: i64 = 100_000_000_000;
        let instant = match number.abs() {
            size if size < SECONDS => chrono::DateTime::from_timestamp(number, 0),
            size if size < SECONDS * 1000 => chrono::DateTime::from_timestamp_millis(number),
            _ => chrono::DateTime::from_timestamp_micros(number),
        };
        return instant.map(|instant| calendar.containing(instant));
    }
    let text = value.as_str()?;
    let compact = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Ok(date) = chrono::NaiveDate::parse_from_str(text, if compact { "%Y%m%d" } else { "%Y-%m-%d" }) {
        return Some(calendar.of_date(date));
    }
    ga4::moment(text, calendar.tz).map(|instant| calendar.containing(instant))
}

fn of_file(place: &Path, name: &Path) -> Result<Vec<Map<String, Value>>> {
    let doing = || format!("reading {}", name.display());
    let text = std::fs::read_to_string(place).context(Kind::Storage, doing)?;
    match name.extension().and_then(|ending| ending.to_str()) {
        Some("json") => serde_json::from_str(&text).context(Kind::Config, doing),
        Some("csv") => {
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let names: Vec<String> = reader.headers().context(Kind::Config, doing)?.iter().map(str::to_owned).collect();
            let mut rows = Vec::new();
            for record in reader.records() {
                let record = record.context(Kind::Config, doing)?;
                rows.push(names.iter().cloned().zip(record.iter().map(of_csv)).collect());
            }
            Ok(rows)
        }
        _ => {
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let row = |(number, line): (usize, &str)| {
                serde_json::from_str(line).context(Kind::Config, || format!("{}, line {}", doing(), number + 1))
            };
            lines.map(row).collect()
        }
    }
}

async fn of_sql(
    warehouse: &Warehouse,
    sql: &str,
    types: &mut BTreeMap<String, LogicalType>,
) -> Result<Vec<Map<String, Value>>> {
    let plain = sql.trim().trim_end_matches(';');
    let found = warehouse.query(plain, MOST_ROWS).await?;
    let described =
        warehouse.query(&format!("SELECT column_name, column_type FROM (DESCRIBE {plain})"), 10_000).await?;
    for row in &described.rows {
        if let [Value::String(name), Value::String(text)] = row.as_slice()
            && let Ok(data_type) = LogicalType::parse(text)
        {
            types.insert(name.clone(), data_type);
        }
    }
    Ok(found.rows.into_iter().map(|row| found.columns.iter().cloned().zip(row).collect()).collect())
}

impl Table {
    /// What a warehouse has of a table, as rows that can be given elsewhere; none of a table that is not there.
    pub async fn of(warehouse: &Warehouse, name: &TableName, calendar: Option<Calendar>) -> Result<Option<Self>> {
        let Some(schema) = warehouse.describe(name).await? else { return Ok(None) };
        let found =
            warehouse.query(&format!("SELECT * FROM {}", warehouse.dialect().relation(name)), MOST_ROWS).await?;
        let rows: Vec<Map<String, Value>> =
            found.rows.into_iter().map(|row| found.columns.iter().cloned().zip(row).collect()).collect();
        let has_units = found.columns.iter().any(|column| column == OWN_UNIT);
        let calendar = calendar.filter(|_| has_units);
        let own = |name: &str| name.to_lowercase().starts_with("_haul_");
        let columns = schema.columns.into_iter().filter(|column| !own(&column.name));
        Ok(Some(Self {
            name: name.clone(),
            columns: columns.map(|column| (column.name, column.data_type)).collect(),
            rows: match calendar {
                Some(calendar) => divided(rows, OWN_UNIT, calendar)?,
                None => rows.into_iter().map(|row| (None, row)).collect(),
            },
            calendar,
        }))
    }

    /// The same table with the rows of these units only; a table without units stays as it is.
    pub fn within(&self, keep: impl Fn(&Unit) -> bool) -> Self {
        let kept = |row: &&(Option<Unit>, Map<String, Value>)| row.0.as_ref().is_none_or(&keep);
        Self { rows: self.rows.iter().filter(kept).cloned().collect(), ..self.clone() }
    }

    /// The units that have rows.
    pub fn units(&self) -> BTreeMap<UnitKey, Unit> {
        self.rows.iter().filter_map(|(unit, _)| unit.map(|unit| (unit.key(), unit))).collect()
    }

    /// Replaces what the warehouse has of these units by the rows of them; without units, the whole table.
    pub async fn put(&self, warehouse: &Warehouse, units: &[Unit], pull: u64, now: Instant) -> Result<()> {
        let unit_commit = |unit: Option<Unit>| UnitCommit {
            unit,
            key: unit.map_or_else(UnitKey::whole, |unit| unit.key()),
            pull,
            generation: pull,
            previous: None,
            guard: Guard::OPEN,
            staged: None,
            inputs: None,
        };
        let windowed = self.calendar.is_some();
        let commit = Commit {
            table: self.name.clone(),
            grain: self.calendar.map(|calendar| calendar.grain),
            rows: NewRows::Query { sql: self.select(), time_column: windowed.then(|| PLACE.to_owned()) },
            write: if windowed { Write::Replace } else { Write::Full },
            keys: Vec::new(),
            contract: Contract::Evolve,
            units: if windowed {
                units.iter().map(|unit| unit_commit(Some(*unit))).collect()
            } else {
                vec![unit_commit(None)]
            },
            checks: Vec::new(),
            layout: Layout::default(),
            labels: Labels::default(),
            billing: Billing::default(),
            cancel: CancellationToken::new(),
            permit: Permit::default(),
            run: "given".to_owned(),
            at: now,
        };
        if commit.units.is_empty() {
            return Ok(());
        }
        // The statement is ours, and long: nobody wants to see it.
        warehouse
            .commit(commit)
            .await
            .map(|_| ())
            .map_err(|error| Error::new(error.kind(), format!("giving {} its rows", self.name)).because(error.chain()))
    }

    /// A SELECT of all rows, each column with its type; the place in time of each has a column that goes into no table.
    fn select(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(|(unit, row)| Value::Object(self.whole(*unit, row))).collect();
        let mut columns: Vec<String> = self.columns.iter().map(|(name, data_type)| column(name, data_type)).collect();
        columns.extend(self.calendar.map(|calendar| {
            let data_type = if calendar.grain == Grain::Hour { LogicalType::Timestamp } else { LogicalType::Date };
            column(PLACE, &data_type)
        }));
        let json = Value::Array(rows).to_string().replace('\'', "''");
        format!("SELECT {} FROM (SELECT unnest(CAST('{json}' AS JSON[])) AS j)", columns.join(", "))
    }

    /// A row with all fields of its records, whose instants are written as the warehouse keeps them.
    fn whole(&self, unit: Option<Unit>, row: &Map<String, Value>) -> Map<String, Value> {
        let mut whole = Map::new();
        if let Some(unit) = unit {
            let place = match unit.calendar.grain {
                Grain::Hour => unit.start.format("%Y-%m-%d %H:%M:%S").to_string(),
                _ => unit.date().to_string(),
            };
            whole.insert(PLACE.to_owned(), Value::from(place));
        }
        for (name, data_type) in &self.columns {
            if let Some(value) = row.get(name) {
                whole.insert(name.clone(), filled(value, data_type));
            }
        }
        whole
    }
}

/// A value as its type has it: fields that a record leaves out are null, instants are in UTC.
fn filled(value: &Value, data_type: &LogicalType) -> Value {
    match (data_type, value) {
        (LogicalType::Struct(fields), Value::Object(members)) => {
            let field = |field: &Column| {
                let value = members.get(&field.name).map_or(Value::Null, |value| filled(value, &field.data_type));
                (field.name.clone(), value)
            };
            Value::Object(fields.iter().map(field).collect())
        }
        (LogicalType::List(element), Value::Array(items)) => items.iter().map(|item| filled(item, element)).collect(),
        (LogicalType::Timestamp, Value::String(text)) => {
            let has_offset = chrono::DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)).is_ok();
            match ga4::moment(text, Tz::UTC).filter(|_| has_offset) {
                Some(instant) => Value::from(instant.format("%Y-%m-%d %H:%M:%S%.6f").to_string()),
                None => value.clone(),
            }
        }
        _ => value.clone(),
    }
}

fn column(name: &str, data_type: &LogicalType) -> String {
    let path = format!("$.\"{}\"", name.replace('"', "\\\"")).replace('\'', "''");
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    let arrow = match data_type {
        LogicalType::Struct(_) | LogicalType::List(_) | LogicalType::Json => "->",
        _ => "->>",
    };
    format!("CAST(j {arrow} '{path}' AS {data_type}) AS {quoted}")
}

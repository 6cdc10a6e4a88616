//! Tables as PostgreSQL has them: their columns and types, how they are created, and how they follow their rows.

use sqlx::Row;

use super::fault::failed;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::model::infer::OWN;
use crate::model::name::TableName;
use crate::model::pipeline::Write;
use crate::model::schema::{Column, LogicalType, Reading, Reconciled, SchemaChange, StagedColumn, TableSchema};
use crate::warehouse::dialect::{LOADS, POSTGRES};
use crate::warehouse::{Commit, NEW_ROWS};

/// PostgreSQL cuts off longer names without a word.
const LONGEST_NAME: usize = 63;

/// A table, with what only this driver has to know of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// The columns without haul's own.
    pub schema: TableSchema,
    /// The type of each of those columns, as PostgreSQL writes it.
    pub types: Vec<String>,
    /// The type of `_haul_unit`; none of a table without units.
    pub unit: Option<String>,
    /// Whether it has `_haul_pull`.
    pub pull: bool,
    /// How it is divided, as `pg_get_partkeydef` tells: `RANGE (_haul_unit)`.
    pub divided: Option<String>,
}

impl Table {
    /// The columns of haul's own that a table of others' making does not have yet, with their types.
    pub fn lacks(&self, commit: &Commit) -> Vec<String> {
        let unit = commit.grain.filter(|_| self.unit.is_none());
        let unit = unit.map(|grain| format!("_haul_unit {}", POSTGRES.unit_type(grain)));
        unit.into_iter().chain((!self.pull).then(|| "_haul_pull bigint".to_owned())).collect()
    }

    /// The type of a column, as PostgreSQL writes it.
    pub fn type_of(&self, name: &str) -> Option<&str> {
        let place = self.schema.columns.iter().position(|column| column.name == name)?;
        self.types.get(place).map(String::as_str)
    }
}

/// Refuses names that PostgreSQL would cut off.
pub(super) fn assert_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<()> {
    match names.into_iter().find(|name| name.len() > LONGEST_NAME) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            Kind::Data,
            format!("the name `{name}` has {} bytes, PostgreSQL has room for {LONGEST_NAME}", name.len()),
        )
        .hint("give it a shorter one: a table by `into`, a column in the source's own query")),
    }
}

/// Creates the schema of a table, and its `_haul_loads`, where they are missing.
///
/// Of two sessions that find them missing at the same moment, one is refused by the other's; it looks again.
pub(super) async fn ensure_loads(session: &mut Session, table: &TableName) -> Result<()> {
    const ATTEMPTS: u32 = 3;
    let mut attempt = 1;
    loop {
        match create_loads(session, table).await {
            Err(_) if attempt < ATTEMPTS => {
                session.roll_back().await?;
                attempt += 1;
            }
            ended => return ended,
        }
    }
}

async fn create_loads(session: &mut Session, table: &TableName) -> Result<()> {
    assert_names([table.schema.as_str(), table.name.as_str()])?;
    let doing = "looking for _haul_loads";
    let loads = POSTGRES.loads_of(table);
    let found: (bool, bool) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1), pg_catalog.to_regclass($2) IS NOT NULL",
    )
    .bind(&table.schema)
    .bind(&loads)
    .fetch_one(&mut session.connection)
    .await
    .map_err(|error| failed(doing, &error))?;
    if found == (true, true) {
        return Ok(());
    }
    let schema = POSTGRES.ident(&table.schema);
    // Whoever may not create schemas may still write in one that is there.
    let schema = if found.0 { String::new() } else { format!("CREATE SCHEMA IF NOT EXISTS {schema};") };
    session
        .batch(
            "creating _haul_loads",
            &format!(
                "BEGIN; SELECT pg_advisory_xact_lock({}); {schema} CREATE TABLE IF NOT EXISTS {loads} (\
                 table_name text NOT NULL, unit text NOT NULL, pull bigint NOT NULL, generation bigint NOT NULL, \
                 rows bigint NOT NULL, fingerprint text NOT NULL, inputs text, run text NOT NULL, \
                 committed_at timestamptz NOT NULL, PRIMARY KEY (table_name, unit, generation)); COMMIT",
                lock_key(&["schema", &table.schema])
            ),
        )
        .await
}

/// The number of an advisory lock: the same words give the same one in every process.
pub(super) fn lock_key(words: &[&str]) -> i64 {
    xxhash_rust::xxh3::xxh3_64(words.join("\0").as_bytes()).cast_signed()
}

/// What is there under this name; none where there is nothing.
pub(super) async fn read(session: &mut Session, table: &TableName) -> Result<Option<Table>> {
    let doing = "reading the columns of a table";
    let rows: Vec<(Option<String>, Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), pg_catalog.pg_get_partkeydef(c.oid) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY a.attnum",
    )
    .bind(&table.schema)
    .bind(&table.name)
    .fetch_all(&mut session.connection)
    .await
    .map_err(|error| failed(doing, &error))?;
    Ok((!rows.is_empty()).then(|| of_columns(rows)))
}

/// The columns of the temporary rows.
pub(super) async fn read_new(session: &mut Session) -> Result<Table> {
    let doing = "reading the columns of the new rows";
    let sql = format!(
        "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = 'pg_temp.{NEW_ROWS}'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    );
    let rows = session.rows(doing, &sql).await?;
    let columns = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, None)));
    columns.collect::<sqlx::Result<Vec<_>>>().map(of_columns).map_err(|error| failed(doing, &error))
}

fn of_columns(rows: Vec<(Option<String>, Option<String>, Option<String>)>) -> Table {
    let mut table = Table::default();
    for (name, data_type, divided) in rows {
        table.divided = divided;
        let (Some(name), Some(data_type)) = (name, data_type) else { continue };
        if name.to_ascii_lowercase().starts_with(OWN) {
            if name == "_haul_unit" {
                table.unit = Some(data_type);
            }
            table.pull |= name == "_haul_pull";
            continue;
        }
        table.schema.columns.push(Column { name, data_type: read_type(&data_type) });
        table.types.push(data_type);
    }
    table
}

/// A type as PostgreSQL writes it; what haul has no word for is passed on.
pub(super) fn read_type(text: &str) -> LogicalType {
    let other = |word: &str| LogicalType::Other(word.to_owned());
    let (word, inside) = match text.split_once('(') {
        Some((word, rest)) => {
            let (inside, behind) = rest.split_once(')').unwrap_or((rest, ""));
            (format!("{word}{behind}"), inside)
        }
        None => (text.to_owned(), ""),
    };
    match word.as_str() {
        "boolean" => LogicalType::Boolean,
        "smallint" => other("SMALLINT"),
        "integer" => other("INTEGER"),
        "bigint" => LogicalType::BigInt,
        "real" => other("FLOAT"),
        "double precision" => LogicalType::Double,
        "numeric" => {
            let parts: Vec<u8> = inside.split(',').filter_map(|part| part.trim().parse().ok()).collect();
            match parts[..] {
                [39, 0] => LogicalType::HugeInt,
                [precision, scale] if precision <= 38 && scale <= precision => {
                    LogicalType::Decimal { precision, scale }
                }
                _ => other(text),
            }
        }
        "date" => LogicalType::Date,
        "timestamp without time zone" | "timestamp with time zone" => LogicalType::Timestamp,
        "time without time zone" => LogicalType::Time,
        "text" | "character varying" | "character" => LogicalType::Text,
        "bytea" => LogicalType::Blob,
        "jsonb" | "json" => LogicalType::Json,
        _ => other(text),
    }
}

/// The type that a column is created with, where the rows themselves do not have one already.
pub(super) fn new_type(column: &Column, reading: Reading) -> String {
    match &column.data_type {
        // Times with an offset are instants, and say so; those without stay what they are.
        LogicalType::Timestamp if reading == Reading::OffsetTimestamp => "timestamptz".to_owned(),
        LogicalType::Other(word) => match word.as_str() {
            "TINYINT" | "SMALLINT" => "smallint".to_owned(),
            "INTEGER" | "UTINYINT" | "USMALLINT" => "integer".to_owned(),
            "UINTEGER" => "bigint".to_owned(),
            "UBIGINT" => POSTGRES.types.hugeint.to_owned(),
            "FLOAT" => "real".to_owned(),
            _ => word.clone(),
        },
        other => POSTGRES.type_of(other),
    }
}

/// The types of the columns that are loaded, as the table has them once it follows the rows.
pub(super) fn kept_types(before: Option<&Table>, computed: Option<&Table>, reconciled: &Reconciled) -> Vec<String> {
    let of = |staged: &StagedColumn| {
        let widened = reconciled
            .changes
            .iter()
            .any(|change| matches!(change, SchemaChange::Widen(column) if column.name == staged.column.name));
        let own = before.and_then(|table| table.type_of(&staged.column.name)).filter(|_| !widened);
        let there = before.is_some_and(|table| table.type_of(&staged.column.name).is_some());
        let new = computed.and_then(|table| table.type_of(&staged.source)).filter(|_| !there);
        own.or(new).map_or_else(|| new_type(&staged.column, staged.reading), str::to_owned)
    };
    reconciled.kept.iter().map(of).collect()
}

/// Brings the table into the form that the new rows need; `types` are those of the kept columns.
pub(super) async fn apply(
    session: &mut Session,
    commit: &Commit,
    before: Option<&Table>,
    reconciled: &Reconciled,
    types: &[String],
) -> Result<()> {
    let target = POSTGRES.relation(&commit.table);
    let type_of = |name: &str| {
        let place = reconciled.kept.iter().position(|staged| staged.column.name == name);
        place.and_then(|place| types.get(place)).cloned().unwrap_or_default()
    };
    for column in before.map(|table| table.lacks(commit)).unwrap_or_default() {
        session.batch("adding a column of haul's own", &format!("ALTER TABLE {target} ADD COLUMN {column}")).await?;
    }
    for change in &reconciled.changes {
        match change {
            SchemaChange::Create => {
                assert_names(reconciled.kept.iter().map(|staged| staged.column.name.as_str()))?;
                let mut columns: Vec<String> = reconciled
                    .kept
                    .iter()
                    .zip(types)
                    .map(|(staged, data_type)| format!("{} {data_type}", POSTGRES.ident(&staged.column.name)))
                    .collect();
                columns.extend(commit.grain.map(|grain| format!("_haul_unit {}", POSTGRES.unit_type(grain))));
                columns.push("_haul_pull bigint".to_owned());
                let divided = super::partition::clause(commit, reconciled)?;
                let sql = format!("CREATE TABLE {target} ({}){divided}", columns.join(", "));
                session.batch("creating the table", &sql).await?;
                // Whatever was loaded into a table of this name before is gone with it.
                forget_loads(session, commit).await?;
            }
            SchemaChange::Add(column) => {
                assert_names([column.name.as_str()])?;
                let sql = format!(
                    "ALTER TABLE {target} ADD COLUMN {} {}",
                    POSTGRES.ident(&column.name),
                    type_of(&column.name)
                );
                session.batch("adding a column", &sql).await?;
            }
            SchemaChange::Widen(column) => {
                let name = POSTGRES.ident(&column.name);
                if let Some(own) = before.and_then(|table| table.schema.column(&column.name)) {
                    assert_held(session, &target, &name, &own.data_type, &column.data_type).await?;
                }
                let wide = type_of(&column.name);
                let sql = format!("ALTER TABLE {target} ALTER COLUMN {name} TYPE {wide} USING {name}::{wide}");
                session.batch("widening a column", &sql).await?;
            }
        }
    }
    Ok(())
}

/// The indexes of a table that this commit has created: by its unit, by the keys of a merge, and by its clusters.
///
/// They are made once the rows are there, which costs a part of what it costs to keep them up meanwhile.
pub(super) async fn index(session: &mut Session, commit: &Commit, reconciled: &Reconciled) -> Result<Vec<String>> {
    let target = POSTGRES.relation(&commit.table);
    let mut wanted: Vec<Vec<String>> = Vec::new();
    if commit.grain.is_some() {
        wanted.push(vec!["_haul_unit".to_owned()]);
    }
    if let Write::Merge { keys, .. } = &commit.write {
        wanted.push(keys.clone());
    }
    let mut warnings = Vec::new();
    let has = |name: &String| reconciled.kept.iter().any(|staged| staged.column.name == *name);
    match commit.layout.cluster.iter().find(|name| !has(name)) {
        Some(missing) => {
            warnings.push(format!("`cluster_by` names `{missing}`, which is no column of {} yet", commit.table));
        }
        None if !commit.layout.cluster.is_empty() => wanted.push(commit.layout.cluster.clone()),
        None => {}
    }
    for columns in wanted {
        let own = columns == ["_haul_unit"];
        if own || columns.iter().all(&has) {
            let list: Vec<String> = columns.iter().map(|name| POSTGRES.ident(name)).collect();
            session.batch("indexing the table", &format!("CREATE INDEX ON {target} ({})", list.join(", "))).await?;
        }
    }
    Ok(warnings)
}

/// Forgets the loads of units that are no longer in the table.
pub(super) async fn forget_loads(session: &mut Session, commit: &Commit) -> Result<()> {
    let keys: Vec<String> = commit.units.iter().map(|unit| POSTGRES.literal(unit.key.as_str())).collect();
    let (loads, table) = (POSTGRES.loads_of(&commit.table), POSTGRES.literal(&commit.table.to_string()));
    let sql = format!("DELETE FROM {loads} WHERE table_name = {table} AND unit NOT IN ({})", keys.join(", "));
    session.batch(&format!("writing {LOADS}"), &sql).await
}

/// Refuses computed numbers that the table's type would round.
pub(super) async fn assert_digits(
    session: &mut Session,
    incoming: &[StagedColumn],
    reconciled: &Reconciled,
) -> Result<()> {
    let relation = format!("pg_temp.{NEW_ROWS}");
    for kept in &reconciled.kept {
        if let Some(staged) = incoming.iter().find(|staged| staged.source == kept.source) {
            let name = POSTGRES.ident(&staged.column.name);
            assert_held(session, &relation, &name, &staged.column.data_type, &kept.column.data_type).await?;
        }
    }
    Ok(())
}

/// Refuses a type that does not hold each number that is there.
async fn assert_held(
    session: &mut Session,
    relation: &str,
    name: &str,
    own: &LogicalType,
    wide: &LogicalType,
) -> Result<()> {
    if !own.may_lose(wide) {
        return Ok(());
    }
    // A float is written with as many digits as tell it apart: a number is held if it reads the same.
    let sql = format!(
        "SELECT count(*) FROM {relation} WHERE {name}::double precision::text::numeric IS DISTINCT FROM {name}::numeric"
    );
    let lost = session.number("widening a column", &sql).await?;
    if lost == 0 {
        return Ok(());
    }
    Err(Error::new(
        Kind::Data,
        format!("the column {name} is {own}, and {lost} of its values would lose digits as {wide}"),
    )
    .hint("declare the column as a DECIMAL that holds both, and change the table's type to it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written() {
        for data_type in [
            LogicalType::Boolean,
            LogicalType::BigInt,
            LogicalType::HugeInt,
            LogicalType::Decimal { precision: 38, scale: 19 },
            LogicalType::Double,
            LogicalType::Date,
            LogicalType::Text,
            LogicalType::Blob,
            LogicalType::Json,
        ] {
            assert_eq!(read_type(&POSTGRES.type_of(&data_type)), data_type);
        }
        assert_eq!(read_type("timestamp(3) with time zone"), LogicalType::Timestamp);
        assert_eq!(read_type("character varying(20)"), LogicalType::Text);
        assert_eq!(read_type("numeric"), LogicalType::Other("numeric".to_owned()));
        assert_eq!(read_type("bigint[]"), LogicalType::Other("bigint[]".to_owned()));
    }
}

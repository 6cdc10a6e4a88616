//! Tables as MySQL has them: their columns, how they are made and changed, and what `_haul_loads` says of them.

use std::collections::HashSet;

use chrono::NaiveDateTime;

use super::encode::Encode;
use super::session::{Session, ident, literal, loads_of, number, relation, text};
use crate::error::{Error, Kind, Result};
use crate::model::infer::OWN;
use crate::model::ledger::Loaded;
use crate::model::name::TableName;
use crate::model::pipeline::Write;
use crate::model::schema::{Column, LogicalType, Reconciled, SchemaChange, TableSchema};
use crate::time::UnitKey;
use crate::warehouse::Commit;
use crate::warehouse::dialect::MYSQL;

/// The longest text that a key has: an index takes no longer ones.
const KEY: &str = "varchar(190)";

/// A table that is there.
pub(super) struct Table {
    /// Its columns but for haul's own.
    pub schema: TableSchema,
    /// The server's types of all columns, by their names.
    pub types: Vec<(String, String)>,
    /// Whether a change of it can be undone.
    transactional: bool,
}

impl Table {
    /// The server's type of a column.
    pub fn type_of(&self, name: &str) -> Option<&str> {
        self.types.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, data_type)| data_type.as_str())
    }

    /// Whether it has this column of haul's own.
    pub fn has(&self, name: &str) -> bool {
        self.type_of(name).is_some()
    }
}

/// Reads the columns of a table; none where it is not there.
pub(super) async fn read(session: &mut Session, table: &TableName) -> Result<Option<Table>> {
    let doing = "reading the columns of a table";
    let (schema, name) = (literal(&table.schema), literal(&table.name));
    let sql =
        format!("SELECT engine FROM information_schema.tables WHERE table_schema = {schema} AND table_name = {name}");
    let Some(engine) = session.rows(doing, &sql).await?.first().map(|row| text(row, 0)).transpose()? else {
        return Ok(None);
    };
    let sql = format!(
        "SELECT column_name, column_type FROM information_schema.columns \
         WHERE table_schema = {schema} AND table_name = {name} ORDER BY ordinal_position"
    );
    let mut types = Vec::new();
    for row in session.rows(doing, &sql).await? {
        types.push((text(&row, 0)?.unwrap_or_default(), text(&row, 1)?.unwrap_or_default()));
    }
    let columns = types
        .iter()
        .filter(|(name, _)| !name.to_ascii_lowercase().starts_with(OWN))
        .map(|(name, data_type)| Column { name: name.clone(), data_type: logical(data_type) })
        .collect();
    let transactional = engine.is_some_and(|engine| engine.eq_ignore_ascii_case("innodb"));
    Ok(Some(Table { schema: TableSchema { columns }, types, transactional }))
}

/// A type in the words that all warehouses share; whatever is narrower than these takes what fits it, value by value.
fn logical(column_type: &str) -> LogicalType {
    match Encode::of(column_type) {
        Encode::Boolean => LogicalType::Boolean,
        Encode::Double => LogicalType::Double,
        Encode::Date => LogicalType::Date,
        Encode::Whole { least, .. } if least == i128::from(i64::MIN) => LogicalType::BigInt,
        _ => LogicalType::Other(column_type.to_owned()),
    }
}

/// Makes `_haul_loads` beside a table.
pub(super) async fn ensure_loads(session: &mut Session, table: &TableName) -> Result<()> {
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {} (table_name varchar(190) NOT NULL, unit varchar(40) NOT NULL, pull bigint NOT NULL, \
         generation bigint NOT NULL, `rows` bigint NOT NULL, fingerprint varchar(32) NOT NULL, inputs text, \
         run varchar(190) NOT NULL, committed_at datetime(6) NOT NULL, PRIMARY KEY (table_name, unit, generation, pull)) \
         ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        loads_of(table)
    );
    session.run("creating _haul_loads", &sql).await.map(drop)
}

/// The type that a new column gets.
fn new_type(commit: &Commit, column: &Column) -> String {
    let is_key = matches!(&commit.write, Write::Merge { keys, .. } if keys.iter().any(|key| key.eq_ignore_ascii_case(&column.name)));
    if is_key && column.data_type == LogicalType::Text { KEY.to_owned() } else { MYSQL.type_of(&column.data_type) }
}

/// Brings the table into the form that the new rows need. A server of this kind commits every such change by itself: a
/// table that has a column more, and no row of it, is what a failure behind it leaves.
pub(super) async fn apply(
    session: &mut Session,
    commit: &Commit,
    before: Option<&Table>,
    reconciled: &Reconciled,
) -> Result<()> {
    let target = relation(&commit.table);
    for change in &reconciled.changes {
        match change {
            SchemaChange::Create => create(session, commit, reconciled).await?,
            SchemaChange::Add(column) => {
                let sql = format!(
                    "ALTER TABLE {target} ADD COLUMN {} {} NULL",
                    ident(&column.name),
                    new_type(commit, column)
                );
                session.run("adding a column", &sql).await?;
            }
            SchemaChange::Widen(column) => {
                let own = before.and_then(|table| table.schema.column(&column.name));
                if let Some(own) = own.filter(|own| own.data_type.may_lose(&column.data_type)) {
                    return Err(Error::new(
                        Kind::Data,
                        format!(
                            "the column `{}` is {}, and {} might lose digits of what is there",
                            own.name, own.data_type, column.data_type
                        ),
                    )
                    .hint("change the table's type to a DECIMAL that holds both"));
                }
                let sql = format!(
                    "ALTER TABLE {target} MODIFY COLUMN {} {}",
                    ident(&column.name),
                    MYSQL.type_of(&column.data_type)
                );
                session.run("widening a column", &sql).await?;
            }
        }
    }
    let Some(table) = before else { return Ok(()) };
    if !table.transactional {
        return Err(Error::new(Kind::Config, format!("the table {} has no transactions", commit.table))
            .hint(format!("ALTER TABLE {target} ENGINE = InnoDB")));
    }
    let unit = commit.grain.map(|grain| ("_haul_unit", MYSQL.unit_type(grain)));
    for (name, data_type) in unit.into_iter().chain([("_haul_pull", "bigint")]).filter(|(name, _)| !table.has(name)) {
        let index = if name == "_haul_unit" { ", ADD INDEX (_haul_unit)" } else { "" };
        let sql = format!("ALTER TABLE {target} ADD COLUMN {name} {data_type} NULL{index}");
        session.run("adding a column of haul's own", &sql).await?;
    }
    Ok(())
}

async fn create(session: &mut Session, commit: &Commit, reconciled: &Reconciled) -> Result<()> {
    session
        .run("creating a database", &format!("CREATE DATABASE IF NOT EXISTS {}", ident(&commit.table.schema)))
        .await
        .map(drop)
        .or_else(|error| if commit.table.schema == session.database { Ok(()) } else { Err(error) })?;
    let typed = |column: &Column| format!("{} {} NULL", ident(&column.name), new_type(commit, column));
    let mut parts: Vec<String> = reconciled.kept.iter().map(|staged| typed(&staged.column)).collect();
    parts.extend(commit.grain.map(|grain| format!("_haul_unit {} NULL", MYSQL.unit_type(grain))));
    parts.push("_haul_pull bigint NULL".to_owned());
    parts.extend(commit.grain.map(|_| "INDEX (_haul_unit)".to_owned()));
    if let Write::Merge { keys, .. } = &commit.write {
        let indexed = |key: &&String| {
            let column = reconciled.kept.iter().find(|staged| staged.column.name.eq_ignore_ascii_case(key));
            column.is_some_and(|staged| {
                !matches!(
                    staged.column.data_type,
                    LogicalType::Json | LogicalType::Blob | LogicalType::List(_) | LogicalType::Struct(_)
                )
            })
        };
        let keys: Vec<String> = keys.iter().filter(indexed).take(4).map(|key| ident(key)).collect();
        if !keys.is_empty() {
            parts.push(format!("INDEX ({})", keys.join(", ")));
        }
    }
    let sql = format!(
        "CREATE TABLE {} ({}) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        relation(&commit.table),
        parts.join(", ")
    );
    session.run("creating the table", &sql).await.map(drop)
}

/// The newest load of each unit.
pub(super) async fn loads(session: &mut Session, tables: &[TableName]) -> Result<Vec<(TableName, UnitKey, Loaded)>> {
    let doing = "reading _haul_loads";
    let mut found = Vec::new();
    for table in tables {
        // A table that somebody dropped has no units any more, whatever its loads say.
        let beside = TableName { schema: table.schema.clone(), name: "_haul_loads".to_owned() };
        if read(session, table).await?.is_none() || read(session, &beside).await?.is_none() {
            continue;
        }
        let (loads, name) = (loads_of(table), literal(&table.to_string()));
        let sql = format!(
            "SELECT l.unit, l.pull, l.generation, l.`rows`, l.fingerprint, l.inputs, \
             CAST(l.committed_at AS CHAR) FROM {loads} AS l JOIN (SELECT unit, max(generation) AS generation FROM {loads} \
             WHERE table_name = {name} GROUP BY unit) AS m ON m.unit = l.unit AND m.generation = l.generation \
             WHERE l.table_name = {name} ORDER BY l.unit"
        );
        for row in session.rows(doing, &sql).await? {
            let unit = text(&row, 0)?.unwrap_or_default();
            let broken = |found: &str| {
                Error::new(Kind::Warehouse, format!("reading the load of {unit} of {table}"))
                    .because(format!("`{found}` is none of haul's"))
            };
            let (print, at) = (text(&row, 4)?.unwrap_or_default(), text(&row, 6)?.unwrap_or_default());
            let loaded_at =
                NaiveDateTime::parse_from_str(&at, "%Y-%m-%d %H:%M:%S%.f").map_err(|_| broken(&at))?.and_utc();
            let loaded = Loaded {
                pull: number(&row, 1)?,
                generation: number(&row, 2)?,
                rows: number(&row, 3)?,
                fingerprint: print.parse().map_err(|_| broken(&print))?,
                inputs: text(&row, 5)?,
                loaded_at,
            };
            found.push((table.clone(), UnitKey::stored(&unit), loaded));
        }
    }
    Ok(found)
}

/// The units of which a table has rows; none for a table without units.
pub(super) async fn stocked(session: &mut Session, table: &TableName) -> Result<Option<HashSet<UnitKey>>> {
    let Some(found) = read(session, table).await? else { return Ok(None) };
    let key = match found.type_of("_haul_unit") {
        None => return Ok(None),
        Some("date") => "CAST(_haul_unit AS CHAR)",
        Some(_) => "DATE_FORMAT(_haul_unit, '%Y-%m-%dT%H:%iZ')",
    };
    let sql = format!("SELECT DISTINCT {key} FROM {} WHERE _haul_unit IS NOT NULL", relation(table));
    let mut keys = HashSet::new();
    for row in session.rows("reading the units of a table", &sql).await? {
        keys.extend(text(&row, 0)?.map(|key| UnitKey::stored(&key)));
    }
    Ok(Some(keys))
}

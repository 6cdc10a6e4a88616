//! Rows that a SELECT computes: into a temporary table, each with its unit, and digested there.

use sqlx::{AssertSqlSafe, Executor, Row};

use super::fault::{failed, failed_in};
use super::session::Session;
use super::table::{Table, read_new};
use crate::error::{Error, Kind, Result};
use crate::model::ledger::Fingerprint;
use crate::model::schema::{LogicalType, Reading, Reconciled, StagedColumn, TableSchema};
use crate::model::shape::Seen;
use crate::time::{Grain, Unit, UnitKey};
use crate::warehouse::dialect::POSTGRES;
use crate::warehouse::{Commit, NEW_ROWS};

/// The name of the unit's column until those of other tables' units are gone.
const UNIT: &str = "_haul_new_unit";

/// The key of a row's unit, as the ledger has it.
fn key_expression(grain: Option<Grain>) -> &'static str {
    match grain {
        None => "''::text",
        Some(Grain::Hour) => "to_char(_haul_unit, 'YYYY-MM-DD\"T\"HH24:MI\"Z\"')",
        Some(Grain::Day | Grain::Week | Grain::Month) => "_haul_unit::text",
    }
}

/// Computes a SELECT's rows into a temporary table, each with its unit.
pub(super) async fn run(session: &mut Session, commit: &Commit, sql: &str, time_column: Option<&str>) -> Result<Table> {
    let plain = sql.trim_end().trim_end_matches(';');
    let unit = match (commit.grain, time_column, commit.units.as_slice()) {
        (None, _, _) => String::new(),
        (Some(grain), None, [only]) => match &only.unit {
            Some(unit) => format!(", {}::{} AS {UNIT}", POSTGRES.unit_literal(unit), POSTGRES.unit_type(grain)),
            None => String::new(),
        },
        (Some(grain), Some(column), units) => {
            let units: Vec<&Unit> = units.iter().filter_map(|unit| unit.unit.as_ref()).collect();
            format!(", CAST({} AS {}) AS {UNIT}", arms(&units, column), POSTGRES.unit_type(grain))
        }
        (Some(_), None, _) => {
            return Err(Error::new(Kind::Config, "dividing the rows of a window into units")
                .hint("a transform with `per = \"window\"` names its `time_column`"));
        }
    };
    // The user's statement begins on a line of its own, so that the lines of an error can be counted back.
    let create = format!("CREATE TEMP TABLE {NEW_ROWS} ON COMMIT DROP AS SELECT q.*{unit} FROM (\n{plain}\n) AS q");
    // As one statement: what is smuggled in behind a semicolon is refused.
    let statement = sqlx::query(AssertSqlSafe(create.as_str())).persistent(false);
    session
        .connection
        .execute(statement)
        .await
        .map_err(|error| failed_in("computing the rows", plain, &create, 1, &error))?;
    settle(session, commit.grain.is_some()).await?;
    read_new(session).await
}

/// Takes away the columns that upstream tables have of haul's own, and gives the unit its name.
async fn settle(session: &mut Session, has_unit: bool) -> Result<()> {
    let doing = "reading the columns of the new rows";
    let sql = format!(
        "SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = 'pg_temp.{NEW_ROWS}'::regclass \
         AND attnum > 0 AND NOT attisdropped AND lower(attname::text) LIKE '\\_haul\\_%'"
    );
    let rows = session.rows(doing, &sql).await?;
    let names: Vec<String> =
        rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>().map_err(|error| failed(doing, &error))?;
    let mut changes: Vec<String> = names
        .iter()
        .filter(|name| *name != UNIT)
        .map(|name| format!("ALTER TABLE pg_temp.{NEW_ROWS} DROP COLUMN {}", POSTGRES.ident(name)))
        .collect();
    if has_unit {
        changes.push(format!("ALTER TABLE pg_temp.{NEW_ROWS} RENAME COLUMN {UNIT} TO _haul_unit"));
    }
    if changes.is_empty() {
        Ok(())
    } else {
        session.batch("naming the unit of the new rows", &changes.join("; ")).await
    }
}

/// The unit of a row by its own time: a date is compared as a date of the unit's calendar, a time as an instant in UTC.
fn arms(units: &[&Unit], column: &str) -> String {
    let name = POSTGRES.ident(column);
    let dates = units.iter().map(|unit| {
        let after = unit.calendar.next(unit).date();
        let first = unit.date();
        let unit = POSTGRES.unit_literal(unit);
        format!("WHEN q.{name}::date >= DATE '{first}' AND q.{name}::date < DATE '{after}' THEN {unit}")
    });
    let times = units.iter().map(|unit| {
        let (from, to) = (POSTGRES.timestamp(unit.start), POSTGRES.timestamp(unit.end));
        let unit = POSTGRES.unit_literal(unit);
        format!("WHEN q.{name}::timestamp >= {from} AND q.{name}::timestamp < {to} THEN {unit}")
    });
    format!(
        "CASE WHEN pg_typeof(q.{name}) = 'date'::regtype THEN CASE {} END ELSE CASE {} END END",
        dates.collect::<Vec<_>>().join(" "),
        times.collect::<Vec<_>>().join(" ")
    )
}

/// The columns of the computed rows; a text of nothing but nulls is of the type that the table's column has.
///
/// PostgreSQL makes an untyped null a text, which would be a conflict with every other type.
pub(super) async fn columns(
    session: &mut Session,
    computed: &Table,
    target: Option<&TableSchema>,
) -> Result<Vec<StagedColumn>> {
    let mut columns = Vec::new();
    for column in computed.schema.columns.clone() {
        let mut column = column;
        let own = target.and_then(|table| table.column(&column.name));
        let other = own.is_some_and(|own| !matches!(own.data_type, LogicalType::Text | LogicalType::Json));
        if column.data_type == LogicalType::Text && other {
            let name = POSTGRES.ident(&column.name);
            let sql = format!("SELECT count({name}) FROM pg_temp.{NEW_ROWS}");
            if session.number("looking for values", &sql).await? == 0
                && let Some(own) = own
            {
                column.data_type = own.data_type.clone();
            }
        }
        columns.push(StagedColumn {
            source: column.name.clone(),
            column,
            reading: Reading::Direct,
            seen: Seen::default(),
        });
    }
    Ok(columns)
}

/// Rows and digest of each unit's computed rows; the same rows have the same digest in any order.
///
/// # Errors
/// Rows that belong to none of the units.
pub(super) async fn fingerprints(
    session: &mut Session,
    commit: &Commit,
    reconciled: &Reconciled,
) -> Result<Vec<(UnitKey, u64, Fingerprint)>> {
    let columns: Vec<String> = reconciled.kept.iter().map(|staged| POSTGRES.ident(&staged.source)).collect();
    // The names and types are part of what the rows are: another name is another table.
    let names = reconciled.kept.iter().map(|staged| format!("{} {}", staged.column.name, staged.column.data_type));
    let names = POSTGRES.literal(&names.collect::<Vec<_>>().join(", "));
    let unit = if commit.grain.is_some() { "_haul_unit, " } else { "" };
    let sql = format!(
        "SELECT {}, count(*), coalesce(sum(hashtextextended(r, 0)::numeric), 0)::text, \
         coalesce(sum(hashtextextended(r, 7)::numeric), 0)::text \
         FROM (SELECT {unit}{names} || ROW({})::text AS r FROM pg_temp.{NEW_ROWS}) AS n GROUP BY 1",
        key_expression(commit.grain),
        columns.join(", ")
    );
    let doing = "digesting the new rows";
    let rows = session.rows(doing, &sql).await?;
    let mut digests = Vec::new();
    for row in rows {
        let read = || -> sqlx::Result<(Option<String>, i64, String, String)> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
        };
        let (key, count, high, low) = read().map_err(|error| failed(doing, &error))?;
        let count = u64::try_from(count).unwrap_or_default();
        let Some(key) = key else {
            return Err(Error::new(Kind::Data, format!("rows outside of the window: {count}"))
                .hint("restrict the statement to `window.start` and `window.end`"));
        };
        let part = |sum: &str| u128::from(sum.parse::<i128>().map_or(0, low_bits));
        let key = if commit.grain.is_some() { UnitKey::stored(&key) } else { UnitKey::whole() };
        digests.push((key, count, Fingerprint(part(&high) << 64 | part(&low))));
    }
    Ok(digests)
}

/// The lowest 64 bits of a sum, so that it does not matter how long it has become.
fn low_bits(sum: i128) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a digest is of 64 bits")]
    let low = sum as u64;
    low
}

//! Native partitions: by the unit or by a column, created as rows need them.

use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use sqlx::Row;

use super::session::Session;
use super::table::{Table, lock_key};
use crate::error::{Error, Kind, Result};
use crate::model::layout::Partition;
use crate::model::name::TableName;
use crate::model::schema::{LogicalType, Reconciled};
use crate::time::{Grain, Unit};
use crate::warehouse::dialect::POSTGRES;
use crate::warehouse::{Commit, NEW_ROWS};

/// PostgreSQL cuts off longer names without a word.
const LONGEST_NAME: usize = 63;

/// The times that lie in one partition, its end excluded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    from: NaiveDateTime,
    to: NaiveDateTime,
    grain: Grain,
}

/// A partition that is there: from and to; none where it has no bound.
type Bounds = (Option<NaiveDateTime>, Option<NaiveDateTime>);

/// How a new table is divided, behind its columns; empty where it is not.
///
/// # Errors
/// A column that the rows do not have, or that is no date and no time.
pub(super) fn clause(commit: &Commit, reconciled: &Reconciled) -> Result<String> {
    match &commit.layout.partition {
        Partition::Unit(_) if commit.grain.is_some() => Ok(" PARTITION BY RANGE (_haul_unit)".to_owned()),
        Partition::Column { name, .. } => {
            let found = reconciled.kept.iter().find(|staged| staged.column.name == *name);
            match found.map(|staged| &staged.column.data_type) {
                Some(LogicalType::Date | LogicalType::Timestamp) => {
                    Ok(format!(" PARTITION BY RANGE ({})", POSTGRES.ident(name)))
                }
                Some(other) => Err(Error::new(
                    Kind::Data,
                    format!("`partition_by` names the column `{name}`, which is {other}, neither a date nor a time"),
                )),
                None => {
                    Err(Error::new(Kind::Data, format!("`partition_by` names `{name}`, which the rows do not have"))
                        .hint("declare it: columns = { … = \"DATE\" }, or divide by the unit: partition_by = \"unit\""))
                }
            }
        }
        Partition::Unit(_) | Partition::OfWarehouse | Partition::None => Ok(String::new()),
    }
}

/// Whether a table is divided by its units.
pub(super) fn by_unit(table: &Table) -> bool {
    table.divided.as_deref().is_some_and(|key| key == "RANGE (_haul_unit)")
}

/// The partitions that the units of a commit lie in.
pub(super) fn of_units(commit: &Commit) -> Vec<Span> {
    let wider = match &commit.layout.partition {
        Partition::Unit(grain) => *grain,
        _ => None,
    };
    let units = commit.units.iter().filter_map(|unit| unit.unit.as_ref());
    let mut spans: Vec<Span> = units.map(|unit| of_unit(unit, wider)).collect();
    spans.sort_by_key(|span| span.from);
    spans.dedup();
    spans
}

fn of_unit(unit: &Unit, wider: Option<Grain>) -> Span {
    let own = unit.calendar.grain;
    let next = unit.calendar.next(unit);
    let (from, to) = match own {
        Grain::Hour => (unit.start.naive_utc(), next.start.naive_utc()),
        _ => (midnight(unit.date()), midnight(next.date())),
    };
    match wider {
        Some(Grain::Month) => of_time(from, Grain::Month),
        Some(Grain::Day) if own == Grain::Hour => of_time(from, Grain::Day),
        _ => Span { from, to, grain: own },
    }
}

fn midnight(date: NaiveDate) -> NaiveDateTime {
    date.and_time(NaiveTime::MIN)
}

/// The partition of this grain that a time lies in.
fn of_time(at: NaiveDateTime, grain: Grain) -> Span {
    let day = midnight(at.date());
    let (from, to) = match grain {
        Grain::Hour => {
            let from = day + chrono::Duration::hours(i64::from(at.hour()));
            (from, from + chrono::Duration::hours(1))
        }
        Grain::Day => (day, day + chrono::Duration::days(1)),
        Grain::Week => {
            let monday = at.date() - Days::new(u64::from(at.date().weekday().num_days_from_monday()));
            (midnight(monday), midnight(monday + Days::new(7)))
        }
        Grain::Month => {
            let first = at.date() - Days::new(u64::from(at.date().day0()));
            (midnight(first), midnight(first + Months::new(1)))
        }
    };
    Span { from, to, grain }
}

/// The partitions that the new rows need in a table that is divided by a column, whose name and grain these are.
pub(super) async fn of_rows(session: &mut Session, name: &str, grain: Grain) -> Result<Vec<Span>> {
    let word = match grain {
        Grain::Hour => "hour",
        Grain::Day => "day",
        Grain::Week => "week",
        Grain::Month => "month",
    };
    let column = POSTGRES.ident(name);
    let sql = format!(
        "SELECT DISTINCT date_trunc('{word}', {column}::timestamp)::text FROM pg_temp.{NEW_ROWS} \
         WHERE {column} IS NOT NULL AND isfinite({column}) ORDER BY 1"
    );
    let rows = session.rows("looking for the partitions of the new rows", &sql).await?;
    let times = rows.iter().filter_map(|row| row.try_get::<String, _>(0).ok());
    Ok(times.filter_map(|text| read_time(&text)).map(|at| of_time(at, grain)).collect())
}

/// Which of these partitions are missing.
pub(super) async fn missing(session: &mut Session, table: &TableName, wanted: Vec<Span>) -> Result<Vec<Span>> {
    let sql = format!(
        "SELECT pg_catalog.pg_get_expr(c.relpartbound, c.oid) FROM pg_catalog.pg_inherits i \
         JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = pg_catalog.to_regclass({})",
        POSTGRES.literal(&POSTGRES.relation(table))
    );
    let rows = session.rows("reading the partitions of the table", &sql).await?;
    let there: Vec<Bounds> =
        rows.iter().filter_map(|row| row.try_get::<String, _>(0).ok()).filter_map(|text| bounds(&text)).collect();
    let covers =
        |(from, to): &Bounds, at: NaiveDateTime| from.is_none_or(|from| from <= at) && to.is_none_or(|to| at < to);
    Ok(wanted.into_iter().filter(|span| !there.iter().any(|one| covers(one, span.from))).collect())
}

/// The partitions of a table, quoted.
pub(super) async fn names(session: &mut Session, table: &TableName) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT i.inhrelid::regclass::text FROM pg_catalog.pg_inherits i WHERE i.inhparent = pg_catalog.to_regclass({})",
        POSTGRES.literal(&POSTGRES.relation(table))
    );
    let rows = session.rows("reading the partitions of the table", &sql).await?;
    Ok(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())
}

/// Creates partitions; the caller is in a transaction.
///
/// A partition is made beside its table and joined to it: who reads the table meanwhile is not disturbed.
pub(super) async fn create(session: &mut Session, table: &TableName, spans: &[Span]) -> Result<()> {
    let parent = POSTGRES.relation(table);
    for span in spans {
        let name = name_of(table, span);
        let part = POSTGRES.relation(&TableName { schema: table.schema.clone(), name });
        let stamp = |at: NaiveDateTime| at.format("'%Y-%m-%d %H:%M:%S'").to_string();
        let sql = format!(
            "CREATE TABLE {part} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE); \
             ALTER TABLE {parent} ATTACH PARTITION {part} FOR VALUES FROM ({}) TO ({})",
            stamp(span.from),
            stamp(span.to)
        );
        session.batch("creating a partition", &sql).await?;
    }
    Ok(())
}

/// Creates the partition for rows whose column is null.
pub(super) async fn create_rest(session: &mut Session, table: &TableName) -> Result<()> {
    let name = fitting(&table.name, "rest");
    let part = POSTGRES.relation(&TableName { schema: table.schema.clone(), name });
    let sql = format!("CREATE TABLE {part} PARTITION OF {} DEFAULT", POSTGRES.relation(table));
    session.batch("creating a partition", &sql).await
}

/// Lets nobody else create partitions of a table until the transaction ends.
pub(super) async fn lock(session: &mut Session, table: &TableName) -> Result<()> {
    let key = lock_key(&["partitions", &table.to_string()]);
    session.batch("waiting for another load's partitions", &format!("SELECT pg_advisory_xact_lock({key})")).await
}

fn name_of(table: &TableName, span: &Span) -> String {
    let form = match span.grain {
        Grain::Hour => "%Y%m%d%H",
        Grain::Day | Grain::Week => "%Y%m%d",
        Grain::Month => "%Y%m",
    };
    fitting(&table.name, &span.from.format(form).to_string())
}

/// `table_suffix`, shortened in its middle where it is too long for a name.
fn fitting(table: &str, suffix: &str) -> String {
    let whole = format!("{table}_{suffix}");
    if whole.len() <= LONGEST_NAME {
        return whole;
    }
    let mark = format!("_{:08x}_{suffix}", xxhash_rust::xxh3::xxh3_64(table.as_bytes()) & 0xffff_ffff);
    let mut short = table.to_owned();
    while short.len() + mark.len() > LONGEST_NAME {
        short.pop();
    }
    format!("{short}{mark}")
}

/// Reads `FOR VALUES FROM ('2024-03-01') TO ('2024-03-02')`; none for a partition of other form.
fn bounds(text: &str) -> Option<Bounds> {
    let (from, to) = text.strip_prefix("FOR VALUES FROM (")?.split_once(") TO (")?;
    let read = |text: &str| match text {
        "MINVALUE" | "MAXVALUE" => Some(None),
        quoted => read_time(quoted.trim_matches('\'')).map(Some),
    };
    Some((read(from)?, read(to.strip_suffix(')')?)?))
}

/// A date or a time in UTC, as the server writes it.
fn read_time(text: &str) -> Option<NaiveDateTime> {
    let text = text.strip_suffix("+00").unwrap_or(text);
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok();
    time.or_else(|| text.parse().ok().map(midnight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_known_by_their_bounds() {
        let day = bounds("FOR VALUES FROM ('2024-03-01') TO ('2024-03-02')").expect("bounds");
        assert_eq!(day, (read_time("2024-03-01"), read_time("2024-03-02 00:00:00+00")));
        assert_eq!(bounds("FOR VALUES FROM (MINVALUE) TO ('2020-01-01')").map(|(from, _)| from), Some(None));
        assert_eq!(bounds("DEFAULT"), None);
        let at = read_time("2024-03-31 23:30:00").expect("a time");
        let month = of_time(at, Grain::Month);
        assert_eq!((Some(month.from), Some(month.to)), (read_time("2024-03-01"), read_time("2024-04-01")));
        let table = TableName { schema: "raw".to_owned(), name: "t".repeat(60) };
        let name = name_of(&table, &month);
        assert!(name.len() <= LONGEST_NAME && name.ends_with("_202403"), "{name}");
    }
}

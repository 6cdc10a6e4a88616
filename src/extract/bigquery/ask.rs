//! What is asked: which rows of which table, and the statements that say so in GoogleSQL.

use chrono::SecondsFormat;

use super::super::table::{AskedRows, TableAsk, TimeRange, is_own};
use crate::bigquery::{Field, Mode, Refused, Schema, TableId, Why, quoted_name};
use crate::error::{Error, Kind, Result};
use crate::model::pipeline::TimeFormat;
use crate::time::Instant;

/// How many lines of a statement are shown before the one that is wrong.
const LINES_BEFORE: usize = 2;

/// Which rows, before their time is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// The table of one unit; one that is not there is late.
    Shard {
        /// The table.
        daily: TableId,
        /// The table that has the unit's rows until that comes.
        intraday: Option<TableId>,
    },
    /// All rows of a table.
    Table(TableId),
    /// The rows of a SELECT.
    Query(String),
}

impl Ask {
    /// From what all systems are asked; tables without a project are in `project`.
    pub(super) fn of(ask: &TableAsk, project: &str) -> Result<Self> {
        Ok(match &ask.rows {
            AskedRows::Table { name, sharded: true, intraday } => Self::Shard {
                daily: TableId::parse(name, project)?,
                intraday: intraday.as_ref().map(|name| TableId::parse(name, project)).transpose()?,
            },
            AskedRows::Table { name, .. } => Self::Table(TableId::parse(name, project)?),
            AskedRows::Query(sql) => Self::Query(sql.clone()),
        })
    }
}

/// The statement for rows of a table.
pub(super) fn of_table(table: &TableId, schema: &Schema, range: Option<&TimeRange>) -> Result<String> {
    let from = format!("SELECT *{} FROM {}", without_own(schema), quoted_name(&table.to_string()));
    let Some(range) = range else { return Ok(from) };
    let place = format!("asking {table} for rows by `{}`", range.column);
    let condition = condition(range, schema).map_err(|error| error.while_doing(place))?;
    Ok(format!("{from}\nWHERE {condition}"))
}

/// Leaves out the columns that are haul's own, of a table that haul writes.
fn without_own(schema: &Schema) -> String {
    let own: Vec<String> =
        schema.fields.iter().filter(|field| is_own(&field.name)).map(|field| quoted_name(&field.name)).collect();
    if own.is_empty() { String::new() } else { format!(" EXCEPT ({})", own.join(", ")) }
}

/// The statement for those rows of a SELECT that lie in a range of time.
pub(super) fn of_query(sql: &str, schema: &Schema, range: &TimeRange) -> Result<String> {
    let place = format!("asking the query for rows by `{}`", range.column);
    let condition = condition(range, schema).map_err(|error| error.while_doing(place))?;
    Ok(format!("SELECT *{} FROM (\n{}\n)\nWHERE {condition}", without_own(schema), statement(sql)))
}

/// The statement that counts the rows of another.
pub(super) fn counted(sql: &str, changed: Option<&str>) -> String {
    let changed = changed.map(|column| format!(", MAX({}) AS changed", path(column))).unwrap_or_default();
    format!("SELECT COUNT(*) AS row_count{changed} FROM (\n{}\n)", statement(sql))
}

/// A SELECT without the semicolon that would end it too early.
fn statement(sql: &str) -> &str {
    sql.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace())
}

/// A column's path, quoted part by part.
fn path(column: &str) -> String {
    column.split('.').map(quoted_name).collect::<Vec<_>>().join(".")
}

fn condition(range: &TimeRange, schema: &Schema) -> Result<String> {
    let field = field(schema, &range.column)?;
    let (start, end) = bounds(range, &field.type_name)?;
    let column = path(&range.column);
    Ok(format!("{column} >= {start} AND {column} < {end}"))
}

fn field<'a>(schema: &'a Schema, column: &str) -> Result<&'a Field> {
    let mut fields = &schema.fields;
    let mut found = None;
    for part in column.split('.') {
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(part)).ok_or_else(|| {
            Error::new(Kind::Source, format!("there is no column `{part}`")).hint(crate::bigquery::alike(
                "its columns are",
                part,
                &names,
            ))
        })?;
        if field.mode == Mode::Repeated {
            return Err(Error::new(Kind::Source, format!("`{part}` is a list, a row's time is one value"))
                .hint("`sql` can unnest it"));
        }
        fields = &field.fields;
        found = Some(field);
    }
    found.ok_or_else(|| Error::new(Kind::Source, "`time_column` is empty"))
}

/// Both ends of the range as literals of the column's type.
fn bounds(range: &TimeRange, type_name: &str) -> Result<(String, String)> {
    let local = |at: Instant| at.with_timezone(&range.zone).naive_local();
    let both = |write: &dyn Fn(Instant) -> String| (write(range.start), write(range.end));
    Ok(match (type_name, range.format) {
        ("TIMESTAMP", _) => both(&|at| format!("TIMESTAMP '{}'", at.to_rfc3339_opts(SecondsFormat::AutoSi, true))),
        ("DATETIME", _) => both(&|at| format!("DATETIME '{}'", local(at).format("%Y-%m-%dT%H:%M:%S%.f"))),
        ("DATE", _) => {
            let (first, after) = range.as_dates()?;
            (format!("DATE '{first}'"), format!("DATE '{after}'"))
        }
        ("INTEGER" | "INT64", TimeFormat::Epoch) => both(&|at| at.timestamp().to_string()),
        ("INTEGER" | "INT64", TimeFormat::EpochMs) => both(&|at| at.timestamp_millis().to_string()),
        ("INTEGER" | "INT64", TimeFormat::Iso) => {
            return Err(Error::new(Kind::Source, "the column is an INTEGER")
                .hint("time_format = \"epoch\" or \"epoch_ms\"; microseconds need `sql` with TIMESTAMP_MICROS(…)"));
        }
        (other, _) => {
            return Err(Error::new(Kind::Source, format!("the column is a {other}, and no time"))
                .hint("`sql` can make a TIMESTAMP of it"));
        }
    })
}

/// What is sent, for people; types that only BigQuery knows are taken for TIMESTAMP.
pub(super) fn lines(ask: &Ask, range: Option<&TimeRange>) -> Vec<String> {
    let range = range.and_then(|range| {
        let (start, end) = bounds(range, "TIMESTAMP").ok()?;
        let column = path(&range.column);
        Some(format!("WHERE {column} >= {start} AND {column} < {end} -- written as the column's type wants it"))
    });
    let of_table = |table: &TableId| match &range {
        None => vec![format!("tabledata.list {table}")],
        Some(range) => vec![format!("SELECT * FROM {}", quoted_name(&table.to_string())), range.clone()],
    };
    match ask {
        Ask::Table(table) => of_table(table),
        Ask::Shard { daily, intraday } => {
            let mut lines = of_table(daily);
            lines.extend(intraday.as_ref().map(|table| format!("-- until it is there: {table}")));
            lines
        }
        Ask::Query(sql) => match range {
            None => sql.lines().map(str::to_owned).collect(),
            Some(range) => std::iter::once("SELECT * FROM (")
                .chain(statement(sql).lines())
                .map(str::to_owned)
                .chain([")".to_owned(), range])
                .collect(),
        },
    }
}

/// The error of a statement, with its line shown where BigQuery says which it is: `… at [3:17]`.
pub(super) fn beside(refused: Refused, sql: &str) -> Error {
    let error = refused.error;
    if refused.why != Why::Query {
        return error;
    }
    let place = error.chain().rsplit_once('[').and_then(|(_, rest)| {
        let (line, rest) = rest.split_once(':')?;
        let column = rest.split_once(']')?.0;
        Some((line.parse::<usize>().ok()?, column.parse::<usize>().ok()?))
    });
    let Some((line, column)) = place else { return error };
    let first = line.saturating_sub(LINES_BEFORE).max(1);
    let width = line.to_string().len();
    let mut shown: Vec<String> = sql
        .lines()
        .enumerate()
        .map(|(index, text)| (index + 1, text))
        .skip(first - 1)
        .take_while(|(number, _)| *number <= line)
        .map(|(number, text)| format!("{} {number:>width$} | {text}", if number == line { '>' } else { ' ' }))
        .collect();
    shown.push(format!("  {:>width$} | {}^", "", " ".repeat(column.saturating_sub(1))));
    error.detail(shown.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Calendar, Grain};

    fn range(format: TimeFormat) -> TimeRange {
        let date = "2024-03-10".parse().expect("a date");
        let unit = Calendar::new(Grain::Day, chrono_tz::Asia::Seoul).of_date(date);
        TimeRange::of("at".to_owned(), format, chrono_tz::Asia::Seoul, &unit, &unit)
    }

    #[test]
    fn a_unit_is_written_as_the_type_of_its_column_wants_it() {
        let shown = |type_name: &str, format| bounds(&range(format), type_name).map(|(start, _)| start);
        for (type_name, format, text) in [
            ("TIMESTAMP", TimeFormat::Iso, "TIMESTAMP '2024-03-09T15:00:00Z'"),
            ("DATETIME", TimeFormat::Iso, "DATETIME '2024-03-10T00:00:00'"),
            ("DATE", TimeFormat::Iso, "DATE '2024-03-10'"),
            ("INTEGER", TimeFormat::Epoch, "1709996400"),
            ("INTEGER", TimeFormat::EpochMs, "1709996400000"),
        ] {
            assert_eq!(shown(type_name, format).ok().as_deref(), Some(text));
        }
        assert!(shown("INTEGER", TimeFormat::Iso).is_err() && shown("STRING", TimeFormat::Iso).is_err());
    }

    #[test]
    fn the_line_of_a_fault_is_shown_under_its_place() {
        let error = Error::new(Kind::Source, "Unrecognized name: nme at [2:8]");
        let mut refused = Refused::from(error);
        refused.why = Why::Query;
        let shown = beside(refused, "SELECT\n  id, nme\nFROM a.b");
        assert_eq!(shown.details(), Some("  1 | SELECT\n> 2 |   id, nme\n    |        ^"));
    }
}

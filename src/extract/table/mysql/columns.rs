//! The columns of a MySQL statement: how each is asked for, read, and typed in the warehouse.

use std::collections::HashMap;

use sqlx::mysql::{MySqlConnection, MySqlTypeInfo};
use sqlx::{Column as _, Executor, MySql, Statement, Type, TypeInfo};

use super::super::json;
use super::super::server::{TWICE, failed};
use super::super::sql::TimeKind;
use super::BACKTICKS;
use super::decode::{Cell, Decode};
use crate::error::{Error, Kind, Result};
use crate::model::schema::{LogicalType, SourceColumn};

/// A column of a statement's rows.
#[derive(Debug, Clone)]
pub(super) struct Described {
    /// Its name.
    pub name: String,
    /// Its type as MySQL calls it.
    pub type_name: String,
    /// What its values tell of time, if anything.
    pub time: Option<TimeKind>,
    /// How it stands in the list of a SELECT.
    pub select: String,
    decode: Decode,
    data_type: Option<LogicalType>,
}

impl Described {
    /// How the values of the column are read.
    pub fn cell(&self) -> Cell {
        Cell { member: json::member(&self.name), name: self.name.clone(), decode: self.decode }
    }

    /// The column as the warehouse gets it.
    pub fn of_source(&self) -> SourceColumn {
        SourceColumn { name: self.name.clone(), data_type: self.data_type.clone() }
    }
}

/// What the catalog tells of a table's columns, which the protocol does not.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Digits, and those behind the point, of the table's decimals.
    decimals: HashMap<String, (u64, u64)>,
    /// The columns whose texts are JSON: in MariaDB, JSON is a text with a check.
    json: Vec<String>,
}

/// The columns of what stands behind FROM.
pub(super) async fn describe(
    connection: &mut MySqlConnection,
    from: &str,
    catalog: &Catalog,
) -> Result<Vec<Described>> {
    let sql = sqlx::AssertSqlSafe(format!("SELECT * FROM {from}"));
    let doing = "asking MySQL for the columns of the rows";
    let statement =
        connection.prepare(sqlx::SqlSafeStr::into_sql_str(sql)).await.map_err(|error| failed(doing, &error))?;
    let mut described: Vec<Described> = Vec::new();
    for column in statement.columns() {
        if described.iter().any(|other| other.name.eq_ignore_ascii_case(column.name())) {
            return Err(
                Error::new(Kind::Source, format!("the statement has two columns `{}`", column.name())).hint(TWICE)
            );
        }
        described.push(one(column.name(), column.type_info(), catalog));
    }
    Ok(described)
}

/// Asks for what only the catalog tells of a table's columns.
pub(super) async fn catalog(connection: &mut MySqlConnection, schema: Option<&str>, table: &str) -> Result<Catalog> {
    let doing = "asking MySQL for the types of the rows";
    let decimals: Vec<(String, u64, u64)> = sqlx::query_as(
        "SELECT CAST(column_name AS CHAR), CAST(numeric_precision AS UNSIGNED), CAST(numeric_scale AS UNSIGNED) \
         FROM information_schema.columns WHERE table_schema = coalesce(?, database()) AND table_name = ? \
           AND data_type = 'decimal'",
    )
    .bind(schema)
    .bind(table)
    .fetch_all(&mut *connection)
    .await
    .map_err(|error| failed(doing, &error))?;
    let version: String = sqlx::query_scalar("SELECT version()")
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| failed(doing, &error))?;
    let mut json = Vec::new();
    if version.contains("MariaDB") {
        json = sqlx::query_scalar(
            "SELECT CAST(constraint_name AS CHAR) FROM information_schema.check_constraints \
             WHERE constraint_schema = coalesce(?, database()) AND table_name = ? AND check_clause LIKE 'json_valid(%'",
        )
        .bind(schema)
        .bind(table)
        .fetch_all(connection)
        .await
        .map_err(|error| failed(doing, &error))?;
    }
    Ok(Catalog { decimals: decimals.into_iter().map(|(name, digits, scale)| (name, (digits, scale))).collect(), json })
}

fn one(name: &str, info: &MySqlTypeInfo, catalog: &Catalog) -> Described {
    use LogicalType as L;
    let ident = BACKTICKS.ident(name);
    let mut select = ident.clone();
    let mut time = None;
    let of = |kind| Some(kind);
    let (decode, data_type) = match info.name() {
        // A TINYINT(1) is called BOOLEAN, and may hold any number of 8 bits.
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
            time = of(TimeKind::Number);
            (Decode::Signed, Some(L::BigInt))
        }
        "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED" | "INT UNSIGNED" => {
            time = of(TimeKind::Number);
            (Decode::Unsigned, Some(L::BigInt))
        }
        "BIGINT UNSIGNED" => {
            time = of(TimeKind::Number);
            (Decode::Unsigned, Some(L::HugeInt))
        }
        "YEAR" => (Decode::Unsigned, Some(L::BigInt)),
        "FLOAT" => (Decode::Float, Some(L::Double)),
        "DOUBLE" => {
            time = of(TimeKind::Number);
            (Decode::Double, Some(L::Double))
        }
        "DECIMAL" => {
            time = of(TimeKind::Number);
            (Decode::Decimal, catalog.decimals.get(name).and_then(|(digits, scale)| decimal(*digits, *scale)))
        }
        "BIT" => (Decode::Bits, Some(L::HugeInt)),
        "DATE" => {
            time = of(TimeKind::Date);
            (Decode::Date, Some(L::Date))
        }
        "DATETIME" => {
            time = of(TimeKind::Local);
            (Decode::Datetime, Some(L::Timestamp))
        }
        "TIMESTAMP" => {
            time = of(TimeKind::Instant);
            (Decode::Timestamp, Some(L::Timestamp))
        }
        // Longer than a day, or negative: no time of day.
        "TIME" => (Decode::Time, Some(L::Text)),
        "JSON" => (Decode::Json, Some(L::Json)),
        "GEOMETRY" => {
            select = format!("ST_AsText({ident}) AS {ident}");
            (Decode::Text, Some(L::Text))
        }
        _ if catalog.json.iter().any(|json| json == name) => (Decode::Json, Some(L::Json)),
        "SET" => (Decode::Text, Some(L::Text)),
        _ if <str as Type<MySql>>::compatible(info) => (Decode::Text, Some(L::Text)),
        _ => (Decode::Bytes, Some(L::Text)),
    };
    Described { name: name.to_owned(), type_name: info.name().to_lowercase(), time, select, decode, data_type }
}

/// A decimal's type; none where no warehouse has room for it.
fn decimal(digits: u64, scale: u64) -> Option<LogicalType> {
    let (precision, scale) = (u8::try_from(digits).ok()?, u8::try_from(scale).ok()?);
    (precision <= 38).then_some(LogicalType::Decimal { precision, scale })
}

//! The columns of a PostgreSQL statement: how each is asked for, read, and typed in the warehouse.

use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgColumn, PgTypeInfo, PgTypeKind};
use sqlx::{Column as _, Executor, Row, Statement};

use super::super::json;
use super::super::server::{TWICE, failed, failed_in};
use super::super::sql::TimeKind;
use super::STANDARD;
use super::decode::{Cell, Decode};
use crate::error::{Error, Kind, Result};
use crate::model::schema::{LogicalType, SourceColumn};

/// A column of a statement's rows.
#[derive(Debug, Clone)]
pub(super) struct Described {
    /// Its name.
    pub name: String,
    /// Its type as PostgreSQL calls it.
    pub type_name: String,
    /// What its values tell of time, if anything.
    pub time: Option<TimeKind>,
    /// How it stands in the list of a SELECT.
    pub select: String,
    decode: Decode,
    data_type: Option<LogicalType>,
}

impl Described {
    /// How the COPY's values of the column are read.
    pub fn cell(&self) -> Cell {
        Cell { member: json::member(&self.name), name: self.name.clone(), decode: self.decode.clone() }
    }

    /// The column as the warehouse gets it.
    pub fn of_source(&self) -> SourceColumn {
        SourceColumn { name: self.name.clone(), data_type: self.data_type.clone() }
    }
}

/// The columns of what stands behind FROM.
pub(super) async fn describe(connection: &mut sqlx::PgConnection, from: &str) -> Result<Vec<Described>> {
    let text = format!("SELECT * FROM {from}");
    let sql = sqlx::AssertSqlSafe(text.clone());
    let doing = "asking PostgreSQL for the columns of the rows";
    let statement = connection
        .prepare(sqlx::SqlSafeStr::into_sql_str(sql))
        .await
        .map_err(|error| failed_in(doing, &text, &error))?;
    let columns: Vec<PgColumn> = statement.columns().to_vec();
    let modifiers = modifiers(connection, &columns).await?;
    let mut described: Vec<Described> = Vec::with_capacity(columns.len());
    for (column, modifier) in columns.iter().zip(modifiers) {
        if described.iter().any(|other| other.name == column.name()) {
            return Err(
                Error::new(Kind::Source, format!("the statement has two columns `{}`", column.name())).hint(TWICE)
            );
        }
        described.push(one(column.name(), column.type_info(), modifier));
    }
    Ok(described)
}

/// The type modifier of each column that is one of a table, as `numeric(18,4)` has one; -1 of all others.
async fn modifiers(connection: &mut sqlx::PgConnection, columns: &[PgColumn]) -> Result<Vec<i32>> {
    let place = |column: &PgColumn| Some((i64::from(column.relation_id()?.0), column.relation_attribute_no()?));
    let relations: Vec<i64> = columns.iter().filter_map(place).map(|(relation, _)| relation).collect();
    let rows = sqlx::query(
        "SELECT attrelid::int8, attnum, atttypmod, attndims::int4 FROM pg_catalog.pg_attribute \
         WHERE attrelid::int8 = ANY($1) AND attnum > 0",
    )
    .bind(&relations)
    .fetch_all(&mut *connection)
    .await
    .map_err(|error| failed("asking PostgreSQL for the types of the rows", &error))?;
    let known: std::collections::HashMap<(i64, i16), i32> =
        rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    Ok(columns.iter().map(|column| place(column).and_then(|place| known.get(&place).copied()).unwrap_or(-1)).collect())
}

/// How a value of a type is asked for.
enum Asked {
    /// As it is.
    Plain(Decode),
    /// Cast to another type that keeps all of it.
    Cast(&'static str, Decode),
    /// As JSON, which the server makes of records.
    ToJson,
}

fn one(name: &str, info: &PgTypeInfo, modifier: i32) -> Described {
    let (asked, data_type) = typed(info, modifier, false);
    let ident = STANDARD.ident(name);
    let (select, decode) = match asked {
        Asked::Plain(decode) => (ident, decode),
        Asked::Cast(to, decode) => (format!("{ident}::{to} AS {ident}"), decode),
        Asked::ToJson => (format!("pg_catalog.to_jsonb({ident}) AS {ident}"), Decode::Jsonb),
    };
    let time = match base(info).oid() {
        Some(Oid(1082)) => Some(TimeKind::Date),
        Some(Oid(1114)) => Some(TimeKind::Local),
        Some(Oid(1184)) => Some(TimeKind::Instant),
        Some(Oid(20 | 21 | 23 | 700 | 701 | 1700)) => Some(TimeKind::Number),
        _ => None,
    };
    let type_name = sqlx::TypeInfo::name(info).to_lowercase();
    Described { name: name.to_owned(), type_name, time, select, decode, data_type }
}

/// The type behind a domain.
fn base(info: &PgTypeInfo) -> &PgTypeInfo {
    match info.kind() {
        PgTypeKind::Domain(inner) => base(inner),
        _ => info,
    }
}

/// How a type is asked for, and what it is in the warehouse; none where the values have to tell.
fn typed(info: &PgTypeInfo, modifier: i32, inside: bool) -> (Asked, Option<LogicalType>) {
    use LogicalType as L;
    let info = base(info);
    let plain = |decode, data_type| (Asked::Plain(decode), Some(data_type));
    match info.kind() {
        PgTypeKind::Enum(_) => return plain(Decode::Text, L::Text),
        PgTypeKind::Array(element) => return array(element, modifier),
        PgTypeKind::Composite(_) => return (Asked::ToJson, None),
        PgTypeKind::Range(_) => return (Asked::Cast("text", Decode::Text), Some(L::Text)),
        PgTypeKind::Simple | PgTypeKind::Pseudo | PgTypeKind::Domain(_) => {}
    }
    // The object identifiers of built-in types are those of `pg_type.dat`, and never change.
    match info.oid().map_or(0, |oid| oid.0) {
        16 => plain(Decode::Bool, L::Boolean),
        17 => plain(Decode::Bytea, L::Text),
        20 => plain(Decode::Int8, L::BigInt),
        21 => plain(Decode::Int2, L::BigInt),
        23 => plain(Decode::Int4, L::BigInt),
        26 => plain(Decode::Oid, L::BigInt),
        18 | 19 | 25 | 1042 | 1043 => plain(Decode::Text, L::Text),
        114 => plain(Decode::Json, L::Json),
        3802 => plain(Decode::Jsonb, L::Json),
        700 => plain(Decode::Float4, L::Double),
        701 => plain(Decode::Float8, L::Double),
        1082 => plain(Decode::Date, L::Date),
        1083 => plain(Decode::Time, L::Time),
        1114 => plain(Decode::Timestamp, L::Timestamp),
        1184 => plain(Decode::Timestamptz, L::Timestamp),
        1700 => {
            let data_type = decimal(modifier);
            (Asked::Plain(Decode::Numeric { quoted: inside && data_type.is_some() }), data_type)
        }
        790 => {
            (Asked::Cast("numeric", Decode::Numeric { quoted: false }), Some(L::Decimal { precision: 38, scale: 2 }))
        }
        2950 => plain(Decode::Uuid, L::Text),
        2249 => (Asked::ToJson, None),
        _ => (Asked::Cast("text", Decode::Text), Some(L::Text)),
    }
}

fn array(element: &PgTypeInfo, modifier: i32) -> (Asked, Option<LogicalType>) {
    match typed(element, modifier, true) {
        (Asked::Plain(decode), data_type) => {
            let data_type = data_type.map(|element| LogicalType::List(Box::new(element)));
            (Asked::Plain(Decode::Array(Box::new(decode))), data_type)
        }
        (Asked::Cast(..), _) => {
            let texts = Decode::Array(Box::new(Decode::Text));
            (Asked::Cast("text[]", texts), Some(LogicalType::List(Box::new(LogicalType::Text))))
        }
        (Asked::ToJson, _) => (Asked::ToJson, None),
    }
}

/// The type of `numeric(precision, scale)` by its modifier; none without one, or where no warehouse has room for it.
fn decimal(modifier: i32) -> Option<LogicalType> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    let precision = u8::try_from((packed >> 16) & 0xffff).ok()?;
    // Eleven bits with a sign, since PostgreSQL 15.
    let scale = u8::try_from(((packed & 0x7ff) ^ 1024) - 1024).ok()?;
    (precision <= 38 && scale <= precision).then_some(LogicalType::Decimal { precision, scale })
}

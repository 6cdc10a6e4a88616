//! How a warehouse writes names, values and types: what differs between vendors, as data.

use crate::error::{Error, Kind, Result};
use crate::model::connection::{Connection, ConnectionKind};
use crate::model::name::TableName;
use crate::model::schema::LogicalType;
use crate::time::{Grain, Instant, Unit};

/// How a warehouse writes names, values and types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// The name that screens use, and that `type =` of a connection has.
    pub name: &'static str,
    /// What stands around a name.
    pub quote: char,
    /// Whether a backslash escapes inside quotes; where it does not, a quote is doubled.
    pub backslash: bool,
    /// The words of types.
    pub types: Words,
    /// How lists and records are stored.
    pub nested: NestedForm,
    /// What stands behind the digits of a timestamp inside its quotes: `Z` where the type has a zone.
    pub zone: &'static str,
    /// Where `_haul_loads` lies.
    pub loads: LoadsPlace,
    /// What a table can be laid out by, as the keys of a step say it.
    pub layouts: &'static [&'static str],
}

/// The words for types that need no more than a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// True or false.
    pub boolean: &'static str,
    /// 64 bits.
    pub bigint: &'static str,
    /// 128 bits.
    pub hugeint: &'static str,
    /// A 64-bit float.
    pub double: &'static str,
    /// A date.
    pub date: &'static str,
    /// A time in UTC, also that of `_haul_unit` where units are hours.
    pub timestamp: &'static str,
    /// A time of day.
    pub time: &'static str,
    /// Text.
    pub text: &'static str,
    /// Bytes.
    pub blob: &'static str,
    /// JSON.
    pub json: &'static str,
    /// A decimal, in front of its brackets.
    pub decimal: &'static str,
}

/// How a warehouse stores lists and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NestedForm {
    /// `STRUCT(a BIGINT)` and `BIGINT[]`.
    Brackets,
    /// `STRUCT<a INT64>` and `ARRAY<INT64>`.
    Angles,
    /// As JSON.
    Json,
}

/// Where a warehouse keeps `_haul_loads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadsPlace {
    /// Once, in this schema.
    Schema(&'static str),
    /// In the schema of each table: who may write there may write what is loaded there, and what lies there goes with it.
    BesideTable,
}

/// DuckDB's way.
pub(super) const DUCKDB: Dialect = Dialect {
    name: "duckdb",
    quote: '"',
    backslash: false,
    types: Words {
        boolean: "BOOLEAN",
        bigint: "BIGINT",
        hugeint: "HUGEINT",
        double: "DOUBLE",
        date: "DATE",
        timestamp: "TIMESTAMP",
        time: "TIME",
        text: "VARCHAR",
        blob: "BLOB",
        json: "JSON",
        decimal: "DECIMAL",
    },
    nested: NestedForm::Brackets,
    zone: "",
    loads: LoadsPlace::Schema("main"),
    layouts: &[],
};

/// PostgreSQL's way. A whole number of 128 bits is a `numeric` of 39 digits, by which it is known again.
pub(super) const POSTGRES: Dialect = Dialect {
    name: "postgres",
    quote: '"',
    backslash: false,
    types: Words {
        boolean: "boolean",
        bigint: "bigint",
        hugeint: "numeric(39,0)",
        double: "double precision",
        date: "date",
        timestamp: "timestamp",
        time: "time",
        text: "text",
        blob: "bytea",
        json: "jsonb",
        decimal: "numeric",
    },
    nested: NestedForm::Json,
    zone: "",
    loads: LoadsPlace::BesideTable,
    layouts: &["partition_by", "cluster_by"],
};

/// The way of MySQL and MariaDB, which are only loaded into. Names are quoted by doubling: they never go through here.
pub(super) const MYSQL: Dialect = Dialect {
    name: "mysql",
    quote: '`',
    backslash: true,
    types: Words {
        boolean: "boolean",
        bigint: "bigint",
        hugeint: "decimal(39,0)",
        double: "double",
        date: "date",
        timestamp: "datetime(6)",
        time: "time(6)",
        text: "longtext",
        blob: "longblob",
        json: "json",
        decimal: "decimal",
    },
    nested: NestedForm::Json,
    zone: "",
    loads: LoadsPlace::BesideTable,
    layouts: &[],
};

/// BigQuery's way: GoogleSQL.
pub(super) const BIGQUERY: Dialect = Dialect {
    name: "bigquery",
    quote: '`',
    backslash: true,
    types: Words {
        boolean: "BOOL",
        bigint: "INT64",
        hugeint: "BIGNUMERIC(38)",
        double: "FLOAT64",
        date: "DATE",
        timestamp: "TIMESTAMP",
        time: "TIME",
        text: "STRING",
        blob: "BYTES",
        json: "JSON",
        decimal: "NUMERIC",
    },
    nested: NestedForm::Angles,
    zone: "Z",
    loads: LoadsPlace::BesideTable,
    layouts: &["partition_by", "cluster_by", "require_partition_filter", "partition_expires"],
};

/// The table that tells what is loaded.
pub(super) const LOADS: &str = "_haul_loads";

impl Dialect {
    /// The dialect behind a connection, without opening it.
    ///
    /// # Errors
    /// A connection that leads to no warehouse.
    pub fn of(connection: &Connection) -> Result<Self> {
        match &connection.kind {
            ConnectionKind::DuckDb(_) => Ok(DUCKDB),
            ConnectionKind::Postgres(_) => Ok(POSTGRES),
            ConnectionKind::BigQuery(_) => Ok(BIGQUERY),
            kind @ (ConnectionKind::Http(_)
            | ConnectionKind::MySql(_)
            | ConnectionKind::MongoDb(_)
            | ConnectionKind::Files(_)
            | ConnectionKind::Smtp(_)
            | ConnectionKind::Process) => Err(no_warehouse(&connection.name, kind)),
        }
    }

    /// How statements over rows are written that become files.
    pub fn of_files() -> Self {
        DUCKDB
    }

    /// A quoted name.
    pub fn ident(&self, name: &str) -> String {
        self.quoted(name, self.quote)
    }

    /// A quoted table.
    pub fn relation(&self, table: &TableName) -> String {
        format!("{}.{}", self.ident(&table.schema), self.ident(&table.name))
    }

    /// A quoted text.
    pub fn literal(&self, text: &str) -> String {
        self.quoted(text, '\'')
    }

    /// `_haul_loads` as it stands for a table.
    pub fn loads_of(&self, table: &TableName) -> String {
        let schema = match self.loads {
            LoadsPlace::Schema(schema) => schema,
            LoadsPlace::BesideTable => &table.schema,
        };
        format!("{}.{LOADS}", self.ident(schema))
    }

    /// The literal of a time in UTC.
    pub fn timestamp(&self, at: Instant) -> String {
        format!("TIMESTAMP '{}{}'", at.format("%Y-%m-%d %H:%M:%S%.6f"), self.zone)
    }

    /// The type of `_haul_unit`.
    pub fn unit_type(&self, grain: Grain) -> &'static str {
        match grain {
            Grain::Hour => self.types.timestamp,
            Grain::Day | Grain::Week | Grain::Month => self.types.date,
        }
    }

    /// The start of a unit as a literal of the type of `_haul_unit`.
    pub fn unit_literal(&self, unit: &Unit) -> String {
        match unit.calendar.grain {
            Grain::Hour => format!("TIMESTAMP '{}{}'", unit.start.format("%Y-%m-%d %H:%M:%S"), self.zone),
            Grain::Day | Grain::Week | Grain::Month => format!("DATE '{}'", unit.key()),
        }
    }

    /// A type as this warehouse writes it.
    pub fn type_of(&self, data_type: &LogicalType) -> String {
        let words = &self.types;
        match data_type {
            LogicalType::Boolean => words.boolean.to_owned(),
            LogicalType::BigInt => words.bigint.to_owned(),
            LogicalType::HugeInt => words.hugeint.to_owned(),
            LogicalType::Decimal { precision, scale } => self.decimal(*precision, *scale),
            LogicalType::Double => words.double.to_owned(),
            LogicalType::Date => words.date.to_owned(),
            LogicalType::Timestamp => words.timestamp.to_owned(),
            LogicalType::Time => words.time.to_owned(),
            LogicalType::Text => words.text.to_owned(),
            LogicalType::Blob => words.blob.to_owned(),
            LogicalType::Json => words.json.to_owned(),
            LogicalType::List(element) => match self.nested {
                NestedForm::Brackets => format!("{}[]", self.type_of(element)),
                NestedForm::Angles => format!("ARRAY<{}>", self.type_of(element)),
                NestedForm::Json => words.json.to_owned(),
            },
            LogicalType::Struct(fields) => {
                let typed = fields.iter().map(|field| {
                    let name = self.ident(&field.name);
                    format!("{name} {}", self.type_of(&field.data_type))
                });
                let typed = typed.collect::<Vec<_>>().join(", ");
                match self.nested {
                    NestedForm::Brackets => format!("STRUCT({typed})"),
                    NestedForm::Angles => format!("STRUCT<{typed}>"),
                    NestedForm::Json => words.json.to_owned(),
                }
            }
            LogicalType::Other(name) => name.clone(),
        }
    }

    /// A decimal; GoogleSQL has a short and a long one, of 29 and 38 digits before the point.
    fn decimal(&self, precision: u8, scale: u8) -> String {
        let long = self.nested == NestedForm::Angles && (scale > 9 || precision - scale > 29);
        let word = if long { "BIGNUMERIC" } else { self.types.decimal };
        format!("{word}({precision},{scale})")
    }

    fn quoted(&self, inner: &str, quote: char) -> String {
        let mut text = String::with_capacity(inner.len() + 2);
        text.push(quote);
        for c in inner.chars() {
            match c {
                _ if c == quote => text.extend([if self.backslash { '\\' } else { quote }, c]),
                '\\' if self.backslash => text.push_str("\\\\"),
                // A text may not go over the end of a line where escapes can say the same.
                '\n' if self.backslash => text.push_str("\\n"),
                '\r' if self.backslash => text.push_str("\\r"),
                _ => text.push(c),
            }
        }
        text.push(quote);
        text
    }
}

pub(super) fn no_warehouse(name: &str, kind: &ConnectionKind) -> Error {
    Error::new(Kind::Config, format!("the connection `{name}` has type {kind}, which is no warehouse"))
        .hint("a warehouse has type \"duckdb\", \"postgres\" or \"bigquery\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_has_its_own_words_for_the_same_types() {
        let nested = LogicalType::parse("STRUCT(\"a b\" BIGINT[], d DECIMAL(38,12))").expect("a type");
        assert_eq!(DUCKDB.type_of(&nested), nested.to_string());
        assert_eq!(POSTGRES.type_of(&nested), "jsonb");
        assert_eq!(BIGQUERY.type_of(&nested), "STRUCT<`a b` ARRAY<INT64>, `d` BIGNUMERIC(38,12)>");
        let decimal = LogicalType::parse("DECIMAL(18,4)").expect("a type");
        assert_eq!(BIGQUERY.type_of(&decimal), "NUMERIC(18,4)");
        assert_eq!(POSTGRES.type_of(&LogicalType::HugeInt), "numeric(39,0)");
    }

    #[test]
    fn a_quote_inside_a_text_or_a_name_cannot_end_it() {
        assert_eq!(POSTGRES.literal("O'Reilly\\"), r"'O''Reilly\'");
        assert_eq!(POSTGRES.ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(BIGQUERY.literal("O'Reilly\\\n"), r"'O\'Reilly\\\n'");
        assert_eq!(BIGQUERY.ident("a`b"), "`a\\`b`");
        let table = TableName::parse("raw.items").expect("a name");
        assert_eq!(DUCKDB.loads_of(&table), "\"main\"._haul_loads");
        assert_eq!(POSTGRES.loads_of(&table), "\"raw\"._haul_loads");
    }
}

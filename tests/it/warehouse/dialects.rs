//! What the suite says differently to each driver: a few words of SQL, and how a query tells what it has found.

use super::bench::Driver;

impl Driver {
    /// What differs between the drivers.
    pub fn pick<T>(self, duckdb: T, postgres: T, bigquery: T) -> T {
        match self {
            Self::DuckDb => duckdb,
            Self::Postgres => postgres,
            Self::BigQuery => bigquery,
        }
    }

    /// A name in a statement.
    pub fn quoted(self, name: &str) -> String {
        let standard = format!("\"{}\"", name.replace('"', "\"\""));
        self.pick(standard.clone(), standard, format!("`{name}`"))
    }

    /// Whole numbers as a column of this name, for a FROM.
    pub fn numbers(self, column: &str, first: u32, last: u32) -> String {
        let series = format!("generate_series({first}, {last}) r({column})");
        self.pick(series.clone(), series, format!("UNNEST(GENERATE_ARRAY({first}, {last})) AS {column}"))
    }

    /// A type of decimals that a CAST takes: BigQuery's has no digits there.
    pub fn decimals(self, declared: &str) -> String {
        self.pick(declared.to_owned(), declared.to_owned(), "NUMERIC".to_owned())
    }

    /// A type of texts that a CAST takes.
    pub fn texts(self) -> &'static str {
        self.pick("VARCHAR", "VARCHAR", "STRING")
    }

    /// How a decimal of a column with digits behind the point is told: BigQuery writes no zeros at the end.
    pub fn decimal(self, text: &str) -> String {
        let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
        self.pick(text, text, short).to_owned()
    }

    /// How an instant is told that DuckDB tells like this: `2024-03-01 10:00:00`.
    pub fn instant(self, text: &str) -> String {
        self.pick(text.to_owned(), format!("{text}+00"), iso(text))
    }

    /// How a time is told that came without an offset; on BigQuery it is an instant like any other.
    pub fn local(self, text: &str) -> String {
        self.pick(text.to_owned(), text.to_owned(), iso(text))
    }

    /// The times between quotation marks in a row of JSON as [`Driver::instant`] has them.
    pub fn instants(self, row: &str) -> String {
        let is_time = |part: &str| part.len() >= 19 && part.as_bytes()[10] == b' ' && part.as_bytes()[13] == b':';
        let parts = row.split('"').map(|part| if is_time(part) { self.instant(part) } else { part.to_owned() });
        parts.collect::<Vec<_>>().join("\"")
    }
}

/// An instant in ISO 8601, with three digits behind the point or six.
fn iso(text: &str) -> String {
    let (seconds, behind) = text.split_once('.').unwrap_or((text, ""));
    let digits = match behind.len() {
        0 => String::new(),
        1..=3 => format!(".{behind:0<3}"),
        _ => format!(".{behind:0<6}"),
    };
    format!("{}{digits}Z", seconds.replace(' ', "T"))
}

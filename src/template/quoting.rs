//! How values and names are written in a warehouse's SQL, as data.

use chrono::{NaiveDate, NaiveDateTime};

/// How literals and identifiers are written in one dialect of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoting {
    /// The dialect's name, by which macros choose their body.
    pub dialect: &'static str,
    /// The character around an identifier; doubled inside.
    pub ident: char,
    /// The character around a text; doubled inside.
    pub text: char,
    /// Whether a backslash inside quotes escapes, and a quote is escaped by it instead of being doubled.
    pub backslash: bool,
    /// What stands before the quoted text of a date.
    pub date: &'static str,
    /// What stands before the quoted text of a timestamp.
    pub timestamp: &'static str,
    /// What stands behind the digits of a timestamp inside the quotes: `Z` where the type has a zone.
    pub zone: &'static str,
}

impl Default for Quoting {
    /// Standard SQL, as DuckDB reads it; timestamps are in UTC and have no zone.
    fn default() -> Self {
        Self {
            dialect: "duckdb",
            ident: '"',
            text: '\'',
            backslash: false,
            date: "DATE ",
            timestamp: "TIMESTAMP ",
            zone: "",
        }
    }
}

impl Quoting {
    /// The names of all dialects.
    pub const DIALECTS: [&str; 4] = ["duckdb", "bigquery", "postgres", "mysql"];

    /// GoogleSQL, as BigQuery reads it.
    pub const BIGQUERY: Self = Self {
        dialect: "bigquery",
        ident: '`',
        text: '\'',
        backslash: true,
        date: "DATE ",
        timestamp: "TIMESTAMP ",
        zone: "Z",
    };

    /// As PostgreSQL reads it.
    pub const POSTGRES: Self = Self {
        dialect: "postgres",
        ident: '"',
        text: '\'',
        backslash: false,
        date: "DATE ",
        timestamp: "TIMESTAMP ",
        zone: "",
    };

    /// As MySQL and MariaDB read it.
    pub const MYSQL: Self = Self { dialect: "mysql", ident: '`', backslash: true, ..Self::POSTGRES };

    /// The way of the dialect of this name; DuckDB's, which is standard SQL, for a name that is none.
    pub fn of(dialect: &str) -> Self {
        let others = [Self::BIGQUERY, Self::POSTGRES, Self::MYSQL];
        others.into_iter().find(|known| known.dialect == dialect).unwrap_or_default()
    }

    /// A quoted identifier.
    pub fn ident(&self, name: &str) -> String {
        self.quoted(name, self.ident)
    }

    /// A quoted text.
    pub fn text(&self, text: &str) -> String {
        self.quoted(text, self.text)
    }

    /// The literal of a date.
    pub fn date(&self, date: NaiveDate) -> String {
        format!("{}{}", self.date, self.text(&date.format("%Y-%m-%d").to_string()))
    }

    /// The literal of a timestamp.
    pub fn timestamp(&self, at: NaiveDateTime) -> String {
        format!("{}{}", self.timestamp, self.text(&format!("{}{}", at.format("%Y-%m-%d %H:%M:%S%.f"), self.zone)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_inside_a_text_or_a_name_cannot_end_it() {
        let standard = Quoting::default();
        assert_eq!(standard.text("O'Reilly\\"), r"'O''Reilly\'");
        assert_eq!(standard.ident("a\"b"), "\"a\"\"b\"");
        let escaping = Quoting::BIGQUERY;
        assert_eq!(escaping.text("O'Reilly\\\n"), r"'O\'Reilly\\\n'");
        assert_eq!(escaping.ident("a`b"), "`a\\`b`");
    }
}

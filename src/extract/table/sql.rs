//! Pieces of SQL that the systems share: names, texts, and what is looked for when a name is not there.

use chrono::{NaiveDateTime, TimeZone};

use super::TimeRange;
use crate::error::{Error, Kind, Result};
use crate::model::pipeline::TimeFormat;
use crate::time::{Instant, Tz};

/// How a system writes names and texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writing {
    /// What stands around a name, doubled inside.
    pub quote: char,
    /// Whether a backslash inside a text escapes.
    pub backslash: bool,
}

impl Writing {
    /// A quoted name.
    pub fn ident(self, name: &str) -> String {
        let quote = self.quote;
        format!("{quote}{}{quote}", name.replace(quote, &format!("{quote}{quote}")))
    }

    /// A quoted text.
    pub fn text(self, text: &str) -> String {
        let text = if self.backslash { text.replace('\\', "\\\\") } else { text.to_owned() };
        format!("'{}'", text.replace('\'', "''"))
    }

    /// A table whose parts are divided by dots, of which those in quotes keep their dots.
    pub fn relation(self, name: &str) -> Result<String> {
        Ok(self.parts(name)?.iter().map(|part| self.ident(part)).collect::<Vec<_>>().join("."))
    }

    /// The parts of a table's name, without their quotes.
    pub fn parts(self, name: &str) -> Result<Vec<String>> {
        let wrong = || {
            Error::config(format!("`{name}` is not the name of a table"))
                .hint("a table is named `table` or `schema.table`; a part with a dot in it stands in quotes")
        };
        let mut parts = vec![String::new()];
        let mut quoted = false;
        let mut chars = name.chars().peekable();
        while let Some(c) = chars.next() {
            let last = parts.len() - 1;
            if c == self.quote {
                if quoted && chars.peek() == Some(&self.quote) {
                    chars.next();
                    parts[last].push(c);
                } else {
                    quoted = !quoted;
                }
            } else if c == '.' && !quoted {
                parts.push(String::new());
            } else {
                parts[last].push(c);
            }
        }
        if quoted || parts.len() > 3 || parts.iter().any(|part| part.trim().is_empty()) {
            Err(wrong())
        } else {
            Ok(parts)
        }
    }
}

/// What the values of a time column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeKind {
    /// Calendar dates.
    Date,
    /// Wall-clock times without a zone.
    Local,
    /// Instants.
    Instant,
    /// Numbers.
    Number,
}

/// The first value of a range, and the first behind it, in the words of the column's own type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bounds {
    pub first: String,
    pub after: String,
}

impl TimeRange {
    /// The range in the terms of its column: dates, wall-clock times, instants in UTC, or counts since 1970.
    ///
    /// # Errors
    /// A column that cannot tell these units.
    pub(super) fn bounds(&self, kind: TimeKind) -> Result<Bounds> {
        let fits = (kind == TimeKind::Number) == (self.format != TimeFormat::Iso);
        if !fits {
            let error = Error::config(format!(
                "the column `{}` has {}",
                self.column,
                if kind == TimeKind::Number { "numbers" } else { "dates or times, not numbers" }
            ));
            return Err(if kind == TimeKind::Number {
                error.hint("say what they count: time_format = \"epoch\" for seconds since 1970, or \"epoch_ms\"")
            } else {
                error.hint("leave `time_format` out")
            });
        }
        let both = |write: &dyn Fn(Instant) -> String| Bounds { first: write(self.start), after: write(self.end) };
        let iso = |at: NaiveDateTime| at.format("%Y-%m-%d %H:%M:%S").to_string();
        Ok(match kind {
            TimeKind::Date => {
                let (first, after) = self.as_dates()?;
                Bounds { first: first.to_string(), after: after.to_string() }
            }
            TimeKind::Local => both(&|at| iso(local(at, self.zone))),
            TimeKind::Instant => both(&|at| format!("{}+00:00", iso(at.naive_utc()))),
            TimeKind::Number if self.format == TimeFormat::EpochMs => both(&|at| at.timestamp_millis().to_string()),
            TimeKind::Number => both(&|at| at.timestamp().to_string()),
        })
    }

    /// The error of a column that no range can be taken of.
    pub(super) fn no_time(&self, data_type: &str) -> Error {
        Error::config(format!("the column `{}` has the type {data_type}, which tells no time", self.column)).hint(
            "name a column of dates, timestamps or numbers; or cast it in `sql`: SELECT *, day::date AS at FROM …",
        )
    }
}

/// The first wall-clock time that is read as `at` or later.
///
/// Where clocks are set back, an hour of wall-clock times comes twice, and is read as its first coming: what is written in
/// it belongs to the earlier hour, and nothing to the later one.
fn local(at: Instant, zone: Tz) -> NaiveDateTime {
    let here = |at: Instant| at.with_timezone(&zone).naive_local();
    let offset = |at: Instant| here(at) - at.naive_utc();
    let earliest = zone.from_local_datetime(&here(at)).earliest().map(|earliest| earliest.to_utc());
    let Some(earlier) = earliest.filter(|earliest| *earliest < at) else { return here(at) };
    // The clocks were set back after the earlier one of the two; offsets change at whole minutes.
    let minute = chrono::Duration::minutes(1);
    let mut turn = at;
    while turn > earlier && offset(turn - minute) == offset(at) {
        turn -= minute;
    }
    turn.naive_utc() + offset(earlier)
}

/// The error of a name that is not there, with those that look like it.
pub(super) fn not_there(what: &str, name: &str, known: &[String]) -> Error {
    let error = Error::new(Kind::Source, format!("there is no {what} `{name}`"));
    let low = name.to_lowercase();
    let mut near: Vec<(usize, &String)> = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&known.to_lowercase(), &low), known))
        .filter(|(distance, known)| *distance <= 1 + known.chars().count().max(low.chars().count()) / 4)
        .collect();
    near.sort();
    let names: Vec<String> = near.iter().take(3).map(|(_, known)| format!("`{known}`")).collect();
    match names.as_slice() {
        [] if known.is_empty() => error.hint(format!("there is no {what} there that this user can see")),
        [] => {
            let some: Vec<&str> = known.iter().take(12).map(String::as_str).collect();
            let more = if known.len() > some.len() { ", …" } else { "" };
            error.hint(format!("there is {}{more}", some.join(", ")))
        }
        names => error.hint(format!("did you mean {}?", names.join(" or "))),
    }
}

/// A statement without the semicolon that may end it.
pub(super) fn plain(sql: &str) -> &str {
    sql.trim().trim_end_matches(';').trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDARD: Writing = Writing { quote: '"', backslash: false };

    fn instant(text: &str) -> Instant {
        text.parse().expect("an instant")
    }

    #[test]
    fn a_quote_cannot_end_a_name_or_a_text() {
        assert_eq!(STANDARD.relation("public.events").expect("a name"), "\"public\".\"events\"");
        assert_eq!(STANDARD.relation("\"a.b\".\"c\"\"d\"").expect("a name"), "\"a.b\".\"c\"\"d\"");
        assert_eq!(Writing { quote: '`', backslash: true }.text("a\\' OR 1"), "'a\\\\'' OR 1'");
        for wrong in ["", "a.", ".b", "a..b", "\"a", "a.b.c.d"] {
            assert!(STANDARD.relation(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wall_clock_hour_that_comes_twice_belongs_to_its_first_coming() {
        let zone = Tz::Europe__Berlin;
        let text = |at: &str| local(instant(at), zone).format("%H:%M").to_string();
        // On 2024-10-27 clocks go from 03:00 back to 02:00 at 01:00 UTC.
        assert_eq!(text("2024-10-27T00:00:00Z"), "02:00");
        assert_eq!(text("2024-10-27T01:00:00Z"), "03:00");
        assert_eq!(text("2024-10-27T02:00:00Z"), "03:00");
        assert_eq!(text("2024-10-26T22:00:00Z"), "00:00");
    }
}

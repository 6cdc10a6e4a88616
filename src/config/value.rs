//! Values with a meaning of their own: durations, zones, shares, cron expressions, paths, types, secrets.

use std::borrow::Cow;
use std::time::Duration;

use chrono::NaiveDate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{known_names, nearest};
use super::reader::{At, Read, Reader, Required, twin};
use super::scalar::{Count, Entries};
use crate::model::parameter::ParameterValue;
use crate::model::schema::LogicalType;
use crate::time::{Cron, Instant, Tz, parse_duration};

macro_rules! schema {
    ($type:ident, $schema:tt) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(crate) use schema;

/// A length of time with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypedDuration(pub Duration);

impl Read for TypedDuration {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        if let Some(parameter) = reader.parameter(value) {
            let duration = parameter.ok().and_then(|parameter| match parameter {
                ParameterValue::Duration(text) => parse_duration(&text).ok(),
                _ => None,
            });
            return duration.map(Self).or_else(|| reader.wrong_parameter(value, "a duration"));
        }
        let path = reader.path();
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            _ => {
                let fault = reader.wrong_type(value, "a duration");
                fault.help = Some("durations look like \"500ms\", \"90s\", \"15m\", \"1h 30m\", \"3d\"".to_owned());
                return None;
            }
        };
        match parse_duration(&text) {
            Ok(duration) if value.get_ref().is_str() => Some(Self(duration)),
            Ok(_) => None,
            Err(error) => {
                let bare = !text.trim().is_empty() && text.trim().bytes().all(|byte| byte.is_ascii_digit());
                let (code, what) = if bare { ("bare-duration", "has no unit") } else { ("bad-duration", "is none") };
                let help = error.hints().first().map(|hint| (*hint).to_owned());
                reader.error(code, value.span(), format!("the duration of `{path}` {what}")).help = help;
                None
            }
        }
    }
}

schema!(TypedDuration, { "type": "string", "examples": ["500ms", "90s", "15m", "1h 30m", "7d"] });

/// An instant: a date and a time with its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub Instant);

impl Read for Moment {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let text = match value.get_ref() {
            DeValue::Datetime(written) => written.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => String::new(),
        };
        let read = chrono::DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1));
        if read.is_err() {
            reader.wrong_type(value, "an instant").help =
                Some("a date and a time with its offset, without quotes: 2019-01-04T06:00:00Z".to_owned());
        }
        read.ok().map(|instant| Self(instant.to_utc()))
    }
}

schema!(Moment, { "type": "string", "format": "date-time", "examples": ["2019-01-04T06:00:00Z"] });

/// A number of bytes with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Reads `10 GB`; none where there is no unit, no number or nothing.
    pub fn parse(text: &str) -> Option<Self> {
        const UNITS: [(&str, u64); 9] = [
            ("KIB", 1 << 10),
            ("MIB", 1 << 20),
            ("GIB", 1 << 30),
            ("TIB", 1 << 40),
            ("KB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000),
            ("B", 1),
        ];
        let text = text.trim().to_uppercase();
        let (number, bytes) = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?.trim(), *bytes)))?;
        number.parse::<u64>().ok()?.checked_mul(bytes).filter(|bytes| *bytes > 0).map(Self)
    }
}

impl Read for ByteSize {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let read = Self::parse(reader.source.text[value.span()].trim_matches(['"', '\'']));
        if let Some(Self(bytes)) = read.filter(|_| value.get_ref().is_str()) {
            return Some(Self(bytes));
        }
        let path = reader.path();
        reader.error("bad-size", value.span(), format!("`{path}` is no number of bytes")).help =
            Some("sizes look like \"500 MB\", \"10 GB\", \"1 TiB\"".to_owned());
        None
    }
}

schema!(ByteSize, { "type": "string", "examples": ["500 MB", "10 GB", "1 TiB"] });

/// An IANA time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(pub Tz);

impl Read for Zone {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let name = String::read(value, reader)?;
        if let Ok(tz) = name.parse::<Tz>() {
            return Some(Self(tz));
        }
        let zones = chrono_tz::TZ_VARIANTS;
        let city = || {
            let tail = name.rsplit('/').next().unwrap_or(&name).replace(' ', "_").to_lowercase();
            let of_city = |zone: &&Tz| zone.name().rsplit('/').next().is_some_and(|city| city.to_lowercase() == tail);
            zones.iter().find(of_city).map(|zone| zone.name())
        };
        let near = city().or_else(|| nearest(&name, zones.iter().map(|zone| zone.name())));
        let help = near.map_or_else(
            || "zones have IANA names, such as \"Asia/Seoul\", \"Europe/Berlin\" or \"UTC\"".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        reader.error("unknown-timezone", value.span(), format!("there is no time zone `{name}`")).help = Some(help);
        None
    }
}

schema!(Zone, { "type": "string", "examples": ["UTC", "Europe/Berlin", "Asia/Seoul"] });

/// A share in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(pub f64);

impl Read for Percent {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let raw = reader.source.text[value.span()].trim_matches(['"', '\'']).trim().to_owned();
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        let percent = raw.strip_suffix('%').filter(|_| value.get_ref().is_str()).and_then(number);
        if let Some(percent) = percent.filter(|percent| (0.0..=100.0).contains(percent)) {
            return Some(Self(percent / 100.0));
        }
        let help = match (percent, number(&raw)) {
            (None, Some(share)) if share > 0.0 && share <= 1.0 => {
                format!("a share is written in percent: \"{}%\"", share * 100.0)
            }
            (None, Some(share)) if (0.0..=100.0).contains(&share) => {
                format!("a share is written in percent: \"{share}%\"")
            }
            _ => "a share is written from \"0%\" to \"100%\"".to_owned(),
        };
        let message = format!("`{}` is not a share in percent", reader.path());
        reader.error("bad-percentage", value.span(), message).help = Some(help);
        None
    }
}

schema!(Percent, { "type": "string", "pattern": "^\\s*[0-9]+(\\.[0-9]+)?\\s*%$", "examples": ["50%"] });

/// A cron expression of five fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronText(pub String);

impl Read for CronText {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        const FORM: &str = "five fields: minute, hour, day of month, month, day of week, as in \"0 6 * * *\"";
        let text = String::read(value, reader)?;
        let fields = text.split_whitespace().count();
        if fields != 5 && !text.starts_with('@') {
            let message = format!("a cron expression has five fields, this one has {fields}");
            reader.error("bad-cron", value.span(), message).help = Some(FORM.to_owned());
            return None;
        }
        if is_plain_cron(&text) {
            return Some(Self(text));
        }
        match Cron::parse(&text) {
            Ok(_) => Some(Self(text)),
            Err(error) => {
                let message = error.chain();
                reader.error("bad-cron", value.span(), message).help = Some(FORM.to_owned());
                None
            }
        }
    }
}

/// Whether all fields are stars, numbers, ranges, steps and lists of these within their bounds.
///
/// That is nearly every expression there is, and telling it so costs a fiftieth of what the parser needs.
fn is_plain_cron(text: &str) -> bool {
    const BOUNDS: [(u8, u8); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
    let plain = |part: &str, (least, most): (u8, u8)| {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number =
            |text: &str| text.parse::<u8>().ok().filter(|number| digits(text) && (least..=most).contains(number));
        let (base, step) = part.split_once('/').map_or((part, None), |(base, step)| (base, Some(step)));
        let range = base.split_once('-').map(|(from, to)| (number(from), number(to)));
        let is_range = matches!(range, Some((Some(from), Some(to))) if from <= to);
        let step_fits = step.is_none_or(|step| number(step).is_some_and(|step| step > 0));
        step_fits && (base == "*" || is_range || step.is_none() && number(base).is_some())
    };
    text.split_whitespace().count() == BOUNDS.len()
        && text.split_whitespace().zip(BOUNDS).all(|(field, bounds)| field.split(',').all(|part| plain(part, bounds)))
}

schema!(CronText, { "type": "string", "examples": ["0 6 * * *", "*/15 * * * *"] });

/// One cron expression, or several: a time that more than one of them names is one occurrence.
#[derive(Debug, Clone)]
pub struct Crons(pub Vec<At<CronText>>);

impl Read for Crons {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let Some(list) = value.get_ref().as_array() else {
            return At::read(value, reader).map(|one| Self(vec![one]));
        };
        if list.is_empty() {
            let message = format!("`{}` has no expression", reader.path());
            reader.error("empty", value.span(), message);
        }
        Some(Self(Vec::read(value, reader)?))
    }
}

schema!(Crons, {
    "anyOf": [
        { "type": "string", "examples": ["0 6 * * *", "*/15 * * * *"] },
        { "type": "array", "items": { "type": "string" }, "minItems": 1, "examples": [["0 6 * * 1-5", "0 9 * * 6,0"]] },
    ],
});

/// A date without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date(pub NaiveDate);

impl Read for Date {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let written = match value.get_ref() {
            DeValue::Datetime(written) if written.time.is_none() && written.offset.is_none() => written.to_string(),
            DeValue::Datetime(written) => {
                let help = written.date.map(|date| format!("write only the date: {date}"));
                let path = reader.path();
                reader.error("wrong-type", value.span(), format!("`{path}` has to be a date without a time")).help =
                    help;
                return None;
            }
            other => {
                let quoted = other.as_str().and_then(|text| text.parse::<NaiveDate>().ok());
                let fault = reader.wrong_type(value, "a date");
                fault.help = Some(match quoted {
                    Some(date) => format!("without quotes: {date}"),
                    None => "a date is written without quotes, as in 2019-01-01".to_owned(),
                });
                return None;
            }
        };
        let date = written.parse().ok();
        if date.is_none() {
            reader.error("bad-date", value.span(), format!("there is no day {written}"));
        }
        date.map(Self)
    }
}

// Schemas are read by editors that see a TOML date as a text of this format.
schema!(Date, { "type": "string", "format": "date" });

/// A JSONPath (RFC 9535).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPathText(pub String);

impl Read for JsonPathText {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let text = String::read(value, reader)?;
        let text = reader.filled(&text, value.span())?;
        match serde_json_path::JsonPath::parse(&text) {
            Ok(_) => Some(Self(text)),
            Err(error) => {
                let message = format!("`{text}` is not a JSONPath: {error}");
                let help = if text.starts_with('$') {
                    "a path looks like \"$.result[*]\" or \"$.meta.total\"".to_owned()
                } else {
                    format!("a path begins at the root: \"$.{}\"", text.trim_start_matches('.'))
                };
                reader.error("bad-path", value.span(), message).help = Some(help);
                None
            }
        }
    }
}

schema!(JsonPathText, { "type": "string", "pattern": "^\\$", "examples": ["$.result[*]", "$.meta.total"] });

impl Read for LogicalType {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let text = String::read(value, reader)?;
        match Self::parse(&text) {
            Ok(read) => Some(read),
            Err(error) => {
                let help = error.hints().first().map(|hint| (*hint).to_owned());
                reader.error("unknown-type", value.span(), error.chain()).help = help;
                None
            }
        }
    }
}

/// The type of a column as it is written, for the schema.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnType(pub LogicalType);

impl Read for ColumnType {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        LogicalType::read(value, reader).map(Self)
    }
}

schema!(ColumnType, {
    "type": "string",
    "examples": ["BOOLEAN", "BIGINT", "HUGEINT", "DECIMAL(18,4)", "DOUBLE", "DATE", "TIMESTAMP", "VARCHAR", "JSON", "BIGINT[]"],
});

twin! {
    /// A tier of the lookback: so many units back, pulled again every so often.
    pub struct TierTable {
        /// The time between two pulls of the same unit. The first tier's is one grain.
        pub every: Required<TypedDuration>,
        /// How many units back.
        pub units: Required<Count>,
    }
}

/// How many units back a run covers: a count, or tiers.
#[derive(Debug, Clone)]
pub enum Lookback {
    /// So many units at every run.
    Units(Count),
    /// Further units less often.
    Tiers(Vec<At<TierTable>>),
}

impl Read for Lookback {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        if value.get_ref().is_array() {
            return Vec::read(value, reader).map(Self::Tiers);
        }
        if value.get_ref().is_str() {
            let raw = reader.source.text[value.span()].trim_matches(['"', '\'']).to_owned();
            let digits: String = raw.chars().take_while(char::is_ascii_digit).collect();
            let count = if digits.is_empty() { "3" } else { &digits };
            let fault = reader.wrong_type(value, "a count of units");
            fault.help = Some(format!("a count of units is a bare number: lookback = {count}"));
            return None;
        }
        Count::read(value, reader).map(Self::Units)
    }
}

impl JsonSchema for Lookback {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Lookback".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let count = generator.subschema_for::<Count>();
        let tier = generator.subschema_for::<TierTable>();
        json_schema!({ "anyOf": [count, { "type": "array", "items": tier, "minItems": 1 }] })
    }
}

/// Which upstream units a unit reads: one text for all references, or one for each.
#[derive(Debug, Clone)]
pub enum ReachValue {
    /// The same for every reference.
    All(At<String>),
    /// By the name inside `ref()`.
    Each(Entries<String>),
}

impl Read for ReachValue {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(_) => Entries::read(value, reader).map(Self::Each),
            DeValue::String(_) => At::read(value, reader).map(Self::All),
            _ => {
                let fault = reader.wrong_type(value, "a range of units");
                fault.help = Some("as in \"-6d..0d\": the unit itself and the six before".to_owned());
                None
            }
        }
    }
}

schema!(ReachValue, { "anyOf": [
    { "type": "string", "examples": ["-6d..0d"] },
    { "type": "object", "additionalProperties": { "type": "string", "examples": ["-6d..0d"] } },
] });

/// The hint for a name that should be one of `words`, used where a table takes one key of several.
pub fn one_key_of(table: &toml::de::DeTable<'_>, words: &[&'static str]) -> Option<String> {
    table.keys().next().and_then(|key| known_names(key.get_ref(), words.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plainly_a_cron_expression_is_one_for_the_parser_too() {
        for text in ["0 6 * * *", "*/15 0-6 1,15 1-12/2 1-5", "0-30/5,45 * * * 0", "59 23 31 12 6"] {
            assert!(is_plain_cron(text), "{text}");
            assert!(Cron::parse(text).is_ok(), "{text}");
        }
        for text in [
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "5/10 * * * *",
            "9-3 * * * *",
            "*/0 * * * *",
            "* * * *",
            "+5 * * * *",
        ] {
            assert!(!is_plain_cron(text), "{text}");
            assert!(Cron::parse(text).is_err(), "{text}");
        }
        for text in ["0 6 * * MON-FRI", "@daily", "0 0 L * *"] {
            assert!(!is_plain_cron(text), "{text}");
            assert!(Cron::parse(text).is_ok(), "{text}");
        }
    }
}

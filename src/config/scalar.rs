//! Values of one TOML cell: texts, counts, lists, maps, and words that stand for a choice.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::diagnostic::{known_names, quoted};
use super::reader::{At, Read, Reader};
use crate::model::parameter::{ParameterType, ParameterValue};
use crate::model::pipeline::{Naming, Nested, Outside, Per, Severity, TimeFormat};
use crate::model::schedule::{Fold, Gap, Missed, Overlap};
use crate::model::schema::Contract;
use crate::model::source::ProbeRule;
use crate::time::Grain;

impl<T: Read> Read for At<T> {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let span = value.span();
        T::read(value, reader).map(|value| Self { value, span })
    }
}

impl Read for String {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            let raw = reader.source.text[value.span()].to_owned();
            let single = !reader.source.secret
                && !raw.contains('\n')
                && !value.get_ref().is_array()
                && !value.get_ref().is_table();
            let fault = reader.wrong_type(value, "a text");
            fault.help = single.then(|| format!("write it in quotes: \"{raw}\""));
            return None;
        };
        if text.trim().is_empty() {
            let message = format!("`{}` is empty", reader.path());
            reader.error("empty", value.span(), message);
            return None;
        }
        Some(text.to_owned())
    }
}

impl Read for bool {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        if let Some(parameter) = reader.parameter(value) {
            let Ok(ParameterValue::Boolean(flag)) = parameter else {
                return reader.wrong_parameter(value, "a boolean");
            };
            return Some(flag);
        }
        let read = value.get_ref().as_bool();
        if read.is_none() {
            reader.wrong_type(value, "true or false").help = Some("without quotes".to_owned());
        }
        read
    }
}

impl Read for u64 {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        if let Some(parameter) = reader.parameter(value) {
            let number = parameter.ok().and_then(|parameter| match parameter {
                ParameterValue::Integer(number) => Self::try_from(number).ok(),
                _ => None,
            });
            return number.or_else(|| reader.wrong_parameter(value, "an integer from 0 on"));
        }
        let Some(integer) = value.get_ref().as_integer() else {
            reader.wrong_type(value, "a whole number");
            return None;
        };
        let number = whole(integer);
        if number.is_none() {
            let message = format!("`{}` has to be a whole number from 0 on", reader.path());
            reader.error("out-of-range", value.span(), message);
        }
        number
    }
}

fn whole(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A whole number from one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub std::num::NonZeroU32);

impl Read for Count {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        if let Some(parameter) = reader.parameter(value) {
            let count = parameter.ok().and_then(|parameter| match parameter {
                ParameterValue::Integer(number) => u32::try_from(number).ok().and_then(std::num::NonZeroU32::new),
                _ => None,
            });
            return count.map(Self).or_else(|| reader.wrong_parameter(value, "an integer from 1 on"));
        }
        let Some(integer) = value.get_ref().as_integer() else {
            reader.wrong_type(value, "a whole number");
            return None;
        };
        let count = whole(integer).and_then(|number| u32::try_from(number).ok()).and_then(std::num::NonZeroU32::new);
        if count.is_none() {
            let message = format!("`{}` has to be a whole number from 1 on", reader.path());
            reader.error("out-of-range", value.span(), message);
        }
        count.map(Self)
    }
}

impl JsonSchema for Count {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let Some(items) = value.get_ref().as_array() else {
            let table = value.get_ref().is_table();
            let key = reader.key().to_owned();
            let fault = reader.wrong_type(value, "a list");
            fault.help = table.then(|| format!("every one of them begins with `[[{key}]]`, in double brackets"));
            return None;
        };
        Some(items.iter().filter_map(|item| T::read(item, reader)).collect())
    }
}

/// Names with values, in the order of the file.
#[derive(Debug, Clone)]
pub struct Entries<T>(pub Vec<(At<String>, At<T>)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Read> Read for Entries<T> {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            reader.wrong_type(value, "a table");
            return None;
        };
        let entry = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            let name = At { value: key.get_ref().to_string(), span: key.span() };
            reader.within(key.get_ref(), |reader| At::read(value, reader)).map(|value| (name, value))
        };
        Some(Self(table.iter().filter_map(entry).collect()))
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("EntriesOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

/// One name, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl Read for Names {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let names = if value.get_ref().is_array() {
            Vec::<String>::read(value, reader)?
        } else if value.get_ref().is_str() {
            vec![String::read(value, reader)?]
        } else {
            reader.wrong_type(value, "a name or a list of names");
            return None;
        };
        if names.is_empty() {
            let message = format!("`{}` names nothing", reader.path());
            reader.error("empty", value.span(), message);
            return None;
        }
        Some(Self(names))
    }
}

impl JsonSchema for Names {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Names".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] })
    }
}

/// The texts of a parameter: a text, a number or a boolean, or a list of these for a parameter that is repeated.
#[derive(Debug, Clone)]
pub struct Texts(pub Vec<At<String>>);

impl Read for Texts {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let one = |value: &Spanned<DeValue<'_>>, reader: &mut Reader| {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                DeValue::Float(number) => number.to_string(),
                DeValue::Boolean(flag) => flag.to_string(),
                DeValue::Datetime(date) => date.to_string(),
                DeValue::Array(_) | DeValue::Table(_) => {
                    reader.wrong_type(value, "a text, a number, true or false, or a list of these");
                    return None;
                }
            };
            Some(At { value: text, span: value.span() })
        };
        match value.get_ref().as_array() {
            Some(items) => Some(Self(items.iter().filter_map(|item| one(item, reader)).collect())),
            None => one(value, reader).map(|text| Self(vec![text])),
        }
    }
}

impl JsonSchema for Texts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": ["string", "number", "boolean"] },
            { "type": "array", "items": { "type": ["string", "number", "boolean"] } },
        ] })
    }
}

impl Read for serde_json::Value {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        Some(match value.get_ref() {
            DeValue::String(text) => Self::from(text.as_ref()),
            DeValue::Boolean(flag) => Self::from(*flag),
            DeValue::Datetime(date) => Self::from(date.to_string()),
            DeValue::Integer(integer) => match (whole(integer), integer.as_str().parse::<i64>()) {
                (Some(number), _) => Self::from(number),
                (None, Ok(number)) => Self::from(number),
                (None, Err(_)) => {
                    reader.error("out-of-range", value.span(), "this number does not fit into 64 bits");
                    return None;
                }
            },
            DeValue::Float(float) => {
                let number = float.as_str().parse().ok().and_then(serde_json::Number::from_f64);
                let Some(number) = number else {
                    reader.error("out-of-range", value.span(), "this number has no form in JSON");
                    return None;
                };
                Self::Number(number)
            }
            DeValue::Array(items) => Self::Array(items.iter().filter_map(|item| Self::read(item, reader)).collect()),
            DeValue::Table(table) => Self::Object(
                table
                    .iter()
                    .filter_map(|(key, value)| Some((key.get_ref().to_string(), Self::read(value, reader)?)))
                    .collect(),
            ),
        })
    }
}

/// What serde says about a word: whether it is unknown, and which there are.
#[derive(Debug)]
struct UnknownWord(&'static [&'static str]);

impl std::fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "one of {}", quoted(self.0))
    }
}

impl std::error::Error for UnknownWord {}

impl serde::de::Error for UnknownWord {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(&[])
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self(expected)
    }
}

/// Reads one of the words of an enum; serde knows them.
pub fn read_word<T: DeserializeOwned>(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<T> {
    let Some(word) = value.get_ref().as_str() else {
        reader.wrong_type(value, "a word in quotes");
        return None;
    };
    match T::deserialize(serde::de::value::StrDeserializer::<UnknownWord>::new(word)) {
        Ok(read) => Some(read),
        Err(UnknownWord(words)) => {
            // A secret that stands in a wrong place is not repeated.
            let written = if reader.source.secret { "this text".to_owned() } else { format!("`{word}`") };
            let message = format!("{written} is no value of `{}`", reader.path());
            let help = known_names(word, words.iter().copied());
            reader.error("unknown-value", value.span(), message).help = help;
            None
        }
    }
}

/// Lets enums that serde knows be read as words.
macro_rules! words {
    ($($type:ty),* $(,)?) => {
        $(impl $crate::config::reader::Read for $type {
            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::config::reader::Reader,
            ) -> Option<Self> {
                $crate::config::scalar::read_word(value, reader)
            }
        })*
    };
}
pub(crate) use words;

words!(Gap, Fold, Missed, Overlap);
words!(ParameterType, Grain, Per, TimeFormat, Outside, Nested, Naming, Severity, Contract, ProbeRule);

//! Parameters of hooks: what a step may set, of which type, and the values that it set.

use std::collections::BTreeMap;
use std::fmt;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::time::parse_duration;

/// The values of a hook's parameters by their names, defaults included.
pub type ParameterValues = BTreeMap<String, ParameterValue>;

/// What a value of a parameter can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParameterType {
    /// A whole number.
    Integer,
    /// A text.
    String,
    /// True or false.
    Boolean,
    /// A calendar date: 2019-01-01.
    Date,
    /// A length of time with its unit: `"90s"`.
    Duration,
    /// A list of texts, numbers and booleans.
    List,
}

impl ParameterType {
    /// The type's name, as it stands behind `type =`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Duration => "duration",
            Self::List => "list",
        }
    }

    /// What a value of the type is, in words, with an example.
    pub fn described(self) -> &'static str {
        match self {
            Self::Integer => "a whole number, as in 500",
            Self::String => "a text in quotes",
            Self::Boolean => "true or false, without quotes",
            Self::Date => "a date, as in 2019-01-01",
            Self::Duration => "a duration, as in \"90s\" or \"3d\"",
            Self::List => "a list, as in [\"a\", \"b\"]",
        }
    }

    /// Takes a value of a file for one of this type; none when it is of another.
    pub fn take(self, value: &Value) -> Option<ParameterValue> {
        Some(match self {
            Self::Integer => ParameterValue::Integer(value.as_i64()?),
            Self::String => ParameterValue::Text(value.as_str()?.to_owned()),
            Self::Boolean => ParameterValue::Boolean(value.as_bool()?),
            Self::Date => ParameterValue::Date(value.as_str()?.parse().ok()?),
            Self::Duration => {
                let text = value.as_str()?;
                parse_duration(text).ok()?;
                ParameterValue::Duration(text.trim().to_owned())
            }
            Self::List => {
                let items = value.as_array()?;
                if items.iter().any(|item| item.is_array() || item.is_object()) {
                    return None;
                }
                ParameterValue::List(items.clone())
            }
        })
    }

    /// Some value of the type, where a file is looked at without anybody's values.
    pub fn sample(self) -> ParameterValue {
        match self {
            Self::Integer => ParameterValue::Integer(1),
            Self::String => ParameterValue::Text("x".to_owned()),
            Self::Boolean => ParameterValue::Boolean(false),
            Self::Date => ParameterValue::Date(NaiveDate::default()),
            Self::Duration => ParameterValue::Duration("1s".to_owned()),
            Self::List => ParameterValue::List(Vec::new()),
        }
    }
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ParameterValue {
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
    /// True or false.
    Boolean(bool),
    /// A calendar date.
    Date(NaiveDate),
    /// A length of time, as it was written.
    Duration(String),
    /// A list of texts, numbers and booleans.
    List(Vec<Value>),
}

impl fmt::Display for ParameterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) | Self::Duration(text) => f.write_str(text),
            Self::Boolean(flag) => flag.fmt(f),
            Self::Date(date) => date.fmt(f),
            Self::List(items) => {
                let text = |item: &Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
                f.write_str(&items.iter().map(text).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A parameter as its hook declares it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parameter {
    /// Its name behind `param.`.
    pub name: String,
    /// The type of its values.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    /// The value that it has where a step says nothing; without one, every step has to say something.
    pub default: Option<ParameterValue>,
    /// The values that are allowed, where they are few.
    pub choices: Vec<ParameterValue>,
    /// What it is for.
    pub doc: Option<String>,
}

impl Parameter {
    /// Whether a step has to give it a value.
    pub fn is_required(&self) -> bool {
        self.default.is_none()
    }

    /// A value for looking at the hook alone: its default, the first choice, or anything of its type.
    pub fn sample(&self) -> ParameterValue {
        self.default.clone().or_else(|| self.choices.first().cloned()).unwrap_or_else(|| self.kind.sample())
    }

    /// Whether a value, or every item of a list, is one of the choices, where there are any.
    pub fn allows(&self, value: &ParameterValue) -> bool {
        if self.choices.is_empty() {
            return true;
        }
        match value {
            ParameterValue::List(items) => items.iter().all(|item| {
                let text = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
                self.choices.iter().any(|choice| choice.to_string() == text)
            }),
            value => self.choices.contains(value),
        }
    }
}

//! The shape of rows: the types that JSON values were seen to have, merged over all rows of a pull.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pipeline::{Naming, Nested};
use super::schema::{Column, LogicalType, Reading, StagedColumn};
use crate::error::{Error, Kind, Result};

/// Where a value was first seen: page and row, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The page of the pull.
    pub page: u64,
    /// The row in the page.
    pub row: u64,
}

/// All that was seen of one pull's rows; merging is commutative, associative and idempotent but for the fields' order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The rows' members in the order in which they were first seen.
    pub fields: Vec<Field>,
}

/// A member that rows were seen to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The member's name as the source has it.
    pub name: String,
    /// What its values were.
    pub seen: Seen,
}

/// The families of values seen in one place, each with the first row that had one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// True or false.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub boolean: Option<Place>,
    /// Numbers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub number: Option<(Place, Number)>,
    /// Texts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<(Place, Words)>,
    /// Objects.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object: Option<(Place, Shape)>,
    /// Lists.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub list: Option<(Place, Box<Seen>)>,
}

/// What is known of the numbers in one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number {
    /// The most digits before the point.
    pub digits: u16,
    /// The most digits behind the point; an exponent counts as none.
    pub scale: u16,
    /// One had a point or an exponent.
    pub fraction: bool,
    /// One is beyond 64 bits.
    pub huge: bool,
    /// One is not held exactly by a 64-bit float.
    pub inexact: bool,
}

/// What is known of the texts in one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// One is an ISO date.
    pub date: bool,
    /// One is a time with an offset.
    pub offset: bool,
    /// One is a time without an offset.
    pub naive: bool,
    /// One is anything else.
    pub plain: bool,
}

impl Number {
    /// What holds for both.
    pub fn merge(self, other: Self) -> Self {
        Self {
            digits: self.digits.max(other.digits),
            scale: self.scale.max(other.scale),
            fraction: self.fraction | other.fraction,
            huge: self.huge | other.huge,
            inexact: self.inexact | other.inexact,
        }
    }
}

impl Words {
    /// What holds for both.
    pub fn merge(self, other: Self) -> Self {
        Self {
            date: self.date | other.date,
            offset: self.offset | other.offset,
            naive: self.naive | other.naive,
            plain: self.plain | other.plain,
        }
    }
}

fn join<T>(left: &mut Option<(Place, T)>, right: Option<(Place, T)>, merge: impl FnOnce(&mut T, T)) {
    match (left.as_mut(), right) {
        (Some((place, value)), Some((other_place, other))) => {
            *place = (*place).min(other_place);
            merge(value, other);
        }
        (None, Some(right)) => *left = Some(right),
        (_, None) => {}
    }
}

impl Seen {
    /// Takes over what `other` saw.
    pub fn merge(&mut self, other: Self) {
        self.boolean = match (self.boolean, other.boolean) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (left, right) => left.or(right),
        };
        join(&mut self.number, other.number, |left, right| *left = left.merge(right));
        join(&mut self.text, other.text, |left, right| *left = left.merge(right));
        join(&mut self.object, other.object, Shape::merge);
        join(&mut self.list, other.list, |left, right| left.merge(*right));
    }

    /// The families that were seen, with their first places.
    fn families(&self) -> Vec<(&'static str, Place)> {
        let mut all = Vec::new();
        all.extend(self.boolean.map(|place| ("boolean", place)));
        all.extend(self.number.as_ref().map(|(place, _)| ("number", *place)));
        all.extend(self.text.as_ref().map(|(place, _)| ("text", *place)));
        all.extend(self.object.as_ref().map(|(place, _)| ("object", *place)));
        all.extend(self.list.as_ref().map(|(place, _)| ("list", *place)));
        all.sort_by_key(|(_, place)| *place);
        all
    }

    /// The type of these values and how the warehouse must read them; none where only nulls were seen.
    fn data_type(&self, path: &str, nested: Nested) -> Result<Option<(LogicalType, Reading)>> {
        let families = self.families();
        if let [(first, at), (second, then), ..] = families.as_slice() {
            return Err(Error::new(
                Kind::Data,
                format!(
                    "the column `{path}` is a {first} on page {}, row {} and a {second} on page {}, row {}",
                    at.page, at.row, then.page, then.row
                ),
            )
            .hint(format!(
                "say what it should be: `columns = {{ {top} = \"VARCHAR\" }}` or `\"JSON\"`",
                top = path.split(['.', '[']).next().unwrap_or(path)
            )));
        }
        if self.boolean.is_some() {
            return Ok(Some((LogicalType::Boolean, Reading::Direct)));
        }
        if let Some((place, number)) = &self.number {
            return number_type(*number, path, *place).map(Some);
        }
        if let Some((_, words)) = &self.text {
            return Ok(Some(text_type(*words)));
        }
        match (&self.object, &self.list, nested) {
            (None, None, _) => Ok(None),
            (_, _, Nested::Json) => Ok(Some((LogicalType::Json, Reading::Direct))),
            (Some((_, shape)), _, Nested::Struct) => {
                let mut columns = Vec::new();
                for field in &shape.fields {
                    let inner = field.seen.data_type(&format!("{path}.{}", field.name), nested)?;
                    // Inside of a record the reader is told the type itself; what it would read wrongly stays text.
                    if let Some((data_type, reading)) = inner {
                        let data_type = if reading == Reading::Direct { data_type } else { LogicalType::Text };
                        columns.push(Column { name: field.name.clone(), data_type });
                    }
                }
                let data_type = if columns.is_empty() { LogicalType::Json } else { LogicalType::Struct(columns) };
                Ok(Some((data_type, Reading::Direct)))
            }
            (None, Some((_, element)), Nested::Struct) => {
                let data_type = match element.data_type(&format!("{path}[]"), nested)? {
                    None => LogicalType::Json,
                    Some((inner, Reading::Direct)) => LogicalType::List(Box::new(inner)),
                    Some(_) => LogicalType::List(Box::new(LogicalType::Text)),
                };
                Ok(Some((data_type, Reading::Direct)))
            }
        }
    }
}

fn number_type(number: Number, path: &str, place: Place) -> Result<(LogicalType, Reading)> {
    if !number.fraction {
        return match (number.huge, number.inexact) {
            (false, _) => Ok((LogicalType::BigInt, Reading::Direct)),
            (true, false) => Ok((LogicalType::HugeInt, Reading::Direct)),
            (true, true) => Err(too_long(path, place)),
        };
    }
    if !number.inexact && !number.huge {
        return Ok((LogicalType::Double, Reading::Direct));
    }
    match (u8::try_from(number.digits + number.scale), u8::try_from(number.scale)) {
        (Ok(digits), Ok(scale)) if digits <= 38 => {
            Ok((LogicalType::Decimal { precision: 38.max(digits), scale }, Reading::Text))
        }
        _ => Err(too_long(path, place)),
    }
}

fn too_long(path: &str, place: Place) -> Error {
    let text = format!(
        "the column `{path}` has numbers of more than 38 digits, the first on page {}, row {}",
        place.page, place.row
    );
    Error::new(Kind::Data, text)
        .hint("keep their digits as text: `columns = { … = \"VARCHAR\" }`, or as `\"DOUBLE\"` without them")
}

fn text_type(words: Words) -> (LogicalType, Reading) {
    match words {
        Words { plain: true, .. }
        | Words { offset: true, naive: true, .. }
        | Words { offset: true, date: true, .. } => (LogicalType::Text, Reading::Direct),
        Words { offset: true, .. } => (LogicalType::Timestamp, Reading::OffsetTimestamp),
        Words { naive: true, .. } => (LogicalType::Timestamp, Reading::Text),
        Words { date: true, .. } => (LogicalType::Date, Reading::Text),
        _ => (LogicalType::Text, Reading::Direct),
    }
}

impl Shape {
    /// Takes over what `other` saw.
    pub fn merge(&mut self, other: Self) {
        for (index, field) in other.fields.into_iter().enumerate() {
            let found = match self.fields.get(index) {
                Some(same) if same.name == field.name => Some(index),
                _ => self.fields.iter().position(|own| own.name == field.name),
            };
            match found {
                Some(index) => self.fields[index].seen.merge(field.seen),
                None => self.fields.push(field),
            }
        }
    }

    /// The columns of these rows: declared types first of all, else what the values looked like.
    ///
    /// # Errors
    /// A column with values of two families, names that differ only by case, a name that two members map to.
    pub fn into_schema(
        &self,
        declared: &BTreeMap<String, LogicalType>,
        nested: Nested,
        naming: Naming,
    ) -> Result<Vec<StagedColumn>> {
        let mut columns: Vec<StagedColumn> = Vec::new();
        for field in &self.fields {
            let typed = match declared.get(&field.name) {
                Some(data_type) => Some(declared_reading(data_type, &field.seen)),
                None => field.seen.data_type(&field.name, nested)?,
            };
            let Some((data_type, reading)) = typed else { continue };
            add(&mut columns, &field.name, data_type, reading, naming)?;
        }
        for (name, data_type) in declared {
            if !columns.iter().any(|column| column.source == *name) {
                add(&mut columns, name, data_type.clone(), Reading::Text, naming)?;
            }
        }
        Ok(columns)
    }
}

fn declared_reading(data_type: &LogicalType, seen: &Seen) -> (LogicalType, Reading) {
    let reading = match data_type {
        LogicalType::Timestamp if seen.text.as_ref().is_some_and(|(_, words)| words.offset) => Reading::OffsetTimestamp,
        LogicalType::Decimal { .. } | LogicalType::Timestamp | LogicalType::Date | LogicalType::Time => Reading::Text,
        _ => Reading::Direct,
    };
    (data_type.clone(), reading)
}

fn add(
    columns: &mut Vec<StagedColumn>,
    source: &str,
    data_type: LogicalType,
    reading: Reading,
    naming: Naming,
) -> Result<()> {
    let name = match naming {
        Naming::Source => source.to_owned(),
        Naming::Snake => snake(source),
    };
    if let Some(other) = columns.iter().find(|column| column.column.name.eq_ignore_ascii_case(&name)) {
        return Err(Error::new(
            Kind::Data,
            format!("the members `{}` and `{source}` would be the same column `{name}`", other.source),
        )
        .hint("column names must differ by more than case"));
    }
    columns.push(StagedColumn { source: source.to_owned(), column: Column { name, data_type }, reading });
    Ok(())
}

fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut lower = false;
    for c in name.chars() {
        if c.is_uppercase() && lower {
            snake.push('_');
        }
        lower = c.is_lowercase() || c.is_ascii_digit();
        if c.is_alphanumeric() {
            snake.extend(c.to_lowercase())
        } else if !snake.ends_with('_') {
            snake.push('_')
        }
    }
    snake.trim_matches('_').to_owned()
}

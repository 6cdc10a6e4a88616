//! From the shape of rows to the columns that they need: a type for each member, and how it must be read.

use std::collections::{BTreeMap, HashSet};

use super::pipeline::{Naming, Nested};
use super::schema::{Column, LogicalType, Reading, SourceColumn, StagedColumn};
use super::shape::{Number, Place, Seen, Shape, Words};
use crate::error::{Error, Kind, Result};

/// Decimals have room for this many digits before the point, so that the next pull seldom needs another type.
const ROOM: u8 = 18;

/// Names of columns that begin like this are haul's own.
pub const OWN: &str = "_haul_";

impl Seen {
    /// The families that were seen, with their first places, in the order of these.
    fn families(&self) -> Vec<(&'static str, Place)> {
        let mut all = Vec::new();
        all.extend(self.boolean.map(|place| ("boolean", place)));
        all.extend(self.number.and_then(|number| number.first()).map(|place| ("number", place)));
        all.extend(self.text.and_then(|words| words.first()).map(|place| ("text", place)));
        all.extend(self.object.as_ref().map(|(place, _)| ("object", *place)));
        all.extend(self.list.as_ref().map(|(place, _)| ("list", *place)));
        all.sort_by_key(|(_, place)| *place);
        all
    }

    /// The first value that makes these values a column of `data_type`.
    pub fn first_of(&self, data_type: &LogicalType) -> Option<Place> {
        let number = self.number.unwrap_or_default();
        let words = self.text.unwrap_or_default();
        let any = || self.families().first().map(|(_, place)| *place);
        let found = match data_type {
            LogicalType::Boolean => self.boolean,
            LogicalType::BigInt => number.whole,
            LogicalType::HugeInt => number.huge,
            LogicalType::Decimal { .. } => number.inexact.or(number.fraction),
            LogicalType::Double => number.fraction,
            LogicalType::Date => words.date,
            LogicalType::Timestamp => words.offset.into_iter().chain(words.naive).min(),
            // Times that are no column of times: the second kind is what made them texts.
            LogicalType::Text => words.plain.or_else(|| [words.date, words.offset, words.naive].into_iter().max()?),
            LogicalType::Struct(_) => self.object.as_ref().map(|(place, _)| *place),
            LogicalType::List(_) => self.list.as_ref().map(|(place, _)| *place),
            LogicalType::Json | LogicalType::Time | LogicalType::Blob | LogicalType::Other(_) => None,
        };
        found.or_else(any)
    }

    /// What was seen in the field of this name, where objects were seen.
    pub fn field(&self, name: &str) -> Option<&Self> {
        let (_, shape) = self.object.as_ref()?;
        shape.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| &field.seen)
    }

    /// What was seen in lists, where lists were seen.
    pub fn element(&self) -> Option<&Self> {
        self.list.as_ref().map(|(_, element)| &**element)
    }

    /// The type of these values and how the warehouse must read them; none where only nulls were seen.
    fn data_type(&self, path: &str, nested: Nested) -> Result<Option<(LogicalType, Reading)>> {
        if let [(first, at), (second, then), ..] = self.families().as_slice() {
            return Err(Error::new(
                Kind::Data,
                format!("the column `{path}` is a {first} on {at} and a {second} on {then}"),
            )
            .hint(format!(
                "say what it should be: `columns = {{ {top} = \"VARCHAR\" }}` or `\"JSON\"`",
                top = path.split(['.', '[']).next().unwrap_or(path)
            )));
        }
        if self.boolean.is_some() {
            return Ok(Some((LogicalType::Boolean, Reading::Direct)));
        }
        if let Some(number) = self.number {
            return number_type(number, path).map(Some);
        }
        if let Some(words) = self.text {
            return Ok(Some(text_type(words)));
        }
        match (&self.object, &self.list, nested) {
            (None, None, _) => Ok(None),
            (_, _, Nested::Json) => Ok(Some((LogicalType::Json, Reading::Direct))),
            (Some((_, shape)), _, Nested::Struct) => {
                Ok(Some((record_type(shape, path)?.unwrap_or(LogicalType::Json), Reading::Direct)))
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

/// The type of objects; none where a record cannot hold them.
fn record_type(shape: &Shape, path: &str) -> Result<Option<LogicalType>> {
    let mut names = HashSet::new();
    // A record has neither a field without a name nor two whose names differ by case only.
    if !shape.fields.iter().all(|field| !field.name.is_empty() && names.insert(field.name.to_lowercase())) {
        return Ok(None);
    }
    let mut columns = Vec::new();
    for field in &shape.fields {
        let inner = field.seen.data_type(&format!("{path}.{}", field.name), Nested::Struct)?;
        // Inside of a record the reader is told the type itself; what it would read wrongly stays text.
        if let Some((data_type, reading)) = inner {
            let data_type = if reading == Reading::Direct { data_type } else { LogicalType::Text };
            columns.push(Column { name: field.name.clone(), data_type });
        }
    }
    Ok((!columns.is_empty()).then_some(LogicalType::Struct(columns)))
}

fn number_type(number: Number, path: &str) -> Result<(LogicalType, Reading)> {
    if number.fraction.is_none() {
        return match (number.huge, number.vast) {
            (None, None) => Ok((LogicalType::BigInt, Reading::Direct)),
            (_, None) => Ok((LogicalType::HugeInt, Reading::Direct)),
            (_, Some(place)) => Err(too_long(format!("the column `{path}` has a number beyond 128 bits on {place}"))),
        };
    }
    if number.inexact.is_none() {
        return Ok((LogicalType::Double, Reading::Direct));
    }
    if let Some((digits, scale)) = number.decimal() {
        let precision = (digits.max(ROOM) + scale).min(38);
        return Ok((LogicalType::Decimal { precision, scale }, Reading::Text));
    }
    let at = |place: Option<Place>| place.map(|place| format!(" ({place})")).unwrap_or_default();
    Err(too_long(format!(
        "the column `{path}` has numbers of {} digits before the point{} and {} behind it{}; 38 are the most",
        number.digits.count,
        at(number.digits.at),
        number.scale.count,
        at(number.scale.at)
    )))
}

fn too_long(text: String) -> Error {
    Error::new(Kind::Data, text)
        .hint("keep their digits as text: `columns = { … = \"VARCHAR\" }`, or as `\"DOUBLE\"` without them")
}

fn text_type(words: Words) -> (LogicalType, Reading) {
    match words {
        Words { plain: Some(_), .. }
        | Words { offset: Some(_), naive: Some(_), .. }
        | Words { offset: Some(_), date: Some(_), .. } => (LogicalType::Text, Reading::Direct),
        Words { offset: Some(_), .. } => (LogicalType::Timestamp, Reading::OffsetTimestamp),
        Words { naive: Some(_), .. } => (LogicalType::Timestamp, Reading::Text),
        Words { date: Some(_), .. } => (LogicalType::Date, Reading::Text),
        _ => (LogicalType::Text, Reading::Direct),
    }
}

impl Shape {
    /// The columns of these rows: declared types first of all, else what the values looked like.
    ///
    /// # Errors
    /// A column with values of two families, names that differ only by case, a name that two members map to, a name
    /// that no column can have.
    pub fn into_schema(
        &self,
        declared: &BTreeMap<String, LogicalType>,
        nested: Nested,
        naming: Naming,
    ) -> Result<Vec<StagedColumn>> {
        self.into_schema_of(&[], declared, nested, naming)
    }

    /// The columns of rows whose source declares columns: in its order and with its types, unless the step declares others.
    ///
    /// # Errors
    /// Those of [`Shape::into_schema`].
    pub fn into_schema_of(
        &self,
        source: &[SourceColumn],
        declared: &BTreeMap<String, LogicalType>,
        nested: Nested,
        naming: Naming,
    ) -> Result<Vec<StagedColumn>> {
        let mut columns: Vec<StagedColumn> = Vec::new();
        let unseen = Seen::default();
        let of_source = source.iter().map(|column| {
            let seen = self.fields.iter().find(|field| field.name == column.name).map_or(&unseen, |field| &field.seen);
            (&column.name, column.data_type.as_ref(), seen)
        });
        let others = self.fields.iter().filter(|field| !source.iter().any(|column| column.name == field.name));
        for (name, of_source, seen) in of_source.chain(others.map(|field| (&field.name, None, &field.seen))) {
            let typed = match (declared.get(name), of_source) {
                (Some(data_type), _) => {
                    refuse_rounding(name, data_type, seen)?;
                    Some(declared_reading(data_type, seen))
                }
                (None, Some(LogicalType::Struct(_) | LogicalType::List(_))) if nested == Nested::Json => {
                    Some((LogicalType::Json, Reading::Direct))
                }
                // Bytes come as a text of escapes, which only the warehouse's cast undoes.
                (None, Some(LogicalType::Blob)) => Some((LogicalType::Blob, Reading::Text)),
                (None, Some(data_type)) => {
                    refuse_rounding(name, data_type, seen)?;
                    Some(declared_reading(data_type, seen))
                }
                (None, None) => seen.data_type(name, nested)?,
            };
            let Some((data_type, reading)) = typed else { continue };
            add(&mut columns, name, data_type, reading, naming, seen.clone())?;
        }
        for (name, data_type) in declared {
            if !columns.iter().any(|column| column.source == *name) {
                add(&mut columns, name, data_type.clone(), Reading::Text, naming, Seen::default())?;
            }
        }
        Ok(columns)
    }
}

/// A declared type must not round numbers on their way: the warehouse's cast would do so without a word.
fn refuse_rounding(name: &str, declared: &LogicalType, seen: &Seen) -> Result<()> {
    let scale = match declared {
        LogicalType::BigInt | LogicalType::HugeInt => 0,
        LogicalType::Decimal { scale, .. } => u16::from(*scale),
        _ => return Ok(()),
    };
    let most = seen.number.unwrap_or_default().scale;
    if most.count <= scale {
        return Ok(());
    }
    let at = most.at.map(|place| format!(" on {place}")).unwrap_or_default();
    let digits = if most.count == 1 { "1 digit".to_owned() } else { format!("{} digits", most.count) };
    Err(Error::new(
        Kind::Data,
        format!("the column `{name}` is declared {declared}, and has a number with {digits} behind the point{at}"),
    )
    .hint("declare more digits behind the point, or \"DOUBLE\", or \"VARCHAR\" to keep the number as it is written"))
}

fn declared_reading(data_type: &LogicalType, seen: &Seen) -> (LogicalType, Reading) {
    let reading = match data_type {
        LogicalType::Timestamp if seen.text.is_some_and(|words| words.offset.is_some()) => Reading::OffsetTimestamp,
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
    seen: Seen,
) -> Result<()> {
    let name = match naming {
        Naming::Source => source.to_owned(),
        Naming::Snake => snake(source),
    };
    if name.is_empty() {
        return Err(Error::new(Kind::Data, format!("the member `{source}` has no name that a column can have")));
    }
    if [source, &name].iter().any(|name| name.to_ascii_lowercase().starts_with(OWN)) {
        return Err(Error::new(Kind::Data, format!("the member `{source}` has the name of a column of haul's own"))
            .hint("columns whose names begin with `_haul_` belong to haul"));
    }
    if let Some(other) = columns.iter().find(|column| column.column.name.eq_ignore_ascii_case(&name)) {
        return Err(Error::new(
            Kind::Data,
            format!("the members `{}` and `{source}` would be the same column `{name}`", other.source),
        )
        .hint("column names must differ by more than case"));
    }
    columns.push(StagedColumn { source: source.to_owned(), column: Column { name, data_type }, reading, seen });
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
            snake.extend(c.to_lowercase());
        } else if !snake.ends_with('_') {
            snake.push('_');
        }
    }
    snake.trim_matches('_').to_owned()
}

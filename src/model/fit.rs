//! How a table follows its rows: which types hold the values of both, and what no type of both can hold.

use super::schema::{Column, Contract, LogicalType, Reading, Reconciled, SchemaChange, StagedColumn, TableSchema};
use super::shape::{Place, Seen};
use crate::error::{Error, Kind, Result};

/// A whole-number type: its digits, and whether it has negative numbers.
struct Whole {
    digits: u8,
    signed: bool,
}

impl LogicalType {
    fn whole(&self) -> Option<Whole> {
        let (digits, signed) = match self {
            Self::BigInt => (19, true),
            Self::HugeInt => (39, true),
            Self::Other(name) => match name.as_str() {
                "TINYINT" => (3, true),
                "SMALLINT" => (5, true),
                "INTEGER" => (10, true),
                "UTINYINT" => (3, false),
                "USMALLINT" => (5, false),
                "UINTEGER" => (10, false),
                "UBIGINT" => (20, false),
                _ => return None,
            },
            _ => return None,
        };
        Some(Whole { digits, signed })
    }

    fn is_float(&self) -> bool {
        matches!(self, Self::Double) || matches!(self, Self::Other(name) if name == "FLOAT")
    }

    /// The narrowest type that holds every value of both; none where one of them would lose.
    ///
    /// A `DOUBLE` is taken to hold a `BIGINT`: whether it holds these very numbers is for [`LogicalType::may_lose`].
    #[must_use]
    pub fn widen(&self, other: &Self) -> Option<Self> {
        use LogicalType::{BigInt, Date, Decimal, Double, HugeInt, Json, List, Struct, Timestamp};
        if self == other {
            return Some(self.clone());
        }
        if let (Some(left), Some(right)) = (self.whole(), other.whole()) {
            return Some(match (left.signed, right.signed) {
                (true, true) => (if left.digits > right.digits { self } else { other }).clone(),
                _ if left.digits.max(right.digits) > 19 => HugeInt,
                _ => BigInt,
            });
        }
        Some(match (self, other) {
            (Decimal { precision, scale }, Decimal { precision: other_precision, scale: other_scale }) => {
                decimal((precision - scale).max(other_precision - other_scale), *scale.max(other_scale))?
            }
            (Decimal { precision, scale }, whole) | (whole, Decimal { precision, scale })
                if whole.whole().is_some() =>
            {
                decimal((precision - scale).max(whole.whole()?.digits), *scale)?
            }
            // A 64-bit float tells all decimals of 15 digits apart.
            (Decimal { precision: ..=15, .. }, Double) | (Double, Decimal { precision: ..=15, .. }) => Double,
            (float, whole) | (whole, float)
                if float.is_float() && whole.whole().is_some_and(|whole| whole.digits <= 19) =>
            {
                Double
            }
            (left, right) if left.is_float() && right.is_float() => Double,
            (Date, Timestamp) | (Timestamp, Date) => Timestamp,
            (Json, Struct(_) | List(_)) | (Struct(_) | List(_), Json) => Json,
            (List(left), List(right)) => List(Box::new(left.widen(right)?)),
            (Struct(left), Struct(right)) => Struct(widen_fields(left, right)?),
            _ => return None,
        })
    }

    /// Whether a value of this type may lose digits in `wide`, so that the values themselves must be looked at.
    pub fn may_lose(&self, wide: &Self) -> bool {
        match (self, wide) {
            (Self::List(own), Self::List(wide)) => own.may_lose(wide),
            (Self::Struct(own), Self::Struct(wide)) => own.iter().any(|field| {
                let same = wide.iter().find(|other| other.name.eq_ignore_ascii_case(&field.name));
                same.is_some_and(|other| field.data_type.may_lose(&other.data_type))
            }),
            (own, Self::Double) => own.whole().is_some_and(|whole| whole.digits > 15),
            _ => false,
        }
    }
}

fn decimal(digits: u8, scale: u8) -> Option<LogicalType> {
    let precision = digits.checked_add(scale).filter(|precision| *precision <= 38)?;
    Some(LogicalType::Decimal { precision, scale })
}

fn widen_fields(left: &[Column], right: &[Column]) -> Option<Vec<Column>> {
    let mut fields = left.to_vec();
    for field in right {
        match fields.iter_mut().find(|own| own.name.eq_ignore_ascii_case(&field.name)) {
            Some(own) => own.data_type = own.data_type.widen(&field.data_type)?,
            None => fields.push(field.clone()),
        }
    }
    Some(fields)
}

/// Compares new rows' columns with a table's, and says what the table needs.
///
/// # Errors
/// A column whose type cannot hold the new values; anything new under [`Contract::Freeze`].
pub fn reconcile(table: Option<&TableSchema>, incoming: &[StagedColumn], contract: Contract) -> Result<Reconciled> {
    let mut reconciled = Reconciled::default();
    let Some(table) = table else {
        reconciled.changes.push(SchemaChange::Create);
        reconciled.kept = incoming.to_vec();
        return Ok(reconciled);
    };
    for staged in incoming {
        let Some(own) = table.column(&staged.column.name) else {
            match contract {
                Contract::Discard => reconciled.left_out.push(staged.column.name.clone()),
                Contract::Evolve => {
                    reconciled.changes.push(SchemaChange::Add(staged.column.clone()));
                    reconciled.kept.push(staged.clone());
                }
                Contract::Freeze => {
                    let (name, data_type) = (&staged.column.name, &staged.column.data_type);
                    let place = first(staged.seen.first_of(data_type));
                    return Err(Error::new(Kind::Data, format!("the column `{name}` ({data_type}) is new{place}"))
                        .hint("the contract is \"freeze\": set it to \"evolve\" or \"discard\", or change the table"));
                }
            }
            continue;
        };
        reconciled.kept.push(fitted(own, staged, contract, &mut reconciled.changes)?);
    }
    Ok(reconciled)
}

fn first(place: Option<Place>) -> String {
    place.map(|place| format!(", first on {place}")).unwrap_or_default()
}

/// The new column as the table has it then.
fn fitted(
    own: &Column,
    staged: &StagedColumn,
    contract: Contract,
    changes: &mut Vec<SchemaChange>,
) -> Result<StagedColumn> {
    let new = &staged.column.data_type;
    let wide = fit(&own.data_type, new, &staged.seen, &own.name).map_err(|conflict| {
        Error::new(
            Kind::Data,
            format!(
                "the column `{}` is {} in the table and {} in the new rows{}",
                conflict.path,
                conflict.own,
                conflict.new,
                first(conflict.place)
            ),
        )
        .hint(format!(
            "declare it: `columns = {{ {} = \"{}\" }}`, or change the table's type",
            staged.source, own.data_type
        ))
    })?;
    let column = Column { name: own.name.clone(), data_type: wide };
    if column.data_type != own.data_type {
        if contract == Contract::Freeze {
            let (name, place) = (&own.name, first(staged.seen.first_of(new)));
            return Err(Error::new(
                Kind::Data,
                format!(
                    "the column `{name}` is {} and would have to become {}{place}",
                    own.data_type, column.data_type
                ),
            )
            .hint("the contract is \"freeze\""));
        }
        changes.push(SchemaChange::Widen(column.clone()));
    }
    let reading = match &column.data_type {
        // JSON takes a value as it stands in the row; as a bare text it would have to be JSON itself.
        LogicalType::Json => Reading::Direct,
        // A decimal is read digit by digit, whatever its numbers looked like in this pull.
        LogicalType::Decimal { .. } => Reading::Text,
        _ => staged.reading,
    };
    Ok(StagedColumn { source: staged.source.clone(), column, reading, seen: staged.seen.clone() })
}

/// Two types of which neither holds the other's values.
struct Conflict {
    path: String,
    own: LogicalType,
    new: LogicalType,
    place: Option<Place>,
}

/// The type that a table's column needs to hold the new values too.
fn fit(own: &LogicalType, new: &LogicalType, seen: &Seen, path: &str) -> Result<LogicalType, Conflict> {
    use LogicalType::{BigInt, Date, Decimal, Double, HugeInt, Json, List, Other, Struct, Text, Timestamp};
    let conflict = |place| Conflict { path: path.to_owned(), own: own.clone(), new: new.clone(), place };
    let place = || seen.first_of(new);
    match (own, new) {
        (own, new) if own == new => Ok(own.clone()),
        // A JSON column takes everything; a text column takes what merely looked like a date.
        (Json, _) | (Text, Date | Timestamp) => Ok(own.clone()),
        (Other(_), _) if own.whole().is_none() && !own.is_float() => Ok(own.clone()),
        (Struct(fields), Struct(new_fields)) => fit_fields(fields, new_fields, seen, path).map(Struct),
        (List(element), List(new_element)) => {
            let none = Seen::default();
            let wide = fit(element, new_element, seen.element().unwrap_or(&none), &format!("{path}[]"))?;
            Ok(List(Box::new(wide)))
        }
        // The numbers themselves are known: what they need, and not what their type could hold, decides.
        (Double, BigInt) => match seen.number.and_then(|number| number.inexact) {
            Some(inexact) => Err(conflict(Some(inexact))),
            None => Ok(Double),
        },
        (Decimal { .. }, BigInt | HugeInt | Double | Decimal { .. }) if seen.number.is_some() => {
            let need = seen.number.and_then(|number| number.decimal());
            let wide =
                need.and_then(|(digits, scale)| own.widen(&Decimal { precision: (digits + scale).max(1), scale }));
            wide.ok_or_else(|| conflict(place()))
        }
        (Other(_), BigInt) if seen.number.is_some() => {
            let digits = seen.number.map_or(0, |number| number.digits.count);
            match own.whole() {
                Some(whole) if whole.signed && digits < u16::from(whole.digits) => Ok(own.clone()),
                _ => own.widen(new).ok_or_else(|| conflict(place())),
            }
        }
        _ => own.widen(new).ok_or_else(|| conflict(place())),
    }
}

fn fit_fields(own: &[Column], new: &[Column], seen: &Seen, path: &str) -> Result<Vec<Column>, Conflict> {
    let none = Seen::default();
    let mut fields = own.to_vec();
    for field in new {
        match fields.iter_mut().find(|own| own.name.eq_ignore_ascii_case(&field.name)) {
            Some(own) => {
                let seen = seen.field(&field.name).unwrap_or(&none);
                own.data_type = fit(&own.data_type, &field.data_type, seen, &format!("{path}.{}", own.name))?;
            }
            None => fields.push(field.clone()),
        }
    }
    Ok(fields)
}

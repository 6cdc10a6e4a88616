//! The shape of rows: what JSON values were seen to be, and where first, merged over all rows of a pull.

use serde::{Deserialize, Serialize};

/// Where a value was first seen: page and row, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The page of the pull.
    pub page: u64,
    /// The row in the page.
    pub row: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "page {}, row {}", self.page, self.row)
    }
}

/// All that was seen of one pull's rows; merging is commutative, associative and idempotent but for the fields' order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The rows' members, in the order in which they came; [`Shape::settle`] makes it the same in any order of pages.
    pub fields: Vec<Field>,
}

/// A member that rows were seen to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The member's name as the source has it.
    pub name: String,
    /// The first row that had it, even as a null.
    pub first: Place,
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
    pub number: Option<Number>,
    /// Texts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<Words>,
    /// Objects.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object: Option<(Place, Shape)>,
    /// Lists.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub list: Option<(Place, Box<Seen>)>,
}

/// What is known of the numbers in one place: the first row of each kind, and how many digits they need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number {
    /// A whole number.
    pub whole: Option<Place>,
    /// A number with a point or an exponent.
    pub fraction: Option<Place>,
    /// A whole number beyond 64 bits.
    pub huge: Option<Place>,
    /// A whole number beyond 128 bits.
    pub vast: Option<Place>,
    /// A number that a 64-bit float does not hold exactly.
    pub inexact: Option<Place>,
    /// The most digits before the point.
    pub digits: Most,
    /// The most digits behind the point.
    pub scale: Most,
}

/// The largest count so far, and the first row that had it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Most {
    /// The count.
    pub count: u16,
    /// The first row that had it; none for a count of nothing.
    pub at: Option<Place>,
}

/// What one number's digits tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent findings of one look")]
pub struct Literal {
    /// It has a point or an exponent.
    pub fraction: bool,
    /// It is a whole number beyond 64 bits.
    pub huge: bool,
    /// It is a whole number beyond 128 bits.
    pub vast: bool,
    /// A 64-bit float does not hold it exactly.
    pub inexact: bool,
    /// The digits before the point.
    pub digits: u16,
    /// The digits behind the point.
    pub scale: u16,
}

/// What is known of the texts in one place: the first row of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// An ISO date.
    pub date: Option<Place>,
    /// A time with an offset.
    pub offset: Option<Place>,
    /// A time without an offset.
    pub naive: Option<Place>,
    /// Anything else.
    pub plain: Option<Place>,
}

/// What one text looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wording {
    /// An ISO date.
    Date,
    /// A time with an offset.
    Offset,
    /// A time without an offset.
    Naive,
    /// Anything else.
    Plain,
}

/// The earlier of two places that may be unknown.
fn earlier(left: Option<Place>, right: Option<Place>) -> Option<Place> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (left, right) => left.or(right),
    }
}

impl Most {
    /// Takes over a count that was found at `place`.
    pub fn note(&mut self, count: u16, place: Place) {
        if count > self.count {
            *self = Self { count, at: Some(place) };
        }
    }

    fn merge(self, other: Self) -> Self {
        match self.count.cmp(&other.count) {
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Equal => Self { count: self.count, at: earlier(self.at, other.at) },
        }
    }
}

impl Number {
    /// Takes over a number of a row that comes behind all rows before.
    pub fn note(&mut self, literal: Literal, place: Place) {
        let kind = if literal.fraction { &mut self.fraction } else { &mut self.whole };
        kind.get_or_insert(place);
        if literal.huge {
            self.huge.get_or_insert(place);
        }
        if literal.vast {
            self.vast.get_or_insert(place);
        }
        if literal.inexact {
            self.inexact.get_or_insert(place);
        }
        self.digits.note(literal.digits, place);
        self.scale.note(literal.scale, place);
    }

    /// What holds for both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            whole: earlier(self.whole, other.whole),
            fraction: earlier(self.fraction, other.fraction),
            huge: earlier(self.huge, other.huge),
            vast: earlier(self.vast, other.vast),
            inexact: earlier(self.inexact, other.inexact),
            digits: self.digits.merge(other.digits),
            scale: self.scale.merge(other.scale),
        }
    }

    /// The first number.
    pub fn first(&self) -> Option<Place> {
        earlier(self.whole, self.fraction)
    }

    /// Digits before and behind the point of the decimal that holds all of them, if 38 digits do.
    pub fn decimal(&self) -> Option<(u8, u8)> {
        let (digits, scale) = (u8::try_from(self.digits.count).ok()?, u8::try_from(self.scale.count).ok()?);
        (digits.checked_add(scale)? <= 38).then_some((digits, scale))
    }
}

impl Words {
    /// Takes over a text of a row that comes behind all rows before.
    pub fn note(&mut self, wording: Wording, place: Place) {
        let kind = match wording {
            Wording::Date => &mut self.date,
            Wording::Offset => &mut self.offset,
            Wording::Naive => &mut self.naive,
            Wording::Plain => &mut self.plain,
        };
        kind.get_or_insert(place);
    }

    /// What holds for both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            date: earlier(self.date, other.date),
            offset: earlier(self.offset, other.offset),
            naive: earlier(self.naive, other.naive),
            plain: earlier(self.plain, other.plain),
        }
    }

    /// The first text.
    pub fn first(&self) -> Option<Place> {
        earlier(earlier(self.date, self.offset), earlier(self.naive, self.plain))
    }
}

impl Seen {
    /// Takes over what `other` saw.
    pub fn merge(&mut self, other: Self) {
        self.boolean = earlier(self.boolean, other.boolean);
        self.number = match (self.number, other.number) {
            (Some(left), Some(right)) => Some(left.merge(right)),
            (left, right) => left.or(right),
        };
        self.text = match (self.text, other.text) {
            (Some(left), Some(right)) => Some(left.merge(right)),
            (left, right) => left.or(right),
        };
        join(&mut self.object, other.object, Shape::merge);
        join(&mut self.list, other.list, |left, right| left.merge(*right));
    }

    fn settle(&mut self) {
        if let Some((_, shape)) = &mut self.object {
            shape.settle();
        }
        if let Some((_, element)) = &mut self.list {
            element.settle();
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

impl Shape {
    /// Takes over what `other` saw.
    pub fn merge(&mut self, other: Self) {
        for (index, field) in other.fields.into_iter().enumerate() {
            let found = match self.fields.get(index) {
                Some(same) if same.name == field.name => Some(index),
                _ => self.fields.iter().position(|own| own.name == field.name),
            };
            match found {
                Some(index) => {
                    let own = &mut self.fields[index];
                    own.first = own.first.min(field.first);
                    own.seen.merge(field.seen);
                }
                None => self.fields.push(field),
            }
        }
    }

    /// Puts the members into the order of the rows that first had them, whatever the order in which pages came.
    pub fn settle(&mut self) {
        // Members that came with the same row came with the same page, and stand in its order already.
        self.fields.sort_by_key(|field| field.first);
        for field in &mut self.fields {
            field.seen.settle();
        }
    }
}

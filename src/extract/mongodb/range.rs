//! The documents of a unit or a window: a condition on the member that has their time, in the type that it is stored in.

use chrono::{Days, NaiveDate};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, doc};

use crate::model::source::StoredTime;
use crate::time::Instant;

/// Documents whose time lies in `[start, end)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// The member, with dots between levels.
    pub path: String,
    /// How it is stored.
    pub stored: StoredTime,
    /// The first instant.
    pub start: Instant,
    /// The first instant after it.
    pub end: Instant,
}

impl Range {
    /// The condition. MongoDB compares values of one type only, so that what is stored in another type never meets it.
    pub(super) fn condition(&self) -> Document {
        let between = |from: Bson, to: Bson| doc! { &*self.path: { "$gte": from, "$lt": to } };
        let (start, end) = (self.start, self.end);
        match self.stored {
            StoredTime::Date => between(
                DateTime::from_millis(start.timestamp_millis()).into(),
                DateTime::from_millis(end.timestamp_millis()).into(),
            ),
            StoredTime::Epoch => between(start.timestamp().into(), end.timestamp().into()),
            StoredTime::EpochMs => between(start.timestamp_millis().into(), end.timestamp_millis().into()),
            // A text may have any offset, or none: more is asked for, and the rows' own times decide.
            StoredTime::Iso => between(day(start, -1).into(), day(end, 2).into()),
            StoredTime::ObjectId => match (first_id(start.timestamp()), first_id(end.timestamp())) {
                (Some(from), Some(to)) => between(from.into(), to.into()),
                (Some(from), None) => doc! { &*self.path: { "$gte": from } },
                (None, _) => between(NO_ID.into(), NO_ID.into()),
            },
        }
    }
}

/// The smallest id there can be: nothing lies before it.
const NO_ID: ObjectId = ObjectId::from_bytes([0; 12]);

/// The date of an instant, moved by some days, as ISO texts begin with it.
fn day(instant: Instant, days: i64) -> String {
    let date: NaiveDate = instant.date_naive();
    let moved = if days < 0 {
        date.checked_sub_days(Days::new(days.unsigned_abs()))
    } else {
        date.checked_add_days(Days::new(days.unsigned_abs()))
    };
    moved.unwrap_or(date).format("%Y-%m-%d").to_string()
}

/// The smallest id that can have been made at a second; none after 2106, when the four bytes for it are used up.
///
/// <https://www.mongodb.com/docs/manual/reference/bson-types/#objectid>
fn first_id(seconds: i64) -> Option<ObjectId> {
    let seconds = u32::try_from(seconds.max(0)).ok()?;
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    Some(ObjectId::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        text.parse().expect("an instant")
    }

    fn condition(stored: StoredTime, start: &str, end: &str) -> Document {
        Range { path: "t".to_owned(), stored, start: at(start), end: at(end) }.condition()
    }

    #[test]
    fn a_unit_is_a_half_open_range_in_the_stored_type() {
        let (start, end) = ("2024-05-01T15:00:00Z", "2024-05-02T15:00:00Z");
        let id = |text| ObjectId::parse_str(text).expect("an id");
        let (from, to) = (id("663258f00000000000000000"), id("6633aa700000000000000000"));
        assert_eq!(condition(StoredTime::ObjectId, start, end), doc! { "t": { "$gte": from, "$lt": to } });
        assert_eq!(
            condition(StoredTime::Epoch, start, end),
            doc! { "t": { "$gte": 1_714_575_600_i64, "$lt": 1_714_662_000_i64 } }
        );
        assert_eq!(condition(StoredTime::Iso, start, end), doc! { "t": { "$gte": "2024-04-30", "$lt": "2024-05-04" } });
    }

    #[test]
    fn ids_know_the_years_from_1970_to_2106_only() {
        let zero = NO_ID;
        let before = condition(StoredTime::ObjectId, "1960-01-01T00:00:00Z", "1960-01-02T00:00:00Z");
        assert_eq!(before, doc! { "t": { "$gte": zero, "$lt": zero } });
        let over = condition(StoredTime::ObjectId, "2106-02-07T00:00:00Z", "2106-02-08T00:00:00Z");
        let from = ObjectId::parse_str("ffffa5000000000000000000").expect("an id");
        assert_eq!(over, doc! { "t": { "$gte": from } });
        let after = condition(StoredTime::ObjectId, "2107-01-01T00:00:00Z", "2107-01-02T00:00:00Z");
        assert_eq!(after, doc! { "t": { "$gte": zero, "$lt": zero } });
    }
}

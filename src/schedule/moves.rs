//! Where a zone's clocks are moved: time in pieces on each of which they run evenly.

use chrono::{Duration, NaiveDateTime, Offset, TimeZone, Utc};

use crate::time::{Instant, Tz};

/// The clocks of a zone are looked at this often, in hours: none was ever moved and moved back within that time.
const LOOK: i64 = 6;

/// A piece of time, `[start, end)`, in which the clocks run evenly: half a week at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The first instant.
    pub start: Instant,
    /// The first instant after it.
    pub end: Instant,
    /// How far the clocks are ahead of UTC.
    pub ahead: Duration,
}

impl Piece {
    /// The piece that begins at an instant and ends at `limit` at the latest.
    pub fn from(zone: Tz, start: Instant, limit: Instant) -> Self {
        let ahead = ahead(zone, start);
        let mut end = start;
        for _ in 0..(84 / LOOK) {
            let look = (end + Duration::hours(LOOK)).min(limit);
            if ahead != self::ahead(zone, look) {
                return Self { start, end: moved(zone, end, look), ahead };
            }
            end = look;
            if end >= limit {
                break;
            }
        }
        Self { start, end, ahead }
    }

    /// What the clocks say at the start.
    pub fn local_start(&self) -> NaiveDateTime {
        self.start.naive_utc() + self.ahead
    }

    /// What the clocks would say at the end, were they not moved.
    pub fn local_end(&self) -> NaiveDateTime {
        self.end.naive_utc() + self.ahead
    }
}

/// How far the clocks of a zone are ahead of UTC.
pub(super) fn ahead(zone: Tz, at: Instant) -> Duration {
    Duration::seconds(i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()))
}

/// The instant in `(from, to]` from which on the clocks are as they are at `to`.
fn moved(zone: Tz, from: Instant, to: Instant) -> Instant {
    let then = ahead(zone, to);
    let (mut low, mut high) = (from.timestamp(), to.timestamp());
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        let at = Utc.timestamp_opt(middle, 0).single().unwrap_or(to);
        if ahead(zone, at) == then { high = middle } else { low = middle }
    }
    Utc.timestamp_opt(high, 0).single().unwrap_or(to)
}

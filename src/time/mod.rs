//! Instants, durations, zones, and the calendar units that every window is made of.
//!
//! An instant is UTC. A unit is a calendar range in an IANA zone, always half-open: `[start, end)`.
//! This is the only place that reads the machine's clock.

mod calendar;
mod clock;
mod cron;
mod duration;
mod iso;
mod window;

pub use calendar::{Calendar, Grain, Unit, UnitKey};
pub use chrono_tz::Tz;
pub use clock::Clock;
pub use cron::Cron;
pub use duration::{display_duration, display_pause, parse_duration};
pub use iso::{Iso, read_iso};
pub use window::{Reach, Window};

/// A point in time, in UTC.
pub type Instant = chrono::DateTime<chrono::Utc>;

//! Windows, the runs of units that a pipeline covers, and reach, the units that another unit reads.

use std::fmt;
use std::sync::Arc;

use super::{Calendar, Grain, Instant, Unit};
use crate::error::{Error, Result};

/// A gapless run of units: `[first.start, last.end)`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    units: Arc<[Unit]>,
}

impl Window {
    /// The `lookback` units that end where the unit of the logical date begins.
    ///
    /// # Errors
    /// A lookback of zero: a run over nothing is an error, not a success.
    pub fn before(calendar: Calendar, logical_date: &Unit, lookback: u32) -> Result<Self> {
        let first = calendar.shift(logical_date, -i64::from(lookback));
        Self::spanning(calendar, first.start, logical_date.start)
    }

    /// All units that begin in `[from, to)`.
    ///
    /// # Errors
    /// A range that holds no unit.
    pub fn spanning(calendar: Calendar, from: Instant, to: Instant) -> Result<Self> {
        let units = calendar.between(from, to);
        if units.is_empty() {
            return Err(Error::usage(format!("the window from {from} to {to} holds no {}", calendar.grain.plural()))
                .hint("a window needs at least one unit; the end is not part of it"));
        }
        Ok(Self { units: units.into() })
    }

    /// The units in the order of time; never empty.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The first unit.
    pub fn first(&self) -> &Unit {
        &self.units[0]
    }

    /// The last unit.
    pub fn last(&self) -> &Unit {
        &self.units[self.units.len() - 1]
    }

    /// The first instant of the window.
    pub fn start(&self) -> Instant {
        self.first().start
    }

    /// The first instant after the window.
    pub fn end(&self) -> Instant {
        self.last().end
    }
}

/// Which upstream units a unit reads, counted in units from its own: `-6d..0d` is the last seven days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reach {
    /// The first offset, at most `to`.
    pub from: i32,
    /// The last offset, inclusive.
    pub to: i32,
}

impl Reach {
    /// A unit reads the upstream unit of its own time, and no other.
    pub const SAME: Self = Self { from: 0, to: 0 };

    /// Reads `-6d..0d`; the letter must be the grain's.
    ///
    /// # Errors
    /// Another form, another letter, or a range that runs backwards.
    pub fn parse(text: &str, grain: Grain) -> Result<Self> {
        let fault = |what: &str| {
            Error::config(format!("the reach `{text}` {what}")).hint(format!(
                "a reach counts {} from the unit itself, both ends included: \"-6{letter}..0{letter}\"",
                grain.plural(),
                letter = grain.letter()
            ))
        };
        let (from, to) = text.split_once("..").ok_or_else(|| fault("has no `..`"))?;
        let side = |side: &str| -> Result<i32> {
            let side = side.trim();
            let digits = if side == "0" {
                side
            } else {
                side.strip_suffix(grain.letter()).ok_or_else(|| fault("has another unit than the window"))?
            };
            digits.parse().map_err(|_| fault("has a side that is not a whole number"))
        };
        let reach = Self { from: side(from)?, to: side(to)? };
        if reach.from > reach.to {
            return Err(fault("runs backwards"));
        }
        Ok(reach)
    }

    /// The upstream units that `unit` reads.
    pub fn upstream_of(self, unit: &Unit) -> Vec<Unit> {
        let first = unit.calendar.shift(unit, i64::from(self.from));
        let mut units = vec![first];
        for _ in self.from..self.to {
            let last = units[units.len() - 1];
            units.push(unit.calendar.next(&last));
        }
        units
    }

    /// The downstream units that read `unit`: the mirror image of [`Reach::upstream_of`].
    pub fn downstream_of(self, unit: &Unit) -> Vec<Unit> {
        Self { from: -self.to, to: -self.from }.upstream_of(unit)
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

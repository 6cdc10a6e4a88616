//! Drift: what re-pulls changed, by the age of the unit, and the lookback that this advises.
//!
//! A change that is seen at age 2 is missed by a lookback of 2 (which pulls ages 0 and 1) and caught by one of 3. What
//! changes after the oldest age that was ever pulled cannot be known; so an advice that reaches to that age is a lower bound.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::ledger::{PullOutcome, PullRecord};
use crate::time::UnitKey;

/// The share of the changed pulls that an advised lookback would have caught.
pub const COVERAGE: f64 = 0.99;

/// What the pulls of one table tell about how long its units move.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// One row for each age at which units were pulled, youngest first.
    pub ages: Vec<AgeRow>,
    /// How many units were pulled at all.
    pub units: u64,
    /// How many pulls of units that had rows already: only these can show a change.
    pub repulls: u64,
    /// How many of those changed something.
    pub changed_pulls: u64,
    /// The oldest age at which a unit was pulled again; nothing is known of what happens later.
    pub oldest_age: Option<i64>,
    /// How many units were pulled again at the oldest age.
    pub units_at_oldest: u64,
    /// What follows from all this.
    pub advice: Advice,
    /// How much the advice can be relied on.
    pub confidence: Confidence,
}

/// What was pulled, and what changed, at one age.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AgeRow {
    /// Whole units between the unit's end and the pull: 0 on the morning after, -1 while the unit was under way.
    pub age: i64,
    /// Pulls at this age that came to an end, first ones included.
    pub pulls: u64,
    /// Pulls of units that had rows already.
    pub repulls: u64,
    /// Those that changed something.
    pub changed_pulls: u64,
    /// Rows that these added.
    pub added: u64,
    /// Rows that these removed.
    pub removed: u64,
    /// Rows that these changed.
    pub changed: u64,
    /// This age's share of all changed pulls, from 0 to 1.
    pub share: f64,
    /// The share of this age and all younger ones.
    pub cumulative_share: f64,
}

/// The lookback that the pulls advise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Advice {
    /// No unit was pulled twice yet.
    Unknown,
    /// This lookback would have caught [`COVERAGE`] of the changed pulls.
    Units {
        /// How many units back.
        lookback: u32,
    },
    /// Units still change at the oldest age that is pulled; a longer lookback would show for how long.
    MoreThan {
        /// How many units back are pulled now.
        lookback: u32,
    },
}

/// How much an advice can be relied on: by how many units were watched up to the oldest age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Fewer than 7 units: a hint at best.
    Low,
    /// Fewer than 30 units.
    Fair,
    /// 30 units or more.
    Good,
}

impl Drift {
    /// Reads the drift off the pulls of one table, in the order of units and pulls.
    pub fn of(pulls: &[PullRecord]) -> Self {
        let mut tally: BTreeMap<i64, Tally> = BTreeMap::new();
        let mut begun: BTreeSet<&UnitKey> = BTreeSet::new();
        for pull in pulls {
            let ended = !matches!(
                pull.outcome,
                PullOutcome::Failed | PullOutcome::Held | PullOutcome::Late | PullOutcome::Rejected
            );
            if !ended {
                continue;
            }
            let again = !begun.insert(&pull.unit);
            if let Some(age) = pull.age {
                tally.entry(age).or_default().add(pull, again);
            }
        }
        let units = pulls.iter().filter(|pull| pull.age.is_some()).map(|pull| &pull.unit).collect::<BTreeSet<_>>();
        let repulls = tally.values().map(|tally| tally.repulls).sum();
        let changed_pulls = tally.values().map(|tally| tally.changed_pulls).sum();
        let oldest = tally.iter().rev().find(|(_, tally)| tally.repulls > 0);
        let oldest_age = oldest.map(|(age, _)| *age);
        let units_at_oldest = oldest.map_or(0, |(_, tally)| tally.repulled.len() as u64);
        let ages = rows(&tally, changed_pulls);
        Self {
            advice: advice(&ages, oldest_age),
            confidence: match units_at_oldest {
                0..7 => Confidence::Low,
                7..30 => Confidence::Fair,
                _ => Confidence::Good,
            },
            ages,
            units: units.len() as u64,
            repulls,
            changed_pulls,
            oldest_age,
            units_at_oldest,
        }
    }
}

#[derive(Default)]
struct Tally<'a> {
    pulls: u64,
    repulls: u64,
    changed_pulls: u64,
    added: u64,
    removed: u64,
    changed: u64,
    repulled: BTreeSet<&'a UnitKey>,
}

impl<'a> Tally<'a> {
    fn add(&mut self, pull: &'a PullRecord, again: bool) {
        self.pulls += 1;
        // A unit whose first pulls are older than this ledger has changes without a first pull.
        if !again && pull.changes.is_none() && pull.outcome != PullOutcome::Unchanged {
            return;
        }
        self.repulls += 1;
        self.repulled.insert(&pull.unit);
        if pull.outcome == PullOutcome::Unchanged {
            return;
        }
        let changes = pull.changes.unwrap_or_default();
        self.changed_pulls += 1;
        self.added += changes.added;
        self.removed += changes.removed;
        self.changed += changes.changed;
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares need no more than 52 bits")]
fn rows(tally: &BTreeMap<i64, Tally<'_>>, all: u64) -> Vec<AgeRow> {
    let share = |part: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
    let mut so_far = 0;
    tally
        .iter()
        .map(|(&age, tally)| {
            so_far += tally.changed_pulls;
            AgeRow {
                age,
                pulls: tally.pulls,
                repulls: tally.repulls,
                changed_pulls: tally.changed_pulls,
                added: tally.added,
                removed: tally.removed,
                changed: tally.changed,
                share: share(tally.changed_pulls),
                cumulative_share: share(so_far),
            }
        })
        .collect()
}

fn advice(ages: &[AgeRow], oldest: Option<i64>) -> Advice {
    let Some(oldest) = oldest else { return Advice::Unknown };
    let lookback = |age: i64| u32::try_from(age.saturating_add(1).max(1)).unwrap_or(u32::MAX);
    let Some(enough) = ages.iter().find(|row| row.changed_pulls > 0 && row.cumulative_share >= COVERAGE) else {
        // Nothing ever changed.
        return Advice::Units { lookback: 1 };
    };
    if enough.age == oldest {
        Advice::MoreThan { lookback: lookback(oldest) }
    } else {
        Advice::Units { lookback: lookback(enough.age) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ledger::Changes;
    use crate::model::name::TableName;

    fn pull(unit: u32, age: i64, outcome: PullOutcome, changed: Option<u64>) -> PullRecord {
        let at = chrono::DateTime::UNIX_EPOCH;
        PullRecord {
            table: TableName { schema: "raw".into(), name: "items".into() },
            unit: UnitKey::stored(&format!("2024-{:02}-{:02}", unit / 28 + 1, unit % 28 + 1)),
            pull: u64::try_from(age).unwrap_or(0) + 1,
            run: "items-1".into(),
            outcome,
            rows: 10,
            fingerprint: None,
            changes: changed.map(|changed| Changes { added: 1, removed: 0, changed }),
            age: Some(age),
            requests: 1,
            bytes: 1,
            started_at: at,
            finished_at: at,
            reason: None,
        }
    }

    /// Units that are pulled at ages 0 to `lookback - 1` and change up to age `moves`.
    fn history(units: u32, lookback: i64, moves: i64) -> Vec<PullRecord> {
        let one = |unit| {
            (0..lookback).map(move |age| match age {
                0 => pull(unit, 0, PullOutcome::Loaded, None),
                age if age <= moves => pull(unit, age, PullOutcome::Loaded, Some(2)),
                age => pull(unit, age, PullOutcome::Unchanged, None),
            })
        };
        (0..units).flat_map(one).collect()
    }

    #[test]
    fn units_that_rest_before_the_lookback_ends_advise_a_shorter_one() {
        let drift = Drift::of(&history(30, 5, 2));
        assert_eq!(drift.advice, Advice::Units { lookback: 3 });
        assert_eq!(drift.confidence, Confidence::Good);
        assert_eq!((drift.units, drift.repulls, drift.changed_pulls), (30, 120, 60));
        let row = drift.ages[1];
        assert_eq!((row.age, row.pulls, row.changed_pulls, row.added, row.changed), (1, 30, 30, 30, 60));
        assert!((row.share - 0.5).abs() < 1e-9 && (drift.ages[2].cumulative_share - 1.0).abs() < 1e-9);
    }

    #[test]
    fn units_that_still_move_at_the_oldest_age_advise_more_than_is_pulled() {
        let drift = Drift::of(&history(8, 3, 9));
        assert_eq!(drift.advice, Advice::MoreThan { lookback: 3 });
        assert_eq!((drift.oldest_age, drift.units_at_oldest, drift.confidence), (Some(2), 8, Confidence::Fair));
    }

    #[test]
    fn the_first_rows_of_a_unit_are_no_change() {
        let drift = Drift::of(&history(5, 1, 0));
        assert_eq!((drift.repulls, drift.changed_pulls, drift.advice), (0, 0, Advice::Unknown));
        assert_eq!(drift.ages[0].pulls, 5);
    }

    #[test]
    fn units_that_never_change_need_no_second_look() {
        assert_eq!(Drift::of(&history(10, 3, 0)).advice, Advice::Units { lookback: 1 });
    }

    #[test]
    fn a_rare_late_change_below_one_percent_does_not_lengthen_the_lookback() {
        let mut pulls = history(150, 4, 1);
        pulls.push(pull(0, 3, PullOutcome::Loaded, Some(1)));
        assert_eq!(Drift::of(&pulls).advice, Advice::Units { lookback: 2 });
    }

    #[test]
    fn pulls_that_failed_or_are_held_tell_nothing() {
        let mut pulls = history(3, 2, 0);
        pulls.push(pull(0, 7, PullOutcome::Failed, None));
        pulls.push(pull(1, 7, PullOutcome::Held, None));
        let drift = Drift::of(&pulls);
        assert_eq!((drift.ages.len(), drift.oldest_age), (2, Some(1)));
    }
}

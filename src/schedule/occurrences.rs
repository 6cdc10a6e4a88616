//! The occurrences of a schedule, one after the other.

use std::collections::VecDeque;

use chrono::{Duration, LocalResult, NaiveDate, NaiveDateTime, TimeZone, Utc};
use serde::Serialize;

use super::moves::Piece;
use super::{CronRule, Rule, Timetable};
use crate::model::schedule::{Fold, Gap};
use crate::time::{Instant, Tz};

/// A time at which a pipeline is to run by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Occurrence {
    /// The instant; no two occurrences of a schedule have the same.
    pub at: Instant,
    /// The time that the schedule names, on the clock of its zone; on odd days the clock may say something else at `at`.
    pub wall: NaiveDateTime,
    /// The date that the run is for, in the zone of the pipeline's days: its window ends where that date begins.
    pub logical_date: NaiveDate,
    /// Whether it runs; one that a rule leaves out is recorded all the same.
    pub runs: bool,
    /// What is unusual about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odd: Option<Odd>,
}

/// What is unusual about an occurrence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Odd {
    /// The clocks were put forward over times that the schedule names.
    Gap {
        /// What the clocks would have said.
        from: NaiveDateTime,
        /// What they said instead.
        to: NaiveDateTime,
        /// The times that do not exist.
        times: Vec<NaiveDateTime>,
    },
    /// The clocks were put back: this time comes twice.
    Fold {
        /// Whether this is the second of the two.
        second: bool,
        /// Whether there is a run at both.
        both: bool,
    },
}

impl Odd {
    /// In words, for a screen and for the record; `runs` is the occurrence's.
    pub fn words(&self, runs: bool) -> String {
        match self {
            Self::Gap { from, to, times } => {
                let days = *to - *from >= Duration::days(1);
                let form = if days { "%Y-%m-%d %H:%M" } else { "%H:%M" };
                let first = times.first().map(|time| time.format(form).to_string()).unwrap_or_default();
                let more = if times.len() > 1 { format!(" and {} more", times.len() - 1) } else { String::new() };
                let exist = if times.len() > 1 { "do not exist" } else { "does not exist" };
                let then = if runs { format!("runs at {}", to.format(form)) } else { "not run".to_owned() };
                format!("{first}{more} {exist} (clocks {} → {}): {then}", from.format(form), to.format(form))
            }
            Self::Fold { second: false, both: false } => "comes twice, and runs the first time".to_owned(),
            Self::Fold { second: false, both: true } => "comes twice, and runs both times: the first".to_owned(),
            Self::Fold { second: true, .. } => "comes twice, and runs both times: the second".to_owned(),
        }
    }
}

/// The occurrences of a schedule in a range of time.
#[derive(Debug)]
pub struct Occurrences<'a> {
    timetable: &'a Timetable,
    after: Instant,
    until: Instant,
    /// Where the next piece begins.
    cursor: Instant,
    /// What the clocks would have said there, had they not been moved.
    expected: Option<NaiveDateTime>,
    ready: VecDeque<Occurrence>,
}

impl<'a> Occurrences<'a> {
    pub(super) fn new(timetable: &'a Timetable, after: Instant, until: Instant) -> Self {
        Self { timetable, after, until, cursor: after, expected: None, ready: VecDeque::new() }
    }

    /// The occurrences of the next piece of time, in their order.
    fn refill(&mut self, rules: &[CronRule]) {
        // The end is part of the range, and all times of cron are whole minutes.
        let limit = self.until + Duration::seconds(1);
        let piece = Piece::from(self.timetable.zone, self.cursor, limit);
        let mut found: Vec<Occurrence> = Vec::new();
        if let Some(expected) = self.expected.filter(|expected| *expected < piece.local_start()) {
            for rule in rules {
                found.extend(self.in_gap(rule, expected, &piece));
            }
        }
        for rule in rules {
            self.in_piece(rule, &piece, &mut found);
        }
        found.sort_by_key(|occurrence| occurrence.at);
        found.dedup_by(|later, first| {
            let same = later.at == first.at;
            if same {
                merge(first, later);
            }
            same
        });
        self.ready.extend(found.into_iter().filter(|one| self.after < one.at && one.at <= self.until));
        self.expected = Some(piece.local_end());
        self.cursor = piece.end;
    }

    /// What becomes of the times that the clocks were put forward over: one occurrence where they go on.
    fn in_gap(&self, rule: &CronRule, from: NaiveDateTime, piece: &Piece) -> Option<Occurrence> {
        let to = piece.local_start();
        let times = named(rule, from, to);
        // A date that is wholly left out never was, for the calendar too.
        let lost = |time: &NaiveDateTime| {
            let day = time.date().and_time(chrono::NaiveTime::MIN);
            from <= day && day + Duration::days(1) <= to
        };
        let first = *times.first()?;
        let shifted = times.iter().find(|time| !lost(time)).copied().filter(|_| rule.gap == Gap::RunAfter);
        Some(Occurrence {
            at: piece.start,
            wall: shifted.unwrap_or(first),
            logical_date: self.logical_date(shifted.unwrap_or(first), piece.start),
            runs: shifted.is_some(),
            odd: Some(Odd::Gap { from, to, times }),
        })
    }

    fn in_piece(&self, rule: &CronRule, piece: &Piece, found: &mut Vec<Occurrence>) {
        for wall in named(rule, piece.local_start(), piece.local_end()) {
            let at = (wall - piece.ahead).and_utc();
            let odd = match self.timetable.zone.from_local_datetime(&wall) {
                LocalResult::Ambiguous(first, _) => {
                    let second = first.with_timezone(&Utc) != at;
                    if second && rule.fold == Fold::First {
                        continue;
                    }
                    Some(Odd::Fold { second, both: rule.fold == Fold::Both })
                }
                LocalResult::Single(_) | LocalResult::None => None,
            };
            let logical_date = self.logical_date(wall, at);
            found.push(Occurrence { at, wall, logical_date, runs: true, odd });
        }
    }

    fn logical_date(&self, wall: NaiveDateTime, at: Instant) -> NaiveDate {
        // In its own zone a run that is moved behind a gap stays one of the date that it was named for.
        if self.timetable.zone == self.timetable.days { wall.date() } else { date_in(self.timetable.days, at) }
    }

    /// The next instant of an even interval.
    fn interval(&mut self, seconds: i64, anchor: Instant) -> Option<Occurrence> {
        let since = (self.cursor - anchor).num_milliseconds().div_euclid(1000);
        let count = since.div_euclid(seconds) + 1;
        let at = anchor.checked_add_signed(Duration::try_seconds(count.checked_mul(seconds)?)?)?;
        if at > self.until {
            return None;
        }
        self.cursor = at;
        let wall = at.with_timezone(&self.timetable.zone).naive_local();
        Some(Occurrence { at, wall, logical_date: date_in(self.timetable.days, at), runs: true, odd: None })
    }
}

impl Iterator for Occurrences<'_> {
    type Item = Occurrence;

    fn next(&mut self) -> Option<Occurrence> {
        match &self.timetable.rule {
            Rule::Following => None,
            Rule::Every { seconds, anchor } => self.interval(*seconds, *anchor),
            Rule::Crons(rules) => {
                while self.ready.is_empty() && self.cursor <= self.until {
                    self.refill(rules);
                }
                self.ready.pop_front()
            }
        }
    }
}

/// The times in `[from, to)` on the clock that an expression names.
fn named(rule: &CronRule, from: NaiveDateTime, to: NaiveDateTime) -> Vec<NaiveDateTime> {
    let mut times = Vec::new();
    let mut date = from.date();
    while date <= to.date() {
        let of_date = rule.cron.on(date).iter().map(|time| date.and_time(*time));
        times.extend(of_date.filter(|time| from <= *time && *time < to));
        let Some(next) = date.succ_opt() else { break };
        date = next;
    }
    times
}

fn date_in(zone: Tz, at: Instant) -> NaiveDate {
    at.with_timezone(&zone).date_naive()
}

/// Makes one occurrence of two at the same instant: it runs if one of them does, at the time that is really on the clock.
fn merge(first: &mut Occurrence, later: &Occurrence) {
    let gap = |one: &Occurrence| matches!(one.odd, Some(Odd::Gap { .. }));
    let (named, other) = if gap(first) && !gap(later) || !first.runs && later.runs {
        (later.clone(), first.clone())
    } else {
        (first.clone(), later.clone())
    };
    let odd = match (named.odd, other.odd) {
        (Some(Odd::Gap { from, to, mut times }), Some(Odd::Gap { times: more, .. })) => {
            times.extend(more);
            times.sort_unstable();
            times.dedup();
            Some(Odd::Gap { from, to, times })
        }
        // Two expressions that name a time which comes twice: one of them may want both.
        (Some(Odd::Fold { second, both }), Some(Odd::Fold { both: other, .. })) => {
            Some(Odd::Fold { second, both: both || other })
        }
        (own, other) => own.or(other),
    };
    *first = Occurrence { runs: named.runs || other.runs, odd, ..named };
}

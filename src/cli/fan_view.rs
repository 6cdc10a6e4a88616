//! Fan-outs on the screen: done, under way, failed, how fast, and how long it still takes.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::model::fanout::Tally;
use crate::model::plan::Plan;
use crate::model::run::TaskId;

/// A line comes so rarely where there is no terminal.
const LINES_EVERY: Duration = Duration::from_secs(5);
/// The rate is that of so long a time.
const MEASURED: Duration = Duration::from_secs(10);

/// The fan-outs of a run, by their steps.
pub(super) struct FanView {
    steps: HashMap<String, Step>,
}

#[derive(Default)]
struct Step {
    /// How many tasks the step has in the run.
    planned: u64,
    tasks: HashMap<TaskId, Tally>,
    bar: Option<ProgressBar>,
    told: Option<Instant>,
    /// When how many were done.
    recent: VecDeque<(Instant, u64)>,
}

impl FanView {
    /// The fan-outs of a plan.
    pub fn of(plan: &Plan) -> Self {
        let mut steps: HashMap<String, Step> = HashMap::new();
        for task in &plan.tasks {
            steps.entry(task.id.step.clone()).or_default().planned += 1;
        }
        Self { steps }
    }

    /// Takes in how a task stands; returns the line that is to be printed now, if one is.
    pub fn tally(&mut self, task: &TaskId, tally: Tally, bars: Option<&MultiProgress>, now: Instant) -> Option<String> {
        let step = self.steps.get_mut(&task.step)?;
        step.tasks.insert(task.clone(), tally);
        let line = step.line(now);
        let Some(bars) = bars else {
            let due = now.saturating_duration_since(*step.told.get_or_insert(now)) >= LINES_EVERY;
            return due.then(|| {
                step.told = Some(now);
                format!("requests  {}: {line}", task.step)
            });
        };
        let bar = step.bar.get_or_insert_with(|| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(format!("{}: {line}", task.step));
        None
    }

    /// Takes the bars away.
    pub fn end(&mut self) {
        self.steps.values_mut().filter_map(|step| step.bar.take()).for_each(|bar| bar.finish_and_clear());
    }
}

impl Step {
    fn line(&mut self, now: Instant) -> String {
        let sum = |part: fn(&Tally) -> u64| self.tasks.values().map(part).sum::<u64>();
        let (done, failed, in_flight) =
            (sum(|tally| tally.done), sum(|tally| tally.failed), sum(|tally| tally.in_flight));
        let (known, retried) = (sum(|tally| tally.total), sum(|tally| tally.retried));
        let begun = self.tasks.len() as u64;
        // The tasks that have not begun are believed to be like the others.
        let unknown = self.planned.saturating_sub(begun) * known / begun.max(1);
        let total = known + unknown;
        self.recent.push_back((now, done));
        while self.recent.len() > 2
            && self.recent.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > MEASURED)
        {
            self.recent.pop_front();
        }
        let about = if unknown > 0 { "about " } else { "" };
        let mut line = format!(
            "{} of {about}{} done, {} in flight, {} failed",
            grouped(done),
            grouped(total),
            grouped(in_flight),
            grouped(failed)
        );
        if retried > 0 {
            line.push_str(&format!(", {} sent again", grouped(retried)));
        }
        if let Some(rate) = self.rate(now) {
            line.push_str(&format!(", {}/s", grouped(rate)));
            let left = total.saturating_sub(done + failed) / rate.max(1);
            line.push_str(&format!(", {} left", clock(left)));
        }
        line
    }

    /// Requests a second, of late.
    fn rate(&self, now: Instant) -> Option<u64> {
        let (since, before) = *self.recent.front()?;
        let (_, done) = *self.recent.back()?;
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate on a screen"
        )]
        (seconds > 0.5).then(|| (done.saturating_sub(before) as f64 / seconds).round() as u64).filter(|rate| *rate > 0)
    }
}

/// A number with commas between its thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn clock(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnitKey;

    #[test]
    fn a_line_tells_what_is_done_how_fast_and_how_long_it_takes() {
        let mut view = FanView { steps: HashMap::from([("stats".to_owned(), Step { planned: 4, ..Step::default() })]) };
        let task = TaskId { step: "stats".to_owned(), unit: UnitKey::whole() };
        let begun = Instant::now();
        let tally = |done| Tally { total: 36_000, done, in_flight: 64, failed: 3, ..Tally::default() };
        assert_eq!(view.tally(&task, tally(0), None, begun), None);
        let line = view.tally(&task, tally(12_000), None, begun + Duration::from_secs(10));
        let expected =
            "requests  stats: 12,000 of about 144,000 done, 64 in flight, 3 failed, 1,200/s, 1 min 49 s left";
        assert_eq!(line.as_deref(), Some(expected));
        assert_eq!(view.tally(&task, tally(12_100), None, begun + Duration::from_secs(11)), None);
    }
}

//! `haul logs`: what a run has told, also while another process walks it.

use std::collections::HashMap;
use std::time::Duration;

use anstyle::Style;

use super::screen::{BAD, DIM, GOOD, WARN, indented};
use super::{Common, Screen, session};
use crate::error::{Error, Result};
use crate::logs::{self, Filter, Follow, Level, Line, What};
use crate::model::run::{RunRecord, RunStatus};
use crate::state::State;

/// Whose lines, and which of them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run, as `haul runs` lists it, or a pipeline for its last one; the last run of all by default
    run: Option<String>,
    /// Only what this task has told: a step, or `STEP/UNIT`
    #[arg(long, value_name = "STEP/UNIT")]
    task: Option<String>,
    /// Go on until the run ends
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

/// How often a log is looked at while it is followed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn logs(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    // What is wrong in a file of the project now says nothing of what was told then.
    let state_dir = session::state_dir(common)?;
    let state = State::open(&state_dir).await?;
    let run = find(&state, args.run.as_deref()).await?;
    let mut filter = args.task.as_deref().map(Filter::of_task).unwrap_or_default();
    if !screen.is_verbose() && !screen.is_json() {
        filter.least = Some(Level::Info);
    }
    let mut print = Printer::new(screen, args.run.is_none());
    if !args.follow {
        let lines = logs::read(&state_dir, &run.id, &filter)?;
        if lines.is_empty() {
            screen.note(&nothing(&run, args));
        }
        print.all(&lines[lines.len() - args.tail.unwrap_or(lines.len()).min(lines.len())..]);
        return Ok(0);
    }
    follow(&state, &run.id, args, (&state_dir, &filter), &mut print).await?;
    Ok(0)
}

fn nothing(run: &RunRecord, args: &Args) -> String {
    match &args.task {
        Some(task) => format!("{task} has told nothing in {}: `haul show {}` lists its tasks", run.id, run.id),
        None => format!("there is no log of {} any more", run.id),
    }
}

/// Prints lines as they come, until the run has ended.
async fn follow(
    state: &State,
    run: &str,
    args: &Args,
    (state_dir, filter): (&std::path::Path, &Filter),
    print: &mut Printer<'_>,
) -> Result<()> {
    let mut follow = Follow::new(state_dir, run);
    let mut first = follow.rest()?;
    let mut ended = is_over(state, run).await?;
    let told = |lines: &[Line]| lines.iter().any(|line| line.what == What::RunFinished);
    ended |= told(&first);
    first.retain(|line| filter.wants(line));
    print.all(&first[first.len() - args.tail.unwrap_or(first.len()).min(first.len())..]);
    loop {
        let mut lines = if ended { follow.rest()? } else { follow.more()? };
        let last = told(&lines);
        lines.retain(|line| filter.wants(line));
        print.all(&lines);
        if ended || last {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
        ended = is_over(state, run).await?;
    }
}

/// Whether nobody walks a run any more, however it ended.
async fn is_over(state: &State, run: &str) -> Result<bool> {
    let found = state.run(run).await?;
    Ok(found.is_none_or(|(run, _)| run.status != RunStatus::Running || !state.lives(&run.id)))
}

/// The run of this name, or the last one of this pipeline, or of all.
async fn find(state: &State, name: Option<&str>) -> Result<RunRecord> {
    if let Some(name) = name
        && let Some((run, _)) = state.run(name).await?
    {
        return Ok(run);
    }
    let last = state.runs(name, 1).await?.into_iter().next();
    last.ok_or_else(|| match name {
        Some(name) => Error::usage(format!("there is no run `{name}`, and no pipeline of this name has run"))
            .hint("`haul runs` lists them"),
        None => Error::usage("nothing has run yet").hint("`haul run` does"),
    })
}

/// Prints lines, and says where some were left out.
struct Printer<'a> {
    screen: &'a Screen,
    /// The run's name was not given, and is to be told.
    name: bool,
    /// The last line of what a task said, by its task.
    said: HashMap<String, u64>,
}

impl<'a> Printer<'a> {
    fn new(screen: &'a Screen, name: bool) -> Self {
        Self { screen, name, said: HashMap::new() }
    }

    fn all(&mut self, lines: &[Line]) {
        for line in lines {
            if self.screen.is_json() {
                self.screen.data(&serde_json::to_string(line).unwrap_or_default());
            } else {
                self.line(line);
            }
        }
    }

    fn line(&mut self, line: &Line) {
        if std::mem::take(&mut self.name) && line.what != What::RunStarted {
            self.screen.note(&format!("{DIM}{}{DIM:#}", line.run));
        }
        let task = task_of(line);
        if let Some(number) = line.said {
            let before = self.said.insert(task.clone(), number).filter(|before| *before + 1 < number);
            if let Some(before) = before {
                let left = number - before - 1;
                self.screen.data(&format!("{DIM}… {left} lines of {task} were not kept or are not shown …{DIM:#}"));
            }
        }
        let style = match (line.level, line.what) {
            (Level::Error, _) => BAD,
            (Level::Warn, _) => WARN,
            (_, What::Loaded | What::Done) => GOOD,
            (Level::Debug, _) => DIM,
            _ => Style::new(),
        };
        let at = line.at.format("%Y-%m-%d %H:%M:%S%.3f");
        let mut head = format!("{DIM}{at}{DIM:#} {style}{:9}{style:#}", line.what.word());
        if !task.is_empty() {
            head.push_str(&format!(" {task}"));
        }
        let colon = if task.is_empty() || line.text.is_empty() { "" } else { ":" };
        let text = if line.text.is_empty() { String::new() } else { format!(" {}", indented(&line.text, 34)) };
        self.screen.data(format!("{head}{colon}{text}").trim_end());
    }
}

/// The task of a line, as a screen names it.
pub(super) fn task_of(line: &Line) -> String {
    match (&line.step, &line.unit) {
        (Some(step), Some(unit)) if !unit.is_whole() => format!("{step} {unit}"),
        (Some(step), _) => step.clone(),
        (None, _) => String::new(),
    }
}

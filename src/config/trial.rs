//! `tests/*.toml`: which pipeline is replayed on which answers, and what its tables then have to be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::check::table_name;
use super::diagnostic::{Diagnostic, Source, Sources, known_names};
use super::pipeline::{stem, vars};
use super::reader::{At, Reader, Required, Span, twin};
use super::scalar::{Entries, Names, words};
use super::value::{Date, Moment};
use crate::model::pipeline::{Pipeline, Project};
use crate::model::run::RunStatus;
use crate::model::trial::{Expectation, Expected, Subject, Trial, TrialRun};
use crate::time::{Calendar, Grain, Instant};

/// How a run of a test has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusWord {
    /// Every task is fine.
    Succeeded,
    /// A guard refused new rows.
    Held,
    /// Some task failed.
    Failed,
}

words!(StatusWord);

twin! {
    /// One file of `tests/`: a pipeline, replayed offline on recorded answers, and the tables that it has to make.
    pub struct TestFile {
        /// What it shows.
        pub description: Option<At<String>>,
        /// The pipeline.
        pub pipeline: Required<String>,
        /// The logical date of the run.
        pub date: Option<At<Date>>,
        /// The instant at which the clock stands still. Default: midnight of the logical date, in the pipeline's zone.
        pub now: Option<At<Moment>>,
        /// The cassette that answers, relative to the project: `haul record` makes it. Without one no request is answered.
        pub cassette: Option<At<String>>,
        /// Only these steps, as `--select` takes them: `name`, `+name`, `name+`. Default: all.
        pub steps: Option<At<Names>>,
        /// How the run has to end. Default `"succeeded"`.
        pub status: Option<At<StatusWord>>,
        /// A text that a task which failed or is held has to tell.
        pub tells: Option<At<String>>,
        /// Variables over those of the pipeline.
        pub vars: Option<At<Entries<Value>>>,
        /// What `env_var()` finds; nothing else of the environment is seen.
        pub env: Option<At<Entries<String>>>,
        /// Several runs, one after the other on the same tables; what one does not say holds from above.
        pub run: Option<At<Vec<At<RunTable>>>>,
        /// What the tables have to be.
        pub expect: Option<At<Vec<At<ExpectTable>>>>,
    }
}

twin! {
    /// One run of a test.
    pub struct RunTable {
        /// The logical date.
        pub date: Option<At<Date>>,
        /// The instant at which the clock stands still.
        pub now: Option<At<Moment>>,
        /// The cassette that answers.
        pub cassette: Option<At<String>>,
        /// Only these steps.
        pub steps: Option<At<Names>>,
        /// How the run has to end.
        pub status: Option<At<StatusWord>>,
        /// A text that a task which failed or is held has to tell.
        pub tells: Option<At<String>>,
    }
}

twin! {
    /// A table, or the rows of a SELECT, and what they have to be.
    pub struct ExpectTable {
        /// The table.
        pub table: Option<At<String>>,
        /// A SELECT, where a table says too much.
        pub sql: Option<At<String>>,
        /// The rows. Columns that none of them names are not compared; one that a row leaves out is null there.
        pub rows: Option<At<Vec<At<Entries<Value>>>>>,
        /// The rows in a file, `.csv` or `.jsonl`, relative to the project; `haul test --update` writes it.
        pub file: Option<At<String>>,
        /// How many rows.
        pub count: Option<At<u64>>,
        /// The columns that are compared; dots lead into records. Default: those of the expected rows.
        pub columns: Option<At<Names>>,
        /// Whether the order of rows counts. Default false.
        pub ordered: Option<At<bool>>,
        /// After which run, from 1. Default: after the last one.
        pub after: Option<At<u64>>,
    }
}

/// The tests of a project, with all faults of their files.
pub struct Trials {
    /// The tests; a file with a fault has none.
    pub trials: Vec<Trial>,
    /// All faults.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that the diagnostics point into.
    pub sources: Sources,
}

/// Reads `tests/*.toml`; folders in `tests/` and other files are left alone.
pub fn trials(project: &Project) -> Trials {
    let mut all = Trials { trials: Vec::new(), diagnostics: Vec::new(), sources: Sources::new() };
    let Ok(entries) = std::fs::read_dir(project.root.join("tests")) else { return all };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml") && path.is_file());
    paths.sort();
    for path in paths {
        let relative = Path::new("tests").join(path.file_name().unwrap_or_default());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                let fault = Diagnostic::error("unreadable", format!("this file cannot be read: {error}"));
                all.diagnostics.push(fault.at(&Source::new(relative, ""), 0..0, ""));
                continue;
            }
        };
        let source = Arc::new(Source::new(relative.clone(), text));
        all.sources.insert(relative, source.clone());
        let mut reader = Reader::new(source);
        let (file, sound): (TestFile, bool) = reader.read_file();
        let trial = if sound { trial(&file, project, &mut reader) } else { None };
        if reader.diagnostics.is_empty() {
            all.trials.extend(trial);
        }
        all.diagnostics.extend(reader.diagnostics);
    }
    all
}

fn trial(file: &TestFile, project: &Project, reader: &mut Reader) -> Option<Trial> {
    let named = file.pipeline.0.as_ref()?;
    let Some(pipeline) = project.pipeline(&named.value) else {
        let help = known_names(&named.value, project.pipelines.iter().map(|pipeline| pipeline.name.as_str()));
        reader.error("unknown-pipeline", named.span.clone(), format!("there is no pipeline `{}`", named.value)).help =
            help;
        return None;
    };
    let runs = runs(file, pipeline, project, reader);
    let expectations = file.expect.as_ref().map_or(&[][..], |expect| &expect.value);
    let expectations: Vec<Expectation> =
        expectations.iter().filter_map(|at| expectation(at, runs.len(), pipeline, reader)).collect();
    let proves = runs.iter().any(|run| run.status != RunStatus::Succeeded || run.tells.is_some());
    if file.expect.is_none() && !proves {
        reader.error("no-expectation", 0..0, "this test expects nothing").help =
            Some("[[expect]] with table = \"raw.orders\" and rows, file or count".to_owned());
    }
    let env = file.env.as_ref().map_or(&[][..], |env| &env.value.0);
    Some(Trial {
        name: stem(&reader.source.path),
        file: reader.source.path.to_path_buf(),
        description: file.description.as_ref().map(|at| at.value.clone()),
        pipeline: named.value.clone(),
        vars: vars(file.vars.as_ref()),
        env: env.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect::<BTreeMap<_, _>>(),
        runs,
        expectations,
    })
}

fn runs(file: &TestFile, pipeline: &Pipeline, project: &Project, reader: &mut Reader) -> Vec<TrialRun> {
    let above = At {
        value: RunTable {
            date: file.date.clone(),
            now: file.now.clone(),
            cassette: file.cassette.clone(),
            steps: file.steps.clone(),
            status: file.status.clone(),
            tells: file.tells.clone(),
        },
        span: file.pipeline.0.as_ref().map_or(0..0, |at| at.span.clone()),
    };
    let tables: Vec<At<RunTable>> = match &file.run {
        None => vec![above.clone()],
        Some(runs) => {
            runs.value.iter().map(|at| At { value: over(&at.value, &above.value), span: at.span.clone() }).collect()
        }
    };
    tables.iter().filter_map(|table| run(table, pipeline, project, reader)).collect()
}

fn over(own: &RunTable, above: &RunTable) -> RunTable {
    RunTable {
        // A clock that stands still for one date says nothing of another.
        now: own.now.clone().or_else(|| above.now.clone().filter(|_| own.date.is_none())),
        date: own.date.clone().or_else(|| above.date.clone()),
        cassette: own.cassette.clone().or_else(|| above.cassette.clone()),
        steps: own.steps.clone().or_else(|| above.steps.clone()),
        status: own.status.clone().or_else(|| above.status.clone()),
        tells: own.tells.clone().or_else(|| above.tells.clone()),
    }
}

fn run(at: &At<RunTable>, pipeline: &Pipeline, project: &Project, reader: &mut Reader) -> Option<TrialRun> {
    let table = &at.value;
    let Some(date) = &table.date else {
        reader.error("missing-key", at.span.clone(), "a run has no logical date").help =
            Some("date = 2019-01-04".to_owned());
        return None;
    };
    let cassette = match &table.cassette {
        Some(at) => Some(cassette(at, date.value.0, pipeline, project, reader)?),
        None => None,
    };
    Some(TrialRun {
        date: date.value.0,
        now: table.now.as_ref().map_or_else(|| midnight(date.value.0, pipeline), |at| at.value.0),
        cassette,
        steps: table.steps.as_ref().map(|steps| steps.value.0.clone()).unwrap_or_default(),
        status: match table.status.as_ref().map(|at| at.value) {
            None | Some(StatusWord::Succeeded) => RunStatus::Succeeded,
            Some(StatusWord::Held) => RunStatus::Held,
            Some(StatusWord::Failed) => RunStatus::Failed,
        },
        tells: table.tells.as_ref().map(|at| at.value.clone()),
    })
}

fn midnight(date: NaiveDate, pipeline: &Pipeline) -> Instant {
    Calendar::new(Grain::Day, pipeline.timezone).of_date(date).start
}

fn cassette(
    at: &At<String>,
    date: NaiveDate,
    pipeline: &Pipeline,
    project: &Project,
    reader: &mut Reader,
) -> Option<PathBuf> {
    let path = PathBuf::from(&at.value);
    if project.root.join(&path).is_file() {
        return Some(path);
    }
    let help = format!("haul record {} --date {date} --name {} makes one", pipeline.name, stem(&path));
    reader.error("unknown-file", at.span.clone(), format!("there is no cassette `{}`", at.value)).help = Some(help);
    None
}

fn expectation(at: &At<ExpectTable>, runs: usize, pipeline: &Pipeline, reader: &mut Reader) -> Option<Expectation> {
    let table = &at.value;
    let subject = match (&table.table, &table.sql) {
        (Some(name), None) => {
            let read = table_name(name, reader)?;
            let written: Vec<String> = pipeline.steps.iter().map(|step| step.into.to_string()).collect();
            if !written.contains(&read.to_string()) {
                let message = format!("no step of `{}` writes {read}", pipeline.name);
                let help = known_names(&name.value, written.iter().map(String::as_str));
                reader.error("unknown-table", name.span.clone(), message).help = help;
            }
            Subject::Table(read)
        }
        (None, Some(sql)) => Subject::Query(sql.value.clone()),
        _ => return one_of(at.span.clone(), "`table` or `sql`", reader),
    };
    let row = |row: &At<Entries<Value>>| -> Map<String, Value> {
        row.value.0.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect()
    };
    let rows = match (&table.rows, &table.file) {
        (Some(rows), None) => Expected::Inline(rows.value.iter().map(row).collect()),
        (None, Some(file)) if is_rows(&file.value) => Expected::File(PathBuf::from(&file.value)),
        (None, Some(file)) => {
            let message = format!("`{}` is no file of rows inside the project", file.value);
            reader.error("bad-file", file.span.clone(), message).help =
                Some("file = \"tests/orders.expected.csv\", or .jsonl".to_owned());
            return None;
        }
        (None, None) if table.count.is_some() => Expected::Count,
        _ => return one_of(at.span.clone(), "`rows`, `file` or `count`", reader),
    };
    let after = match &table.after {
        None => runs,
        Some(at) => {
            let Some(run) = usize::try_from(at.value).ok().filter(|run| (1..=runs).contains(run)) else {
                reader.error("out-of-range", at.span.clone(), format!("there is no run {}", at.value)).help =
                    Some(format!("the runs of this test are 1 to {runs}"));
                return None;
            };
            run
        }
    };
    Some(Expectation {
        after,
        subject,
        rows,
        count: table.count.as_ref().map(|at| at.value),
        columns: table.columns.as_ref().map(|at| at.value.0.clone()).unwrap_or_default(),
        ordered: table.ordered.as_ref().is_some_and(|at| at.value),
    })
}

/// Whether a path names rows, and stays in the project: `--update` writes there.
fn is_rows(path: &str) -> bool {
    let path = Path::new(path);
    let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    inside && path.extension().is_some_and(|ending| ending == "csv" || ending == "jsonl")
}

fn one_of<T>(span: Span, keys: &str, reader: &mut Reader) -> Option<T> {
    reader.error("bad-expectation", span, format!("an expectation has one of {keys}")).help =
        Some("table = \"raw.orders\" with rows = [{ id = 1 }]".to_owned());
    None
}

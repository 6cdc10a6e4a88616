//! `tests/*.toml`: which pipeline is replayed on which answers, and what its tables then have to be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::diagnostic::{Diagnostic, Severity, Source, Sources, known_names};
use super::expect::{ExpectTable, expectation};
use super::given::{GivenTable, given};
use super::pipeline::{is_plain_name, stem, vars};
use super::reader::{At, Reader, Required, twin};
use super::scalar::{Count, Entries, Names, words};
use super::value::{Date, Moment};
use crate::model::pipeline::{Pipeline, Project};
use crate::model::run::RunStatus;
use crate::model::trial::{Expectation, Given, Trial, TrialRun};
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
    /// One file of `tests/`: a pipeline, computed offline on given rows or recorded answers, and the tables that it has to make.
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
        /// How many units a run covers, instead of as many as the pipeline says.
        pub lookback: Option<At<Count>>,
        /// Tables whose rows are given; no source is asked for them. Without `[[run]]` there are two runs over the window.
        pub given: Option<At<Vec<At<GivenTable>>>>,
        /// Several runs, one after the other on the same tables; what one does not say holds from above.
        pub run: Option<At<Vec<At<RunTable>>>>,
        /// What the tables have to be.
        pub expect: Option<At<Vec<At<ExpectTable>>>>,
        /// Several tests on the same ground: what one does not say holds from above.
        pub case: Option<At<Vec<At<CaseTable>>>>,
    }
}

twin! {
    /// One test of several in a file.
    pub struct CaseTable {
        /// Its name, behind that of the file: `sessions::late_event`.
        pub name: Required<String>,
        /// What it shows.
        pub description: Option<At<String>>,
        /// The logical date of the run.
        pub date: Option<At<Date>>,
        /// The instant at which the clock stands still.
        pub now: Option<At<Moment>>,
        /// How many units a run covers.
        pub lookback: Option<At<Count>>,
        /// Only these steps.
        pub steps: Option<At<Names>>,
        /// How the run has to end.
        pub status: Option<At<StatusWord>>,
        /// A text that a task which failed or is held has to tell.
        pub tells: Option<At<String>>,
        /// Variables over those from above.
        pub vars: Option<At<Entries<Value>>>,
        /// Tables whose rows are given, besides those from above; of the same table, these are the rows.
        pub given: Option<At<Vec<At<GivenTable>>>>,
        /// Several runs, one after the other.
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
        /// Tables whose rows are others from this run on: the whole of them.
        pub given: Option<At<Vec<At<GivenTable>>>>,
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
    /// The pipelines that files with faults name, as far as they do.
    pipelines: BTreeMap<PathBuf, String>,
}

impl Trials {
    /// The faults of the files that somebody has chosen by their names and pipelines, and the others that are wrong.
    pub fn faults_of(&self, chosen: impl Fn(&str, Option<&str>) -> bool) -> (Vec<Diagnostic>, BTreeSet<PathBuf>) {
        let of = |fault: &Diagnostic| fault.labels.first().map(|label| label.file.clone()).unwrap_or_default();
        let is_chosen = |file: &Path| chosen(&stem(file), self.pipelines.get(file).map(String::as_str));
        let (own, others): (Vec<&Diagnostic>, Vec<&Diagnostic>) =
            self.diagnostics.iter().partition(|fault| is_chosen(&of(fault)));
        let others = others.into_iter().filter(|fault| fault.severity == Severity::Error).map(of).collect();
        (own.into_iter().cloned().collect(), others)
    }
}

/// Reads `tests/*.toml`; folders in `tests/` and other files are left alone.
pub fn trials(project: &Project) -> Trials {
    let mut all =
        Trials { trials: Vec::new(), diagnostics: Vec::new(), sources: Sources::new(), pipelines: BTreeMap::new() };
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
        all.sources.insert(relative.clone(), source.clone());
        let mut reader = Reader::new(source);
        let (file, sound): (TestFile, bool) = reader.read_file();
        let found = if sound { of_file(&file, project, &mut reader) } else { Vec::new() };
        if reader.diagnostics.is_empty() {
            all.trials.extend(found);
        } else if let Some(pipeline) = &file.pipeline.0 {
            all.pipelines.insert(relative, pipeline.value.clone());
        }
        all.diagnostics.extend(reader.diagnostics);
    }
    all
}

/// The tests of a file: itself, or its cases.
fn of_file(file: &TestFile, project: &Project, reader: &mut Reader) -> Vec<Trial> {
    let name = stem(&reader.source.path);
    let Some(cases) = &file.case else { return trial(file, name, project, reader).into_iter().collect() };
    let mut all: Vec<Trial> = Vec::new();
    for case in &cases.value {
        let Some(own) = case.value.name.0.as_ref() else { continue };
        let full = format!("{name}::{}", own.value);
        if !is_plain_name(&own.value) || all.iter().any(|trial| trial.name == full) {
            reader.error("bad-name", own.span.clone(), format!("`{}` cannot be the name of a case", own.value)).help =
                Some(
                    "a name has letters, digits, underscores and hyphens, and every case has one of its own".to_owned(),
                );
            continue;
        }
        all.extend(trial(&laid_over(&case.value, file), full, project, reader));
    }
    all
}

/// A case as a file of its own.
fn laid_over(case: &CaseTable, file: &TestFile) -> TestFile {
    let given = match (&file.given, &case.given) {
        (Some(above), Some(own)) => {
            let name = |given: &At<GivenTable>| given.value.table.0.as_ref().map(|at| at.value.clone());
            let mut all = above.value.clone();
            all.retain(|given| !own.value.iter().any(|other| name(other) == name(given)));
            all.extend(own.value.iter().cloned());
            Some(At { value: all, span: own.span.clone() })
        }
        (above, own) => own.clone().or_else(|| above.clone()),
    };
    let vars = match (&file.vars, &case.vars) {
        (Some(above), Some(own)) => {
            let all = above.value.0.iter().chain(&own.value.0).cloned().collect();
            Some(At { value: Entries(all), span: own.span.clone() })
        }
        (above, own) => own.clone().or_else(|| above.clone()),
    };
    TestFile {
        description: case.description.clone().or_else(|| file.description.clone()),
        // A clock that stands still for one date says nothing of another.
        now: case.now.clone().or_else(|| file.now.clone().filter(|_| case.date.is_none())),
        date: case.date.clone().or_else(|| file.date.clone()),
        lookback: case.lookback.clone().or_else(|| file.lookback.clone()),
        steps: case.steps.clone().or_else(|| file.steps.clone()),
        status: case.status.clone().or_else(|| file.status.clone()),
        tells: case.tells.clone().or_else(|| file.tells.clone()),
        vars,
        given,
        run: case.run.clone().or_else(|| file.run.clone()),
        expect: case.expect.clone().or_else(|| file.expect.clone()),
        case: None,
        ..file.clone()
    }
}

fn trial(file: &TestFile, name: String, project: &Project, reader: &mut Reader) -> Option<Trial> {
    let named = file.pipeline.0.as_ref()?;
    let Some(pipeline) = project.pipeline(&named.value) else {
        let help = known_names(&named.value, project.pipelines.iter().map(|pipeline| pipeline.name.as_str()));
        reader.error("unknown-pipeline", named.span.clone(), format!("there is no pipeline `{}`", named.value)).help =
            help;
        return None;
    };
    let given = givens(file.given.as_ref(), pipeline, project, reader);
    if let (Some(cassette), Some(_)) = (&file.cassette, &file.given) {
        let message = "a test has given rows or a cassette, not both";
        reader.error("given-and-cassette", cassette.span.clone(), message).help =
            Some("what the cassette answers can be written as [[given]] rows, or as a file of them".to_owned());
    }
    let runs = runs(file, pipeline, project, reader);
    let expectations = file.expect.as_ref().map_or(&[][..], |expect| &expect.value);
    let expectations: Vec<Expectation> =
        expectations.iter().filter_map(|at| expectation(at, runs.len(), pipeline, reader)).collect();
    let proves = runs.iter().any(|run| run.status != RunStatus::Succeeded || run.tells.is_some());
    if file.expect.is_none() && !proves {
        reader.error("no-expectation", named.span.clone(), format!("the test `{name}` expects nothing")).help =
            Some("[[expect]] with table = \"raw.orders\" and rows, file or count".to_owned());
    }
    let env = file.env.as_ref().map_or(&[][..], |env| &env.value.0);
    Some(Trial {
        name,
        file: reader.source.path.to_path_buf(),
        description: file.description.as_ref().map(|at| at.value.clone()),
        pipeline: named.value.clone(),
        vars: vars(file.vars.as_ref()),
        env: env.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect::<BTreeMap<_, _>>(),
        lookback: file.lookback.as_ref().map(|at| at.value.0),
        given,
        runs,
        expectations,
    })
}

fn givens(
    tables: Option<&At<Vec<At<GivenTable>>>>,
    pipeline: &Pipeline,
    project: &Project,
    reader: &mut Reader,
) -> Vec<Given> {
    let tables = tables.map_or(&[][..], |at| &at.value);
    tables.iter().filter_map(|table| given(table, pipeline, project, reader)).collect()
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
            given: None,
        },
        span: file.pipeline.0.as_ref().map_or(0..0, |at| at.span.clone()),
    };
    let tables: Vec<At<RunTable>> = match &file.run {
        None => vec![above.clone()],
        Some(runs) => {
            runs.value.iter().map(|at| At { value: over(&at.value, &above.value), span: at.span.clone() }).collect()
        }
    };
    let mut runs: Vec<TrialRun> = tables.iter().filter_map(|table| run(table, pipeline, project, reader)).collect();
    if let (Some(_), None, [only]) = (&file.given, &file.run, &runs[..]) {
        // A table has to be the same after a second time: what is written twice shows there.
        runs = vec![TrialRun { window_only: true, ..only.clone() }; 2];
    }
    runs
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
        given: own.given.clone(),
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
        given: givens(table.given.as_ref(), pipeline, project, reader),
        window_only: false,
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

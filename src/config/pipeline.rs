//! A file of `pipelines/` as a draft: everything validated but the references to other steps.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::deadline::DeadlineDraft;
use super::diagnostic::{Diagnostic, Source, known_names};
use super::errand::{run, wait};
use super::file::{GuardTable, PipelineFile, ProjectFile, WindowTable};
use super::hook::Hook;
use super::inspect::Inspector;
use super::load::load;
use super::reader::{At, Reader, Span};
use super::scalar::{Count, Entries};
use super::schedule::schedule;
use super::steering::steering;
use super::step::{StepDraft, extract, transform};
use super::value::{ByteSize, Lookback, TierTable};
use crate::model::cost::{Limit, LimitScope};
use crate::model::name::Text;
use crate::model::pipeline::{Guard, Pipeline, Tier, WindowRule};
use crate::time::{Grain, Tz};

/// How many tasks of one run may be under way at once, where nothing else is said.
const MAX_ACTIVE: usize = 8;

/// The connection of the warehouse, where nothing else is said.
const WAREHOUSE: &str = "warehouse";

/// What a pipeline may refer to, and what it is without words of its own.
#[derive(Clone)]
pub struct Surroundings<'a> {
    /// `haul.toml`.
    pub project: &'a ProjectFile,
    /// All of `hooks/` by name.
    pub hooks: &'a BTreeMap<String, Hook>,
    /// All of `sql/` by path.
    pub sql: &'a BTreeMap<String, Arc<str>>,
    /// Looks into templates.
    pub inspector: &'a Inspector<'a>,
    /// The names of the connections, where they are known.
    pub connections: Option<&'a [String]>,
    /// The same, to be looked up.
    pub connection_set: HashSet<&'a str>,
}

impl Surroundings<'_> {
    /// The template of a step: a file of `sql/`, or the text itself.
    pub fn sql_text(&self, sql: &At<String>, reader: &mut Reader) -> Option<Text> {
        let written = sql.value.trim();
        let is_path = Path::new(written).extension().is_some_and(|ending| ending == "sql");
        if !is_path || written.contains(char::is_whitespace) {
            return Some(reader.text(sql));
        }
        let path = written.trim_start_matches("./");
        let found = self.sql.get_key_value(path).or_else(|| self.sql.get_key_value(&format!("sql/{path}")));
        let Some((path, text)) = found else {
            let help = known_names(path, self.sql.keys().map(String::as_str))
                .unwrap_or_else(|| "the files of SQL lie in the folder `sql`".to_owned());
            reader.error("unknown-file", sql.span.clone(), format!("there is no file `{path}`")).help = Some(help);
            return None;
        };
        let source = Source::new(path, text.clone());
        Some(Text::new(text.clone(), source.origin(0)))
    }

    /// Reports a connection that does not exist.
    pub fn check_connection(&self, name: &At<String>, reader: &mut Reader) {
        if let Some(known) = self.connections
            && !self.connection_set.contains(name.value.as_str())
        {
            let help = known_names(&name.value, known.iter().map(String::as_str)).unwrap_or_else(|| {
                "connections are written in connections.toml, or set by `haul connections set`".to_owned()
            });
            reader
                .error("unknown-connection", name.span.clone(), format!("there is no connection `{}`", name.value))
                .help = Some(help);
        }
    }
}

/// A pipeline before its references are resolved.
pub struct PipelineDraft {
    /// The pipeline, without steps.
    pub pipeline: Pipeline,
    /// The file.
    pub source: Arc<Source>,
    /// Whether the file could be read at all; references into one that could not are not blamed.
    pub sound: bool,
    /// The steps in the order of the file.
    pub steps: Vec<StepDraft>,
    /// Where the file names the pipeline that its schedule follows.
    pub follows: Option<At<String>>,
    /// By when its days have to be there.
    pub deadlines: DeadlineDraft,
}

/// Reads `haul.toml`.
pub fn read_project(source: &Arc<Source>) -> (ProjectFile, Vec<Diagnostic>) {
    let mut reader = Reader::new(source.clone());
    let (file, _) = reader.read_file();
    (file, reader.diagnostics)
}

/// Reads a file of `pipelines/`.
pub fn read_pipeline(name: &str, source: &Arc<Source>, around: &Surroundings<'_>) -> (PipelineDraft, Vec<Diagnostic>) {
    let mut reader = Reader::new(source.clone());
    let (file, sound): (PipelineFile, bool) = reader.read_file();
    let zone = file.timezone.as_ref().or(around.project.timezone.as_ref());
    let timezone = zone.map_or(Tz::UTC, |zone| zone.value.0);
    if let Some(warehouse) = &file.warehouse {
        around.check_connection(warehouse, &mut reader);
    } else if around.project.warehouse.is_none() {
        let implied = At { value: WAREHOUSE.to_owned(), span: 0..0 };
        around.check_connection(&implied, &mut reader);
    }
    let active = file.max_active.as_ref().or(around.project.max_active.as_ref());
    let warehouse = file.warehouse.as_ref().or(around.project.warehouse.as_ref());
    let mut vars = vars(around.project.vars.as_ref());
    vars.extend(self::vars(file.vars.as_ref()));
    let pipeline = Pipeline {
        name: name.to_owned(),
        description: file.description.as_ref().map(|at| at.value.clone()),
        file: source.path.to_path_buf(),
        timezone,
        warehouse: warehouse.map_or_else(|| WAREHOUSE.to_owned(), |at| at.value.clone()),
        schedule: file.schedule.as_ref().and_then(|at| schedule(at, timezone, &mut reader)),
        window: file.window.as_ref().map(|at| window(at, &mut reader)),
        vars,
        max_active: active.map_or(MAX_ACTIVE, |at| usize::try_from(at.value.0.get()).unwrap_or(MAX_ACTIVE)),
        max_bytes: max_bytes(file.max_bytes.as_ref(), around.project.max_bytes.as_ref()),
        steering: steering(&file, around.project, &mut reader),
        steps: Vec::new(),
    };
    // What a file with wrong syntax means is not known; its keys and values were looked at all the same.
    let steps = if sound { steps(&file, &pipeline, around, &mut reader) } else { Vec::new() };
    let deadlines = DeadlineDraft {
        pipeline: Some(name.to_owned()),
        source: source.clone(),
        tables: file.deadline.map(|at| at.value).unwrap_or_default(),
    };
    let follows = file.schedule.and_then(|at| at.value.after);
    (PipelineDraft { pipeline, source: source.clone(), sound, steps, follows, deadlines }, reader.diagnostics)
}

fn steps(file: &PipelineFile, pipeline: &Pipeline, around: &Surroundings<'_>, reader: &mut Reader) -> Vec<StepDraft> {
    fn count<T>(tables: Option<&At<Vec<T>>>) -> usize {
        tables.map_or(0, |at| at.value.len())
    }
    let most = count(file.extract.as_ref())
        + count(file.transform.as_ref())
        + count(file.load.as_ref())
        + count(file.wait.as_ref())
        + count(file.run.as_ref());
    // Drafts are large, and a project may have thousands.
    let mut steps: Vec<StepDraft> = Vec::with_capacity(most);
    for table in file.extract.iter().flat_map(|at| &at.value) {
        steps.extend(extract(table, pipeline, around, reader));
    }
    for table in file.transform.iter().flat_map(|at| &at.value) {
        steps.extend(transform(table, pipeline, around, reader));
    }
    for table in file.load.iter().flat_map(|at| &at.value) {
        steps.extend(load(table, pipeline, around, reader));
    }
    for table in file.wait.iter().flat_map(|at| &at.value) {
        steps.extend(wait(table, pipeline, around, reader));
    }
    for table in file.run.iter().flat_map(|at| &at.value) {
        steps.extend(run(table, pipeline, around, reader));
    }
    steps.sort_by_key(|step| step.name.span.start);
    let others = file.wait.is_some() || file.run.is_some();
    if file.extract.is_none() && file.transform.is_none() && file.load.is_none() && !others {
        reader.error("no-steps", 0..0, "this pipeline has no steps").help =
            Some("a step begins with `[[extract]]` or `[[transform]]`".to_owned());
    }
    let mut first: HashMap<String, Span> = HashMap::new();
    for step in &steps {
        let name = &step.name;
        let Some(earlier) = first.get(&name.value) else {
            first.insert(name.value.clone(), name.span.clone());
            continue;
        };
        let fault = Diagnostic::error("duplicate-step", format!("two steps are named `{}`", name.value))
            .at(&reader.source, name.span.clone(), "the second one")
            .at(&reader.source, earlier.clone(), "the first one")
            .help("the names of a pipeline's steps are different");
        reader.diagnostics.push(fault);
    }
    steps
}

/// The limit of a run: the pipeline's own, else the project's.
fn max_bytes(of_pipeline: Option<&At<ByteSize>>, of_project: Option<&At<ByteSize>>) -> Option<Limit> {
    let limit = |at: &At<ByteSize>, scope| Limit { bytes: at.value.0, scope };
    let of_project = of_project.map(|at| limit(at, LimitScope::Project));
    of_pipeline.map(|at| limit(at, LimitScope::Pipeline)).or(of_project)
}

/// The variables of a table.
pub fn vars(entries: Option<&At<Entries<serde_json::Value>>>) -> BTreeMap<String, serde_json::Value> {
    let entries = entries.map_or(&[][..], |entries| &entries.value.0);
    entries.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect()
}

fn window(at: &At<WindowTable>, reader: &mut Reader) -> WindowRule {
    let table = &at.value;
    let grain = table.grain.as_ref().map_or(Grain::Day, |grain| grain.value);
    let every = grain_length(grain);
    let tiers = match &table.lookback {
        None => vec![Tier { every, units: NonZeroU32::MIN }],
        Some(At { value: Lookback::Units(Count(units)), .. }) => vec![Tier { every, units: *units }],
        Some(At { value: Lookback::Tiers(written), span }) => tiers(written, span, grain, reader),
    };
    WindowRule {
        grain,
        tiers,
        begin: table.begin.as_ref().map(|date| date.value.0),
        settle_after: table.settle_after.as_ref().map(|duration| duration.value.0),
        settle_pulls: table.settle_pulls.as_ref().map(|count| count.value.0),
        guard: guard(table.guard.as_ref(), Guard::default()),
    }
}

/// The nominal length of a grain; only tiers are measured by it, never units.
fn grain_length(grain: Grain) -> Duration {
    const HOUR: u64 = 3600;
    Duration::from_secs(match grain {
        Grain::Hour => HOUR,
        Grain::Day => 24 * HOUR,
        Grain::Week => 7 * 24 * HOUR,
        Grain::Month => 28 * 24 * HOUR,
    })
}

fn tiers(written: &[At<TierTable>], span: &Span, grain: Grain, reader: &mut Reader) -> Vec<Tier> {
    let mut tiers: Vec<Tier> = Vec::new();
    for at in written {
        let (Some(every), Some(units)) = (&at.value.every.0, &at.value.units.0) else { continue };
        let tier = Tier { every: every.value.0, units: units.value.0 };
        if let Some(last) = tiers.last() {
            if tier.every <= last.every {
                let message = "a later tier comes round less often than the one before";
                reader.error("bad-tiers", every.span.clone(), message).help = Some(TIERS.to_owned());
            }
            if tier.units <= last.units {
                let message = "a later tier reaches further back than the one before";
                reader.error("bad-tiers", units.span.clone(), message).help = Some(TIERS.to_owned());
            }
        } else if tier.every > grain_length(grain) {
            let message = format!("the first tier comes round at every run: once in a {}", grain_word(grain));
            reader.error("bad-tiers", every.span.clone(), message).help = Some(TIERS.to_owned());
        }
        tiers.push(tier);
    }
    if written.is_empty() {
        reader.error("empty", span.clone(), "a lookback without a tier").help = Some(TIERS.to_owned());
    }
    if tiers.is_empty() {
        tiers.push(Tier { every: grain_length(grain), units: NonZeroU32::MIN });
    }
    tiers
}

const TIERS: &str = "lookback = [{ every = \"1d\", units = 3 }, { every = \"7d\", units = 28 }]";

fn grain_word(grain: Grain) -> &'static str {
    grain.plural().trim_end_matches('s')
}

/// Lays a guard's table over the guard that holds without it.
pub fn guard(table: Option<&At<GuardTable>>, under: Guard) -> Guard {
    let Some(table) = table else { return under };
    Guard {
        max_shrink: table.value.max_shrink.as_ref().map_or(under.max_shrink, |share| share.value.0),
        allow_empty: table.value.allow_empty.as_ref().map_or(under.allow_empty, |allow| allow.value),
    }
}

/// Whether a name may be a step's or a pipeline's: letters, digits, `_` and `-`.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

/// The name of a file without its folder and ending.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

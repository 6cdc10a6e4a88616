//! What a hook or an extract step says of an API, validated, and how a step's words are laid over its hook's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::answer::{AnswerKeys, AnswerParts};
use super::diagnostic::{Diagnostic, Source, known_names};
use super::file::ExtractTable;
use super::hook_file::HookFile;
use super::parameter;
use super::process::{ProcessParts, process_parts};
use super::reader::{At, Reader, Twin as _};
use super::request::{RequestParts, paginate, retry};
use super::scalar::Entries;
use super::value::ColumnType;
use crate::model::hook::{AuthStyle, Paginate, RetryPolicy};
use crate::model::name::Text;
use crate::model::parameter::{Parameter, ParameterValues};
use crate::model::pipeline::{Naming, Nested, TimeFormat};
use crate::model::schema::LogicalType;

/// What one file says of an API; everything may be left to the other.
#[derive(Debug, Clone, Default)]
pub struct ApiParts {
    /// The connection.
    pub connection: Option<String>,
    /// The request.
    pub request: RequestParts,
    /// The pages.
    pub paginate: Option<Paginate>,
    /// Where the rows are.
    pub records: Option<String>,
    /// How answers are written, and what is done with odd ones.
    pub answers: AnswerParts,
    /// How we say who we are.
    pub auth: Option<AuthStyle>,
    /// How often a request is tried again.
    pub retry: Option<RetryPolicy>,
    /// Declared types.
    pub columns: BTreeMap<String, LogicalType>,
    /// How nested values land.
    pub nested: Option<Nested>,
    /// How names become column names.
    pub naming: Option<Naming>,
    /// The member that has a row's own time.
    pub time_column: Option<String>,
    /// How that time is written.
    pub time_format: Option<TimeFormat>,
    /// The program, where the rows are what one prints.
    pub process: ProcessParts,
}

/// A hook, which says what it says for the values of its parameters.
#[derive(Debug)]
pub struct Hook {
    /// The file.
    pub source: Arc<Source>,
    /// Its keys, read with the parameters' own values.
    pub file: HookFile,
    /// What a step may set.
    pub parameters: Vec<Parameter>,
    /// What it says where no step sets anything.
    pub said: Said,
    /// Whether it was taken from elsewhere.
    pub foreign: bool,
}

/// What a hook says for some values of its parameters.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// What holds for all of the API.
    pub parts: ApiParts,
    /// Its parts, each laid over that.
    pub resources: BTreeMap<String, ApiParts>,
    /// The parameters that stand in other places than templates.
    pub used: BTreeSet<String>,
}

macro_rules! api_parts {
    ($table:expr, $reader:expr) => {{
        let (table, reader) = ($table, &mut *$reader);
        ApiParts {
            connection: table.connection.as_ref().map(|at| at.value.clone()),
            request: table
                .request
                .as_ref()
                .map_or_else(RequestParts::default, |at| RequestParts::new(&at.value, reader)),
            paginate: table.paginate.as_ref().and_then(|at| paginate(at, reader)),
            records: table.records.as_ref().map(|at| at.value.0.clone()),
            answers: AnswerParts::new(
                &AnswerKeys {
                    format: table.format.as_ref(),
                    compression: table.compression.as_ref(),
                    members: table.members.as_ref(),
                    csv: table.csv.as_ref(),
                    xml: table.xml.as_ref(),
                    on: table.on.as_ref(),
                    conditional: table.conditional.as_ref(),
                    report: table.report.as_ref(),
                },
                reader,
            ),
            auth: table.auth.as_ref().map(|at| at.value.0.clone()),
            retry: table.retry.as_ref().map(|at| retry(at, reader)),
            columns: columns(table.columns.as_ref()),
            nested: table.nested.as_ref().map(|at| at.value),
            naming: table.naming.as_ref().map(|at| at.value),
            time_column: table.time_column.as_ref().and_then(|at| reader.filled(&at.value, at.span.clone())),
            time_format: table.time_format.as_ref().map(|at| at.value),
            process: process_parts!(table, reader),
        }
    }};
}

impl ApiParts {
    /// What an extract step says.
    pub fn of_step(table: &ExtractTable, reader: &mut Reader) -> Self {
        api_parts!(table, reader)
    }

    /// Lays these parts over those of a hook.
    #[must_use]
    pub fn over(self, hook: &Self) -> Self {
        let mut columns = hook.columns.clone();
        columns.extend(self.columns);
        Self {
            connection: self.connection.or_else(|| hook.connection.clone()),
            request: self.request.over(&hook.request),
            paginate: self.paginate.or_else(|| hook.paginate.clone()),
            records: self.records.or_else(|| hook.records.clone()),
            answers: self.answers.over(&hook.answers),
            auth: self.auth.or_else(|| hook.auth.clone()),
            retry: self.retry.or(hook.retry),
            columns,
            nested: self.nested.or(hook.nested),
            naming: self.naming.or(hook.naming),
            time_column: self.time_column.or_else(|| hook.time_column.clone()),
            time_format: self.time_format.or(hook.time_format),
            process: self.process.over(&hook.process),
        }
    }
}

impl ApiParts {
    /// All templates.
    pub fn texts(&self) -> Vec<Text> {
        self.request.texts().into_iter().chain(self.answers.texts()).collect()
    }
}

impl Said {
    fn of(file: &HookFile, reader: &mut Reader) -> Self {
        let parts: ApiParts = api_parts!(file, reader);
        let resources = file.resources.as_ref().map_or(&[][..], |resources| &resources.value.0);
        let one = |(name, table): &(At<String>, At<super::hook_file::ResourceTable>), reader: &mut Reader| {
            let own: ApiParts = api_parts!(&table.value, reader);
            (name.value.clone(), own.over(&parts))
        };
        let resources = resources.iter().map(|entry| one(entry, reader)).collect();
        Self { parts, resources, used: reader.used.clone() }
    }

    /// The parts of the API that a step means; none when that is unclear, which is reported.
    pub fn resource(&self, named: Option<&At<String>>, hook: &At<String>, reader: &mut Reader) -> Option<&ApiParts> {
        let known = || self.resources.keys().map(String::as_str);
        match named {
            Some(name) => {
                let found = self.resources.get(&name.value);
                if found.is_none() {
                    let message = format!("the hook `{}` has no resource `{}`", hook.value, name.value);
                    let help = known_names(&name.value, known().collect::<Vec<_>>());
                    reader.error("unknown-resource", name.span.clone(), message).help =
                        help.or_else(|| Some("it has no resources at all".to_owned()));
                }
                found
            }
            None if self.resources.is_empty() => Some(&self.parts),
            None => {
                let message = format!("the hook `{}` has several resources", hook.value);
                let first = known().next().unwrap_or_default();
                let all = known().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                reader.error("missing-key", hook.span.clone(), message).help =
                    Some(format!("say which, as in resource = \"{first}\"; there are {all}"));
                None
            }
        }
    }
}

impl Hook {
    /// What the hook says for these values; faults of its file that only they bring about are reported.
    pub fn with(&self, values: &ParameterValues, faults: &mut Vec<Diagnostic>) -> Said {
        let own: ParameterValues =
            self.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.sample())).collect();
        if *values == own {
            return self.said.clone();
        }
        let mut reader = Reader::new(self.source.clone());
        reader.parameters = Some(values.clone());
        let (file, _): (HookFile, bool) = reader.read_file();
        let said = Said::of(&file, &mut reader);
        faults.extend(reader.diagnostics);
        said
    }

    /// The names of its parameters.
    pub fn names(&self) -> Vec<&str> {
        self.parameters.iter().map(|parameter| parameter.name.as_str()).collect()
    }
}

/// Reads a file of `hooks/`.
pub fn read_hook(source: &Arc<Source>) -> (Hook, Vec<Diagnostic>) {
    let mut reader = Reader::new(source.clone());
    // The other keys may have parameters in the place of numbers: those are known first.
    let parameters = toml::de::DeTable::parse(&source.text).map_or_else(
        |_| Vec::new(),
        |tree| {
            let mut quiet = Reader::new(source.clone());
            let file = HookFile::read_table(tree.get_ref(), 0..0, &mut quiet);
            parameter::declared(file.parameters.as_ref(), &mut quiet)
        },
    );
    reader.parameters = Some(parameters.iter().map(|one| (one.name.clone(), one.sample())).collect());
    let (file, _): (HookFile, bool) = reader.read_file();
    parameter::declared(file.parameters.as_ref(), &mut reader);
    let said = Said::of(&file, &mut reader);
    for parts in [&said.parts].into_iter().chain(said.resources.values()) {
        parts.process.check_alone(&mut reader);
    }
    (Hook { source: source.clone(), file, parameters, said, foreign: false }, reader.diagnostics)
}

/// The declared types of columns.
pub fn columns(entries: Option<&At<Entries<ColumnType>>>) -> BTreeMap<String, LogicalType> {
    let entries = entries.map_or(&[][..], |entries| &entries.value.0);
    entries.iter().map(|(name, data_type)| (name.value.clone(), data_type.value.0.clone())).collect()
}

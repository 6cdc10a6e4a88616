//! Steps that write no table: `[[wait]]` and `[[run]]`.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::NaiveTime;
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::quoted;
use super::pipeline::Surroundings;
use super::reader::{At, Read, Reader, Required, Span, twin};
use super::request::{RequestParts, RequestTable, pairs};
use super::scalar::{Count, Entries, Names, Texts};
use super::step::{Reaches, StepDraft, step_name};
use super::value::{JsonPathText, TypedDuration, schema};
use crate::model::errand::{AnswerCondition, Command, Condition, OnTimeout, Until, Wait, ledger_name};
use crate::model::hook::{BodyTemplate, Method, RequestTemplate, RetryPolicy};
use crate::model::layout::Layout;
use crate::model::name::Text;
use crate::model::parameter::ParameterValues;
use crate::model::pipeline::{Action, Extract, Guard, Naming, Nested, Per, Pipeline, Step, Write};
use crate::model::schema::Contract;
use crate::model::source::{ProbeRule, ProcessSource, Source, Speaks, TableRows, TableSource};

/// The pause between two looks, where nothing else is said.
const POLL: Duration = Duration::from_mins(1);

/// How long is waited, where nothing else is said.
const PATIENCE: Duration = Duration::from_hours(24);

/// How long a program may run, where nothing else is said.
const RUNS: Duration = Duration::from_hours(6);

/// The pause before a program is tried again, where nothing else is said.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// A time of the day: `07:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockTime(pub NaiveTime);

impl Read for ClockTime {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let text = match value.get_ref() {
            DeValue::Datetime(written) => written.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => String::new(),
        };
        let time = ["%H:%M", "%H:%M:%S"].iter().find_map(|form| NaiveTime::parse_from_str(&text, form).ok());
        if time.is_none() {
            reader.wrong_type(value, "a time of the day").help = Some("deadline = \"07:00\"".to_owned());
        }
        time.map(Self)
    }
}

schema!(ClockTime, { "type": "string", "examples": ["07:00"] });

twin! {
    /// A step that waits until something is so: an answer, a row, a file, a table, or another pipeline's days.
    pub struct WaitTable {
        /// The step's name, unique in the pipeline.
        pub name: Required<String>,
        /// The connection of what is waited for. Without one, `sql` asks the pipeline's warehouse and `files` are the project's.
        pub connection: Option<At<String>>,
        /// A request to an API.
        pub request: Option<At<RequestTable>>,
        /// The statuses of the answer that is waited for. Default: any from 200 to 299.
        pub status: Option<At<Vec<At<Count>>>>,
        /// What has to be in the answer: a JSONPath.
        pub path: Option<At<JsonPathText>>,
        /// The values there that are waited for, one or a list. Default: any but null and false.
        pub is: Option<At<serde_json::Value>>,
        /// A SELECT: its first value is waited for to be true, a number other than zero, or a text. A template.
        pub sql: Option<At<String>>,
        /// A file, or a pattern of files. A template.
        pub files: Option<At<String>>,
        /// A table of a database, which has to exist and not to be empty. A template.
        pub table: Option<At<String>>,
        /// Another pipeline, whose tables have to have the same days.
        pub pipeline: Option<At<String>>,
        /// How long what was seen has to stay as it is: `"30m"`. For `files`, `table` and `path`.
        pub stable_for: Option<At<TypedDuration>>,
        /// The pause between two looks. Default `"1m"`.
        pub poll: Option<At<TypedDuration>>,
        /// The pause grows up to this, by doubling. Default: it does not grow.
        pub max_poll: Option<At<TypedDuration>>,
        /// How long is waited. Default `"24h"`.
        pub timeout: Option<At<TypedDuration>>,
        /// Until when is waited: a time of the run's logical date, in the pipeline's zone.
        pub deadline: Option<At<ClockTime>>,
        /// What happens then. Default `"fail"`.
        pub on_timeout: Option<At<OnTimeout>>,
        /// Whether it waits once for a run (`"window"`, the default) or once for each unit of its window.
        pub per: Option<At<Per>>,
        /// Steps of this pipeline that it begins after.
        pub after: Option<At<Names>>,
    }
}

twin! {
    /// A step that runs a program for its effect.
    pub struct RunTable {
        /// The step's name, unique in the pipeline.
        pub name: Required<String>,
        /// The program and its arguments: a list, every text a template. One text with `shell = true`.
        pub command: Required<Texts>,
        /// Whether `command` is a text for `sh`. Default false: there is no shell between.
        pub shell: Option<At<bool>>,
        /// A connection whose fields the program gets, in a private file.
        pub connection: Option<At<String>>,
        /// Variables that the program gets. Templates.
        pub env: Option<At<Entries<Texts>>>,
        /// Variables of haul's own environment that the program gets as they are.
        pub pass_env: Option<At<Names>>,
        /// The folder that it works in, relative to the project. Default: the project's.
        pub dir: Option<At<String>>,
        /// How long it may run. Default `"6h"`.
        pub timeout: Option<At<TypedDuration>>,
        /// How often it is tried again after a failure. Default 0.
        pub retries: Option<At<u64>>,
        /// The pause before that; it doubles. Default `"10s"`.
        pub retry_pause: Option<At<TypedDuration>>,
        /// Once for each unit (the default), or once for all that are due.
        pub per: Option<At<Per>>,
        /// The pool, or the pools, that every task takes a slot of, in the place of the pipeline's.
        pub pool: Option<At<Names>>,
        /// Steps of this pipeline that it runs after: for the units that have changed there.
        pub after: Option<At<Names>>,
    }
}

super::scalar::words!(OnTimeout);

/// Reads a wait.
pub fn wait(
    at: &At<WaitTable>,
    pipeline: &Pipeline,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<StepDraft> {
    let table = &at.value;
    let name = step_name(table.name.0.as_ref(), &at.span, reader);
    if let Some(connection) = &table.connection {
        around.check_connection(connection, reader);
    }
    let condition = condition(table, &name, around, reader);
    let until = until(table, reader);
    let poll = table.poll.as_ref().map_or(POLL, |at| at.value.0).max(Duration::from_millis(1));
    let max_poll = table.max_poll.as_ref().map_or(poll, |at| at.value.0);
    if let Some(at) = table.max_poll.as_ref().filter(|at| at.value.0 < poll) {
        reader.error("bad-interval", at.span.clone(), "`max_poll` is shorter than `poll`").help =
            Some("the pause grows from `poll` to `max_poll`".to_owned());
    }
    if let (Some(at), None) = (&table.per, &pipeline.window) {
        reader
            .error("per-without-window", at.span.clone(), "`per` divides a window, but this pipeline has none")
            .help = Some("leave `per` out".to_owned());
    }
    let action = condition.map(|condition| {
        Action::Wait(Box::new(Wait {
            condition,
            per: table.per.as_ref().map_or(Per::Window, |at| at.value),
            poll,
            max_poll: max_poll.max(poll),
            until,
            on_timeout: table.on_timeout.as_ref().map(|at| at.value).unwrap_or_default(),
            stable_for: table.stable_for.as_ref().map(|at| at.value.0),
        }))
    });
    let place = table.pipeline.as_ref().map(|at| at.span.clone());
    draft(name, place, action, table.after.clone(), &at.span, pipeline, reader, table.name.0.is_some())
}

/// Reads a command.
pub fn run(
    at: &At<RunTable>,
    pipeline: &Pipeline,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<StepDraft> {
    let table = &at.value;
    let name = step_name(table.name.0.as_ref(), &at.span, reader);
    if let Some(connection) = &table.connection {
        around.check_connection(connection, reader);
    }
    if let (Some(at), None) = (&table.per, &pipeline.window) {
        reader
            .error("per-without-window", at.span.clone(), "`per` divides a window, but this pipeline has none")
            .help = Some("leave `per` out".to_owned());
    }
    let env = pairs(table.env.as_ref(), reader);
    own_names(table, &env, reader);
    let command = command(table, reader);
    for text in command.iter().flatten().chain(env.iter().map(|(_, text)| text)) {
        around.inspector.inspect(text, &mut reader.diagnostics);
    }
    let action = command.map(|command| {
        Action::Run(Box::new(Command {
            connection: table.connection.as_ref().map(|at| at.value.clone()).unwrap_or_default(),
            program: ProcessSource {
                command,
                env,
                pass_env: table.pass_env.as_ref().map(|at| at.value.0.clone()).unwrap_or_default(),
                dir: table.dir.as_ref().map(|at| at.value.clone()),
                timeout: table.timeout.as_ref().map_or(RUNS, |at| at.value.0),
                speaks: Speaks::JsonLines,
            },
            per: table.per.as_ref().map(|at| at.value).unwrap_or_default(),
            retries: table.retries.as_ref().map_or(0, |at| u32::try_from(at.value).unwrap_or(u32::MAX)),
            retry_pause: table.retry_pause.as_ref().map_or(RETRY_PAUSE, |at| at.value.0),
            reads: Vec::new(),
        }))
    });
    draft(name, None, action, table.after.clone(), &at.span, pipeline, reader, table.name.0.is_some())
}

#[expect(clippy::too_many_arguments, reason = "the parts of one step; a struct would only rename them")]
fn draft(
    name: At<String>,
    place: Option<Span>,
    action: Option<Action>,
    after: Option<At<Names>>,
    span: &Span,
    pipeline: &Pipeline,
    reader: &Reader,
    named: bool,
) -> Option<StepDraft> {
    let step = action.map(|action| Step {
        into: ledger_name(action.word(), &pipeline.name, &name.value),
        name: name.value.clone(),
        origin: reader.origin(span),
        write: Write::Replace,
        keys: Vec::new(),
        layout: Layout::default(),
        checks: Vec::new(),
        guard: Guard::OPEN,
        after: Vec::new(),
        action,
    });
    let sql = place.unwrap_or_else(|| name.span.clone());
    named.then_some(StepDraft {
        into: name.span.clone(),
        name,
        step,
        inspection: None,
        sql,
        reach: Reaches::default(),
        from: None,
        after,
    })
}

fn command(table: &RunTable, reader: &mut Reader) -> Option<Vec<Text>> {
    let at = table.command.0.as_ref()?;
    let is_list = reader.source.text[at.span.clone()].starts_with('[');
    let shell = table.shell.as_ref().is_some_and(|shell| shell.value);
    let words: Vec<Text> = at.value.0.iter().map(|text| reader.text(text)).collect();
    match (shell, is_list) {
        (false, true) if !words.is_empty() => Some(words),
        (true, false) => {
            let origin = reader.origin(&at.span);
            let mut command = vec![Text::new("sh", origin.clone()), Text::new("-c", origin)];
            command.extend(words);
            Some(command)
        }
        (true, true) => {
            reader.error("bad-command", at.span.clone(), "with `shell`, the command is one text").help =
                Some("command = \"python x.py \\\"$HAUL_DS\\\" | tee out.txt\"".to_owned());
            None
        }
        (false, _) => {
            reader
                .error("bad-command", at.span.clone(), "the command is a list of the program and its arguments")
                .help = Some("command = [\"python\", \"x.py\", \"{{ ds }}\"]; or shell = true".to_owned());
            None
        }
    }
}

/// Reports variables that haul sets by itself, and those with credentials.
fn own_names(table: &RunTable, env: &[(String, Text)], reader: &mut Reader) {
    if let (Some(at), Some((name, _))) = (&table.env, env.iter().find(|(name, _)| name.starts_with("HAUL_"))) {
        let message = format!("`{name}` cannot be set: haul's own variables begin with HAUL_");
        reader.error("bad-name", at.span.clone(), message);
    }
    let secret = ["HAUL_CONN_", "AIRFLOW_CONN_", "HAUL_KEY", "HAUL_PASS", "HAUL_SECRET"];
    let names = table.pass_env.iter().flat_map(|at| at.value.0.iter().map(move |name| (at, name)));
    for (at, name) in names.filter(|(_, name)| secret.iter().any(|word| name.starts_with(word))) {
        let message = format!("`{name}` has credentials of haul, which a program does not get");
        reader.error("bad-name", at.span.clone(), message).help =
            Some("connection = \"…\" gives it the fields of one connection, in a private file".to_owned());
    }
}

fn until(table: &WaitTable, reader: &mut Reader) -> Until {
    match (&table.timeout, &table.deadline) {
        (Some(_), Some(deadline)) => {
            let message = "a wait ends after a `timeout` or at a `deadline`, not by both";
            reader.error("foreign-key", deadline.span.clone(), message).help =
                Some("leave one of the two out".to_owned());
            Until::Deadline(deadline.value.0)
        }
        (None, Some(deadline)) => Until::Deadline(deadline.value.0),
        (timeout, None) => Until::Timeout(timeout.as_ref().map_or(PATIENCE, |at| at.value.0)),
    }
}

/// The keys that say what is waited for.
const KINDS: [&str; 5] = ["request", "sql", "files", "table", "pipeline"];

fn condition(
    table: &WaitTable,
    name: &At<String>,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<Condition> {
    let spans: [Option<&Span>; 5] = [
        table.request.as_ref().map(|at| &at.span),
        table.sql.as_ref().map(|at| &at.span),
        table.files.as_ref().map(|at| &at.span),
        table.table.as_ref().map(|at| &at.span),
        table.pipeline.as_ref().map(|at| &at.span),
    ];
    let mut given = KINDS.into_iter().zip(spans).filter_map(|(kind, span)| Some((kind, span?.clone())));
    let Some((kind, _)) = given.next() else {
        let message = format!("`{}` does not say what it waits for", name.value);
        reader.error("missing-key", name.span.clone(), message).help = Some(format!("one of {}", quoted(&KINDS)));
        return None;
    };
    for (other, span) in given {
        let message = format!("a wait waits for one thing: `{kind}` is given, and `{other}`");
        reader.error("foreign-key", span, message).help =
            Some("a step can come after several waits: after = [\"one\", \"other\"]".to_owned());
    }
    foreign_keys(table, kind, reader);
    let connection = table.connection.as_ref().map(|at| at.value.clone());
    let needed = |reader: &mut Reader| {
        if table.connection.is_none() {
            let message = format!("`{}` has no connection", name.value);
            reader.error("missing-key", name.span.clone(), message).help = Some("connection = \"…\"".to_owned());
        }
        table.connection.as_ref().map(|at| at.value.clone())
    };
    let template = |text: Text, reader: &mut Reader| {
        around.inspector.inspect(&text, &mut reader.diagnostics);
        text
    };
    if let Some(request) = &table.request {
        let connection = needed(reader)?;
        return Some(Condition::Answer(Box::new(answer(table, request, connection, name, around, reader))));
    }
    if let Some(sql) = &table.sql {
        let sql = around.sql_text(sql, reader)?;
        return Some(Condition::Query { connection, sql: template(sql, reader) });
    }
    if let Some(files) = &table.files {
        let pattern = reader.text(files);
        return Some(Condition::Files { connection, pattern: template(pattern, reader) });
    }
    if let Some(at) = &table.table {
        let text = reader.text(at);
        let text = template(text, reader);
        return Some(Condition::Table(Box::new(of_table(needed(reader)?, text))));
    }
    table.pipeline.as_ref().map(|at| Condition::Pipeline(at.value.clone()))
}

fn answer(
    table: &WaitTable,
    request: &At<RequestTable>,
    connection: String,
    name: &At<String>,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> AnswerCondition {
    let parts = RequestParts::new(&request.value, reader);
    let request = RequestTemplate {
        method: parts.method.unwrap_or(Method::Get),
        path: parts.path.unwrap_or_else(|| Text::new("", reader.origin(&name.span))),
        params: parts.params,
        headers: parts.headers,
        body: parts.body,
    };
    let texts = request.params.iter().chain(&request.headers).map(|(_, text)| text);
    for text in texts.chain([&request.path]) {
        around.inspector.inspect(text, &mut reader.diagnostics);
    }
    if let Some(BodyTemplate::Text { text, .. }) = &request.body {
        around.inspector.inspect(text, &mut reader.diagnostics);
    }
    let status = table.status.iter().flat_map(|at| &at.value);
    let status = status.filter_map(|at| {
        let status = u16::try_from(at.value.0.get()).ok().filter(|status| (100..600).contains(status));
        if status.is_none() {
            reader.error("out-of-range", at.span.clone(), "a status lies between 100 and 599");
        }
        status
    });
    let status = status.collect();
    let is = match table.is.as_ref().map(|at| at.value.clone()) {
        None => Vec::new(),
        Some(serde_json::Value::Array(values)) => values,
        Some(value) => vec![value],
    };
    AnswerCondition { connection, request, status, path: table.path.as_ref().map(|at| at.value.0.clone()), is }
}

/// What is asked of a database to see whether a table is there.
fn of_table(connection: String, name: Text) -> Extract {
    Extract {
        connection,
        hook: None,
        foreign: false,
        params: ParameterValues::new(),
        source: Source::Table(Box::new(TableSource {
            rows: TableRows::Table { name, sharded: true, intraday: None },
            changed_column: None,
            probe: ProbeRule::Count,
            retry: RetryPolicy::default(),
            max_bytes: None,
        })),
        download: None,
        per: Per::Window,
        time: None,
        time_zone: None,
        columns: BTreeMap::new(),
        contract: Contract::default(),
        nested: Nested::default(),
        naming: Naming::default(),
        landing: None,
    }
}

/// Reports keys that say nothing about waits of this kind.
fn foreign_keys(table: &WaitTable, kind: &str, reader: &mut Reader) {
    let keys: [(&str, Option<Span>, &[&str]); 5] = [
        ("status", table.status.as_ref().map(|at| at.span.clone()), &["request"]),
        ("path", table.path.as_ref().map(|at| at.span.clone()), &["request"]),
        ("is", table.is.as_ref().map(|at| at.span.clone()), &["request"]),
        ("connection", table.connection.as_ref().map(|at| at.span.clone()), &["request", "sql", "files", "table"]),
        ("stable_for", table.stable_for.as_ref().map(|at| at.span.clone()), &["request", "sql", "files", "table"]),
    ];
    for (key, span, kinds) in keys {
        if let Some(span) = span.filter(|_| !kinds.contains(&kind)) {
            reader.error("foreign-key", span, format!("`{key}` says nothing about a wait for `{kind}`")).help =
                Some(format!("it belongs to {}", quoted(kinds)));
        }
    }
    if let (Some(at), None) = (&table.is, &table.path) {
        reader.error("missing-key", at.span.clone(), "`is` means nothing without a `path`").help =
            Some("path = \"$.state\"".to_owned());
    }
}

//! The keys of an extract that runs a program: what hook and step say of it, and which of them fit together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::body::strings_of;
use super::diagnostic::quoted;
use super::file::{ProtocolWord, SourceWord};
use super::reader::{At, Reader, Span};
use crate::model::name::Text;
use crate::model::pipeline::{Pipeline, Write};
use crate::model::source::{ProcessSource, ReplicationMethod, Speaks, TapSource};

/// How long a program may run, where nobody says.
const TIMEOUT: Duration = Duration::from_hours(6);

/// The argument before a catalog's file, where nobody says.
const CATALOG: &str = "--catalog";

/// What one file says of a program; a step's and its hook's are laid over each other.
#[derive(Debug, Clone, Default)]
pub struct ProcessParts {
    /// The kind of source, where it is named.
    pub kind: Option<At<SourceWord>>,
    /// The program and its arguments.
    pub command: Option<Vec<Text>>,
    /// Further arguments.
    pub args: Option<Vec<Text>>,
    /// Variables.
    pub env: Vec<(String, Text)>,
    /// Variables that are passed on.
    pub pass_env: Option<Vec<String>>,
    /// The folder.
    pub dir: Option<String>,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// What it prints.
    pub protocol: Option<ProtocolWord>,
    /// A tap's settings, as JSON by name.
    pub config: BTreeMap<String, Text>,
    /// A tap's stream.
    pub stream: Option<String>,
    /// How the stream is replicated.
    pub replication_method: Option<At<ReplicationMethod>>,
    /// By which member.
    pub replication_key: Option<At<String>>,
    /// The catalog's file.
    pub catalog: Option<String>,
    /// Whether the tap is asked for its catalog.
    pub discover: Option<bool>,
    /// The argument before the catalog's file.
    pub catalog_argument: Option<String>,
    /// The keys that only a program has, as they stand in this file.
    pub own_keys: Vec<(&'static str, Span)>,
    /// The keys that only a Singer tap has, as they stand in this file.
    pub tap_keys: Vec<(&'static str, Span)>,
    /// The keys that only an API has, as they stand in this file.
    pub api_keys: Vec<(&'static str, Span)>,
}

/// Reads the keys of a program from a table that has them beside others.
macro_rules! process_parts {
    ($table:expr, $reader:expr) => {{
        use $crate::config::process::{list, place, settings};
        let table = $table;
        ProcessParts {
            kind: table.r#type.clone(),
            command: table.command.as_ref().map(|at| list(at, $reader)),
            args: table.args.as_ref().map(|at| list(at, $reader)),
            env: $crate::config::request::pairs(table.env.as_ref(), $reader),
            pass_env: table.pass_env.as_ref().map(|at| at.value.0.clone()),
            dir: table.dir.as_ref().map(|at| at.value.clone()),
            timeout: table.timeout.as_ref().map(|at| at.value.0),
            protocol: table.protocol.as_ref().map(|at| at.value),
            config: settings(table.config.as_ref(), $reader),
            stream: table.stream.as_ref().and_then(|at| $reader.filled(&at.value, at.span.clone())),
            replication_method: table.replication_method.clone(),
            replication_key: table.replication_key.clone(),
            catalog: table.catalog.as_ref().map(|at| at.value.clone()),
            discover: table.discover.as_ref().map(|at| at.value),
            catalog_argument: table.catalog_argument.as_ref().map(|at| at.value.clone()),
            own_keys: [
                place("command", &table.command),
                place("args", &table.args),
                place("env", &table.env),
                place("pass_env", &table.pass_env),
                place("dir", &table.dir),
                place("timeout", &table.timeout),
                place("protocol", &table.protocol),
            ]
            .into_iter()
            .flatten()
            .collect(),
            tap_keys: [
                place("config", &table.config),
                place("stream", &table.stream),
                place("replication_method", &table.replication_method),
                place("replication_key", &table.replication_key),
                place("catalog", &table.catalog),
                place("discover", &table.discover),
                place("catalog_argument", &table.catalog_argument),
            ]
            .into_iter()
            .flatten()
            .collect(),
            api_keys: [
                place("request", &table.request),
                place("paginate", &table.paginate),
                place("records", &table.records),
                place("auth", &table.auth),
                place("retry", &table.retry),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    }};
}
pub(super) use process_parts;

/// The name and the place of a key that is there.
pub fn place<T>(key: &'static str, at: &Option<At<T>>) -> Option<(&'static str, Span)> {
    at.as_ref().map(|at| (key, at.span.clone()))
}

/// A list of templates.
pub fn list(at: &At<Vec<At<String>>>, reader: &Reader) -> Vec<Text> {
    at.value.iter().map(|text| reader.text(text)).collect()
}

/// A tap's settings, as JSON whose strings are templates.
pub fn settings(
    entries: Option<&At<super::scalar::Entries<serde_json::Value>>>,
    reader: &Reader,
) -> BTreeMap<String, Text> {
    let entries = entries.map_or(&[][..], |entries| &entries.value.0);
    let text = |value: &At<serde_json::Value>| Text::new(value.value.to_string(), reader.origin(&value.span));
    entries.iter().map(|(name, value)| (name.value.clone(), text(value))).collect()
}

impl ProcessParts {
    /// Lays these parts over those of a hook.
    #[must_use]
    pub fn over(self, hook: &Self) -> Self {
        let mut env: Vec<_> =
            hook.env.iter().filter(|(name, _)| !self.env.iter().any(|(own, _)| own == name)).cloned().collect();
        env.extend(self.env);
        let mut config = hook.config.clone();
        config.extend(self.config);
        Self {
            kind: self.kind.or_else(|| hook.kind.clone()),
            command: self.command.or_else(|| hook.command.clone()),
            args: self.args.or_else(|| hook.args.clone()),
            env,
            pass_env: self.pass_env.or_else(|| hook.pass_env.clone()),
            dir: self.dir.or_else(|| hook.dir.clone()),
            timeout: self.timeout.or(hook.timeout),
            protocol: self.protocol.or(hook.protocol),
            config,
            stream: self.stream.or_else(|| hook.stream.clone()),
            replication_method: self.replication_method.or_else(|| hook.replication_method.clone()),
            replication_key: self.replication_key.or_else(|| hook.replication_key.clone()),
            catalog: self.catalog.or_else(|| hook.catalog.clone()),
            discover: self.discover.or(hook.discover),
            catalog_argument: self.catalog_argument.or_else(|| hook.catalog_argument.clone()),
            // What is wrong with a hook's keys is told at the hook.
            own_keys: self.own_keys,
            tap_keys: self.tap_keys,
            api_keys: self.api_keys,
        }
    }

    /// Whether hook and step together describe a program.
    pub fn is_process(&self) -> bool {
        match &self.kind {
            Some(kind) => kind.value == SourceWord::Process,
            None => self.command.is_some(),
        }
    }

    fn is_tap(&self) -> bool {
        self.protocol == Some(ProtocolWord::Singer)
    }

    /// Whether the tap is asked for what is new only.
    fn is_incremental(&self) -> bool {
        match &self.replication_method {
            Some(method) => method.value != ReplicationMethod::FullTable,
            None => self.replication_key.is_some(),
        }
    }

    /// Whether a step that does not say how it writes merges: a tap that tells only what is new.
    pub fn merges(&self, pipeline: &Pipeline) -> bool {
        self.is_process() && self.is_tap() && self.is_incremental() && pipeline.window.is_none()
    }

    /// Whether the source tells which members identify a row, so that nobody has to.
    pub fn tells_keys(&self) -> bool {
        self.is_process() && self.is_tap()
    }

    /// Whether the tap gets its state back: where each run's rows come on top of those of the runs before.
    pub fn keeps_state(&self, write: &Write, pipeline: &Pipeline) -> bool {
        self.tells_keys() && matches!(write, Write::Merge { .. }) && pipeline.window.is_none()
    }

    /// All templates; of settings their strings.
    pub fn texts(&self) -> Vec<Text> {
        let lists = self.command.iter().chain(&self.args).flatten();
        let mut texts: Vec<Text> = lists.chain(self.env.iter().map(|(_, text)| text)).cloned().collect();
        for setting in self.config.values() {
            if let Ok(value) = serde_json::from_str(&setting.text) {
                strings_of(&value, &mut |string| texts.push(Text::new(string, setting.origin.clone())));
            }
        }
        texts
    }

    /// Reports the keys of a hook's file that do not fit together, whatever a step adds.
    pub fn check_alone(&self, reader: &mut Reader) {
        if self.is_process() || self.kind.is_some() {
            self.check_keys(false, reader);
            self.check_names(reader);
        }
    }

    /// Reports a hook of others that takes of haul's environment; that it runs a program was agreed to when it was added.
    pub fn check_consent(&self, hook: &At<String>, reader: &mut Reader) {
        if self.pass_env.is_some() {
            let message = format!("the hook `{}` of others passes variables of haul's environment on", hook.value);
            reader.error("foreign-program", hook.span.clone(), message).help =
                Some("`pass_env` stands in the step, not in a hook of others".to_owned());
        }
    }

    /// Reports the keys of this file that do not fit what hook and step together describe.
    fn check_keys(&self, of_step: bool, reader: &mut Reader) {
        if !self.is_process() {
            // How long a task may take is said of any step, and of no hook.
            let own = self.own_keys.iter().filter(|(key, _)| !of_step || *key != "timeout");
            for (key, span) in own.chain(&self.tap_keys) {
                let message = format!("`{key}` belongs to a program, and this asks an API");
                reader.error("foreign-key", span.clone(), message).help =
                    Some("type = \"process\" and command = [\"…\"] run a program".to_owned());
            }
            return;
        }
        for (key, span) in &self.api_keys {
            let message = format!("`{key}` is how an API is asked, and this runs a program");
            reader.error("foreign-key", span.clone(), message).help = Some(
                "a program gets its unit by variables such as HAUL_DS, and by templates in `command`, `args` and `env`"
                    .to_owned(),
            );
        }
        for (key, span) in self.tap_keys.iter().filter(|_| !self.is_tap()) {
            let message = format!("`{key}` belongs to a Singer tap, and this program prints its rows");
            reader.error("foreign-key", span.clone(), message).help = Some("protocol = \"singer\"".to_owned());
        }
    }

    /// The program that hook and step describe together; none when that is wrong, which is reported.
    pub fn source(
        &self,
        name: &At<String>,
        write: &Write,
        pipeline: &Pipeline,
        reader: &mut Reader,
    ) -> Option<ProcessSource> {
        self.check_keys(true, reader);
        if !self.is_process() {
            return None;
        }
        let Some(command) = self.command.as_ref().filter(|command| !command.is_empty()) else {
            let message = format!("`{}` runs a program, but does not say which", name.value);
            reader.error("missing-key", name.span.clone(), message).help =
                Some("command = [\"tap-github\"]".to_owned());
            return None;
        };
        self.check_names(reader);
        let speaks = if self.is_tap() { self.tap(name, write, pipeline, reader) } else { Speaks::JsonLines };
        Some(ProcessSource {
            command: command.iter().chain(self.args.iter().flatten()).cloned().collect(),
            env: self.env.clone(),
            pass_env: self.pass_env.clone().unwrap_or_default(),
            dir: self.dir.clone(),
            timeout: self.timeout.unwrap_or(TIMEOUT),
            speaks,
        })
    }

    /// Reports variables that haul sets by itself, and those with credentials.
    fn check_names(&self, reader: &mut Reader) {
        let spans: BTreeMap<&str, &Span> = self.own_keys.iter().map(|(key, span)| (*key, span)).collect();
        for (name, _) in &self.env {
            if let Some(span) = spans.get("env").filter(|_| name.starts_with("HAUL_")) {
                let message = format!("`{name}` cannot be set: haul's own variables begin with HAUL_");
                reader.error("bad-name", (*span).clone(), message);
            }
        }
        for name in self.pass_env.iter().flatten() {
            let secret = ["HAUL_CONN_", "AIRFLOW_CONN_", "HAUL_KEY", "HAUL_PASS", "HAUL_SECRET"];
            if let Some(span) = spans.get("pass_env").filter(|_| secret.iter().any(|word| name.starts_with(word))) {
                let message = format!("`{name}` has credentials of haul, which a program does not get");
                reader.error("bad-name", (*span).clone(), message).help =
                    Some("connection = \"…\" gives it the fields of one connection, in a private file".to_owned());
            }
        }
    }

    fn tap(&self, name: &At<String>, write: &Write, pipeline: &Pipeline, reader: &mut Reader) -> Speaks {
        if self.is_incremental() && *write == Write::Append {
            let message = "a tap may tell its last rows again, and appended they would be there twice";
            reader.error("append-with-state", name.span.clone(), message).help =
                Some("write = \"merge\"; or replication_method = \"full_table\" and write = \"full\"".to_owned());
        }
        if let (Some(false), Some(_)) = (self.discover, &self.replication_key)
            && self.catalog.is_none()
        {
            let message = "`replication_key` is told to a tap by its catalog, and this one gets none";
            reader.error("missing-key", name.span.clone(), message).help = Some(format!(
                "leave `discover` out, or name a file by `catalog`; keys are {}",
                quoted(&["catalog", "discover"])
            ));
        }
        Speaks::Singer(TapSource {
            config: self.config.clone(),
            stream: self.stream.clone().unwrap_or_else(|| name.value.clone()),
            replication_method: self.replication_method.as_ref().map(|at| at.value),
            replication_key: self.replication_key.as_ref().map(|at| at.value.clone()),
            catalog: self.catalog.clone(),
            discovers: self.discover.unwrap_or(true),
            catalog_argument: self.catalog_argument.clone().unwrap_or_else(|| CATALOG.to_owned()),
            keeps_state: self.keeps_state(write, pipeline),
        })
    }
}

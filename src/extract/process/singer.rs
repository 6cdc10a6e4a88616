//! Singer taps: <https://github.com/singer-io/getting-started/blob/master/docs/SPEC.md>.
//!
//! A tap gets its settings, a catalog and a state as files, and prints one message a line: SCHEMA, RECORD, STATE and
//! ACTIVATE_VERSION. The last STATE is told to the sink, which gives it back to the next run once the rows are loaded.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::catalog::{Catalogs, Names, Replication, select};
use super::private::PrivateFolder;
use super::program::Running;
use super::rows::{Pages, Take, no_row, shown};
use super::{ProcessPull, json, object, read_all, schema};
use crate::error::{Error, Kind, Result};
use crate::extract::{Pulled, Sink};

/// What a tap is asked for.
pub struct Tap {
    /// Its settings, without those of the connection.
    pub config: Map<String, Value>,
    /// The stream whose records are the rows.
    pub stream: String,
    /// How the stream is replicated, where the step says so.
    pub replication: Replication,
    /// The catalog that is used in place of a discovered one.
    pub catalog: Option<Value>,
    /// Whether the tap is asked for its catalog.
    pub discovers: bool,
    /// The argument before the catalog's file: `--catalog`, or `--properties` of old taps.
    pub catalog_argument: String,
    /// The state that an earlier run's tap told, as JSON; only where this one's is kept as well.
    pub state: Option<String>,
    /// Catalogs that were discovered before.
    pub catalogs: Catalogs,
}

impl Tap {
    pub(super) fn identity(&self) -> String {
        format!("{:?} {} {:?} {:?} {:?}", self.config, self.stream, self.replication, self.catalog, self.state)
    }

    pub(super) fn lines(&self, lines: &mut Vec<String>) {
        if let Some(first) = lines.first_mut() {
            first.push_str(" --config <a private file>");
            if self.discovers || self.catalog.is_some() {
                first.push_str(&format!(" {} <a private file>", self.catalog_argument));
            }
        }
        let config = serde_json::to_string_pretty(&self.config).unwrap_or_default();
        lines.extend(config.lines().map(|line| format!("  {line}")));
        lines.push(format!("  the records of the stream {}", self.stream));
    }

    /// Runs the tap and brings the records of its stream.
    pub(super) async fn pull(
        &self,
        process: &ProcessPull,
        sink: &Arc<dyn Sink>,
        cancel: &CancellationToken,
    ) -> Result<Pulled> {
        let folder = PrivateFolder::make(&process.state_dir)?;
        let mut config = process.connection.as_ref().map(|(_, fields)| object(fields)).transpose()?.unwrap_or_default();
        config.extend(self.config.clone());
        let file = |name: &str, value: &[u8]| Ok::<_, Error>(folder.write(name, value)?.to_string_lossy().into_owned());
        let mut arguments = vec!["--config".to_owned(), file("config.json", &json(&Value::Object(config))?)?];
        let found = match &self.catalog {
            Some(catalog) => Some(catalog.clone()),
            None if self.discovers => {
                self.catalogs
                    .of(&self.discovery(process), || discover(process, &arguments, &folder, sink, cancel))
                    .await?
            }
            None => None,
        };
        let mut names = Names::of(&self.stream);
        if let Some(mut catalog) = found {
            names = select(&mut catalog, &self.stream, &self.replication)?;
            arguments.extend([self.catalog_argument.clone(), file("catalog.json", &json(&catalog)?)?]);
        }
        if let Some(state) = &self.state {
            arguments.extend(["--state".to_owned(), file("state.json", state.as_bytes())?]);
        }
        let mut pages = Pages::new(Arc::clone(sink));
        let running = Running::start(&process.program, &arguments, &[], &folder, sink, cancel).await?;
        let mut messages = Messages::new(&self.stream, names, sink, &mut pages);
        read_all(running, &mut messages).await?;
        messages.end()?;
        pages.end().await?;
        pages.pulled.requests = 1;
        Ok(pages.pulled)
    }

    /// What decides which catalog a tap tells.
    fn discovery(&self, process: &ProcessPull) -> String {
        let connection = process.connection.as_ref().map(|(name, _)| name);
        format!("{:?} {:?} {connection:?}", process.program.command, self.config)
    }
}

/// Asks a tap for its catalog; none where it has no `--discover`.
async fn discover(
    process: &ProcessPull,
    config: &[String],
    folder: &PrivateFolder,
    sink: &Arc<dyn Sink>,
    cancel: &CancellationToken,
) -> Result<Option<Value>> {
    let mut arguments = config.to_vec();
    arguments.push("--discover".to_owned());
    let running = Running::start(&process.program, &arguments, &[], folder, sink, cancel).await?;
    let doing = || format!("asking `{}` for its catalog by --discover", process.program.name);
    let mut whole = Whole::default();
    if let Err(error) = read_all(running, &mut whole).await {
        let said = error.details().unwrap_or_default();
        // What argparse and click say of an argument that they do not know.
        let unknown = said.contains("--discover")
            && (said.contains("unrecognized arguments") || said.to_lowercase().contains("no such option"));
        return if unknown { Ok(None) } else { Err(error.while_doing(doing())) };
    }
    let catalog: Option<Value> = serde_json::from_slice(&whole.0).ok();
    match catalog.filter(|catalog| catalog.get("streams").is_some_and(Value::is_array)) {
        Some(catalog) => Ok(Some(catalog)),
        None => Err(Error::new(Kind::Source, doing())
            .because(format!("what it printed is no catalog: `{}`", shown(&whole.0)))
            .hint("a tap without a catalog is run by `discover = false`")),
    }
}

/// Everything that a tap prints, as one text.
#[derive(Default)]
struct Whole(Vec<u8>);

impl Take for Whole {
    const IS_JSON: bool = false;

    async fn line(&mut self, _number: u64, line: &[u8]) -> Result<()> {
        self.0.extend_from_slice(line);
        self.0.push(b'\n');
        if self.0.len() > 256 << 20 {
            return Err(Error::new(Kind::Source, "the catalog is longer than 256 MiB"));
        }
        Ok(())
    }
}

/// One message of a tap. Values stay as they are written.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    record: Option<&'a RawValue>,
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
    #[serde(default)]
    key_properties: Option<Vec<String>>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

/// Takes messages as they come.
struct Messages<'a> {
    stream: &'a str,
    names: Names,
    sink: &'a Arc<dyn Sink>,
    pages: &'a mut Pages,
    described: bool,
    others: BTreeSet<String>,
    state: Option<String>,
}

impl<'a> Messages<'a> {
    fn new(stream: &'a str, names: Names, sink: &'a Arc<dyn Sink>, pages: &'a mut Pages) -> Self {
        Self { stream, names, sink, pages, described: false, others: BTreeSet::new(), state: None }
    }

    /// Tells the last state, once the tap has ended well.
    fn end(self) -> Result<()> {
        if !self.described && !self.others.is_empty() {
            let others: Vec<&str> = self.others.iter().map(String::as_str).collect();
            return Err(Error::new(Kind::Source, format!("the tap told nothing of the stream `{}`", self.stream))
                .hint(format!("it told of {}", others.join(", "))));
        }
        match self.state {
            Some(state) => self.sink.bookmark(&state),
            None => Ok(()),
        }
    }

    /// Whether a message is about our stream.
    fn is_ours(&mut self, message: &Message<'_>) -> bool {
        let stream = message.stream.as_deref().unwrap_or_default();
        let ours = self.names.is_ours(stream);
        if !ours && self.others.len() < 50 && !self.others.contains(stream) {
            self.others.insert(stream.to_owned());
        }
        ours
    }

    fn describe(&mut self, number: u64, message: &Message<'_>) -> Result<()> {
        // A tap may tell its schema again and again; what is new in a later one is seen in the rows.
        if !self.is_ours(message) || self.described {
            return Ok(());
        }
        self.described = true;
        let schema: Value = message.schema.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        if !schema.is_object() {
            let doing = format!("line {number} of its output is a SCHEMA without a schema");
            return Err(Error::new(Kind::Source, doing));
        }
        self.sink.columns(schema::columns(&schema))?;
        self.sink.keys(message.key_properties.clone().unwrap_or_default())
    }
}

impl Take for Messages<'_> {
    async fn line(&mut self, number: u64, line: &[u8]) -> Result<()> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        let Ok(message) = serde_json::from_slice::<Message<'_>>(line) else {
            return Err(no_row(
                number,
                line,
                "a tap prints one message of Singer a line, and whatever else it says on stderr",
            )
            .while_doing("reading Singer's messages"));
        };
        match &*message.kind {
            "RECORD" => {
                let Some(record) = message.record.filter(|record| record.get().starts_with('{')) else {
                    let doing = format!("line {number} of its output is a RECORD without a record");
                    return Err(Error::new(Kind::Source, doing));
                };
                if self.is_ours(&message) { self.pages.row(record.get().as_bytes()).await } else { Ok(()) }
            }
            "SCHEMA" => self.describe(number, &message),
            "STATE" => {
                self.state = message.value.map(|value| value.get().to_owned());
                Ok(())
            }
            // Rows of older versions are to be forgotten: a step that writes all of its table has no others.
            "ACTIVATE_VERSION" => Ok(()),
            "BATCH" => {
                Err(Error::new(Kind::Source, "the tap hands its rows over in files (BATCH), which haul does not read")
                    .hint("leave `batch_config` out of its settings: then it prints them"))
            }
            other => Err(Error::new(
                Kind::Source,
                format!("line {number} of its output is a message of the unknown type `{other}`"),
            )),
        }
    }
}

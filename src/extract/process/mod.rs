//! Extraction from programs: any that prints JSON Lines, and the taps of Singer.
//!
//! A program is started once for a unit or a window and cannot go on in its middle: what it printed before a crash is
//! thrown away. Its secrets are in files of a private folder, its stderr is the task's log, and nothing that it started
//! survives it, or haul.

mod catalog;
mod command;
mod private;
mod program;
mod rows;
mod schema;
mod singer;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_128;

pub use catalog::{Catalogs, Replication};
pub use command::Errand;
pub use private::sweep as sweep_private_files;
pub use program::{GRACE, Program};
pub use singer::Tap;
pub use watch::Watch;

use super::{Failure, Pull, Pulled, Sink};
use crate::error::{Context, Error, Kind, Result};
use crate::model::page::Progress;
use crate::secret::{ExposeSecret, SecretString};
use private::PrivateFolder;
use program::Running;
use rows::{JsonLines, Lines, Pages, Take};

/// A program whose output is rows.
pub struct ProcessPull {
    /// The program.
    pub program: Program,
    /// What it speaks.
    pub speaks: Speaks,
    /// The connection whose fields it gets: its name, and the fields as a JSON object.
    pub connection: Option<(String, SecretString)>,
    /// The project's state folder, where its private files lie while it runs.
    pub state_dir: PathBuf,
    /// Variables that differ from run to run and decide nothing, such as the run's name.
    pub passing: Vec<String>,
}

/// What a program speaks.
pub enum Speaks {
    /// One row a line.
    JsonLines,
    /// Singer's messages.
    Singer(Box<Tap>),
}

/// The variable with the path of the file that has the connection's fields.
const CONNECTION: &str = "HAUL_CONNECTION";

#[async_trait]
impl Pull for ProcessPull {
    fn identity(&self) -> String {
        let env: Vec<_> = self.program.env.iter().filter(|(name, _)| !self.passing.contains(name)).collect();
        let connection = self.connection.as_ref().map(|(name, _)| name);
        let tap = match &self.speaks {
            Speaks::JsonLines => String::new(),
            Speaks::Singer(tap) => tap.identity(),
        };
        let text = format!("{:?} {env:?} {connection:?} {tap}", self.program.command);
        // A template may have put a secret into any of these.
        format!("process {:032x}", xxh3_128(text.as_bytes()))
    }

    fn place(&self) -> String {
        match &self.speaks {
            Speaks::JsonLines => format!("the program `{}`", self.program.name),
            Speaks::Singer(tap) => format!("the stream `{}` of `{}`", tap.stream, self.program.name),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.program.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")];
        let own = |name: &str| name.starts_with("HAUL_");
        let env = self.program.env.iter().filter(|(name, _)| own(name));
        match &self.speaks {
            Speaks::JsonLines => {
                lines.extend(env.map(|(name, value)| format!("  {name}={value}")));
                if self.connection.is_some() {
                    lines.push(format!("  {CONNECTION}=<a private file>"));
                }
            }
            Speaks::Singer(tap) => tap.lines(&mut lines),
        }
        let others = self.program.env.iter().filter(|(name, _)| !own(name));
        lines.push(format!("  sees {}", others.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")));
        if let Some((name, fields)) = &self.connection {
            let fields = object(fields).map(|fields| fields.keys().cloned().collect::<Vec<_>>().join(", "));
            lines.push(format!("  connection {name}: {}", fields.unwrap_or_default()));
        }
        lines
    }

    fn resumes(&self) -> bool {
        false
    }

    async fn pages(
        &self,
        _resume: Progress,
        sink: Arc<dyn Sink>,
        cancel: CancellationToken,
    ) -> Result<Pulled, Failure> {
        let pulled = match &self.speaks {
            Speaks::JsonLines => self.json_lines(&sink, &cancel).await,
            Speaks::Singer(tap) => tap.pull(self, &sink, &cancel).await,
        };
        pulled.map_err(|error| Failure { error, in_doubt: true })
    }
}

impl ProcessPull {
    async fn json_lines(&self, sink: &Arc<dyn Sink>, cancel: &CancellationToken) -> Result<Pulled> {
        let folder = PrivateFolder::make(&self.state_dir)?;
        let mut env = Vec::new();
        if let Some((_, fields)) = &self.connection {
            let file = folder.write("connection.json", fields.expose_secret().as_bytes())?;
            env.push((CONNECTION.to_owned(), file.to_string_lossy().into_owned()));
        }
        let mut pages = Pages::new(Arc::clone(sink));
        let running = Running::start(&self.program, &[], &env, &folder, sink, cancel).await?;
        read_all(running, &mut JsonLines(&mut pages)).await?;
        pages.end().await?;
        pages.pulled.requests = 1;
        Ok(pages.pulled)
    }
}

/// Reads a program to its end, line by line; whatever is wrong ends it.
async fn read_all(mut running: Running, take: &mut impl Take) -> Result<()> {
    let mut lines = Lines::default();
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = match running.read(&mut piece).await {
            Ok(0) => break,
            Ok(length) => lines.add(&piece[..length], take).await,
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            return Err(running.stop(error).await);
        }
    }
    running.end().await?;
    lines.end(take).await
}

/// The fields of a connection.
fn object(fields: &SecretString) -> Result<Map<String, Value>> {
    // The parser's message could quote a secret.
    serde_json::from_str(fields.expose_secret())
        .map_err(|_| Error::internal("the fields of a connection are no JSON object"))
}

fn json(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).context(Kind::Internal, || "writing JSON".to_owned())
}

/// A word of a command as a shell would want it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

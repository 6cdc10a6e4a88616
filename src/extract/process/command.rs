//! A program that is run for its effect: all that it says is its log.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::private::PrivateFolder;
use super::program::{Program, Running};
use super::rows::Take;
use super::{CONNECTION, quoted, read_all};
use crate::error::Result;
use crate::extract::Sink;
use crate::secret::{ExposeSecret, SecretString};

/// A program that is run for its effect, ready to be started.
pub struct Errand {
    /// The program.
    pub program: Program,
    /// The connection whose fields it gets: its name, and the fields as a JSON object.
    pub connection: Option<(String, SecretString)>,
    /// The project's state folder, where its private files lie while it runs.
    pub state_dir: PathBuf,
}

impl Errand {
    /// Runs it to its end; what it prints, on stdout and on stderr, goes to the sink line by line.
    ///
    /// # Errors
    /// It cannot be started, failed, or did not end in time; nothing that it started is left then.
    pub async fn run(&self, sink: &Arc<dyn Sink>, cancel: &CancellationToken) -> Result<()> {
        let folder = PrivateFolder::make(&self.state_dir)?;
        let mut env = Vec::new();
        if let Some((_, fields)) = &self.connection {
            let file = folder.write("connection.json", fields.expose_secret().as_bytes())?;
            env.push((CONNECTION.to_owned(), file.to_string_lossy().into_owned()));
        }
        let running = Running::start(&self.program, &[], &env, &folder, sink, cancel).await?;
        read_all(running, &mut Said(Arc::clone(sink))).await
    }

    /// What is run, for people: the command, and haul's own variables.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.program.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")];
        let own = self.program.env.iter().filter(|(name, _)| name.starts_with("HAUL_"));
        lines.extend(own.map(|(name, value)| format!("  {name}={value}")));
        if self.connection.is_some() {
            lines.push(format!("  {CONNECTION}=<a private file>"));
        }
        lines
    }
}

/// Tells every line.
struct Said(Arc<dyn Sink>);

impl Take for Said {
    const IS_JSON: bool = false;

    async fn line(&mut self, _number: u64, line: &[u8]) -> Result<()> {
        self.0.said(String::from_utf8_lossy(line).trim_end());
        Ok(())
    }
}

//! One program at work: started in a clean environment, read with patience, and ended with all that it began.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::private::PrivateFolder;
use super::watch::Watch;
use crate::error::{Context, Error, Kind, Result};
use crate::extract::Sink;
use crate::time::display_duration;

/// How long a program may take to end after it was asked to.
pub const GRACE: Duration = Duration::from_secs(5);

/// How many of its last lines on stderr an error shows.
const LAST_LINES: usize = 12;

/// A line on stderr is cut behind this many bytes.
const LOG_LINE: usize = 8 << 10;

/// A program, rendered and ready to be started.
#[derive(Debug, Clone)]
pub struct Program {
    /// What its author calls it, for messages.
    pub name: String,
    /// The program and its arguments; without a slash it is looked for on the PATH.
    pub command: Vec<String>,
    /// All of its environment.
    pub env: Vec<(String, String)>,
    /// The folder that it works in.
    pub dir: PathBuf,
    /// How long it may run.
    pub timeout: Duration,
}

/// A program that runs.
pub(super) struct Running {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    stdout: ChildStdout,
    stderr: JoinHandle<VecDeque<String>>,
    watch: Watch,
    timeout: Duration,
    deadline: Instant,
    cancel: CancellationToken,
}

impl Running {
    /// Starts a program with further arguments; its lines on stderr go to the sink as they come.
    pub async fn start(
        program: &Program,
        further: &[String],
        env: &[(String, String)],
        folder: &PrivateFolder,
        sink: &Arc<dyn Sink>,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let name = program.name.clone();
        let doing = || format!("starting the program `{name}`");
        let mut watch = Watch::begin(Some(folder.path())).context(Kind::Storage, doing)?;
        let (path, arguments) = program.command.split_first().ok_or_else(|| Error::config(doing()))?;
        // Started by a path, it is meant from the project's folder, whatever folder it works in.
        let mut command = Command::new(path);
        command.args(arguments).args(further).env_clear().envs(program.env.iter().cloned()).envs(env.iter().cloned());
        command.current_dir(&program.dir).process_group(watch.group()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                watch.end().await;
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                let error = Error::config(doing()).because(error);
                return Err(if !missing {
                    error
                } else if program.dir.is_dir() {
                    error.hint("is it installed, and on the PATH? A path with a slash counts from the project's folder")
                } else {
                    error.hint(format!("there is no folder {}", program.dir.display()))
                });
            }
        };
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::internal("a program was started without its pipes"));
        };
        let stderr = tokio::spawn(listen(stderr, Arc::clone(sink)));
        let deadline = Instant::now() + program.timeout;
        Ok(Self {
            name,
            child,
            ended: None,
            stdout,
            stderr,
            watch,
            timeout: program.timeout,
            deadline,
            cancel: cancel.clone(),
        })
    }

    /// Reads what it printed; nothing at the end.
    ///
    /// What it began and left running ends when it does: such a process could hold the pipe open for ever.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let doing = || format!("reading what `{}` prints", self.name);
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Error::new(Kind::Cancelled, doing())),
                () = tokio::time::sleep_until(self.deadline) => return Err(self.late()),
                read = self.stdout.read(buffer) => return read.context(Kind::Source, doing),
                status = self.child.wait(), if self.ended.is_none() => {
                    self.ended = Some(status.context(Kind::Source, doing)?);
                    self.watch.end().await;
                }
            }
        }
    }

    /// Waits for its end after everything was read, and says how it ended.
    ///
    /// # Errors
    /// It failed, was killed, or did not end in time; with its last lines on stderr.
    pub async fn end(mut self) -> Result<()> {
        let ended = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::new(Kind::Cancelled, format!("waiting for `{}`", self.name))),
            () = tokio::time::sleep_until(self.deadline) => Err(self.late()),
            status = self.child.wait() => status.context(Kind::Source, || format!("waiting for `{}`", self.name)),
        };
        match ended {
            Ok(status) if status.success() => {
                self.leave().await;
                Ok(())
            }
            Ok(status) => {
                let error = Error::new(Kind::Source, format!("the program `{}` {}", self.name, how(status)));
                Err(told(error, &self.leave().await))
            }
            Err(error) => Err(self.stop(error).await),
        }
    }

    /// Ends it before its time because of an error, which then shows its last lines on stderr.
    pub async fn stop(mut self, error: Error) -> Error {
        self.watch.ask().await;
        let died = tokio::time::timeout(GRACE, self.child.wait()).await;
        let error = match died {
            // It had ended by itself: how it did says more than what was wrong with its last words.
            Ok(Ok(status)) if error.kind() == Kind::Source && !status.success() && status.signal().is_none() => {
                error.hint(format!("it {}", how(status)))
            }
            _ => error,
        };
        let cancelled = error.kind() == Kind::Cancelled;
        let last = self.leave().await;
        if cancelled { error } else { told(error, &last) }
    }

    /// Ends what it left running, and returns its last lines.
    async fn leave(mut self) -> VecDeque<String> {
        self.watch.end().await;
        let _ = self.child.wait().await;
        // A process that left the group may hold the pipe open: nobody waits for that.
        tokio::time::timeout(Duration::from_secs(1), self.stderr).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    fn late(&self) -> Error {
        Error::new(
            Kind::Source,
            format!("the program `{}` had not ended after {}", self.name, display_duration(self.timeout)),
        )
        .hint("if it needs more time, say so: timeout = \"12h\"")
    }
}

/// How a program ended.
fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "ended".to_owned(),
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}

fn told(error: Error, last: &VecDeque<String>) -> Error {
    if last.is_empty() {
        return error.detail("it said nothing on stderr");
    }
    let lines: Vec<String> = last.iter().map(|line| format!("  {line}")).collect();
    error.detail(format!("its last lines on stderr:\n{}", lines.join("\n")))
}

/// Reads stderr line by line, tells each, and keeps the last ones.
async fn listen(mut stderr: impl AsyncRead + Unpin, sink: Arc<dyn Sink>) -> VecDeque<String> {
    let mut last = VecDeque::new();
    let mut line = Vec::new();
    let mut say = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        line.clear();
        sink.said(&text);
        if !text.is_empty() {
            last.push_back(text);
            if last.len() > LAST_LINES {
                last.pop_front();
            }
        }
    };
    let mut piece = vec![0; 8 << 10];
    // A stream that breaks off has given all that it has.
    while let Ok(length @ 1..) = stderr.read(&mut piece).await {
        for &byte in &piece[..length] {
            if byte == b'\n' {
                say(&mut line);
            } else if line.len() < LOG_LINE {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        say(&mut line);
    }
    last
}

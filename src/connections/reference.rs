//! Resolving secret references: variables, files and commands.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::fields::Reference;
use crate::error::{Context, Error, Kind, Result};
use crate::secret::Redactor;
use crate::time::display_duration;

/// How long a command may take to print its secret.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of a command's complaint an error shows.
const COMPLAINT: usize = 400;

/// Resolves references in the surroundings of one project.
#[derive(Clone)]
pub(super) struct Resolver {
    pub root: PathBuf,
    pub environment: std::sync::Arc<BTreeMap<String, String>>,
    pub redactor: Redactor,
    pub patience: Duration,
}

impl Resolver {
    pub fn new(root: &Path, environment: std::sync::Arc<BTreeMap<String, String>>, redactor: Redactor) -> Self {
        Self { root: root.to_path_buf(), environment, redactor, patience: PATIENCE }
    }

    /// The text that a reference leads to. Whether it is a secret is known to who asks.
    pub fn resolve(&self, reference: &Reference) -> Result<String> {
        match reference {
            Reference::Env(name) => self.variable(name),
            Reference::File(path) => self.file(path),
            Reference::Command(command) => self.command(command),
        }
    }

    fn variable(&self, name: &str) -> Result<String> {
        self.environment.get(name).filter(|text| !text.is_empty()).cloned().ok_or_else(|| {
            let state = if self.environment.contains_key(name) { "is empty" } else { "is not set" };
            Error::new(Kind::Connection, format!("reading the variable `{name}`"))
                .because(format!("it {state}"))
                .hint(format!("set it before haul starts: export {name}=..."))
        })
    }

    fn file(&self, path: &str) -> Result<String> {
        let path = self.root.join(path);
        let doing = || format!("reading the secret file `{}`", path.display());
        let mut text = fs::read_to_string(&path).context(Kind::Connection, doing)?;
        trim_line_break(&mut text);
        if text.is_empty() {
            return Err(Error::new(Kind::Connection, doing()).because("it is empty"));
        }
        Ok(text)
    }

    fn command(&self, command: &str) -> Result<String> {
        let program = command.split_whitespace().next().unwrap_or_default();
        // Only the program is named: an argument may be a secret itself.
        let doing = || format!("running the secret command `{program}`");
        let words = split_words(command)
            .ok_or_else(|| Error::new(Kind::Connection, doing()).because("a quote in it is not closed"))?;
        let (program, arguments) = words
            .split_first()
            .ok_or_else(|| Error::new(Kind::Connection, "running a secret command").because("it is empty"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                let error = Error::new(Kind::Connection, doing()).because(error);
                if missing { error.hint("is it installed, and on the PATH? No shell is used") } else { error }
            })?;
        let stdout = reader(child.stdout.take());
        let stderr = reader(child.stderr.take());
        let end = Instant::now() + self.patience;
        let Some(status) = wait(&mut child, end).context(Kind::Connection, doing)? else {
            child.kill().and_then(|()| child.wait()).context(Kind::Connection, doing)?;
            return Err(Error::new(Kind::Connection, doing())
                .because(format!("it printed nothing to the end within {}", display_duration(self.patience)))
                .hint("does it wait for an answer? It gets no input; unlock the password store before haul starts"));
        };
        let printed = output(&stdout);
        if !status.success() {
            // What it printed before it failed may be the secret, and its complaint may repeat that.
            String::from_utf8_lossy(&printed).lines().for_each(|line| self.redactor.learn(line.trim()));
            let complaint = self.redactor.redact(String::from_utf8_lossy(&output(&stderr)).trim());
            let complaint: String = complaint.chars().take(COMPLAINT).collect();
            let complaint = if complaint.is_empty() { "it printed no reason".to_owned() } else { complaint };
            return Err(Error::new(Kind::Connection, doing()).because(format!("{status}: {complaint}")));
        }
        let mut text = String::from_utf8(printed)
            .map_err(|_| Error::new(Kind::Connection, doing()).because("what it printed is not UTF-8"))?;
        trim_line_break(&mut text);
        if text.is_empty() {
            return Err(Error::new(Kind::Connection, doing()).because("it printed nothing"));
        }
        Ok(text)
    }
}

/// Reads a stream beside the wait for its process, so that a full pipe stops nobody.
fn reader(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let Some(mut stream) = stream else { return };
        let mut piece = [0; 4096];
        // A stream that breaks off has given all that it has.
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            if send.send(piece[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receive
}

/// What a process that has ended had printed. Another one that it left behind may hold the pipe open: nobody waits for that.
fn output(stream: &mpsc::Receiver<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(piece) = stream.recv_timeout(Duration::from_millis(500)) {
        bytes.extend(piece);
    }
    bytes
}

/// Waits for the process until `end`; `None` when it still runs.
fn wait(child: &mut Child, end: Instant) -> std::io::Result<Option<std::process::ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn trim_line_break(text: &mut String) {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
}

/// Splits a command into words the way a shell does, with quotes and backslashes and nothing else.
fn split_words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = command.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (open, '\\') if open != Some('\'') => word.get_or_insert_default().push(characters.next()?),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_with_quotes_and_without_a_shell() {
        let split = |text| split_words(text).expect("closed quotes");
        assert_eq!(split("pass show  db/main"), ["pass", "show", "db/main"]);
        assert_eq!(split(r#"a 'b c' "d \"e" f\ g '' $HOME"#), ["a", "b c", "d \"e", "f g", "", "$HOME"]);
        assert!(split_words("a 'b").is_none());
    }

    #[test]
    fn one_line_break_is_trimmed_and_no_more() {
        for (text, trimmed) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")] {
            let mut text = text.to_owned();
            trim_line_break(&mut text);
            assert_eq!(text, trimmed);
        }
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let resolver = Resolver {
            patience: Duration::from_millis(50),
            ..Resolver::new(Path::new("."), std::sync::Arc::default(), Redactor::default())
        };
        let error = resolver.resolve(&Reference::Command("sleep 600".to_owned())).expect_err("it sleeps");
        assert!(error.chain().contains("within 50ms"), "{error:?}");
    }
}

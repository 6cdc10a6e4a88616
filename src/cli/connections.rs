//! `haul connections`: list, show, set, remove, test and import.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Map, Value};

use super::screen::{BAD, DIM, GOOD, WARN};
use super::{Common, Screen, session};
use crate::connections::{Connections, Imported, Origin};
use crate::error::{Context, Error, Kind, Result};
use crate::execute;

/// What to do with connections.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the connections, and where each comes from
    List,
    /// Show a connection, its secrets masked
    Show {
        /// The connection
        name: String,
    },
    /// Put a connection into the encrypted store
    ///
    /// VALUE is a URI, JSON, or fields such as `type=http url=https://api.example.com user=ann password=-`.
    /// A `-` is read from stdin, so that a secret stands in no shell history.
    Set {
        /// The connection
        name: String,
        /// The URI, JSON or fields; from stdin when left out
        value: Vec<String>,
    },
    /// Take a connection out of the encrypted store
    Remove {
        /// The connection
        name: String,
    },
    /// Connect for real, and say what was tried
    Test {
        /// The connections; all of them by default
        names: Vec<String>,
    },
    /// Take over Airflow's connections into the encrypted store
    Import {
        /// What `airflow connections export` wrote, as JSON or .env
        #[arg(required_unless_present = "environment")]
        file: Option<PathBuf>,
        /// Take the variables `AIRFLOW_CONN_*` instead
        #[arg(long, conflicts_with = "file")]
        environment: bool,
    },
}

pub(super) async fn run(command: Command, common: &Common, screen: &Screen) -> Result<u8> {
    let root = session::root(common)?;
    let connections = Connections::open(&root, screen.redactor.clone())?;
    match command {
        Command::List => list(&connections, screen)?,
        Command::Show { name } => show(&connections, &name, screen)?,
        Command::Set { name, value } => set(&connections, &name, &value, screen)?,
        Command::Remove { name } => return remove(&connections, &name, screen),
        Command::Test { names } => return test(&connections, names, common, screen).await,
        Command::Import { file, environment } => {
            let imported = match file {
                Some(file) if !environment => {
                    let text = std::fs::read_to_string(&file)
                        .context(Kind::Usage, || format!("reading {}", file.display()))?;
                    connections.import(&text)?
                }
                _ => connections.import_environment()?,
            };
            return Ok(told(&imported, screen));
        }
    }
    Ok(0)
}

fn list(connections: &Connections, screen: &Screen) -> Result<()> {
    let listed = connections.list()?;
    if screen.is_json() {
        screen.json(&listed);
        return Ok(());
    }
    if listed.is_empty() {
        screen.note("there are no connections: copy connections.example.toml to connections.toml, or see `haul connections set --help`");
        return Ok(());
    }
    let rows = listed.iter().map(|line| {
        let hidden: Vec<String> = line.hidden.iter().map(Origin::to_string).collect();
        let from = if hidden.is_empty() {
            line.origin.to_string()
        } else {
            format!("{}, hides {}", line.origin, hidden.join(" and "))
        };
        vec![line.name.clone(), line.kind.clone().unwrap_or_else(|| "faulty".to_owned()), from]
    });
    screen.table(&["connection", "type", "from"], rows.collect());
    for line in &listed {
        if let Some(fault) = &line.fault {
            screen.tell(&format!("{WARN}{}{WARN:#}: {fault}", line.name));
        }
    }
    Ok(())
}

fn show(connections: &Connections, name: &str, screen: &Screen) -> Result<()> {
    let shown = connections.show(name)?;
    if screen.is_json() {
        screen.json(&shown);
        return Ok(());
    }
    screen.data(&format!("{} {DIM}from {}{DIM:#}", shown.name, shown.origin));
    screen.data(&format!("  type = {}", shown.kind));
    for (key, text) in &shown.fields {
        screen.data(&format!("  {key} = {text}"));
    }
    Ok(())
}

fn set(connections: &Connections, name: &str, value: &[String], screen: &Screen) -> Result<()> {
    let text = match value {
        [] => stdin(&format!("the URI or JSON of `{name}`"))?,
        [only] if only == "-" => stdin(&format!("the URI or JSON of `{name}`"))?,
        [only] if is_whole(only) => only.clone(),
        fields => Value::Object(read_fields(fields)?).to_string(),
    };
    let winners = connections.set(name, &text)?;
    if screen.is_json() {
        screen.json(&serde_json::json!({ "name": name, "stored": true, "winners": winners }));
        return Ok(());
    }
    screen.note(&format!("{GOOD}kept{GOOD:#} `{name}` in the encrypted store"));
    for winner in winners {
        screen.tell(&format!("{WARN}note{WARN:#}: {winner} wins over the store"));
    }
    screen.note(&format!("try it: haul connections test {name}"));
    Ok(())
}

/// Whether a text is a whole connection, a URI or JSON, and not one field of it.
fn is_whole(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
    is_scheme || text.trim_start().starts_with('{')
}

/// Reads `key=value`, with `env:X`, `file:X` and `command:X` as places of a secret, and `-` for stdin.
fn read_fields(fields: &[String]) -> Result<Map<String, Value>> {
    let read = |field: &String| {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            // What was written may be a secret: it is not repeated.
            Error::usage("one of the fields is not `key=value`")
                .hint("fields look like: type=http url=https://api.example.com user=ann password=-")
        })?;
        let place = value.split_once(':').filter(|(kind, _)| matches!(*kind, "env" | "file" | "command"));
        let value = match (value, place) {
            ("-", _) => Value::from(stdin(&format!("`{key}`"))?),
            (_, Some((kind, place))) => serde_json::json!({ kind: place }),
            (text, None) => Value::from(text),
        };
        Ok((key.to_owned(), value))
    };
    fields.iter().map(read).collect()
}

/// One text from stdin: a line of a terminal, or all of a pipe.
fn stdin(what: &str) -> Result<String> {
    let mut text = String::new();
    let doing = || format!("reading {what} from stdin");
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Error::usage(doing())
            .because("stdin is a terminal, which would show it")
            .hint("pipe it: printf %s \"$SECRET\" | haul connections set ..."));
    }
    stdin.read_to_string(&mut text).context(Kind::Usage, doing)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Error::usage(doing()).because("it is empty"));
    }
    Ok(text.to_owned())
}

fn remove(connections: &Connections, name: &str, screen: &Screen) -> Result<u8> {
    if connections.remove(name)? {
        if screen.is_json() {
            let left = connections.origins(name)?;
            screen.json(&serde_json::json!({ "name": name, "removed": true, "still_in": left }));
            return Ok(0);
        }
        screen.note(&format!("{GOOD}removed{GOOD:#} `{name}` from the encrypted store"));
        if let Some(origin) = connections.origins(name)?.first() {
            screen.tell(&format!("{WARN}note{WARN:#}: {origin} tells of it as well"));
        }
        return Ok(0);
    }
    let error = Error::usage(format!("there is no `{name}` in the encrypted store"));
    Err(match connections.origins(name)?.first() {
        Some(origin) => error.hint(format!("it is told by {origin}: take it out there")),
        None => error.hint("`haul connections list` shows all of them"),
    })
}

async fn test(connections: &Connections, names: Vec<String>, common: &Common, screen: &Screen) -> Result<u8> {
    let names = if names.is_empty() { connections.names()? } else { names };
    let mut code = 0;
    let mut results = Vec::new();
    for name in names {
        match execute::probe(connections, &name, &screen.redactor, common.clock()).await {
            Ok(probed) => {
                if !screen.is_json() {
                    screen.data(&format!("{GOOD}✓{GOOD:#} {name} {DIM}({}){DIM:#}: {}", probed.kind, probed.answer));
                    probed.tried.iter().for_each(|tried| screen.data(&format!("    {tried}")));
                    probed.note.iter().for_each(|note| screen.data(&format!("    {DIM}{note}{DIM:#}")));
                }
                results.push(serde_json::json!({ "name": name, "works": true, "probe": probed }));
            }
            Err(error) => {
                code = code.max(error.kind().exit_code());
                if !screen.is_json() {
                    screen.data(&format!("{BAD}✗{BAD:#} {name}: {}", error.chain()));
                    error.hints().iter().for_each(|hint| screen.data(&format!("    {GOOD}hint{GOOD:#}: {hint}")));
                }
                let fault = serde_json::json!({ "kind": error.kind().name(), "message": error.chain(), "hints": error.hints() });
                results.push(serde_json::json!({ "name": name, "works": false, "error": fault }));
            }
        }
    }
    if screen.is_json() {
        screen.json(&results);
    }
    Ok(code)
}

fn told(imported: &[Imported], screen: &Screen) -> u8 {
    if screen.is_json() {
        screen.json(&imported);
    } else {
        for one in imported {
            match &one.kind {
                Some(kind) => screen.data(&format!("{GOOD}✓{GOOD:#} {} {DIM}({kind}){DIM:#}", one.name)),
                None => screen.data(&format!("{WARN}left out{WARN:#} {}", one.name)),
            }
            one.notes.iter().for_each(|note| screen.data(&format!("    {note}")));
        }
    }
    u8::from(imported.iter().all(|one| one.kind.is_none()))
}

//! `haul hooks add`, `update`, `pin` and `remove`: hooks of others, pinned by the digests of their files.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::json;

use super::super::Screen;
use super::super::screen::{GOOD, WARN};
use super::fetch::{Fetched, fetch, is_repository};
use crate::config::{self, lock};
use crate::error::{Context, Error, Kind, Result};
use crate::model::manual::Pin;

/// Where from, and under which name.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A file, or the address of a git repository
    source: String,
    /// The file in the repository, where it has several hooks
    #[arg(long, value_name = "FILE")]
    path: Option<String>,
    /// A tag, a branch or a commit; the newest by default
    #[arg(long)]
    rev: Option<String>,
    /// The hook's name here; that of its file by default
    #[arg(long)]
    name: Option<String>,
    /// Replace a hook that was added before
    #[arg(long)]
    update: bool,
    /// Accept that the hook runs a program on this machine
    #[arg(long)]
    allow_programs: bool,
}

/// Which hook, and to where.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct UpdateArgs {
    /// The hook
    name: String,
    /// Another tag, branch or commit from now on
    #[arg(long)]
    rev: Option<String>,
    /// Throw away what was changed here and accepted by `haul hooks pin`
    #[arg(long)]
    force: bool,
    /// Accept that the hook runs a program on this machine
    #[arg(long)]
    allow_programs: bool,
}

pub(super) fn add(args: &Args, root: &Path, screen: &Screen) -> Result<u8> {
    let here = std::env::current_dir().context(Kind::Storage, || "looking for this folder".to_owned())?;
    let fetched = fetch(&args.source, &here, args.path.as_deref(), args.rev.as_deref())?;
    let name = args.name.clone().unwrap_or_else(|| fetched.name.clone());
    let mut pins = lock::read(root)?;
    if !config::is_plain_name(&name) {
        return Err(Error::usage(format!("`{name}` cannot be the name of a hook")).hint("give it another: --name"));
    }
    match pins.get(&name) {
        Some(pin) if !args.update => {
            return Err(Error::usage(format!("the hook `{name}` was added before, from {}", pin.source))
                .hint(format!("haul hooks update {name} brings it up to date; --update replaces it by this one")));
        }
        None if root.join(file_of(&name, ".toml")).exists() => {
            return Err(Error::usage(format!("the project has a hook `{name}` of its own"))
                .hint(format!("give this one another name: --name other_{name}")));
        }
        _ => {}
    }
    let pin = Pin {
        source: told_source(&args.source, &here, root),
        path: args.path.clone().or_else(|| fetched.path.clone()),
        rev: args.rev.clone(),
        commit: fetched.commit.clone(),
        changed: false,
        files: BTreeMap::new(),
    };
    let before = pins.get(&name).cloned();
    let pin = install(root, &name, &fetched, pin, before.as_ref(), args.allow_programs)?;
    pins.insert(name.clone(), pin.clone());
    lock::write(root, &pins)?;
    tell("added", &name, &pin, screen);
    Ok(0)
}

pub(super) fn update(args: &UpdateArgs, root: &Path, screen: &Screen) -> Result<u8> {
    let mut pins = lock::read(root)?;
    let old = pinned(&pins, &args.name)?.clone();
    if old.changed && !args.force {
        return Err(Error::usage(format!("the hook `{}` was changed here, and that was accepted", args.name))
            .hint("--force throws the change away"));
    }
    let rev = args.rev.clone().or_else(|| old.rev.clone());
    let fetched = fetch(&old.source, root, old.path.as_deref(), rev.as_deref())?;
    let pin = Pin { rev, commit: fetched.commit.clone(), changed: false, files: BTreeMap::new(), ..old.clone() };
    let intact = old
        .files
        .iter()
        .all(|(file, known)| std::fs::read(root.join(file)).is_ok_and(|bytes| lock::digest(&bytes) == *known));
    let pin = install(root, &args.name, &fetched, pin, Some(&old), args.allow_programs)?;
    let same = intact && pin == old;
    pins.insert(args.name.clone(), pin.clone());
    lock::write(root, &pins)?;
    tell(if same { "unchanged" } else { "updated" }, &args.name, &pin, screen);
    Ok(0)
}

pub(super) fn pin(name: &str, root: &Path, screen: &Screen) -> Result<u8> {
    let mut pins = lock::read(root)?;
    pinned(&pins, name)?;
    if let Some(pin) = pins.get_mut(name) {
        let before = pin.files.clone();
        for (file, digest) in &mut pin.files {
            let bytes = std::fs::read(root.join(file)).context(Kind::Storage, || format!("reading {file}"))?;
            *digest = lock::digest(&bytes);
        }
        pin.changed |= pin.files != before;
    }
    lock::write(root, &pins)?;
    tell("pinned", name, pinned(&pins, name)?, screen);
    Ok(0)
}

pub(super) fn remove(name: &str, force: bool, root: &Path, screen: &Screen) -> Result<u8> {
    let mut pins = lock::read(root)?;
    let pin = pinned(&pins, name)?.clone();
    let users = users(root, name);
    if !users.is_empty() && !force {
        return Err(Error::usage(format!("the hook `{name}` is used by {}", users.join(", ")))
            .hint("--force removes it all the same"));
    }
    for file in pin.files.keys() {
        match std::fs::remove_file(root.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::new(Kind::Storage, format!("removing {file}")).because(error));
            }
            _ => {}
        }
    }
    pins.remove(name);
    lock::write(root, &pins)?;
    tell("removed", name, &pin, screen);
    Ok(0)
}

fn pinned<'p>(pins: &'p BTreeMap<String, Pin>, name: &str) -> Result<&'p Pin> {
    pins.get(name).ok_or_else(|| {
        let names: Vec<&str> = pins.keys().map(String::as_str).collect();
        Error::usage(format!("`{name}` is no hook of others")).hint(if names.is_empty() {
            "`haul hooks add` brings one".to_owned()
        } else {
            format!("those of others are {}", names.join(", "))
        })
    })
}

fn file_of(name: &str, ending: &str) -> String {
    format!("hooks/{name}{ending}")
}

/// Writes the files of a hook, once all of them are known to be fine; files that it no longer has go away.
fn install(
    root: &Path,
    name: &str,
    fetched: &Fetched,
    pin: Pin,
    before: Option<&Pin>,
    allow_programs: bool,
) -> Result<Pin> {
    let text = fetched.files.first().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    if runs_programs(&text) && !allow_programs {
        return Err(Error::usage(format!("the hook `{name}` runs a program on this machine"))
            .hint("read it first; if that is meant: --allow-programs"));
    }
    config::check_hook(Path::new(&file_of(name, ".toml")), &text)?;
    let mut files = BTreeMap::new();
    std::fs::create_dir_all(root.join("hooks")).context(Kind::Storage, || "making the folder hooks".to_owned())?;
    for (ending, bytes) in &fetched.files {
        let file = file_of(name, ending);
        std::fs::write(root.join(&file), bytes).context(Kind::Storage, || format!("writing {file}"))?;
        files.insert(file, lock::digest(bytes));
    }
    for gone in before.iter().flat_map(|before| before.files.keys()).filter(|file| !files.contains_key(*file)) {
        // It may be gone already; what matters is that it is no longer there.
        let _ = std::fs::remove_file(root.join(gone));
    }
    Ok(Pin { files, ..pin })
}

/// Whether a hook is more than text: it, or a part of it, starts a program.
fn runs_programs(text: &str) -> bool {
    fn starts(table: &toml::Table) -> bool {
        let process = table.get("type").and_then(toml::Value::as_str) == Some("process");
        process || table.contains_key("command") || table.contains_key("process")
    }
    let Ok(table) = text.parse::<toml::Table>() else { return false };
    let resources = table.get("resources").and_then(toml::Value::as_table);
    let mut parts = resources.into_iter().flat_map(|resources| resources.values()).filter_map(toml::Value::as_table);
    starts(&table) || parts.any(starts)
}

/// The steps that use a hook, as far as the files can be read.
fn users(root: &Path, name: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root.join("pipelines")) else { return Vec::new() };
    let mut users = Vec::new();
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        let Ok(table) = std::fs::read_to_string(&path).unwrap_or_default().parse::<toml::Table>() else { continue };
        let steps = table.get("extract").and_then(toml::Value::as_array).into_iter().flatten();
        for step in steps.filter(|step| step.get("hook").and_then(toml::Value::as_str) == Some(name)) {
            let step = step.get("name").and_then(toml::Value::as_str).unwrap_or("?");
            users.push(format!("{}.{step}", path.file_stem().unwrap_or_default().to_string_lossy()));
        }
    }
    users.sort();
    users
}

/// A source as the lock keeps it: a path is relative to the project.
fn told_source(source: &str, here: &Path, root: &Path) -> String {
    let place = here.join(source);
    if !place.exists() || source.contains("://") {
        return source.to_owned();
    }
    let whole = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let (place, root) = (whole(&place), whole(root));
    let shared = place.components().zip(root.components()).take_while(|(one, other)| one == other).count();
    let up = root.components().skip(shared).map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(place.components().skip(shared)).collect();
    // A repository of one's own may also be the project's folder itself.
    if path.as_os_str().is_empty() { ".".to_owned() } else { path.display().to_string() }
}

fn tell(what: &str, name: &str, pin: &Pin, screen: &Screen) {
    if screen.is_json() {
        screen.json(&json!({ "done": what, "hook": name, "pin": pin }));
        return;
    }
    let commit = pin.commit.as_ref().map(|commit| format!(" at {}", &commit[..commit.len().min(12)]));
    screen.data(&format!("{GOOD}{what}{GOOD:#} {name} from {}{}", pin.source, commit.unwrap_or_default()));
    for file in pin.files.keys() {
        screen.data(&format!("  {file}"));
    }
    if pin.changed {
        screen.note(&format!("{WARN}changed{WARN:#}: it is no longer what its source has"));
    }
    if what == "added" {
        let from = Path::new(&pin.source);
        let repository = is_repository(&pin.source, from);
        let review = if repository { "it is text, not code: read it before it asks anybody for anything" } else { "" };
        if !review.is_empty() {
            screen.note(review);
        }
        screen.note(&format!("next: `haul hooks show {name}`, `haul hooks test {name}`"));
    }
}

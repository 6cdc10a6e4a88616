//! Fetching hooks of others: from a file, or from a git repository, as text and nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Kind, Result};

/// A hook with the files that belong to it, as they are elsewhere.
pub(super) struct Fetched {
    /// The name of its file, without the ending.
    pub name: String,
    /// The file in the repository, where it is from one.
    pub path: Option<String>,
    /// The commit, where it is from a repository.
    pub commit: Option<String>,
    /// The endings of its files behind the name, with their bytes: `.toml`, `.cassette.jsonl`.
    pub files: Vec<(String, Vec<u8>)>,
}

/// No file of a hook is larger.
const LARGEST: u64 = 64 << 20;

/// The endings of what may belong to a hook: all of them are text.
const ENDINGS: [&str; 5] = ["toml", "jsonl", "sql", "csv", "md"];

/// Whether a source is a repository, and no file or folder here.
pub(super) fn is_repository(source: &str, place: &Path) -> bool {
    if place.is_file() {
        return false;
    }
    let looks = source.contains("://") || source.starts_with("git@") || place.join(".git").exists();
    looks || place.join("HEAD").is_file() && place.join("objects").is_dir()
}

/// Takes a hook from a source, which is relative to `base` where it is a path.
///
/// # Errors
/// A source that is not there, that has no such hook, or several.
pub(super) fn fetch(source: &str, base: &Path, path: Option<&str>, rev: Option<&str>) -> Result<Fetched> {
    if source.starts_with('-') || rev.is_some_and(|rev| rev.starts_with('-')) {
        return Err(Error::usage(format!("`{source}` is no source of a hook")));
    }
    let place = base.join(source);
    if is_repository(source, &place) {
        let folder = tempfile::tempdir().context(Kind::Storage, || "making a folder for a repository".to_owned())?;
        let address = if place.is_dir() { place.display().to_string() } else { source.to_owned() };
        let commit = checkout(&address, rev, folder.path())?;
        let file = find(folder.path(), path, source)?;
        let inside = file.strip_prefix(folder.path()).unwrap_or(&file).display().to_string();
        return Ok(Fetched { path: Some(inside), commit: Some(commit), ..read(&file)? });
    }
    if rev.is_some() {
        return Err(Error::usage(format!("`{source}` is no git repository, and has no revisions")));
    }
    if place.is_dir() {
        let file = find(&place, path, source)?;
        let inside = file.strip_prefix(&place).unwrap_or(&file).display().to_string();
        return Ok(Fetched { path: Some(inside), ..read(&file)? });
    }
    if !place.is_file() {
        return Err(Error::usage(format!("there is no hook `{source}`"))
            .hint("a source is a file, such as ../other/hooks/stripe.toml, or a git repository, such as https://github.com/x/hooks.git"));
    }
    read(&place)
}

/// The file of a hook in a folder.
fn find(folder: &Path, path: Option<&str>, source: &str) -> Result<PathBuf> {
    if let Some(path) = path {
        let inside = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let file = folder.join(path);
        if inside && is_plain(&file) {
            return Ok(file);
        }
        return Err(Error::usage(format!("`{source}` has no file `{path}`")).hint(listed(folder)));
    }
    match candidates(folder).as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::usage(format!("`{source}` has no hook")).hint("hooks are looked for in its folder hooks/")),
        _ => Err(Error::usage(format!("`{source}` has several hooks")).hint(listed(folder))),
    }
}

fn candidates(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.join("hooks")) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "toml") && is_plain(path));
    files.sort();
    files
}

fn listed(folder: &Path) -> String {
    let names: Vec<String> = candidates(folder)
        .iter()
        .map(|file| format!("--path {}", file.strip_prefix(folder).unwrap_or(file).display()))
        .collect();
    if names.is_empty() { "its folder hooks/ has none".to_owned() } else { format!("say which: {}", names.join(", ")) }
}

/// Whether a path is a file, and no link to one elsewhere.
fn is_plain(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// A hook's file and those beside it that begin with its name.
fn read(file: &Path) -> Result<Fetched> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let doing = || format!("reading {}", file.display());
    let mut files = vec![(".toml".to_owned(), bytes(file)?)];
    let folder = file.parent().unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).context(Kind::Storage, doing)?;
    let mut others: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    others.sort();
    for other in others {
        let whole = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(rest) = whole.strip_prefix(&name).filter(|rest| rest.starts_with('.') && *rest != ".toml") else {
            continue;
        };
        let known = other.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        if known && is_plain(&other) {
            files.push((rest.to_owned(), bytes(&other)?));
        }
    }
    Ok(Fetched { name, path: None, commit: None, files })
}

fn bytes(file: &Path) -> Result<Vec<u8>> {
    let doing = || format!("reading {}", file.display());
    let size = std::fs::metadata(file).context(Kind::Storage, doing)?.len();
    if size > LARGEST {
        return Err(Error::usage(doing()).because("it is larger than 64 MiB"));
    }
    std::fs::read(file).context(Kind::Storage, doing)
}

/// Checks a revision out, without any history; returns its commit.
fn checkout(address: &str, rev: Option<&str>, folder: &Path) -> Result<String> {
    let wanted = rev.unwrap_or("HEAD");
    git(folder, &["init", "--quiet", "."])?;
    let shallow = git(folder, &["fetch", "--quiet", "--depth", "1", "--no-tags", "--", address, wanted]);
    let is_commit = wanted.len() >= 7 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    let place = match shallow {
        Ok(_) => "FETCH_HEAD",
        // Not every server gives a commit by its name alone: then the branches that have it are fetched.
        Err(_) if is_commit => {
            git(folder, &["fetch", "--quiet", "--", address, "+refs/heads/*:refs/remotes/source/*"])?;
            wanted
        }
        Err(error) => return Err(error),
    };
    git(folder, &["checkout", "--quiet", "--detach", place])?;
    Ok(git(folder, &["rev-parse", "HEAD"])?.trim().to_owned())
}

/// Runs git where nothing of the repository is ever run, and nobody is asked for a password.
fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let doing = || format!("running git {}", arguments.first().copied().unwrap_or_default());
    let output = Command::new("git")
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=false", "-c", "protocol.ext.allow=never"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let error = Error::new(Kind::Storage, doing()).because(error);
            if missing { error.hint("hooks of others are fetched by the program `git`") } else { error }
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::new(Kind::Unavailable, doing()).because(told.lines().last().unwrap_or("it failed").to_owned()))
}

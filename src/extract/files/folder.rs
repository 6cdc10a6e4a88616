//! Files in a folder of this machine.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::pattern::Pattern;
use super::store::FileMeta;
use crate::error::{Context, Error, Kind, Result};

/// The files below a folder that a pattern means.
pub(super) fn list(root: &Path, pattern: &Pattern) -> Result<Vec<FileMeta>> {
    let mut found = Vec::new();
    for folder in pattern.folders() {
        walk(root, &folder, pattern, &mut found)?;
    }
    Ok(found)
}

fn walk(root: &Path, below: &str, pattern: &Pattern, found: &mut Vec<FileMeta>) -> Result<()> {
    let folder = root.join(below);
    let doing = || format!("listing {}", folder.display());
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        // The day's own folder may come with its first file; the connection's has to be there.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && root.is_dir() => return Ok(()),
        Err(error) => {
            return Err(Error::new(Kind::Source, doing())
                .because(error)
                .hint("is the folder right, and is it mounted?"));
        }
    };
    for entry in entries {
        let entry = entry.context(Kind::Source, doing)?;
        let name = entry.file_name();
        // A name that is no text can be meant by no pattern.
        let Some(name) = name.to_str() else { continue };
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        // Links are followed; one that leads nowhere is no file.
        let Ok(meta) = fs::metadata(entry.path()) else { continue };
        if meta.is_dir() {
            let linked = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            // A link to a folder above would be walked for ever.
            if !linked || path.split('/').count() < 32 && !leads_up(root, &entry.path()) {
                walk(root, &path, pattern, found)?;
            }
        } else if pattern.matches(&path) {
            found.push(meta_of(path, &meta));
        }
    }
    Ok(())
}

fn leads_up(root: &Path, link: &Path) -> bool {
    match (link.canonicalize(), root.canonicalize(), link.parent().map(Path::canonicalize)) {
        (Ok(target), Ok(root), Some(Ok(parent))) => root.starts_with(&target) || parent.starts_with(&target),
        _ => true,
    }
}

/// One file; none where it is not there.
pub(super) fn head(root: &Path, path: &str) -> Result<Option<FileMeta>> {
    let file = root.join(path);
    match fs::metadata(&file) {
        Ok(meta) if meta.is_file() => Ok(Some(meta_of(path.to_owned(), &meta))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && root.is_dir() => Ok(None),
        Err(error) => Err(Error::new(Kind::Source, format!("looking for {}", file.display())).because(error)),
    }
}

fn meta_of(path: String, meta: &fs::Metadata) -> FileMeta {
    let modified = meta.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let version = modified.map(|since| format!("{}.{:09}", since.as_secs(), since.subsec_nanos())).unwrap_or_default();
    FileMeta { path, size: Some(meta.len()), version }
}

/// Stores a file under its name once all of it is there.
pub(super) fn put(root: &Path, path: &str, bytes: &[u8]) -> Result<()> {
    let file = root.join(path);
    let doing = || format!("storing {}", file.display());
    let folder = file.parent().unwrap_or(root);
    fs::create_dir_all(folder).context(Kind::Storage, doing)?;
    let mut part = tempfile::Builder::new().prefix(".part-").tempfile_in(folder).context(Kind::Storage, doing)?;
    part.write_all(bytes).context(Kind::Storage, doing)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A temporary file is for its owner alone; this one is for all who may look into the folder.
        let open = fs::Permissions::from_mode(0o644);
        part.as_file().set_permissions(open).context(Kind::Storage, doing)?;
    }
    part.persist(&file).map(drop).map_err(|error| Error::new(Kind::Storage, doing()).because(error.error))
}

/// Whether the folder is there.
pub(super) fn probe(root: &Path) -> Result<String> {
    let doing = || format!("listing {}", root.display());
    let entries = fs::read_dir(root).context(Kind::Connection, doing)?;
    let entries = entries.count();
    Ok(match entries {
        1 => "the folder has 1 entry".to_owned(),
        entries => format!("the folder has {entries} entries"),
    })
}

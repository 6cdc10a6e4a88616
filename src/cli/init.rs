//! `haul init`: a project that runs.

use std::path::{Path, PathBuf};

use super::Screen;
use super::screen::GOOD;
use crate::error::{Context, Error, Kind, Result};

/// Where.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder; this one by default
    #[arg(default_value = ".")]
    dir: PathBuf,
}

const CONNECTIONS: &str = r#"# Where the systems are. This file is ignored by git; a secret is better kept elsewhere:
# password = { env = "NAME" }, { file = "/run/secrets/name" } or { command = "pass show name" }.

[warehouse]
type = "duckdb"
path = "warehouse.duckdb"

[usgs]
type = "http"
url = "https://earthquake.usgs.gov"
"#;

const FILES: &[(&str, &str)] = &[
    (
        "haul.toml",
        "# Defaults of the project; all of them may be left out.\nwarehouse = \"warehouse\"\ntimezone = \"UTC\"\n",
    ),
    ("connections.toml", CONNECTIONS),
    ("pipelines/earthquakes.toml", include_str!("../../pipelines/earthquakes.toml")),
    ("hooks/usgs.toml", include_str!("../../hooks/usgs.toml")),
    ("hooks/usgs.cassette.jsonl", include_str!("../../hooks/usgs.cassette.jsonl")),
    ("sql/earthquakes_ranking.sql", include_str!("../../sql/earthquakes_ranking.sql")),
    ("sql/earthquakes_daily.sql", include_str!("../../sql/earthquakes_daily.sql")),
];

/// What git has to leave alone.
const IGNORED: [&str; 3] = ["/connections.toml", "/.haul", "/warehouse.duckdb*"];

pub(super) fn init(args: &Args, screen: &Screen) -> Result<u8> {
    for (name, _) in FILES {
        let path = args.dir.join(name);
        if path.exists() {
            return Err(Error::usage(format!("{} is there already", path.display()))
                .hint("`haul init` writes into a folder that has no project yet"));
        }
    }
    write_all(&args.dir, FILES)?;
    ignore(&args.dir.join(".gitignore"))?;
    if screen.is_json() {
        let files: Vec<&str> = FILES.iter().map(|(name, _)| *name).chain([".gitignore"]).collect();
        screen.json(&serde_json::json!({ "folder": args.dir, "files": files }));
        return Ok(0);
    }
    screen.data(&format!("{GOOD}made{GOOD:#} a project in {}", args.dir.display()));
    let enter = if args.dir == Path::new(".") { String::new() } else { format!("\n  cd {}", args.dir.display()) };
    screen.data(&format!("next:{enter}\n  haul check\n  haul plan\n  haul run earthquakes"));
    Ok(0)
}

/// Adds to `.gitignore` what it does not have yet: the folder may belong to a repository.
fn ignore(path: &Path) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    let mut text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::new(Kind::Storage, doing()).because(error)),
    };
    for line in IGNORED {
        if !text.lines().any(|known| known.trim() == line) {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(line);
            text.push('\n');
        }
    }
    std::fs::write(path, text).context(Kind::Storage, doing)
}

/// Writes files below a folder; the one with connections is for its owner only.
pub(super) fn write_all(folder: &Path, files: &[(&str, &str)]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for (name, text) in files {
        let path = folder.join(name);
        let doing = || format!("writing {}", path.display());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).context(Kind::Storage, doing)?;
        }
        std::fs::write(&path, text).context(Kind::Storage, doing)?;
        if *name == "connections.toml" {
            let owner = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, owner).context(Kind::Storage, doing)?;
        }
    }
    Ok(())
}

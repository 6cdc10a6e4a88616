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
    (".gitignore", "/connections.toml\n/.haul\n/warehouse.duckdb*\n"),
    ("pipelines/earthquakes.toml", include_str!("../../pipelines/earthquakes.toml")),
    ("hooks/usgs.toml", include_str!("../../hooks/usgs.toml")),
    ("sql/earthquakes_ranking.sql", include_str!("../../sql/earthquakes_ranking.sql")),
    ("sql/earthquakes_daily.sql", include_str!("../../sql/earthquakes_daily.sql")),
];

pub(super) fn init(args: &Args, screen: &Screen) -> Result<u8> {
    for (name, _) in FILES {
        let path = args.dir.join(name);
        if path.exists() {
            return Err(Error::usage(format!("{} is there already", path.display()))
                .hint("`haul init` writes into a folder that has no project yet"));
        }
    }
    write_all(&args.dir, FILES)?;
    screen.data(&format!("{GOOD}made{GOOD:#} a project in {}", args.dir.display()));
    screen.data("next:\n  haul check\n  haul plan\n  haul run earthquakes");
    Ok(0)
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

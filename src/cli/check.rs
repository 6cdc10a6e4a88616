//! `haul check` and `haul schema`: the project's files, without a network.

use std::path::Path;

use super::screen::GOOD;
use super::{Common, Screen, session};
use crate::config::{self, Options};
use crate::connections::Connections;
use crate::error::{Context, Kind, Result};

pub(super) fn check(common: &Common, screen: &Screen) -> Result<u8> {
    let root = session::root(common)?;
    let names = Connections::open(&root, screen.redactor.clone())?.names();
    let options = Options { known_connections: Some(&names), ..Options::default() };
    let loaded = config::load(&root, &options);
    if screen.is_json() {
        screen.json(&config::to_json(&loaded.diagnostics));
    } else if !loaded.diagnostics.is_empty() {
        screen.tell(config::render(&loaded.diagnostics, &loaded.sources, screen.colors()).trim_end());
    }
    let Some(project) = loaded.project else { return Ok(2) };
    if !screen.is_json() {
        screen.data(&format!(
            "{GOOD}checked{GOOD:#} {} pipelines, {} SQL files: no faults, {} warnings",
            project.pipelines.len(),
            project.sql.len(),
            loaded.diagnostics.len()
        ));
    }
    Ok(0)
}

pub(super) fn schema(dir: Option<&Path>, screen: &Screen) -> Result<u8> {
    let schemas = config::schemas();
    let Some(dir) = dir else {
        screen.json(&schemas);
        return Ok(0);
    };
    std::fs::create_dir_all(dir).context(Kind::Storage, || format!("creating {}", dir.display()))?;
    for (name, schema) in schemas {
        let path = dir.join(name);
        let text = serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n";
        std::fs::write(&path, text).context(Kind::Storage, || format!("writing {}", path.display()))?;
        screen.data(&path.display().to_string());
    }
    Ok(0)
}

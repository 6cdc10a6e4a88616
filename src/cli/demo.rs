//! `haul demo`: several mornings with a week of real earthquakes, served on loopback as the world knew them.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Common, Screen, inspect, run, session};
use crate::demo;
use crate::error::{Context, Kind, Result};
use crate::model::run::Trigger;
use crate::plan::Ask;

/// How long, and where.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many mornings
    #[arg(long, default_value_t = 6)]
    mornings: usize,
    /// Keep the project in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

const FILES: &[(&str, &str)] = &[
    ("pipelines/earthquakes.toml", include_str!("../../pipelines/earthquakes.toml")),
    ("hooks/usgs.toml", include_str!("../../hooks/usgs.toml")),
    ("sql/earthquakes_ranking.sql", include_str!("../../sql/earthquakes_ranking.sql")),
    ("sql/earthquakes_daily.sql", include_str!("../../sql/earthquakes_daily.sql")),
];

pub(super) async fn demo(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    let temporary = tempfile::tempdir().context(Kind::Storage, || "making a folder for the demo".to_owned())?;
    let folder = args.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    let mornings: Vec<_> = demo::mornings().into_iter().take(args.mornings).collect();
    let Some((_, first)) = mornings.first().copied() else { return Ok(0) };
    let server = demo::Server::start(first)?;
    super::init::write_all(&folder, FILES)?;
    let connections = format!(
        "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n[usgs]\ntype = \"http\"\nurl = \"{}\"\n",
        server.url()
    );
    super::init::write_all(&folder, &[("connections.toml", &connections)])?;
    screen.note(&format!("the earthquake service of early February 2018 runs on {}", server.url()));
    let mut common = Common { project: Some(folder.clone()), ..common.clone() };
    for (date, asof) in mornings {
        screen.note(&format!("\n── the morning of {date} ──"));
        server.set_asof(asof);
        common.now = Some(asof);
        let gear = session::gear(&common, screen).await?;
        let pipeline = session::pipeline(&gear.project, "earthquakes")?;
        let ask = Ask {
            trigger: Trigger::Manual,
            logical_date: date,
            select: Vec::new(),
            range: None,
            window: None,
            force: false,
            retry: false,
        };
        let code = run::walk(gear, vec![(Arc::clone(&pipeline), ask)], &common, screen).await?;
        if code != 0 {
            return Ok(code);
        }
    }
    screen.note("\n── haul status ──");
    inspect::status(&inspect::StatusArgs::default(), &common, screen).await?;
    screen.note("\n── haul drift raw.earthquakes ──");
    inspect::drift(Some("raw.earthquakes"), &common, screen).await?;
    if args.keep.is_some() {
        screen.note(&format!("\nthe project is in {}", folder.display()));
    }
    Ok(0)
}

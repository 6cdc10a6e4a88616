//! `haul backfill`: a pipeline for a range of dates.

use chrono::NaiveDate;
use clap::ValueEnum;

use super::{Common, Screen, run, session};
use crate::error::{Error, Result};
use crate::model::run::Trigger;
use crate::plan::{Ask, Range, Reprocess};

/// The range, and what of it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The pipeline
    pipeline: String,
    /// The first date
    #[arg(long)]
    from: NaiveDate,
    /// The first date after the range
    #[arg(long)]
    to: NaiveDate,
    /// Which units of the range
    #[arg(long, value_enum, default_value_t = What::Missing)]
    reprocess: What,
    /// Only these steps
    #[arg(long, value_name = "STEP")]
    select: Vec<String>,
    /// Only show what would be done, and why
    #[arg(long)]
    plan: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Those that were never loaded
    Missing,
    /// Those that failed or are held
    Failed,
    /// All of them
    All,
}

pub(super) async fn backfill(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    if args.from >= args.to {
        return Err(Error::usage(format!("the range from {} to {} is empty", args.from, args.to))
            .hint("`--to` is the first date that is no longer part of it"));
    }
    let gear = session::gear(common, screen).await?;
    let pipeline = session::pipeline(&gear.project, &args.pipeline)?;
    let reprocess = match args.reprocess {
        What::Missing => Reprocess::Missing,
        What::Failed => Reprocess::Failed,
        What::All => Reprocess::All,
    };
    let ask = Ask {
        trigger: Trigger::Backfill,
        logical_date: args.to,
        select: args.select.clone(),
        range: Some(Range { from: args.from, to: args.to, reprocess }),
        window: None,
        force: false,
    };
    if args.plan {
        let code = run::show_plans(&gear, vec![(pipeline, ask)], screen).await?;
        gear.close().await?;
        return Ok(code);
    }
    run::walk(gear, vec![(pipeline, ask)], common, screen).await
}

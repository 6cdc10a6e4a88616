//! `haul backfill`: a pipeline for a range of dates, at once or by the queue.

use std::num::NonZeroU32;

use chrono::NaiveDate;
use clap::ValueEnum;

use super::{Common, Screen, backfills, remote, run, session};
use crate::error::{Error, Result};
use crate::execute::{self, Cut};
use crate::model::run::Trigger;
use crate::plan::{Ask, Range, Reprocess};

/// The range, and what of it.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<backfills::Command>,
    #[command(flatten)]
    range: Option<RangeArgs>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RangeArgs {
    /// The pipeline
    pipeline: String,
    /// The first date
    #[arg(long, value_name = "DATE")]
    from: NaiveDate,
    /// The first date after the range
    #[arg(long, value_name = "DATE", required_unless_present = "through", conflicts_with = "through")]
    to: Option<NaiveDate>,
    /// The last date of the range, instead of --to
    #[arg(long, value_name = "DATE")]
    through: Option<NaiveDate>,
    /// Which units of the range
    #[arg(long, value_enum, default_value_t = What::Missing)]
    reprocess: What,
    /// Only these steps
    #[arg(long, value_name = "STEP")]
    select: Vec<String>,
    /// Only show what would be done, and why
    #[arg(long)]
    plan: bool,
    /// Cut it into jobs for `haul serve`, instead of doing it at once
    #[arg(long, conflicts_with = "plan")]
    queue: bool,
    /// How many days a job has
    #[arg(long, value_name = "DAYS", default_value = "7", requires = "queue")]
    chunk: NonZeroU32,
    /// Which days come first
    #[arg(long, value_enum, default_value_t = Order::Newest, requires = "queue")]
    order: Order,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// The newest
    Newest,
    /// The oldest
    Oldest,
}

impl RangeArgs {
    /// The first date that is no longer part of the range.
    fn end(&self) -> Result<NaiveDate> {
        let through = self.through.and_then(|last| last.succ_opt());
        self.to.or(through).ok_or_else(|| Error::usage("the range has no end").hint("--to, or --through"))
    }

    fn ask(&self) -> Result<Ask> {
        let to = self.end()?;
        if self.from >= to {
            return Err(Error::usage(format!("the range from {} to {to} is empty", self.from))
                .hint("`--to` is the first date that is no longer part of it, `--through` the last one that is"));
        }
        let reprocess = match self.reprocess {
            What::Missing => Reprocess::Missing,
            What::Failed => Reprocess::Failed,
            What::All => Reprocess::All,
        };
        Ok(Ask {
            trigger: Trigger::Backfill,
            logical_date: to,
            select: self.select.clone(),
            range: Some(Range { from: self.from, to, reprocess }),
            window: None,
            force: false,
            retry: false,
        })
    }
}

pub(super) async fn backfill(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    if let Some(command) = &args.command {
        return backfills::steer(command, common, screen).await;
    }
    let Some(args) = &args.range else { return Err(Error::usage("a backfill needs a pipeline and a range")) };
    let ask = args.ask()?;
    let gear = session::gear(common, screen).await?;
    let pipeline = session::pipeline(&gear.project, &args.pipeline)?;
    if args.plan {
        let code = run::show_plans(&gear, vec![(pipeline, ask)], screen).await?;
        gear.close().await?;
        return Ok(code);
    }
    if args.queue {
        let cut = Cut {
            days: args.chunk.get(),
            newest_first: args.order == Order::Newest,
            by: "the command line".to_owned(),
        };
        let (made, noticed) = execute::queue_backfill(&gear, &pipeline, &ask, &cut).await?;
        run::tell_noticed(&noticed, screen);
        gear.close().await?;
        backfills::queued(&made, common, screen);
        return Ok(0);
    }
    let RangeArgs { from, .. } = args;
    let (name, to) = (&pipeline.name, args.end()?);
    let hint = format!(
        "`haul backfill {name} --from {from} --to {to} --queue` gives the range to it, piece by piece; or end it first"
    );
    remote::alone(&gear, &pipeline, screen, &hint)?;
    run::walk(gear, vec![(pipeline, ask)], common, screen).await
}

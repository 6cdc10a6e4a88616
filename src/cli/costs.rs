//! `haul costs`: what was billed, and what was saved by not doing again what had not changed; nothing is asked for.

use chrono::Utc;
use clap::ValueEnum;

use super::screen::{DIM, counted};
use super::{Common, Screen, session};
use crate::error::{Error, Result};
use crate::model::cost::{Bytes, CostLine, CostsAsk, CostsBy};
use crate::state::State;
use crate::time::parse_duration;

/// Which costs are shown, and by what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only of this pipeline
    #[arg(long)]
    pipeline: Option<String>,
    /// Only since then: `30d` ago, or a date in UTC
    #[arg(long, default_value = "30d", value_name = "AGO|DATE")]
    since: String,
    /// By what they are put together; days are those of the bill, in UTC
    #[arg(long, value_enum, default_value_t = By::Pipeline)]
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Pipeline,
    Table,
    Day,
    Step,
}

impl By {
    fn word(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Table => "table",
            Self::Day => "day",
            Self::Step => "step",
        }
    }
}

impl Args {
    fn ask(&self, common: &Common) -> Result<CostsAsk> {
        let now = common.clock().now();
        let since = match self.since.parse::<chrono::NaiveDate>() {
            Ok(date) => date.and_time(chrono::NaiveTime::MIN).and_utc(),
            Err(_) => chrono::Duration::from_std(parse_duration(&self.since)?)
                .ok()
                .and_then(|ago| now.checked_sub_signed(ago))
                .unwrap_or(chrono::DateTime::<Utc>::MIN_UTC),
        };
        let by = match self.by {
            By::Pipeline => CostsBy::Pipeline,
            By::Table => CostsBy::Table,
            By::Day => CostsBy::Day,
            By::Step => CostsBy::Step,
        };
        Ok(CostsAsk { pipeline: self.pipeline.clone(), since, by })
    }
}

pub(super) async fn costs(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    let (project, _) = session::seen(common, screen).await?;
    if let Some(name) = &args.pipeline {
        session::pipeline(&project, name)?;
    }
    let ask = args.ask(common).map_err(|error| error.while_doing("reading `--since`"))?;
    let state = State::open(&project.state_dir).await?;
    let lines = state.costs(&ask).await?;
    let mut total = CostLine { name: "total".to_owned(), ..CostLine::default() };
    lines.iter().for_each(|line| total.add(line));
    if screen.is_json() {
        let since = ask.since.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        screen.json(&serde_json::json!({ "since": since, "by": args.by.word(), "lines": lines, "total": total }));
    } else if screen.is_csv() {
        csv(&lines, args.by, screen)?;
    } else {
        table(&lines, &total, args, screen);
    }
    Ok(0)
}

fn table(lines: &[CostLine], total: &CostLine, args: &Args, screen: &Screen) {
    if lines.is_empty() {
        return screen.note(&format!("nothing was billed since {}", args.since));
    }
    let mut rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    if lines.len() > 1 {
        rows.push(row(total));
    }
    screen.table(&[args.by.word(), "jobs", "billed", "cost", "unchanged units", "saved", "of"], rows);
    if total.cache_hits > 0 {
        let jobs = counted(total.cache_hits, "job");
        screen.data(&format!("{DIM}{jobs} found the result that was there already, and cost nothing{DIM:#}"));
    }
    if total.free_jobs > 0 {
        let jobs = counted(total.free_jobs, "load job");
        screen.data(&format!("{DIM}not counted: {jobs}, which are free{DIM:#}"));
    }
}

fn row(line: &CostLine) -> Vec<String> {
    let saved = line.spared_units > 0;
    vec![
        line.name.clone(),
        line.jobs.to_string(),
        Bytes(line.billed_bytes).to_string(),
        if line.jobs > 0 { line.money.to_string() } else { String::new() },
        line.spared_units.to_string(),
        if saved { Bytes(line.saved_bytes).to_string() } else { String::new() },
        if saved { line.saved_money.to_string() } else { String::new() },
    ]
}

/// One line a name; amounts of several currencies stand in one cell, as `1.50 EUR + 2.00 USD`.
fn csv(lines: &[CostLine], by: By, screen: &Screen) -> Result<()> {
    let broken = |error: csv::Error| Error::internal("writing CSV").because(error);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record([
            by.word(),
            "jobs",
            "cache_hits",
            "free_jobs",
            "processed_bytes",
            "billed_bytes",
            "slot_ms",
            "cost",
            "spared_units",
            "saved_bytes",
            "saved",
        ])
        .map_err(broken)?;
    for line in lines {
        let counts =
            [line.jobs, line.cache_hits, line.free_jobs, line.processed_bytes, line.billed_bytes, line.slot_ms];
        let mut record = vec![line.name.clone()];
        record.extend(counts.map(|count| count.to_string()));
        record.push(line.money.exact());
        record.extend([line.spared_units, line.saved_bytes].map(|count| count.to_string()));
        record.push(line.saved_money.exact());
        writer.write_record(record).map_err(broken)?;
    }
    let bytes = writer.into_inner().map_err(|error| Error::internal("writing CSV").because(error.to_string()))?;
    screen.data(&String::from_utf8_lossy(&bytes));
    Ok(())
}

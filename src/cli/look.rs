//! `haul render`, `preview`, `query` and `approve`: looking at rows, and deciding on held ones.

use chrono::NaiveDate;
use serde_json::{Map, Value};

use super::screen::{GOOD, counted};
use super::{Common, Screen, notify, remote, session};
use crate::api::Client;
use crate::error::Result;
use crate::execute::{self, Gear};
use crate::model::name::TableName;
use crate::warehouse::Rows;

/// A step for a date.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The pipeline
    pipeline: String,
    /// The step
    step: String,
    /// The logical date; today by default
    #[arg(long)]
    date: Option<NaiveDate>,
}

/// A step for a date, and how much of it.
#[derive(Debug, clap::Args)]
pub(super) struct PreviewArgs {
    #[command(flatten)]
    step: Args,
    /// How many rows
    #[arg(long, default_value_t = 10)]
    rows: usize,
}

/// A question to the warehouse.
#[derive(Debug, clap::Args)]
pub(super) struct QueryArgs {
    /// The SELECT
    sql: String,
    /// The warehouse's connection; the first pipeline's by default
    #[arg(long)]
    connection: Option<String>,
    /// How many rows at the most
    #[arg(long, default_value_t = 10_000)]
    rows: usize,
}

pub(super) async fn render(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    let gear = session::gear(common, screen).await?;
    let pipeline = session::pipeline(&gear.project, &args.pipeline)?;
    let date = args.date.unwrap_or_else(|| common.today(pipeline.timezone));
    let all = execute::render(&gear, &pipeline, &args.step, date).await?;
    if screen.is_json() {
        screen.json(&all);
        return Ok(0);
    }
    for one in all {
        screen.data(&format!("{GOOD}-- {}{GOOD:#}\n{}\n", one.unit, one.what.trim_end()));
    }
    Ok(0)
}

pub(super) async fn preview(args: &PreviewArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let (project, connections) = session::project(common, screen)?;
    let pipeline = session::pipeline(&project, &args.step.pipeline)?;
    let date = args.step.date.unwrap_or_else(|| common.today(pipeline.timezone));
    let rows = if let Some(client) = remote::keeper_of(&pipeline.warehouse, &project, &connections, screen)? {
        remote::preview(&client, &pipeline.name, &args.step.step, date, args.rows).await?
    } else {
        let gear = Gear::open(project, connections, common.clock(), screen.redactor.clone()).await?;
        let rows = execute::preview(&gear, &pipeline, &args.step.step, date, args.rows).await?;
        gear.close().await?;
        rows
    };
    print(&rows, screen);
    Ok(0)
}

pub(super) async fn query(args: &QueryArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let (project, connections) = session::surroundings(common, screen)?;
    let first = project.pipelines.first().map(|pipeline| pipeline.warehouse.clone());
    let connection = args.connection.clone().or(first).unwrap_or_else(|| "warehouse".to_owned());
    let rows = if let Some(client) = remote::keeper_of(&connection, &project, &connections, screen)? {
        remote::query(&client, &args.sql, &connection, args.rows).await?
    } else {
        let gear = Gear::open(project, connections, common.clock(), screen.redactor.clone()).await?;
        let rows = gear.warehouse(&connection).await?.query(&args.sql, args.rows).await?;
        gear.close().await?;
        rows
    };
    print(&rows, screen);
    if rows.truncated {
        let first = if args.rows == 1 { "row".to_owned() } else { format!("{} rows", args.rows) };
        screen.note(&format!("only the first {first}; `--rows` shows more"));
    }
    Ok(0)
}

fn print(rows: &Rows, screen: &Screen) {
    if screen.is_json() {
        let objects: Vec<Map<String, Value>> =
            rows.rows.iter().map(|row| rows.columns.iter().cloned().zip(row.iter().cloned()).collect()).collect();
        return screen.json(&objects);
    }
    let header: Vec<&str> = rows.columns.iter().map(String::as_str).collect();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    screen.table(&header, rows.rows.iter().map(|row| row.iter().map(text).collect()).collect());
}

pub(super) async fn decide(table: &str, unit: &str, reject: bool, common: &Common, screen: &Screen) -> Result<u8> {
    let (project, connections) = session::surroundings(common, screen)?;
    let table = TableName::stored(table);
    let decided = if let Some(client) = Client::of(&project, &connections, &screen.redactor)? {
        remote::decide(&client, &table, unit, reject).await?
    } else {
        let gear = Gear::open(project, connections, common.clock(), screen.redactor.clone()).await?;
        let decided = if reject {
            execute::reject(&gear, &table, unit).await?
        } else {
            execute::approve(&gear, &table, unit).await?
        };
        // Whoever heard that it was held hears that it is decided.
        if let Some(teller) = notify::of_run(&gear, common, screen) {
            notify::look(&teller, common, screen).await;
        }
        gear.close().await?;
        decided
    };
    if screen.is_json() {
        screen.json(&decided);
        return Ok(0);
    }
    let what = if reject { "the new rows are thrown away" } else { "the new rows are loaded" };
    screen.data(&format!("{} {}: {what}; it has {}", decided.table, decided.unit, counted(decided.rows, "row")));
    screen.note(&format!("`haul run {}` brings what reads it up to date", decided.pipeline));
    Ok(0)
}

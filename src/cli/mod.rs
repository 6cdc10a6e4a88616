//! The command line: one file for each command or family of commands.
//!
//! stdout is data, stderr is the rest. Exit codes: 0 all fine, 1 something failed, 2 refused (a file or the command line is
//! wrong), 3 something is held, 4 something is late, 5 it would cost more than `max_bytes`, 130 stopped, 70 a defect.

mod backfill;
mod backfills;
mod check;
mod connections;
mod costs;
mod demo;
mod door;
mod fan_view;
mod hooks;
mod init;
mod inspect;
mod junit;
mod logs;
mod look;
mod notify;
mod progress;
mod remote;
mod retry;
mod run;
mod schedule;
mod screen;
mod serve;
mod session;
mod steer;
mod test;
mod traces;
mod upkeep;
mod verify;

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::{Parser, Subcommand, ValueEnum};

use crate::error::{Error, Result};
use crate::time::{Clock, Instant};
pub use screen::Screen;

const EXIT_CODES: &str = "Exit codes: 0 all fine, 1 something failed, 2 refused (a file or the command line is wrong),\n\
                          3 something is held, 4 something is late, 5 it would cost more than max_bytes, 130 stopped,\n\
                          70 a defect of haul.";

/// ELT pipelines for warehouse loads: rolling windows, paginated APIs, Jinja SQL.
#[derive(Debug, Parser)]
#[command(name = "haul", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

/// What every command understands.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// The project's folder; by default this one or the nearest above it
    #[arg(long, global = true, env = "HAUL_PROJECT", value_name = "DIR")]
    project: Option<PathBuf>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// When to use colors; NO_COLOR and CLICOLOR_FORCE are honoured
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// Tell more
    #[arg(long, short, global = true)]
    verbose: bool,
    /// Tell only what went wrong
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Let the clock stand still
    #[arg(long, global = true, env = "HAUL_NOW", hide = true)]
    now: Option<Instant>,
    /// Die by SIGKILL at a boundary of the work, for crash tests: `sealed:2`
    #[arg(long, global = true, hide = true)]
    kill_at: Option<String>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets; only `haul costs` knows it.
    Csv,
}

/// When colors are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a project that runs
    Init(init::Args),
    /// Check all files of the project, without a network
    Check,
    /// Show what a run would do, and why
    Plan(run::Args),
    /// Run one pipeline, or all
    Run(run::RunArgs),
    /// Run a pipeline for a range of dates, at once or by the queue
    Backfill(backfill::Args),
    /// Send the requests of a fan-out that failed once more, just those
    Retry(retry::Args),
    /// Show when pipelines run by themselves, and on which days the clocks make that odd
    Schedule(schedule::Args),
    /// Run the pipelines on their schedules, until somebody asks it to end
    Serve(serve::Args),
    /// Ask for a run: a running `haul serve` begins it
    Trigger(steer::TriggerArgs),
    /// Let the schedule of a pipeline stand still
    Pause(steer::PauseArgs),
    /// Let a paused schedule go on
    Resume {
        /// The pipeline
        pipeline: String,
    },
    /// Cancel a job, queued or under way
    Cancel {
        /// The job's number, or the name of its run
        what: String,
    },
    /// List the jobs that wait or are under way
    Queue(steer::QueueArgs),
    /// List what became of each occurrence of the schedules
    Occurrences(steer::OccurrencesArgs),
    /// Show all tables by days, one sign a day
    Status(inspect::StatusArgs),
    /// List the last runs
    Runs(inspect::RunsArgs),
    /// Show one run with its tasks
    Show {
        /// The run, as `haul runs` lists it
        run: String,
    },
    /// Show what a run has told, or follow one that is under way
    Logs(logs::Args),
    /// Show what was billed, and what skipping what had not changed has saved
    Costs(costs::Args),
    /// Show what re-pulls changed, by the age of the unit
    Drift {
        /// The table; all of them by default
        table: Option<String>,
    },
    /// List what is wrong now, since when, and who was told
    Incidents(notify::IncidentsArgs),
    /// Print the report of the last day: what ran, what is wrong, rows, drift, costs
    Report(notify::ReportArgs),
    /// Look after those who are told what goes wrong
    Notify {
        #[command(subcommand)]
        command: notify::Command,
    },
    /// Look at everything that may be wrong around the project, and say what to do
    Doctor(upkeep::DoctorArgs),
    /// Remove history that is older than the project wants to keep, and give its room back
    Gc(upkeep::GcArgs),
    /// Load, or throw away, a unit that a guard held
    Approve {
        /// The table
        table: String,
        /// The unit, such as 2018-02-01
        unit: String,
        /// Throw the new rows away instead
        #[arg(long)]
        reject: bool,
    },
    /// Print what a step sends
    Render(look::Args),
    /// Show the first rows that a step would bring; nothing is written
    Preview(look::PreviewArgs),
    /// Ask the warehouse; nothing that the statement writes stays
    Query(look::QueryArgs),
    /// Look after connections
    Connections {
        #[command(subcommand)]
        command: connections::Command,
    },
    /// Look after hooks: the project's own, and those of others
    Hooks {
        #[command(subcommand)]
        command: hooks::Command,
    },
    /// Compute pipelines offline, on given rows or recorded answers, and compare tables
    Test(test::Args),
    /// Prove on given rows that units depend on no window, clock or chance
    VerifyWindow(verify::Args),
    /// Run a pipeline's extracts for real, and keep what is exchanged, without secrets
    Record(test::RecordArgs),
    /// Print the JSON Schemas of the project's files
    Schema {
        /// Write them into this folder
        #[arg(long)]
        dir: Option<PathBuf>,
        /// The OpenAPI document of `haul serve` instead
        #[arg(long)]
        openapi: bool,
    },
    /// Show haul at work on a week of real earthquakes, without a network
    Demo(demo::Args),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Does what the arguments say; returns the exit code.
pub async fn main(arguments: Arguments) -> u8 {
    let screen = Screen::new(&arguments.common);
    match dispatch(arguments, &screen).await {
        Ok(code) => code,
        Err(error) => {
            screen.error(&error);
            error.kind().exit_code()
        }
    }
}

async fn dispatch(arguments: Arguments, screen: &Screen) -> Result<u8> {
    let common = &arguments.common;
    if common.output == Output::Csv && !matches!(arguments.command, Command::Costs(_)) {
        return Err(Error::usage("only `haul costs` prints CSV").hint("--output json"));
    }
    match arguments.command {
        Command::Init(args) => init::init(&args, screen),
        Command::Check => check::check(common, screen),
        Command::Schema { dir, openapi } => check::schema(dir.as_deref(), openapi, screen),
        Command::Plan(args) => run::plan(&args, common, screen).await,
        Command::Run(args) => run::run(&args, common, screen).await,
        Command::Backfill(args) => backfill::backfill(&args, common, screen).await,
        Command::Retry(args) => retry::retry(&args, common, screen).await,
        Command::Schedule(args) => schedule::schedule(&args, common, screen).await,
        Command::Serve(args) => serve::serve(&args, common, screen).await,
        Command::Trigger(args) => steer::trigger(&args, common, screen).await,
        Command::Pause(args) => steer::pause(&args, common, screen).await,
        Command::Resume { pipeline } => steer::resume(&pipeline, common, screen).await,
        Command::Cancel { what } => steer::cancel(&what, common, screen).await,
        Command::Queue(args) => steer::queue(&args, common, screen).await,
        Command::Occurrences(args) => steer::occurrences(&args, common, screen).await,
        Command::Status(args) => inspect::status(&args, common, screen).await,
        Command::Runs(args) => inspect::runs(&args, common, screen).await,
        Command::Show { run } => inspect::show(&run, common, screen).await,
        Command::Logs(args) => logs::logs(&args, common, screen).await,
        Command::Costs(args) => costs::costs(&args, common, screen).await,
        Command::Drift { table } => inspect::drift(table.as_deref(), common, screen).await,
        Command::Incidents(args) => notify::incidents(&args, common, screen).await,
        Command::Report(args) => notify::report(&args, common, screen).await,
        Command::Notify { command } => notify::notify(command, common, screen).await,
        Command::Doctor(args) => upkeep::doctor(&args, common, screen).await,
        Command::Gc(args) => upkeep::gc(&args, common, screen).await,
        Command::Approve { table, unit, reject } => look::decide(&table, &unit, reject, common, screen).await,
        Command::Render(args) => look::render(&args, common, screen).await,
        Command::Preview(args) => look::preview(&args, common, screen).await,
        Command::Query(args) => look::query(&args, common, screen).await,
        Command::Connections { command } => connections::run(command, common, screen).await,
        Command::Hooks { command } => hooks::run(command, common, screen).await,
        Command::Test(args) => test::test(&args, common, screen).await,
        Command::VerifyWindow(args) => verify::verify(&args, common, screen).await,
        Command::Record(args) => test::record(&args, common, screen).await,
        Command::Demo(args) => demo::demo(&args, common, screen).await,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut <Arguments as clap::CommandFactory>::command(), "haul", &mut text);
            screen.data(&String::from_utf8_lossy(&text));
            Ok(0)
        }
    }
}

impl Common {
    /// The clock of this process.
    fn clock(&self) -> Clock {
        self.now.map_or(Clock::System, Clock::Fixed)
    }

    /// Today in a zone.
    fn today(&self, tz: crate::time::Tz) -> NaiveDate {
        self.clock().now().with_timezone(&tz).date_naive()
    }
}

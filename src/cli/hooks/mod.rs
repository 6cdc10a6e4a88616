//! `haul hooks`: what hooks there are, what they tell of themselves, whether they work, and those of others.

mod add;
mod fetch;
mod show;

use clap::Subcommand;

use super::screen::{GOOD, counted};
use super::{Common, Screen, session, test};
use crate::connections::Connections;
use crate::error::{Error, Result};
use crate::model::manual::Manual;
use crate::model::pipeline::Project;
use crate::replay;

/// What to do with hooks.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the hooks of the project
    List,
    /// Show what a hook does, what it needs, and what a step may set
    Show {
        /// The hook
        name: String,
    },
    /// Run the hooks' own tests on recorded answers, without a network
    Test {
        /// The hooks; all of them by default
        names: Vec<String>,
        /// Ask the APIs for real, and keep their answers for the tests
        #[arg(long)]
        record: bool,
    },
    /// Bring a hook of others into the project
    Add(add::Args),
    /// Bring a hook of others up to date
    Update(add::UpdateArgs),
    /// Accept what was changed by hand in a hook of others
    Pin {
        /// The hook
        name: String,
    },
    /// Take a hook of others out of the project
    Remove {
        /// The hook
        name: String,
        /// Also where a pipeline uses it
        #[arg(long)]
        force: bool,
    },
}

pub(super) async fn run(command: Command, common: &Common, screen: &Screen) -> Result<u8> {
    match command {
        Command::List => {
            show::list(&session::offline(common, screen)?, screen);
            Ok(0)
        }
        Command::Show { name } => {
            show::show(one(&session::offline(common, screen)?, &name)?, screen);
            Ok(0)
        }
        Command::Test { names, record } => tests(&names, record, common, screen).await,
        Command::Add(args) => add::add(&args, &session::root(common)?, screen),
        Command::Update(args) => add::update(&args, &session::root(common)?, screen),
        Command::Pin { name } => add::pin(&name, &session::root(common)?, screen),
        Command::Remove { name, force } => add::remove(&name, force, &session::root(common)?, screen),
    }
}

fn one<'p>(project: &'p Project, name: &str) -> Result<&'p Manual> {
    project.hooks.iter().find(|hook| hook.name == name).ok_or_else(|| {
        let names: Vec<&str> = project.hooks.iter().map(|hook| hook.name.as_str()).collect();
        Error::usage(format!("there is no hook `{name}`")).hint(if names.is_empty() {
            "hooks are files in hooks/; `haul hooks add` brings those of others".to_owned()
        } else {
            format!("the project has {}", names.join(", "))
        })
    })
}

async fn tests(names: &[String], record: bool, common: &Common, screen: &Screen) -> Result<u8> {
    let project = session::offline(common, screen)?;
    let hooks: Vec<&Manual> = match names {
        [] => project.hooks.iter().filter(|hook| !hook.tests.is_empty()).collect(),
        names => names.iter().map(|name| one(&project, name)).collect::<Result<_>>()?,
    };
    if hooks.iter().all(|hook| hook.tests.is_empty()) {
        return Err(Error::usage("there are no tests").hint("a hook's test begins with [[test]] in its file"));
    }
    if record {
        let connections = Connections::open(&project.root, screen.redactor.clone())?;
        for hook in &hooks {
            if let Some((path, count)) = replay::record_hook(&project, &connections, hook, &screen.redactor).await? {
                let exchanges = counted(count as u64, "exchange");
                screen.note(&format!("{GOOD}recorded{GOOD:#} {exchanges} into {}", path.display()));
            }
        }
    }
    let mut reports = Vec::new();
    for hook in hooks {
        for test in &hook.tests {
            let report = replay::test_hook(&project, hook, test).await;
            test::tell(&report, screen);
            reports.push(report);
        }
    }
    Ok(test::finish(&reports, screen))
}

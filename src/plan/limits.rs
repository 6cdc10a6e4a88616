//! Whether what a plan would be billed for stays within `max_bytes`, told before anything is spent.

use crate::error::{Error, Kind, Result};
use crate::model::cost::{Bytes, Expected, Limit, LimitScope, Quote};
use crate::model::plan::{Plan, PlannedTask};

/// So many of the largest are named.
const NAMED: usize = 3;

/// Refuses a plan that would be billed for more than `max_bytes` of a step, of the pipeline or of the project.
///
/// What cannot be told before it runs counts nothing here; it is looked at again right before its statement.
///
/// # Errors
/// [`Kind::Budget`], with what would read how much, and what the limit is.
pub fn within(plan: &Plan) -> Result<()> {
    let mut priced: Vec<(&PlannedTask, &Quote)> = plan.tasks.iter().filter_map(priced).collect();
    priced.sort_by_key(|(_, quote)| std::cmp::Reverse(quote.price.billed));
    let over: Vec<Error> = priced.iter().filter_map(|(task, quote)| over_step(task, quote)).collect();
    let doing = format!("running `{}` for {}", plan.pipeline.name, plan.logical_date);
    if let Some((first, others)) = over.split_first() {
        let more = match others.len() {
            0 => String::new(),
            1 => ", and so does 1 other unit".to_owned(),
            more => format!(", and so do {more} other units"),
        };
        let error = Error::new(Kind::Budget, doing).because(format!("{}{more}", first.chain()));
        return Err(hinted(error, LimitScope::Step));
    }
    let sum = priced.iter().map(|(_, quote)| quote.price.billed).sum();
    match plan.pipeline.max_bytes.filter(|limit| sum > limit.bytes) {
        Some(limit) => Err(over_run(doing, sum, limit, &priced)),
        None => Ok(()),
    }
}

fn priced(task: &PlannedTask) -> Option<(&PlannedTask, &Quote)> {
    match &task.expected {
        Expected::Priced(quote) => Some((task, quote)),
        Expected::Free | Expected::Spared | Expected::Unknown(_) => None,
    }
}

/// The refusal of a task of which one statement would be billed for more than its step allows.
pub fn over_step(task: &PlannedTask, quote: &Quote) -> Option<Error> {
    let limit = task.step.max_bytes().filter(|limit| quote.largest > limit.bytes)?;
    let text = format!(
        "{} would be billed for {}, `max_bytes` of the step `{}` is {limit}",
        task.id,
        Bytes(quote.largest),
        task.step.name
    );
    Some(Error::new(Kind::Budget, text))
}

fn over_run(doing: String, sum: u64, limit: Limit, priced: &[(&PlannedTask, &Quote)]) -> Error {
    let named: Vec<String> =
        priced.iter().take(NAMED).map(|(task, quote)| format!("{} {}", task.id, Bytes(quote.price.billed))).collect();
    let more = if priced.len() > NAMED { ", …" } else { "" };
    let whose = if limit.scope == LimitScope::Project { "of haul.toml" } else { "of the pipeline" };
    let sum = Bytes(sum);
    let text =
        format!("it would be billed for {sum}, `max_bytes` {whose} is {limit}; the most: {}{more}", named.join(", "));
    hinted(Error::new(Kind::Budget, doing).because(text), limit.scope)
}

/// Says what would help.
fn hinted(error: Error, scope: LimitScope) -> Error {
    let help = match scope {
        LimitScope::Step => {
            "read fewer columns, or fewer days by a literal predicate on the partition; or raise `max_bytes`"
        }
        LimitScope::Pipeline | LimitScope::Project => {
            "a shorter range or `--select` does less at once; fewer columns and a literal predicate on the partition \
             read less; or raise `max_bytes`"
        }
    };
    error.hint("nothing was spent; `haul plan` shows what each unit would be billed for").hint(help)
}

//! What is due, and why, for every state that a ledger can be in.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::error::Kind;
use crate::model::answer::AnswerForm;
use crate::model::hook::{Method, PageStyle, Paginate, RequestTemplate, RetryPolicy};
use crate::model::ledger::{Fingerprint, Loaded, UnitRecord, UnitState};
use crate::model::name::{Origin, TableName, Text};
use crate::model::pipeline::{Extract, Guard, Naming, Nested, Read, Sql, Tier, Transform, WindowRule};
use crate::model::schema::Contract;
use crate::model::source::{HttpSource, Source};
use crate::model::steering::Steering;
use crate::time::{Calendar, Grain, Reach, Tz};

fn date(text: &str) -> NaiveDate {
    text.parse().expect("a date")
}

fn instant(text: &str) -> Instant {
    text.parse().expect("an instant")
}

fn origin() -> Origin {
    Origin { file: Arc::new(PathBuf::from("pipelines/p.toml")), line: 1, column: 1 }
}

fn table(name: &str) -> TableName {
    TableName { schema: "t".to_owned(), name: name.to_owned() }
}

fn step(name: &str, action: Action) -> Step {
    Step {
        keys: Vec::new(),
        layout: crate::model::layout::Layout::default(),
        name: name.to_owned(),
        origin: origin(),
        into: table(name),
        write: Write::Replace,
        checks: Vec::new(),
        guard: Guard::default(),
        after: Vec::new(),
        action,
    }
}

fn extract(name: &str, per: Per) -> Step {
    let text = Text::new("/x", origin());
    step(
        name,
        Action::Extract(Box::new(Extract {
            connection: "api".to_owned(),
            hook: None,
            foreign: false,
            params: BTreeMap::new(),
            source: Source::Http(Box::new(HttpSource {
                auth: None,
                request: RequestTemplate {
                    method: Method::Get,
                    path: text,
                    params: Vec::new(),
                    headers: Vec::new(),
                    body: None,
                },
                paginate: Paginate {
                    by: PageStyle::Single,
                    total: None,
                    total_pages: None,
                    has_more: None,
                    short_page_ends: false,
                    max_pages: 10,
                    may_repeat: false,
                },
                records: None,
                form: AnswerForm::default(),
                rules: Vec::new(),
                conditional: false,
                report: None,
                retry: RetryPolicy::default(),
                limits: Arc::default(),
                for_each: None,
                max_failed: crate::model::fanout::MaxFailed::None,
            })),
            download: None,
            per,
            time: None,
            time_zone: None,
            landing: None,
            columns: BTreeMap::new(),
            contract: Contract::Evolve,
            nested: Nested::Struct,
            naming: Naming::Source,
        })),
    )
}

fn transform(name: &str, per: Per, reads: &[(&str, Reach)]) -> Step {
    let reads = reads
        .iter()
        .map(|(read, reach)| Read {
            name: (*read).to_owned(),
            pipeline: if read.starts_with("other") { "other" } else { "p" }.to_owned(),
            step: (*read).to_owned(),
            table: table(read),
            relation: table(read),
            reach: *reach,
        })
        .collect();
    let sql = Text::new("SELECT 1", origin());
    step(
        name,
        Action::Transform(Transform {
            sql: Sql::One(sql),
            reads,
            sources: Vec::new(),
            per,
            time_column: None,
            max_bytes: None,
        }),
    )
}

fn rule() -> WindowRule {
    let tier = |days: u64, units| Tier { every: Duration::from_hours(days * 24), units };
    WindowRule {
        grain: Grain::Day,
        tiers: vec![tier(1, NonZeroU32::new(3).expect("3"))],
        begin: Some(date("2024-01-01")),
        settle_after: None,
        settle_pulls: None,
        guard: Guard::default(),
    }
}

fn pipeline(window: Option<WindowRule>, steps: Vec<Step>) -> Arc<Pipeline> {
    Arc::new(Pipeline {
        name: "p".to_owned(),
        description: None,
        file: PathBuf::from("pipelines/p.toml"),
        timezone: Tz::UTC,
        warehouse: "warehouse".to_owned(),
        schedule: None,
        window,
        vars: BTreeMap::new(),
        steering: Steering::default(),
        max_active: 4,
        max_bytes: None,
        steps: steps.into_iter().map(Arc::new).collect(),
    })
}

/// A record of a unit that was pulled, and changed, on the morning after it ended.
fn record(name: &str, unit: &str, state: UnitState) -> UnitRecord {
    let at = Calendar::new(Grain::Day, Tz::UTC)
        .parse(unit)
        .map_or(instant("2024-01-01T06:00:00Z"), |unit| unit.end + chrono::Duration::hours(6));
    let loaded = Loaded { pull: 1, generation: 1, rows: 5, fingerprint: Fingerprint(1), inputs: None, loaded_at: at };
    UnitRecord {
        table: table(name),
        unit: UnitKey::stored(unit),
        state,
        loaded: (state == UnitState::Loaded).then_some(loaded),
        last_pull: 1,
        pulled_at: at,
        unchanged_pulls: 0,
        reason: None,
        probe: None,
        held_stage: None,
        backfilled: false,
    }
}

fn loaded(name: &str, units: std::ops::RangeInclusive<u32>) -> Vec<UnitRecord> {
    units.map(|day| record(name, &format!("2024-03-{day:02}"), UnitState::Loaded)).collect()
}

/// The run of the tenth of March: its window is the 7th, 8th and 9th.
fn ask() -> Ask {
    Ask {
        trigger: Trigger::Manual,
        logical_date: date("2024-03-10"),
        select: Vec::new(),
        range: None,
        window: None,
        force: false,
        retry: false,
    }
}

fn backfill(from: &str, to: &str, reprocess: Reprocess) -> Ask {
    Ask { range: Some(Range { from: date(from), to: date(to), reprocess }), trigger: Trigger::Backfill, ..ask() }
}

fn now() -> Instant {
    instant("2024-03-10T06:00:00Z")
}

fn planned(pipeline: &Arc<Pipeline>, records: Vec<UnitRecord>, ask: &Ask) -> Plan {
    build(pipeline, &Snapshot::new(records), ask, now()).unwrap_or_else(|error| panic!("{}", error.chain()))
}

fn refused(pipeline: &Arc<Pipeline>, records: Vec<UnitRecord>, ask: &Ask) -> Error {
    build(pipeline, &Snapshot::new(records), ask, now()).expect_err("refused")
}

/// The tasks in short: `a 03-07 new`, `b 03-07..03-09 re-pull`.
fn tasks(plan: &Plan) -> Vec<String> {
    plan.tasks
        .iter()
        .map(|task| {
            let units = match (task.units.first(), task.units.last()) {
                (Some(first), Some(last)) if first == last => first.key().as_str()[5..].to_owned(),
                (Some(first), Some(last)) => format!("{}..{}", &first.key().as_str()[5..], &last.key().as_str()[5..]),
                _ => "all".to_owned(),
            };
            format!("{} {units} {}", task.step.name, task.due.words())
        })
        .collect()
}

#[test]
fn an_empty_ledger_makes_the_window_due_and_nothing_else() {
    let plan = planned(&pipeline(Some(rule()), vec![extract("a", Per::Unit)]), Vec::new(), &ask());
    assert_eq!(tasks(&plan), ["a 03-07 new", "a 03-08 new", "a 03-09 new"]);
    let window = plan.window.expect("a window");
    assert_eq!((window.first().key().as_str(), window.last().key().as_str()), ("2024-03-07", "2024-03-09"));
}

#[test]
fn gaps_failures_and_lost_units_before_the_window_are_repaired() {
    let mut records = loaded("a", 1..=8);
    records.retain(|record| record.unit.as_str() != "2024-03-03");
    records.push(record("a", "2024-03-04", UnitState::Failed));
    records.push(record("a", "2024-03-05", UnitState::Missing));
    records.push(record("a", "2024-03-06", UnitState::Held));
    let plan = planned(&pipeline(Some(rule()), vec![extract("a", Per::Unit)]), records, &ask());
    assert_eq!(
        tasks(&plan),
        [
            "a 03-03 gap",
            "a 03-04 failed before",
            "a 03-05 missing in the warehouse",
            "a 03-07 re-pull",
            "a 03-08 re-pull",
            "a 03-09 new",
        ]
    );
    assert_eq!(plan.left.len(), 1);
    assert_eq!(plan.left[0].unit.as_str(), "2024-03-06");
    assert!(plan.left[0].why.contains("decision"));
}

#[test]
fn a_failure_before_the_first_loaded_unit_is_not_forgotten() {
    let mut records = loaded("a", 6..=8);
    records.push(record("a", "2024-03-04", UnitState::Failed));
    let plan = planned(&pipeline(Some(rule()), vec![extract("a", Per::Unit)]), records, &ask());
    assert_eq!(tasks(&plan)[0], "a 03-04 failed before");
    assert_eq!(plan.tasks.len(), 4, "the fifth was never asked for: {:?}", tasks(&plan));
}

#[test]
fn what_only_backfills_have_loaded_is_no_beginning_of_a_gap() {
    let by_backfill = |records: Vec<UnitRecord>| -> Vec<UnitRecord> {
        records.into_iter().map(|record| UnitRecord { backfilled: true, ..record }).collect()
    };
    let steps = vec![extract("a", Per::Unit), transform("b", Per::Unit, &[("a", Reach::SAME)])];
    let pipe = pipeline(Some(rule()), steps);
    let tables = |records: &[UnitRecord]| -> Vec<UnitRecord> {
        let of = |name: &str| records.iter().map(|one| UnitRecord { table: table(name), ..one.clone() }).collect();
        [of("a"), of("b")].into_iter().flat_map(|records: Vec<_>| records).collect()
    };
    let mut records = by_backfill(loaded("a", 1..=2));
    records.extend(by_backfill(vec![record("a", "2024-03-03", UnitState::Failed)]));
    let window = ["a 03-07 new", "a 03-08 new", "a 03-09 new"];
    let plan = planned(&pipe, tables(&records), &ask());
    assert_eq!(tasks(&plan)[..3], window, "no run of a day has loaded anything yet");
    assert_eq!(plan.tasks.len(), 6, "{:?}", tasks(&plan));
    let left: Vec<_> = plan.left.iter().map(|left| (left.step.as_str(), left.unit.as_str())).collect();
    assert_eq!(left, [("a", "2024-03-03"), ("b", "2024-03-03")]);
    assert!(plan.left[0].why.contains("only a backfill"), "{:?}", plan.left);

    // The fifth is a day's own: behind it there are gaps, and what failed there is repaired whoever asked for it first.
    records.push(record("a", "2024-03-05", UnitState::Loaded));
    let plan = planned(&pipe, tables(&records), &ask());
    assert_eq!(tasks(&plan)[0], "a 03-06 gap");
    assert_eq!(plan.tasks.len(), 8, "{:?}", tasks(&plan));
    records.extend(by_backfill(vec![record("a", "2024-03-06", UnitState::Failed)]));
    let plan = planned(&pipe, tables(&records), &ask());
    assert_eq!(tasks(&plan)[0], "a 03-06 failed before");
    let again = planned(&pipe, tables(&records), &backfill("2024-03-01", "2024-03-05", Reprocess::Missing));
    assert_eq!(
        tasks(&again),
        ["a 03-03 failed before", "a 03-04 new", "b 03-03 failed before", "b 03-04 new"],
        "a backfill does what it is asked to"
    );
}

#[test]
fn a_unit_of_a_backfill_that_a_tier_reaches_is_repaired_by_the_days() {
    let tiers = vec![rule().tiers[0], Tier { every: Duration::from_hours(24), units: NonZeroU32::new(6).expect("6") }];
    let failed = |unit: &str| UnitRecord { backfilled: true, ..record("a", unit, UnitState::Failed) };
    let records = vec![failed("2024-03-02"), failed("2024-03-05")];
    let pipe = pipeline(Some(WindowRule { tiers, ..rule() }), vec![extract("a", Per::Unit)]);
    let plan = planned(&pipe, records, &ask());
    assert_eq!(tasks(&plan), ["a 03-05 failed before", "a 03-07 new", "a 03-08 new", "a 03-09 new"]);
}

#[test]
fn nothing_before_begin_is_ever_due() {
    let rule = WindowRule { begin: Some(date("2024-03-08")), ..rule() };
    let mut records = loaded("a", 5..=5);
    records.push(record("a", "2024-03-06", UnitState::Failed));
    let steps = || vec![extract("a", Per::Unit), transform("b", Per::Unit, &[("a", Reach { from: 0, to: 3 })])];
    let plan = planned(&pipeline(Some(rule.clone()), steps()), records, &ask());
    assert_eq!(tasks(&plan), ["a 03-08 new", "a 03-09 new", "b 03-08 new", "b 03-09 new",]);
    let early = Ask { logical_date: date("2024-03-08"), ..ask() };
    let error = refused(&pipeline(Some(rule), steps()), Vec::new(), &early);
    assert_eq!(error.kind(), Kind::NothingDue);
    assert!(error.chain().contains("begins with 2024-03-08"));
}

#[test]
fn a_unit_that_has_not_begun_is_not_loaded_empty() {
    let future = Ask { logical_date: date("2024-03-13"), ..ask() };
    let plan = planned(&pipeline(Some(rule()), vec![extract("a", Per::Unit)]), Vec::new(), &future);
    assert_eq!(tasks(&plan), ["a 03-10 new"]);
    assert_eq!(plan.left.len(), 2);
    let far = Ask { logical_date: date("2030-01-01"), ..ask() };
    let error = refused(&pipeline(Some(rule()), vec![extract("a", Per::Unit)]), Vec::new(), &far);
    assert!(error.chain().contains("3 × it has not begun yet"), "{}", error.chain());
}

#[test]
fn units_of_a_later_tier_are_due_when_their_last_pull_is_old_enough() {
    let tiers =
        vec![rule().tiers[0], Tier { every: Duration::from_hours(3 * 24), units: NonZeroU32::new(8).expect("8") }];
    let rule = WindowRule { tiers, ..rule() };
    let mut records = loaded("a", 1..=9);
    // The tier covers the 2nd to the 9th. The 3rd was pulled half an hour too early to be three days old.
    for (unit, at) in [("2024-03-02", "2024-03-09T06:00:00Z"), ("2024-03-03", "2024-03-07T06:30:00Z")] {
        let place = records.iter().position(|record| record.unit.as_str() == unit).expect("a record");
        records[place].pulled_at = instant(at);
    }
    let plan = planned(&pipeline(Some(rule.clone()), vec![extract("a", Per::Unit)]), records.clone(), &ask());
    assert_eq!(&tasks(&plan)[..4], ["a 03-03 re-pull", "a 03-04 re-pull", "a 03-05 re-pull", "a 03-06 re-pull"]);
    assert!(
        plan.left.iter().any(|left| left.unit.as_str() == "2024-03-02" && left.why.contains("3days")),
        "{:?}",
        plan.left
    );

    let settled = WindowRule { settle_after: Some(Duration::from_hours(5 * 24)), ..rule };
    let plan = planned(&pipeline(Some(settled), vec![extract("a", Per::Unit)]), records, &ask());
    assert_eq!(&tasks(&plan)[..2], ["a 03-05 re-pull", "a 03-06 re-pull"]);
    let why = |unit: &str| plan.left.iter().find(|left| left.unit.as_str() == unit).map(|left| left.why.clone());
    assert!(why("2024-03-04").expect("left alone").contains("settled"));
}

#[test]
fn a_unit_whose_pulls_changed_nothing_is_left_alone_also_in_the_window() {
    let rule = WindowRule { settle_pulls: NonZeroU32::new(2), settle_after: Some(Duration::from_secs(1)), ..rule() };
    let mut records = loaded("a", 7..=9);
    records[1].unchanged_pulls = 2;
    let pipe = pipeline(Some(rule), vec![extract("a", Per::Unit)]);
    let plan = planned(&pipe, records.clone(), &ask());
    assert_eq!(tasks(&plan), ["a 03-07 re-pull", "a 03-09 re-pull"]);
    assert!(plan.left[0].why.contains("2 pulls in a row changed nothing"));
    for record in &mut records {
        record.unchanged_pulls = 2;
    }
    let error = refused(&pipe, records.clone(), &ask());
    assert_eq!(error.kind(), Kind::NothingDue);
    assert!(error.chain().contains("nothing is due: 3 × it is settled"), "{}", error.chain());
    let plan = planned(&pipe, records, &Ask { force: true, ..ask() });
    assert_eq!(tasks(&plan), ["a 03-07 asked for", "a 03-08 asked for", "a 03-09 asked for"]);
}

#[test]
fn an_extract_over_the_window_is_one_task_and_each_run_of_gaps_another() {
    let mut records = loaded("a", 1..=9);
    records.retain(|record| !["2024-03-02", "2024-03-03", "2024-03-06"].contains(&record.unit.as_str()));
    let plan = planned(&pipeline(Some(rule()), vec![extract("a", Per::Window)]), records, &ask());
    assert_eq!(tasks(&plan), ["a 03-02..03-03 gap", "a 03-06 gap", "a 03-07..03-09 re-pull"]);
}

#[test]
fn a_changed_day_makes_the_days_due_whose_reach_touches_it_and_no_later_one() {
    let steps = vec![extract("a", Per::Unit), transform("b", Per::Unit, &[("a", Reach { from: -2, to: 0 })])];
    let mut records = loaded("a", 1..=9);
    records.extend(loaded("b", 1..=9));
    records.push(record("a", "2024-03-04", UnitState::Failed));
    let plan = planned(&pipeline(Some(rule()), steps), records, &ask());
    let b: Vec<String> = tasks(&plan).into_iter().filter(|task| task.starts_with('b')).collect();
    assert_eq!(
        b,
        [
            "b 03-04 if what it reads has changed",
            "b 03-05 if what it reads has changed",
            "b 03-06 if what it reads has changed",
            "b 03-07 if what it reads has changed",
            "b 03-08 if what it reads has changed",
            "b 03-09 if what it reads has changed",
        ]
    );
    let after = |unit: &str| -> Vec<String> {
        let task =
            plan.tasks.iter().find(|task| task.id.step == "b" && task.id.unit.as_str() == unit).expect("planned");
        task.after.iter().map(|place| plan.tasks[*place].id.unit.as_str()[5..].to_owned()).collect()
    };
    assert_eq!(after("2024-03-06"), ["03-04"]);
    assert_eq!(after("2024-03-09"), ["03-07", "03-08", "03-09"]);
}

#[test]
fn a_day_that_changed_while_its_reader_was_not_computed_is_not_forgotten() {
    let steps = vec![extract("a", Per::Unit), transform("b", Per::Unit, &[("a", Reach { from: -1, to: 0 })])];
    let mut records = loaded("a", 1..=9);
    records.extend(loaded("b", 1..=9));
    // A process was killed between the re-pull of the second and what reads it.
    records[1].loaded.as_mut().expect("loaded").loaded_at = instant("2024-03-08T00:00:00Z");
    let plan = planned(&pipeline(Some(rule()), steps), records, &ask());
    assert_eq!(&tasks(&plan)[3..5], ["b 03-02 if what it reads has changed", "b 03-03 if what it reads has changed"]);
}

#[test]
fn later_days_that_are_computed_already_are_dirtied_by_a_run_for_an_earlier_date() {
    let steps = vec![extract("a", Per::Unit), transform("b", Per::Unit, &[("a", Reach { from: -2, to: 0 })])];
    let mut records = loaded("a", 1..=9);
    records.extend(loaded("b", 1..=5));
    let plan = planned(&pipeline(Some(rule()), steps), records, &backfill("2024-03-02", "2024-03-05", Reprocess::All));
    assert_eq!(
        tasks(&plan),
        [
            "a 03-02 asked for",
            "a 03-03 asked for",
            "a 03-04 asked for",
            "b 03-02 asked for",
            "b 03-03 asked for",
            "b 03-04 asked for",
            "b 03-05 if what it reads has changed",
        ]
    );
}

#[test]
fn a_new_transform_waits_for_something_to_read() {
    let steps = vec![extract("a", Per::Unit), transform("b", Per::Unit, &[("other", Reach::SAME)])];
    let mut records = loaded("a", 1..=9);
    records.push(record("other", "2024-03-08", UnitState::Loaded));
    let plan = planned(&pipeline(Some(rule()), steps), records, &ask());
    assert_eq!(&tasks(&plan)[3..], ["b 03-08 new"]);
    assert!(plan.tasks[3].after.is_empty(), "another pipeline's step makes no edge");
    assert!(plan.left.iter().any(|left| left.step == "b" && left.why == "there is nothing to read yet"));
}

#[test]
fn a_transform_of_sources_only_follows_the_window() {
    let plan = planned(&pipeline(Some(rule()), vec![transform("b", Per::Unit, &[])]), loaded("b", 5..=8), &ask());
    assert_eq!(tasks(&plan), ["b 03-07 re-pull", "b 03-08 re-pull", "b 03-09 new"]);
}

#[test]
fn a_transform_over_the_window_is_one_task_for_each_contiguous_run() {
    let steps = vec![extract("a", Per::Unit), transform("b", Per::Window, &[("a", Reach { from: -1, to: 0 })])];
    let mut records = loaded("a", 1..=9);
    records.extend(loaded("b", 1..=9));
    records.push(record("a", "2024-03-02", UnitState::Failed));
    records.push(record("a", "2024-03-05", UnitState::Failed));
    let plan = planned(&pipeline(Some(rule()), steps), records, &ask());
    let conditional = "if what it reads has changed";
    assert_eq!(tasks(&plan)[5..], [format!("b 03-02..03-03 {conditional}"), format!("b 03-05..03-09 {conditional}")]);
    assert_eq!(plan.tasks[6].after, [1, 2, 3, 4]);
}

#[test]
fn whole_tables_are_one_task_and_wait_for_all_that_they_read() {
    let mut whole = transform("b", Per::Unit, &[("a", Reach::SAME)]);
    whole.write = Write::Full;
    let steps = vec![whole, extract("a", Per::Unit)];
    let plan = planned(&pipeline(Some(rule()), steps.clone()), Vec::new(), &ask());
    assert_eq!(tasks(&plan), ["a 03-07 new", "a 03-08 new", "a 03-09 new", "b all snapshot"]);
    assert_eq!(plan.tasks[3].after, [0, 1, 2]);
    let plan = planned(&pipeline(None, steps), Vec::new(), &ask());
    assert_eq!(tasks(&plan), ["a all snapshot", "b all snapshot"]);
    assert!(plan.window.is_none());
    assert_eq!(plan.tasks[1].after, [0]);
}

#[test]
fn a_backfill_does_what_it_is_asked_to() {
    let pipe = pipeline(Some(rule()), vec![extract("a", Per::Unit)]);
    let mut records = loaded("a", 2..=3);
    records.push(record("a", "2024-03-03", UnitState::Failed));
    let run = |reprocess| tasks(&planned(&pipe, records.clone(), &backfill("2024-03-01", "2024-03-04", reprocess)));
    assert_eq!(run(Reprocess::Missing), ["a 03-01 new", "a 03-03 failed before"]);
    assert_eq!(run(Reprocess::Failed), ["a 03-03 failed before"]);
    assert_eq!(run(Reprocess::All), ["a 03-01 new", "a 03-02 asked for", "a 03-03 failed before"]);
    let error = refused(&pipe, records.clone(), &backfill("2024-03-02", "2024-03-03", Reprocess::Missing));
    assert!(error.chain().contains("1 × it is loaded"), "{}", error.chain());
    assert!(error.hints()[0].contains("--reprocess all"));
    let error = refused(&pipe, records, &backfill("2024-03-03", "2024-03-03", Reprocess::All));
    assert!(error.chain().contains("holds no date"));
    let error = refused(
        &pipeline(None, vec![extract("a", Per::Unit)]),
        Vec::new(),
        &backfill("2024-03-01", "2024-03-04", Reprocess::All),
    );
    assert!(error.chain().contains("no [window]"));
}

#[test]
fn a_selection_takes_upstream_and_downstream_along() {
    let steps = || {
        vec![
            extract("a", Per::Unit),
            transform("b", Per::Unit, &[("a", Reach::SAME)]),
            transform("c", Per::Unit, &[("b", Reach::SAME)]),
            extract("d", Per::Unit),
        ]
    };
    let run = |select: &str| {
        let records = loaded("a", 7..=9).into_iter().chain(loaded("b", 7..=9)).chain(loaded("c", 7..=9)).collect();
        let plan =
            planned(&pipeline(Some(rule()), steps()), records, &Ask { select: vec![select.to_owned()], ..ask() });
        let mut names: Vec<String> = plan.tasks.iter().map(|task| task.id.step.clone()).collect();
        names.dedup();
        names
    };
    assert_eq!(run("b"), ["b"]);
    assert_eq!(run("+b"), ["a", "b"]);
    assert_eq!(run("b+"), ["b", "c"]);
    assert_eq!(run("+b+"), ["a", "b", "c"]);
    assert_eq!(run("a+"), ["a", "b", "c"]);
    let wrong = Ask { select: vec!["+rankng+".to_owned()], ..ask() };
    let error = refused(&pipeline(Some(rule()), vec![extract("ranking", Per::Unit)]), Vec::new(), &wrong);
    assert_eq!(error.kind(), Kind::Usage);
    assert_eq!(error.hints(), ["did you mean `ranking`?"]);
}

#[test]
fn a_circle_is_named() {
    let steps = vec![
        transform("a", Per::Unit, &[("b", Reach::SAME)]),
        transform("b", Per::Unit, &[("c", Reach::SAME)]),
        transform("c", Per::Unit, &[("b", Reach::SAME)]),
    ];
    let error = refused(&pipeline(Some(rule()), steps), Vec::new(), &ask());
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.chain().contains("`b` reads `c` reads `b`"), "{}", error.chain());
}

#[test]
fn a_range_by_mistake_is_refused_before_it_is_planned() {
    let rule = WindowRule { grain: Grain::Hour, begin: None, ..rule() };
    let pipe = pipeline(Some(rule), vec![extract("a", Per::Unit)]);
    for (from, to) in [("0024-03-01", "2024-03-02"), ("2004-03-01", "2024-03-02")] {
        let error = refused(&pipe, Vec::new(), &backfill(from, to, Reprocess::Missing));
        assert!(error.chain().contains("more than 100000 tasks"), "{}", error.chain());
    }
}

#[test]
fn a_thousand_units_are_planned_at_once() {
    let steps = vec![extract("a", Per::Unit), transform("b", Per::Unit, &[("a", Reach { from: -6, to: 0 })])];
    let pipe = pipeline(Some(WindowRule { begin: None, ..rule() }), steps);
    let days =
        Calendar::new(Grain::Day, Tz::UTC).between(instant("2021-01-01T00:00:00Z"), instant("2024-03-10T00:00:00Z"));
    let records = ["a", "b"]
        .into_iter()
        .flat_map(|name| days.iter().map(move |day| record(name, day.key().as_str(), UnitState::Loaded)));
    let snapshot = Snapshot::new(records);
    let ask = backfill("2021-06-01", "2024-02-26", Reprocess::All);
    let plan = build(&pipe, &snapshot, &ask, now()).expect("a plan");
    assert_eq!(plan.tasks.len(), 1_000 * 2 + 6);
    let explained = explain(&plan);
    assert_eq!(explained.totals.by_step["b"], 1_006);
    assert_eq!(explained.totals.by_reason["asked for"], 2_000);
    assert_eq!(explained.window.expect("a window").units, 1_000);
    assert_eq!(explained.tasks[2_005].after, ["a 2024-02-25"]);
}

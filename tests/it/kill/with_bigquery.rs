//! The kill suite on BigQuery: one run that dies at every boundary in turn, as each statement of the emulator takes long.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{DATE, Victim, Warehouse, kill_after};
use crate::support::bigquery::emulator;
use crate::support::days::{DaysApi, PageKey};

/// The suite's pipeline in small: two days, three pages each.
pub const PIPELINE: &str = r#"
[window]
grain = "day"
lookback = 2

[[extract]]
name = "items"
connection = "api"
request = { path = "/items", params = { day = "{{ ds }}" } }
paginate = { by = "offset", limit = 25, total = "$.total" }
records = "$.items[*]"
into = "raw.items"

[[transform]]
name = "daily"
sql = "select day, count(*) as items, sum(amount) as amount from {{ ref('items') }} where _haul_unit = {{ unit.start | date | sql }} group by day"
into = "mart.daily"
"#;

const DAYS: [&str; 2] = ["2024-05-02", "2024-05-03"];
const ROWS: usize = 60;

/// The rows of each table without the numbers of their pulls, and what is known of each unit.
pub const QUERIES: &[&str] = &[
    "select * except (_haul_pull) from raw.items order by id",
    "select * except (_haul_pull) from mart.daily order by day",
    "select table_name, unit, `rows`, fingerprint, count(*) as commits from \
     (select * from raw._haul_loads union all select * from mart._haul_loads) group by 1, 2, 3, 4 order by 1, 2",
];

/// A project of its own at the emulator: jobs are not forgotten with the tables.
pub fn connection() -> String {
    static PROJECTS: AtomicU32 = AtomicU32::new(1);
    let project = format!("kill-{}", PROJECTS.fetch_add(1, Ordering::Relaxed));
    let url = &emulator().url;
    format!("[warehouse]\ntype = \"bigquery\"\nproject = \"{project}\"\nendpoint = \"{url}\"\ncompress = false\n")
}

fn small_days() -> DaysApi {
    let api = DaysApi::start();
    for day in DAYS {
        api.resize(day, ROWS);
    }
    api
}

/// What a run leaves that nobody disturbs, and how long it takes.
fn undisturbed() -> &'static (Vec<Value>, Duration) {
    static LEFT: OnceLock<(Vec<Value>, Duration)> = OnceLock::new();
    LEFT.get_or_init(|| {
        let api = small_days();
        let victim = Victim::new(&api, &Warehouse::BigQuery);
        let begun = Instant::now();
        victim.run_to_the_end();
        let whole = begun.elapsed();
        let picture = victim.picture();
        assert_eq!(picture[0].as_array().map(Vec::len), Some(2 * ROWS));
        (picture, whole)
    })
}

/// One run that dies again and again, and what it asked for.
struct Dying<'a> {
    api: &'a DaysApi,
    victim: Victim<'a>,
    deaths: usize,
}

impl<'a> Dying<'a> {
    fn new(api: &'a DaysApi) -> Self {
        Self { api, victim: Victim::new(api, &Warehouse::BigQuery), deaths: 0 }
    }

    /// Nothing that was durable before is asked for again, whatever happens to the process.
    fn goes_on(&mut self, what: &str, process: impl FnOnce(&Victim<'a>)) {
        let durable = self.victim.durable();
        let before: BTreeMap<PageKey, usize> = self.api.counts();
        process(&self.victim);
        let after = self.api.counts();
        for page in &durable {
            assert_eq!(after.get(page), before.get(page), "{what}: the durable page {page:?} was asked for again");
        }
        self.deaths += 1;
        for (page, count) in &after {
            assert!(*count <= self.deaths, "{what}: {page:?} was asked for {count} times");
        }
    }

    fn dies_at(&mut self, point: &str) {
        self.goes_on(point, |victim| {
            let output = victim.project.output(&["run", "days", "--date", DATE, "--kill-at", point]);
            assert_eq!(output.status.signal(), Some(9), "{point}: {output:?}");
        });
    }

    /// Whether nothing was left to be done: another run would be a new one.
    fn has_all(&self) -> bool {
        Some(&self.victim.ledger()) == undisturbed().0.last()
    }

    fn ends_as_if_nothing_had_happened(mut self, what: &str) {
        self.goes_on(what, Victim::run_to_the_end);
        self.is_as_if_nothing_had_happened(what);
    }

    fn is_as_if_nothing_had_happened(&self, what: &str) {
        for (got, expected) in self.victim.picture().iter().zip(&undisturbed().0) {
            assert_eq!(got, expected, "{what}: the picture differs from that of an undisturbed run");
        }
    }
}

/// Each point is one crossing of what is left to be done.
fn killed_at_each_in_turn(points: &[&str]) {
    let api = small_days();
    let mut dying = Dying::new(&api);
    for point in points {
        dying.dies_at(point);
    }
    dying.ends_as_if_nothing_had_happened(&points.join(", "));
}

/// A run that was killed behind a commit finds it done, and has that much less to do: each chain ends while something is left.
#[test]
fn killed_at_every_first_boundary_in_turn_a_run_ends_as_if_nothing_had_happened() {
    let pages = ["leased:1", "page:1", "page:1", "page:1"];
    killed_at_each_in_turn(&[&pages[..], &["sealed:1", "judged:1", "committed:1", "recorded:1"]].concat());
}

#[test]
fn killed_at_later_boundaries_in_turn_a_run_ends_as_if_nothing_had_happened() {
    killed_at_each_in_turn(&["leased:2", "page:4", "sealed:2", "judged:2", "committed:2", "leased:1", "recorded:1"]);
}

#[test]
fn killed_at_any_moments_a_run_ends_as_if_nothing_had_happened() {
    let whole = undisturbed().1;
    let api = small_days();
    let mut dying = Dying::new(&api);
    // Each of these is a part of what a whole run takes; the last ones may find nothing left to do.
    for step in 1..=6_u32 {
        let pause = whole * (15 + step * 37 % 30) / 100;
        dying.goes_on(&format!("killed after {pause:?} of {whole:?}"), |victim| kill_after(&victim.project, pause));
        if dying.has_all() {
            assert!(step > 2, "it was killed before it had all");
            return dying.is_as_if_nothing_had_happened("killed when all was there");
        }
    }
    dying.ends_as_if_nothing_had_happened("killed at six moments");
}

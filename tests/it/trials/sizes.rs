//! What is large: a backfill of thousands of days, an extract of thousands of pages, and a queue that hides nothing.

use std::fs;

use super::*;
use crate::support::doors::{Door, Reply};
use crate::support::gate::{Door as Is, Gate};

fn days(schedule: &str, url: &str) -> Project {
    let project = Project::with_api(url, "");
    project.write("haul.toml", QUICK);
    project.write(
        "pipelines/days.toml",
        &format!(
            "{schedule}[window]\nlookback = 1\n[[extract]]\nname = \"rows\"\nconnection = \"api\"\n\
             request = {{ path = \"/rows\", params = {{ key = \"{{{{ ds }}}}\" }} }}\nrecords = \"$.rows[*]\"\n\
             [[transform]]\nname = \"daily\"\nsql = \"select * from {{{{ ref('rows') }}}}\"\n"
        ),
    );
    project
}

/// The only number of a statement on the state file.
fn count(project: &Project, sql: &'static str) -> i64 {
    let file = project.path().join(".haul/state.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.expect("the file");
        let number = sqlx::query_scalar(sql).fetch_one(&pool).await.expect("a number");
        pool.close().await;
        number
    })
}

/// airflow#29959, dagster#17429: thousands of units in one request stopped the scheduler.
#[test]
fn a_backfill_of_5000_days_is_planned_at_once_with_a_row_or_two_for_each_day() {
    let project = days("", "http://127.0.0.1:9");
    let fill = ["backfill", "days", "--from", "2010-01-01", "--through", "2023-09-09", "--queue", "--chunk", "1"];
    let made = project.json(&fill);
    assert_eq!(
        (&made["planned"]["units"], &made["planned"]["tasks"]),
        (&Value::from(5000), &Value::from(10_000)),
        "{made}"
    );
    assert_eq!(made["progress"]["jobs"], 5000, "{made}");
    assert_eq!(count(&project, "SELECT count(*) FROM job"), 5000);
    assert_eq!(count(&project, "SELECT count(*) FROM backfill_job"), 5000);
    assert_eq!(count(&project, "SELECT count(DISTINCT key) FROM job"), 5000);
    assert_eq!(
        count(
            &project,
            "SELECT (SELECT count(*) FROM job_note) + (SELECT count(*) FROM run) + (SELECT count(*) FROM event)"
        ),
        0
    );
    // The newest day comes first, and the last day of the range is one of them.
    assert_eq!(count(&project, "SELECT key LIKE '%2023-09-09..2023-09-10%' FROM job ORDER BY id LIMIT 1"), 1);
    assert_eq!(count(&project, "SELECT key LIKE '%2010-01-01..2010-01-02%' FROM job ORDER BY id DESC LIMIT 1"), 1);
    // Asked for once more, every day is the one that waits already.
    project.json(&fill);
    assert_eq!(
        (count(&project, "SELECT count(*) FROM job"), count(&project, "SELECT count(*) FROM backfill_job")),
        (5000, 10_000)
    );
    project.stdout(&["backfill", "cancel", "bf-1"]);
    assert_eq!(count(&project, "SELECT count(*) FROM job WHERE state = 'done'"), 0, "the other one still wants them");
    project.stdout(&["backfill", "cancel", "bf-2"]);
    assert_eq!(count(&project, "SELECT count(*) FROM job WHERE outcome = 'cancelled'"), 5000);
    assert_eq!(count(&project, "SELECT count(*) FROM backfill WHERE finished_at IS NOT NULL"), 2);
}

/// kestra#7982: with `--through` the last day belongs to a range, with `--to` the day before it is the last.
#[test]
fn the_last_day_of_a_year_is_part_of_its_backfill() {
    let project = days("", "http://127.0.0.1:9");
    for (word, date, units, last) in
        [("--through", "2021-12-31", 365, "2021-12-31"), ("--to", "2021-12-31", 364, "2021-12-30")]
    {
        let plan =
            project.json(&["backfill", "days", "--from", "2021-01-01", word, date, "--plan", "--select", "rows"]);
        let tasks = plan[0]["tasks"].as_array().expect("tasks");
        assert_eq!((tasks.len(), &tasks[units - 1]["units"][0]), (units, &Value::from(last)), "{word}");
    }
}

#[test]
fn thousands_of_pieces_of_a_backfill_do_not_hide_the_run_that_is_under_way() {
    let gate = Gate::start(Is::Shut);
    let project = days("[schedule]\nevery = \"1s\"\noverlap = \"skip\"\n", &gate.url);
    let served = Served::start(&project, &[]);
    gate.wait_for(1);
    project.stdout(&["backfill", "days", "--from", "2010-01-01", "--through", "2010-12-31", "--queue", "--chunk", "1"]);
    let queued =
        chrono::DateTime::from_timestamp_micros(count(&project, "SELECT max(queued_at) FROM job")).expect("an instant");
    let later = until("occurrences after it", || {
        let found = project.json(&["occurrences", "--limit", "1000"]);
        let at = |one: &&Value| {
            one["at"]
                .as_str()
                .and_then(|at| at.parse().ok())
                .is_some_and(|at: chrono::DateTime<chrono::Utc>| at > queued)
        };
        let later: Vec<Value> = found.as_array().expect("a list").iter().filter(at).cloned().collect();
        (later.len() >= 2).then_some(later)
    });
    for one in later {
        assert_eq!(one["end"], "skipped", "{one}");
        assert!(one["reason"].as_str().is_some_and(|why| why.contains("still under way")), "{one}");
    }
    gate.is(Is::Open);
    served.says("succeeded");
    served.stop();
}

/// What a run of so many pages leaves behind: bytes of the state store, bytes of the run's record, its events.
fn left_by(pages: usize) -> (u64, usize, i64) {
    let api = Door::start(move |asked| {
        let page: usize = asked.query.rsplit("cursor=").next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let text = format!("page {page} ").repeat(20);
        let next = (page + 1 < pages).then(|| (page + 1).to_string());
        Reply::json(&serde_json::json!({ "rows": [{ "page": page, "text": text }], "next": next }))
    });
    let project = Project::with_api(&api.url, "");
    project.write("haul.toml", QUICK);
    project.write(
        "pipelines/pages.toml",
        "[window]\nlookback = 1\n[[extract]]\nname = \"pages\"\nconnection = \"api\"\n\
         request = { path = \"/pages\", params = { day = \"{{ ds }}\" } }\nrecords = \"$.rows[*]\"\n\
         paginate = { by = \"cursor\", param = \"cursor\", at = \"$.next\" }\n",
    );
    project.stdout(&["run", "pages", "--date", "2024-05-04"]);
    let rows = project.query("select count(distinct page) as n from raw.pages");
    assert_eq!(rows[0]["n"], pages, "every page is there");
    let shown = project.stdout(&["show", "pages-2024-05-04-1", "--output", "json"]);
    let events = count(&project, "SELECT count(*) FROM event");
    // What waits in the log of the store is put into its file, so that all of it is counted.
    count(&project, "PRAGMA wal_checkpoint(TRUNCATE)");
    let length = |name: &str| fs::metadata(project.path().join(".haul").join(name)).map_or(0, |file| file.len());
    (length("state.db") + length("state.db-wal"), shown.len(), events)
}

/// kestra#10358, kestra#4631: what went through a run lay in the scheduler's database.
#[test]
fn a_run_of_thousands_of_pages_leaves_no_more_in_the_state_store_than_one_of_a_few() {
    let (few, many) = (left_by(20), left_by(4000));
    assert_eq!(few.2, many.2, "events of its task");
    // A count of more pages has more digits.
    assert!(many.1 <= few.1 + 40, "{} and {} bytes of its record", few.1, many.1);
    assert!(many.0 <= few.0 + 2 * 4096, "{} and {} bytes of the store", few.0, many.0);
}

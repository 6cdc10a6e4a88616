//! The keys of a step that reads a database: each contradiction is told with its place and what would be right.

use crate::support::project::{Project, told};

fn check(step: &str) -> String {
    let project = Project::empty();
    project.write(
        "connections.toml",
        "[warehouse]\ntype = \"duckdb\"\npath = \"w.duckdb\"\n[db]\ntype = \"duckdb\"\npath = \"d.duckdb\"\n",
    );
    project.write(
        "pipelines/days.toml",
        &format!("[window]\nlookback = 3\n[[extract]]\nname = \"events\"\nconnection = \"db\"\n{step}\n"),
    );
    let output = project.output(&["check"]);
    assert_ne!(output.status.code(), Some(0), "{step}: {}", told(&output));
    told(&output)
}

#[test]
fn every_contradiction_is_told() {
    for (step, words) in [
        (
            "table = \"events\"\nsql = \"SELECT 1\"",
            ["reads a `table` or the rows of `sql`, not both", "`sql` can read the table"],
        ),
        (
            "table = \"events\"\ntime_column = \"at\"\nrequest = { path = \"/x\" }",
            ["`request` is how an API is asked", "leave one of them out"],
        ),
        (
            "table = \"events\"",
            ["nothing tells which rows of `events` belong to which unit", "time_column = \"created_at\""],
        ),
        (
            "sql = \"SELECT * FROM events\"",
            ["nothing tells which rows of `events` belong to which unit", "write = \"full\""],
        ),
        (
            "table = \"events\"\ntime_column = \"at\"\noutside = \"drop\"",
            ["rows outside of the unit are not asked for", "leave `outside` out"],
        ),
        (
            "table = \"events\"\ntime_column = \"at\"\nchanged_column = \"u\"\nprobe = \"count\"",
            ["`changed_column` makes the probe", "leave one of the two out"],
        ),
        (
            "table = \"events\"\nintraday = \"today\"\ntime_column = \"at\"",
            ["`intraday` stands in for the table of one unit", "events_intraday_{{ ds_nodash }}"],
        ),
        (
            "table = \"events_{{ ds_nodash }}\"\nper = \"window\"\ntime_column = \"at\"",
            ["is read unit by unit", "leave `per` out"],
        ),
        ("table = \"select * from x\"\ntime_column = \"at\"", ["this looks like a statement", "sql = \"SELECT …\""]),
        (
            "sql = \"SELECT * FROM {{ ref('events') }}\"\ntime_column = \"at\"",
            ["names a table of the warehouse", "[[transform]]"],
        ),
        (
            "request = { path = \"/{{ ds }}\" }\nprobe = \"count\"",
            ["`probe` means nothing without", "table = \"public.events\""],
        ),
        ("table = \"events\"\ntime_column = \"at\"\nprobe = \"cuont\"", ["cuont", "count"]),
    ] {
        let told = check(step);
        for word in words {
            assert!(told.contains(word), "{word} is not in {told}");
        }
    }
}

#[test]
fn a_connection_without_tables_is_told_by_its_type() {
    let project = Project::with_api("http://127.0.0.1:9", "");
    project.write(
        "pipelines/days.toml",
        "[window]\n[[extract]]\nname = \"events\"\nconnection = \"api\"\ntable = \"events\"\ntime_column = \"at\"\n",
    );
    let told = told(&project.output(&["run", "days", "--date", "2024-05-04"]));
    assert!(told.contains("has type http, which has no tables to read"), "{told}");
    assert!(told.contains("\"postgres\", \"mysql\", \"duckdb\" or \"bigquery\""), "{told}");
}

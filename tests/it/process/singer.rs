//! Singer's messages, from a tap of a few lines: streams, types, keys, and a state that is never ahead of the rows.

use std::os::unix::process::ExitStatusExt;

use serde_json::{Value, json};

use super::{project, read};
use crate::support::project::{Project, told};

/// Knows the argument of every real tap; tells the rows of `rows.txt` whose version is not below that of its state.
const TAP: &str = r#"
while [ $# -gt 0 ]; do
    case "$1" in
    --discover) discover=yes; shift ;;
    --config) config=$2; shift 2 ;;
    --catalog) catalog=$2; shift 2 ;;
    --state) state=$2; shift 2 ;;
    *) echo "unrecognized arguments: $1" >&2; exit 2 ;;
    esac
done
if [ -n "$discover" ]; then cat catalog.json; exit; fi
cp "$config" asked-config.json
cp "$catalog" asked-catalog.json
since=0
[ -z "$state" ] || since=$(sed 's/[^0-9]//g' "$state")
echo "$since" >> asked.txt
echo '{"type":"SCHEMA","stream":"people","schema":{"properties":{"id":{"type":"integer"}}},"key_properties":["id"]}'
cat schema.json
while read -r version row; do
    [ "$version" -lt "$since" ] || echo "{\"type\":\"RECORD\",\"stream\":\"orders\",\"record\":$row,\"time_extracted\":\"2024-05-01T00:00:00Z\"}"
    last=$version
done < rows.txt
echo '{"type":"RECORD","stream":"people","record":{"id":1}}'
echo '{"type":"ACTIVATE_VERSION","stream":"orders","version":1}'
echo "{\"type\":\"STATE\",\"value\":{\"since\":${last:-0}}}"
cat end.txt
"#;

const SCHEMA: &str = r#"{"type":"SCHEMA","stream":"orders","key_properties":["id"],"schema":{"type":"object","properties":{
"id":{"type":"integer"},"amount":{"type":["null","number"],"multipleOf":0.01},"at":{"type":["null","string"],"format":"date-time"},"note":{"type":["null","string"]}}}}"#;

const CATALOG: &str = r#"{"streams":[
{"tap_stream_id":"orders","stream":"orders","schema":{"properties":{"id":{"type":"integer"}}},"key_properties":["id"],"metadata":[{"breadcrumb":[],"metadata":{"selected":false}},{"breadcrumb":["properties","id"],"metadata":{"inclusion":"available"}}]},
{"tap_stream_id":"people","stream":"people","schema":{"properties":{}},"metadata":[{"breadcrumb":[],"metadata":{"selected":true}}]}]}"#;

const INCREMENTAL: &str = r#"
[[extract]]
name = "orders"
type = "process"
connection = "shop"
command = ["./tap"]
protocol = "singer"
config = { start_date = "{{ var('start') }}", page_size = 50, login = "{{ 1 + 1 }}" }
replication_key = "changed"

[[transform]]
name = "count"
sql = "select count(*) as orders from {{ ref('orders') }}"
"#;

fn tap(pipeline: &str, rows: &str) -> Project {
    let project = project(&[("tap", TAP)], pipeline);
    project.write("haul.toml", "warehouse = \"warehouse\"\nvars = { start = \"2024-01-01\" }\n");
    project.write("schema.json", &format!("{}\n", SCHEMA.replace('\n', "")));
    project.write("catalog.json", CATALOG);
    project.write("rows.txt", rows);
    project.write("end.txt", "");
    project
}

const MORNING: &str = r#"1 {"id":1,"amount":1.10,"at":"2024-05-01T10:00:00+02:00","note":null}
1 {"id":2,"amount":2,"at":null,"note":null}
2 {"id":3,"amount":3.25,"at":"2024-05-01T11:00:00Z","note":null}
"#;

/// Order 2 has changed, order 4 is new; order 3 is told again, as taps do.
const NEXT_MORNING: &str = r#"1 {"id":1,"amount":1.10,"at":"2024-05-01T10:00:00+02:00","note":null}
2 {"id":3,"amount":3.25,"at":"2024-05-01T11:00:00Z","note":null}
3 {"id":2,"amount":2.50,"at":"2024-05-02T09:00:00Z","note":"more"}
4 {"id":4,"amount":0.05,"at":"2024-05-02T09:30:00Z","note":null}
"#;

fn orders(project: &Project) -> Value {
    project.query(
        "select id, cast(amount as varchar) as amount, cast(\"at\" as varchar) as \"at\", note from raw.orders order by id",
    )
}

fn after(morning: usize) -> Value {
    let row = |id, amount, at, note| json!({ "id": id, "amount": amount, "at": at, "note": note });
    let (one, three) = (
        row(1, "1.10", json!("2024-05-01 08:00:00"), Value::Null),
        row(3, "3.25", json!("2024-05-01 11:00:00"), Value::Null),
    );
    match morning {
        1 => json!([one, row(2, "2.00", Value::Null, Value::Null), three]),
        _ => json!([
            one,
            row(2, "2.50", json!("2024-05-02 09:00:00"), json!("more")),
            three,
            row(4, "0.05", json!("2024-05-02 09:30:00"), Value::Null)
        ]),
    }
}

fn run(project: &Project, date: &str) {
    project.stdout(&["run", "days", "--date", date]);
}

#[test]
fn a_tap_gets_its_state_back_and_its_rows_are_merged_by_its_own_keys() {
    let project = tap(INCREMENTAL, MORNING);
    run(&project, "2024-05-02");
    assert_eq!(orders(&project), after(1));
    let types = project.query("select column_name as c, data_type as t from duckdb_columns() where table_name = 'orders' order by column_index");
    assert_eq!(types[1]["t"], "DECIMAL(38,2)");
    assert_eq!(
        types[3],
        json!({ "c": "note", "t": "VARCHAR" }),
        "a column that is always null has its type from the schema"
    );
    project.write("rows.txt", NEXT_MORNING);
    run(&project, "2024-05-03");
    assert_eq!(orders(&project), after(2));
    assert_eq!(project.query("select orders from mart.count"), json!([{ "orders": 4 }]));
    // Nothing is new: the last row is told again and is the same.
    run(&project, "2024-05-04");
    run(&project, "2024-05-05");
    assert_eq!(orders(&project), after(2));
    assert_eq!(read(&project, "asked.txt"), "0\n2\n4\n4\n");

    let config: Value = serde_json::from_str(&read(&project, "asked-config.json")).expect("JSON");
    assert_eq!(
        config,
        json!({ "host": "localhost", "port": 5432, "login": 2, "start_date": "2024-01-01", "page_size": 50 })
    );
    let catalog: Value = serde_json::from_str(&read(&project, "asked-catalog.json")).expect("JSON");
    let (orders, people) = (&catalog["streams"][0], &catalog["streams"][1]);
    let metadata = json!({ "selected": true, "replication-method": "INCREMENTAL", "replication-key": "changed" });
    assert_eq!((&orders["metadata"][0]["metadata"], &orders["selected"]), (&metadata, &json!(true)));
    assert_eq!(people["metadata"][0]["metadata"]["selected"], false);

    // Asked for in so many words, or with its table gone, it begins at the beginning.
    project.stdout(&["run", "days", "--date", "2024-05-06", "--force"]);
    assert!(read(&project, "asked.txt").ends_with("4\n0\n"));
}

#[test]
fn a_state_is_never_ahead_of_the_rows_wherever_haul_is_killed() {
    for (point, keeps_stage) in [("page:1", true), ("judged:1", false), ("committed:1", false), ("recorded:1", true)] {
        let project = tap(INCREMENTAL, MORNING);
        run(&project, "2024-05-02");
        project.write("rows.txt", NEXT_MORNING);
        let killed = project.output(&["run", "days", "--date", "2024-05-03", "--kill-at", point]);
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", told(&killed));
        if !keeps_stage {
            // As after half a day: what was staged is no longer trusted, and the tap is asked again.
            std::fs::remove_dir_all(project.path().join(".haul/stage")).expect("a stage");
        }
        run(&project, "2024-05-03");
        assert_eq!(orders(&project), after(2), "{point}");
        for later in ["2024-05-04", "2024-05-05"] {
            run(&project, later);
            assert_eq!(orders(&project), after(2), "{point}");
        }
        // The state before the crash is given until the rows behind it are known to be loaded.
        let asked = read(&project, "asked.txt");
        let asked: Vec<&str> = asked.lines().collect();
        assert!(asked.starts_with(&["0", "2"]) && asked.ends_with(&["4"]) && asked.is_sorted(), "{point}: {asked:?}");
    }
}

#[test]
fn a_tap_that_fails_moves_its_state_no_further() {
    let project = tap(INCREMENTAL, MORNING);
    run(&project, "2024-05-02");
    project.write("rows.txt", NEXT_MORNING);
    for (end, expected) in [
        ("{\"type\":\"BATCH\",\"stream\":\"orders\"}\n", "which haul does not read"),
        ("Traceback (most recent call last)\n", "is no JSON object: `Traceback"),
        ("{\"type\":\"HELLO\"}\n", "unknown type `HELLO`"),
        ("{\"type\":\"RECORD\",\"stream\":\"orders\"}\n", "a RECORD without a record"),
        (
            "{\"type\":\"RECORD\",\"stream\":\"orders\",\"record\":{\"id\":9,\"amount\":1.234}}\n",
            "3 digits behind the point",
        ),
    ] {
        project.write("end.txt", end);
        let output = project.output(&["run", "days", "--date", "2024-05-03"]);
        assert!(output.status.code() == Some(1) && told(&output).contains(expected), "{expected}: {}", told(&output));
        assert_eq!(orders(&project), after(1));
    }
    project.write("end.txt", "");
    run(&project, "2024-05-03");
    assert_eq!(orders(&project), after(2));
    let asked = read(&project, "asked.txt");
    assert!(asked.lines().skip(1).all(|since| since == "2"), "{asked}");
}

#[test]
fn without_a_replication_key_the_whole_table_is_told_and_replaced() {
    let full = INCREMENTAL.replace("replication_key = \"changed\"", "");
    let project = tap(&full, MORNING);
    run(&project, "2024-05-02");
    project.write("rows.txt", &NEXT_MORNING.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>());
    run(&project, "2024-05-03");
    let rows = project.query("select id from raw.orders order by id");
    assert_eq!(rows, json!([{ "id": 2 }, { "id": 3 }, { "id": 4 }]));
    assert_eq!(read(&project, "asked.txt"), "0\n0\n");
}

#[test]
fn a_stream_that_is_not_there_is_told_those_that_are() {
    let project = tap(&INCREMENTAL.replace("replication_key", "stream = \"ordres\"\nreplication_key"), MORNING);
    let told_of = told(&project.output(&["run", "days", "--date", "2024-05-02"]));
    assert!(told_of.contains("the tap has no stream `ordres`") && told_of.contains("orders, people"), "{told_of}");
    // Without a catalog the messages tell.
    project.write(
        "tap",
        &format!(
            "#!/bin/sh\n{}",
            TAP.replace("cp \"$catalog\" asked-catalog.json", "")
                .replace("    --discover) discover=yes; shift ;;\n", "")
        ),
    );
    let output = project.output(&["run", "days", "--date", "2024-05-02"]);
    let told_of = told(&output);
    assert!(told_of.contains("told nothing of the stream `ordres`") && told_of.contains("orders, people"), "{told_of}");
    let rendered = project.stdout(&["render", "days", "orders"]);
    for part in ["--config <a private file>", "\"start_date\": \"2024-01-01\"", "connection shop: host, login, port"] {
        assert!(rendered.contains(part), "{part} is not in {rendered}");
    }
    assert!(!rendered.contains("sesame"), "{rendered}");
}

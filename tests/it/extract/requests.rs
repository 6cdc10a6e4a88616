//! Requests: the boundaries of a day in every form that an API may want, and bodies that stay JSON whatever is in them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{all, ids, project, run};
use crate::support::pages::PagesApi;
use crate::support::project::Project;

/// Every form of a boundary, by the parameter that carries it.
const FORMS: &str = r#"
    iso = "{{ unit.start | iso }}", plain = "{{ unit.start }}", epoch = "{{ unit.start | epoch }}",
    epoch_ms = "{{ unit.start | epoch_ms }}", date = "{{ unit.start | date }}", last = "{{ unit.end | iso }}",
    wall = "{{ unit.start | in_tz('Europe/Berlin') | iso }}", away = "{{ unit.start | in_tz('America/New_York') | iso }}",
    compact = "{{ unit.start | strftime('%Y%m%d') }}", ds = "{{ ds }}", next_ds = "{{ next_ds }}", nodash = "{{ ds_nodash }}""#;

/// A pipeline of days in a zone with summer time.
fn berlin(lookback: usize, step: &str) -> String {
    format!(
        "timezone = \"Europe/Berlin\"\n[window]\nlookback = {lookback}\nbegin = 2024-01-01\n\n[[extract]]\nconnection = \"api\"\n{step}\n"
    )
}

#[test]
fn the_day_on_which_summer_time_begins_has_its_own_boundaries_in_every_form() {
    let api = PagesApi::start();
    let project = Project::with_api(&api.url, "");
    let params = FORMS.replace('\n', " ");
    let step = format!(
        "name = \"items\"\nrequest = {{ path = \"/single\", params = {{ day = \"{{{{ ds }}}}\", {params} }} }}\nrecords = \"$.items[*]\""
    );
    project.write("pipelines/items.toml", &berlin(2, &step));
    run(&project, "2024-04-01");
    let asked = api.asked();
    let of = |day: &str| asked.iter().find(|asked| asked.param("day") == day).expect("a request").params.clone();
    let expected = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    // The last Sunday of March has 23 hours: from 23:00 of the day before in UTC to 22:00.
    assert_eq!(
        of("2024-03-31"),
        expected(&[
            ("day", "2024-03-31"),
            ("iso", "2024-03-30T23:00:00Z"),
            ("plain", "2024-03-30T23:00:00Z"),
            ("epoch", "1711839600"),
            ("epoch_ms", "1711839600000"),
            ("date", "2024-03-31"),
            ("last", "2024-03-31T22:00:00Z"),
            ("wall", "2024-03-31T00:00:00+01:00"),
            ("away", "2024-03-30T19:00:00-04:00"),
            ("compact", "20240331"),
            ("ds", "2024-03-31"),
            ("next_ds", "2024-04-01"),
            ("nodash", "20240331"),
        ])
    );
    assert_eq!(of("2024-03-30")["iso"], "2024-03-29T23:00:00Z");
    assert_eq!(of("2024-03-30")["last"], of("2024-03-31")["iso"], "days meet without a gap");
    assert_eq!(ids(&project, "raw.items"), all(&["2024-03-30", "2024-03-31"], 25));
}

#[test]
fn one_request_for_the_whole_range_is_divided_by_the_rows_own_time() {
    let api = PagesApi::start();
    // The first and the last moment of the days around the end of summer time, in four ways of writing.
    let moments = [
        ("2024-10-26", "2024-10-25T22:00:00Z", 1_729_893_600_000_i64),
        ("2024-10-26", "2024-10-26T21:59:59Z", 1_729_979_999_000),
        ("2024-10-27", "2024-10-26T22:00:00Z", 1_729_980_000_000),
        ("2024-10-27", "2024-10-27T22:59:59Z", 1_730_069_999_000),
        ("2024-10-28", "2024-10-27T23:00:00Z", 1_730_070_000_000),
        ("2024-10-28", "2024-10-28T22:59:59Z", 1_730_156_399_000),
    ];
    let rows: Vec<String> = moments
        .iter()
        .enumerate()
        .map(|(index, (day, iso, ms))| {
            let offset = if *ms >= 1_729_990_800_000 { 3600 } else { 7200 };
            let zone = chrono::FixedOffset::east_opt(offset).expect("an offset");
            let wall = chrono::DateTime::from_timestamp_millis(*ms).expect("a time").with_timezone(&zone);
            json!({ "id": index + 1, "day": day, "iso": iso, "ms": ms, "s": ms / 1000, "offset": wall.to_rfc3339(),
                    "wall": wall.format("%Y-%m-%dT%H:%M:%S").to_string(), "deep": { "at": iso } })
            .to_string()
        })
        .collect();
    api.set_rows("2024-10-26", rows);
    let project = Project::with_api(&api.url, "");
    let mut text = String::from("timezone = \"Europe/Berlin\"\n[window]\nlookback = 3\nbegin = 2024-01-01\n");
    let columns =
        [("iso", "iso"), ("offset", "iso"), ("wall", "iso"), ("s", "epoch"), ("ms", "epoch_ms"), ("deep.at", "iso")];
    for (column, format) in columns {
        let name = column.replace('.', "_");
        text.push_str(&format!(
            "\n[[extract]]\nname = \"{name}\"\nconnection = \"api\"\nper = \"window\"\ntime_column = \"{column}\"\ntime_format = \"{format}\"
             request = {{ path = \"/{name}\", params = {{ day = \"{{{{ window.first }}}}\", to = \"{{{{ window.end | iso }}}}\", from = \"{{{{ window.start | epoch }}}}\" }} }}
             paginate = {{ by = \"offset\", limit = 2, total = \"$.meta.total\" }}\nrecords = \"$.items[*]\"\n"
        ));
    }
    project.write("pipelines/items.toml", &text);
    run(&project, "2024-10-29");
    for (column, _) in columns {
        let name = column.replace('.', "_");
        let expected: BTreeMap<String, Vec<u64>> =
            [("2024-10-26", vec![1, 2]), ("2024-10-27", vec![3, 4]), ("2024-10-28", vec![5, 6])]
                .map(|(day, ids)| (day.to_owned(), ids))
                .into();
        assert_eq!(ids(&project, &format!("raw.{name}")), expected, "{column}");
        assert_eq!(api.counts()[&format!("/{name}")], 3, "{column}: one sequence for all days");
    }
    let first = &api.asked()[0].params;
    assert_eq!((first["from"].as_str(), first["to"].as_str()), ("1729893600", "2024-10-28T23:00:00Z"));
}

#[test]
fn a_body_is_json_whatever_its_values_are() {
    let api = PagesApi::start();
    let project = Project::with_api(&api.url, "");
    let nasty = "a \"quoted\" \\ text,\n{{ no template }} } , \u{1F30D}";
    project.write(
        "pipelines/items.toml",
        &format!(
            r#"
            vars = {{ nasty = {nasty:?}, wanted = [1, 2], flag = true }}
            [window]
            lookback = 1
            begin = 2024-01-01

            [[extract]]
            name = "table"
            connection = "api"
            records = "$.items[*]"
            paginate = {{ by = "cursor", in = "body", param = "cursor", at = "$.meta.next" }}
            [extract.request]
            path = "/table"
            [extract.request.body]
            day = "{{{{ ds }}}}"
            from = "{{{{ unit.start | epoch }}}}"
            from_as_text = "{{{{ unit.start | epoch | string }}}}"
            text = "{{{{ var('nasty') }}}}"
            inside = "<{{{{ var('nasty') }}}}>"
            wanted = "{{{{ var('wanted') }}}}"
            flag = "{{{{ var('flag') }}}}"
            nested = {{ list = ["{{{{ next_ds }}}}", 1, 2.5, true] }}

            [[extract]]
            name = "text"
            connection = "api"
            records = "$.items[*]"
            request = {{ path = "/text", body = '{{"day": "{{{{ ds }}}}", "text": "{{{{ var(''nasty'') }}}}"}}' }}
            "#
        )
        .replace("''nasty''", "\\u0022nasty\\u0022"),
    );
    run(&project, "2024-05-02");
    let bodies = |path: &str| -> Vec<Value> {
        let asked = api.asked();
        let of_path = asked.iter().filter(|asked| asked.path == path);
        of_path.map(|asked| serde_json::from_str(&asked.body).expect("the body is JSON")).collect()
    };
    let table = bodies("/table");
    let expected = json!({
        "day": "2024-05-01", "from": 1_714_521_600, "from_as_text": "1714521600", "text": nasty,
        "inside": format!("<{nasty}>"), "wanted": [1, 2], "flag": true,
        "nested": { "list": ["2024-05-02", 1, 2.5, true] },
    });
    assert_eq!(table[0], expected);
    let mut third = expected;
    third["cursor"] = json!("c20");
    assert_eq!(table[2], third, "the cursor comes on top of the same body");
    assert_eq!(bodies("/text")[0], json!({ "day": "2024-05-01", "text": nasty }));
    assert_eq!(ids(&project, "raw.table"), all(&["2024-05-01"], 25));
    let types = api.asked()[0].headers.get_all("content-type").iter().count();
    assert_eq!((api.asked()[0].header("content-type"), types), ("application/json", 1));
}

#[test]
fn a_steps_own_content_type_is_the_only_one() {
    let api = PagesApi::start();
    let keys = "request = { path = \"/items\", headers = { Content-Type = \"application/vnd.api+json\" }, body = { day = \"{{ ds }}\" } }";
    let project = project(&api, "", 1, &[("items", keys)]);
    run(&project, "2024-05-02");
    let asked = &api.asked()[0];
    let types: Vec<_> = asked.headers.get_all("content-type").iter().collect();
    assert_eq!(types, ["application/vnd.api+json"]);
}

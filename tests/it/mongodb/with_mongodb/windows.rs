//! Which documents a unit has: by dates, ids, texts and numbers, in the zone of the pipeline; and queries of one's own.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, doc};
use serde_json::json;

use super::Bench;
use crate::support::mornings::counted;

const MORNING: &str = "2024-05-04";

fn pipeline(zone: &str, more: &str) -> String {
    format!(
        "timezone = \"{zone}\"\n[window]\nlookback = 2\n[[extract]]\nname = \"users\"\nconnection = \"mongo\"\ncollection = \"users\"\n{more}\n"
    )
}

fn at(text: &str) -> DateTime {
    DateTime::parse_rfc3339_str(text).expect("a time")
}

/// Documents at the borders of two days of Seoul, which begin at 15:00 UTC; the first and the last are outside.
const TIMES: [(&str, Option<&str>); 6] = [
    ("2024-05-01T14:59:59.999Z", None),
    ("2024-05-01T15:00:00Z", Some("2024-05-02")),
    ("2024-05-02T14:59:59.999Z", Some("2024-05-02")),
    ("2024-05-02T15:00:00Z", Some("2024-05-03")),
    ("2024-05-03T14:59:59.999Z", Some("2024-05-03")),
    ("2024-05-03T15:00:00Z", None),
];

#[test]
fn a_day_of_the_zone_has_the_documents_of_its_date_in_every_form_of_time() {
    for more in [
        "time_column = \"date\"",
        "time_column = \"date\"\nper = \"window\"",
        "time_column = \"_id\"",
        "time_column = \"in.text\"\ntime_format = \"iso\"",
        "time_column = \"in.text\"\ntime_format = \"iso\"\nper = \"window\"",
        "time_column = \"seconds\"\ntime_format = \"epoch\"",
        "time_column = \"millis\"\ntime_format = \"epoch_ms\"",
        "time_column = \"millis\"\ntime_format = \"epoch_ms\"\nper = \"window\"",
    ] {
        let bench = Bench::new(&pipeline("Asia/Seoul", more));
        // One time in several hands: with other offsets, without one in the pipeline's own zone, or as a date.
        let texts = [
            "2024-05-01T23:59:59.999+09:00",
            "2024-05-02",
            "2024-05-02T04:59:59.999-10:00",
            "2024-05-03 00:00:00",
            "2024-05-03T14:59:59.999Z",
            "2024-05-04T00:00:00",
        ];
        let documents = TIMES.iter().zip(texts).enumerate().map(|(number, ((time, unit), text))| {
            let millis = at(time).timestamp_millis();
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&u32::try_from(millis / 1000).expect("a second").to_be_bytes());
            bytes[11] = u8::try_from(number).expect("a small number");
            doc! {
                "_id": ObjectId::from_bytes(bytes), "date": at(time), "in": { "text": text }, "millis": millis,
                "seconds": f64::from(i32::try_from(millis / 1000).expect("seconds")) + 0.5, "expected": *unit,
            }
        });
        bench.database.insert("users", documents.collect());
        // Without a time, or with one of another type, a document belongs to no day.
        bench.database.insert("users", vec![doc! { "_id": 1 }, doc! { "_id": 2, "date": "2024-05-02", "seconds": "x", "millis": at("2024-05-02T16:00:00Z"), "in": { "text": 5 } }]);
        bench.mornings.run(MORNING, 0);
        let rows = bench.project().query("select cast(_haul_unit as varchar) as unit, expected, count(*) as n from raw.users group by all order by all");
        let expected = json!([{ "unit": "2024-05-02", "expected": "2024-05-02", "n": 2 }, { "unit": "2024-05-03", "expected": "2024-05-03", "n": 2 }]);
        assert_eq!(rows, expected, "{more}");
    }
}

#[test]
fn a_filter_has_templates_and_types_and_a_projection_leaves_members_out() {
    let more = r#"
time_column = "at"
filter = { group = { "$oid" = "65f0000000000000000000aa" }, until = { "$gt" = { "$date" = "{{ unit.start | strftime('%Y-%m-%dT%H:%M:%SZ') }}" } }, day = "{{ ds }}" }
projection = '{ "_id": 0, "n": 1 }'
batch_size = 2
"#;
    let bench = Bench::new(&pipeline("UTC", more));
    let group = ObjectId::parse_str("65f0000000000000000000aa").expect("an id");
    let of = |n: i32, hour: u8, group: ObjectId, until: &str, day: &str| {
        doc! { "_id": n, "n": n, "at": at(&format!("2024-05-03T{hour:02}:00:00Z")), "group": group, "until": at(until), "day": day, "secret": "x" }
    };
    let mut documents: Vec<_> = (0..7).map(|n| of(n, 3, group, "2024-06-01T00:00:00Z", "2024-05-03")).collect();
    documents.push(of(10, 3, ObjectId::new(), "2024-06-01T00:00:00Z", "2024-05-03"));
    documents.push(of(11, 3, group, "2024-05-03T00:00:00Z", "2024-05-03"));
    documents.push(of(12, 3, group, "2024-06-01T00:00:00Z", "2024-05-02"));
    bench.database.insert("users", documents);
    bench.mornings.run(MORNING, 0);
    let rows = bench.project().query("select * exclude (_haul_unit, _haul_pull) from raw.users order by n");
    assert_eq!(rows, json!((0..7).map(|n| json!({ "n": n })).collect::<Vec<_>>()));
    let told = bench.mornings.text(MORNING, &["render", "days", "users", "--date", MORNING]);
    assert!(told.contains("find users, connection mongo") && told.contains("65f0000000000000000000aa"), "{told}");
}

#[test]
fn an_aggregation_brings_what_it_makes_of_the_documents_of_the_day() {
    let more = "time_column = \"at\"\npipeline = [{ \"$group\" = { _id = \"$kind\", n = { \"$sum\" = 1 } } }]\n";
    let bench = Bench::new(&pipeline("UTC", more));
    let of = |n: i32, day: &str, kind: &str| doc! { "_id": n, "at": at(&format!("{day}T10:00:00Z")), "kind": kind };
    bench.database.insert(
        "users",
        vec![of(1, "2024-05-02", "a"), of(2, "2024-05-03", "a"), of(3, "2024-05-03", "b"), of(4, "2024-05-03", "b")],
    );
    bench.mornings.run(MORNING, 0);
    let sql = "select cast(_haul_unit as varchar) as unit, _id, n from raw.users order by all";
    let expected = json!([{ "unit": "2024-05-02", "_id": "a", "n": 1 }, { "unit": "2024-05-03", "_id": "a", "n": 1 }, { "unit": "2024-05-03", "_id": "b", "n": 2 }]);
    assert_eq!(bench.project().query(sql), expected);
    // Stopped in the middle, it is asked for anew as a whole.
    bench.write(&format!("{}batch_size = 1\n", pipeline("UTC", more)));
    bench.database.insert("users", vec![of(5, "2024-05-03", "c")]);
    let now = format!("{MORNING}T06:00:00Z");
    bench.project().output(&["run", "days", "--date", MORNING, "--now", &now, "--kill-at", "page:3"]);
    bench.mornings.run(MORNING, 0);
    assert_eq!(bench.mornings.rows("raw.users"), counted(&[("2024-05-02", 1), ("2024-05-03", 3)]));
}

#[test]
fn a_probe_leaves_a_day_unread_whose_count_and_newest_change_are_as_they_were() {
    let bench = Bench::new(&pipeline("UTC", "time_column = \"at\"\nchanged_column = \"changed\"\n"));
    let of = |n: i32, changed: i64| doc! { "_id": n, "at": at("2024-05-03T10:00:00Z"), "changed": DateTime::from_millis(changed), "n": n };
    bench.database.insert("users", (0..5).map(|n| of(n, 1000)).collect());
    bench.mornings.run(MORNING, 0);
    // A change that the probe cannot see shows that nothing was read.
    bench.database.delete("users", doc! { "_id": 3 });
    bench.database.insert(
        "users",
        vec![doc! { "_id": 3, "at": at("2024-05-03T11:00:00Z"), "changed": DateTime::from_millis(1000), "n": 33 }],
    );
    bench.mornings.run(MORNING, 0);
    let sum = || bench.project().query("select sum(n)::bigint as n from raw.users");
    assert_eq!(sum(), json!([{ "n": 10 }]));
    bench.database.delete("users", doc! { "_id": 4 });
    bench.database.insert("users", vec![of(4, 2000)]);
    bench.mornings.run(MORNING, 0);
    assert_eq!(sum(), json!([{ "n": 40 }]));
}

//! A pull that was killed goes on behind its last durable document, whatever the types of the ids.

use std::os::unix::process::ExitStatusExt;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, Timestamp, doc};
use serde_json::Value;

use super::Bench;
use crate::support::project::told;

const MORNING: &str = "2024-05-04";

fn pipeline(batch: u32) -> String {
    format!(
        "[[extract]]\nname = \"things\"\nconnection = \"mongo\"\ncollection = \"things\"\nbatch_size = {batch}\ncolumns = {{ _id = \"VARCHAR\" }}\n"
    )
}

/// Kills a run at its nth page.
fn kill(bench: &Bench, page: usize) {
    let now = format!("{MORNING}T06:00:00Z");
    let point = format!("page:{page}");
    let killed = bench.project().output(&["run", "days", "--date", MORNING, "--now", &now, "--kill-at", &point]);
    assert_eq!(killed.status.signal(), Some(9), "{}", told(&killed));
}

fn rows(bench: &Bench) -> Value {
    bench.project().query("select n from raw.things order by n")
}

#[test]
fn what_is_durable_is_not_read_again() {
    let bench = Bench::new(&pipeline(20));
    bench.database.insert("things", (0..300).map(|n| doc! { "_id": n, "n": n }).collect());
    kill(&bench, 5);
    // The server no longer has what was durable: who asked for it again would not get it.
    bench.database.delete("things", doc! { "_id": { "$lt": 100 } });
    let told = bench.mornings.run(MORNING, 0);
    assert!(told.contains("100 rows"), "{told}");
    assert_eq!(rows(&bench).as_array().expect("rows").len(), 300);
}

/// Ids of every type that an `_id` can have, in MongoDB's order.
fn mixed() -> Vec<Bson> {
    let binary = |bytes: &[u8]| Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() });
    vec![
        Bson::MinKey,
        Bson::Null,
        Bson::Int32(-5),
        Bson::Double(1.5),
        Bson::Int64(2),
        Bson::Decimal128("2.5".parse().expect("a decimal")),
        Bson::String("a".to_owned()),
        Bson::String("b".to_owned()),
        Bson::Document(doc! { "k": 1 }),
        Bson::Document(doc! { "k": 2 }),
        binary(&[1]),
        binary(&[2]),
        Bson::ObjectId(ObjectId::parse_str("65f000000000000000000001").expect("an id")),
        Bson::ObjectId(ObjectId::parse_str("65f000000000000000000002").expect("an id")),
        Bson::Boolean(false),
        Bson::Boolean(true),
        Bson::DateTime(DateTime::from_millis(0)),
        Bson::DateTime(DateTime::from_millis(1)),
        Bson::Timestamp(Timestamp { time: 1, increment: 1 }),
        Bson::MaxKey,
    ]
}

#[test]
fn ids_of_all_types_are_gone_on_from_in_the_order_of_the_server() {
    let ids = mixed();
    let documents =
        || -> Vec<Document> { ids.iter().zip(0_i32..).map(|(id, n)| doc! { "_id": id.clone(), "n": n }).collect() };
    for durable in 1..ids.len() {
        let bench = Bench::new(&pipeline(1));
        bench.database.insert("things", documents());
        kill(&bench, durable);
        // The first ids, in the order that the server sorts them in, are durable; only the others are still there.
        for id in ids.iter().take(durable) {
            bench.database.delete("things", doc! { "_id": { "$in": [id.clone()] } });
        }
        bench.mornings.run(MORNING, 0);
        let found = rows(&bench);
        let found: Vec<i64> = found.as_array().expect("rows").iter().filter_map(|row| row["n"].as_i64()).collect();
        assert_eq!(found, (0..20).collect::<Vec<i64>>(), "killed after {:?}", ids[durable - 1]);
    }
}

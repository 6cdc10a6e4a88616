//! Every type of BSON arrives in the form that the documentation's table says.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, DateTime, JavaScriptCodeWithScope, RawDocumentBuf, Regex, Timestamp, Uuid, cstr, doc,
};
use serde_json::json;

use super::Bench;

const WHOLE: &str = "[[extract]]\nname = \"things\"\nconnection = \"mongo\"\ncollection = \"things\"\n";
const MORNING: &str = "2024-05-04";

#[test]
fn every_type_has_the_form_that_the_documentation_says() {
    let bench = Bench::new(WHOLE);
    let uuid = Uuid::parse_str("00112233-4455-6677-8899-aabbccddeeff").expect("a UUID");
    let binary = |subtype, bytes: &[u8]| Binary { subtype, bytes: bytes.to_vec() };
    let regex = Regex { pattern: cstr!("^a/b").into(), options: cstr!("i").into() };
    bench.database.insert(
        "things",
        vec![doc! {
            "_id": ObjectId::parse_str("65f0000000000000000000aa").expect("an id"),
            "date": DateTime::from_millis(1_714_521_600_123),
            "int": 7_i32,
            "long": 9_007_199_254_740_993_i64,
            "double": 1.0,
            "tenth": 0.1,
            "nan": f64::NAN,
            "infinite": f64::NEG_INFINITY,
            "decimal": Bson::Decimal128("12345678901234567.1234567890".parse().expect("a decimal")),
            "short_decimal": Bson::Decimal128("1.10".parse().expect("a decimal")),
            "no_decimal": Bson::Decimal128("NaN".parse().expect("a decimal")),
            "binary": binary(BinarySubtype::Generic, &[0, 1, 250]),
            "uuid": uuid,
            "old_uuid": binary(BinarySubtype::UuidOld, &uuid.bytes()),
            "stamp": Timestamp { time: 1_714_521_600, increment: 3 },
            "regex": regex,
            "code": Bson::JavaScriptCode("return 1".to_owned()),
            "scoped": JavaScriptCodeWithScope { code: "return x".to_owned(), scope: doc! { "x": 1 } },
            "symbol": Bson::Symbol("sym".to_owned()),
            "least": Bson::MinKey,
            "most": Bson::MaxKey,
            "nothing": Bson::Null,
            "flag": true,
            "text": "a \"b\"\\\n\u{1}\u{d55c}\u{1f600}",
            "nested": { "in": { "$dollar": 1, "a.b": [1, 2] }, "none": Bson::Null },
            "list": [{ "a": 1 }, { "a": 2, "b": "x" }],
        }],
    );
    bench.mornings.run(MORNING, 0);
    let columns =
        bench.project().query("select * exclude (_haul_pull) from (select columns(*)::varchar from raw.things)");
    let expected = json!([{
        "_id": "65f0000000000000000000aa",
        "date": "2024-05-01 00:00:00.123",
        "int": "7",
        "long": "9007199254740993",
        "double": "1.0",
        "tenth": "0.1",
        "nan": "NaN",
        "infinite": "-Infinity",
        "decimal": "12345678901234567.123456789",
        "short_decimal": "1.1",
        "no_decimal": "NaN",
        "binary": "AAH6",
        "uuid": "00112233-4455-6677-8899-aabbccddeeff",
        "old_uuid": "00112233-4455-6677-8899-aabbccddeeff",
        "stamp": "{'t': 1714521600, 'i': 3}",
        "regex": "/^a/b/i",
        "code": "return 1",
        "scoped": "{'code': return x, 'scope': {'x': 1}}",
        "symbol": "sym",
        "least": "MinKey",
        "most": "MaxKey",
        "flag": "true",
        "text": "a \"b\"\\\n\u{1}\u{d55c}\u{1f600}",
        "nested": "{'in': {'$dollar': 1, 'a.b': [1, 2]}}",
        "list": "[{'a': 1, 'b': NULL}, {'a': 2, 'b': x}]",
    }]);
    let mut found = columns.clone();
    // A column of nulls alone has no type, and is not there before it has one.
    if let Some(row) = found[0].as_object_mut() {
        row.retain(|name, value| name != "nothing" || !value.is_null());
    }
    assert_eq!(found, expected, "{columns:#}");
}

#[test]
fn names_that_come_twice_are_both_there() {
    let bench = Bench::new(WHOLE);
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), 1);
    document.append(cstr!("a"), "first");
    document.append(cstr!("a"), "second");
    bench.database.insert_raw("things", vec![document]);
    bench.mornings.run(MORNING, 0);
    // A server may keep one of the two only; what it keeps arrives.
    let kept =
        bench.database.raw("things")[0].iter().filter_map(Result::ok).filter(|(name, _)| name.as_str() == "a").count();
    let row = bench.project().query("select * exclude (_haul_pull) from raw.things");
    let expected = if kept == 2 {
        json!([{ "_id": 1, "a": "first", "a_2": "second" }])
    } else {
        json!([{ "_id": 1, "a": "second" }])
    };
    assert_eq!(row, expected);
}

#[test]
fn a_column_of_several_types_is_refused_until_its_type_is_declared() {
    let bench = Bench::new(WHOLE);
    bench.database.insert("things", vec![doc! { "_id": 1, "x": 1.5 }, doc! { "_id": 2, "x": f64::NAN }]);
    let told = bench.mornings.run(MORNING, 1);
    assert!(told.contains("the column `x` is a number") && told.contains("columns = { x ="), "{told}");
    bench.write(&format!("{WHOLE}columns = {{ x = \"DOUBLE\" }}\n"));
    bench.mornings.run(MORNING, 0);
    let rows = bench.project().query("select _id, cast(x as varchar) as x from raw.things order by _id");
    assert_eq!(rows, json!([{ "_id": 1, "x": "1.5" }, { "_id": 2, "x": "nan" }]));
}

//! Nested values, as records and lists with types or as JSON.

use super::bench::{Driver, Load, day, items};

#[test]
fn records_and_lists_land_with_types() {
    Driver::DuckDb.run(|bench| async move {
        let rows = "{\"user\":{\"id\":9007199254740993,\"tags\":[\"a\",null],\"empty\":[]},\"list\":[{\"x\":1},{\"y\":[0.5]},null]}\n\
                    {\"user\":null,\"list\":[]}";
        bench.load(&Load::whole(), &[rows]).await.expect("a commit");
        assert_eq!(
            bench.columns(&items()).await,
            "user STRUCT(\"id\" BIGINT, \"tags\" VARCHAR[], \"empty\" JSON), list STRUCT(\"x\" BIGINT, \"y\" DOUBLE[])[]"
        );
        assert_eq!(
            bench.text("SELECT user.id, user.tags, list FROM raw.items ORDER BY 1").await,
            r#"[[9007199254740993,["a",null],[{"x":1,"y":null},{"x":null,"y":[0.5]},null]],[null,null,[]]]"#
        );
    });
}

#[test]
fn nested_values_land_as_json_where_that_is_asked_for() {
    Driver::DuckDb.run(|bench| async move {
        let rows = "{\"o\":{\"b\": 1, \"a\":[1.50, 12345678901234567890123, \"x\"]},\"l\":[],\"n\":1}";
        bench.load(&Load::whole().json(), &[rows]).await.expect("a commit");
        assert_eq!(bench.columns(&items()).await, "o JSON, l JSON, n BIGINT");
        assert_eq!(
            bench.text("SELECT o::VARCHAR, l::VARCHAR FROM raw.items").await,
            r#"[["{\"b\":1,\"a\":[1.5,12345678901234567890123,\"x\"]}","[]"]]"#
        );
    });
}

#[test]
fn long_numbers_inside_of_records_keep_their_digits() {
    Driver::DuckDb.run(|bench| async move {
        let row = "{\"o\":{\"h\":170141183460469231731687303715884105727,\"d\":0.12345678901234567891,\"l\":[0.1234567890123456789]}}";
        bench.load(&Load::whole(), &[row]).await.expect("a commit");
        assert_eq!(
            bench.text("SELECT o FROM raw.items").await,
            r#"[[{"h":"170141183460469231731687303715884105727","d":"0.12345678901234567891","l":["0.1234567890123456789"]}]]"#
        );
    });
}

#[test]
fn a_record_gets_new_fields_and_wider_ones() {
    Driver::DuckDb.run(|bench| async move {
        let (one, two) = (Load::of(day("2024-03-01")), Load::of(day("2024-03-02")));
        bench.load(&one, &["{\"o\":{\"a\":1,\"in\":{\"x\":1}},\"l\":[{\"p\":1}]}"]).await.expect("a commit");
        let rows = "{\"o\":{\"new\":\"n\",\"in\":{\"y\":true,\"x\":0.5}},\"l\":[{\"q\":2}]}";
        bench.load(&two, &[rows]).await.expect("a commit");
        assert_eq!(
            bench.columns(&items()).await,
            "o STRUCT(\"a\" BIGINT, \"in\" STRUCT(\"x\" DOUBLE, \"y\" BOOLEAN), \"new\" VARCHAR), l STRUCT(\"p\" BIGINT, \"q\" BIGINT)[]"
        );
        assert_eq!(
            bench.text("SELECT o, l FROM raw.items ORDER BY _haul_unit").await,
            r#"[[{"a":1,"in":{"x":1.0,"y":null},"new":null},[{"p":1,"q":null}]],[{"a":null,"in":{"x":0.5,"y":true},"new":"n"},[{"p":null,"q":2}]]]"#
        );
        // Fields that come in another order or not at all are no change.
        let before = bench.columns(&items()).await;
        let again = Load::of(day("2024-03-03"));
        bench.load(&again, &["{\"o\":{\"new\":\"m\",\"a\":2}}"]).await.expect("a commit");
        assert_eq!(bench.columns(&items()).await, before);
        assert_eq!(bench.text("SELECT o.a, o.new FROM raw.items WHERE o.a = 2").await, r#"[[2,"m"]]"#);
    });
}

#[test]
fn a_record_becomes_json_beside_json_and_keeps_what_it_held() {
    Driver::DuckDb.run(|bench| async move {
        bench.load(&Load::of(day("2024-03-01")), &["{\"o\":{\"a\":1},\"l\":[1]}"]).await.expect("a commit");
        bench.load(&Load::of(day("2024-03-02")).json(), &["{\"o\":{\"b\":\"x\"},\"l\":[{}]}"]).await.expect("a commit");
        assert_eq!(bench.columns(&items()).await, "o JSON, l JSON");
        assert_eq!(
            bench.text("SELECT o, l FROM raw.items ORDER BY _haul_unit").await,
            r#"[[{"a":1},[1]],[{"b":"x"},[{}]]]"#
        );
        // JSON takes every later value as it is, a date among them.
        bench.load(&Load::of(day("2024-03-03")), &["{\"o\":\"2024-03-03\",\"l\":5}"]).await.expect("a commit");
        assert_eq!(
            bench.text("SELECT o, l FROM raw.items WHERE _haul_unit = '2024-03-03'").await,
            r#"[["2024-03-03",5]]"#
        );
    });
}

#[test]
fn objects_that_no_record_can_hold_land_as_json() {
    Driver::DuckDb.run(|bench| async move {
        let row =
            "{\"case\":{\"Ab\":1,\"aB\":2},\"none\":{\"\":1},\"empty\":{},\"quoted\":{\"it's\":{\"a \\\"b\\\"\":1}}}";
        bench.load(&Load::whole(), &[row]).await.expect("a commit");
        assert_eq!(
            bench.columns(&items()).await,
            "case JSON, none JSON, empty JSON, quoted STRUCT(\"it's\" STRUCT(\"a \"\"b\"\"\" BIGINT))"
        );
        assert_eq!(
            bench.text("SELECT \"case\", \"none\", empty, quoted FROM raw.items").await,
            r#"[[{"Ab":1,"aB":2},{"":1},{},{"it's":{"a \"b\"":1}}]]"#
        );
    });
}

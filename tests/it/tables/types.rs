//! Every type of a source with the value that is easiest to lose, and what it is in the warehouse.

use serde_json::{Value, json};

use super::mornings;
use crate::support::databases::Database;
use crate::support::mornings::Mornings;

/// A column: its name, its type at the source, a value as SQL, its type here, and its value here.
type Case = (&'static str, &'static str, &'static str, &'static str, Value);

/// Puts one row of values and one of nulls into a table, reads it, and compares types and values.
fn arrive(database: &dyn Database, cases: &[Case], before: &[&str]) -> Mornings {
    let columns: Vec<String> = cases.iter().map(|(name, kind, ..)| format!("{name} {kind}")).collect();
    let values: Vec<&str> = cases.iter().map(|(_, _, value, ..)| *value).collect();
    let nulls: Vec<String> = cases.iter().map(|_| "NULL".to_owned()).collect();
    let names: Vec<&str> = cases.iter().map(|(name, ..)| *name).collect();
    let mut statements: Vec<String> = before.iter().map(|statement| (*statement).to_owned()).collect();
    statements.push(format!("CREATE TABLE everything (line_no int, {})", columns.join(", ")));
    statements.push(format!("INSERT INTO everything VALUES (1, {}), (2, {})", values.join(", "), nulls.join(", ")));
    database.execute(&statements.iter().map(String::as_str).collect::<Vec<_>>());
    let days = mornings(database, "", "table = \"everything\"");
    days.run("2024-05-04", 0);
    let found = days.project.query(
        "select column_name as name, data_type as kind from duckdb_columns() where table_name = 'events' and column_name not like '\\_haul%' escape '\\'",
    );
    let texts: Vec<String> = names.iter().map(|name| format!("{name}::varchar as {name}")).collect();
    let rows = days.project.query(&format!("select {} from raw.events order by line_no", texts.join(", ")));
    for (name, kind, value, here, text) in cases {
        let column = found.as_array().expect("columns").iter().find(|column| column["name"] == **name);
        assert_eq!(column.map(|column| &column["kind"]), Some(&json!(here)), "{name} {kind}");
        assert_eq!(&rows[0][name], text, "{name} {kind} of {value}");
        assert_eq!(rows[1][name], Value::Null, "{name} {kind}");
    }
    days
}

pub fn postgres(database: &dyn Database) {
    let timestamp = "2024-02-29 23:59:59.123456";
    let cases: Vec<Case> = vec![
        ("a_bool", "boolean", "true", "BOOLEAN", json!("true")),
        ("a_small", "smallint", "-32768", "BIGINT", json!("-32768")),
        ("a_int", "integer", "-2147483648", "BIGINT", json!("-2147483648")),
        ("a_big", "bigint", "-9223372036854775808", "BIGINT", json!("-9223372036854775808")),
        ("a_decimal", "numeric(18,4)", "12345678901234.5678", "DECIMAL(18,4)", json!("12345678901234.5678")),
        (
            "a_whole",
            "numeric(38,0)",
            "99999999999999999999999999999999999999",
            "DECIMAL(38,0)",
            json!("99999999999999999999999999999999999999"),
        ),
        (
            "a_free",
            "numeric",
            "-0.123456789012345678901234567891",
            "DECIMAL(38,30)",
            json!("-0.123456789012345678901234567891"),
        ),
        ("a_real", "real", "0.1", "DOUBLE", json!("0.1")),
        ("a_double", "double precision", "1.7976931348623157e308", "DOUBLE", json!("1.7976931348623157e+308")),
        ("a_nan", "double precision", "'NaN'", "DOUBLE", json!("nan")),
        ("a_infinity", "double precision", "'-Infinity'", "DOUBLE", json!("-inf")),
        (
            "a_text",
            "text",
            "E'\"quoted\" \\\\ \\n \\u00e9\\uD55C \\x01'",
            "VARCHAR",
            json!("\"quoted\" \\ \n \u{e9}\u{d55c} \u{1}"),
        ),
        ("a_char", "char(4)", "'ab'", "VARCHAR", json!("ab  ")),
        ("a_bytes", "bytea", "'\\x00ff10'", "VARCHAR", json!("AP8Q")),
        ("a_date", "date", "'0001-01-01'", "DATE", json!("0001-01-01")),
        ("a_later", "date", "'infinity'", "DATE", json!("infinity")),
        ("a_time", "time", "'23:59:59.999999'", "TIME", json!("23:59:59.999999")),
        ("a_timetz", "timetz", "'04:05:06+09'", "VARCHAR", json!("04:05:06+09")),
        ("a_stamp", "timestamp", "'2024-02-29 23:59:59.123456'", "TIMESTAMP", json!(timestamp)),
        ("a_instant", "timestamptz", "'2024-03-01 08:59:59.123456+09'", "TIMESTAMP", json!(timestamp)),
        ("a_first", "timestamptz", "'-infinity'", "TIMESTAMP", json!("-infinity")),
        (
            "a_interval",
            "interval",
            "'1 year 2 months 3 days 04:05:06.7'",
            "VARCHAR",
            json!("1 year 2 mons 3 days 04:05:06.7"),
        ),
        (
            "a_uuid",
            "uuid",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "VARCHAR",
            json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ),
        (
            "a_json",
            "json",
            "'{\"a\": [1, {\"b\": 12345678901234567890}]}'",
            "JSON",
            json!("{\"a\":[1,{\"b\":12345678901234567890}]}"),
        ),
        ("a_jsonb", "jsonb", "'[null, true, \"x\"]'", "JSON", json!("[null,true,\"x\"]")),
        ("a_ints", "int[]", "'{1,NULL,3}'", "BIGINT[]", json!("[1, NULL, 3]")),
        ("a_grid", "text[]", "'{}'", "VARCHAR[]", json!("[]")),
        (
            "a_decimals",
            "numeric(20,2)[]",
            "'{1.10,99999999999999999.99}'",
            "DECIMAL(20,2)[]",
            json!("[1.10, 99999999999999999.99]"),
        ),
        ("a_stamps", "timestamptz[]", "'{2024-03-01 08:59:59+09}'", "TIMESTAMP[]", json!("['2024-02-29 23:59:59']")),
        ("a_mood", "mood", "'sad'", "VARCHAR", json!("sad")),
        ("a_moods", "mood[]", "'{sad,ok}'", "VARCHAR[]", json!("[sad, ok]")),
        ("a_pair", "pair", "ROW(7, 'x')", "STRUCT(a BIGINT, b VARCHAR)", json!("{'a': 7, 'b': x}")),
        ("a_domain", "positive", "5", "BIGINT", json!("5")),
        ("a_range", "int4range", "'[1,5)'", "VARCHAR", json!("[1,5)")),
        ("a_inet", "inet", "'10.0.0.1/8'", "VARCHAR", json!("10.0.0.1/8")),
        ("a_money", "money", "12.34", "DECIMAL(38,2)", json!("12.34")),
        ("a_bits", "bit(3)", "B'101'", "VARCHAR", json!("101")),
    ];
    let types = [
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE DOMAIN positive AS int CHECK (value > 0)",
    ];
    arrive(database, &cases, &types);
}

pub fn mariadb(database: &dyn Database) {
    let timestamp = "2024-02-29 23:59:59.123456";
    let cases: Vec<Case> = vec![
        ("a_flag", "tinyint(1)", "7", "BIGINT", json!("7")),
        ("a_tiny", "tinyint unsigned", "255", "BIGINT", json!("255")),
        ("a_medium", "mediumint", "-8388608", "BIGINT", json!("-8388608")),
        ("a_int", "int unsigned", "4294967295", "BIGINT", json!("4294967295")),
        ("a_big", "bigint", "-9223372036854775808", "BIGINT", json!("-9223372036854775808")),
        ("a_ubig", "bigint unsigned", "18446744073709551615", "HUGEINT", json!("18446744073709551615")),
        (
            "a_decimal",
            "decimal(38,4)",
            "-1234567890123456789012345678901234.5678",
            "DECIMAL(38,4)",
            json!("-1234567890123456789012345678901234.5678"),
        ),
        ("a_filled", "decimal(10,2) unsigned zerofill", "3.5", "DECIMAL(10,2)", json!("3.50")),
        ("a_float", "float", "0.1", "DOUBLE", json!("0.1")),
        ("a_double", "double", "1.7976931348623157e308", "DOUBLE", json!("1.7976931348623157e+308")),
        ("a_bit", "bit(10)", "b'1000000001'", "HUGEINT", json!("513")),
        (
            "a_text",
            "text",
            "'\"quoted\" \\\\ \\n \u{e9}\u{d55c}\u{1f3ac}'",
            "VARCHAR",
            json!("\"quoted\" \\ \n \u{e9}\u{d55c}\u{1f3ac}"),
        ),
        ("a_latin", "varchar(20) character set latin1", "'\u{e9}t\u{e9}'", "VARCHAR", json!("\u{e9}t\u{e9}")),
        ("a_binary_text", "varchar(20) collate utf8mb4_bin", "'abc'", "VARCHAR", json!("abc")),
        ("a_bytes", "varbinary(20)", "x'00ff10'", "VARCHAR", json!("AP8Q")),
        ("a_blob", "longblob", "x'00ff10'", "VARCHAR", json!("AP8Q")),
        ("a_date", "date", "'1000-01-01'", "DATE", json!("1000-01-01")),
        ("a_stamp", "datetime(6)", "'2024-02-29 23:59:59.123456'", "TIMESTAMP", json!(timestamp)),
        ("a_instant", "timestamp(6) null", "'2024-02-29 23:59:59.123456'", "TIMESTAMP", json!(timestamp)),
        ("a_time", "time(3)", "'-838:59:59.500'", "VARCHAR", json!("-838:59:59.500000")),
        ("a_year", "year", "1999", "BIGINT", json!("1999")),
        ("a_enum", "enum('sad','ok')", "'ok'", "VARCHAR", json!("ok")),
        ("a_set", "set('a','b','c')", "'a,c'", "VARCHAR", json!("a,c")),
        (
            "a_json",
            "json",
            "'{\"a\": [1, {\"b\": 12345678901234567890}]}'",
            "JSON",
            json!("{\"a\":[1,{\"b\":12345678901234567890}]}"),
        ),
        ("a_point", "point", "ST_PointFromText('POINT(1 2)')", "VARCHAR", json!("POINT(1 2)")),
    ];
    let days = arrive(database, &cases, &["SET sql_mode = ''", "SET time_zone = '+00:00'"]);
    // What MySQL writes for a date that is none is null here.
    database.execute(&[
        "SET sql_mode = ''",
        "UPDATE everything SET a_date = '0000-00-00', a_stamp = '0000-00-00 00:00:00'",
    ]);
    days.run("2024-05-04", 0);
    let dates = days.project.query("select count(a_date) + count(a_stamp) as n from raw.events");
    assert_eq!(dates[0]["n"], 0);
}

pub fn duckdb(database: &dyn Database) {
    let timestamp = "2024-02-29 23:59:59.123456";
    let cases: Vec<Case> = vec![
        ("a_bool", "boolean", "false", "BOOLEAN", json!("false")),
        ("a_tiny", "utinyint", "255", "BIGINT", json!("255")),
        ("a_ubig", "ubigint", "18446744073709551615", "HUGEINT", json!("18446744073709551615")),
        (
            "a_huge",
            "hugeint",
            "-170141183460469231731687303715884105727",
            "HUGEINT",
            json!("-170141183460469231731687303715884105727"),
        ),
        (
            "a_decimal",
            "decimal(38,10)",
            "1234567890123456789012345678.0123456789",
            "DECIMAL(38,10)",
            json!("1234567890123456789012345678.0123456789"),
        ),
        ("a_double", "double", "'nan'", "DOUBLE", json!("nan")),
        ("a_float", "float", "0.5", "DOUBLE", json!("0.5")),
        ("a_text", "varchar", "'\"quoted\" \\ \n\u{e9}\u{d55c}'", "VARCHAR", json!("\"quoted\" \\ \n\u{e9}\u{d55c}")),
        ("a_bytes", "blob", "'\\x00\\xFF\\x10'", "VARCHAR", json!("AP8Q")),
        ("a_date", "date", "'infinity'", "DATE", json!("infinity")),
        ("a_time", "time", "'23:59:59.999999'", "TIME", json!("23:59:59.999999")),
        ("a_stamp", "timestamp", "'2024-02-29 23:59:59.123456'", "TIMESTAMP", json!(timestamp)),
        ("a_instant", "timestamptz", "'2024-03-01 08:59:59.123456+09'", "TIMESTAMP", json!(timestamp)),
        (
            "a_nanos",
            "timestamp_ns",
            "'2024-02-29 23:59:59.123456789'",
            "VARCHAR",
            json!("2024-02-29 23:59:59.123456789"),
        ),
        ("a_interval", "interval", "'3 days 04:05:06'", "VARCHAR", json!("3 days 04:05:06")),
        (
            "a_uuid",
            "uuid",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "VARCHAR",
            json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ),
        ("a_enum", "enum('sad', 'ok')", "'ok'", "VARCHAR", json!("ok")),
        (
            "a_json",
            "json",
            "'{\"a\": [1, {\"b\": 12345678901234567890}]}'",
            "JSON",
            json!("{\"a\":[1,{\"b\":12345678901234567890}]}"),
        ),
        ("a_list", "integer[]", "[1, NULL, 3]", "BIGINT[]", json!("[1, NULL, 3]")),
        (
            "a_struct",
            "struct(id bigint, price decimal(20,2), tags varchar[])",
            "{'id': 9007199254740993, 'price': 99999999999999999.99, 'tags': ['x', 'y']}",
            "STRUCT(id BIGINT, price DECIMAL(20,2), tags VARCHAR[])",
            json!("{'id': 9007199254740993, 'price': 99999999999999999.99, 'tags': [x, y]}"),
        ),
        ("a_map", "map(varchar, integer)", "map {'k': 1}", "STRUCT(k BIGINT)", json!("{'k': 1}")),
    ];
    arrive(database, &cases, &[]);
}

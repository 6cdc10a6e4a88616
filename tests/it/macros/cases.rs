//! Calls of macros with the values that every dialect has to give them, and the tables that they are called over.

/// Calls over constants.
pub const SCALAR: &[(&str, &str)] = &[
    (r"safe_divide('1', '4')", r"0.25"),
    (r"safe_divide(3, 0)", r"null"),
    (r"safe_divide('7', 2)", r"3.5"),
    (r#"date_trunc("DATE '2024-05-03'", 'week')"#, r#""2024-04-29""#),
    (r#"date_trunc("DATE '2024-05-03'", 'month')"#, r#""2024-05-01""#),
    (r#"date_trunc("DATE '2024-05-03'", 'quarter')"#, r#""2024-04-01""#),
    (r#"date_trunc("TIMESTAMP '2024-05-03 10:00:00'")"#, r#""2024-05-03""#),
    (r#"timestamp_trunc("TIMESTAMP '2024-05-03 10:20:30'")"#, r#""2024-05-03T10:00:00""#),
    (r#"timestamp_trunc("TIMESTAMP '2024-05-03 10:20:30'", 'week')"#, r#""2024-04-29T00:00:00""#),
    (r#"date_add("DATE '2024-01-31'", 1, 'month')"#, r#""2024-02-29""#),
    (r#"date_add("DATE '2024-01-31'", -1)"#, r#""2024-01-30""#),
    (r#"date_add("DATE '2024-01-31'", 2, 'week')"#, r#""2024-02-14""#),
    (r#"date_add("DATE '2024-01-31'", 1, 'quarter')"#, r#""2024-04-30""#),
    (r#"date_add("DATE '2024-02-29'", 1, 'year')"#, r#""2025-02-28""#),
    (r#"date_diff("DATE '2024-05-03'", "DATE '2024-04-28'")"#, r"5"),
    (r#"date_diff("DATE '2024-05-06'", "DATE '2024-05-05'", 'week')"#, r"1"),
    (r#"date_diff("DATE '2024-05-05'", "DATE '2024-04-29'", 'week')"#, r"0"),
    (r#"date_diff("DATE '2024-05-01'", "DATE '2023-12-31'", 'month')"#, r"5"),
    (r#"date_diff("DATE '2024-01-01'", "DATE '2023-12-31'", 'year')"#, r"1"),
    (r#"date_diff("DATE '2023-12-31'", "DATE '2024-04-01'", 'quarter')"#, r"-2"),
    (r#"timestamp_add("TIMESTAMP '2024-05-03 10:20:30'", 90, 'minute')"#, r#""2024-05-03T11:50:30""#),
    (r#"timestamp_diff("TIMESTAMP '2024-05-03 11:00:00'", "TIMESTAMP '2024-05-03 10:00:01'", 'hour')"#, r"0"),
    (r#"timestamp_diff("TIMESTAMP '2024-05-03 10:00:00'", "TIMESTAMP '2024-05-03 11:30:00'", 'hour')"#, r"-1"),
    (r#"timestamp_diff("TIMESTAMP '2024-05-03 10:00:01.5'", "TIMESTAMP '2024-05-03 10:00:00'")"#, r"1"),
    (r"timestamp_micros(1714732830000007)", r#""2024-05-03T10:40:30.000007""#),
    (r"timestamp_millis(1714732830000)", r#""2024-05-03T10:40:30""#),
    (r"timestamp_seconds(1714732830)", r#""2024-05-03T10:40:30""#),
    (r#"unix_micros("TIMESTAMP '2024-05-03 10:40:30.000007'")"#, r"1714732830000007"),
    (r#"parse_date("'20240503'")"#, r#""2024-05-03""#),
    (r#"parse_date("'03/05/2024'", '%d/%m/%Y')"#, r#""2024-05-03""#),
    (r#"format_date("DATE '2024-05-03'")"#, r#""2024-05-03""#),
    (r#"format_date("DATE '2024-05-03'", 'y%Y-m%m %B')"#, r#""y2024-m05 May""#),
    (r#"json_value("'{\"a\": {\"b\": [\"x\", 2]}, \"n\": null}'", '$.a.b[0]')"#, r#""x""#),
    (r#"json_value("'{\"a\": {\"b\": 2}}'", '$.a')"#, r"null"),
    (r#"json_value("'{\"a\": true, \"c\": 1.5}'", '$.a')"#, r#""true""#),
    (r#"json_value("'{\"c\": 1.5}'", '$.c')"#, r#""1.5""#),
    (r#"json_value("'{\"c\": null}'", '$.c')"#, r"null"),
    (r#"hash("'a'")"#, r#""0cc175b9c0f1b6a831c399e269772661""#),
    (r#"hash(["'a'", 1])"#, r#""ca943635cbc475e5426e1954a9ef399a""#),
    (r#"hash(["'a'", 'NULL'])"#, r#""72aaf6d638e5897a1506395d00834997""#),
    (r#"cast("'12'", 'int')"#, r"12"),
    (r"cast(12, 'string')", r#""12""#),
    (r#"cast("TIMESTAMP '2024-05-03 10:00:00'", 'date')"#, r#""2024-05-03""#),
    (r#"cast("'true'", 'bool')"#, r"true"),
    (r#"cast("'1.5'", 'float')"#, r"1.5"),
    (r#"try_cast("'x'", 'int')"#, r"null"),
    (r#"try_cast("'12'", 'int')"#, r"12"),
    (r#"try_cast("'2024-02-30'", 'date')"#, r"null"),
    (r#"try_cast("'2024-02-29'", 'date')"#, r#""2024-02-29""#),
    (r#"try_cast("'1e3'", 'float')"#, r"1000.0"),
    (r#"try_cast("'1e'", 'float')"#, r"null"),
    (r#"try_cast("'no way'", 'bool')"#, r"null"),
    (r#"try_cast("'2024-02-29 10:11:12'", 'timestamp')"#, r#""2024-02-29T10:11:12""#),
    (r#"try_cast("'2024-02-29 25:11:12'", 'timestamp')"#, r"null"),
    (r#"regexp_contains("'abc-12'", '[a-c]+-\\d+')"#, r"true"),
    (r#"regexp_extract("'https://shop.example/cart?x=1'", '^https?://[^/]+([^?]*)')"#, r#""/cart""#),
    (r#"regexp_extract("'abc'", 'b.')"#, r#""bc""#),
    (r#"regexp_extract("'abc'", 'z(.)')"#, r"null"),
    (r#"date_trunc(date_add("DATE '2024-05-03'", 1, 'month'), 'month')"#, r#""2024-06-01""#),
];

/// Calls over the rows of [`rows`].
pub const AGGREGATE: &[(&str, &str)] = &[
    (r"count_if('n > 1')", r"2"),
    (r"logical_or('n > 2')", r"true"),
    (r"logical_and('n > 2')", r"false"),
    (r"approx_count_distinct('n')", r"3"),
    (r"string_agg('t', '|', order_by='n DESC')", r#""c|b|a""#),
    (r"string_agg('k', ',', distinct=true)", r#""x,y""#),
    (r"string_agg('n', order_by='n')", r#""1,2,3""#),
    (r"earliest('t', 'n')", r#""a""#),
    (r"latest('t', 'n')", r#""c""#),
    (r"earliest('maybe', 'n')", r#""second""#),
    (r"latest('maybe', 'n')", r#""second""#),
    (r"safe_divide('SUM(n)', 'COUNT(*)')", r"2.0"),
];

/// Three rows, whose texts have this type.
pub fn rows(text: &str) -> String {
    format!(
        " FROM (SELECT 1 AS n, 'a' AS t, 'x' AS k, CAST(NULL AS {text}) AS maybe UNION ALL SELECT 2, 'b', 'y', 'second' \
         UNION ALL SELECT 3, 'c', 'x', NULL) AS d"
    )
}

/// Makes a daily GA4 table in DuckDB.
pub fn duckdb_events(name: &str, rows: &str) -> String {
    const VALUE: &str = "STRUCT(string_value VARCHAR, int_value BIGINT, float_value DOUBLE, double_value DOUBLE)";
    format!(
        "CREATE TABLE {name} AS SELECT unnest(from_json('{rows}', '[{{\"event_date\": \"VARCHAR\", \"event_timestamp\": \
         \"BIGINT\", \"event_name\": \"VARCHAR\", \"event_params\": \"STRUCT(key VARCHAR, value {VALUE})[]\", \
         \"user_properties\": \"STRUCT(key VARCHAR, value {VALUE})[]\", \"device\": \"STRUCT(category VARCHAR, web_info \
         STRUCT(browser VARCHAR))\", \"ecommerce\": \"STRUCT(purchase_revenue DOUBLE)\", \"items\": \"STRUCT(item_id \
         VARCHAR, quantity BIGINT)[]\"}}]'), max_depth := 2)"
    )
}

/// Makes a daily GA4 table in PostgreSQL, where what is nested is JSON.
pub fn postgres_events(name: &str, rows: &str) -> String {
    format!(
        "CREATE TABLE {name} AS SELECT * FROM jsonb_to_recordset('{rows}') AS e(event_date text, event_timestamp bigint, \
         event_name text, event_params jsonb, user_properties jsonb, device jsonb, ecommerce jsonb, items jsonb)"
    )
}

//! Functions of GoogleSQL that DuckDB lacks, as macros of the connection; only names that DuckDB does not have itself.
//!
//! They are made when a statement mentions them, live in the connection alone, and never lie in anybody's file.

use duckdb::Connection;

use super::commit;
use crate::error::Result;

/// The functions: their names, and what stands behind `CREATE TEMP MACRO IF NOT EXISTS name`.
const MACROS: &[(&str, &str)] = &[
    ("safe_divide", "(a, b) AS a / nullif(b, 0)"),
    ("ieee_divide", "(a, b) AS a::DOUBLE / b::DOUBLE"),
    ("div", "(a, b) AS a // b"),
    ("timestamp_micros", "(n) AS make_timestamp(n::BIGINT)"),
    ("timestamp_millis", "(n) AS make_timestamp(1000 * n::BIGINT)"),
    ("timestamp_seconds", "(n) AS make_timestamp(1000000 * n::BIGINT)"),
    ("unix_micros", "(t) AS epoch_us(t)"),
    ("unix_millis", "(t) AS epoch_ms(t)"),
    ("unix_seconds", "(t) AS epoch_us(t) // 1000000"),
    ("unix_date", "(d) AS (d::DATE - DATE '1970-01-01')::BIGINT"),
    ("date_from_unix_date", "(n) AS DATE '1970-01-01' + n::INTEGER"),
    ("parse_date", "(f, s) AS strptime(s, f)::DATE"),
    ("parse_timestamp", "(f, s) AS strptime(s, f)"),
    ("parse_datetime", "(f, s) AS strptime(s, f)"),
    ("format_date", "(f, d) AS strftime(d::DATE, f)"),
    ("format_timestamp", "(f, t) AS strftime(t::TIMESTAMP, f)"),
    ("format_datetime", "(f, t) AS strftime(t::TIMESTAMP, f)"),
    ("timestamp_add", "(t, i) AS t + i"),
    ("timestamp_sub", "(t, i) AS t - i"),
    ("datetime_add", "(t, i) AS t + i"),
    ("datetime_sub", "(t, i) AS t - i"),
    ("generate_array", "(a, b) AS generate_series(a, b), (a, b, s) AS generate_series(a, b, s)"),
    (
        "generate_date_array",
        "(a, b) AS list_transform(generate_series(a::TIMESTAMP, b::TIMESTAMP, INTERVAL 1 DAY), lambda d: d::DATE), \
         (a, b, s) AS list_transform(generate_series(a::TIMESTAMP, b::TIMESTAMP, s), lambda d: d::DATE)",
    ),
    ("logical_or", "(c) AS bool_or(c)"),
    ("logical_and", "(c) AS bool_and(c)"),
    ("regexp_contains", "(s, p) AS regexp_matches(s, p)"),
    ("to_json_string", "(v) AS to_json(v)::VARCHAR"),
    ("json_extract_scalar", "(j, p) AS json_extract_string(j, p)"),
    ("json_query", "(j, p) AS json_extract(j, p)"),
    ("byte_length", "(s) AS strlen(s)"),
    ("generate_uuid", "() AS uuid()::VARCHAR"),
    ("rand", "() AS random()"),
    ("param_string", "(params, k) AS list_filter(params, lambda p: p.key = k)[1].value.string_value"),
    ("param_int", "(params, k) AS list_filter(params, lambda p: p.key = k)[1].value.int_value"),
    (
        "param_float",
        "(params, k) AS coalesce(list_filter(params, lambda p: p.key = k)[1].value.double_value, \
         list_filter(params, lambda p: p.key = k)[1].value.float_value, \
         list_filter(params, lambda p: p.key = k)[1].value.int_value::DOUBLE)",
    ),
];

/// Makes the functions that a statement mentions.
pub(super) fn make(connection: &Connection, sql: &str) -> Result<()> {
    for (name, body) in mentioned(sql) {
        connection
            .execute_batch(&format!("CREATE TEMP MACRO IF NOT EXISTS {name}{body}"))
            .map_err(|error| commit::failed("making the functions of GoogleSQL", error))?;
    }
    Ok(())
}

/// The functions whose names stand before a bracket, whatever else is there: too many would do no harm.
fn mentioned(sql: &str) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let called: Vec<String> = sql
        .match_indices('(')
        .filter_map(|(at, _)| sql[..at].trim_end().rsplit(|c| !is_name(c)).next())
        .map(str::to_lowercase)
        .collect();
    MACROS.iter().filter(move |(name, _)| called.iter().any(|called| called == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_can_be_made_and_none_stands_before_one_of_duckdb() {
        let connection = Connection::open_in_memory().expect("DuckDB");
        for (name, _) in MACROS {
            let sql = format!("SELECT count(*) FROM duckdb_functions() WHERE function_name = '{name}'");
            let known: i64 = connection.query_row(&sql, [], |row| row.get(0)).expect("a count");
            assert_eq!(known, 0, "{name}");
            make(&connection, &format!("SELECT {} (1)", name.to_uppercase())).expect("a macro");
            let known: i64 = connection.query_row(&sql, [], |row| row.get(0)).expect("a count");
            assert!(known > 0, "{name}");
        }
        assert_eq!(mentioned("SELECT rand, count(*) FROM t").count(), 0);
    }
}

//! Templates: every variable, filter and function, and errors that show the line and the right name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::NaiveDate;
use haul::error::{Error, Kind};
use haul::model::name::{Origin, Text};
use haul::template::{Quoting, Scope, Templates};
use haul::time::{Calendar, Grain, Tz, Window};
use serde_json::json;

fn templates(files: &[(&str, &str)]) -> Templates {
    try_templates(files).expect("good files")
}

fn try_templates(files: &[(&str, &str)]) -> Result<Templates, Error> {
    Templates::new(&files.iter().map(|(path, text)| ((*path).to_owned(), Arc::from(*text))).collect())
}

fn text(source: &str) -> Text {
    Text::new(source, Origin { file: Arc::new(PathBuf::from("pipelines/ratings.toml")), line: 10, column: 7 })
}

fn date(text: &str) -> NaiveDate {
    text.parse().expect("a date")
}

/// The second of three days of Seoul, which begin at 15:00 UTC of the day before.
fn scope() -> Scope {
    let calendar = Calendar::new(Grain::Day, Tz::Asia__Seoul);
    let logical = calendar.of_date(date("2018-02-03"));
    let window = Window::before(calendar, &logical, 3).expect("three days");
    Scope {
        report: None,
        timezone: Tz::Asia__Seoul,
        logical_date: Some(date("2018-02-03")),
        unit: Some(window.units()[1]),
        window: Some(window),
        run_id: "ratings-2018-02-03-1".to_owned(),
        run_date: date("2018-02-04"),
        now: "2018-02-03T21:00:00Z".parse().expect("an instant"),
        vars: BTreeMap::from([
            ("min_votes".to_owned(), json!(4)),
            ("genres".to_owned(), json!(["Drama", "Film-Noir"])),
            ("ratio".to_owned(), json!(0.25)),
            ("big".to_owned(), json!(9_007_199_254_740_993_u64)),
        ]),
        params: BTreeMap::new(),
        relations: BTreeMap::from([("ratings".to_owned(), "\"raw\".\"ratings\"".to_owned())]),
        this: Some("\"mart\".\"ranking\"".to_owned()),
        is_incremental: true,
        env: Arc::new(|name| (name == "REGION").then(|| "EU".to_owned())),
        quoting: Quoting::default(),
    }
}

fn render(source: &str) -> String {
    templates(&[]).render(&text(source), &scope()).unwrap_or_else(|error| panic!("{source}: {}", error.chain()))
}

fn refused(source: &str) -> Error {
    let error = templates(&[]).render(&text(source), &scope()).expect_err(source);
    assert_eq!(error.kind(), Kind::Template, "{source}");
    error
}

#[test]
fn every_variable_renders_as_it_is_documented() {
    for (name, expected) in [
        ("ds", "2018-02-01"),
        ("ds_nodash", "20180201"),
        ("next_ds", "2018-02-02"),
        ("prev_ds", "2018-01-31"),
        ("ts", "2018-01-31T15:00:00Z"),
        ("logical_date", "2018-02-03"),
        ("data_interval_start", "2018-01-31T15:00:00Z"),
        ("data_interval_end", "2018-02-01T15:00:00Z"),
        ("run_date", "2018-02-04"),
        ("window.start", "2018-01-30T15:00:00Z"),
        ("window.end", "2018-02-02T15:00:00Z"),
        ("window.first", "2018-01-31"),
        ("window.last", "2018-02-02"),
        ("window.days | join(' ')", "2018-01-31 2018-02-01 2018-02-02"),
        ("window.days | length", "3"),
        ("unit.start", "2018-01-31T15:00:00Z"),
        ("unit.end", "2018-02-01T15:00:00Z"),
        ("unit.key", "2018-02-01"),
        ("run.id", "ratings-2018-02-03-1"),
        ("this", "\"mart\".\"ranking\""),
        ("timezone", "Asia/Seoul"),
    ] {
        assert_eq!(render(&format!("{{{{ {name} }}}}")), expected, "{name}");
    }
}

#[test]
fn without_a_unit_the_dates_are_those_of_the_window_and_without_a_window_those_of_the_run() {
    let all = "{{ ds }} {{ next_ds }} {{ ts }} {{ data_interval_end }}";
    let per_window = Scope { unit: None, ..scope() };
    let rendered = templates(&[]).render(&text(all), &per_window).expect("a window");
    assert_eq!(rendered, "2018-01-31 2018-02-03 2018-01-30T15:00:00Z 2018-02-02T15:00:00Z");
    let whole = Scope { unit: None, window: None, ..scope() };
    let rendered = templates(&[]).render(&text(all), &whole).expect("a logical date");
    assert_eq!(rendered, "2018-02-03 2018-02-04 2018-02-02T15:00:00Z 2018-02-03T15:00:00Z");
}

#[test]
fn every_filter_gives_an_api_the_form_it_wants() {
    for (expression, expected) in [
        ("unit.start | iso", "2018-01-31T15:00:00Z"),
        ("unit.start | in_tz('Asia/Seoul') | iso", "2018-02-01T00:00:00+09:00"),
        ("unit.start | in_tz('Asia/Seoul')", "2018-02-01T00:00:00+09:00"),
        ("ds | iso", "2018-02-01"),
        ("unit.start | epoch", "1517410800"),
        ("unit.start | epoch_ms", "1517410800000"),
        ("ds | epoch", "1517410800"),
        ("unit.start | date", "2018-02-01"),
        ("unit.start | in_tz('UTC') | date", "2018-01-31"),
        ("unit.start | strftime('%Y%m%d %H:%M')", "20180201 00:00"),
        ("unit.start | in_tz('UTC') | strftime('%d.%m.%Y %H:%M:%S.%f')", "31.01.2018 15:00:00.000000"),
        ("ds | strftime('%Y/%m')", "2018/02"),
        ("ds | date_add(-1)", "2018-01-31"),
        ("ds | date_add(1, 'months')", "2018-03-01"),
        ("'2018-01-31' | date_add(1, 'month')", "2018-02-28"),
        ("unit.start | date_add(-1)", "2018-01-30T15:00:00Z"),
        ("unit.start | date_add(90, 'minutes')", "2018-01-31T16:30:00Z"),
        ("'2018-02-01T00:00:00+09:00' | epoch", "1517410800"),
        ("macros.ds_add(ds, 5)", "2018-02-06"),
        ("macros.ds_add('2018-02-01', -32)", "2017-12-31"),
        ("macros.ds_format(ds, '%Y-%m-%d', '%d/%m/%y')", "01/02/18"),
        ("ds.strftime('%j')", "032"),
        ("ds.year", "2018"),
        ("[ds, run_date] | max", "2018-02-04"),
        ("ds < run_date", "True"),
        ("{'from': ds, 'at': unit.start} | tojson", r#"{"from": "2018-02-01", "at": "2018-01-31T15:00:00Z"}"#),
    ] {
        assert_eq!(render(&format!("{{{{ {expression} }}}}")), expected, "{expression}");
    }
}

#[test]
fn sql_literals_are_quoted_whatever_the_value_is() {
    for (expression, expected) in [
        ("ds | sql", "DATE '2018-02-01'"),
        ("unit.start | sql", "TIMESTAMP '2018-01-31 15:00:00'"),
        ("unit.start | in_tz('Asia/Seoul') | sql", "TIMESTAMP '2018-02-01 00:00:00'"),
        ("\"O'Reilly; DROP TABLE x\" | sql", "'O''Reilly; DROP TABLE x'"),
        ("var('genres') | sql", "('Drama', 'Film-Noir')"),
        ("window.days | sql", "(DATE '2018-01-31', DATE '2018-02-01', DATE '2018-02-02')"),
        ("var('min_votes') | sql", "4"),
        ("var('ratio') | sql", "0.25"),
        ("var('big') | sql", "9007199254740993"),
        ("-3 | sql", "-3"),
        ("true | sql", "TRUE"),
        ("none | sql", "NULL"),
        ("'a\"b' | ident", "\"a\"\"b\""),
        ("['a', 'b'] | ident", "\"a\", \"b\""),
    ] {
        assert_eq!(render(&format!("{{{{ {expression} }}}}")), expected, "{expression}");
    }
    assert!(refused("{{ [] | sql }}").chain().contains("empty list"));
    assert!(refused("{{ {'a': 1} | sql }}").chain().contains("no SQL literal"));
    let backticks = Scope { quoting: Quoting { ident: '`', zone: "Z", ..Quoting::default() }, ..scope() };
    let rendered = templates(&[]).render(&text("{{ 'a' | ident }} {{ unit.start | sql }}"), &backticks);
    assert_eq!(rendered.expect("another dialect"), "`a` TIMESTAMP '2018-01-31 15:00:00Z'");
}

#[test]
fn functions_reach_the_project() {
    for (expression, expected) in [
        ("ref('ratings')", "\"raw\".\"ratings\""),
        ("source('legacy', 'films')", "\"legacy\".\"films\""),
        ("source('legacy.films')", "\"legacy\".\"films\""),
        ("var('min_votes')", "4"),
        ("var('absent', 7)", "7"),
        ("var('absent', default=7)", "7"),
        ("is_incremental()", "True"),
        ("env_var('REGION')", "EU"),
        ("env_var('ABSENT', 'x')", "x"),
    ] {
        assert_eq!(render(&format!("{{{{ {expression} }}}}")), expected, "{expression}");
    }
}

#[test]
fn an_error_shows_file_line_and_the_nearest_name() {
    let error = refused("SELECT *\nFROM x\nWHERE day = '{{ dss }}' -- here");
    assert_eq!(error.to_string(), "pipelines/ratings.toml:12:17: `dss` is undefined");
    assert_eq!(
        error.details().expect("an excerpt"),
        "  --> pipelines/ratings.toml:12:17\n   |\n12 | WHERE day = '{{ dss }}' -- here\n   |                 ^^^"
    );
    assert_eq!(error.hints(), ["did you mean `ds`?"]);
    // On the first line, the column counts from where the text begins in its file.
    assert!(refused("{{ dss }}").to_string().starts_with("pipelines/ratings.toml:10:10: "));
}

#[test]
fn every_wrong_name_gets_the_right_one_as_a_hint() {
    for (source, what, hint) in [
        ("{{ unit.strat }}", "`unit.strat` is undefined", "did you mean `unit.start`?"),
        ("{{ unti.start | sql }}", "`unti", "did you mean `unit"),
        ("{{ dss | sql }}", "`dss` is undefined", "did you mean `ds`?"),
        ("{{ nextds | strftime('%Y') }}", "`nextds` is undefined", "did you mean `next_ds`?"),
        ("{{ ds | strtime('%Y') }}", "there is no filter `strtime`", "did you mean `strftime`?"),
        ("{{ reff('ratings') }}", "there is no function `reff`", "did you mean `ref`?"),
        ("{{ ref('rating') }}", "there is no step or table `rating`", "did you mean `ratings`?"),
        ("{{ var('min_vote') }}", "`min_vote` has no value", "did you mean `min_votes`?"),
        ("{{ min_votes }}", "`min_votes` is undefined", "var('min_votes')"),
        ("{{ unit.start | in_tz('Asia/Soul') }}", "`Asia/Soul` is not a time zone", "did you mean `Asia/Seoul`?"),
        ("{{ env_var('NOPE') }}", "`NOPE` is not set", "default"),
        ("{% for x in range(3) %}{{ x }}", "syntax error", ""),
        ("{{ ds | strftime('%H') }}", "no time of day", ""),
        ("{{ macros.ds_sub(ds, 1) }}", "ds_sub is unknown", ""),
        ("{{ 'x' | date_add(1) }}", "`x` is neither a date nor an instant", ""),
    ] {
        let error = refused(source);
        assert!(error.chain().contains(what), "{source}: {}", error.chain());
        assert!(
            error.hints().iter().any(|text| text.contains(hint)) || hint.is_empty(),
            "{source}: {:?}",
            error.hints()
        );
    }
}

#[test]
fn what_a_step_does_not_have_is_said_in_its_terms() {
    let whole = Scope { unit: None, window: None, ..scope() };
    let error = templates(&[]).render(&text("{{ unit.start }}"), &whole).expect_err("no unit");
    assert!(error.hints()[0].contains("window.start"), "{:?}", error.hints());
    let error = templates(&[]).render(&text("{{ window.start }}"), &whole).expect_err("no window");
    assert_eq!(error.hints(), ["the pipeline has no [window]"]);
}

#[test]
fn no_template_prints_the_credentials_of_a_connection() {
    let scope = Scope { env: Arc::new(|_| Some("hunter2".to_owned())), ..scope() };
    for name in ["HAUL_CONN_API", "haul_conn_api", "AIRFLOW_CONN_API"] {
        let source = text(&format!("{{{{ env_var('{name}') }}}}"));
        let error = templates(&[]).render(&source, &scope).expect_err("refused");
        assert!(!error.chain().contains("hunter2"));
        assert!(error.chain().contains("credentials"));
    }
}

#[test]
fn an_endless_loop_ends_in_an_error() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}";
    assert!(refused(source).chain().contains("had not ended"));
}

#[test]
fn macros_and_includes_see_the_scope_and_errors_in_them_name_their_own_file() {
    let files = templates(&[
        ("sql/macros.sql", "{% macro between(column) %}{{ column | ident }} >= {{ unit.start | sql }}{% endmacro %}"),
        ("sql/part.sql", "line one\nday = {{ ds | sql }}"),
        ("sql/bad.sql", "line one\nline two {{ oops }}"),
    ]);
    let source = text("{% from 'macros.sql' import between %}{{ between('at') }} AND {% include 'sql/part.sql' %}");
    let rendered = files.render(&source, &scope()).expect("macros and includes");
    assert_eq!(rendered, "\"at\" >= TIMESTAMP '2018-01-31 15:00:00' AND line one\nday = DATE '2018-02-01'");
    let error = files.render(&text("x\n{% include 'bad.sql' %}"), &scope()).expect_err("oops");
    assert_eq!(error.to_string(), "sql/bad.sql:2:13: `oops` is undefined");
    let error = files.render(&text("{% include 'parts.sql' %}"), &scope()).expect_err("no such file");
    assert!(error.chain().contains("there is no file `parts.sql`"), "{}", error.chain());
    assert_eq!(error.hints(), ["did you mean `part.sql`?"]);
}

#[test]
fn a_syntax_error_in_a_file_names_its_line() {
    let error = try_templates(&[("sql/a.sql", "fine"), ("sql/b.sql", "one\ntwo {{ ds | }}\n")]).expect_err("broken");
    assert!(error.to_string().starts_with("sql/b.sql:2:"), "{error}");
    assert!(error.details().expect("an excerpt").contains("two {{ ds | }}"));
}

#[test]
fn inspection_finds_what_a_template_refers_to_also_in_the_files_it_reaches() {
    let files = templates(&[
        ("sql/macros.sql", "{% macro votes() %}{{ var('min_votes', 4) }} {{ ref('votes') }}{% endmacro %}"),
        ("sql/part.sql", "one\n{{ source('legacy', 'films') }} {{ window.end }}"),
    ]);
    let source = text(
        "{% import 'macros.sql' as m %}{% set x = ref('ratings') %}\n{% if ds %}{{ x }}{% endif %} {{ unit['start'] }}\n\
         {% include 'part.sql' %}{{ m.votes() }}{% for day in window.days %}{{ day }}{% endfor %}",
    );
    let found = files.inspect(&source).expect("a good template");
    let refs: Vec<(&str, String)> = found.refs.iter().map(|(name, at)| (name.as_str(), at.to_string())).collect();
    assert!(refs.contains(&("ratings", "pipelines/ratings.toml:10:48".to_owned())), "{refs:?}");
    assert!(refs.iter().any(|(name, at)| *name == "votes" && at.starts_with("sql/macros.sql:1:")), "{refs:?}");
    assert_eq!(found.sources[0].0, "legacy.films");
    assert!(found.sources[0].1.to_string().starts_with("sql/part.sql:2:"));
    assert_eq!(found.vars, ["min_votes"]);
    let names: Vec<&str> = found.names.iter().map(String::as_str).collect();
    assert_eq!(names, ["ds", "unit.start", "window.days", "window.end"]);
    let includes: Vec<&str> = found.includes.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(includes, ["sql/macros.sql", "sql/part.sql"]);
    assert!(found.uses_window());
    assert!(!files.inspect(&text("{{ run.id }} {{ run_date }}")).expect("fine").uses_window());
    assert!(!files.inspect(&text("{% for unit in [1] %}{{ unit }}{% endfor %}")).expect("fine").uses_window());
}

#[test]
fn inspection_refuses_what_could_only_fail_later() {
    for (source, what) in [
        ("{{ ref(name) }}", "must be a literal"),
        ("{{ ref('a' ~ ds) }}", "must be a literal"),
        ("{{ source(ds) }}", "must be a literal"),
        ("{{ dss }}", "`dss` is undefined"),
        ("{% if false %}{{ window.strat }}{% endif %}", "`window.strat` is undefined"),
        ("{{ ds | strtime('x') }}", "there is no filter `strtime`"),
        ("{{ vra('x') }}", "there is no function `vra`"),
        ("{% include 'absent.sql' %}", "there is no file `absent.sql`"),
        ("{% if ds == '2018-02-01' %}{% endif %}", "no text is equal to"),
        ("{{ ds ", "syntax error"),
    ] {
        let error = templates(&[]).inspect(&text(source)).expect_err(source);
        assert!(error.chain().contains(what), "{source}: {}", error.chain());
        assert!(error.to_string().starts_with("pipelines/ratings.toml:10:"), "{source}: {error}");
        assert!(error.details().is_some(), "{source}");
    }
    for source in
        ["{{ x | default(1) }}", "{% if x is defined %}{% endif %}", "{% if ds | string == '2018-02-01' %}{% endif %}"]
    {
        templates(&[]).inspect(&text(source)).unwrap_or_else(|error| panic!("{source}: {}", error.chain()));
    }
}

#[test]
fn files_that_include_each_other_end_in_an_error() {
    let files = templates(&[("sql/a.sql", "{% include 'b.sql' %}"), ("sql/b.sql", "{% include 'a.sql' %}")]);
    files.inspect(&text("{% include 'a.sql' %}")).expect("inspection ends");
    files.render(&text("{% include 'a.sql' %}"), &scope()).expect_err("rendering ends, too");
}

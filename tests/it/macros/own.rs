//! Macros of a project: called without an import, with a variant for each dialect, and looked at by `haul check`.

use crate::support::project::{Project, told};

/// A project whose one transform has this SQL, over a table `raw.orders` that another step makes.
fn project(sql: &str, macros: &[(&str, &str)]) -> Project {
    let project = Project::with_api("http://localhost:1", "");
    project.write(
        "pipelines/p.toml",
        "[[transform]]\nname = \"orders\"\ninto = \"raw.orders\"\nsql = \"SELECT 1 AS id, 12.5 AS price\"\n\
         [[transform]]\nname = \"sums\"\nsql = \"sql/sums.sql\"\n",
    );
    project.write("sql/sums.sql", sql);
    for (name, text) in macros {
        project.write(name, text);
    }
    project
}

fn rendered(sql: &str, macros: &[(&str, &str)]) -> String {
    project(sql, macros).stdout(&["render", "p", "sums", "--date", "2024-05-04"])
}

fn refused(sql: &str, macros: &[(&str, &str)]) -> String {
    let output = project(sql, macros).output(&["check"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    told(&output)
}

#[test]
fn a_macro_of_the_project_needs_no_import_and_its_references_count() {
    let macros = [(
        "sql/macros/money.sql",
        "{% macro cents(column) %}CAST({{ column }} * 100 AS BIGINT){% endmacro %}\n{% macro orders() %}{{ ref('orders') }}{% endmacro %}\n{% macro others() %}{{ ref('nothing') }}{% endmacro %}\n",
    )];
    let project = project("SELECT {{ cents('price') }} AS cents FROM {{ orders() }}", &macros);
    assert!(project.stdout(&["check"]).contains("no faults, 0 warnings"));
    project.stdout(&["run", "p", "--date", "2024-05-04"]);
    assert_eq!(project.query("SELECT cents FROM mart.sums"), serde_json::json!([{ "cents": 1250 }]));
    // The second run has nothing to do: what the macro reads is followed.
    let again = told(&project.output(&["run", "p", "--date", "2024-05-04"]));
    assert!(again.contains("1 skipped"), "{again}");
}

#[test]
fn the_variant_of_the_warehouse_is_taken_also_between_macros_of_one_file() {
    let file = "{% macro where() %}anywhere{% endmacro %}\n{% macro where__duckdb() %}in duckdb{% endmacro %}\n\
                {% macro where__bigquery() %}in bigquery{% endmacro %}\n{% macro told() %}'{{ where() }}'{% endmacro %}\n";
    let macros = [("sql/macros/where.sql", file)];
    for sql in [
        "SELECT {{ told() }} AS x",
        "SELECT '{{ where() }}' AS x",
        "{% from 'macros/where.sql' import where %}SELECT '{{ where() }}' AS x",
        "{% import 'macros/where.sql' as m %}SELECT '{{ m.where() }}' AS x",
    ] {
        assert!(rendered(sql, &macros).contains("SELECT 'in duckdb' AS x"), "{sql}: {}", rendered(sql, &macros));
    }
    let default = [(
        "sql/macros/where.sql",
        "{% macro where() %}anywhere{% endmacro %}{% macro where__bigquery() %}b{% endmacro %}",
    )];
    assert!(rendered("SELECT '{{ where() }}' AS x", &default).contains("'anywhere'"));
}

#[test]
fn a_macro_of_the_project_goes_before_one_of_haul() {
    let macros = [("sql/macros/divide.sql", "{% macro safe_divide(a, b) %}own({{ a }}, {{ b }}){% endmacro %}")];
    assert!(rendered("SELECT {{ safe_divide(1, 2) }} AS x", &macros).contains("own(1, 2)"));
    let other =
        [("sql/macros/divide.sql", "{% macro safe_divide__postgres(a, b) %}own({{ a }}, {{ b }}){% endmacro %}")];
    assert!(rendered("SELECT {{ safe_divide(1, 2) }} AS x", &other).contains("((1) / NULLIF(2, 0))"));
}

#[test]
fn faults_of_macros_are_told_at_their_place() {
    let macro_of = |text| [("sql/macros/m.sql", text)];
    for (sql, macros, words) in [
        (
            "SELECT {{ cent('x') }}",
            macro_of("{% macro cents(c) %}{% endmacro %}"),
            ["there is no function `cent`", "did you mean `cents`?"],
        ),
        (
            "SELECT {{ cents('x') }}",
            macro_of("{% macro cents(c) %}\n{{ wrong }}{% endmacro %}"),
            ["`wrong` is undefined", "sql/macros/m.sql:2"],
        ),
        (
            "SELECT 1",
            macro_of("{% macro ref(x) %}{% endmacro %}"),
            ["`ref` is a function of every template", "sql/macros/m.sql:1"],
        ),
        (
            "SELECT 1",
            macro_of("{% macro a() %}{% endmacro %}\n{% macro a__duckbd() %}{% endmacro %}"),
            ["`duckbd` is no dialect of SQL", "did you mean `duckdb`?"],
        ),
        (
            "SELECT 1",
            macro_of("{% macro a() %}{% endmacro %}\n{% macro a() %}{% endmacro %}"),
            ["the macro `a` is there a second time", "sql/macros/m.sql:2"],
        ),
        (
            "SELECT * FROM {{ shards(x) }}",
            macro_of(""),
            ["the name inside shards() must be a literal", "shards('dataset.events_*')"],
        ),
    ] {
        let said = refused(sql, &macros);
        for word in words {
            assert!(said.contains(word), "`{word}` is missing:\n{said}");
        }
    }
}

#[test]
fn a_wrong_call_is_told_with_what_would_be_right() {
    for (call, words) in [
        ("event_param()", ["event_param() needs `key`", "event_param(key, type='string', params='event_params')"]),
        ("event_param('a', 'strng')", ["`strng` is no type", "did you mean `string`?"]),
        ("safe_divide('a', 'b', 'c')", ["safe_divide(): too many arguments", "safe_divide(dividend, divisor)"]),
        ("raise('not this way')", ["not this way", "sql/sums.sql:1:11"]),
    ] {
        let project = project(&format!("SELECT {{{{ {call} }}}} AS x"), &[]);
        let said = told(&project.output(&["render", "p", "sums"]));
        for word in words {
            assert!(said.contains(word), "`{word}` is missing for {call}:\n{said}");
        }
    }
}

#[test]
fn a_macro_that_calls_itself_through_its_variants_ends_with_an_error() {
    let macros =
        [("sql/macros/m.sql", "{% macro a() %}{{ a() }}{% endmacro %}{% macro a__bigquery() %}{% endmacro %}")];
    let said = told(&project("SELECT {{ a() }}", &macros).output(&["render", "p", "sums"]));
    assert!(said.contains("the macro `a` calls itself without an end"), "{said}");
}

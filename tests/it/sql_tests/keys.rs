//! The keys of SQL tests: what is wrong is underlined, and what would be right is said.

use super::shop;
use crate::support::project::told;

/// What `haul check` says of a test with these lines behind its head.
fn check(lines: &str) -> String {
    let project = shop();
    project.write("tests/t.toml", &format!("pipeline = \"shop\"\ndate = 2024-05-04\n{lines}\n"));
    let output = project.output(&["check"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    told(&output)
}

#[test]
fn a_wrong_key_is_told_with_what_would_be_right() {
    let expect = "[[expect]]\ntable = \"sums\"\ncount = 1\n";
    let given = |keys: &str| format!("[[given]]\ntable = \"orders\"\n{keys}\n{expect}");
    for (lines, words) in [
        (given(""), ["given rows stand in one of `rows`, `events`, `file` and `sql`", "rows = [{ id = 1 }]"]),
        (given("rows = []\nsql = \"SELECT 1\""), ["given rows stand in one of", "tests/t.toml:3"]),
        (given("file = \"tests/none.csv\""), ["there is no file `tests/none.csv`", "tests/t.toml:5"]),
        (given("file = \"tests/none.txt\""), ["`tests/none.txt` is no file of rows", "tests/events.jsonl"]),
        (given("row = []"), ["unknown key `row` in `given`", "did you mean `rows`?"]),
        (given("rows = []\ncolumns = { id = \"BIGITN\" }"), ["BIGITN", "did you mean"]),
        (given("events = [{ at = \"2024-05-01T10:00:00\" }]"), ["an event has no name", "event = \"page_view\""]),
        (given("events = [{ event = \"x\" }]"), ["does not say when it happened", "at = \"2024-05-01T10:00:00\""]),
        (
            given("events = [{ event = \"x\", at = \"2024-05-01T10:00:00\", devise = {} }]"),
            ["an event has no `devise`", "did you mean `device`?"],
        ),
        (
            given("events = [{ event = \"x\", at = \"2024-05-01T10:00:00\", geo = { town = \"x\" } }]"),
            ["an event has no `geo.town`", "there are city, country"],
        ),
        (
            given("rows = [{ id = 1 }]\n[[case]]\nname = \"a b\""),
            ["`a b` cannot be the name of a case", "letters, digits"],
        ),
        (
            given("rows = []").replace("table = \"orders\"", "table = \"a.b.c\""),
            ["`a.b.c` is not a table name", "schema.table"],
        ),
        (format!("cassette = \"c.jsonl\"\n{}", given("rows = []")), ["there is no cassette", "tests/t.toml:3"]),
        (
            given("rows = []").replace("count = 1", ""),
            ["an expectation has one of `rows`, `file` or `count`", "table ="],
        ),
        ("lookback = 0\n".to_owned() + &given("rows = []"), ["`lookback`", "tests/t.toml:3"]),
    ] {
        let said = check(&lines);
        for word in words {
            assert!(said.contains(word), "`{word}` is missing for\n{lines}\n{said}");
        }
    }
}

#[test]
fn a_row_that_tells_no_unit_fails_its_test_and_says_so() {
    let project = shop();
    for (rows, words) in [
        ("rows = [{ id = 1 }]", ["nothing tells which unit a row is of", "time_column ="]),
        (
            "rows = [{ id = 1, placed = \"soon\" }]",
            ["`placed` of row 1 is \"soon\", which tells no unit", "a date, an instant"],
        ),
        ("rows = [{ id = 1 }]\ntime_column = \"day\"", ["`day` of row 1 is missing", "a date, an instant"]),
    ] {
        project.write(
            "tests/t.toml",
            &format!("pipeline = \"shop\"\ndate = 2024-05-04\n[[given]]\ntable = \"orders\"\n{rows}\n[[expect]]\ntable = \"sums\"\ncount = 1\n"),
        );
        let output = project.output(&["test"]);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        for word in words {
            assert!(told(&output).contains(word), "`{word}` is missing for {rows}:\n{}", told(&output));
        }
    }
}

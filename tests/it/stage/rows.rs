//! Rows on their way into the stage: units, times, and rows that are none.

use haul::error::Kind;
use haul::model::pipeline::{Outside, TimeColumn, TimeFormat};
use haul::stage::{Spec, Stage};
use haul::time::{Calendar, Grain, Tz};

use super::{append, folder, rows, sealed, spec, window};

fn time(path: &str, format: TimeFormat, outside: Outside) -> TimeColumn {
    TimeColumn { path: path.to_owned(), format, outside }
}

fn counts(manifest: &haul::stage::Manifest) -> Vec<(String, u64)> {
    manifest.units.iter().map(|(key, (rows, _))| (key.to_string(), *rows)).collect()
}

#[test]
fn rows_are_minified_and_stay_what_they_are() {
    let folder = folder();
    let page = " { \"a\" : [ 1 , { } , [ ] ] , \"b c\" : \"x : y\\n\\\"\" }\n{\"n\":-0.10e+2,\"big\":12345678901234567890.123}\n7\n[1, 2]\n\"text\"\nnull";
    let manifest = sealed(folder.path(), spec(), &[page]);
    assert_eq!(
        rows(&manifest),
        [
            "{\"a\":[1,{},[]],\"b c\":\"x : y\\n\\\"\"}",
            "{\"n\":-0.10e+2,\"big\":\"12345678901234567890.123\"}",
            "{\"value\":\"text\"}",
            "{\"value\":7}",
            "{\"value\":[1,2]}",
            "{\"value\":null}",
        ]
    );
    assert_eq!(counts(&manifest), [("2024-03-01".to_owned(), 6)]);
}

#[test]
fn a_row_that_is_no_json_fails_its_page_with_its_place_and_leaves_no_trace() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let wrong = [
        "{\"a\":1",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{,\"a\":1}",
        "{\"a\" 1}",
        "{\"a\":}",
        "{\"a\":[1 2]}",
        "{\"a\":[1,]}",
        "{\"a\":tru}",
        "{\"a\":1-2}",
        "{\"a\":--1}",
        "{\"a\":1.2.3}",
        "{\"a\":\"x}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":1}}",
        "{a:1}",
        "",
        &deep,
    ];
    for row in wrong {
        let folder = folder();
        let stage = Stage::open(folder.path(), spec()).expect("a stage");
        append(&stage, 0, "{\"id\":1}").expect("a page");
        let error = append(&stage, 1, &format!("{{\"id\":2}}\n{row}\n{{\"id\":3}}")).expect_err(row);
        assert_eq!(error.kind(), Kind::Source, "{row}");
        assert!(error.chain().contains("row 2 of page 2"), "{row}: {error:?}");
        // The page may come again, as it should have been.
        append(&stage, 1, "{\"id\":2}").expect("a page");
        assert_eq!(rows(&stage.seal().expect("a manifest")), ["{\"id\":1}", "{\"id\":2}"]);
    }
}

#[test]
fn rows_find_their_day_however_their_time_is_written() {
    let dates = ["2024-03-01", "2024-03-02"];
    for (format, rows_, path) in [
        (TimeFormat::Iso, ["\"2024-03-01T23:59:59.999999999Z\"", "\"2024-03-02T00:00:00Z\"", "\"2024-03-02\""], "t"),
        (
            TimeFormat::Iso,
            ["\"2024-03-02T08:59:59+09:00\"", "\"2024-03-02 09:00:00\"", "\"2024-03-02T00:00:00.5\""],
            "t",
        ),
        (TimeFormat::Epoch, ["1709337599.999", "1709337600", "\"1709337600\""], "t"),
        (TimeFormat::EpochMs, ["1709337599999", "1709337600000", "1709337600000.5"], "t"),
    ] {
        let folder = folder();
        let page: Vec<String> = rows_.iter().map(|value| format!("{{\"x\":{{\"t\":0}},\"t\":{value}}}")).collect();
        let manifest = sealed(folder.path(), window(&dates, time(path, format, Outside::Refuse)), &[&page.join("\n")]);
        assert_eq!(counts(&manifest), [(dates[0].to_owned(), 1), (dates[1].to_owned(), 2)], "{format:?} {rows_:?}");
        assert!(rows(&manifest)[0].starts_with("{\"_haul_unit\":\"2024-03-01\",\"x\":"));
        assert!(manifest.unit_in_rows);
    }
}

#[test]
fn wall_clock_times_are_read_in_the_pipeline_s_zone() {
    let seoul = Calendar::new(Grain::Day, Tz::Asia__Seoul);
    let units = vec![
        seoul.of_date("2024-03-01".parse().expect("a date")),
        seoul.of_date("2024-03-02".parse().expect("a date")),
    ];
    let spec = Spec {
        units,
        split: true,
        tz: Tz::Asia__Seoul,
        time: Some(time("meta.at", TimeFormat::Iso, Outside::Refuse)),
        ..spec()
    };
    let folder = folder();
    let page = ["2024-03-01T00:00:00", "2024-03-01T23:59:59", "2024-03-01T15:00:00Z", "2024-03-02"]
        .map(|at| format!("{{\"meta\":{{\"at\":\"{at}\"}}}}"))
        .join("\n");
    assert_eq!(
        counts(&sealed(folder.path(), spec, &[&page])),
        [("2024-03-01".to_owned(), 2), ("2024-03-02".to_owned(), 2)]
    );
}

#[test]
fn rows_outside_are_refused_dropped_or_kept_as_the_step_says() {
    let page = "{\"id\":1,\"t\":\"2024-03-01\"}\n{\"id\":2,\"t\":\"2024-02-29\"}";
    let one_day = |outside| Spec { time: Some(time("t", TimeFormat::Iso, outside)), ..spec() };
    for (outside, kept) in [(Outside::Drop, 1), (Outside::Keep, 2)] {
        let folder = folder();
        let manifest = sealed(folder.path(), one_day(outside), &[page]);
        assert_eq!((manifest.rows, manifest.outside), (kept, 1), "{outside:?}");
    }
    let folder = folder();
    let stage = Stage::open(folder.path(), one_day(Outside::Refuse)).expect("a stage");
    let error = append(&stage, 4, page).expect_err("it lies outside");
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.chain().contains("row 2 of page 5 is of 2024-02-29"), "{error:?}");
    assert_eq!(stage.progress().rows, 0);
}

#[test]
fn a_row_without_its_time_is_told_with_what_it_has_instead() {
    for (row, wanted) in [
        ("{\"id\":1}", "row 1 of page 1 has nothing for its time `t`"),
        ("{\"t\":null}", "has `null`"),
        ("{\"t\":5}", "has `5`"),
        ("{\"t\":\"2024-02-30\"}", "has `\"2024-02-30\"`"),
        ("{\"x\":{\"t\":\"2024-03-01\"}}", "has nothing"),
    ] {
        let folder = folder();
        let spec = Spec { time: Some(time("t", TimeFormat::Iso, Outside::Keep)), ..spec() };
        let error = append(&Stage::open(folder.path(), spec).expect("a stage"), 0, row).expect_err(row);
        assert_eq!(error.kind(), Kind::Data);
        assert!(error.chain().contains(wanted), "{error:?}");
    }
}

#[test]
fn units_without_rows_are_units_of_the_manifest() {
    let folder = folder();
    let dates = ["2024-03-01", "2024-03-02", "2024-03-03"];
    let manifest =
        sealed(folder.path(), window(&dates, time("t", TimeFormat::Iso, Outside::Drop)), &["{\"t\":\"2024-03-02\"}"]);
    let rows: Vec<u64> = manifest.units.values().map(|(rows, _)| *rows).collect();
    assert_eq!(rows, [0, 1, 0]);
    let whole = super::folder();
    let manifest = sealed(whole.path(), Spec { units: Vec::new(), ..spec() }, &[]);
    assert_eq!(counts(&manifest), [("all".to_owned(), 0)]);
}

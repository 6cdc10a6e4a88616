//! Answers in CSV, JSON Lines and XML, plain and packed: rows arrive as they were written, in memory that has an end.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{check, project, run, run_badly};
use crate::support::station::{Reply, Station};

const REQUEST: &str = "request = { path = \"/items\", params = { day = \"{{ ds }}\" } }";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("it fits");
    encoder.finish().expect("it ends")
}

fn zip(members: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("a member");
        writer.write_all(text.as_bytes()).expect("it fits");
    }
    writer.finish().expect("it ends").into_inner()
}

/// Runs a step against an answer that never changes, and returns its rows as JSON.
fn rows_of(reply: impl Fn() -> Reply + Send + Sync + 'static, step: &str) -> String {
    let station = Station::start(move |_| reply());
    let project = project(&station, "", &format!("{REQUEST}\n{step}"));
    run(&project, "2024-05-02");
    project.query("select * exclude (_haul_unit, _haul_pull) from raw.items order by 1").to_string()
}

const CSV: &str = "id,code,amount\n1,00123,1.50\n2,\"a, b\",\n";

#[test]
fn csv_is_seen_from_its_type_and_its_values_keep_their_text() {
    let texts = r#"[{"id":"1","code":"00123","amount":"1.50"},{"id":"2","code":"a, b","amount":null}]"#;
    assert_eq!(rows_of(|| Reply::of("text/csv; charset=utf-8", CSV), ""), texts);
    let declared = "columns = { id = \"BIGINT\", amount = \"DECIMAL(10,2)\" }";
    let rows = rows_of(|| Reply::of("text/csv", CSV), declared);
    assert!(rows.contains(r#""id":1,"code":"00123""#) && rows.contains("1.50"), "{rows}");
    let inferred = rows_of(|| Reply::of("text/csv", CSV), "csv = { infer = true }\ncolumns = { code = \"VARCHAR\" }");
    assert!(inferred.contains(r#""id":1,"code":"00123""#), "{inferred}");
    let other = "format = \"csv\"\ncsv = { delimiter = \";\", header = [\"id\", \"code\", \"amount\"], null = [\"\", \"-\"], skip = 1 }";
    assert_eq!(rows_of(|| Reply::new(200, "export of today\n1;00123;1.50\n2;\"a, b\";-\n"), other), texts);
    assert_eq!(
        rows_of(|| Reply::of("text/tab-separated-values", CSV.replace("a, b", "a b").replace(',', "\t")), ""),
        texts.replace("a, b", "a b")
    );
}

#[test]
fn json_lines_keep_their_digits() {
    let lines = "{\"id\": 1, \"big\": 9007199254740993}\r\n\n{\"id\": 2, \"big\": 12345678901234567890123}";
    let rows = rows_of(move || Reply::of("application/x-ndjson", lines), "");
    assert!(rows.contains("9007199254740993") && rows.contains("12345678901234567890123"), "{rows}");
    let nested = "{\"batch\": [{\"id\": 1}, {\"id\": 2}]}\n{\"batch\": []}\n{\"batch\": [{\"id\": 3}]}\n";
    let rows = rows_of(move || Reply::new(200, nested), "format = \"jsonl\"\nrecords = \"$.batch[*]\"");
    assert_eq!(rows, r#"[{"id":1},{"id":2},{"id":3}]"#);
}

#[test]
fn xml_elements_are_rows_and_lists_stay_lists() {
    let feed = r#"<?xml version="1.0"?><feed><entry id="1"><name>A &amp; B</name><tag>x</tag></entry>
        <entry id="2"><name>C</name><tag>y</tag><tag>z</tag></entry></feed>"#;
    let step = "records = \"/feed/entry\"\nxml = { lists = [\"tag\"] }";
    assert_eq!(
        rows_of(move || Reply::of("application/atom+xml", feed), step),
        r#"[{"@id":"1","name":"A & B","tag":["x"]},{"@id":"2","name":"C","tag":["y","z"]}]"#
    );
}

#[test]
fn pages_of_xml_are_followed_by_what_stands_around_the_rows() {
    let station = Station::start(|asked| {
        let offset: usize = asked.param("offset").parse().expect("an offset");
        let rows: String = (offset..5).take(2).map(|id| format!("<item><id>{id}</id></item>")).collect();
        Reply::of("text/xml", format!("<answer total=\"5\"><items>{rows}</items></answer>"))
    });
    let paginate =
        "paginate = { by = \"offset\", limit = 2, total = \"$.answer['@total']\" }\nrecords = \"/answer/items/item\"";
    let project = project(&station, "", &format!("{REQUEST}\n{paginate}"));
    run(&project, "2024-05-02");
    assert_eq!(
        project.query("select string_agg(id, ' ' order by id) as ids from raw.items"),
        json!([{ "ids": "0 1 2 3 4" }])
    );
    assert_eq!(station.count("/items"), 3);
}

#[test]
fn packed_files_are_recognized_by_their_first_bytes() {
    let expected = r#"[{"id":"1","code":"00123","amount":"1.50"},{"id":"2","code":"a, b","amount":null}]"#;
    let opaque = "application/octet-stream";
    assert_eq!(rows_of(move || Reply::of(opaque, gzip(CSV.as_bytes())), "format = \"csv\""), expected);
    assert_eq!(rows_of(|| Reply::of("application/gzip", gzip(b"[{\"id\":1}]")), ""), r#"[{"id":1}]"#);
    // A zip file tells the format by the names in it.
    assert_eq!(rows_of(|| Reply::of("application/zip", zip(&[("data/orders.csv", CSV)])), ""), expected);
    let several = [("a_2.csv", "id\n2\n"), ("a_1.csv", "id\n1\n"), ("readme.txt", "hello")];
    assert_eq!(
        rows_of(move || Reply::of(opaque, zip(&several)), "members = \"a_*.csv\""),
        r#"[{"id":"1"},{"id":"2"}]"#
    );
    let station = Station::start(move |_| Reply::of(opaque, zip(&several)));
    let told = run_badly(&project(&station, "", REQUEST), "2024-05-02");
    assert!(told.contains("the zip file has 3 members: `a_1.csv`, `a_2.csv`, `readme.txt`"), "{told}");
}

#[test]
fn something_else_than_was_expected_is_never_an_empty_day() {
    for (reply, step, expected) in [
        (
            ("text/html", "<html>log in</html>"),
            "format = \"csv\"",
            "the answer is text/html, and CSV was expected: <html>log in</html>",
        ),
        (("application/json", "{\"error\": \"no\"}"), "format = \"csv\"", "the answer is application/json"),
        (
            ("application/xml", "<error>no</error>"),
            "records = \"/feed/entry\"",
            "the answer has nothing at `/feed/entry`",
        ),
        (("text/csv", "id,name\n1\n"), "", "line 2"),
        (("application/jsonl", "{\"id\": 1}\n<html>"), "", "line 2: it is not JSON"),
        (("application/xml", "<feed/>"), "", "nothing says which of its elements are rows"),
        (("text/csv", "x"), "compression = \"zip\"", "the answer is no zip file"),
    ] {
        let station = Station::start(move |_| Reply::of(reply.0, reply.1));
        let told = run_badly(&project(&station, "", &format!("{REQUEST}\n{step}")), "2024-05-02");
        assert!(told.contains(expected), "`{expected}` is not in {told}");
    }
}

#[test]
fn a_file_that_unpacks_without_an_end_is_stopped() {
    // A line without an end, in a file a thousandth of its size.
    let bomb = Arc::new(gzip(&vec![b' '; 300 << 20]));
    let station = Station::start(move |_| Reply::of("application/gzip", bomb.to_vec()));
    let told = run_badly(&project(&station, "", REQUEST), "2024-05-02");
    assert!(told.contains("unpacks to more than") || told.contains("larger than 256 MiB"), "{told}");
    let told = run_badly(&project(&station, "", &format!("{REQUEST}\nformat = \"jsonl\"")), "2024-05-02");
    assert!(told.contains("longer than 64 MiB"), "{told}");
}

#[test]
fn a_large_file_is_several_pages_and_a_killed_pull_goes_on_with_its_parts() {
    const ROWS: usize = 120_000;
    let lines: String = (0..ROWS).map(|id| format!("{{\"id\":{id},\"text\":\"{}\"}}\n", "x".repeat(150))).collect();
    let body = Arc::new(lines);
    let changed = Arc::new(AtomicUsize::new(0));
    let (given, version) = (Arc::clone(&body), Arc::clone(&changed));
    let station = Station::start(move |_| {
        let more = if version.load(Ordering::SeqCst) == 0 { "" } else { "{\"id\":-1}\n" };
        Reply::of("application/jsonl", format!("{more}{given}"))
    });
    let project = project(&station, "", REQUEST);
    let killed = project.output(&["run", "items", "--date", "2024-05-02", "--kill-at", "page:2"]);
    assert!(!killed.status.success());
    let told = run(&project, "2024-05-02");
    assert!(told.contains("resumed") && told.contains("2 pages"), "{told}");
    let sums = "select count(*) as rows, count(distinct id) as ids, max(id) as last from raw.items";
    assert_eq!(project.query(sums), json!([{ "rows": ROWS, "ids": ROWS, "last": ROWS - 1 }]));
    // The parts of another answer do not fit: that pull begins anew.
    project.output(&["run", "items", "--date", "2024-05-03", "--kill-at", "page:2"]);
    changed.store(1, Ordering::SeqCst);
    let told = run(&project, "2024-05-03");
    assert!(told.contains("begins anew"), "{told}");
    let sums = "select count(*) as rows, count(distinct id) as ids from raw.items where _haul_unit = date '2024-05-02'";
    assert_eq!(project.query(sums), json!([{ "rows": ROWS + 1, "ids": ROWS + 1 }]));
    assert!(std::fs::read_dir(project.path().join(".haul/scratch")).expect("the folder").next().is_none());
}

#[test]
fn keys_of_other_formats_are_explained() {
    for (step, expected) in [
        ("format = \"json\"\ncsv = { infer = true }", "`csv` means nothing for answers that are not CSV"),
        ("format = \"xml\"", "reads XML, but does not say which elements are its rows"),
        ("format = \"csv\"\nrecords = \"$.rows[*]\"", "every line of CSV is a row"),
        ("format = \"jsonl\"\nrecords = \"/feed/entry\"", "is the path of an XML element, and its format is another"),
        ("records = \"/feed//entry\"", "is not the path of an XML element"),
        ("csv = { delimiter = \";;\" }", "one ASCII character"),
        ("compression = \"gzip\"\nmembers = \"*.csv\"", "`members` means nothing for answers that are not zip files"),
        ("format = \"parquet\"", "Parquet is read from `files`"),
    ] {
        let told = check(&format!("{REQUEST}\n{step}"));
        assert!(told.contains(expected), "`{expected}` is not in {told}");
    }
}

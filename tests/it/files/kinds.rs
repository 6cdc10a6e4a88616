//! Every format and compression means the same rows, and declared types are kept to.

use super::{project, rows, run, store};
use crate::support::files::{gzip, parquet, zip, zstd};

#[test]
fn all_formats_and_compressions_mean_the_same_rows() {
    let csv = "id,name,amount\n007,\"a, \"\"b\"\"\",1.10\n12345678901234567890,é,\n";
    let tsv = csv
        .replace(",\"a, ", "\t\"a, ")
        .replace("\",1.10", "\"\t1.10")
        .replace(",é,", "\té\t")
        .replace("id,name,", "id\tname\t");
    let rows_of = [
        r#"{"id":"007","name":"a, \"b\"","amount":1.10}"#.to_owned(),
        r#"{"id":"12345678901234567890","name":"é","amount":null}"#.to_owned(),
    ];
    let (list, lines) = (format!("[{}]", rows_of.join(",\n")), rows_of.join("\n"));
    let within = format!("{{\"meta\": 1, \"data\": {list}}}");
    let project = project(
        "[landing]\ntype = \"files\"\nurl = \"landing\"\n",
        r#"
[[extract]]
name = "all"
connection = "landing"
files = "all/**/*.*"
file_column = "source_file"
columns = { id = "VARCHAR", amount = "DECIMAL(18,2)" }

[[extract]]
name = "deep"
connection = "landing"
files = "deep.json"
records = "$.data[*]"
columns = { id = "VARCHAR", amount = "DECIMAL(18,2)" }
"#,
    );
    for (path, bytes) in [
        ("all/a.csv", csv.as_bytes().to_vec()),
        ("all/b.csv.gz", gzip(csv.as_bytes())),
        ("all/c.csv.zst", zstd(csv.as_bytes())),
        ("all/d.csv.zip", zip("inner.csv", csv.as_bytes())),
        ("all/e.tsv", tsv.into_bytes()),
        ("all/f.json", list.clone().into_bytes()),
        ("all/g.json.gz", gzip(lines.as_bytes())),
        ("all/deeper/h.jsonl.zst", zstd(lines.as_bytes())),
        ("all/deeper/i.zip", zip("inner.ndjson", lines.as_bytes())),
        // Two members, as a log that is appended to has them.
        ("all/k.csv.gz", [gzip(&csv.as_bytes()[..20]), gzip(&csv.as_bytes()[20..])].concat()),
        ("all/empty.csv", Vec::new()),
        ("all/empty.csv.gz", Vec::new()),
        ("all/.hidden.csv", b"no such file".to_vec()),
        ("deep.json", within.into_bytes()),
    ] {
        store(&project, &format!("landing/{path}"), &bytes);
    }
    parquet(&project.path().join("landing/all/j.parquet"), "id VARCHAR, name VARCHAR, amount DECIMAL(18,2)", &rows_of);
    run(&project, "2024-05-04", 0);
    let told = rows(
        &project,
        "select source_file, string_agg(concat(id, '/', name, '/', amount), ' ; ' order by id) from raw.all group by 1 order by 1",
    );
    let same = r#"007/a, "b"/1.10 ; 12345678901234567890/é/"#;
    let names = [
        "a.csv",
        "b.csv.gz",
        "c.csv.zst",
        "d.csv.zip",
        "deeper/h.jsonl.zst",
        "deeper/i.zip",
        "e.tsv",
        "f.json",
        "g.json.gz",
        "j.parquet",
        "k.csv.gz",
    ];
    assert_eq!(told, names.map(|name| format!("all/{name}|{same}")));
    assert_eq!(rows(&project, "select count(*) from raw.deep where name is not null"), ["2"]);
}

#[test]
fn csv_is_text_until_a_type_is_declared_and_never_rounded() {
    let pipeline = |more: &str| format!("[[extract]]\nname = \"rows\"\nfiles = \"rows.csv\"\n{more}\n");
    let project = project("", &pipeline(""));
    store(&project, "rows.csv", b"code,count,share,day\n007,0042,1.50,2024-05-01\n1e5,7,0.25,2024-05-02\n");
    let types = "select typeof(code), typeof(count), typeof(share), typeof(day) from raw.rows limit 1";
    run(&project, "2024-05-04", 0);
    assert_eq!(rows(&project, types), ["VARCHAR|VARCHAR|VARCHAR|DATE"]);
    assert_eq!(rows(&project, "select code, count from raw.rows order by code"), ["007|0042", "1e5|7"]);

    project.write(
        "pipelines/days.toml",
        &pipeline(
            "columns = { count = \"BIGINT\", share = \"DECIMAL(9,2)\", code = \"VARCHAR\" }\ninto = \"raw.typed\"",
        ),
    );
    run(&project, "2024-05-04", 0);
    let typed = rows(&project, "select code, count, share, typeof(count), typeof(share) from raw.typed order by code");
    assert_eq!(typed, ["007|42|1.50|BIGINT|DECIMAL(9,2)", "1e5|7|0.25|BIGINT|DECIMAL(9,2)"]);

    for (column, found) in [("share", "2 digits behind the point"), ("day", "line 2 has `2024-05-01` for `day`")] {
        let more = format!("columns = {{ {column} = \"BIGINT\" }}\ninto = \"raw.wrong\"");
        project.write("pipelines/days.toml", &pipeline(&more));
        let told = run(&project, "2024-05-04", 1);
        assert!(told.contains(column) && told.contains(found), "{told}");
    }
    project.write(
        "pipelines/days.toml",
        &pipeline(
            "csv = { infer = true }\ncolumns = { code = \"VARCHAR\" , count = \"VARCHAR\" }\ninto = \"raw.seen\"",
        ),
    );
    run(&project, "2024-05-04", 0);
    assert_eq!(
        rows(&project, "select code, share, typeof(share) from raw.seen order by 1"),
        ["007|1.5|DOUBLE", "1e5|0.25|DOUBLE"]
    );
}

#[test]
fn parquet_keeps_its_types() {
    let project = project("", "[[extract]]\nname = \"rows\"\nfiles = \"rows.parquet\"\n");
    let columns = "big BIGINT, money DECIMAL(38,10), seen TIMESTAMP, day DATE, tags VARCHAR[], place STRUCT(x DECIMAL(9,3), y BOOLEAN), raw BLOB, none VARCHAR";
    let connection = duckdb::Connection::open_in_memory().expect("a database");
    let path = project.path().join("rows.parquet");
    connection
        .execute_batch(&format!(
            "CREATE TABLE rows ({columns});
             INSERT INTO rows VALUES (9007199254740993, 1234567890123456789012345678.0123456789, '2024-05-01 10:00:00.123456',
                 '1969-07-20', ['a', NULL], {{'x': 1.500, 'y': true}}, '\\xAB\\x00'::BLOB, NULL), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
             COPY rows TO '{}' (FORMAT parquet);",
            path.display()
        ))
        .expect("a file");
    run(&project, "2024-05-04", 0);
    let same = format!(
        "select * from (select {0} from raw.rows) except all select {0} from read_parquet('{1}')",
        "big, money, seen, day, tags, place, raw, none",
        path.display()
    );
    assert!(rows(&project, &same).is_empty(), "{:?}", rows(&project, "select * from raw.rows"));
    let types = rows(
        &project,
        "select typeof(money), typeof(place), typeof(tags), typeof(raw), typeof(none) from raw.rows limit 1",
    );
    assert_eq!(types, ["DECIMAL(38,10)|STRUCT(x DECIMAL(9,3), y BOOLEAN)|VARCHAR[]|BLOB|VARCHAR"]);
    assert_eq!(rows(&project, "select count(*) from raw.rows"), ["2"]);
}

#[test]
fn every_wrong_key_is_told_with_its_line() {
    let project = project("", "");
    for (keys, found) in [
        ("files = \"/etc/*.csv\"", "absolute path"),
        ("files = \"../x.csv\"", "leads out of"),
        ("files = \"s3://bucket/x.csv\"", "address"),
        ("files = \"a.csv\"\nrequest = { path = \"/x\" }", "`request` is how an API is asked"),
        ("files = \"a.csv\"\ntable = \"public.x\"", "`table` is read from a database"),
        ("files = \"a.csv\"\nformat = \"xls\"", "`xls` is no value of"),
        ("files = \"a.csv\"\nformat = \"jsonl\"\ncsv = { delimiter = \";\" }", "these files are jsonl"),
        ("files = \"a.csv\"\nformat = \"csv\"\nrecords = \"$.x[*]\"", "`records` leads to"),
        ("files = \"a.csv\"\ncsv = { delimiter = \"ab\" }", "one ASCII character"),
        ("files = \"a.csv\"\ncsv = { delimiter = \"'\", quote = \"'\" }", "cannot be two of"),
        ("files = \"a.csv\"\ncsv = { header = [\"a\", \"a\"] }", "twice"),
        ("files = \"a.csv\"\ncsv = { nul = [\"\"] }", "unknown key `nul`"),
        ("connection = \"warehouse\"\nfile_column = \"f\"", "means nothing without `files`"),
        ("files = \"a.csv\"\ndownload = { url = \"image\", to = \"p\", column = \"c\" }", "not a JSONPath"),
        ("files = \"a.csv\"\ndownload = { url = \"$.image\", to = \"/tmp\", column = \"c\" }", "absolute path"),
        ("files = \"a.csv\"\ndownload = { url = \"$.image\", to = \"p\" }", "has no `column`"),
    ] {
        project.write("pipelines/days.toml", &format!("[[extract]]\nname = \"rows\"\n{keys}\n"));
        let output = project.output(&["check"]);
        let told = crate::support::project::told(&output);
        assert_eq!(output.status.code(), Some(2), "{keys}: {told}");
        assert!(told.contains(found) && told.contains("pipelines/days.toml"), "{keys}: {told}");
    }
    project
        .write("pipelines/days.toml", "[window]\nlookback = 1\n\n[[extract]]\nname = \"rows\"\nfiles = \"all.csv\"\n");
    let told = crate::support::project::told(&project.output(&["check"]));
    assert!(told.contains("every unit would get the same rows"), "{told}");
}

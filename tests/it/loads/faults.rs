//! What is wrong with a load step is told at its place, before anything runs.

use super::ITEMS;
use crate::support::project::Project;

/// The codes of the faults of a pipeline with these steps, and what is printed of them.
fn faults(steps: &str) -> (Vec<String>, String) {
    let project = Project::empty();
    let connections = "[warehouse]\ntype = \"duckdb\"\npath = \"w.duckdb\"\n[app]\ntype = \"duckdb\"\npath = \"a.duckdb\"\n[lake]\ntype = \"files\"\nurl = \"lake\"\n";
    project.write("connections.toml", connections);
    project.write("pipelines/days.toml", &format!("{ITEMS}\n{steps}\n"));
    let json = project.output(&["check", "--output", "json"]);
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let codes =
        found.as_array().expect("faults").iter().map(|fault| fault["code"].as_str().expect("a code").to_owned());
    let codes = codes.collect();
    (codes, String::from_utf8_lossy(&project.output(&["check"]).stderr).into_owned())
}

#[test]
fn every_wrong_key_has_one_fault_at_its_place() {
    let load = |keys: &str| format!("[[load]]\nname = \"serve\"\n{keys}\n");
    let to = "connection = \"app\"\ninto = \"public.x\"\n";
    let file = "connection = \"lake\"\ninto = \"x/{{ ds }}.parquet\"\nfrom = \"items\"\n";
    for (keys, code) in [
        (to.to_owned(), "missing-key"),
        (format!("from = \"item\"\n{to}"), "unknown-ref"),
        (format!("from = \"items\"\nmode = \"merge\"\n{to}"), "unknown-key"),
        (format!("from = \"items\"\nwrite = \"merge\"\n{to}"), "merge-without-keys"),
        ("from = \"items\"\nconnection = \"app\"".to_owned(), "missing-key"),
        (format!("from = \"items\"\nsql = \"select 1\"\n{to}"), "two-sources"),
        ("from = \"items\"".to_owned(), "same-place"),
        (format!("from = \"items\"\n{}", to.replace("app", "ap")), "unknown-connection"),
        (format!("from = \"main.other\"\n{to}"), "unused-window"),
        (format!("sql = \"select 1\"\n{to}"), "unused-window"),
        (format!("from = \"items\"\ntime_column = \"day\"\n{to}"), "other-units"),
        (format!("from = \"items\"\nchanged_column = \"day\"\n{to}"), "foreign-key"),
        (format!("from = \"items\"\ntime_zone = \"UTC\"\n{to}"), "missing-key"),
        (format!("from = \"items\"\nreach = \"-1d..0d\"\n{to}"), "missing-key"),
        (format!("from = \"items\"\nmax_file_size = \"1 MB\"\n{to}"), "foreign-key"),
        ("from = \"items\"\ninto = \"x/{{ ds }}.parquet\"".to_owned(), "missing-key"),
        (
            format!(
                "from_connection = \"app\"\nsql = \"select 1 from {{{{ ref('items') }}}} where day = {{{{ ds | sql }}}}\"\n{to}"
            ),
            "other-warehouse",
        ),
        (file.replace("{{ ds }}", "all"), "unused-window"),
        (format!("{file}write = \"merge\"\nkeys = [\"id\"]"), "merge-into-files"),
        (file.replace(".parquet", ".xlsx"), "unknown-format"),
        (file.replace("x/{{", "../{{"), "bad-path"),
        (file.replace("x/{{ ds }}", "/x/{{ ds }}"), "bad-path"),
        (format!("{}compression = \"zstd\"", file.replace(".parquet", ".csv.gz")), "other-compression"),
        (format!("{}compression = \"snappy\"", file.replace(".parquet", ".csv")), "foreign-key"),
        (format!("from = \"items\"\n{}", to.replace("public.x", "public x")), "bad-table-name"),
        ("from = \"items\"\nconnection = \"warehouse\"\ninto = \"raw.items\"\n".to_owned(), "two-writers"),
    ] {
        let (codes, told) = faults(&load(&keys));
        assert!(codes.contains(&code.to_owned()) && codes.len() <= 2, "{keys}: {codes:?}\n{told}");
    }
}

#[test]
fn two_steps_cannot_write_one_place_and_none_can_wait_for_itself() {
    let load = |name: &str, from: &str, into: &str| {
        format!("[[load]]\nname = \"{name}\"\nfrom = \"{from}\"\nconnection = \"app\"\ninto = \"{into}\"\n")
    };
    let (codes, told) = faults(&format!("{}{}", load("a", "items", "public.x"), load("b", "items", "public.x")));
    assert_eq!(codes, ["two-writers"], "{told}");
    let (codes, told) = faults(&format!("{}{}", load("a", "b", "public.x"), load("b", "a", "public.y")));
    assert_eq!(codes, ["cycle"], "{told}");
}

#[test]
fn a_merged_table_is_not_replaced_day_by_day_elsewhere() {
    let merged = "[[transform]]\nname = \"users\"\nwrite = \"merge\"\nkeys = [\"id\"]\nsql = \"select id from {{ ref('items') }} where day = {{ ds | sql }}\"\n";
    let load = "[[load]]\nname = \"serve\"\nfrom = \"users\"\nconnection = \"app\"\ninto = \"public.users\"\n";
    let (codes, told) = faults(&format!("{merged}{load}"));
    assert_eq!(codes, ["other-units"], "{told}");
    let (codes, told) = faults(&format!("{merged}{load}write = \"merge\"\nkeys = [\"id\"]\n"));
    assert_eq!(codes, Vec::<String>::new(), "{told}");
}

#[test]
fn the_word_of_other_tools_is_told_in_ours() {
    let (_, told) = faults(
        "[[load]]\nname = \"serve\"\nfrom = \"items\"\nconnection = \"app\"\ninto = \"public.x\"\nmode = \"full\"\n",
    );
    assert!(told.contains("here it is called `write`"), "{told}");
}

//! Faults of steps that read a collection, let rows land in one, or load them from there.

use super::*;

fn collection(more: &str) -> String {
    format!("{WINDOW}[[extract]]\nname = \"a\"\nconnection = \"other\"\ncollection = \"users\"\n{more}")
}

#[test]
fn a_collection_has_keys_of_its_own() {
    let dated = "time_column = \"at\"\n";
    assert_eq!(faults(&collection(dated)), Vec::<String>::new());
    for (more, code, help) in [
        ("", "unused-window", "time_column"),
        ("time_column = \"at\"\nrequest = { path = \"/x\" }\n", "foreign-key", "a collection has"),
        ("time_column = \"at\"\ntable = \"x\"\n", "foreign-key", "a collection has"),
        ("time_column = \"at\"\noutside = \"drop\"\n", "foreign-key", "leave `outside` out"),
        ("time_column = \"_id\"\ntime_format = \"epoch\"\n", "foreign-key", "leave `time_format` out"),
        ("time_column = \"_id\"\nper = \"window\"\n", "foreign-key", "leave `per` out"),
        ("per = \"window\"\n", "window-without-time-column", "time_column"),
        ("time_column = \"at\"\nwrite = \"full\"\n", "time-without-window", "the whole collection is read"),
        ("time_column = \"at\"\nfilter = \"{ a: 1 }\"\n", "bad-query", "inside of JSON strings"),
        ("time_column = \"at\"\nfilter = [1]\n", "bad-query", "{ active = true }"),
        ("time_column = \"at\"\npipeline = { a = 1 }\n", "bad-query", "$match"),
        ("time_column = \"at\"\npipeline = []\nfilter = { a = 1 }\n", "foreign-key", "$match"),
        ("time_column = \"at\"\npipeline = []\nchanged_column = \"at\"\n", "foreign-key", "leave it out"),
        ("time_column = \"at\"\nchanged_column = \"at\"\nprobe = \"off\"\n", "two-probes", "leave one of the two out"),
    ] {
        let loaded = loaded(&[("pipelines/p.toml", &collection(more))]);
        let codes: Vec<_> = loaded.diagnostics.iter().map(|fault| fault.code).collect();
        assert_eq!(codes, [code], "{more}");
        let told = loaded.diagnostics[0].help.clone().unwrap_or_default();
        assert!(told.contains(help), "{more}: {told}");
    }
    let step = format!("{WINDOW}{RATINGS}");
    for key in ["filter = { a = 1 }", "projection = { a = 1 }", "pipeline = []", "batch_size = 5"] {
        assert_eq!(faults(&format!("{step}{key}\n")).len(), 1, "{key}");
    }
}

fn landing(extract: &str, load: &str) -> String {
    let stage = "stage = { connection = \"other\", collection = \"users\" }\n";
    format!("{WINDOW}{RATINGS}{stage}{extract}[[load]]\nname = \"b\"\nfrom = \"ratings\"\n{load}")
}

#[test]
fn what_lands_has_no_table_and_what_is_loaded_has_landed() {
    let codes = |text: &str| -> Vec<String> {
        let loaded = loaded(&[("pipelines/p.toml", text)]);
        loaded.diagnostics.iter().map(|fault| fault.code.to_owned()).collect()
    };
    assert_eq!(codes(&landing("", "")), Vec::<String>::new());
    for (extract, load, code) in [
        ("into = \"raw.x\"\n", "", "foreign-key"),
        ("checks = [{ not_null = \"id\" }]\n", "", "foreign-key"),
        ("columns = { id = \"BIGINT\" }\n", "", "foreign-key"),
        ("write = \"merge\"\nkeys = [\"id\"]\n", "", "foreign-key"),
        ("write = \"full\"\n", "", "other-units"),
        ("", "write = \"full\"\n", "other-units"),
        ("", "into = \"other.users\"\n", "two-writers"),
        ("", "[[transform]]\nname = \"c\"\nsql = \"select {{ ds }} from {{ ref('ratings') }}\"\n", "landed-ref"),
    ] {
        let codes = codes(&landing(extract, load));
        assert!(codes.iter().all(|found| found == code) && !codes.is_empty(), "{extract}{load}: {codes:?}");
    }
    let unknown = format!("{WINDOW}{RATINGS}[[load]]\nname = \"b\"\nfrom = \"rating\"\n");
    assert_eq!(codes(&unknown), ["unknown-ref"]);
    let not_landed = format!("{WINDOW}{RATINGS}[[load]]\nname = \"b\"\nfrom = \"ratings\"\n");
    assert_eq!(codes(&not_landed), ["same-place"]);
    let dots = landing("", "").replace("\"users\"", "\"my.users\"");
    assert_eq!(codes(&dots), ["bad-name"]);
}

//! The keys of a step that reads BigQuery: what is wrong is underlined, and what would be right is said.

use crate::support::project::{Project, told};

/// What `haul check` says of a pipeline with this window and these keys of its one step.
fn check(window: &str, keys: &str) -> String {
    let project = Project::empty();
    project.write("connections.toml", "[warehouse]\ntype = \"duckdb\"\npath = \"w.duckdb\"\n\n[ga4]\ntype = \"bigquery\"\nproject = \"p\"\nendpoint = \"http://localhost:1\"\n");
    project.write(
        "pipelines/days.toml",
        &format!("[window]\n{window}\n[[extract]]\nname = \"events\"\nconnection = \"ga4\"\n{keys}\n"),
    );
    told(&project.output(&["check"]))
}

#[test]
fn a_wrong_key_is_told_with_what_would_be_right() {
    for (window, keys, words) in [
        ("", "table = \"shop.events_*\"", ["`*` stands for many tables", "table = \"shop.events_{{ ds_nodash }}\""]),
        (
            "grain = \"week\"",
            "table = \"shop.events_{{ ds_nodash }}\"",
            ["the name has a day in it, and the pipeline's units are weeks", "grain = \"day\""],
        ),
        (
            "",
            "table = \"shop.events_{{ ds_nodash }}\"\nmax_bytes = 10",
            ["`extract.max_bytes` is no number of bytes", "10 GB"],
        ),
        (
            "",
            "request = { path = \"/{{ ds }}\" }\nmax_bytes = \"1 GB\"",
            ["`max_bytes` means nothing without", "table ="],
        ),
    ] {
        let said = check(window, keys);
        for word in words {
            assert!(said.contains(word), "`{word}` is missing for {keys}:\n{said}");
        }
    }
    let fine = "table = \"shop.events_{{ unit.start | strftime('%Y%m%d%H') }}\"\nmax_bytes = \"1 TiB\"";
    let said = check("grain = \"hour\"", fine);
    assert!(said.contains("exit status: 0"), "{said}");
}

//! How a step's table is laid out: what the keys mean, and what they cannot mean.

use std::time::Duration;

use haul::model::layout::{Layout, Partition};

use super::*;

fn layout(pipeline: &str) -> Layout {
    let loaded = loaded(&[("pipelines/p.toml", pipeline)]);
    assert_eq!(places(&loaded), Vec::<String>::new(), "{pipeline}");
    loaded.project.expect("a project").pipelines[0].steps[0].layout.clone()
}

#[test]
fn a_table_is_divided_by_its_unit_by_a_column_or_not_at_all() {
    let step = format!("{WINDOW}{RATINGS}");
    let column = |grain| Partition::Column { name: "at".to_owned(), grain };
    for (more, partition) in [
        ("", Partition::OfWarehouse),
        ("partition_by = \"unit\"\n", Partition::Unit(None)),
        ("partition_by = { grain = \"month\" }\n", Partition::Unit(Some(Grain::Month))),
        ("partition_by = \"none\"\n", Partition::None),
        ("partition_by = \"at\"\n", column(Grain::Day)),
        ("partition_by = { column = \"at\", grain = \"hour\" }\n", column(Grain::Hour)),
    ] {
        assert_eq!(layout(&format!("{step}{more}")).partition, partition, "{more}");
    }
    let all = layout(&format!(
        "{step}cluster_by = [\"user\", \"movie\"]\nrequire_partition_filter = true\npartition_expires = \"400d\"\n"
    ));
    assert_eq!((all.cluster.len(), all.require_filter), (2, true));
    assert_eq!(all.expires, Some(Duration::from_hours(400 * 24)));
    let whole = RATINGS.replace("{{ ds }}", "2024-05-01");
    assert_eq!(layout(&format!("{whole}cluster_by = \"user\"\npartition_by = \"at\"\n")).partition, column(Grain::Day));
}

#[test]
fn what_a_layout_cannot_mean_is_told_at_its_place() {
    let windowed = format!("{WINDOW}{RATINGS}");
    let whole = RATINGS.replace("{{ ds }}", "2024-05-01");
    for (step, more, code, words) in [
        (&windowed, "partition_by = 5", "wrong-type", "partition_by = \"unit\""),
        (&windowed, "partition_by = { column = \"at\" }", "missing-key", ""),
        (&windowed, "partition_by = { column = \"at\", grain = \"week\" }", "bad-partition", "hour"),
        (&windowed, "partition_by = \"_haul_pull\"", "bad-partition", "\"unit\""),
        (&windowed, "cluster_by = [\"_haul_unit\"]", "bad-cluster", "columns of the table"),
        (&windowed, "partition_by = \"none\"\npartition_expires = \"9d\"", "no-partitions", "partition_by"),
        (&whole, "partition_by = \"unit\"", "no-units", "[window]"),
        (&whole, "require_partition_filter = true", "no-partitions", "partition_by"),
        (
            &windowed,
            "stage = { connection = \"other\", collection = \"c\" }\ncluster_by = \"a\"",
            "foreign-key",
            "[[load]]",
        ),
    ] {
        let text = format!("{step}{more}\n");
        let loaded = loaded(&[("pipelines/p.toml", &text)]);
        let found: Vec<_> = loaded.diagnostics.iter().map(|fault| fault.code).collect();
        assert_eq!(found, [code], "{more}");
        let help = loaded.diagnostics[0].help.clone().unwrap_or_default();
        assert!(help.contains(words), "{more}: {help}");
        assert!(loaded.diagnostics[0].labels.first().is_some_and(|label| label.line > 1), "{more}");
    }
}

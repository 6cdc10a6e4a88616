//! The keys by which a step says how its table is laid out: partitions, clusters, and for how long rows are kept.

use toml::Spanned;
use toml::de::DeValue;

use super::file::WriteWord;
use super::reader::{At, Read, Reader, Required, twin};
use super::scalar::Names;
use super::value::{TypedDuration, schema};
use crate::model::infer::OWN;
use crate::model::layout::{Layout, Partition, Replacing};
use crate::model::pipeline::{Pipeline, Write};
use crate::time::Grain;

twin! {
    /// A column of dates or times that divides a table into partitions.
    pub struct PartitionTable {
        /// The column. Default: the unit.
        pub column: Option<At<String>>,
        /// The length of a partition: `"hour"`, `"day"` or `"month"`.
        pub grain: Required<Grain>,
    }
}

/// What divides a table into partitions: `"unit"`, `"none"`, a column of days, or a column and a grain.
#[derive(Debug, Clone)]
pub enum PartitionValue {
    /// One word.
    Word(String),
    /// A column, or the unit, and the length of a partition.
    Table(Box<PartitionTable>),
}

impl Read for PartitionValue {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(_) => String::read(value, reader).map(Self::Word),
            DeValue::Table(_) => PartitionTable::read(value, reader).map(|table| Self::Table(Box::new(table))),
            _ => {
                reader.wrong_type(value, "\"unit\", \"none\", a column, or a table").help = Some(EXAMPLE.to_owned());
                None
            }
        }
    }
}

schema!(PartitionValue, { "anyOf": [
    { "type": "string", "examples": ["unit", "none", "created_on"] },
    {
        "type": "object",
        "properties": {
            "column": { "type": "string", "description": "The column. Default: the unit." },
            "grain": { "enum": ["hour", "day", "month"], "description": "The length of a partition." },
        },
        "required": ["grain"],
        "additionalProperties": false,
    },
] });

const EXAMPLE: &str = "partition_by = \"unit\", \"none\", or { column = \"created_at\", grain = \"month\" }";

/// The keys of a step that say how its table is laid out.
pub(super) struct LayoutKeys<'a> {
    pub partition_by: Option<&'a At<PartitionValue>>,
    pub cluster_by: Option<&'a At<Names>>,
    pub write: Option<&'a At<WriteWord>>,
    pub require_partition_filter: Option<&'a At<bool>>,
    pub partition_expires: Option<&'a At<TypedDuration>>,
}

/// How a step's table is laid out.
pub(super) fn layout(keys: &LayoutKeys<'_>, pipeline: &Pipeline, write: &Write, reader: &mut Reader) -> Layout {
    let by_unit = pipeline.window.is_some() && *write != Write::Full;
    let partition = keys.partition_by.and_then(|at| partition(at, by_unit, reader)).unwrap_or_default();
    let divided = match &partition {
        Partition::None => false,
        Partition::OfWarehouse => by_unit,
        Partition::Unit(_) | Partition::Column { .. } => true,
    };
    let wishes = [
        ("require_partition_filter", keys.require_partition_filter.map(|at| &at.span)),
        ("partition_expires", keys.partition_expires.map(|at| &at.span)),
    ];
    for (key, span) in wishes {
        if let (Some(span), false) = (span, divided) {
            let message = format!("`{key}` is about partitions, and this table has none");
            reader.error("no-partitions", span.clone(), message).help = Some(EXAMPLE.to_owned());
        }
    }
    if let Some(at) = keys.cluster_by {
        for name in at.value.0.iter().filter(|name| is_own(name)) {
            let message = format!("`{name}` is a column of haul's own, by which rows lie together anyway");
            reader.error("bad-cluster", at.span.clone(), message).help = Some("name columns of the table".to_owned());
        }
    }
    let partition_of_unit = partition.clone();
    Layout {
        partition,
        cluster: keys.cluster_by.map(|at| at.value.0.clone()).unwrap_or_default(),
        require_filter: keys.require_partition_filter.is_some_and(|at| at.value),
        expires: keys.partition_expires.map(|at| at.value.0),
        replace: replacing(keys, &partition_of_unit, pipeline, reader),
    }
}

/// Reports keys of a table in a step that writes none.
pub(super) fn foreign<'a>(keys: &LayoutKeys<'a>) -> [(&'static str, Option<&'a super::reader::Span>); 4] {
    [
        ("partition_by", keys.partition_by.map(|at| &at.span)),
        ("cluster_by", keys.cluster_by.map(|at| &at.span)),
        ("require_partition_filter", keys.require_partition_filter.map(|at| &at.span)),
        ("partition_expires", keys.partition_expires.map(|at| &at.span)),
    ]
}

/// How a unit's rows are replaced: by partitions only where a partition is a unit.
fn replacing(keys: &LayoutKeys<'_>, partition: &Partition, pipeline: &Pipeline, reader: &mut Reader) -> Replacing {
    let Some(at) = keys.write.filter(|at| at.value == WriteWord::Partition) else { return Replacing::Transaction };
    let grain = pipeline.window.as_ref().map(|window| window.grain);
    let is_unit = match partition {
        Partition::OfWarehouse | Partition::Unit(None) => true,
        Partition::Unit(Some(every)) => Some(*every) == grain,
        Partition::None | Partition::Column { .. } => false,
    };
    if !is_unit {
        let message = "whole partitions are replaced, and a partition of this table is not a unit";
        reader.error("partition-is-no-unit", at.span.clone(), message).help =
            Some("partition_by = \"unit\"; or write = \"transaction\"".to_owned());
    }
    Replacing::Partition
}

fn is_own(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with(OWN)
}

fn partition(at: &At<PartitionValue>, by_unit: bool, reader: &mut Reader) -> Option<Partition> {
    let wanted = match &at.value {
        PartitionValue::Word(word) => match word.as_str() {
            "none" => return Some(Partition::None),
            "unit" | "_haul_unit" => Partition::Unit(None),
            column => Partition::Column { name: column.to_owned(), grain: Grain::Day },
        },
        PartitionValue::Table(table) => {
            let grain = table.grain.0.as_ref()?;
            if grain.value == Grain::Week {
                reader.error("bad-partition", grain.span.clone(), "no warehouse has partitions of weeks").help =
                    Some("grain = \"hour\", \"day\" or \"month\"".to_owned());
                return None;
            }
            match table.column.as_ref().map(|column| column.value.as_str()) {
                None | Some("_haul_unit") => Partition::Unit(Some(grain.value)),
                Some(column) => Partition::Column { name: column.to_owned(), grain: grain.value },
            }
        }
    };
    match &wanted {
        Partition::Unit(_) if !by_unit => {
            let message = "the table has no units that could divide it";
            reader.error("no-units", at.span.clone(), message).help = Some(
                "give the pipeline a `[window]`; or partition_by = { column = \"created_at\", grain = \"day\" }"
                    .to_owned(),
            );
            None
        }
        Partition::Column { name, .. } if is_own(name) => {
            reader.error("bad-partition", at.span.clone(), format!("`{name}` does not divide a table")).help =
                Some(EXAMPLE.to_owned());
            None
        }
        _ => Some(wanted),
    }
}

//! The document of `_haul_loads` that says which rows are those of a unit, and what a stage of them has to know.

use mongodb::bson::{DateTime, Document, doc};

use super::{LandingUnit, Lot, generation};
use crate::error::{Context, Error, Kind, Result};
use crate::model::ledger::Loaded;
use crate::model::schema::SourceColumn;
use crate::model::shape::Shape;
use crate::mongo::landed;
use crate::time::UnitKey;

/// What a collection has of a unit.
#[derive(Debug, Clone)]
pub struct Current {
    /// The unit.
    pub unit: UnitKey,
    /// Which rows, and how many.
    pub loaded: Loaded,
    /// What was seen in them.
    pub shape: Shape,
    /// What their source declared.
    pub columns: Vec<SourceColumn>,
}

/// The members that point at the rows of a unit.
pub(super) fn document(unit: &LandingUnit, lot: &Lot) -> Result<Document> {
    let doing = || "writing _haul_loads".to_owned();
    let json = |text: serde_json::Result<String>| text.context(Kind::Internal, doing);
    Ok(doc! {
        "generation": generation(unit.generation)?,
        "pull": generation(unit.pull)?,
        "rows": generation(unit.rows)?,
        "fingerprint": unit.fingerprint.to_string(),
        "shape": json(serde_json::to_string(&lot.shape))?,
        "columns": json(serde_json::to_string(&lot.columns))?,
        "run": &lot.run,
        "loaded_at": DateTime::from_millis(lot.at.timestamp_millis()),
    })
}

/// Reads such a document; one without shape and columns is read without them.
pub(super) fn read(document: &Document) -> Result<Current> {
    let broken = |name: &str| {
        Error::new(Kind::Storage, format!("reading _haul_loads: a document has no readable `{name}`"))
            .because(format!("it is {}", document.get_str("_id").unwrap_or("without a name")))
            .hint("somebody has changed it; removed, its unit counts as missing and is pulled again")
    };
    let text = |name: &str| document.get_str(name).map_err(|_| broken(name));
    let number = |name: &str| {
        let number = document.get_i64(name).ok().or_else(|| document.get_i32(name).ok().map(i64::from));
        number.and_then(|number| u64::try_from(number).ok()).ok_or_else(|| broken(name))
    };
    let loaded_at = document.get_datetime("loaded_at").ok();
    let loaded_at = loaded_at.and_then(|at| chrono::DateTime::from_timestamp_millis(at.timestamp_millis()));
    Ok(Current {
        unit: UnitKey::stored(text("unit")?),
        loaded: Loaded {
            pull: number("pull")?,
            generation: number("generation")?,
            rows: number("rows")?,
            fingerprint: text("fingerprint")?.parse().map_err(|_| broken("fingerprint"))?,
            inputs: None,
            loaded_at: loaded_at.ok_or_else(|| broken("loaded_at"))?,
        },
        shape: match document.get_str("shape") {
            Ok(text) => serde_json::from_str(text).map_err(|_| broken("shape"))?,
            Err(_) => Shape::default(),
        },
        columns: match document.get_str("columns") {
            Ok(text) => serde_json::from_str(text).map_err(|_| broken("columns"))?,
            Err(_) => Vec::new(),
        },
    })
}

/// The name of the first row that a document points at.
pub(super) fn first_row(document: &Document) -> String {
    read(document).map(|current| landed::id(&current.unit, current.loaded.generation, 0)).unwrap_or_default()
}

//! From a step's templates to the files that it reads.

use std::sync::Arc;

use super::gear::Gear;
use crate::error::Result;
use crate::extract::{FilesPull, Pattern, Pull};
use crate::model::files::FilesSource;
use crate::model::pipeline::Extract;
use crate::model::schema::LogicalType;
use crate::template::Scope;

/// The files of a step; nothing is looked for yet.
pub(super) async fn pull_of(gear: &Gear, step: &Extract, files: &FilesSource, scope: &Scope) -> Result<Arc<dyn Pull>> {
    let mut source = files.clone();
    let declared = step.columns.iter().filter(|(_, data_type)| is_number(data_type));
    source.csv.numbers = declared.map(|(name, _)| name.clone()).collect();
    Ok(Arc::new(FilesPull {
        store: gear.files(&step.connection).await?,
        pattern: Pattern::parse(&gear.templates.render(&files.files, scope)?)?,
        source,
    }))
}

fn is_number(data_type: &LogicalType) -> bool {
    use LogicalType::{BigInt, Decimal, Double, HugeInt};
    matches!(data_type, BigInt | HugeInt | Double | Decimal { .. })
}

//! From a step's templates to the files that it reads.

use std::sync::Arc;

use super::gear::Gear;
use crate::error::Result;
use crate::extract::{DownloadPull, Fetcher, FilesPull, Pattern, Pull, at_path};
use crate::model::files::{Address, Download, FilesSource};
use crate::model::pipeline::Extract;
use crate::model::schema::LogicalType;
use crate::model::source::Source;
use crate::template::Scope;

/// The files of a step; nothing is looked for yet.
pub(super) async fn pull_of(gear: &Gear, step: &Extract, files: &FilesSource, scope: &Scope) -> Result<Arc<dyn Pull>> {
    let mut source = files.clone();
    source.csv.declared = step.columns.iter().map(|(name, data_type)| (name.clone(), is_number(data_type))).collect();
    Ok(Arc::new(FilesPull {
        store: gear.files(&step.connection).await?,
        pattern: Pattern::parse(&gear.templates.render(&files.files, scope)?)?,
        source,
    }))
}

/// The rows with a column for the file that each of them points to.
pub(super) async fn with_download(
    gear: &Gear,
    step: &Extract,
    download: &Download,
    rows: Arc<dyn Pull>,
) -> Result<Arc<dyn Pull>> {
    // Only the API that the rows are from is told who we are.
    let api = match &step.source {
        Source::Http(http) => Some((gear.client(&step.connection).await?, http.auth.clone())),
        Source::Files(_) | Source::Table(_) | Source::Process(_) | Source::Collection(_) | Source::Landed(_) => None,
    };
    let fetcher = Fetcher::open(gear.library(&download.to).await?, api, gear.redactor.clone(), gear.tape.clone())?;
    let Address::Path(path) = &download.url;
    Ok(Arc::new(DownloadPull { rows, download: download.clone(), locate: at_path(path), fetcher }))
}

fn is_number(data_type: &LogicalType) -> bool {
    use LogicalType::{BigInt, Decimal, Double, HugeInt};
    matches!(data_type, BigInt | HugeInt | Double | Decimal { .. })
}

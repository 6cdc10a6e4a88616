//! From a step's templates to the files that it reads.

use std::sync::Arc;

use serde_json::Value;

use super::gear::Gear;
use crate::error::Result;
use crate::extract::{DownloadPull, Fetcher, FilesPull, Locate, Pattern, Pull, at_path};
use crate::model::files::{Address, Download, FilesSource};
use crate::model::name::Text;
use crate::model::pipeline::Extract;
use crate::model::schema::LogicalType;
use crate::model::source::Source;
use crate::template::{Item, Prepared, Scope};

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
    scope: &Scope,
    rows: Arc<dyn Pull>,
) -> Result<Arc<dyn Pull>> {
    // Only the API that the rows are from is told who we are.
    let api = match &step.source {
        Source::Http(http) => Some((gear.client(&step.connection).await?, http.auth.clone())),
        Source::Files(_) | Source::Table(_) | Source::Process(_) | Source::Collection(_) | Source::Landed(_) => None,
    };
    let fetcher = Fetcher::open(gear.library(&download.to).await?, api, gear.redactor.clone(), gear.tape.clone())?;
    let locate = match &download.url {
        Address::Path(path) => at_path(path),
        Address::Template(text) => rendered(gear, text.clone(), scope),
    };
    Ok(Arc::new(DownloadPull { rows, download: download.clone(), locate, fetcher }))
}

/// The address that a template makes of a row; one that is null, or empty, is none.
fn rendered(gear: &Gear, text: Text, scope: &Scope) -> Locate {
    let prepared = Prepared::new(Arc::clone(&gear.templates), scope, "row");
    Arc::new(move |row| {
        Ok(match prepared.render_json(&text, &Item::parse(row)?)? {
            Value::Null => None,
            Value::String(url) => Some(url),
            other => Some(other.to_string()),
        })
    })
}

fn is_number(data_type: &LogicalType) -> bool {
    use LogicalType::{BigInt, Decimal, Double, HugeInt};
    matches!(data_type, BigInt | HugeInt | Double | Decimal { .. })
}

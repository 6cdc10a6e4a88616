//! The look at a collection before it is read: how many documents a unit has, and which one changed last.

use futures::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::{MongoPull, Query};
use crate::error::{Context, Error, Kind, Result};
use crate::extract::Probe;
use crate::model::source::CollectionProbe;
use crate::mongo::json;

/// Counts the documents that the pull would read, where the step asked for that.
pub(super) async fn probe(pull: &MongoPull) -> Result<Probe> {
    let Query::Find { filter, .. } = &pull.query else { return Ok(Probe::Unknown) };
    let mut found = doc! { "_id": Bson::Null, "count": { "$sum": 1 } };
    match &pull.probe {
        CollectionProbe::Off => return Ok(Probe::Unknown),
        CollectionProbe::Count => {}
        CollectionProbe::Newest(member) => {
            found.insert("newest", doc! { "$max": format!("${member}") });
        }
    }
    let stages = [doc! { "$match": pull.condition(filter) }, doc! { "$group": found }];
    let doing = || format!("counting the documents of {}", pull.mongo.place(&pull.collection));
    let counted = tokio::spawn(counted(pull.clone(), stages)).await.context(Kind::Internal, doing)?;
    let counted = counted.map_err(|error| pull.mongo.fault(doing(), &error, Kind::Source))?;
    let mut text = Vec::new();
    match counted {
        None => text.extend_from_slice(b"no documents"),
        Some(counted) => json::members(&mut text, &counted, 0, |name| (name != "_id").then_some(None))
            .map_err(|fault| Error::new(Kind::Source, doing()).because(fault.0))?,
    }
    Ok(Probe::Is(String::from_utf8_lossy(&text).into_owned()))
}

async fn counted(pull: MongoPull, stages: [Document; 2]) -> mongodb::error::Result<Option<RawDocumentBuf>> {
    let cursor = pull.mongo.collection(&pull.collection).aggregate(stages).allow_disk_use(true).await?;
    cursor.with_type::<RawDocumentBuf>().try_next().await
}

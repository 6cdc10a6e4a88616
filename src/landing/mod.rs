//! Landing places: collections that hold the rows of units until a load step brings them into a warehouse.
//!
//! A collection has no transaction over a unit, and needs none: rows are written under a name of their own, which no reader
//! looks for yet; then one document of `_haul_loads` points at them, if the lease is still the newest; then what it pointed
//! at before is removed. Whoever dies in between leaves rows that nobody reads, and the next to come removes them.
//!
//! ```text
//! claim: fence := generation    write: rows under it    flip: pointer := generation    sweep: all others go
//!        (only if not larger)                                 (only if it is the fence)
//! ```

mod pointer;
mod rows;

use std::path::PathBuf;

use mongodb::Collection;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::{ErrorKind, Result as DriverResult};
use mongodb::options::{CollectionOptions, WriteConcern};

pub use pointer::Current;

use crate::error::{Context, Error, Kind, Result};
use crate::model::ledger::{Fingerprint, Loaded};
use crate::model::schema::SourceColumn;
use crate::model::shape::Shape;
use crate::mongo::{Mongo, landed};
use crate::time::{Instant, UnitKey};

/// The collection that says which rows are those of each unit.
const LOADS: &str = "_haul_loads";

/// A collection that rows land in; clones are the same one.
#[derive(Clone)]
pub struct Landing {
    mongo: Mongo,
    collection: String,
}

/// A unit that lands.
#[derive(Debug, Clone)]
pub struct LandingUnit {
    /// The unit.
    pub key: UnitKey,
    /// What its rows begin with where the segments have rows of several units.
    pub prefix: String,
    /// The pull.
    pub pull: u64,
    /// The lease's generation.
    pub generation: u64,
    /// How many rows it has.
    pub rows: u64,
    /// Their digest.
    pub fingerprint: Fingerprint,
}

/// Staged rows, and what is known of them all.
#[derive(Debug, Clone)]
pub struct Lot {
    /// The segments of a sealed stage.
    pub files: Vec<PathBuf>,
    /// Whether each row says its unit.
    pub unit_in_rows: bool,
    /// The units that land.
    pub units: Vec<LandingUnit>,
    /// What was seen in the rows.
    pub shape: Shape,
    /// What their source declared.
    pub columns: Vec<SourceColumn>,
    /// The run.
    pub run: String,
    /// The time of the landing.
    pub at: Instant,
}

impl Landing {
    /// The collection of this name; it is made by the first rows that land in it.
    pub fn new(mongo: Mongo, collection: &str) -> Self {
        Self { mongo, collection: collection.to_owned() }
    }

    /// The database.
    pub fn mongo(&self) -> &Mongo {
        &self.mongo
    }

    /// The name of the collection.
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// Claims the units for their generations: no smaller one can flip them any more.
    ///
    /// # Errors
    /// [`Kind::Stale`] when a larger generation has claimed one before.
    pub async fn claim(&self, units: &[LandingUnit]) -> Result<()> {
        for unit in units {
            self.claim_one(&unit.key, unit.generation).await?;
        }
        Ok(())
    }

    async fn claim_one(&self, unit: &UnitKey, fence: u64) -> Result<()> {
        let claimed = self.talk("claiming", claim(self.clone(), unit.clone(), generation(fence)?)).await?;
        claimed.ok_or_else(|| self.stale(unit, fence))
    }

    /// Removes what killed attempts at a unit have left behind, where there can be any.
    pub async fn tidy(&self, unit: &UnitKey, generation: u64) -> Result<()> {
        let (loads, condition) = (self.loads_collection(), doc! { "_id": self.name(unit), "clean": false });
        let unclean = self.talk("reading _haul_loads for", async move { loads.find_one(condition).await }).await?;
        if unclean.is_some() {
            self.claim_one(unit, generation).await?;
            self.sweep(unit, generation).await?;
        }
        Ok(())
    }

    /// Writes the rows of the units under their generations; nobody reads them yet.
    ///
    /// # Errors
    /// Segments that have other rows than their manifest says, and a server that takes none.
    pub async fn write(&self, lot: &Lot) -> Result<()> {
        rows::write(self, lot).await
    }

    /// Points at the rows that were written, unit by unit.
    ///
    /// # Errors
    /// [`Kind::Stale`] when a larger generation has claimed a unit since; it is left as it was.
    pub async fn flip(&self, lot: &Lot) -> Result<()> {
        for unit in &lot.units {
            let set = pointer::document(unit, lot)?;
            let condition = doc! { "_id": self.name(&unit.key), "fence": generation(unit.generation)? };
            let loads = self.loads_collection();
            let flip = async move { loads.update_one(condition, doc! { "$set": set }).await };
            if self.talk("pointing at", flip).await?.matched_count == 0 {
                // Nobody will ever read what this attempt has written.
                self.remove(&unit.key, unit.generation..unit.generation + 1).await?;
                return Err(self.stale(&unit.key, unit.generation));
            }
        }
        Ok(())
    }

    /// Removes all rows of a unit that were written under generations up to this one, but for those it points at.
    ///
    /// The unit has to be claimed: nobody else can point at what is removed.
    pub async fn sweep(&self, unit: &UnitKey, up_to: u64) -> Result<()> {
        let current = self.current(unit).await?.map(|current| current.loaded.generation);
        // Without a current one, nothing is kept.
        let (before, behind) = current.map_or((up_to + 1, up_to + 1), |current| (current, current + 1));
        for range in [0..before, behind..up_to + 1] {
            if !range.is_empty() {
                self.remove(unit, range).await?;
            }
        }
        self.call_clean(unit, up_to).await
    }

    /// Removes what units were pointed at before, where whoever pointed them elsewhere died before doing so.
    pub async fn mend(&self, units: &[(UnitKey, u64)]) -> Result<()> {
        for (unit, generation) in units {
            self.remove(unit, 0..*generation).await?;
            self.call_clean(unit, *generation).await?;
        }
        Ok(())
    }

    async fn remove(&self, unit: &UnitKey, generations: std::ops::Range<u64>) -> Result<()> {
        let (rows, ids) = (self.rows_collection(), landed::ids(unit, generations));
        self.talk("removing old rows of", async move { rows.delete_many(ids).await }).await?;
        Ok(())
    }

    /// Remembers that a unit has no rows but those it points at, unless somebody has claimed it since.
    async fn call_clean(&self, unit: &UnitKey, fence: u64) -> Result<()> {
        let condition = doc! { "_id": self.name(unit), "fence": generation(fence)? };
        let loads = self.loads_collection();
        let set = async move { loads.update_one(condition, doc! { "$set": { "clean": true } }).await };
        self.talk("writing _haul_loads for", set).await?;
        Ok(())
    }

    /// What the collection has of a unit, if anything.
    pub async fn current(&self, unit: &UnitKey) -> Result<Option<Current>> {
        let (loads, condition) =
            (self.loads_collection(), doc! { "_id": self.name(unit), "generation": { "$exists": true } });
        let found = self.talk("reading _haul_loads for", async move { loads.find_one(condition).await }).await?;
        found.map(|document| pointer::read(&document)).transpose()
    }

    /// What the collection has of each unit, and the units of which it has rows that nobody reads.
    ///
    /// A unit whose first row is gone counts as gone.
    pub async fn loads(&self) -> Result<(Vec<(UnitKey, Loaded)>, Vec<(UnitKey, u64)>)> {
        let listed = self.talk("reading _haul_loads for", listed(self.clone())).await?;
        let (mut loads, mut unclean) = (Vec::new(), Vec::new());
        for (document, there) in listed {
            let current = pointer::read(&document)?;
            if !document.get_bool("clean").unwrap_or(false) {
                unclean.push((current.unit.clone(), current.loaded.generation));
            }
            if there || current.loaded.rows == 0 {
                loads.push((current.unit, current.loaded));
            }
        }
        Ok((loads, unclean))
    }

    fn loads_collection(&self) -> Collection<Document> {
        self.mongo.database().collection_with_options(LOADS, durable())
    }

    fn rows_collection(&self) -> Collection<RawDocumentBuf> {
        self.mongo.database().collection_with_options(&self.collection, durable())
    }

    /// The name of a unit's document in `_haul_loads`.
    fn name(&self, unit: &UnitKey) -> String {
        format!("{}/{unit}", self.collection)
    }

    fn stale(&self, unit: &UnitKey, generation: u64) -> Error {
        Error::new(Kind::Stale, format!("the lease on {unit} of {}", self.mongo.place(&self.collection)))
            .because(format!("generation {generation} wants to write, a later one has claimed the unit"))
    }

    /// Lets something of the driver run to its end, whoever may stop waiting for it.
    async fn talk<T: Send + 'static>(
        &self,
        what: &str,
        future: impl Future<Output = DriverResult<T>> + Send + 'static,
    ) -> Result<T> {
        let doing = || format!("{what} {}", self.mongo.place(&self.collection));
        let ended = tokio::spawn(future).await.context(Kind::Internal, doing)?;
        ended.map_err(|error| self.mongo.fault(doing(), &error, Kind::Warehouse))
    }
}

/// What is written has to be there after a crash of the server: everything that follows rests on it.
fn durable() -> CollectionOptions {
    let concern = WriteConcern::builder().w(mongodb::options::Acknowledgment::Majority).journal(true).build();
    CollectionOptions::builder().write_concern(concern).build()
}

/// A generation in the type of BSON.
fn generation(generation: u64) -> Result<i64> {
    i64::try_from(generation).context(Kind::Internal, || format!("the generation {generation}"))
}

/// Raises the fence; none when it is higher already.
async fn claim(landing: Landing, unit: UnitKey, fence: i64) -> DriverResult<Option<()>> {
    let loads = landing.loads_collection();
    let condition = doc! { "_id": landing.name(&unit), "fence": { "$lte": fence } };
    let set =
        doc! { "$set": { "collection": &landing.collection, "unit": unit.as_str(), "fence": fence, "clean": false } };
    // Two that claim a new unit at once both try to make its document: the second finds it at its second try.
    for _ in 0..2 {
        match loads.update_one(condition.clone(), set.clone()).upsert(true).await {
            Ok(_) => return Ok(Some(())),
            Err(error) if is_duplicate(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The documents of `_haul_loads` that point at rows, each with whether the first of these rows is there.
async fn listed(landing: Landing) -> DriverResult<Vec<(Document, bool)>> {
    use futures::TryStreamExt;
    const AT_ONCE: usize = 500;
    let condition = doc! { "collection": &landing.collection, "generation": { "$exists": true } };
    let wanted = doc! { "shape": 0, "columns": 0 };
    let loads = landing.loads_collection().find(condition).projection(wanted).sort(doc! { "_id": 1 }).await?;
    let loads: Vec<Document> = loads.try_collect().await?;
    let mut listed = Vec::with_capacity(loads.len());
    for chunk in loads.chunks(AT_ONCE) {
        let firsts: Vec<String> = chunk.iter().map(pointer::first_row).collect();
        let rows = landing.mongo.database().collection::<Document>(&landing.collection);
        let there = rows.find(doc! { "_id": { "$in": &firsts } }).projection(doc! { "_id": 1 }).await?;
        let there: Vec<Document> = there.try_collect().await?;
        let there: std::collections::HashSet<&str> = there.iter().filter_map(|row| row.get_str("_id").ok()).collect();
        let chunk = chunk.iter().zip(&firsts);
        listed.extend(chunk.map(|(load, first)| (load.clone(), there.contains(first.as_str()))));
    }
    Ok(listed)
}

/// Whether all that went wrong is that documents of these names are there already.
fn is_duplicate(error: &mongodb::error::Error) -> bool {
    const DUPLICATE: i32 = 11_000;
    match &*error.kind {
        ErrorKind::Write(mongodb::error::WriteFailure::WriteError(error)) => error.code == DUPLICATE,
        ErrorKind::InsertMany(many) => {
            many.write_concern_error.is_none()
                && many.write_errors.as_ref().is_some_and(|errors| errors.iter().all(|one| one.code == DUPLICATE))
        }
        ErrorKind::Command(error) => error.code == DUPLICATE,
        _ => false,
    }
}

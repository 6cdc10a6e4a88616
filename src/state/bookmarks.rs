//! Bookmarks: where sources want to go on, as they told when the rows before were loaded.

use super::rows::instant;
use super::sqlite::Store;
use crate::error::Result;
use crate::model::name::TableName;
use crate::time::Instant;

/// The bookmark of a table's stream.
pub(super) async fn read(store: &Store, table: &TableName, stream: &str) -> Result<Option<String>> {
    let found: Option<(String,)> = sqlx::query_as("SELECT value FROM bookmark WHERE table_name = ? AND stream = ?")
        .bind(table.to_string())
        .bind(stream)
        .fetch_optional(store.readers())
        .await
        .map_err(store.fault("reading a bookmark of"))?;
    Ok(found.map(|(value,)| value))
}

/// Keeps the bookmark of a table's stream in the place of the one before.
pub(super) async fn keep(store: &Store, table: &TableName, stream: &str, json: &str, now: Instant) -> Result<()> {
    let doing = "keeping a bookmark in";
    let mut transaction = store.begin(doing).await?;
    sqlx::query("INSERT OR REPLACE INTO bookmark (table_name, stream, value, kept_at) VALUES (?, ?, ?, ?)")
        .bind(table.to_string())
        .bind(stream)
        .bind(json)
        .bind(instant(now))
        .execute(&mut *transaction)
        .await
        .map_err(store.fault(doing))?;
    store.commit(transaction, doing).await
}

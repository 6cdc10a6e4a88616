//! Messages in the file: they wait there until their channel has taken them, whatever becomes of the process.

use std::time::Duration;

use sqlx::{Row, SqliteConnection};

use super::incidents::unreadable;
use super::rows::{Reading, instant};
use super::sqlite::Store;
use crate::error::{Error, Result};
use crate::model::incident::{Content, Message};
use crate::model::notify::Flood;
use crate::time::Instant;

/// A message that no channel took for so long is given up.
pub(super) const PATIENCE: Duration = Duration::from_hours(7 * 24);

/// How the messages of a channel stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The channel.
    pub channel: String,
    /// How many messages wait.
    pub messages: u64,
    /// Since when.
    pub since: Instant,
    /// What the channel said when it was last tried, redacted.
    pub fault: Option<String>,
}

/// Lets a message wait for its channel.
pub(super) async fn put(
    store: &Store,
    connection: &mut SqliteConnection,
    channel: &str,
    content: &Content,
    now: Instant,
) -> Result<()> {
    let content = serde_json::to_string(content)
        .map_err(|error| Error::internal("a message could not be written as JSON").because(error))?;
    sqlx::query("INSERT INTO message (channel, content, queued_at, not_before) VALUES ($1, $2, $3, $3)")
        .bind(channel)
        .bind(content)
        .bind(instant(now))
        .execute(connection)
        .await
        .map_err(store.fault("writing a message to"))?;
    Ok(())
}

/// Takes all that waits for a channel, if any of it is due and the channel has not been told too much lately.
///
/// Nobody else gets it until `until`: who takes it and dies lets it be told again.
pub(super) async fn take(
    store: &Store,
    channel: &str,
    limit: Flood,
    now: Instant,
    until: Instant,
) -> Result<Vec<Message>> {
    let doing = "taking messages from";
    let idle: Option<(i64,)> =
        sqlx::query_as("SELECT id FROM message WHERE channel = $1 AND sent_at IS NULL AND not_before <= $2 LIMIT 1")
            .bind(channel)
            .bind(instant(now))
            .fetch_optional(store.readers())
            .await
            .map_err(store.fault(doing))?;
    if idle.is_none() {
        return Ok(Vec::new());
    }
    let mut transaction = store.begin(doing).await?;
    let since = now - chrono::Duration::from_std(limit.per).unwrap_or(chrono::Duration::MAX);
    let (told, busy): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(DISTINCT batch) FROM message WHERE channel = $1 AND sent_at > $2),
                (SELECT count(*) FROM message WHERE channel = $1 AND sent_at IS NULL AND taken_until > $3)",
    )
    .bind(channel)
    .bind(instant(since))
    .bind(instant(now))
    .fetch_one(&mut *transaction)
    .await
    .map_err(store.fault(doing))?;
    if told >= i64::from(limit.messages.get()) || busy > 0 {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "UPDATE message SET taken_until = $3, attempts = attempts + 1
         WHERE channel = $1 AND sent_at IS NULL AND queued_at > $4
           AND EXISTS (SELECT 1 FROM message WHERE channel = $1 AND sent_at IS NULL AND not_before <= $2)
         RETURNING *",
    )
    .bind(channel)
    .bind(instant(now))
    .bind(instant(until))
    .bind(instant(now - PATIENCE))
    .fetch_all(&mut *transaction)
    .await
    .map_err(store.fault(doing))?;
    store.commit(transaction, doing).await?;
    let mut messages = Vec::with_capacity(rows.len());
    for row in &rows {
        let content = Reading(row).text("content")?;
        messages.push(Message {
            id: row.try_get("id").map_err(|error| unreadable("id").because(error))?,
            channel: channel.to_owned(),
            content: serde_json::from_str(&content).map_err(|error| unreadable("content").because(error))?,
            attempts: u32::try_from(Reading(row).number("attempts")?).unwrap_or(u32::MAX),
            queued_at: Reading(row).instant("queued_at")?,
        });
    }
    messages.sort_by_key(|message| message.id);
    Ok(messages)
}

/// Writes down that a channel has taken messages, all of them as one, and that somebody knows of these incidents.
pub(super) async fn sent(store: &Store, ids: &[i64], incidents: &[String], now: Instant) -> Result<()> {
    let doing = "writing down what was told in";
    let mut transaction = store.begin(doing).await?;
    let batch = ids.first().copied().unwrap_or_default();
    sqlx::query(
        "UPDATE message SET sent_at = $2, batch = $3, taken_until = NULL, fault = NULL
         WHERE id IN (SELECT value FROM json_each($1))",
    )
    .bind(serde_json::json!(ids).to_string())
    .bind(instant(now))
    .bind(batch)
    .execute(&mut *transaction)
    .await
    .map_err(store.fault(doing))?;
    sqlx::query("UPDATE incident SET told_at = $2 WHERE told_at IS NULL AND key IN (SELECT value FROM json_each($1))")
        .bind(serde_json::json!(incidents).to_string())
        .bind(instant(now))
        .execute(&mut *transaction)
        .await
        .map_err(store.fault(doing))?;
    store.commit(transaction, doing).await
}

/// Lets messages that their channel did not take wait for another time.
pub(super) async fn refused(store: &Store, ids: &[i64], fault: &str, again: Instant) -> Result<()> {
    let doing = "putting messages back into";
    let mut transaction = store.begin(doing).await?;
    sqlx::query(
        "UPDATE message SET not_before = $2, fault = $3, taken_until = NULL
         WHERE id IN (SELECT value FROM json_each($1))",
    )
    .bind(serde_json::json!(ids).to_string())
    .bind(instant(again))
    .bind(fault)
    .execute(&mut *transaction)
    .await
    .map_err(store.fault(doing))?;
    store.commit(transaction, doing).await
}

/// The channels that have messages waiting.
pub(super) async fn waiting(store: &Store) -> Result<Vec<Waiting>> {
    let rows = sqlx::query(
        "SELECT channel, count(*) AS messages, min(queued_at) AS since, max(fault) AS fault
         FROM message WHERE sent_at IS NULL GROUP BY channel ORDER BY channel",
    )
    .fetch_all(store.readers())
    .await
    .map_err(store.fault("reading messages in"))?;
    let waiting = |row| {
        let reading = Reading(row);
        Ok(Waiting {
            channel: reading.text("channel")?,
            messages: reading.number("messages")?,
            since: reading.instant("since")?,
            fault: row.try_get("fault").map_err(|error| unreadable("fault").because(error))?,
        })
    };
    rows.iter().map(waiting).collect()
}

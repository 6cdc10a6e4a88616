//! One commit into PostgreSQL: all of it, or nothing.

use sqlx::AssertSqlSafe;

use super::encode::Encode;
use super::fault::{failed, failed_in};
use super::fresh::{self, Fresh};
use super::session::{Session, named};
use super::table::{self, Table};
use super::{computed, copy, partition};
use crate::error::{Error, Kind, Result};
use crate::model::fit;
use crate::model::layout::Partition;
use crate::model::ledger::{Changes, Fingerprint};
use crate::model::pipeline::Write;
use crate::model::schema::{Reconciled, SchemaChange};
use crate::time::UnitKey;
use crate::warehouse::checks::{Asked, fault, settle};
use crate::warehouse::dialect::POSTGRES;
use crate::warehouse::verdict::{self, LastLoad};
use crate::warehouse::{BoundCheck, Commit, CommitOutcome, Committed, NEW_ROWS, NewRows, UnitCommit, units};

/// A commit of more units than these locks the table for itself: the server has room for so many locks only.
const MOST_LOCKS: usize = 32;

/// How far a commit has come.
enum Step {
    /// To its end.
    Done(Committed),
    /// It needs the table for itself, and begins anew with it.
    Alone,
    /// It needs partitions that are not there; they are created first.
    Partitions,
}

/// Commits, or rolls everything back.
pub(super) async fn run(session: &mut Session, commit: &Commit) -> Result<Committed> {
    // Outside of the transaction: a rolled back one must not take the table away from the statements that know it.
    let ready = table::ensure_loads(session, &commit.table).await;
    if let Err(error) = ready {
        let _ = session.roll_back().await;
        return Err(error);
    }
    let mut alone = matches!(commit.write, Write::Merge { .. } | Write::Full) || commit.units.len() > MOST_LOCKS;
    loop {
        let begun = begin(session, commit, alone).await;
        let step = match begun {
            Ok(()) => steps(session, commit, alone).await,
            Err(error) => Err(error),
        };
        match step {
            Ok(Step::Done(committed)) if committed.units.iter().any(|unit| unit.outcome == CommitOutcome::Written) => {
                if let Err(refused) = commit.permit.holds().await {
                    session.roll_back().await?;
                    return Err(refused);
                }
                session.batch("committing", "COMMIT").await?;
                return Ok(committed);
            }
            Ok(Step::Done(committed)) => {
                session.roll_back().await?;
                return Ok(committed);
            }
            Ok(Step::Alone) => {
                session.roll_back().await?;
                alone = true;
            }
            Ok(Step::Partitions) => {
                session.roll_back().await?;
                make_partitions(session, commit).await?;
            }
            Err(error) => {
                let _ = session.roll_back().await;
                return Err(error);
            }
        }
    }
}

/// Begins the transaction and takes the locks by which two commits of one unit come one after the other.
///
/// They are advisory: whoever reads the table, or writes it without haul, is not held up by them. They come before the
/// look at `_haul_loads`, so that the second of two commits sees what the first has written there.
async fn begin(session: &mut Session, commit: &Commit, alone: bool) -> Result<()> {
    let table = commit.table.to_string();
    let [(_, pipeline), (_, step), _, (_, run)] = commit.labels();
    let work = if pipeline.is_empty() { run } else { format!("{pipeline}/{step} {run}") };
    let mut locks = Vec::new();
    if alone {
        locks.push(format!("pg_advisory_xact_lock({})", table::lock_key(&["table", &table])));
    } else {
        locks.push(format!("pg_advisory_xact_lock_shared({})", table::lock_key(&["table", &table])));
        // Always in the same order: two commits never wait for each other.
        let mut keys: Vec<&str> = commit.units.iter().map(|unit| unit.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        locks.extend(
            keys.iter().map(|key| format!("pg_advisory_xact_lock({})", table::lock_key(&["unit", &table, key]))),
        );
    }
    let locks: Vec<String> = locks.into_iter().map(|lock| format!("SELECT {lock}")).collect();
    session.begin("beginning a transaction", &format!("BEGIN; {}", named(&work))).await?;
    session.batch("waiting for another commit of the same unit", &locks.join("; ")).await
}

/// Creates the partitions of the commit's units in a transaction of its own, which holds up nobody for long.
async fn make_partitions(session: &mut Session, commit: &Commit) -> Result<()> {
    session.batch("beginning a transaction", "BEGIN").await?;
    let made = async {
        partition::lock(session, &commit.table).await?;
        let missing = partition::missing(session, &commit.table, partition::of_units(commit)).await?;
        partition::create(session, &commit.table, &missing).await
    };
    match made.await {
        Ok(()) => session.batch("committing", "COMMIT").await,
        Err(error) => {
            let _ = session.roll_back().await;
            Err(error)
        }
    }
}

async fn steps(session: &mut Session, commit: &Commit, alone: bool) -> Result<Step> {
    let target = table::read(session, &commit.table).await?;
    if target.is_none() && !alone {
        return Ok(Step::Alone);
    }
    let last = last_loads(session, commit).await?;
    let (known, pending) = verdict::standings(commit, target.is_some(), |unit| {
        last.iter().find(|(key, _)| *key == unit.key).map(|(_, last)| *last)
    })?;
    let mut committed = Committed { units: known, ..Committed::default() };
    if pending.is_empty() {
        return Ok(Step::Done(committed));
    }
    if let Some(table) = &target
        && partition::by_unit(table)
        && !partition::missing(session, &commit.table, partition::of_units(commit)).await?.is_empty()
    {
        return Ok(Step::Partitions);
    }
    let schema = target.as_ref().map(|table| &table.schema);
    let (incoming, computed) = match &commit.rows {
        NewRows::Staged { columns, .. } => (columns.clone(), None),
        NewRows::Query { sql, time_column } => {
            let computed = computed::run(session, commit, sql, time_column.as_deref()).await?;
            (computed::columns(session, &computed, schema).await?, Some(computed))
        }
    };
    let reconciled = fit::reconcile(schema, &incoming, commit.contract)?;
    let lacks = target.as_ref().is_some_and(|table| !table.lacks(commit).is_empty());
    if (lacks || !reconciled.changes.is_empty()) && !alone {
        return Ok(Step::Alone);
    }
    let judged = judge(session, commit, &pending, &reconciled, target.is_some()).await?;
    let written = verdict::written(&pending, &judged);
    let all = written.len() == pending.len();
    committed.units.extend(judged);
    if written.is_empty() {
        return Ok(Step::Done(committed));
    }
    if computed.is_some() {
        table::assert_digits(session, &incoming, &reconciled).await?;
        if !all {
            let others = units::condition(&POSTGRES, commit, &written);
            let sql = format!("DELETE FROM pg_temp.{NEW_ROWS} WHERE NOT ({others})");
            session.batch("leaving out the units that stay", &sql).await?;
        }
    }
    let work = Work { commit, written, before: target, computed, reconciled };
    put(session, &work, &mut committed).await?;
    record(session, &work, &committed).await?;
    committed.schema_changes = work.reconciled.changes;
    committed.left_out = work.reconciled.left_out;
    Ok(Step::Done(committed))
}

/// The newest load of each unit of a commit.
async fn last_loads(session: &mut Session, commit: &Commit) -> Result<Vec<(UnitKey, LastLoad)>> {
    let doing = "reading _haul_loads";
    let keys: Vec<&str> = commit.units.iter().map(|unit| unit.key.as_str()).collect();
    let sql = format!(
        "SELECT DISTINCT ON (unit) unit, generation, pull, rows, fingerprint FROM {} \
         WHERE table_name = $1 AND unit = ANY($2) ORDER BY unit, generation DESC",
        POSTGRES.loads_of(&commit.table)
    );
    let rows: Vec<(String, i64, i64, i64, String)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(commit.table.to_string())
        .bind(&keys)
        .fetch_all(&mut session.connection)
        .await
        .map_err(|error| failed(doing, &error))?;
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(rows
        .into_iter()
        .map(|(unit, generation, pull, rows, print)| {
            let fingerprint: Fingerprint = print.parse().unwrap_or_default();
            let last = LastLoad { generation: number(generation), pull: number(pull), rows: number(rows), fingerprint };
            (UnitKey::stored(&unit), last)
        })
        .collect())
}

/// Says of each unit whether its new rows are to be written.
async fn judge(
    session: &mut Session,
    commit: &Commit,
    pending: &[&UnitCommit],
    reconciled: &Reconciled,
    exists: bool,
) -> Result<Vec<crate::warehouse::UnitCommitted>> {
    let digests = match commit.rows {
        NewRows::Query { .. } => computed::fingerprints(session, commit, reconciled).await?,
        NewRows::Staged { .. } => Vec::new(),
    };
    let of = |unit: &UnitCommit| {
        let found = digests.iter().find(|(key, ..)| *key == unit.key || commit.grain.is_none());
        unit.staged.unwrap_or_else(|| found.map(|(_, rows, print)| (*rows, *print)).unwrap_or_default())
    };
    Ok(pending
        .iter()
        .map(|unit| {
            let (rows, fingerprint) = of(unit);
            verdict::judge(unit, rows, fingerprint, exists)
        })
        .collect())
}

/// What is known once it is decided that rows are written.
struct Work<'c> {
    commit: &'c Commit,
    written: Vec<&'c UnitCommit>,
    before: Option<Table>,
    computed: Option<Table>,
    reconciled: Reconciled,
}

impl Work<'_> {
    fn is_new(&self) -> bool {
        self.reconciled.changes.contains(&SchemaChange::Create)
    }

    /// Whether old rows are to be compared with the new ones.
    fn has_old(&self) -> bool {
        let had_rows = |unit: &&UnitCommit| unit.previous.as_ref().is_some_and(|old| old.rows > 0);
        self.before.is_some() && self.written.iter().any(had_rows)
    }

    /// The column that divides the table, if it is not the unit.
    fn column(&self) -> Option<(&str, crate::time::Grain)> {
        let divided = self.before.as_ref().is_none_or(|table| table.divided.is_some());
        match &self.commit.layout.partition {
            Partition::Column { name, grain } if divided => Some((name, *grain)),
            _ => None,
        }
    }

    /// Whether staged rows can go into the table at once, without a look at them before.
    fn is_direct(&self, types: &[String]) -> bool {
        !self.has_old()
            && self.commit.checks.is_empty()
            && !matches!(self.commit.write, Write::Merge { .. })
            && self.column().is_none()
            && !types.iter().any(|data_type| Encode::of(data_type) == Encode::Cast)
    }
}

/// Checks the new rows and puts them where the old ones were.
async fn put(session: &mut Session, work: &Work<'_>, committed: &mut Committed) -> Result<()> {
    let Work { commit, before, computed, reconciled, .. } = work;
    let types = table::kept_types(before.as_ref(), computed.as_ref(), reconciled);
    table::apply(session, commit, before.as_ref(), reconciled, &types).await?;
    if work.is_new() && matches!(commit.layout.partition, Partition::Unit(_)) && commit.grain.is_some() {
        partition::create(session, &commit.table, &partition::of_units(commit)).await?;
    }
    let relation = POSTGRES.relation(&commit.table);
    if computed.is_none() && work.is_direct(&types) {
        for unit in &work.written {
            added_all(unit, committed);
        }
        remove(session, work, None).await?;
        let unit_type = unit_type(work);
        let rows =
            copy::run(session, commit, &work.written, (&reconciled.kept, &types), (&relation, unit_type)).await?;
        assert_complete(work, rows)?;
    } else {
        let fresh = gather(session, work, &types).await?;
        if let Write::Merge { keys, newest_by } = &commit.write {
            fresh.one_row_a_key(session, keys, newest_by.as_deref()).await?;
        }
        check(session, work, &fresh, committed).await?;
        count_changes(session, work, &fresh, committed).await?;
        if let Some((name, grain)) = work.column() {
            divide(session, work, name, grain).await?;
        }
        remove(session, work, Some(&fresh)).await?;
        insert(session, work, &fresh).await?;
    }
    if work.is_new() {
        committed.warnings.extend(table::index(session, commit, reconciled).await?);
    }
    Ok(())
}

fn unit_type<'w>(work: &'w Work<'_>) -> Option<&'w str> {
    let grain = work.commit.grain?;
    let own = work.before.as_ref().and_then(|table| table.unit.as_deref());
    Some(own.unwrap_or(POSTGRES.unit_type(grain)))
}

/// The new rows in a temporary table, with the types of the table.
async fn gather(session: &mut Session, work: &Work<'_>, types: &[String]) -> Result<Fresh> {
    let Work { commit, before, computed, reconciled, .. } = work;
    if let Some(computed) = computed {
        return Ok(Fresh::of(computed, before.as_ref(), reconciled, types, true));
    }
    // Of a type that only the server can read, the rows have texts at first.
    let cast = |data_type: &String| Encode::of(data_type) == Encode::Cast;
    let sent: Vec<String> =
        types.iter().map(|data_type| if cast(data_type) { "text".to_owned() } else { data_type.clone() }).collect();
    fresh::create(session, commit, before.as_ref(), reconciled, &sent).await?;
    let relation = format!("pg_temp.{NEW_ROWS}");
    let rows =
        copy::run(session, commit, &work.written, (&reconciled.kept, types), (&relation, unit_type(work))).await?;
    assert_complete(work, rows)?;
    for (staged, data_type) in reconciled.kept.iter().zip(types).filter(|(_, data_type)| cast(data_type)) {
        let name = POSTGRES.ident(&staged.column.name);
        let sql = format!("ALTER TABLE {relation} ALTER COLUMN {name} TYPE {data_type} USING {name}::{data_type}");
        session.batch(&format!("reading the column {name} as {data_type}"), &sql).await?;
    }
    let new = table::read_new(session).await?;
    Ok(Fresh::of(&new, before.as_ref(), reconciled, types, false))
}

/// Creates the partitions that rows of a table need that is divided by one of its columns.
async fn divide(session: &mut Session, work: &Work<'_>, name: &str, grain: crate::time::Grain) -> Result<()> {
    let table = &work.commit.table;
    let source = work.reconciled.kept.iter().find(|staged| staged.column.name == name);
    let source = match (source, &work.computed) {
        (Some(staged), Some(_)) => staged.source.as_str(),
        (Some(staged), None) => staged.column.name.as_str(),
        (None, _) => return Ok(()),
    };
    if work.is_new() {
        partition::create_rest(session, table).await?;
    }
    partition::lock(session, table).await?;
    let wanted = partition::of_rows(session, source, grain).await?;
    let missing = partition::missing(session, table, wanted).await?;
    partition::create(session, table, &missing).await
}

/// Runs every check; a failed one stops the commit, or is told, as it says itself.
async fn check(session: &mut Session, work: &Work<'_>, fresh: &Fresh, committed: &mut Committed) -> Result<()> {
    let new = format!("pg_temp.{NEW_ROWS}");
    for check in &work.commit.checks {
        let found = match Asked::of(&POSTGRES, check, &new, |name| fresh.has(name), &work.written, committed) {
            Asked::Known(fault) => fault,
            Asked::Rows { sql, missing } => {
                let (wrong, sample) = wrong_rows(session, check, &sql).await?;
                fault(wrong, missing.as_deref(), &sample)
            }
        };
        settle(check, found, committed)?;
    }
    Ok(())
}

/// How many rows a check's SELECT has, and the first of them as JSON.
async fn wrong_rows(session: &mut Session, check: &BoundCheck, sql: &str) -> Result<(u64, Vec<String>)> {
    let doing = format!("running the check `{}`", check.name);
    // As one statement: what is smuggled in behind a semicolon is refused.
    let count = format!("SELECT count(*) FROM (\n{sql}\n) AS q");
    let asked = sqlx::query_scalar::<_, i64>(AssertSqlSafe(count.as_str())).persistent(false);
    let wrong = asked.fetch_one(&mut session.connection).await;
    let wrong = wrong.map_err(|error| failed_in(&doing, sql, &count, 1, &error))?;
    if wrong == 0 {
        return Ok((0, Vec::new()));
    }
    let some = format!("SELECT row_to_json(q)::text FROM (\n{sql}\n) AS q LIMIT 3");
    let asked = sqlx::query_scalar::<_, String>(AssertSqlSafe(some.as_str())).persistent(false);
    let rows = asked.fetch_all(&mut session.connection).await;
    let rows = rows.map_err(|error| failed_in(&doing, sql, &some, 1, &error))?;
    Ok((u64::try_from(wrong).unwrap_or_default(), rows))
}

/// Where nothing was, all is new; a look at the table would tell no more.
fn added_all(unit: &UnitCommit, committed: &mut Committed) {
    if unit.previous.is_none() {
        return;
    }
    if let Some(own) = committed.units.iter_mut().find(|one| one.key == unit.key) {
        own.changes = Some(Changes { added: own.rows, ..Changes::default() });
    }
}

async fn count_changes(session: &mut Session, work: &Work<'_>, fresh: &Fresh, committed: &mut Committed) -> Result<()> {
    for unit in &work.written {
        let Some(old) = &unit.previous else { continue };
        if old.rows == 0 || !work.has_old() || work.commit.write == Write::Append {
            added_all(unit, committed);
            continue;
        }
        let changes = fresh.changes(session, work.commit, unit).await?;
        if let Some(own) = committed.units.iter_mut().find(|one| one.key == unit.key) {
            own.changes = Some(changes);
        }
    }
    Ok(())
}

/// Removes the rows that the new ones replace.
async fn remove(session: &mut Session, work: &Work<'_>, fresh: Option<&Fresh>) -> Result<()> {
    let relation = POSTGRES.relation(&work.commit.table);
    match (&work.commit.write, fresh) {
        _ if work.is_new() => Ok(()),
        (Write::Append, _) => Ok(()),
        (Write::Replace, _) => {
            let bounds = units::condition(&POSTGRES, work.commit, &work.written);
            session.batch("removing the old rows", &format!("DELETE FROM {relation} WHERE {bounds}")).await
        }
        (Write::Full, _) => {
            session.batch("removing the old rows", &format!("DELETE FROM {relation}")).await?;
            table::forget_loads(session, work.commit).await
        }
        (Write::Merge { keys, .. }, Some(fresh)) => fresh.remove_keys(session, work.commit, keys).await,
        (Write::Merge { .. }, None) => Ok(()),
    }
}

async fn insert(session: &mut Session, work: &Work<'_>, fresh: &Fresh) -> Result<()> {
    let mut names: Vec<&str> = fresh.kept.iter().map(|kept| kept.name.as_str()).collect();
    let mut values: Vec<String> = fresh.kept.iter().map(|kept| kept.value.clone()).collect();
    if work.commit.grain.is_some() {
        names.push("_haul_unit");
        values.push("_haul_unit".to_owned());
    }
    names.push("_haul_pull");
    values.push(match work.computed {
        Some(_) => format!("({})::bigint", units::pull(&POSTGRES, &work.written)),
        None => "_haul_pull".to_owned(),
    });
    let sql = format!(
        "INSERT INTO {} ({}) SELECT {} FROM pg_temp.{NEW_ROWS}",
        POSTGRES.relation(&work.commit.table),
        names.join(", "),
        values.join(", ")
    );
    let inserted = sqlx::raw_sql(AssertSqlSafe(sql.as_str())).execute(&mut session.connection).await;
    inserted.map(drop).map_err(|error| super::fault::failed_rows("inserting the new rows", &error))
}

/// Refuses a stage whose files have other rows than its manifest: they were changed since.
fn assert_complete(work: &Work<'_>, sent: u64) -> Result<()> {
    let NewRows::Staged { files, .. } = &work.commit.rows else { return Ok(()) };
    let expected: u64 = work.written.iter().filter_map(|unit| unit.staged).map(|(rows, _)| rows).sum();
    if sent == expected {
        return Ok(());
    }
    let folder = files.first().and_then(|file| file.parent()).and_then(|folder| folder.parent());
    let folder = folder.map(|folder| folder.display().to_string()).unwrap_or_default();
    Err(Error::new(Kind::Storage, format!("the stage has {sent} rows, its manifest says {expected}"))
        .hint(format!("its files were changed since it was sealed; remove the folder {folder} and pull again")))
}

/// Writes the loads into `_haul_loads`.
async fn record(session: &mut Session, work: &Work<'_>, committed: &Committed) -> Result<()> {
    let Work { commit, written, .. } = work;
    let text = |text: &str| POSTGRES.literal(text);
    let mut rows = Vec::new();
    for unit in written {
        let Some(own) = committed.units.iter().find(|one| one.key == unit.key) else { continue };
        rows.push(format!(
            "({}, {}, {}, {}, {}, {}, {}, {}, {}::timestamptz)",
            text(&commit.table.to_string()),
            text(unit.key.as_str()),
            unit.pull,
            unit.generation,
            own.rows,
            text(&own.fingerprint.to_string()),
            unit.inputs.as_deref().map_or_else(|| "NULL".to_owned(), text),
            text(&commit.run),
            text(&commit.at.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()),
        ));
    }
    // A unit whose table was dropped comes again under the generation that it had.
    let sql = format!(
        "INSERT INTO {} VALUES {} ON CONFLICT (table_name, unit, generation) DO UPDATE SET pull = excluded.pull, \
         rows = excluded.rows, fingerprint = excluded.fingerprint, inputs = excluded.inputs, run = excluded.run, \
         committed_at = excluded.committed_at",
        POSTGRES.loads_of(&commit.table),
        rows.join(", ")
    );
    session.batch("writing _haul_loads", &sql).await
}

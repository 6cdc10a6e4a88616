//! The new rows beside the table: how their columns become the table's, and what they change there.

use sqlx::Row;

use super::fault::failed;
use super::session::Session;
use super::table::Table;
use crate::error::{Error, Kind, Result};
use crate::model::ledger::Changes;
use crate::model::pipeline::Write;
use crate::model::schema::{Column, LogicalType, Reconciled};
use crate::warehouse::dialect::POSTGRES;
use crate::warehouse::units::{absent, condition};
use crate::warehouse::{Commit, NEW_ROWS, UnitCommit};

/// One column that the table gets from the new rows.
pub(super) struct Kept {
    /// Its name in the table, quoted.
    pub name: String,
    /// Its name among the new rows, quoted.
    pub source: String,
    /// The value as the table has it.
    pub value: String,
    /// Whether the server can say that two of its values are equal.
    comparable: bool,
}

/// The new rows in their temporary table.
pub(super) struct Fresh {
    pub kept: Vec<Kept>,
    /// The table's columns that they do not have, quoted, with their types.
    absent: Vec<(String, String)>,
    /// The names of their columns.
    names: Vec<String>,
}

impl Fresh {
    /// What lies in the temporary table, whose columns are those of `new`; `types` are those of the kept columns.
    pub fn of(new: &Table, before: Option<&Table>, reconciled: &Reconciled, types: &[String], computed: bool) -> Self {
        let kept = reconciled.kept.iter().zip(types).map(|(staged, data_type)| {
            let own = if computed { &staged.source } else { &staged.column.name };
            let source = POSTGRES.ident(own);
            let value = match new.type_of(own) {
                Some(same) if same == data_type => source.clone(),
                Some(text) if data_type == "jsonb" && text != "json" => format!("to_jsonb({source})"),
                _ => format!("{source}::{data_type}"),
            };
            let comparable = !matches!(data_type.as_str(), "json" | "xml");
            Kept { name: POSTGRES.ident(&staged.column.name), source, value, comparable }
        });
        let kept: Vec<Kept> = kept.collect();
        let missing = absent(before.map(|table| &table.schema), reconciled);
        let absent = missing.map(|column| {
            let data_type = before.and_then(|table| table.type_of(&column.name)).unwrap_or("text");
            (POSTGRES.ident(&column.name), data_type.to_owned())
        });
        let names = new.schema.columns.iter().map(|column| column.name.clone()).collect();
        Self { kept, absent: absent.collect(), names }
    }

    /// Whether the rows have a column of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|column| column.eq_ignore_ascii_case(name))
    }

    /// The columns of `keys`: quoted among the new rows, and in the table.
    fn keys(&self, keys: &[String]) -> Option<Vec<(&str, &str)>> {
        let of = |key: &String| {
            let quoted = POSTGRES.ident(key);
            let found = self.kept.iter().find(|kept| kept.name.eq_ignore_ascii_case(&quoted))?;
            Some((found.source.as_str(), found.name.as_str()))
        };
        keys.iter().map(of).collect()
    }

    /// The values of a row as they are compared: of the new rows, and of the table, which is called `prefix`.
    fn compared(&self, prefix: &str) -> (String, String) {
        let text = |value: &str, comparable: bool| if comparable { value.to_owned() } else { format!("{value}::text") };
        let mut new: Vec<String> = self.kept.iter().map(|kept| text(&kept.value, kept.comparable)).collect();
        let own = |name: &str| format!("{prefix}{name}");
        let mut old: Vec<String> = self.kept.iter().map(|kept| text(&own(&kept.name), kept.comparable)).collect();
        for (name, data_type) in &self.absent {
            let comparable = !matches!(data_type.as_str(), "json" | "xml");
            new.push(text(&format!("NULL::{data_type}"), comparable));
            old.push(text(&own(name), comparable));
        }
        (new.join(", "), old.join(", "))
    }

    /// What the new rows of a unit change against the old ones.
    pub async fn changes(&self, session: &mut Session, commit: &Commit, unit: &UnitCommit) -> Result<Changes> {
        if self.kept.is_empty() && self.absent.is_empty() {
            return Ok(Changes::default());
        }
        let doing = "counting what changed";
        let (bounds, relation) = (condition(&POSTGRES, commit, &[unit]), POSTGRES.relation(&commit.table));
        let (new, old) = self.compared("");
        let new = format!("SELECT {new} FROM pg_temp.{NEW_ROWS} WHERE {bounds}");
        if let Write::Merge { keys, .. } = &commit.write {
            // A merge takes nothing away, and a key's old row may lie in any unit.
            return self.merged(session, commit, unit, keys).await;
        }
        let old = format!("SELECT {old} FROM {relation} WHERE {bounds}");
        let sql = format!(
            "SELECT (SELECT count(*) FROM ({new} EXCEPT ALL {old}) AS a), (SELECT count(*) FROM ({old} EXCEPT ALL {new}) AS r)"
        );
        let rows = session.rows(doing, &sql).await?;
        let pair = rows.first().map(|row| Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?)));
        let (added, removed) = pair.transpose().map_err(|error| failed(doing, &error))?.unwrap_or_default();
        let (added, removed) = (u64::try_from(added).unwrap_or_default(), u64::try_from(removed).unwrap_or_default());
        // A key that neither rows nor table have tells nothing apart.
        let keys = self.keys(&commit.keys).filter(|keys| !keys.is_empty() && added > 0 && removed > 0);
        let Some(keys) = keys else { return Ok(Changes { added, removed, changed: 0 }) };
        let places: Vec<String> = keys
            .iter()
            .filter_map(|(_, name)| self.kept.iter().position(|kept| kept.name == *name))
            .map(|place| format!("c{place}"))
            .collect();
        let columns: Vec<String> = (0..self.kept.len() + self.absent.len()).map(|place| format!("c{place}")).collect();
        let (list, columns) = (places.join(", "), columns.join(", "));
        let sql = format!(
            "SELECT count(*) FROM (SELECT {list} FROM ({new} EXCEPT ALL {old}) AS a({columns}) \
             INTERSECT SELECT {list} FROM ({old} EXCEPT ALL {new}) AS r({columns})) AS same"
        );
        let changed = session.number(doing, &sql).await?;
        Ok(Changes { added: added.saturating_sub(changed), removed: removed.saturating_sub(changed), changed })
    }

    async fn merged(
        &self,
        session: &mut Session,
        commit: &Commit,
        unit: &UnitCommit,
        keys: &[String],
    ) -> Result<Changes> {
        let doing = "counting what changed";
        let same = self.same_keys(session, keys, "o").await?;
        let (bounds, relation) = (condition(&POSTGRES, commit, &[unit]), POSTGRES.relation(&commit.table));
        let (new, old) = self.compared("o.");
        let old_row = format!("(SELECT 1 FROM {relation} AS o WHERE {same}");
        // The values of a row stand side by side as one value, so that nulls are equal to nulls.
        let equal = format!("ROW({old}) IS NOT DISTINCT FROM n._haul_row");
        let sql = format!(
            "SELECT count(*) FILTER (WHERE NOT EXISTS {old_row})), \
             count(*) FILTER (WHERE EXISTS {old_row}) AND NOT EXISTS {old_row} AND {equal})) \
             FROM (SELECT *, ROW({new}) AS _haul_row FROM pg_temp.{NEW_ROWS}) AS n WHERE {bounds}"
        );
        let rows = session.rows(doing, &sql).await?;
        let pair = rows.first().map(|row| Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?)));
        let (added, changed) = pair.transpose().map_err(|error| failed(doing, &error))?.unwrap_or_default();
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(Changes { added: count(added), removed: 0, changed: count(changed) })
    }

    /// The condition under which a row of the table, called `old`, has the keys of the new row `n`.
    ///
    /// Only an equality lets the server find rows by an index or a hash; null is a key like any other, and needs more.
    async fn same_keys(&self, session: &mut Session, keys: &[String], old: &str) -> Result<String> {
        let doing = "looking at the keys of the new rows";
        let Some(keys) = self.keys(keys) else { return Ok("false".to_owned()) };
        let nulls: Vec<String> =
            keys.iter().map(|(source, _)| format!("coalesce(bool_or({source} IS NULL), false)")).collect();
        let rows = session.rows(doing, &format!("SELECT {} FROM pg_temp.{NEW_ROWS}", nulls.join(", "))).await?;
        let mut same = Vec::new();
        for (place, (source, name)) in keys.iter().enumerate() {
            let has_null = rows.first().map(|row| row.try_get(place)).transpose();
            let has_null: bool = has_null.map_err(|error| failed(doing, &error))?.unwrap_or_default();
            let equal = if has_null { "IS NOT DISTINCT FROM" } else { "=" };
            same.push(format!("{old}.{name} {equal} n.{source}"));
        }
        Ok(same.join(" AND "))
    }

    /// Leaves one new row of each key.
    ///
    /// # Errors
    /// A key that no row has as a column, or several different rows of one key of which none is the newest.
    pub async fn one_row_a_key(&self, session: &mut Session, keys: &[String], newest_by: Option<&str>) -> Result<()> {
        let new = format!("pg_temp.{NEW_ROWS}");
        if session.number("counting rows", &format!("SELECT count(*) FROM (SELECT 1 FROM {new} LIMIT 1) AS n")).await?
            == 0
        {
            return Ok(());
        }
        let newest_key: Vec<String> = newest_by.map(str::to_owned).into_iter().collect();
        let missing = keys.iter().chain(&newest_key).find(|name| self.keys(std::slice::from_ref(*name)).is_none());
        let (Some(columns), None) = (self.keys(keys), missing) else {
            let name = missing.map(String::as_str).unwrap_or_default();
            return Err(Error::new(Kind::Data, format!("the new rows have no column `{name}`"))
                .hint("`keys` and `newest_by` name columns that every row has"));
        };
        let list: Vec<&str> = columns.iter().map(|(source, _)| *source).collect();
        let list = list.join(", ");
        let doubled =
            format!("SELECT count(*) FROM (SELECT 1 FROM {new} GROUP BY {list} HAVING count(*) > 1 LIMIT 1) AS d");
        if session.number("looking for keys that come twice", &doubled).await? == 0 {
            return Ok(());
        }
        let all: Vec<String> = self
            .kept
            .iter()
            .map(|kept| if kept.comparable { kept.source.clone() } else { format!("{}::text", kept.source) })
            .collect();
        let mut sql = format!(
            "DELETE FROM {new} AS n USING (SELECT ctid, row_number() OVER (PARTITION BY {}) AS nth FROM {new}) AS d \
             WHERE n.ctid = d.ctid AND d.nth > 1",
            all.join(", ")
        );
        if let Some(newest) =
            self.keys(&newest_key).and_then(|found| found.first().map(|(source, _)| (*source).to_owned()))
        {
            // Rows that are equally new stay, so that they are told and not chosen by chance.
            sql.push_str(&format!(
                "; DELETE FROM {new} AS n USING (SELECT ctid, rank() OVER (PARTITION BY {list} ORDER BY {newest} DESC NULLS LAST) \
                 AS nth FROM {new}) AS d WHERE n.ctid = d.ctid AND d.nth > 1"
            ));
        }
        session.batch("leaving one row of each key", &sql).await?;
        let twice = format!(
            "SELECT row_to_json(k)::text FROM (SELECT {list} FROM {new} GROUP BY {list} HAVING count(*) > 1) AS k ORDER BY 1 LIMIT 1"
        );
        let rows = session.rows("looking for keys that come twice", &twice).await?;
        match rows.first().map(|row| row.try_get::<String, _>(0)) {
            None => Ok(()),
            Some(key) => {
                Err(Error::new(Kind::Data, format!("several different rows have the key {}", key.unwrap_or_default()))
                    .hint("`newest_by` names the column that tells which of them is the newest"))
            }
        }
    }

    /// Removes the old rows whose keys the new rows have.
    pub async fn remove_keys(&self, session: &mut Session, commit: &Commit, keys: &[String]) -> Result<()> {
        if self.keys(keys).is_none() {
            return Ok(());
        }
        let same = self.same_keys(session, keys, "o").await?;
        let relation = POSTGRES.relation(&commit.table);
        let sql = format!("DELETE FROM {relation} AS o USING pg_temp.{NEW_ROWS} AS n WHERE {same}");
        session.batch("removing the rows of the new keys", &sql).await
    }
}

/// The temporary table of staged rows: the table's columns, also those that no row has.
pub(super) async fn create(
    session: &mut Session,
    commit: &Commit,
    before: Option<&Table>,
    reconciled: &Reconciled,
    types: &[String],
) -> Result<()> {
    let mut columns: Vec<String> = reconciled
        .kept
        .iter()
        .zip(types)
        .map(|(staged, data_type)| format!("{} {data_type}", POSTGRES.ident(&staged.column.name)))
        .collect();
    let missing = absent(before.map(|table| &table.schema), reconciled);
    columns.extend(missing.map(|column: &Column| {
        let data_type = before.and_then(|table| table.type_of(&column.name)).map(str::to_owned);
        let data_type = data_type.unwrap_or_else(|| POSTGRES.type_of(&LogicalType::Text));
        format!("{} {data_type}", POSTGRES.ident(&column.name))
    }));
    columns.extend(commit.grain.map(|grain| {
        let own = before.and_then(|table| table.unit.as_deref());
        format!("_haul_unit {}", own.unwrap_or(POSTGRES.unit_type(grain)))
    }));
    columns.push("_haul_pull bigint".to_owned());
    let sql = format!("CREATE TEMP TABLE {NEW_ROWS} ({}) ON COMMIT DROP", columns.join(", "));
    session.batch("making room for the new rows", &sql).await
}

//! What a system that bills by bytes would take for a statement, and what it took for a job.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::name::TableName;
use crate::error::{Error, Result};
use crate::time::{Instant, UnitKey};

/// Bytes of one TiB, by which BigQuery's list prices are told.
const TIB: u128 = 1 << 40;

/// BigQuery bills whole MiB.
const MIB: u64 = 1 << 20;

/// BigQuery bills at least this much for a statement that reads anything, and for each table that it names.
///
/// The price list calls it 10 MB; its own error says `10485760 or higher required`.
pub const LEAST_BILLED: u64 = 10 * MIB;

/// A price for bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tariff {
    /// Millionths of the currency for 2^40 bytes.
    pub micros_per_tib: u64,
    /// The currency, in three letters.
    pub currency: String,
}

impl Default for Tariff {
    /// BigQuery's public list price for queries on demand: 6.25 USD per TiB in the US and EU multi-regions, as
    /// <https://cloud.google.com/bigquery/pricing> told it in October 2026. Other regions cost more, reservations are billed
    /// by their slots, and the first TiB of a month is free for each billing account: that is not known here.
    fn default() -> Self {
        Self { micros_per_tib: 6_250_000, currency: "USD".to_owned() }
    }
}

impl Tariff {
    /// Reads `6.25 USD`.
    ///
    /// # Errors
    /// A text that is no amount with at most six decimals and a currency of three letters.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::config(format!("`{text}` is no price")).hint("a price looks like \"6.25 USD\"");
        let (amount, currency) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        let currency = currency.trim().to_uppercase();
        let (whole, decimals) = amount.split_once('.').unwrap_or((amount, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let named = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
        if whole.is_empty() || decimals.len() > 6 || !digits(whole) || !digits(decimals) || !named {
            return Err(wrong());
        }
        let micros = format!("{whole}{decimals:0<6}").parse().map_err(|_| wrong())?;
        Ok(Self { micros_per_tib: micros, currency })
    }

    /// What so many billed bytes cost.
    pub fn of(&self, billed: u64) -> Money {
        let micros = (u128::from(billed) * u128::from(self.micros_per_tib) + TIB / 2) / TIB;
        Money { micros: u64::try_from(micros).unwrap_or(u64::MAX), currency: self.currency.clone() }
    }
}

impl fmt::Display for Tariff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:06}", self.micros_per_tib % 1_000_000);
        let decimals = decimals.trim_end_matches('0');
        write!(f, "{}.{decimals:0<2} {} per TiB", self.micros_per_tib / 1_000_000, self.currency)
    }
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Millionths of the currency.
    pub micros: u64,
    /// The currency, in three letters.
    pub currency: String,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.micros {
            0 => "0".to_owned(),
            1..50 => "<0.0001".to_owned(),
            50..1_000_000 => format!("0.{:04}", (self.micros + 50) / 100),
            micros => {
                let cents = (micros + 5_000) / 10_000;
                format!("{}.{:02}", cents / 100, cents % 100)
            }
        };
        f.pad(&format!("{text} {}", self.currency))
    }
}

/// Amounts of money, one of each currency, in the order of their names; as JSON `{"USD": 0.0061}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sum(BTreeMap<String, u64>);

impl Sum {
    /// Adds an amount.
    pub fn add(&mut self, money: &Money) {
        let sum = self.0.entry(money.currency.clone()).or_default();
        *sum = sum.saturating_add(money.micros);
    }
}

impl Sum {
    /// All digits that there are: `0.006104 USD`.
    pub fn exact(&self) -> String {
        let amount = |(currency, micros): (&String, &u64)| {
            format!("{}.{:06} {currency}", micros / 1_000_000, micros % 1_000_000)
        };
        self.0.iter().map(amount).collect::<Vec<_>>().join(" + ")
    }
}

impl Serialize for Sum {
    #[expect(clippy::cast_precision_loss, reason = "millionths below 2^52 are exact, and no bill comes near that")]
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(currency, micros)| (currency, *micros as f64 / 1e6)))
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amounts: Vec<String> = self
            .0
            .iter()
            .map(|(currency, micros)| Money { micros: *micros, currency: currency.clone() }.to_string())
            .collect();
        f.pad(&amounts.join(" + "))
    }
}

/// A number of bytes for people, in powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let step = (self.0.ilog2() / 10).min(6);
        let unit = 1u128 << (10 * step);
        // Hundredths, rounded; 1023.999 GiB is told as 1024.00 GiB.
        let hundredths = (u128::from(self.0) * 100 + unit / 2) / unit;
        let name = UNITS[step as usize - 1];
        f.pad(&format!("{}.{:02} {name}", hundredths / 100, hundredths % 100))
    }
}

/// What work would be billed for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Price {
    /// The bytes that it would read, as a dry run tells them.
    pub processed: u64,
    /// The bytes that it would be billed for.
    pub billed: u64,
}

impl Price {
    /// Of a statement that reads so many bytes of so many tables: whole MiB, and at least [`LEAST_BILLED`] a table.
    pub fn of_statement(processed: u64, tables: u64) -> Self {
        if processed == 0 {
            return Self::default();
        }
        let whole = processed.div_ceil(MIB).saturating_mul(MIB);
        Self { processed, billed: whole.max(LEAST_BILLED.saturating_mul(tables.max(1))) }
    }

    /// Of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { processed: self.processed + other.processed, billed: self.billed + other.billed }
    }
}

/// What a task is going to be billed for, as far as that can be told before it begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Expected {
    /// Nothing of it is billed by bytes.
    #[default]
    Free,
    /// So much.
    Priced(Quote),
    /// Nothing, since the source is as it was when its rows were loaded.
    Spared,
    /// It is billed, but for how much cannot be told yet, and why.
    Unknown(String),
}

/// What work would be billed for, and what that costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// All its statements together.
    pub price: Price,
    /// What the largest of its statements would be billed for.
    pub largest: u64,
    /// What bytes cost there.
    pub tariff: Tariff,
    /// In which state the source is, where that is known for nothing: the same text at another time means the same rows.
    pub state: Option<String>,
}

impl Quote {
    /// Of these statements.
    pub fn of(statements: &[Price], tariff: Tariff, state: Option<String>) -> Self {
        Self {
            price: statements.iter().fold(Price::default(), |sum, one| sum.and(*one)),
            largest: statements.iter().map(|one| one.billed).max().unwrap_or(0),
            tariff,
            state,
        }
    }

    /// What it costs.
    pub fn money(&self) -> Money {
        self.tariff.of(self.price.billed)
    }
}

/// The most bytes that may be billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// So many.
    pub bytes: u64,
    /// Who says so.
    pub scope: LimitScope,
}

/// Whose limit one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// A statement's: the `max_bytes` of a step.
    Step,
    /// A run's: the `max_bytes` of a pipeline.
    Pipeline,
    /// A run's: the `max_bytes` of `haul.toml`.
    Project,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] =
            [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)];
        // As people write it, where that is what they wrote.
        match UNITS.iter().find(|(_, unit)| self.bytes.is_multiple_of(*unit)) {
            Some((name, unit)) => f.pad(&format!("{} {name} ({})", self.bytes / unit, Bytes(self.bytes))),
            None => f.pad(&Bytes(self.bytes).to_string()),
        }
    }
}

/// What kind of work a job did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// A statement, which is billed by the bytes that it reads.
    Query,
    /// A statement that only looks whether anything has changed; billed alike.
    Probe,
    /// Rows that were loaded, which is free.
    Load,
}

/// What a job took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobCost {
    /// The job's name, which no other job of its project has.
    pub job: String,
    /// What it did.
    pub kind: JobKind,
    /// The bytes that it read.
    pub processed: u64,
    /// The bytes that it was billed for.
    pub billed: u64,
    /// The time that its slots were busy, in milliseconds: what reservations are billed by.
    pub slot_ms: u64,
    /// Whether the result was there already, which costs nothing.
    pub cache_hit: bool,
    /// What bytes cost there.
    pub tariff: Tariff,
}

/// Takes what the jobs of one task took, as they end, whatever becomes of the task. Clones tell the same.
#[derive(Clone, Default)]
pub struct Receipts {
    told: Option<Arc<dyn Fn(Receipt) + Send + Sync>>,
}

/// Under which terms statements that are billed by bytes are sent.
#[derive(Debug, Clone, Default)]
pub struct Billing {
    /// The most bytes that each may be billed for: one that would be billed for more fails without being run.
    pub max_bytes: Option<u64>,
    /// Who is told what each was billed for.
    pub receipts: Receipts,
}

/// What a job tells of what it took.
#[derive(Debug, Clone)]
pub enum Receipt {
    /// This much.
    Paid(JobCost),
    /// Nothing: it has done its work, but what it was billed for could not be asked.
    Missing {
        /// The job's name.
        job: String,
        /// Why.
        reason: String,
    },
}

impl Receipts {
    /// Receipts that are told to somebody.
    pub fn told(to: impl Fn(Receipt) + Send + Sync + 'static) -> Self {
        Self { told: Some(Arc::new(to)) }
    }

    /// Tells what a job took.
    pub fn add(&self, cost: JobCost) {
        if let Some(told) = &self.told {
            told(Receipt::Paid(cost));
        }
    }

    /// Tells that what a job took is not known.
    pub fn miss(&self, job: &str, reason: &str) {
        if let Some(told) = &self.told {
            told(Receipt::Missing { job: job.to_owned(), reason: reason.to_owned() });
        }
    }

    /// Whether anybody wants to know.
    pub fn wanted(&self) -> bool {
        self.told.is_some()
    }
}

impl fmt::Debug for Receipts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipts(wanted: {})", self.wanted())
    }
}

/// What dry runs told, so that no statement is asked for twice within a plan. Clones know the same.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    known: Arc<Mutex<HashMap<String, Price>>>,
}

impl Prices {
    /// What is known of a statement.
    pub fn get(&self, statement: &str) -> Option<Price> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(statement).copied()
    }

    /// Keeps what was told of a statement.
    pub fn put(&self, statement: String, price: Price) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(statement, price);
    }
}

/// Whose work a job was, or whose work was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The run.
    pub run: String,
    /// The pipeline.
    pub pipeline: String,
    /// The step.
    pub step: String,
    /// The table that the step writes.
    pub table: TableName,
    /// The units that it was for, in their order.
    pub units: Vec<UnitKey>,
    /// When it ended.
    pub at: Instant,
}

/// By what costs are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostsBy {
    /// By pipeline.
    Pipeline,
    /// By table.
    Table,
    /// By the day of the bill, in UTC.
    Day,
    /// By pipeline and step.
    Step,
}

/// Which costs are wanted.
#[derive(Debug, Clone)]
pub struct CostsAsk {
    /// Only of this pipeline.
    pub pipeline: Option<String>,
    /// Only since then.
    pub since: Instant,
    /// By what they are put together.
    pub by: CostsBy,
}

/// What was billed and what was saved, of one pipeline, table, day or step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CostLine {
    /// The pipeline, table, day or step.
    pub name: String,
    /// The bytes that were read.
    pub processed_bytes: u64,
    /// The bytes that were billed.
    pub billed_bytes: u64,
    /// What that costs, at the prices of its time.
    pub money: Sum,
    /// Jobs that are billed by bytes.
    pub jobs: u64,
    /// Of these, the jobs whose result was there already.
    pub cache_hits: u64,
    /// The time that slots were busy, in milliseconds.
    pub slot_ms: u64,
    /// Jobs that are free, which the other numbers do not have: loads.
    pub free_jobs: u64,
    /// Units that were not read or computed again, since nothing had changed.
    pub spared_units: u64,
    /// The bytes that these were billed for when they were last read or computed.
    pub saved_bytes: u64,
    /// What that would have cost.
    pub saved_money: Sum,
}

impl CostLine {
    /// Adds another line to this one.
    pub fn add(&mut self, other: &Self) {
        self.processed_bytes += other.processed_bytes;
        self.billed_bytes += other.billed_bytes;
        self.jobs += other.jobs;
        self.cache_hits += other.cache_hits;
        self.slot_ms += other.slot_ms;
        self.free_jobs += other.free_jobs;
        self.spared_units += other.spared_units;
        self.saved_bytes += other.saved_bytes;
        for (sum, other) in [(&mut self.money, &other.money), (&mut self.saved_money, &other.saved_money)] {
            for (currency, micros) in &other.0 {
                sum.add(&Money { micros: *micros, currency: currency.clone() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_read_and_told_as_it_is_written() {
        let tariff =
            |text: &str| Tariff::parse(text).map(|tariff| tariff.to_string()).map_err(|error| error.to_string());
        assert_eq!(tariff("6.25 USD").as_deref(), Ok("6.25 USD per TiB"));
        assert_eq!(tariff("7 eur").as_deref(), Ok("7.00 EUR per TiB"));
        assert_eq!(tariff("0 USD").as_deref(), Ok("0.00 USD per TiB"));
        for wrong in ["6.25", "USD", "$6.25", "-1 USD", "6.25 dollars", "6,25 USD", ". USD", "1.2345678 USD"] {
            assert!(tariff(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_are_billed_by_whole_mebibytes_and_ten_of_them_a_table_at_least() {
        let billed = |processed, tables| Price::of_statement(processed, tables).billed / MIB;
        assert_eq!([billed(0, 3), billed(1, 1), billed(1, 0), billed(1, 2)], [0, 10, 10, 20]);
        // As a job of 13 tables was billed: 163595928 bytes read, `164626432 or higher required`.
        assert_eq!(Price::of_statement(163_595_928, 13).billed, 164_626_432);
    }

    #[test]
    fn money_is_told_with_as_many_digits_as_it_needs() {
        let told = |billed: u64| Tariff::default().of(billed).to_string();
        assert_eq!(told(1 << 40), "6.25 USD");
        assert_eq!(told(1 << 30), "0.0061 USD");
        assert_eq!(told(LEAST_BILLED), "0.0001 USD");
        assert_eq!(told(1 << 20), "<0.0001 USD");
        assert_eq!(told(0), "0 USD");
        assert_eq!(told(1_000 << 40), "6250.00 USD");
    }

    #[test]
    fn bytes_and_limits_are_told_in_words_of_people() {
        let told: Vec<String> =
            [0, 1023, 1024, 10 << 20, 12_000_000_000, 1 << 40].map(|b| Bytes(b).to_string()).to_vec();
        assert_eq!(told, ["0 B", "1023 B", "1.00 KiB", "10.00 MiB", "11.18 GiB", "1.00 TiB"]);
        let limit = |bytes| Limit { bytes, scope: LimitScope::Step }.to_string();
        assert_eq!(limit(10_000_000_000), "10 GB (9.31 GiB)");
        assert_eq!(limit(1 << 40), "1.00 TiB");
    }
}

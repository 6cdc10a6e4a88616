//! Counts as people say them.

/// A count with its noun: `1 row`, `2 rows`.
pub fn counted(count: impl Into<u64>, noun: &str) -> String {
    let count = count.into();
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

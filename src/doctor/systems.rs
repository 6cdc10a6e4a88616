//! Other systems: whether connections lead there, who holds a DuckDB file, and how far its clock is from ours.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::Check;
use crate::connections::Connections;
use crate::execute;
use crate::model::connection::ConnectionKind;
use crate::secret::Redactor;
use crate::time::{Clock, Instant};

/// A clock that is further away than this is worth a look; signed requests and tokens take no more than [`WRONG`].
const SKEW: i64 = 30;
const WRONG: i64 = 300;

/// How long a server may take to tell its time.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn connection(
    connections: &Connections,
    name: &str,
    online: bool,
    redactor: &Redactor,
    clock: Clock,
) -> Vec<Check> {
    let resolved = match connections.get(name) {
        Ok(resolved) => resolved,
        Err(error) => {
            let check = Check::fail("connection", name, error.chain());
            return vec![error.hints().into_iter().take(1).fold(check, |check, hint| check.hint(hint))];
        }
    };
    if let ConnectionKind::DuckDb(settings) = &resolved.kind
        && let Some(holder) = holder(&settings.path)
    {
        return vec![
            Check::ok("connection", name, format!("{} is held by {holder}", settings.path.display()))
                .hint("another process cannot open it meanwhile; commands go through `haul serve` where that runs"),
        ];
    }
    if !online {
        return vec![Check::ok("connection", name, format!("{}, not asked", resolved.kind))];
    }
    let mut checks = Vec::new();
    checks.push(match execute::probe(connections, name, redactor, clock).await {
        Ok(probed) => Check::ok("connection", name, format!("{}: {}", probed.kind, probed.answer)),
        Err(error) => {
            let check = Check::fail("connection", name, error.chain());
            error.hints().into_iter().take(1).fold(check, |check, hint| check.hint(hint))
        }
    });
    if let ConnectionKind::Http(settings) = &resolved.kind
        && let Some(theirs) = time_of(&settings.url).await
    {
        checks.extend(skew(name, theirs, clock.now()));
    }
    checks
}

/// The time that a server tells in the head of its answers (RFC 9110, `Date`).
async fn time_of(url: &str) -> Option<Instant> {
    let origin = url::Url::parse(url).ok()?.origin().ascii_serialization();
    let client =
        reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build().ok()?;
    // Without who we are: any answer has a date.
    let answer = client.get(origin).send().await.ok()?;
    let date = answer.headers().get(reqwest::header::DATE)?.to_str().ok()?;
    httpdate::parse_http_date(date).ok().map(Instant::from)
}

fn skew(name: &str, theirs: Instant, ours: Instant) -> Option<Check> {
    let away = (theirs - ours).num_seconds();
    let seen = format!("its clock is {} s {} ours", away.abs(), if away < 0 { "behind" } else { "ahead of" });
    let hint = "let the machine's clock be kept by NTP: signed requests and tokens are refused beyond five minutes";
    match away.abs() {
        0..=SKEW => None,
        value if value <= WRONG => Some(Check::warn("connection", name, seen).hint(hint)),
        _ => Some(Check::fail("connection", name, seen).hint(hint)),
    }
}

/// The process that holds a lock on a file, as Linux tells it: `process 4711 (haul serve)`.
fn holder(path: &Path) -> Option<String> {
    let inode = path.metadata().ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let own = std::process::id();
    let pid = locks.lines().find_map(|line| {
        // `1: POSIX  ADVISORY  WRITE 4711 08:01:1234567 0 EOF`
        let mut words = line.split_whitespace().skip(4);
        let pid: u32 = words.next()?.parse().ok()?;
        let file: u64 = words.next()?.rsplit(':').next()?.parse().ok()?;
        (file == inode && pid != own).then_some(pid)
    })?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = command
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .take(2)
        .map(|word| String::from_utf8_lossy(word).rsplit('/').next().unwrap_or_default().to_owned())
        .collect();
    Some(if words.is_empty() { format!("process {pid}") } else { format!("process {pid} ({})", words.join(" ")) })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_clock_is_worth_a_line_only_when_it_is_away() {
        let at = chrono::DateTime::UNIX_EPOCH;
        let level = |seconds| skew("api", at + chrono::Duration::seconds(seconds), at).map(|check| check.level);
        assert_eq!(
            [level(-30), level(31), level(-300), level(301)],
            [None, Some(Level::Warn), Some(Level::Warn), Some(Level::Fail)]
        );
    }
}

//! When a run that failed is tried again: pure, by the kinds of its errors.

use std::time::Duration;

use crate::error::Kind;
use crate::model::hook::RetryPolicy;

/// Whether what failed by an error of this kind may succeed in a later run with nobody's help.
///
/// Requests and statements were tried again within their run already; here it is about what takes longer: a service that is
/// down, a limit for the hour, a file that another process has locked, a unit that another worker was at.
pub fn passes(kind: Kind) -> bool {
    match kind {
        Kind::Unavailable | Kind::RateLimited | Kind::Storage | Kind::Stale => true,
        Kind::Config
        | Kind::Usage
        | Kind::NothingDue
        | Kind::Template
        | Kind::Connection
        | Kind::Auth
        | Kind::Source
        | Kind::Data
        | Kind::Check
        | Kind::Held
        | Kind::Budget
        | Kind::Warehouse
        | Kind::Cancelled
        | Kind::Internal => false,
    }
}

/// The pause before the next attempt of a run, after so many, by the kinds of what failed in the last one.
///
/// None: nothing of it may pass, or it was tried often enough. The pause has full jitter: it is `draw`, from 0 to 1, of the
/// policy's longest pause after that attempt; many runs that failed together do not come back together.
pub fn next_attempt(policy: &RetryPolicy, attempts: u32, failed: &[Kind], draw: f64) -> Option<Duration> {
    if attempts >= policy.max_attempts || !failed.iter().any(|kind| passes(*kind)) {
        return None;
    }
    Some(policy.ceiling(attempts.max(1)).mul_f64(draw.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::steering::Steering;

    #[test]
    fn what_passes_is_tried_again_with_growing_pauses_until_it_was_often_enough() {
        let policy = Steering::default().retry;
        let longest =
            |attempts| next_attempt(&policy, attempts, &[Kind::Unavailable], 1.0).map(|pause| pause.as_secs());
        assert_eq!([1, 2, 3, 4].map(longest), [Some(60), Some(120), Some(240), None]);
        assert_eq!(next_attempt(&policy, 2, &[Kind::RateLimited], 0.25), Some(Duration::from_secs(30)));
        assert_eq!(next_attempt(&policy, 1, &[Kind::Storage], 0.0), Some(Duration::ZERO));
    }

    #[test]
    fn what_cannot_pass_is_not_tried_again_unless_something_beside_it_can() {
        let policy = Steering::default().retry;
        for kind in [Kind::Config, Kind::Data, Kind::Check, Kind::Auth, Kind::Source, Kind::Budget, Kind::Internal] {
            assert_eq!(next_attempt(&policy, 1, &[kind], 1.0), None, "{kind:?}");
        }
        assert_eq!(next_attempt(&policy, 1, &[], 1.0), None);
        assert!(next_attempt(&policy, 1, &[Kind::Data, Kind::Unavailable], 1.0).is_some());
    }
}

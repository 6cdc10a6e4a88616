//! One look at an API: the status of an answer and what is in it, whatever it says.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::client::{Errand, HttpClient, Silent};
use super::{Manner, auth};
use crate::error::{Kind, Result};
use crate::model::hook::{Request, RetryPolicy};

impl HttpClient {
    /// Asks once, and returns the status with the body of a good answer; no status is a failure, but one that refuses who
    /// we are.
    ///
    /// # Errors
    /// A server that cannot be reached, or that refuses who we are.
    pub async fn look(&self, request: &Request, cancel: &CancellationToken) -> Result<(u16, Bytes)> {
        let (sent, status) = (AtomicU64::new(0), AtomicU16::new(0));
        let (retry, manner) = (RetryPolicy::default(), Manner::default());
        let errand = Errand {
            style: None,
            retry: &retry,
            sink: &Silent,
            cancel,
            sent: &sent,
            flying: &AtomicU64::new(0),
            gate: None,
            rank: 0,
            manner: &manner,
            abroad: false,
            status: &status,
        };
        let mut tried = self.once(request, &errand).await.map(|(answer, _)| answer);
        if let Err(refused) = &tried
            && refused.unauthorized.is_some()
            && auth::renew(&self.inner, refused.unauthorized).await?
        {
            tried = self.once(request, &errand).await.map(|(answer, _)| answer);
        }
        match tried {
            Ok(answer) => Ok((status.load(Ordering::Relaxed).max(200), answer.body)),
            Err(refused) => match refused.error.status() {
                Some(status) if refused.error.kind() != Kind::Auth => Ok((status, Bytes::new())),
                _ => Err(refused.error),
            },
        }
    }
}

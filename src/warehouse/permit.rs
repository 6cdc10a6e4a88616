//! The permit of a commit: asked for once more right before what was written becomes visible.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::runtime::Handle;

use crate::error::Result;

type Ask = Arc<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// Whether who commits may still do so.
///
/// The generations of units decide between two that write. Where the one who was to take over has nothing to write, since
/// somebody cancelled the work, this keeps the one that comes back late from writing alone.
#[derive(Clone, Default)]
pub struct Permit(Option<Ask>);

impl Permit {
    /// A permit that is asked for like this; an error is the refusal.
    pub fn new(ask: impl Fn() -> BoxFuture<'static, Result<()>> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(ask)))
    }

    /// Passes while it holds; one that nobody can take away always does.
    ///
    /// # Errors
    /// It was taken away, or that cannot be told now.
    pub async fn holds(&self) -> Result<()> {
        match &self.0 {
            Some(ask) => ask().await,
            None => Ok(()),
        }
    }

    /// The same for a thread outside of the runtime, by which `runtime` leads to it.
    ///
    /// # Errors
    /// Those of [`Self::holds`].
    pub fn holds_for(&self, runtime: Option<&Handle>) -> Result<()> {
        match (&self.0, runtime) {
            (Some(ask), Some(runtime)) => runtime.block_on(ask()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(if self.0.is_some() { "Permit(asked for)" } else { "Permit(always)" })
    }
}

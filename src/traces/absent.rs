//! What stands in the place of traces in a program that was built without them.

use std::sync::Arc;

use super::{About, Counts, Say};
use crate::error::Result;
use crate::model::serve::TraceTarget;
use crate::monitor::Monitor;
use crate::secret::Redactor;
use crate::time::Clock;

/// There are none.
#[derive(Clone)]
pub enum Traces {}

impl Traces {
    /// Never: nobody is told where traces would go.
    ///
    /// # Errors
    /// Always.
    pub fn open(_target: TraceTarget, _clock: Clock, _redactor: Redactor, _say: Say) -> Result<Self> {
        Err(crate::error::Error::config("this haul was built without traces"))
    }

    /// Never called.
    pub fn listen(&self, _about: About, _next: Arc<dyn Monitor>) -> Arc<dyn Monitor> {
        match *self {}
    }

    /// Never called.
    pub fn counts(&self) -> Counts {
        match *self {}
    }

    /// Never called.
    pub fn close(&self) -> std::future::Ready<()> {
        match *self {}
    }
}

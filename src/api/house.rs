//! What the API stands on: the project in force, the state store, and how the daemon is.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::fault::Fault;
use super::metrics::Metrics;
use super::token::Token;
use crate::execute::Gear;
use crate::model::pipeline::{Pipeline, Project};
use crate::secret::Redactor;
use crate::state::State;
use crate::time::Instant;

/// How the daemon is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Pulse {
    /// When its loop came round the last time.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub looked_at: Option<Instant>,
    /// It takes no new work and ends when what it has is done.
    pub draining: bool,
    /// The faults of files that are wrong now, drawn; what they were before stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<String>,
}

/// What the daemon tells whoever asks.
pub trait Keeper: Send + Sync {
    /// The gear of the project as it is now.
    fn gear(&self) -> Arc<Gear>;

    /// How the daemon is.
    fn pulse(&self) -> Pulse;

    /// There may be something to do that was not there before.
    fn wake(&self);

    /// There may be something to tell people that was not there before.
    fn stir(&self);
}

/// What the handlers stand on; a cheap clone.
#[derive(Clone)]
pub struct House {
    inner: Arc<Inner>,
}

struct Inner {
    keeper: Arc<dyn Keeper>,
    redactor: Redactor,
    token: Token,
    hosts: Vec<String>,
    metrics: Metrics,
    begun: std::time::Instant,
    stop: CancellationToken,
}

impl House {
    /// A house whose door opens to this token; `hosts` are names by which it may be called besides `localhost` and addresses.
    pub fn new(
        keeper: Arc<dyn Keeper>,
        token: Token,
        hosts: Vec<String>,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        let redactor = keeper.gear().redactor.clone();
        redactor.learn(token.text());
        let begun = std::time::Instant::now();
        Self { inner: Arc::new(Inner { keeper, redactor, token, hosts, metrics, begun, stop }) }
    }

    /// The gear of the project as it is now.
    pub fn gear(&self) -> Arc<Gear> {
        self.inner.keeper.gear()
    }

    /// The project as it is now.
    pub fn project(&self) -> Arc<Project> {
        Arc::clone(&self.gear().project)
    }

    /// The state store.
    pub fn state(&self) -> State {
        self.gear().state.clone()
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.gear().clock.now()
    }

    /// How the daemon is.
    pub fn pulse(&self) -> Pulse {
        self.inner.keeper.pulse()
    }

    /// Tells the daemon that there may be something to do.
    pub fn wake(&self) {
        self.inner.keeper.wake();
    }

    /// Lets those be looked for who want to know of what has changed.
    pub fn stir(&self) {
        self.inner.keeper.stir();
    }

    /// The pipeline of this name.
    pub fn pipeline(&self, name: &str) -> Result<Arc<Pipeline>, Fault> {
        let project = self.project();
        project.pipeline(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = project.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
            let nearest = names.iter().filter(|other| strsim::jaro_winkler(other, name) > 0.8);
            let nearest = nearest.max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
            let hint = nearest
                .map_or_else(|| "GET /api/v1/pipelines lists them".to_owned(), |it| format!("did you mean `{it}`?"));
            Fault::missing("pipeline", name).hint(hint)
        })
    }

    /// Takes secrets out of what leaves.
    pub fn redactor(&self) -> &Redactor {
        &self.inner.redactor
    }

    /// What opens the door.
    pub fn token(&self) -> &Token {
        &self.inner.token
    }

    /// Names by which it may be called.
    pub fn hosts(&self) -> &[String] {
        &self.inner.hosts
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// How long it is open.
    pub fn age(&self) -> Duration {
        self.inner.begun.elapsed()
    }

    /// Ends what would last as long as somebody listens.
    pub fn stop(&self) -> &CancellationToken {
        &self.inner.stop
    }
}

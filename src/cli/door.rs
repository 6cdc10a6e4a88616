//! The door of `haul serve`: the HTTP API beside the daemon, and the sign that says where it is.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{self, DoorSign, House, Keeper, Metrics, Pulse, Token};
use crate::error::Result;
use crate::execute::Gear;
use crate::serve::{LifeOrder, Note, Tell, Version, Vitals};

/// An open door.
pub(super) struct Door {
    stop: CancellationToken,
    serving: JoinHandle<()>,
    /// Nobody is sent here once it is closed.
    _sign: Option<DoorSign>,
}

impl Door {
    /// Closes it; what is being answered has a little time to end.
    pub async fn close(self) {
        self.stop.cancel();
        let _ = self.serving.await;
    }
}

/// What the daemon shows of itself.
struct Shown {
    versions: watch::Receiver<Arc<Version>>,
    vitals: watch::Receiver<Vitals>,
    order: mpsc::Sender<LifeOrder>,
    stirred: Arc<Notify>,
}

impl Keeper for Shown {
    fn gear(&self) -> Arc<Gear> {
        Arc::clone(&self.versions.borrow().gear)
    }

    fn pulse(&self) -> Pulse {
        let Vitals { looked_at, draining, faults } = self.vitals.borrow().clone();
        Pulse { looked_at, draining, faults }
    }

    fn wake(&self) {
        // Where orders wait already, it looks around anyway.
        let _ = self.order.try_send(LifeOrder::Look);
    }

    fn stir(&self) {
        self.stirred.notify_one();
    }
}

/// Opens the door, if the project wants one, and tells where it is.
///
/// # Errors
/// An address that is taken, a token that cannot be read.
pub(super) async fn open(
    version: &Version,
    (versions, vitals): (watch::Receiver<Arc<Version>>, watch::Receiver<Vitals>),
    (order, stirred): (mpsc::Sender<LifeOrder>, Arc<Notify>),
    metrics: Metrics,
    tell: &Tell,
) -> Result<Option<Door>> {
    let (project, settings) = (&version.project, &version.project.serve.door);
    let Some(listen) = &settings.listen else { return Ok(None) };
    let token = Token::open(settings.token.as_ref(), &version.gear.connections, &project.state_dir)?;
    let listener = api::listen(listen).await?;
    let address = listener
        .local_addr()
        .map_err(|error| crate::error::Error::internal("asking for the address of a listener").because(error))?;
    let stop = CancellationToken::new();
    let keeper = Arc::new(Shown { versions, vitals, order, stirred });
    let house = House::new(keeper, token, settings.hosts.clone(), metrics, stop.clone());
    let sign = DoorSign::put_up(&project.state_dir, address)?;
    tell(Note::info(format!("the API answers at http://{address}")));
    if sign.is_none() {
        tell(Note::info("another `haul serve` of this project is at work; the command line asks that one"));
    }
    let (stopped, tell) = (stop.clone(), Arc::clone(tell));
    let serving = tokio::spawn(async move {
        if let Err(error) = api::serve(listener, house, stopped).await {
            tell(Note::error(error.chain()));
        }
    });
    Ok(Some(Door { stop, serving, _sign: sign }))
}

//! The client place: an executor in the client's own process, which reaches regions by UDMA on the wire and never maps them.
//!
//! It serves handlers of deployments that its user was granted `direct`, and is turned whenever its session is polled: it has no thread. A
//! message that needs more than a few operations is not worth as many round trips: it leaves for the server, as a continuation.
//!
//! A message is at one place at a time: here until it leaves, and once it has left its request is only ever sent to servers again. So claims
//! made here need nobody else's knowledge. Handlers with effects run under an executor number that the node gave the session of the
//! wire; when that ends, a server recovers from it. An operation that ends without a result, so that nobody may know whether it
//! took effect, ends that session: nothing runs here any more.

mod wire;

use crate::client::LocalPlace;
use crate::clock::{Clock, MonotonicClock};
use crate::control::client::Control;
use crate::control::{Code, Connection, ConnectionOptions, ControlError};
use crate::deployment::{Binding, Checked, Deployment, Identity, Limits};
use crate::engine::Engine;
use crate::executor::{Command, Executor, Options, Progress, ServerSession};
use crate::memory::Region;
use crate::message::Target;
use crate::metrics::MetricsWriter;
use crate::place::bundles;
use crate::session::{Grants, SlotTable};
use crate::transport::shared_memory::{RingLink, RingSizes};
use crate::waiting::Waiting;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wire::{Wire, WireRegion};

/// UDMA operations that a message makes from the client by default before it leaves for the server.
pub const LEAVES_AFTER_DEFAULT: u32 = 8;

/// How a client place is set up.
#[derive(Clone, Copy, Debug)]
pub struct ClientPlaceOptions {
    /// Messages under way here at most, 1 to 1,024; also operations on the wire.
    pub window: u16,
    /// UDMA operations of a message after which it leaves for the server; with 0 it leaves before the first.
    pub leaves_after: u32,
    /// Whether handlers with effects run here, too. Their locks are then held for as many round trips as they make operations.
    pub effects: bool,
    /// Rings of each link, here and to the server.
    pub rings: RingSizes,
    /// How the client waits.
    pub waiting: Waiting,
}

/// See the module's description.
struct ClientPlace {
    executor: Executor<RingLink>,
    slots: SlotTable,
    clock: MonotonicClock,
    deployed: Vec<Arc<Deployment>>,
    effects: bool,
    /// Whether regions can still be reached.
    works: Arc<AtomicBool>,
}

impl Connection {
    /// Lets this session's messages to handlers of these deployments run in this process, as far as the flow table sends them
    /// to clients. Nothing may be under way. Each bundle is checked here again, as at every place.
    ///
    /// # Errors
    /// [`Code::Forbidden`] or [`Code::NotFound`] for deployments; [`Code::BundleRefused`]; what opening a second session says.
    pub fn serve_here(
        &mut self,
        control: &Control,
        deployments: &[&str],
        engine: &dyn Engine,
        options: &ClientPlaceOptions,
    ) -> Result<(), ControlError> {
        let failed = |error: io::Error| ControlError::io("making the client place", &error);
        let (mut regions, mut deployed) = (Vec::new(), Vec::new());
        for name in deployments {
            deployed.push(Arc::new(deploy(control, name, engine, &mut regions)?));
        }
        let ClientPlaceOptions { window, leaves_after, effects, rings, waiting } = *options;
        let connection = Connection::open(control.address(), &ConnectionOptions { window, rings, waiting, numbered: true })?;
        let number = connection.executor().ok_or_else(|| ControlError::new(Code::Protocol, "a session without its number"))?;
        let works = Arc::new(AtomicBool::new(true));
        let wire = Wire::new(connection.into_session(), regions, works.clone());
        let settings = Options { activations: usize::from(window), leaves_after, ..Options::client(number, self.id().into()) };
        let mut executor = Executor::new(settings, Box::new(wire), MetricsWriter::nowhere());
        if let Some(flows) = self.flows() {
            executor.follow(flows.clone());
        }
        deployed.iter().for_each(|deployment| executor.apply(Command::Deploy(deployment.clone())));
        let (server, client) = RingLink::pair(rings).map_err(failed)?;
        let slots = SlotTable::anonymous(self.window() as u16).map_err(failed)?;
        executor.apply(Command::Attach(ServerSession { id: self.id(), link: server, slots: slots.clone(), grants: Grants::all() }));
        self.attach(client, Box::new(ClientPlace { executor, slots, clock: MonotonicClock::new(), deployed, effects, works }));
        Ok(())
    }
}

/// A deployment of the cluster with regions on the wire, which are added to `regions`.
fn deploy(control: &Control, name: &str, engine: &dyn Engine, regions: &mut Vec<WireRegion>) -> Result<Deployment, ControlError> {
    let record = control.deployment(name)?;
    let checked = bundles::check(&control.deployed_bundle(name)?, &[])?;
    let meaning = &checked.bundle().meaning;
    let mut bindings = Vec::new();
    for (index, declared) in (0u16..).zip(&meaning.environment.regions) {
        let (Some(binding), Some(length_bytes)) = (record.bindings.get(&declared.name), record.region_bytes.get(&declared.name))
        else {
            return Err(ControlError::new(Code::Protocol, format!("region {:?} of {name:?} is bound to nothing", declared.name)));
        };
        let target = Target { deployment: record.index, generation: record.generation, handler: index };
        regions.push(WireRegion { target });
        let number = u32::try_from(regions.len()).ok().and_then(std::num::NonZeroU32::new);
        let number = number.ok_or_else(|| ControlError::new(Code::Exhausted, "too many regions"))?;
        bindings.push(Binding { region: Region::remote(number, *length_bytes), rights: binding.rights });
    }
    let handlers = Checked::all_of(&checked);
    let identity = Identity { name: name.to_owned(), index: record.index, generation: record.generation };
    let limits = Limits { back_edges: record.limits.back_edges, udma_operations: record.limits.udma_operations };
    Deployment::bind(identity, &meaning.environment, &handlers, bindings, engine, limits).map_err(bundles::refused)
}

impl LocalPlace for ClientPlace {
    fn serves(&self, target: Target) -> bool {
        let serves = |deployment: &Arc<Deployment>| {
            let same = (deployment.index(), deployment.generation()) == (target.deployment, target.generation);
            let handler = deployment.handlers().get(usize::from(target.handler));
            same && handler.is_some_and(|handler| self.effects || !handler.shape().claims)
        };
        self.works.load(Ordering::Relaxed) && self.deployed.iter().any(serves)
    }

    fn forget(&mut self, slot: u16) {
        self.slots.forget(slot);
    }

    fn turn(&mut self) -> bool {
        self.executor.turn(self.clock.now_ns()) != Progress::Idle
    }

    fn arm(&mut self) -> bool {
        self.executor.arm()
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.executor.backend_descriptors()
    }

    fn disarm(&mut self) {
        self.executor.disarm();
    }
}

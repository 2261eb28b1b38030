//! A program's session with a cluster: asked for at the session socket, then spoken through shared memory alone.

use super::client::Control;
use super::directory::Address;
use super::sessions;
use crate::client::{Session, Waiting};
use crate::memory::SharedMemory;
use crate::message::Target;
use crate::steering::FlowView;
use crate::supervisor::error::{Code, ControlError};
use crate::supervisor::records::DeploymentRecord;
use crate::supervisor::sessions::{SessionRequest, VERSION};
use crate::transport::shared_memory::{RingLink, RingSizes};
use crate::transport::wake::Wake;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;

/// What a program wants of a session.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionOptions {
    /// Requests that may be under way at a time.
    pub window: u16,
    /// Rings of the link to each executor.
    pub rings: RingSizes,
    /// How the client waits for replies.
    pub waiting: Waiting,
}

impl Default for ConnectionOptions {
    /// One request at a time, without spinning: for programs that do something else most of the time.
    fn default() -> ConnectionOptions {
        ConnectionOptions { window: 1, rings: RingSizes::default(), waiting: Waiting { spin_us: 0 } }
    }
}

/// A session, for as long as this lives. Use it as a [`Session`].
pub struct Connection {
    session: Session<RingLink>,
    /// The cluster frees the session when this closes.
    _socket: OwnedFd,
}

impl Connection {
    /// Opens a session with the cluster at this address.
    ///
    /// # Errors
    /// [`Code::NoCluster`], [`Code::Exhausted`] if it has too many sessions, or what else the cluster says.
    pub fn open(address: &Address, options: &ConnectionOptions) -> Result<Connection, ControlError> {
        let request = SessionRequest { version: VERSION, slots: options.window, rings: options.rings };
        let (offer, descriptors, socket) = sessions::open(address, &request)?;
        let failed = |error: io::Error| ControlError::io("mapping a session", &error);
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or_else(|| ControlError::new(Code::Protocol, "a session with too few descriptors"));
        let flows = SharedMemory::from_descriptor(next()?).and_then(|memory| memory.map_read_only()).map_err(failed)?;
        let flows = FlowView::new(flows).ok_or_else(|| ControlError::new(Code::Protocol, "a flow table that is too short"))?;
        let mut links = Vec::new();
        for executor in 0..offer.executors {
            let mapping = SharedMemory::from_descriptor(next()?).and_then(|memory| memory.map()).map_err(failed)?;
            let link = RingLink::client(mapping, offer.rings, Wake::from_descriptor(next()?)).map_err(failed)?;
            links.push((offer.first_executor + executor, link));
        }
        if links.is_empty() || offer.slots == 0 {
            return Err(ControlError::new(Code::Protocol, "a session without executors or slots"));
        }
        let session = Session::new(offer.number, offer.slots, links, Some(flows), options.waiting);
        Ok(Connection { session, _socket: socket })
    }
}

impl Deref for Connection {
    type Target = Session<RingLink>;

    fn deref(&self) -> &Session<RingLink> {
        &self.session
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Session<RingLink> {
        &mut self.session
    }
}

impl DeploymentRecord {
    /// What messages to one of its handlers are addressed to.
    ///
    /// # Errors
    /// [`Code::NotFound`], with the names of those that there are.
    pub fn target(&self, handler: &str) -> Result<Target, ControlError> {
        let position = self.handlers.iter().position(|summary| summary.name == handler);
        let index = position.ok_or_else(|| {
            let names: Vec<String> = self.handlers.iter().map(|summary| format!("{}/{}", self.name, summary.name)).collect();
            ControlError::new(Code::NotFound, format!("deployment {:?} has no handler {handler:?}", self.name))
                .hint(format!("it has {}", names.join(", ")))
        })?;
        Ok(Target { deployment: self.index, generation: self.generation, handler: index as u16 })
    }
}

impl Control {
    /// What messages to `DEPLOYMENT/HANDLER` are addressed to.
    pub fn target(&self, deployment: &str, handler: &str) -> Result<Target, ControlError> {
        self.deployment(deployment)?.target(handler)
    }
}

//! A program's session with a cluster: asked for at the session socket, then spoken through shared memory alone.

use super::client::Control;
use super::directory::Address;
use super::sessions;
use crate::channel::{self, ChannelError};
use crate::client::{Change, Membership, News, Session};
use crate::memory::SharedMemory;
use crate::message::Target;
use crate::steering::FlowView;
use crate::supervisor::error::{Code, ControlError};
use crate::supervisor::records::DeploymentRecord;
use crate::supervisor::sessions::{Became, SessionNews, SessionRequest, VERSION};
use crate::transport::Broken;
use crate::transport::shared_memory::{RingLink, RingSizes};
use crate::transport::wake::Wake;
use crate::waiting::Waiting;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a program wants of a session.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionOptions {
    /// Requests that may be under way at a time.
    pub window: u16,
    /// Rings of the link to each executor.
    pub rings: RingSizes,
    /// How the client waits for replies.
    pub waiting: Waiting,
    /// Whether an executor number is wanted, for handlers with effects that this program runs itself.
    pub numbered: bool,
}

impl Default for ConnectionOptions {
    /// One request at a time, without spinning: for programs that do something else most of the time.
    fn default() -> ConnectionOptions {
        ConnectionOptions { window: 1, rings: RingSizes::default(), waiting: Waiting { spin_us: 0 }, numbered: false }
    }
}

/// A session, for as long as this lives. Use it as a [`Session`].
pub struct Connection {
    session: Session<RingLink>,
    executor: Option<u16>,
}

impl Connection {
    /// Opens a session with the cluster at this address.
    ///
    /// # Errors
    /// [`Code::NoCluster`], [`Code::Exhausted`] if it has too many sessions, or what else the cluster says.
    pub fn open(address: &Address, options: &ConnectionOptions) -> Result<Connection, ControlError> {
        let ConnectionOptions { window, rings, waiting, numbered } = *options;
        let request = SessionRequest { version: VERSION, slots: window, rings, numbered };
        let (offer, flows, socket) = sessions::open(address, &request)?;
        let failed = |error: io::Error| ControlError::io("mapping a session", &error);
        let flows = SharedMemory::from_descriptor(flows).and_then(|memory| memory.map_read_only()).map_err(failed)?;
        let flows = FlowView::new(flows).ok_or_else(|| ControlError::new(Code::Protocol, "a flow table that is too short"))?;
        if offer.places == 0 || offer.slots == 0 {
            return Err(ControlError::new(Code::Protocol, "a session without executors or slots"));
        }
        let mut source = NewsSocket { socket, rings: offer.rings };
        let broken = |error: ChannelError| ControlError::new(Code::Protocol, format!("opening a session: {error}"));
        let first = (0..offer.places).map(|_| source.receive()).collect::<Result<Vec<_>, _>>().map_err(broken)?;
        // What comes later comes while nobody waits for it.
        rustix::io::ioctl_fionbio(&source.socket, true).map_err(|errno| failed(errno.into()))?;
        let mut session = Session::with_membership(offer.number, offer.slots, flows, Box::new(source), waiting);
        first.into_iter().for_each(|news| session.hear(news));
        Ok(Connection { session, executor: offer.executor })
    }
}

/// The socket that a session was asked for at: the cluster frees the session when it closes.
struct NewsSocket {
    socket: OwnedFd,
    rings: RingSizes,
}

impl NewsSocket {
    fn receive(&mut self) -> Result<News<RingLink>, ChannelError> {
        let (SessionNews { changes, place, executors, what }, descriptors) = channel::receive(&self.socket)?;
        if what == Became::Gone {
            return Ok(News { changes, what: Change::Gone(executors) });
        }
        let mut descriptors = descriptors.into_iter();
        let mut links = Vec::new();
        for executor in executors {
            let (Some(memory), Some(bell)) = (descriptors.next(), descriptors.next()) else {
                return Err(ChannelError::Malformed("executors with too few descriptors".to_owned()));
            };
            let mapping = SharedMemory::from_descriptor(memory)?.map()?;
            links.push((executor, RingLink::client(mapping, self.rings, Wake::from_descriptor(bell))?));
        }
        Ok(News { changes, what: Change::Joined(place, links) })
    }
}

impl Membership<RingLink> for NewsSocket {
    fn next(&mut self) -> Result<Option<News<RingLink>>, Broken> {
        match self.receive() {
            Ok(news) => Ok(Some(news)),
            Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(_) => Err(Broken::Closed),
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Connection {
    /// Its executor number, if it wanted one.
    pub fn executor(&self) -> Option<u16> {
        self.executor
    }

    /// The session alone, for whoever owns it from here on.
    pub(crate) fn into_session(self) -> Session<RingLink> {
        self.session
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

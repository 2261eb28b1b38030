//! Sessions: the memory and the bells through which one client and the executors of a node talk.
//!
//! The supervisor makes them and hands each side what it may have: a client its end of a link to every executor and, to read, the flow
//! table; the places the other ends and the slot records. Nobody gets anything of another session. Links come and go with the places;
//! slot records stay.

use super::error::{Code, ControlError};
use crate::executor;
use crate::memory::{Pages, SharedMemory};
use crate::message::Place;
use crate::session::{SLOTS_MAX, SlotTable};
use crate::transport::shared_memory::RingSizes;
use crate::transport::wake::Wake;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use tokio::sync::{mpsc, oneshot};

/// Version of the session socket's packets.
pub const VERSION: u32 = 0;
/// Sessions of a node: half of an executor's, of which those that are closed stay until their last message is done.
pub const SESSIONS_MAX: usize = executor::SESSIONS_MAX / 2;
/// Bytes of links and slot records that all sessions of a node take at most, used or not: 4 MiB for each, where there are as many as can be.
pub const SESSIONS_BYTES_MAX: u64 = 4 << 30;
/// News that wait for a client: more than places of a node can make in the time in which anybody reads them.
const NEWS_MAX: usize = 64;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// [`VERSION`].
    pub version: u32,
    /// Requests that may be outstanding at a time, 1 to [`SLOTS_MAX`].
    pub slots: u16,
    /// Rings of each link.
    pub rings: RingSizes,
    /// Whether an executor number of its own is wanted: for handlers with effects that the client runs itself. Data that the number is left
    /// in is recovered when the session ends.
    #[serde(default)]
    pub numbered: bool,
}

/// What a client gets. Descriptors: the flow table. As many [`Became::Joined`] follow at once as places run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOffer {
    /// The session's number.
    pub number: u32,
    /// Places that run: so many of the news that follow come at once.
    pub places: u16,
    /// Requests that may be outstanding at a time.
    pub slots: u16,
    /// Rings of each link.
    pub rings: RingSizes,
    /// Its executor number, if it wanted one.
    pub executor: Option<u16>,
}

/// What a client is told while its session lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionNews {
    /// How often executors have come or gone, this time included.
    pub changes: u64,
    /// Their place.
    pub place: Place,
    /// Their numbers.
    pub executors: Vec<u16>,
    /// What became of them.
    pub what: Became,
}

/// What became of the executors of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Became {
    /// They have started. Descriptors: of each one the link's memory and the client's end of its bell.
    Joined,
    /// They have ended, and nothing of them runs any more. What they had claimed is marked: a request that is sent again, under its slot
    /// and number, takes effect at most once.
    Gone,
}

/// News with its descriptors.
#[derive(Debug)]
pub struct Told {
    /// What is told.
    pub news: SessionNews,
    /// What the client maps and rings.
    pub descriptors: Vec<OwnedFd>,
}

/// A session with what goes to its client.
pub struct OpenedSession {
    /// What the client is told first.
    pub offer: SessionOffer,
    /// The flow table, to read.
    pub flows: OwnedFd,
    /// What it is told then.
    pub telling: Telling,
}

/// What a session's client is told while the session lasts.
#[derive(Debug)]
pub struct Telling {
    /// The end of these is the session's.
    pub news: mpsc::Receiver<Told>,
    /// Ends with the session, too: for whoever waits for something else than news.
    pub ended: oneshot::Receiver<()>,
}

/// Where a session's client is told things.
pub struct Teller {
    /// News.
    pub news: mpsc::Sender<Told>,
    /// Ends together with them.
    pub open: oneshot::Sender<()>,
}

/// A session that is open.
pub struct OpenSession {
    /// Whose.
    pub tenant: u32,
    /// Bytes of its links and slot records.
    pub memory_bytes: u64,
    /// What was asked for.
    pub request: SessionRequest,
    /// Its slot records; no client sees them.
    pub slots: SlotTable,
    /// Their memory, for places.
    pub slots_memory: SharedMemory,
    /// The executor number of its client.
    pub executor: Option<u16>,
    /// Deployments, by index, whose regions a client with an executor number could ever reach, beside the starter's, which reaches all.
    pub reached: BTreeSet<u16>,
    /// Where its client is told things; `None` once it does not listen.
    pub teller: Option<Teller>,
}

/// One link of a session: its memory, the executor's end of its bell, and the client's.
pub type LinkParts = (SharedMemory, OwnedFd, OwnedFd);

impl SessionRequest {
    /// Refuses what no session can be.
    pub fn check(&self) -> Result<(), ControlError> {
        if self.version != VERSION {
            return Err(ControlError::new(
                Code::BadRequest,
                format!("session protocol version {}; this cluster speaks {VERSION}", self.version),
            )
            .hint("use programs of one version"));
        }
        if self.slots == 0 || self.slots > SLOTS_MAX {
            return Err(ControlError::new(Code::BadRequest, format!("a session has 1 to {SLOTS_MAX} slots, not {}", self.slots)));
        }
        if !self.rings.are_legal() {
            return Err(ControlError::new(
                Code::BadRequest,
                format!("rings of {} and {} bytes", self.rings.request_bytes, self.rings.reply_bytes),
            )
            .hint("both are powers of two, from 128 bytes to 16 MiB"));
        }
        Ok(())
    }

    /// Bytes of all links and slot records of such a session.
    pub fn memory_bytes(&self, executors: u16) -> u64 {
        self.rings.memory_bytes() * u64::from(executors) + SlotTable::bytes(self.slots)
    }
}

impl OpenSession {
    /// Makes the slot records of a session that was checked. News that its client does not take in time end it.
    pub fn create(tenant: u32, request: &SessionRequest, memory_bytes: u64) -> io::Result<(OpenSession, Telling)> {
        let slots_memory = SharedMemory::create("naam-slots", SlotTable::bytes(request.slots), Pages::Ordinary)?;
        let slots = SlotTable::new(slots_memory.map()?, request.slots).ok_or(io::ErrorKind::InvalidInput)?;
        let ((news, told), (open, ended)) = (mpsc::channel(NEWS_MAX), oneshot::channel());
        let teller = Some(Teller { news, open });
        let (executor, reached) = (None, BTreeSet::new());
        let session = OpenSession { tenant, memory_bytes, request: *request, executor, reached, slots, slots_memory, teller };
        Ok((session, Telling { news: told, ended }))
    }

    /// Makes the memory and the bells of its links to so many executors.
    pub fn links(&self, executors: u16) -> io::Result<Vec<LinkParts>> {
        let link = |_| {
            let (server, client) = Wake::pair()?;
            Ok((self.request.rings.create()?, server.into_descriptor(), client.into_descriptor()))
        };
        (0..executors).map(link).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memory_of_a_session_is_counted() {
        for (slots, ring_bytes, executors) in [(1, 128, 1), (7, 4096, 3), (SLOTS_MAX, 1 << 20, 2)] {
            let rings = RingSizes { request_bytes: ring_bytes, reply_bytes: ring_bytes };
            let request = SessionRequest { version: VERSION, slots, rings, numbered: false };
            let counted = request.memory_bytes(executors);
            let (session, _) = OpenSession::create(1, &request, counted).unwrap();
            let links = session.links(executors).unwrap();
            let made = session.slots_memory.length_bytes() + links.iter().map(|(link, ..)| link.length_bytes()).sum::<u64>();
            assert!(counted <= made && made - counted < 4096 * (u64::from(executors) + 1), "{counted} of {made} bytes");
        }
    }
}

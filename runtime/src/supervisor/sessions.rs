//! Sessions: the memory and the bells through which one client and the executors of a node talk.
//!
//! The supervisor makes them and hands each side what it may have: a client its end of a link to every executor and, to read, the flow
//! table; the place the other ends and the slot records. Neither gets anything of another session.

use super::error::{Code, ControlError};
use crate::memory::{Pages, SharedMemory};
use crate::session::{SLOTS_MAX, SlotTable};
use crate::transport::shared_memory::RingSizes;
use crate::transport::wake::Wake;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;

/// Version of the session socket's packets.
pub const VERSION: u32 = 0;
/// Sessions of a node.
pub const SESSIONS_MAX: usize = 1024;
/// Bytes of links and slot records that all sessions of a node take at most, used or not: 4 MiB for each, where there are as many as can be.
pub const SESSIONS_BYTES_MAX: u64 = 4 << 30;

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
}

/// What a client gets. Descriptors: the flow table; then of each executor the link's memory and the client's end of its bell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOffer {
    /// The session's number.
    pub number: u32,
    /// Number of the first executor; the others follow.
    pub first_executor: u16,
    /// How many there are.
    pub executors: u16,
    /// Requests that may be outstanding at a time.
    pub slots: u16,
    /// Rings of each link.
    pub rings: RingSizes,
}

/// A session with what goes to its client.
pub struct OpenedSession {
    /// What the client is told.
    pub offer: SessionOffer,
    /// What the client maps and rings.
    pub descriptors: Vec<OwnedFd>,
}

/// The resources of a session that is being opened.
pub struct SessionMemory {
    /// The slot records; no client sees them.
    pub slots: SharedMemory,
    /// For each executor: the link's memory, the executor's end of its bell, and the client's.
    pub links: Vec<(SharedMemory, OwnedFd, OwnedFd)>,
}

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

impl SessionMemory {
    /// Makes the memory and the bells of a session that was checked.
    pub fn create(request: &SessionRequest, executors: u16) -> io::Result<SessionMemory> {
        let slots = SharedMemory::create("naam-slots", SlotTable::bytes(request.slots), Pages::Ordinary)?;
        let link = |_| {
            let (server, client) = Wake::pair()?;
            Ok((request.rings.create()?, server.into_descriptor(), client.into_descriptor()))
        };
        Ok(SessionMemory { slots, links: (0..executors).map(link).collect::<io::Result<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memory_of_a_session_is_counted() {
        for (slots, ring_bytes, executors) in [(1, 128, 1), (7, 4096, 3), (SLOTS_MAX, 1 << 20, 2)] {
            let rings = RingSizes { request_bytes: ring_bytes, reply_bytes: ring_bytes };
            let request = SessionRequest { version: VERSION, slots, rings };
            let memory = SessionMemory::create(&request, executors).unwrap();
            let made = memory.slots.length_bytes() + memory.links.iter().map(|(link, ..)| link.length_bytes()).sum::<u64>();
            let counted = request.memory_bytes(executors);
            assert!(counted <= made && made - counted < 4096 * (u64::from(executors) + 1), "{counted} of {made} bytes");
        }
    }
}

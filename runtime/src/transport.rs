//! Transports: how messages travel between a client and an executor, behind one batched interface.
//!
//! A [`Link`] is one end of a bounded, ordered channel of messages in both directions. Sending and receiving allocate nothing, take no
//! lock and make no system call; only [`Link::flush`] may make one, when the peer sleeps. What a link delivers was copied at each
//! look and is an allegation of the peer: its length is right, everything else is for [`crate::message`] and the executor to judge.

pub mod duplicating;
pub mod shared_memory;
pub mod wake;

use crate::message::HeaderWords;
use naamc::abi::HEADER_BYTES;
use std::os::fd::BorrowedFd;

/// Records are multiples of this: whole cache lines.
pub const RECORD_ALIGNMENT_BYTES: usize = 64;

/// Bytes that a message takes on a link.
pub fn record_bytes(message_bytes: usize) -> usize {
    message_bytes.next_multiple_of(RECORD_ALIGNMENT_BYTES)
}

/// Bytes that a message with this body and no continuation takes on a link.
pub fn body_record_bytes(body_bytes: usize) -> usize {
    record_bytes(HEADER_BYTES + body_bytes)
}

/// The peer broke the rules of the link, or is gone. Nothing more can be sent or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A cursor of the peer stands where it cannot be.
    #[error("the peer's cursor is outside the ring")]
    Cursor,
    /// A record is longer than what was published, or shorter than a header.
    #[error("a record has an impossible length")]
    Record,
    /// The peer closed its end.
    #[error("the peer closed the link")]
    Closed,
}

/// What a sleeper waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Messages.
    Messages,
    /// Messages, or room to send.
    MessagesOrRoom,
}

/// One end of a link.
pub trait Link: Send {
    /// The header of the oldest message that has not been taken, as it is now; `None` if there is none. The message stays until
    /// [`Link::advance`], and its peer may change it until then: whoever asks again judges what it then gets, all of it.
    ///
    /// # Errors
    /// If the peer broke the link.
    fn next(&mut self) -> Result<Option<HeaderWords>, Broken>;

    /// Copies bytes behind that header, from `offset` (a multiple of 8), as far as the message's length field reaches. Bytes beyond it
    /// read as zero.
    fn copy(&mut self, offset: usize, destination: &mut [u8]);

    /// Takes the message.
    fn advance(&mut self);

    /// Bytes of records that can be sent now, at least `wanted` if there is that much room.
    ///
    /// # Errors
    /// If the peer broke the link.
    fn room_bytes(&mut self, wanted: usize) -> Result<usize, Broken>;

    /// Bytes of records that can ever be under way in the sending direction.
    fn capacity_bytes(&self) -> usize;

    /// Sends a message: its header, its body, and its continuation at the next multiple of 8. Whoever calls this has seen the room for
    /// it; without room, nothing is sent.
    fn send(&mut self, header: &HeaderWords, body: &[u8], continuation: &[u8]);

    /// Makes everything that was sent visible to the peer, gives back the room of what was taken, and wakes the peer if it sleeps.
    fn flush(&mut self);

    /// Says that this end is about to sleep. Returns false if there is a reason not to: something arrived in the meantime.
    ///
    /// # Errors
    /// If the peer broke the link. [`Link::next`] says so too from then on, once what arrived before is taken.
    fn arm(&mut self, wait_for: WaitFor) -> Result<bool, Broken>;

    /// Says that this end is awake again.
    ///
    /// # Errors
    /// If the peer has closed its end.
    fn disarm(&mut self) -> Result<(), Broken>;

    /// What becomes readable when the peer wakes this end.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

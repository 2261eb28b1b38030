//! Links over shared memory: two byte rings of 64-byte aligned records, one in each direction, each with one producer and one consumer.
//!
//! | offset | bytes | what | written by |
//! | --- | --- | --- | --- |
//! | 0 | 8 | request tail: bytes ever published | client |
//! | 8 | 8 | reply head: bytes ever taken | client |
//! | 128 | 8 | 1 while the client sleeps for messages, 2 for messages or room | client; the executor resets it |
//! | 256 | 8 | reply tail | executor |
//! | 264 | 8 | request head | executor |
//! | 384 | 8 | 1 or 2 while the executor sleeps | executor; the client resets it |
//! | 4096 | `request_bytes` | request ring | client |
//! | then | `reply_bytes` | reply ring | executor; the client wipes what it has taken |
//!
//! A record is a message, rounded up to 64 bytes; it may wrap around the ring's end. Each side keeps its own cursors to itself: what
//! it reads from the memory is only what the peer says of the peer's, and cursors that cannot be break the link.
//! What one side publishes and takes lies on one line, so that a batch costs the peer one cache miss to see.
//!
//! A line that its consumer has only read stays in both caches, and the producer's next store to it must wait until the other copy is gone;
//! fetching it ahead hides half of that. One that its consumer has written to comes over whole. So the client writes a word into each line
//! of a reply that it has taken: an executor's time is worth more than its own.

use super::wake::Wake;
use super::{Broken, Link, RECORD_ALIGNMENT_BYTES, WaitFor, record_bytes};
use crate::memory::{Circle, LINE_WORDS, Mapping, Pages, SharedMemory, load_words, store_words};
use crate::message::HeaderWords;
use naamc::abi::{HEADER_BYTES, MESSAGE_BYTES_MAX};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bytes before the rings.
const CONTROL_BYTES: u64 = 4096;
/// Index of the client's line of cursors: its tail, then its head.
const CLIENT_CURSORS: usize = 0;
/// Index of the word that says whether the client sleeps.
const CLIENT_SLEEPS: usize = 128 / 8;
/// Index of the executor's line of cursors.
const EXECUTOR_CURSORS: usize = 256 / 8;
/// Index of the word that says whether the executor sleeps.
const EXECUTOR_SLEEPS: usize = 384 / 8;
/// Bytes of a ring at least: two of the smallest records.
pub const RING_BYTES_MIN: u32 = 2 * RECORD_ALIGNMENT_BYTES as u32;
/// Bytes of a ring at most: more would only queue.
pub const RING_BYTES_MAX: u32 = 16 << 20;

/// Lengths of a link's two rings: powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RingSizes {
    /// Bytes of the ring from client to executor.
    pub request_bytes: u32,
    /// Bytes of the ring from executor to client.
    pub reply_bytes: u32,
}

impl Default for RingSizes {
    /// Room for a window of some hundred small requests; small enough to stay in the caches of both sides.
    fn default() -> RingSizes {
        RingSizes { request_bytes: 64 << 10, reply_bytes: 128 << 10 }
    }
}

impl RingSizes {
    /// Whether both are powers of two within the limits.
    pub fn are_legal(self) -> bool {
        [self.request_bytes, self.reply_bytes]
            .iter()
            .all(|bytes| bytes.is_power_of_two() && (RING_BYTES_MIN..=RING_BYTES_MAX).contains(bytes))
    }

    /// Bytes of the memory that holds the link.
    pub fn memory_bytes(self) -> u64 {
        CONTROL_BYTES + u64::from(self.request_bytes) + u64::from(self.reply_bytes)
    }

    /// Makes the memory of a link.
    ///
    /// # Errors
    /// `InvalidInput` for illegal sizes; else the system's.
    pub fn create(self) -> io::Result<SharedMemory> {
        if !self.are_legal() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("rings of {self:?}")));
        }
        SharedMemory::create("naam-link", self.memory_bytes(), Pages::Ordinary)
    }
}

/// One end of a link over shared memory.
#[derive(Debug)]
pub struct RingLink {
    mapping: Arc<Mapping>,
    wake: Wake,
    /// Where this side publishes its tail, and in the next word its head; and the peer's.
    own_cursors: usize,
    peer_cursors: usize,
    own_sleeps: usize,
    peer_sleeps: usize,
    outgoing: Ring,
    incoming: Ring,
    /// Whether it writes to the lines of records that it has taken.
    wipes: bool,
    /// Bytes ever sent, ever made visible, and ever taken by the peer as it last said.
    sent: u64,
    sent_visible: u64,
    sent_taken: u64,
    /// Bytes ever received as the peer last said, ever taken, and ever given back.
    received: u64,
    taken: u64,
    taken_visible: u64,
    /// A cursor of the peer was seen that cannot be. Looks that go by the other cursor say so from then on, too: polling looks at the
    /// tail, and whoever is about to sleep at both.
    broken: bool,
    /// Of the record at `taken`, as its header last said: bytes of its message, and those that it takes on the ring, 0 until it was looked at.
    message_bytes: usize,
    current_bytes: usize,
}

/// One of the two rings.
#[derive(Clone, Debug)]
struct Ring(Circle);

impl Ring {
    fn bytes(&self) -> u64 {
        self.0.length_bytes()
    }

    /// A header: the first line of a record.
    #[inline(always)]
    fn load_header(&self, record: u64) -> HeaderWords {
        let words = self.0.line(record);
        HeaderWords(std::array::from_fn(|index| words[index].load(Ordering::Relaxed)))
    }

    #[inline(always)]
    fn store_header(&self, record: u64, header: &HeaderWords) {
        for (word, value) in self.0.line(record).iter().zip(header.0) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Copies what lies at `offset`, a multiple of 8, in the record at a cursor, line by line: it may wrap around the ring's end. At most a
    /// ring's worth. The cursors order these accesses: a consumer's acquire of the tail comes before them, a producer's acquire of the head
    /// likewise.
    #[inline(always)]
    fn load(&self, record: u64, offset: usize, destination: &mut [u8]) {
        let mut at = record + offset as u64;
        let begun = &self.0.line(at)[offset / 8 % LINE_WORDS..];
        let (first, destination) = destination.split_at_mut(first_bytes(offset, destination.len()));
        load_words(begun, first);
        at += first.len() as u64;
        let (lines, rest) = destination.as_chunks_mut::<RECORD_ALIGNMENT_BYTES>();
        for line in lines {
            load_words(self.0.line(at), line);
            at += RECORD_ALIGNMENT_BYTES as u64;
        }
        if !rest.is_empty() {
            load_words(self.0.line(at), rest);
        }
    }

    /// Likewise.
    #[inline(always)]
    fn store(&self, record: u64, offset: usize, source: &[u8]) {
        let mut at = record + offset as u64;
        let begun = &self.0.line(at)[offset / 8 % LINE_WORDS..];
        let (first, source) = source.split_at(first_bytes(offset, source.len()));
        store_words(begun, first, Ordering::Relaxed);
        at += first.len() as u64;
        let (lines, rest) = source.as_chunks::<RECORD_ALIGNMENT_BYTES>();
        for line in lines {
            store_words(self.0.line(at), line, Ordering::Relaxed);
            at += RECORD_ALIGNMENT_BYTES as u64;
        }
        if !rest.is_empty() {
            store_words(self.0.line(at), rest, Ordering::Relaxed);
        }
    }
}

/// Of so many bytes at an offset, those that lie in a line before which others have begun: none where a line begins.
#[inline(always)]
fn first_bytes(offset: usize, length: usize) -> usize {
    (offset.next_multiple_of(RECORD_ALIGNMENT_BYTES) - offset).min(length)
}

impl RingLink {
    /// The executor's end of a link whose memory nobody has used yet.
    ///
    /// # Errors
    /// `InvalidInput` if the sizes are illegal, or the memory is too short for them.
    pub fn server(mapping: Arc<Mapping>, sizes: RingSizes, wake: Wake) -> io::Result<RingLink> {
        let (requests, replies) = RingLink::rings(&mapping, sizes)?;
        let mut link = RingLink::new(mapping, wake, replies, requests);
        (link.own_cursors, link.peer_cursors) = (EXECUTOR_CURSORS, CLIENT_CURSORS);
        (link.own_sleeps, link.peer_sleeps) = (EXECUTOR_SLEEPS, CLIENT_SLEEPS);
        Ok(link)
    }

    /// The client's end.
    ///
    /// # Errors
    /// `InvalidInput` if the sizes are illegal, or the memory is too short for them.
    pub fn client(mapping: Arc<Mapping>, sizes: RingSizes, wake: Wake) -> io::Result<RingLink> {
        let (requests, replies) = RingLink::rings(&mapping, sizes)?;
        Ok(RingLink { wipes: true, ..RingLink::new(mapping, wake, requests, replies) })
    }

    /// Both ends of a new link, in this process.
    pub fn pair(sizes: RingSizes) -> io::Result<(RingLink, RingLink)> {
        let mapping = sizes.create()?.map()?;
        let (server_wake, client_wake) = Wake::pair()?;
        Ok((RingLink::server(mapping.clone(), sizes, server_wake)?, RingLink::client(mapping, sizes, client_wake)?))
    }

    fn rings(mapping: &Arc<Mapping>, sizes: RingSizes) -> io::Result<(Ring, Ring)> {
        let ring = |start_bytes: u64, bytes: u32| {
            let circle = Circle::new(mapping.clone(), start_bytes as usize / 8, bytes as usize / 8);
            circle.filter(|_| sizes.are_legal()).map(Ring)
        };
        let requests = ring(CONTROL_BYTES, sizes.request_bytes);
        let replies = ring(CONTROL_BYTES + u64::from(sizes.request_bytes), sizes.reply_bytes);
        requests.zip(replies).ok_or_else(|| {
            let reason = format!("rings of {sizes:?} in {} bytes", mapping.length_bytes());
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        })
    }

    fn new(mapping: Arc<Mapping>, wake: Wake, outgoing: Ring, incoming: Ring) -> RingLink {
        RingLink {
            mapping,
            wake,
            own_cursors: CLIENT_CURSORS,
            peer_cursors: EXECUTOR_CURSORS,
            own_sleeps: CLIENT_SLEEPS,
            peer_sleeps: EXECUTOR_SLEEPS,
            outgoing,
            incoming,
            wipes: false,
            sent: 0,
            sent_visible: 0,
            sent_taken: 0,
            received: 0,
            taken: 0,
            taken_visible: 0,
            broken: false,
            message_bytes: 0,
            current_bytes: 0,
        }
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        &self.mapping.words()[index]
    }

    /// Learns how much the peer has published.
    #[inline(never)]
    fn refresh_received(&mut self) -> Result<(), Broken> {
        let tail = self.word(self.peer_cursors).load(Ordering::Acquire);
        let (new, all) = (tail.wrapping_sub(self.received), tail.wrapping_sub(self.taken));
        self.broken |= all > self.incoming.bytes() || new > all || !all.is_multiple_of(RECORD_ALIGNMENT_BYTES as u64);
        if self.broken {
            return Err(Broken::Cursor);
        }
        self.received = tail;
        Ok(())
    }

    /// Learns how much the peer has taken.
    #[inline(never)]
    fn refresh_taken(&mut self) -> Result<(), Broken> {
        let head = self.word(self.peer_cursors + 1).load(Ordering::Acquire);
        let (under_way, before) = (self.sent_visible.wrapping_sub(head), self.sent_visible.wrapping_sub(self.sent_taken));
        self.broken |= under_way > before || !under_way.is_multiple_of(RECORD_ALIGNMENT_BYTES as u64);
        if self.broken {
            return Err(Broken::Cursor);
        }
        self.sent_taken = head;
        Ok(())
    }

    fn free_bytes(&self) -> usize {
        (self.outgoing.bytes() - (self.sent - self.sent_taken)) as usize
    }
}

impl Link for RingLink {
    #[inline(always)]
    fn next(&mut self) -> Result<Option<HeaderWords>, Broken> {
        if self.taken == self.received {
            self.refresh_received()?;
            if self.taken == self.received {
                return Ok(None);
            }
        }
        let header = self.incoming.load_header(self.taken);
        let length = header.length_field() as usize;
        let bytes = record_bytes(length);
        if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&length) || bytes as u64 > self.received - self.taken {
            return Err(Broken::Record);
        }
        (self.message_bytes, self.current_bytes) = (length, bytes);
        Ok(Some(header))
    }

    #[inline(always)]
    fn copy(&mut self, offset: usize, destination: &mut [u8]) {
        debug_assert!(offset.is_multiple_of(8), "records are copied by words");
        let there = self.message_bytes.saturating_sub(HEADER_BYTES + offset).min(destination.len());
        let (inside, beyond) = destination.split_at_mut(there);
        self.incoming.load(self.taken, HEADER_BYTES + offset, inside);
        // Seldom any: not worth a call that finds that out.
        if !beyond.is_empty() {
            beyond.fill(0);
        }
    }

    #[inline(always)]
    fn advance(&mut self) {
        let end = self.taken + self.current_bytes as u64;
        if self.wipes {
            while self.taken != end {
                self.incoming.0.line(self.taken)[0].store(0, Ordering::Relaxed);
                self.taken += RECORD_ALIGNMENT_BYTES as u64;
            }
        }
        self.taken = end;
        self.current_bytes = 0;
    }

    #[inline(always)]
    fn room_bytes(&mut self, wanted: usize) -> Result<usize, Broken> {
        if self.free_bytes() < wanted {
            self.refresh_taken()?;
        }
        Ok(self.free_bytes())
    }

    fn capacity_bytes(&self) -> usize {
        self.outgoing.bytes() as usize
    }

    #[inline(always)]
    fn send(&mut self, header: &HeaderWords, body: &[u8], continuation: &[u8]) {
        let body_end = HEADER_BYTES + body.len();
        let length = if continuation.is_empty() { body_end } else { body_end.next_multiple_of(8) + continuation.len() };
        debug_assert_eq!(length, header.length_field() as usize, "the header says what follows it");
        let bytes = record_bytes(length);
        if bytes > self.free_bytes() {
            return;
        }
        self.outgoing.store_header(self.sent, header);
        self.outgoing.store(self.sent, HEADER_BYTES, body);
        if !continuation.is_empty() {
            self.outgoing.store(self.sent, body_end.next_multiple_of(8), continuation);
        }
        self.sent += bytes as u64;
    }

    #[inline]
    fn flush(&mut self) {
        let published = self.sent != self.sent_visible;
        if !published && self.taken == self.taken_visible {
            return;
        }
        self.word(self.own_cursors + 1).store(self.taken, Ordering::Release);
        self.word(self.own_cursors).store(self.sent, Ordering::Release);
        self.sent_visible = self.sent;
        self.taken_visible = self.taken;
        // Either the peer sees the cursors after it said that it sleeps, or this side sees that it sleeps.
        fence(Ordering::SeqCst);
        let sleeps = self.word(self.peer_sleeps).load(Ordering::Relaxed);
        if sleeps == 2 || (sleeps != 0 && published) {
            self.word(self.peer_sleeps).store(0, Ordering::Relaxed);
            self.wake.wake();
        }
    }

    fn arm(&mut self, wait_for: WaitFor) -> Result<bool, Broken> {
        let room_before = self.free_bytes();
        let flag = if wait_for == WaitFor::Messages { 1 } else { 2 };
        self.word(self.own_sleeps).store(flag, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.refresh_received()?;
        self.refresh_taken()?;
        let nothing = self.taken == self.received;
        Ok(match wait_for {
            WaitFor::Messages => nothing,
            // A message that waits for room is no reason to stay awake: only more room is.
            WaitFor::MessagesOrRoom => self.free_bytes() == room_before && (nothing || self.current_bytes != 0),
        })
    }

    fn disarm(&mut self) -> Result<(), Broken> {
        self.word(self.own_sleeps).store(0, Ordering::Relaxed);
        if self.wake.drain() { Ok(()) } else { Err(Broken::Closed) }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wake.descriptor())
    }
}

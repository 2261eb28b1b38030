//! Slot records: which requests of a session are claimed, by whom, and what was answered.
//!
//! A session has a fixed number of slots, each with at most one request under way; a slot's requests are numbered. The records lie in
//! memory that all places of a node share and no client maps. A record is 64 bytes:
//!
//! | word | what |
//! | --- | --- |
//! | 0 | sequence (32 bits), executor (16), state (8), place (8) |
//! | 1 | execution id |
//! | 2 | result (32), error (16), bytes of the reply's body (16) |
//! | 3 | suspensions (32), UDMA operations (32) |
//! | 4 to 7 | the reply's body, if it is this short; else it is in the slot's own block behind the records |
//!
//! Word 0 decides. It goes from anything older to Running by compare-and-swap: that is the claim, and precedes the first effect. Only
//! the owner takes it from Running to Done, after it wrote the answer and before it sends it. From Running to Uncertain it is taken by
//! whoever has reaped the owner's process, by [`SlotTable::mark_uncertain`]. The supervisor does, and then tells
//! clients, who send again what they have under way.
//!
//! Sequence numbers wrap, and of two the later one is that which is less than half of all ahead of the other. Requests without effects leave
//! no record; so that a slot's record never falls behind by as much, one in [`RECORDED_EVERY`] requests of a slot is claimed and recorded
//! like those with effects, at a server, whatever it does.

use crate::memory::{Mapping, PAGE_BYTES, load_words, store_words};
use crate::message::{Place, RuntimeError};
use naamc::abi::BODY_BYTES_MAX;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Slots of a session at most: bounds what a client can have under way.
pub const SLOTS_MAX: u16 = 1024;
/// Words of a record.
const RECORD_WORDS: usize = 8;
/// First word of the body inside a record.
const INLINE_WORD: usize = 4;
/// Bytes of a body that fit inside a record.
pub const INLINE_BYTES: usize = (RECORD_WORDS - INLINE_WORD) * 8;
/// Bytes of a slot's block for longer answers. Pages that no answer ever reached take no memory.
const BLOCK_BYTES: usize = BODY_BYTES_MAX.next_multiple_of(PAGE_BYTES as usize);

/// Of so many requests of a slot in a row one is recorded at least: few enough that half of all numbers holds several such rows, as a request
/// may be lost with its executor.
pub const RECORDED_EVERY: u32 = 1 << 28;

const FREE: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;
const UNCERTAIN: u8 = 3;

/// Who runs a request: what a claim writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The executor's number.
    pub executor: u16,
    /// Its place.
    pub place: Place,
    /// This run of the handler.
    pub execution: u64,
}

/// A request by its slot and sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The slot.
    pub slot: u16,
    /// The number within the slot.
    pub sequence: u32,
}

impl Request {
    /// Whether it is claimed and recorded even if it has no effects.
    #[inline]
    pub fn is_recorded(self) -> bool {
        self.sequence.is_multiple_of(RECORDED_EVERY)
    }
}

/// How a request stands in its slot's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has claimed it.
    Unclaimed,
    /// Somebody runs it.
    Running,
    /// It is done, and its answer recorded.
    Done,
    /// Its owner died while it ran.
    Uncertain,
    /// A later request has taken the slot: this one was answered long ago, or given up.
    Superseded,
    /// An earlier request of the slot still runs: the client broke the rules.
    Occupied,
}

/// An answer without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who ran it.
    pub owner: Owner,
    /// The handler's result, or why there is none.
    pub outcome: Result<i32, RuntimeError>,
    /// Bytes of the body.
    pub body_bytes: u16,
    /// How often it was suspended.
    pub suspensions: u32,
    /// UDMA operations that it executed.
    pub udma_operations: u32,
}

/// The slot records of one session.
#[derive(Clone, Debug)]
pub struct SlotTable {
    mapping: Arc<Mapping>,
    slots: u16,
}

fn pack(sequence: u32, owner: Owner, state: u8) -> u64 {
    u64::from(sequence) | u64::from(owner.executor) << 32 | u64::from(state) << 48 | (owner.place as u64) << 56
}

fn state(word: u64) -> u8 {
    (word >> 48) as u8
}

fn place(word: u64) -> Place {
    [Place::None, Place::Client, Place::Nic, Place::Host].get((word >> 56) as usize).copied().unwrap_or_default()
}

impl SlotTable {
    /// Bytes of memory for this many slots.
    pub fn bytes(slots: u16) -> u64 {
        SlotTable::blocks_start(slots) as u64 + u64::from(slots) * BLOCK_BYTES as u64
    }

    fn blocks_start(slots: u16) -> usize {
        (usize::from(slots) * RECORD_WORDS * 8).next_multiple_of(PAGE_BYTES as usize)
    }

    /// Records in memory that was zero when the session began; `None` if it is too short or the slots are 0 or over [`SLOTS_MAX`].
    pub fn new(mapping: Arc<Mapping>, slots: u16) -> Option<SlotTable> {
        let legal = (1..=SLOTS_MAX).contains(&slots) && mapping.length_bytes() >= SlotTable::bytes(slots);
        legal.then_some(SlotTable { mapping, slots })
    }

    /// Records in memory of their own.
    pub fn anonymous(slots: u16) -> std::io::Result<SlotTable> {
        let memory = crate::memory::SharedMemory::create("naam-slots", SlotTable::bytes(slots), crate::memory::Pages::Ordinary)?;
        SlotTable::new(memory.map()?, slots).ok_or_else(|| std::io::ErrorKind::InvalidInput.into())
    }

    /// How many slots there are.
    pub fn slots(&self) -> u16 {
        self.slots
    }

    fn record(&self, slot: u16) -> &[AtomicU64] {
        let start = usize::from(slot) * RECORD_WORDS;
        &self.mapping.words()[start..start + RECORD_WORDS]
    }

    fn block(&self, slot: u16) -> &[AtomicU64] {
        let start = (SlotTable::blocks_start(self.slots) + usize::from(slot) * BLOCK_BYTES) / 8;
        &self.mapping.words()[start..start + BLOCK_BYTES / 8]
    }

    fn standing_of(word: u64, sequence: u32) -> Standing {
        // Numbers wrap: what is less than half of them ahead is later.
        let ahead = sequence.wrapping_sub(word as u32) as i32;
        match (ahead, state(word)) {
            (_, FREE) => Standing::Unclaimed,
            (0, RUNNING) => Standing::Running,
            (0, DONE) => Standing::Done,
            (0, _) => Standing::Uncertain,
            (1.., RUNNING) => Standing::Occupied,
            (1.., _) => Standing::Unclaimed,
            (_, _) => Standing::Superseded,
        }
    }

    /// How a request stands. Its slot must be below [`SlotTable::slots`].
    pub fn standing(&self, request: Request) -> Standing {
        SlotTable::standing_of(self.record(request.slot)[0].load(Ordering::Acquire), request.sequence)
    }

    /// Claims a request: [`Standing::Unclaimed`] says that it was, and is now the owner's; anything else, why it is not.
    pub fn claim(&self, request: Request, owner: Owner) -> Standing {
        let record = self.record(request.slot);
        let mut word = record[0].load(Ordering::Acquire);
        loop {
            let standing = SlotTable::standing_of(word, request.sequence);
            if standing != Standing::Unclaimed {
                return standing;
            }
            let running = pack(request.sequence, owner, RUNNING);
            match record[0].compare_exchange_weak(word, running, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // Whoever still reads the answer that was here must see the claim before any word that changes.
                    fence(Ordering::Release);
                    record[1].store(owner.execution, Ordering::Relaxed);
                    return Standing::Unclaimed;
                }
                Err(found) => word = found,
            }
        }
    }

    /// Records the answer of a claimed request and marks it done. False if `owner` does not run it (any more): then nothing may be sent.
    pub fn finish(&self, request: Request, answer: &Answer, body: &[u8]) -> bool {
        let record = self.record(request.slot);
        let running = pack(request.sequence, answer.owner, RUNNING);
        if record[0].load(Ordering::Acquire) != running {
            return false;
        }
        let (result, error) = match answer.outcome {
            Ok(result) => (result as u32, 0),
            Err(error) => (0, error as u16),
        };
        let lengths = u64::from(result) | u64::from(error) << 32 | (body.len() as u64) << 48;
        record[2].store(lengths, Ordering::Relaxed);
        record[3].store(u64::from(answer.suspensions) | u64::from(answer.udma_operations) << 32, Ordering::Relaxed);
        let words = if body.len() <= INLINE_BYTES { &record[INLINE_WORD..] } else { self.block(request.slot) };
        store_words(words, body, Ordering::Relaxed);
        // Nobody else takes it from there while this process lives.
        record[0].store(pack(request.sequence, answer.owner, DONE), Ordering::Release);
        true
    }

    /// The recorded answer, its body copied to the front of `body`, which is as long as a body can be; `None` if the request is not
    /// done, its slot was taken by a later one meanwhile, or there is no such slot.
    pub fn answer(&self, request: Request, body: &mut [u8]) -> Option<Answer> {
        if request.slot >= self.slots {
            return None;
        }
        let record = self.record(request.slot);
        let word = record[0].load(Ordering::Acquire);
        if SlotTable::standing_of(word, request.sequence) != Standing::Done {
            return None;
        }
        let at = |index: usize| record[index].load(Ordering::Relaxed);
        let (execution, lengths, counts) = (at(1), at(2), at(3));
        let body_bytes = (lengths >> 48) as usize;
        let words = if body_bytes <= INLINE_BYTES { &record[INLINE_WORD..] } else { self.block(request.slot) };
        load_words(words, body.get_mut(..body_bytes)?);
        fence(Ordering::Acquire);
        if record[0].load(Ordering::Relaxed) != word {
            return None;
        }
        let outcome = match (lengths >> 32) as u16 {
            0 => Ok(lengths as u32 as i32),
            number => Err(RuntimeError::from_number(number)?),
        };
        Some(Answer {
            owner: Owner { executor: (word >> 32) as u16, place: place(word), execution },
            outcome,
            body_bytes: body_bytes as u16,
            suspensions: counts as u32,
            udma_operations: (counts >> 32) as u32,
        })
    }

    /// Forgets what is recorded of a slot that has no request under way. For tables whose requests cannot arrive twice.
    pub fn forget(&self, slot: u16) {
        self.record(slot)[0].store(0, Ordering::Release);
    }

    /// Makes the claims of a dead executor uncertain and returns how many there were. For whoever has reaped its process.
    pub fn mark_uncertain(&self, executor: u16) -> usize {
        (0..self.slots).filter(|slot| self.mark_slot_uncertain(*slot, executor)).count()
    }

    fn mark_slot_uncertain(&self, slot: u16, executor: u16) -> bool {
        let word = &self.record(slot)[0];
        let found = word.load(Ordering::Acquire);
        let owner = Owner { executor, place: place(found), execution: 0 };
        if state(found) != RUNNING || (found >> 32) as u16 != executor {
            return false;
        }
        let uncertain = pack(found as u32, owner, UNCERTAIN);
        word.compare_exchange(found, uncertain, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// What a session may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Deployments, by index, whose handlers it may call: one bit each.
    invoke: Vec<u64>,
    /// Deployments whose regions it may also reach by UDMA, and whose messages it may begin elsewhere.
    direct: Vec<u64>,
}

impl Grants {
    /// Nothing.
    pub fn none() -> Grants {
        Grants::default()
    }

    /// Every deployment, now and later: for the starter, who owns everything.
    pub fn all() -> Grants {
        let all = vec![u64::MAX; (1 << 16) / 64];
        Grants { invoke: all.clone(), direct: all }
    }

    /// Allows calling the handlers of a deployment.
    pub fn allow_invoke(&mut self, deployment: u16) {
        set(&mut self.invoke, deployment);
    }

    /// Allows reaching the regions of a deployment, too.
    pub fn allow_direct(&mut self, deployment: u16) {
        set(&mut self.invoke, deployment);
        set(&mut self.direct, deployment);
    }

    /// Whether the handlers of a deployment may be called.
    #[inline]
    pub fn may_invoke(&self, deployment: u16) -> bool {
        is_set(&self.invoke, deployment)
    }

    /// Whether the regions of a deployment may be reached by UDMA, and its messages may arrive as continuations.
    #[inline]
    pub fn may_reach(&self, deployment: u16) -> bool {
        is_set(&self.direct, deployment)
    }
}

fn set(bits: &mut Vec<u64>, index: u16) {
    let word = usize::from(index) / 64;
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    bits[word] |= 1 << (index % 64);
}

#[inline]
fn is_set(bits: &[u64], index: u16) -> bool {
    bits.get(usize::from(index) / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

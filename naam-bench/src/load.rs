//! The load generator: one client in a closed loop, which keeps its window full and checks every answer.
//!
//! It works batch by batch: take all answers, read the clock once, send as many requests as there is room for. Nothing is allocated
//! for a request. What requests and answers look like is in [`table`] and [`tree`], how they travel behind [`Connection`]; what a report
//! makes of the counts is elsewhere.

mod table;
mod tree;

pub use tree::{Scan, Tree};

use crate::application::Handler;
use crate::measurement::Measurement;
use crate::mica;
use crate::workload::distribution::Distribution;
use crate::workload::mix::Operation;
use crate::workload::stream::Stream;
use crate::workload::values::{Stamp, VALUE_BYTES_MIN};
use crate::workload::versions::{Ending, Versions};
use runtime::clock::Clock;
use runtime::message::Place;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// Bytes of the largest request.
const REQUEST_BYTES_MAX: usize = mica::ITEM_BYTES_MAX;
/// Handler results that are counted one by one; whatever lies above shares the last place.
const RESULTS_COUNTED: usize = 8;
/// All places, and none, by their numbers.
const PLACES_ALL: [Place; PLACES] = [Place::None, Place::Client, Place::Nic, Place::Host];
const PLACES: usize = 4;

/// Why a request ended without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was not accepted and can be sent again.
    Busy,
    /// It ended in this error.
    Ended(String),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// The handler's result.
    pub outcome: Result<i32, Fault>,
    /// The reply.
    pub body: &'a [u8],
    /// How often the message was suspended.
    pub suspensions: u32,
    /// UDMA operations that it made.
    pub udma_operations: u32,
    /// Where it ran.
    pub place: Place,
}

/// A client's session with a cluster.
pub trait Connection {
    /// Sends a request whose answer will carry `tag`. False if there is no room for it now.
    ///
    /// # Errors
    /// If the session has ended.
    fn submit(&mut self, handler: Handler, flow_hash: u64, tag: u32, body: &[u8]) -> Result<bool, String>;

    /// Hands over all answers that have arrived, and returns their number.
    ///
    /// # Errors
    /// If the session has ended.
    fn poll(&mut self, take: &mut impl FnMut(u32, Answer<'_>)) -> Result<usize, String>;

    /// Waits for an answer, or for a short time. Called when there was nothing to do.
    ///
    /// # Errors
    /// If the session has ended.
    fn wait(&mut self) -> Result<(), String>;
}

/// What all clients of a run share.
pub struct Shared {
    /// What may be read.
    pub versions: Versions,
    /// How values are made.
    pub stamp: Stamp,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// The tree, if it is Cell's that serves and not MICA's table.
    pub tree: Option<Tree>,
    /// Where the run stands.
    pub phase: CurrentPhase,
    /// Requests answered so far, for progress.
    pub answered: AtomicU64,
}

/// Where a run stands, as its clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Requests are answered and checked, but not counted.
    WarmUp,
    /// They count.
    Measure,
    /// No more are sent.
    Stop,
}

/// The phase that all clients of a run are in, or go on to.
#[derive(Debug, Default)]
pub struct CurrentPhase(AtomicU8);

impl CurrentPhase {
    /// Lets all clients go on to this phase.
    pub fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    /// The phase now.
    #[inline]
    pub fn get(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::WarmUp,
            1 => Phase::Measure,
            _ => Phase::Stop,
        }
    }
}

impl Shared {
    /// For at most `capacity` records, in a tree if there is one.
    pub fn new(stamp: Stamp, capacity: u64, key_bytes: usize, value_bytes: usize, tree: Option<Tree>) -> Shared {
        Shared {
            versions: Versions::new(capacity),
            stamp,
            key_bytes,
            value_bytes,
            tree,
            phase: CurrentPhase::default(),
            answered: AtomicU64::new(0),
        }
    }

    /// The same for a server that cannot modify a value itself: there a read-modify-write reads a value and then writes one of its own
    /// version, as a client of YCSB does.
    pub fn overwriting(self) -> Shared {
        Shared { stamp: Stamp::Versioned, ..self }
    }

    /// Whether the server itself changes values, and so counts their versions.
    fn server_modifies(&self) -> bool {
        self.stamp == Stamp::Counted
    }

    /// Lets all clients go on to this phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.enter(phase);
    }
}

/// Where a client's requests come from.
pub enum Source<'a> {
    /// Inserts the records up to this number. Ends by itself.
    Load(u64),
    /// A drawn stream. Ends with [`Phase::Stop`], or when there is no number left to insert.
    Stream(&'a mut Stream, Distribution),
    /// Reads every `step`th record once, from the first number on, when nobody writes any more. Ends by itself.
    Sweep {
        /// The next record.
        next: u64,
        /// How many clients share the sweep.
        step: u64,
    },
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    operation: Operation,
    number: u64,
    /// The oldest version that a read may return, or the version that a write carries.
    version: u32,
    /// For a scan: what it still has to do.
    scan: Scan,
    sent_ns: u64,
}

/// One client.
pub struct Client<'a, C: Connection, T: Clock> {
    connection: &'a mut C,
    shared: &'a Shared,
    clock: &'a T,
    pending: Vec<Pending>,
    free: Vec<u32>,
    /// Requests to be sent again.
    again: Vec<u32>,
    counts: Counts,
    request: [u8; REQUEST_BYTES_MAX],
}

/// What is counted between two readings of the clock.
#[derive(Default)]
struct Counts {
    measured: Measurement,
    results: [u64; RESULTS_COUNTED],
    /// UDMA operations and suspensions, by [`Place`].
    costs: [(u64, u64); PLACES],
    /// Latencies that are still to be recorded: when requests were sent, where they ran, and how many did both.
    sent: Vec<(u64, Place, u64)>,
}

impl<'a, C: Connection, T: Clock> Client<'a, C, T> {
    /// A client that keeps `window` requests under way.
    pub fn new(connection: &'a mut C, shared: &'a Shared, clock: &'a T, window: usize) -> Client<'a, C, T> {
        let nothing = Pending { operation: Operation::Read, number: 0, version: 0, scan: Scan::default(), sent_ns: 0 };
        Client {
            connection,
            shared,
            clock,
            pending: vec![nothing; window],
            free: (0..window as u32).rev().collect(),
            again: Vec::with_capacity(window),
            counts: Counts { sent: Vec::with_capacity(window), ..Counts::default() },
            request: [0; REQUEST_BYTES_MAX],
        }
    }

    /// Sends everything that the source has and waits for every answer; returns what was counted.
    ///
    /// # Errors
    /// If the session ends.
    pub fn run(mut self, mut source: Source<'_>) -> Result<Measurement, String> {
        let timed = matches!(source, Source::Stream(..));
        let mut phase = if timed { Phase::WarmUp } else { Phase::Measure };
        let (mut now_ns, mut exhausted, mut finished) = (self.clock.now_ns(), false, None);
        let mut from_ns = now_ns;
        loop {
            if timed && phase != Phase::Stop {
                let current = if exhausted { Phase::Stop } else { self.shared.phase.get() };
                if current != phase {
                    // Since the last reading there may have been a stall: it belongs to the phase in which it was.
                    now_ns = self.clock.now_ns();
                }
                if phase == Phase::WarmUp && current != Phase::WarmUp {
                    self.counts.measured = self.counts.close(0).only_wrong();
                    from_ns = now_ns;
                }
                if current == Phase::Stop {
                    finished = Some(self.counts.close(now_ns - from_ns));
                }
                phase = current;
            }
            let sending = phase != Phase::Stop && !exhausted;
            let sent;
            if sending {
                (sent, exhausted) = self.fill(&mut source, now_ns)?;
            } else {
                sent = self.send_again()?;
                if self.free.len() == self.pending.len() {
                    return Ok(match finished {
                        None => self.counts.close(now_ns - from_ns),
                        Some(mut measured) => {
                            measured.add_client(self.counts.close(0).only_wrong());
                            measured
                        }
                    });
                }
            }
            let answered = self.poll()?;
            now_ns = self.clock.now_ns();
            self.counts.record(now_ns);
            if answered == 0 && sent == 0 {
                self.connection.wait()?;
            } else {
                self.shared.answered.fetch_add(answered as u64, Ordering::Relaxed);
            }
        }
    }

    /// Sends requests until the window is full, the connection has no room, or the source is exhausted (then the second is true).
    fn fill(&mut self, source: &mut Source<'_>, now_ns: u64) -> Result<(usize, bool), String> {
        let mut sent = self.send_again()?;
        let mut exhausted = false;
        while self.again.is_empty()
            && let Some(tag) = self.free.last().copied()
        {
            let Some((operation, number, version)) = self.next(source) else {
                exhausted = true;
                break;
            };
            self.free.pop();
            // Field by field: a copy of the whole would wait for the stores of its parts.
            let pending = &mut self.pending[tag as usize];
            pending.operation = operation;
            pending.number = number;
            pending.version = version;
            pending.sent_ns = now_ns;
            if operation == Operation::Scan
                && let (Some(tree), Source::Stream(stream, _)) = (&self.shared.tree, &*source)
            {
                pending.scan = tree.scan(number, stream.scan_records(tree.scan_records_max));
            }
            if self.send(tag)? {
                sent += 1;
            } else {
                self.again.push(tag);
            }
        }
        // Polling sends them on their way, in batches.
        Ok((sent, exhausted))
    }

    /// Sends what was refused for lack of room or has to go on, as far as there is room now.
    fn send_again(&mut self) -> Result<usize, String> {
        let mut sent = 0;
        while let Some(tag) = self.again.last().copied() {
            if !self.send(tag)? {
                break;
            }
            self.again.pop();
            sent += 1;
        }
        Ok(sent)
    }

    /// The next request of the source: operation, record and version. What a read must return, and the version of a write, are settled
    /// here.
    #[inline(always)]
    fn next(&self, source: &mut Source<'_>) -> Option<(Operation, u64, u32)> {
        let versions = &self.shared.versions;
        let (operation, number) = match source {
            Source::Load(records) => (Operation::Insert, versions.take_number(*records)?),
            Source::Sweep { next, step } => {
                let number = *next;
                *next += *step;
                if number >= versions.acknowledged() {
                    return None;
                }
                // Nobody writes: where versions are counted, the newest is the only right one.
                let version = if self.shared.stamp == Stamp::Counted { versions.newest(number) } else { versions.floor(number) };
                return Some((Operation::Read, number, version));
            }
            Source::Stream(stream, distribution) => {
                versions.prefetch(stream.ahead().number());
                let draft = stream.next();
                let number = match (draft.operation(), distribution) {
                    (Operation::Insert, _) => versions.take_number(u64::MAX)?,
                    (_, Distribution::Latest) => {
                        let newest = versions.acknowledged().saturating_sub(1);
                        newest - draft.number().min(newest)
                    }
                    _ => draft.number(),
                };
                (draft.operation(), number)
            }
        };
        let reads = matches!(operation, Operation::Read | Operation::Scan);
        let version = if reads { versions.floor(number) } else { versions.begin_write(number) };
        Some((operation, number, version))
    }

    /// Writes the request and gives it to the connection.
    #[inline]
    fn send(&mut self, tag: u32) -> Result<bool, String> {
        let pending = &self.pending[tag as usize];
        let (handler, length, hash) = match &self.shared.tree {
            None => table::write(self.shared, pending, &mut self.request),
            Some(tree) => tree::write(self.shared, tree, pending, &mut self.request),
        };
        self.connection.submit(handler, hash, tag, &self.request[..length])
    }

    /// Takes all answers and checks them.
    fn poll(&mut self) -> Result<usize, String> {
        let Client { connection, shared, pending, free, again, counts, .. } = self;
        connection.poll(&mut |tag, answer| {
            let Some(request) = pending.get_mut(tag as usize) else {
                counts.measured.errors.insert(format!("an answer to request {tag}, which was never sent"), 1);
                return;
            };
            let ending = if matches!(answer.outcome, Ok(mica::OK)) { Ending::Done } else { Ending::Doubtful };
            match answer.outcome {
                // Others were in the way, or there was no room: nothing was done.
                Ok(mica::BUSY) | Err(Fault::Busy) => {
                    counts.measured.busy += 1;
                    again.push(tag);
                    return;
                }
                Ok(result) => {
                    counts.cost(&answer);
                    if result == mica::OK {
                        match &shared.tree {
                            None => table::check(shared, &mut counts.measured, request, answer.body),
                            Some(tree) if tree::check(shared, tree, &mut counts.measured, request, answer.body) => {
                                again.push(tag);
                                return;
                            }
                            Some(_) => {}
                        }
                    }
                    counts.answered(request, result, answer.place);
                }
                Err(Fault::Ended(error)) => {
                    counts.sent(request, answer.place);
                    *counts.measured.errors.entry(error).or_default() += 1;
                }
            }
            match request.operation {
                Operation::Read | Operation::Scan => {}
                Operation::Insert => shared.versions.end_insert(request.number, ending),
                Operation::Update | Operation::ReadModifyWrite => shared.versions.end_write(request.number, ending),
            }
            free.push(tag);
        })
    }
}

/// Judges a value that was read: its version, if it is one that was written under this number, against the oldest that may be seen.
#[inline]
fn judge(shared: &Shared, measured: &mut Measurement, number: u64, version: Option<u32>, floor: u32, body: &[u8]) {
    measured.values_checked += 1;
    // A number that was never taken has no newest version.
    let newest = shared.versions.newest(number);
    match version {
        Some(version) if (floor..=newest).contains(&version) => {}
        Some(version) => {
            measured.wrong_value(|| format!("record {number} has version {version}, where {floor} to {newest} was right"))
        }
        None => measured.wrong_value(|| format!("record {number} has a value that was never written: {}", hex(body))),
    }
}

/// The beginning of a reply, in hex.
fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 2 * VALUE_BYTES_MIN + mica::ITEM_HEADER_BYTES;
    let shown: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN { format!("{shown}... ({} bytes)", bytes.len()) } else { format!("{shown} ({} bytes)", bytes.len()) }
}

impl Counts {
    /// Notes what an answer cost: a scan has several.
    #[inline]
    fn cost(&mut self, answer: &Answer<'_>) {
        let (udma_operations, suspensions) = &mut self.costs[answer.place as usize];
        *udma_operations += u64::from(answer.udma_operations);
        *suspensions += u64::from(answer.suspensions);
    }

    #[inline]
    fn answered(&mut self, request: &Pending, result: i32, place: Place) {
        self.results[usize::try_from(result).unwrap_or(RESULTS_COUNTED).min(RESULTS_COUNTED - 1)] += 1;
        self.sent(request, place);
    }

    /// Notes when an answered request was sent. Neighbours in a batch were sent together, so there is little to note.
    #[inline]
    fn sent(&mut self, request: &Pending, place: Place) {
        match self.sent.last_mut() {
            Some((sent_ns, ran_at, count)) if *sent_ns == request.sent_ns && *ran_at == place => *count += 1,
            _ => self.sent.push((request.sent_ns, place, 1)),
        }
    }

    /// Records the latencies of what was answered since the last time.
    fn record(&mut self, now_ns: u64) {
        for (sent_ns, place, count) in self.sent.drain(..) {
            let latency_ns = now_ns.saturating_sub(sent_ns).clamp(1, self.measured.latency_ns.high());
            // The bounds are the histogram's own, so there is no error to tell.
            let _ = self.measured.latency_ns.record_n(latency_ns, count);
            if place != Place::None {
                let _ = self.measured.places.entry(place).or_default().latency_ns.record_n(latency_ns, count);
            }
        }
    }

    /// Ends an interval and returns what was counted in it.
    fn close(&mut self, elapsed_ns: u64) -> Measurement {
        let mut measured = std::mem::take(&mut self.measured);
        for (result, count) in std::mem::take(&mut self.results).into_iter().enumerate().filter(|(_, count)| *count > 0) {
            *measured.results.entry(result as i32).or_default() += count;
        }
        for (place, (udma_operations, suspensions)) in PLACES_ALL.into_iter().zip(std::mem::take(&mut self.costs)) {
            measured.udma_operations += udma_operations;
            measured.suspensions += suspensions;
            if let Some(counts) = measured.places.get_mut(&place) {
                counts.udma_operations += udma_operations;
                counts.suspensions += suspensions;
            }
        }
        measured.elapsed = Duration::from_nanos(elapsed_ns);
        measured
    }
}

#[cfg(test)]
mod tests;

//! The client library: typed messages to handlers, pipelined, each answered once.
//!
//! A [`Session`] has a fixed number of slots, and so a window: [`Session::submit`] takes one and [`Session::poll`] hands back replies as
//! they come, in any order. [`Session::call`] is both for one message. Nothing is allocated per request; system calls are made
//! only to wake a sleeping executor or to sleep.
//!
//! ```
//! use runtime::client::Session;
//! # use naamc::{activation::Activation, interpreter::Outcome};
//! # use runtime::{deployment::*, engine::*, executor::*, metrics::MetricsWriter, session::*, transport::shared_memory::*, udma::Local};
//! # use runtime::{clock::MonotonicClock, waiting::Waiting};
//! # struct Doubling;
//! # impl Program for Doubling {
//! #     fn run(&self, activation: &mut Activation, _: &mut Turn<'_>) -> Outcome {
//! #         let number = u32::from_le_bytes(activation.body()[..4].try_into().unwrap());
//! #         activation.body_mut()[4..8].copy_from_slice(&(2 * number).to_le_bytes());
//! #         Outcome::Finished(7)
//! #     }
//! # }
//! # let shape = Shape { body_bytes: 8, request_bytes: 4, reply_bytes_max: 8, claims: false, operations: vec![] };
//! # let identity = Identity { name: "arithmetic".into(), index: 0, generation: 1 };
//! # let handler = Handler::new("double", shape, std::sync::Arc::new(Doubling));
//! # let deployment = std::sync::Arc::new(Deployment::new(identity, vec![handler], vec![], Limits::default()));
//! # let (server_link, client_link) = RingLink::pair(RingSizes::default())?;
//! # let (mailbox, inbox) = thread::mailbox()?;
//! # mailbox.send(Command::Deploy(deployment));
//! # let slots = SlotTable::anonymous(16)?;
//! # mailbox.send(Command::Attach(ServerSession { id: 1, link: server_link, slots, grants: Grants::all() }));
//! # let executor_thread = std::thread::spawn(move || {
//! #     let mut executor = Executor::new(Options::host(1, 0), Box::new(Local), MetricsWriter::nowhere());
//! #     thread::run(&mut executor, &inbox, &MonotonicClock::new(), Waiting { spin_us: 0 }, &mut |_| {}).unwrap();
//! # });
//! # let target = runtime::message::Target { deployment: 0, generation: 1, handler: 0 };
//! # let mut session = Session::new(1, 16, vec![(1, client_link)], None, Waiting { spin_us: 0 });
//! runtime::message_struct! {
//!     /// What the handler `double` takes and returns.
//!     pub struct Double { number: u32, doubled: u32 }
//! }
//!
//! // One message, and its reply.
//! let (reply, answer) = session.call_typed(target, &Double { number: 21, doubled: 0 })?;
//! assert_eq!((reply.result, answer.doubled), (7, 42));
//!
//! // Many at a time: the token says which request a reply belongs to.
//! for number in 0..10u32 {
//!     session.submit(target, None, &number.to_le_bytes(), number.into())?;
//! }
//! let mut done = 0;
//! while done < 10 {
//!     done += session.poll(|reply| {
//!         let doubled = u32::from_le_bytes(reply.body[4..8].try_into().unwrap());
//!         assert_eq!((reply.outcome, u64::from(doubled)), (Ok(7), 2 * reply.token));
//!     })?;
//!     session.wait(None)?;
//! }
//! # mailbox.send(Command::Stop);
//! # executor_thread.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod membership;
mod typed;

pub use membership::{Change, Membership, News};
pub use typed::{Field, Message};

use crate::message::{Header, HeaderWords, Kind, Place, RuntimeError, Target};
use crate::session::Request;
use crate::steering::{CLIENT, FlowView, flow_of};
use crate::transport::shared_memory::RingLink;
use crate::transport::wake::wait_any;
use crate::transport::{Broken, Link, WaitFor, body_record_bytes, record_bytes};
use crate::waiting::{Lookout, Waiting};
use naamc::abi::BODY_BYTES_MAX;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Requests that make a batch.
const BATCH: usize = 16;

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The handler did not run to its end, or not at all.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The link to an executor is broken: what was under way there may or may not have taken effect.
    #[error("lost the executor: {0}")]
    Lost(#[from] Broken),
    /// All slots are taken, or the link has no room: poll first.
    #[error("as many requests are under way as the session can hold")]
    Full,
    /// The body is longer than a message can carry.
    #[error("a body of {0} bytes; a message carries at most {BODY_BYTES_MAX}")]
    TooLong(usize),
    /// The ring to the executor can never hold the message.
    #[error("a message of {bytes} bytes; the ring to its executor takes at most {ring_bytes}: open the session with larger rings")]
    TooLongForRing {
        /// Bytes of the message's record.
        bytes: usize,
        /// Bytes that the ring holds.
        ring_bytes: usize,
    },
    /// The reply is too short for the type it was expected to have.
    #[error("a reply of {got} bytes where {wanted} were expected")]
    Short {
        /// Bytes of the reply.
        got: usize,
        /// Bytes of the type.
        wanted: usize,
    },
    /// The system could not wait.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No reply came in time. The request is still under way.
    #[error("no reply came in time")]
    TimedOut,
}

/// A request that came to its end, as [`Session::poll`] hands it over.
#[derive(Clone, Copy, Debug)]
pub struct Completion<'a> {
    /// What the request was submitted with.
    pub token: u64,
    /// The handler's result, or why there is none.
    pub outcome: Result<i32, RuntimeError>,
    /// The reply's body.
    pub body: &'a [u8],
    /// Where it ran.
    pub place: Place,
    /// The executor that ran it.
    pub executor: u16,
    /// How often it was suspended.
    pub suspensions: u32,
    /// UDMA operations that it executed.
    pub udma_operations: u32,
}

/// The reply to [`Session::call`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The handler's result.
    pub result: i32,
    /// The reply's body.
    pub body: Vec<u8>,
    /// Where it ran.
    pub place: Place,
    /// The executor that ran it.
    pub executor: u16,
    /// How often it was suspended.
    pub suspensions: u32,
    /// UDMA operations that it executed.
    pub udma_operations: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Number of the slot's last request.
    sequence: u32,
    under_way: bool,
    /// Whether [`Session::call`] sent it. Its token is then the number of the call.
    is_call: bool,
    /// Index of the link that it went through; [`NO_LINK`] while it waits for one.
    link: u16,
    flow: u16,
    body_bytes: u16,
    kind: Kind,
    /// A server has had it: only servers know what became of it, and it never runs in this process again.
    at_servers: bool,
    /// It was sent on while it was under way.
    has_moved: bool,
    target: Target,
    token: u64,
}

/// What becomes of a message that has left its executor.
enum Onward {
    /// Nothing: it is not under way there.
    Nowhere,
    /// It goes on through the link with this index.
    Through(usize),
    /// It waits for room, or for a server.
    Waits,
    /// Its request is sent again: nothing of it has taken effect.
    Again,
}

/// Whether a record of so many bytes can be sent now.
fn has_room<L: Link>(link: &mut L, bytes: usize) -> bool {
    matches!(link.room_bytes(bytes), Ok(room) if room >= bytes)
}

/// No link, in a slot.
const NO_LINK: u16 = u16::MAX;

struct ClientLink<L> {
    executor: u16,
    place: Place,
    link: L,
    /// Requests sent but not flushed.
    unsent: usize,
    broken: Option<Broken>,
    /// Its executor is known to have ended: another link may take its place.
    gone: bool,
}

impl<L> ClientLink<L> {
    fn new(executor: u16, place: Place, link: L) -> ClientLink<L> {
        ClientLink { executor, place, link, unsent: 0, broken: None, gone: false }
    }

    /// Whether it leads to a server's executor that works.
    fn serves(&self) -> bool {
        self.broken.is_none() && self.place != Place::Client
    }
}

/// A connection to a node: one link to each executor.
pub struct Session<L = RingLink> {
    id: u32,
    links: Vec<ClientLink<L>>,
    flows: Option<FlowView>,
    slots: Vec<Slot>,
    free: Vec<u16>,
    lookout: Lookout,
    body: Box<[u8; BODY_BYTES_MAX]>,
    /// Requests whose link broke, to be handed over.
    lost: Vec<u16>,
    /// Where it hears of executors that come and go, if they do.
    hearing: Option<membership::Hearing<L>>,
    /// The place in this process, and the index of its link.
    local: Option<(Box<dyn LocalPlace>, usize)>,
    /// Number of the last call: a reply that comes after its call was given up belongs to no other.
    last_call: u64,
}

impl<L: Link> Session<L> {
    /// A session with this id and number of slots, as its node granted them, and a link to each executor by its number. Without a
    /// flow table everything goes through the first link.
    ///
    /// # Panics
    /// If there is no link or no slot.
    pub fn new(id: u32, slots: u16, links: Vec<(u16, L)>, flows: Option<FlowView>, waiting: Waiting) -> Session<L> {
        assert!(!links.is_empty(), "a session has links");
        Session::over(id, slots, links, flows, waiting)
    }

    fn over(id: u32, slots: u16, links: Vec<(u16, L)>, flows: Option<FlowView>, waiting: Waiting) -> Session<L> {
        assert!(slots > 0, "a session has slots");
        Session {
            id,
            links: links.into_iter().map(|(executor, link)| ClientLink::new(executor, Place::Host, link)).collect(),
            flows,
            slots: vec![Slot::default(); usize::from(slots)],
            free: (0..slots).rev().collect(),
            lookout: Lookout::new(waiting),
            body: Box::new([0; BODY_BYTES_MAX]),
            lost: Vec::with_capacity(usize::from(slots)),
            hearing: None,
            local: None,
            last_call: 0,
        }
    }

    /// Its id on the node.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Requests that can be under way at a time.
    pub fn window(&self) -> usize {
        self.slots.len()
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Sends a request. Its flow is that of `key_hash`, else of the session. It is on its way after the next [`Session::flush`] or
    /// [`Session::wait`], or when [`Session::poll`] finds it worth while.
    ///
    /// # Errors
    /// [`Error::Full`] if slots or link have no room now; [`Error::TooLong`]; [`Error::Lost`] if the flow's executor is gone.
    #[inline]
    pub fn submit(&mut self, target: Target, key_hash: Option<u64>, body: &[u8], token: u64) -> Result<(), Error> {
        self.send(Kind::Request, target, key_hash, body, token, false)
    }

    /// Sends a message of a kind that is answered by a reply. `is_call` says who waits for that.
    #[inline]
    pub(crate) fn send(
        &mut self,
        kind: Kind,
        target: Target,
        key_hash: Option<u64>,
        body: &[u8],
        token: u64,
        is_call: bool,
    ) -> Result<(), Error> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Error::TooLong(body.len()));
        }
        let flow = flow_of(key_hash.unwrap_or(u64::from(self.id)));
        let Some(&slot_index) = self.free.last() else { return Err(Error::Full) };
        let sequence = self.slots[usize::from(slot_index)].sequence.wrapping_add(1);
        let at_servers = Request { slot: slot_index, sequence }.is_recorded();
        if let Some((place, _)) = self.local.as_mut().filter(|_| at_servers) {
            place.forget(slot_index);
        }
        let link = match self.link_of(kind, target, flow, at_servers) {
            None => NO_LINK,
            Some(link_index) => {
                let bytes = body_record_bytes(body.len());
                let link = &mut self.links[link_index].link;
                match link.room_bytes(bytes) {
                    Ok(room) if room >= bytes => link_index as u16,
                    Ok(_) if bytes > link.capacity_bytes() => {
                        return Err(Error::TooLongForRing { bytes, ring_bytes: link.capacity_bytes() });
                    }
                    Ok(_) => return Err(Error::Full),
                    Err(broken) => {
                        self.lose(link_index, broken);
                        NO_LINK
                    }
                }
            }
        };
        if link == NO_LINK && self.hearing.is_none() {
            let broken = self.links.iter().find_map(|state| state.broken).unwrap_or(Broken::Closed);
            return Err(broken.into());
        }
        self.free.pop();
        let at_servers = at_servers || self.links.get(usize::from(link)).is_some_and(|state| state.place != Place::Client);
        let body_bytes = body.len() as u16;
        let slot =
            Slot { sequence, under_way: true, is_call, link, flow, body_bytes, kind, at_servers, has_moved: false, target, token };
        self.slots[usize::from(slot_index)] = slot;
        if let Some(hearing) = &mut self.hearing {
            hearing.keep(slot_index, body, link == NO_LINK);
        }
        if let Some(state) = self.links.get_mut(usize::from(link)) {
            // Not out of its place: what was just stored in parts would be loaded in others, and wait for all stores before.
            state.send(slot_index, &slot, body);
        }
        Ok(())
    }

    /// The flow table, if its node has one.
    pub(crate) fn flows(&self) -> Option<&FlowView> {
        self.flows.as_ref()
    }

    /// The link through which a message goes, if it has one that works.
    #[inline]
    fn link_of(&self, kind: Kind, target: Target, flow: u16, at_servers: bool) -> Option<usize> {
        // What most messages need: the executor that the table names is there.
        if kind == Kind::Request
            && let Some(entry) = self.flows.as_ref().map(|flows| flows.get(flow))
            && let Some(index) = self.links.iter().position(|link| u32::from(link.executor) == entry && link.serves())
        {
            return Some(index);
        }
        let local = local_link(self.local.as_ref(), target).filter(|_| !at_servers);
        link_of(&self.links, self.flows.as_ref(), self.hearing.is_some(), (kind, flow), local)
    }

    /// Lets a place in this process serve what the flow table sends to clients. Nothing may be under way.
    ///
    /// # Panics
    /// If there is one already.
    pub fn attach(&mut self, link: L, place: Box<dyn LocalPlace>) {
        assert!(self.local.is_none(), "a session has one place in its process");
        self.links.push(ClientLink::new(0, Place::Client, link));
        self.local = Some((place, self.links.len() - 1));
    }

    /// Sends what was submitted on its way.
    pub fn flush(&mut self) {
        for state in &mut self.links {
            state.link.flush();
            state.unsent = 0;
        }
    }

    /// Hands over the replies that are there, each once, and returns how many; those to calls that were given up go to nobody. If there
    /// are none, or enough requests for a batch were submitted, it also sends these on their way; a client that then does something else
    /// calls [`Session::flush`] or [`Session::wait`].
    ///
    /// # Errors
    /// [`Error::Lost`] once for every link that breaks, after which its requests are handed over as [`RuntimeError::Uncertain`].
    pub fn poll(&mut self, mut completed: impl FnMut(Completion<'_>)) -> Result<usize, Error> {
        let mut count = 0;
        self.poll_links(|is_call, completion| {
            if !is_call {
                count += 1;
                completed(completion);
            }
        })?;
        Ok(count)
    }

    /// Hands over all replies that are there, each with whether it is one to a call.
    #[inline]
    fn poll_links(&mut self, mut completed: impl FnMut(bool, Completion<'_>)) -> Result<(), Error> {
        if let Some((place, _)) = &mut self.local {
            place.turn();
        }
        self.follow_news(&mut completed)?;
        while let Some(number) = self.lost.pop() {
            self.free.push(number);
            let Slot { token, is_call, .. } = self.slots[usize::from(number)];
            let outcome = Err(RuntimeError::Uncertain);
            let completion =
                Completion { token, outcome, body: &[], place: Place::None, executor: 0, suspensions: 0, udma_operations: 0 };
            completed(is_call, completion);
        }
        for index in 0..self.links.len() {
            if self.links[index].broken.is_none()
                && let Err(broken) = self.poll_link(index, &mut completed)
            {
                self.lose(index, broken);
                if self.hearing.is_none() || broken != Broken::Closed {
                    return Err(broken.into());
                }
            }
        }
        Ok(())
    }

    fn poll_link(&mut self, index: usize, completed: &mut impl FnMut(bool, Completion<'_>)) -> Result<(), Broken> {
        let ClientLink { link, unsent, .. } = &mut self.links[index];
        let has_replies = link.next()?.is_some();
        // While replies come in, requests go out in small batches: each flush costs both sides a cache miss.
        if !has_replies || *unsent >= BATCH {
            link.flush();
            *unsent = 0;
        }
        while let Some(words) = self.links[index].link.next()? {
            let header = Header::parse(&words);
            if let Ok(Header { kind: Kind::Continuation, .. }) = header {
                if !self.forward(index) {
                    return Ok(());
                }
                continue;
            }
            let ClientLink { link, .. } = &mut self.links[index];
            if let Ok(header) = header
                && header.kind == Kind::Reply
                && let Some(slot) = self.slots.get_mut(usize::from(header.slot))
                && slot.under_way
                && slot.sequence == header.sequence
            {
                if slot.has_moved && header.error == Some(RuntimeError::NotGranted) {
                    // Grants have changed on its way, here before there: as a request it may still be allowed.
                    link.advance();
                    self.begin_again(header.slot);
                    continue;
                }
                let body = &mut self.body[..usize::from(header.body_bytes)];
                link.copy(0, body);
                slot.under_way = false;
                self.free.push(header.slot);
                let outcome = header.error.map_or(Ok(header.result), Err);
                let Header { place, executor, suspensions, udma_operations, .. } = header;
                let token = slot.token;
                completed(slot.is_call, Completion { token, outcome, body, place, executor, suspensions, udma_operations });
            }
            // Anything else is a reply that was given before.
            link.advance();
        }
        Ok(())
    }

    /// Gives up a link. Its requests come to their end as uncertain, unless its executor has ended and it will be told what to do.
    fn lose(&mut self, index: usize, broken: Broken) {
        self.links[index].broken = Some(broken);
        if let Some(hearing) = self.hearing.as_mut().filter(|_| broken == Broken::Closed) {
            return hearing.ask();
        }
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.under_way && usize::from(slot.link) == index {
                slot.under_way = false;
                self.lost.push(number as u16);
            }
        }
    }

    /// Has a request begin again, at a server: nothing of it has taken effect.
    fn begin_again(&mut self, number: u16) {
        let slot = &mut self.slots[usize::from(number)];
        (slot.link, slot.at_servers, slot.has_moved) = (NO_LINK, true, false);
        match &mut self.hearing {
            Some(hearing) => hearing.wait_for_link(number),
            None => {
                slot.under_way = false;
                self.lost.push(number);
            }
        }
    }

    /// Sends the message at the front of a link, which left its executor under way, on to the server that its flow names now. False if it has
    /// to wait.
    fn forward(&mut self, from: usize) -> bool {
        let Ok(Some(words)) = self.links[from].link.next() else { return false };
        let Ok(header) = Header::parse(&words) else { return false };
        match self.onward(from, &header) {
            Onward::Nowhere => {}
            Onward::Through(to) => self.hand_over(&words, &header, from, to),
            Onward::Waits => return false,
            Onward::Again => self.begin_again(header.slot),
        }
        self.links[from].link.advance();
        true
    }

    /// What becomes of a message that has left its executor. It may wait for room, and with it whatever is behind it, if it comes from this
    /// process. If it comes from a server, the replies behind it make the room for which the other server may wait.
    fn onward(&mut self, from: usize, header: &Header) -> Onward {
        let is_its = |slot: &&Slot| slot.under_way && slot.sequence == header.sequence && usize::from(slot.link) == from;
        if self.slots.get(usize::from(header.slot)).filter(is_its).is_none() {
            return Onward::Nowhere;
        }
        let bytes = record_bytes(header.message_bytes());
        let to = link_of(&self.links, self.flows.as_ref(), false, (Kind::Continuation, header.flow), None);
        if let Some(to) = to.filter(|to| has_room(&mut self.links[*to].link, bytes)) {
            return Onward::Through(to);
        }
        let fits = to.is_none_or(|to| bytes <= self.links[to].link.capacity_bytes());
        if fits && self.links[from].place == Place::Client { Onward::Waits } else { Onward::Again }
    }

    /// Sends a message under way from one link on through another, where there is room. If its new executor ends, it begins again from its
    /// request.
    fn hand_over(&mut self, words: &HeaderWords, header: &Header, from: usize, to: usize) {
        let start = header.continuation_offset();
        let end = start + usize::from(header.continuation_bytes);
        self.links[from].link.copy(0, &mut self.body[..end]);
        let (body, continuation) = (&self.body[..usize::from(header.body_bytes)], &self.body[start..end]);
        self.links[to].link.send(words, body, continuation);
        self.links[to].unsent += 1;
        let slot = &mut self.slots[usize::from(header.slot)];
        (slot.link, slot.at_servers, slot.has_moved) = (to as u16, true, true);
    }

    /// Waits until [`Session::poll`] has something to do, or the time is over: false. Sends what was submitted on its way first. Returns
    /// at once if nothing is under way.
    ///
    /// # Errors
    /// If the system cannot wait. A broken link is found by the next poll.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, Error> {
        self.flush();
        let start = Instant::now();
        loop {
            let turned = self.local.as_mut().is_some_and(|(place, _)| place.turn());
            if self.under_way() == 0 || !self.lost.is_empty() || self.has_replies() || self.has_news() {
                return Ok(true);
            }
            let elapsed = start.elapsed();
            if timeout.is_some_and(|timeout| elapsed >= timeout) {
                return Ok(false);
            }
            if turned {
                continue;
            }
            if !self.lookout.is_over(elapsed) {
                self.lookout.pause(elapsed);
                continue;
            }
            self.sleep(timeout.map(|timeout| timeout - elapsed))?;
            if self.hearing.is_some() {
                // What woke it may be news, for which poll asks.
                return Ok(true);
            }
        }
    }

    /// Whether a link has something to poll: not a message that waits for room elsewhere.
    fn has_replies(&mut self) -> bool {
        (0..self.links.len()).any(|index| {
            let state = &mut self.links[index];
            state.broken.is_none()
                && match state.link.next() {
                    Ok(None) => false,
                    Ok(Some(words)) if state.place == Place::Client => !self.waits_at_front(index, &words),
                    Ok(Some(_)) | Err(_) => true,
                }
        })
    }

    /// Whether this header at the front of a link is of a message that waits for room elsewhere.
    fn waits_at_front(&mut self, index: usize, words: &HeaderWords) -> bool {
        let header = Header::parse(words).ok().filter(|header| header.kind == Kind::Continuation);
        header.is_some_and(|header| matches!(self.onward(index, &header), Onward::Waits))
    }

    fn sleep(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        if self.arm() {
            wait_any(&self.descriptors(), timeout)?;
        }
        self.disarm();
        Ok(())
    }

    /// Says to all links that this session is about to sleep. False if there is a reason not to.
    pub(crate) fn arm(&mut self) -> bool {
        let mut quiet = self.local.as_mut().is_none_or(|(place, _)| place.arm());
        let has_waiting = self.has_waiting();
        let wants_room = has_waiting || self.hearing.as_ref().is_some_and(|hearing| hearing.has_homeless());
        let wait_for = if wants_room { WaitFor::MessagesOrRoom } else { WaitFor::Messages };
        for state in self.links.iter_mut().filter(|state| state.broken.is_none()) {
            // What waits there is no news, and what follows comes by turns of this session alone.
            if !(has_waiting && state.place == Place::Client) {
                quiet &= state.link.arm(wait_for).unwrap_or(false);
            }
        }
        quiet
    }

    /// Whether a message that left the place in this process waits for room.
    fn has_waiting(&mut self) -> bool {
        let Some(local) = self.local.as_ref().map(|(_, index)| *index) else { return false };
        let front = self.links[local].link.next().ok().flatten();
        front.is_some_and(|words| self.waits_at_front(local, &words))
    }

    /// What becomes readable when there is something to do.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let links = self.links.iter().filter(|state| state.broken.is_none());
        let links = links.filter_map(|state| state.link.descriptor());
        let local = self.local.iter().flat_map(|(place, _)| place.descriptors());
        links.chain(self.hearing.as_ref().map(|hearing| hearing.descriptor())).chain(local).collect()
    }

    /// Says that it is awake again.
    pub(crate) fn disarm(&mut self) {
        let replies = self.has_replies();
        if let Some(hearing) = self.hearing.as_mut().filter(|_| !replies) {
            hearing.ask();
        }
        for index in 0..self.links.len() {
            if self.links[index].broken.is_none()
                && let Err(broken) = self.links[index].link.disarm()
                && !matches!(self.links[index].link.next(), Ok(Some(_)))
            {
                self.lose(index, broken);
            }
        }
        if let Some((place, _)) = &mut self.local {
            place.disarm();
        }
    }

    /// Sends one request and waits for its reply. Replies to earlier submitted requests are handed to nobody: use it when none is
    /// under way.
    ///
    /// # Errors
    /// [`Error`].
    pub fn call(&mut self, target: Target, key_hash: Option<u64>, body: &[u8]) -> Result<Reply, Error> {
        self.call_within(target, key_hash, body, None)
    }

    /// Like [`Session::call`], for at most this long. A call that is given up keeps its slot until its reply comes, which nobody gets.
    ///
    /// # Errors
    /// [`Error`].
    pub fn call_within(
        &mut self,
        target: Target,
        key_hash: Option<u64>,
        body: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Reply, Error> {
        let start = Instant::now();
        self.last_call += 1;
        let call = self.last_call;
        self.send(Kind::Request, target, key_hash, body, call, true)?;
        let mut reply = None;
        loop {
            let polled = self.poll_links(|is_call, completion| {
                if is_call && completion.token == call {
                    let Completion { outcome, body, place, executor, suspensions, udma_operations, .. } = completion;
                    let body = body.to_vec();
                    reply = Some(outcome.map(|result| Reply { result, body, place, executor, suspensions, udma_operations }));
                }
            });
            if let Some(reply) = reply.take() {
                return Ok(reply?);
            }
            polled?;
            let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            // Whatever else there is to do.
            if left.is_some_and(|left| left.is_zero()) || !self.wait(left)? {
                return Err(Error::TimedOut);
            }
        }
    }

    /// Sends a message of a fixed layout, and reads the reply as one. A handler that returns less of its message than that leaves the rest
    /// of it zero.
    ///
    /// # Errors
    /// [`Error`].
    pub fn call_typed<M: Message>(&mut self, target: Target, message: &M) -> Result<(Reply, M), Error> {
        let mut bytes = vec![0; M::BYTES];
        message.write(&mut bytes);
        let reply = self.call(target, None, &bytes)?;
        let there = reply.body.len().min(M::BYTES);
        bytes.fill(0);
        bytes[..there].copy_from_slice(&reply.body[..there]);
        Ok((reply, M::read(&bytes)))
    }
}

/// A place in this process, to which a session sends what the flow table sends to clients.
pub trait LocalPlace: Send {
    /// Whether it serves a handler.
    fn serves(&self, target: Target) -> bool;
    /// Forgets what it has recorded of a slot, of which nothing is under way: a server records for both from time to time.
    fn forget(&mut self, slot: u16);
    /// Does what there is to do. Whether that was anything.
    fn turn(&mut self) -> bool;
    /// Says that nobody will turn it until one of its descriptors is readable. False if there is a reason not to.
    fn arm(&mut self) -> bool;
    /// What becomes readable when it has something to do.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;
    /// Says that it is turned again.
    fn disarm(&mut self);
}

/// The link to the place in this process, if that serves a handler.
#[inline]
fn local_link(local: Option<&(Box<dyn LocalPlace>, usize)>, target: Target) -> Option<usize> {
    local.filter(|(place, _)| place.serves(target)).map(|(_, index)| *index)
}

/// The link through which a message of a kind and flow goes, if it has one that works. Where executors come and go, a flow's may be between
/// two of them. `local` is the link of the place in this process, if that serves the message.
#[inline]
fn link_of<L>(
    links: &[ClientLink<L>],
    flows: Option<&FlowView>,
    come_and_go: bool,
    (kind, flow): (Kind, u16),
    local: Option<usize>,
) -> Option<usize> {
    let entry = match flows {
        Some(flows) if links.len() > 1 || come_and_go => flows.get(flow),
        _ => return Some(0).filter(|index| links[*index].broken.is_none()),
    };
    if kind == Kind::Udma {
        return udma_link(links, flow);
    }
    if entry == CLIENT {
        return local.or_else(|| any_link(links, flow, |link| link.serves()));
    }
    let named = links.iter().position(|link| u32::from(link.executor) == entry && !link.gone);
    if come_and_go {
        return named.filter(|index| links[*index].broken.is_none());
    }
    // The table may say nothing of these links: any server runs it.
    named.map_or_else(
        || any_link(links, flow, |link| link.serves()),
        |index| Some(index).filter(|index| links[*index].broken.is_none()),
    )
}

/// A link for UDMA operations: to a NIC if there is one, else to a host executor.
fn udma_link<L>(links: &[ClientLink<L>], flow: u16) -> Option<usize> {
    any_link(links, flow, |link| link.serves() && link.place == Place::Nic).or_else(|| any_link(links, flow, |link| link.serves()))
}

/// One of the links of a kind, always the same for a flow as long as these links work.
fn any_link<L>(links: &[ClientLink<L>], flow: u16, of_kind: impl Fn(&ClientLink<L>) -> bool) -> Option<usize> {
    let count = links.iter().filter(|link| of_kind(link)).count();
    let nth = usize::from(flow).checked_rem(count)?;
    (0..links.len()).filter(|index| of_kind(&links[*index])).nth(nth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::RECORDED_EVERY;
    use crate::steering::{FLOW_TABLE_BYTES, FlowTable};
    use crate::transport::shared_memory::{RingLink, RingSizes};
    use std::sync::mpsc::{Sender, channel};

    /// A place that would serve everything and tells what it is to forget.
    struct Forgetful(Sender<u16>);

    impl LocalPlace for Forgetful {
        fn serves(&self, _: Target) -> bool {
            true
        }

        fn forget(&mut self, slot: u16) {
            self.0.send(slot).unwrap();
        }

        fn turn(&mut self) -> bool {
            false
        }

        fn arm(&mut self) -> bool {
            true
        }

        fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
            Vec::new()
        }

        fn disarm(&mut self) {}
    }

    /// Requests that are recorded go to a server, though their flow is the client's own, whose place begins anew with that slot.
    #[test]
    fn recorded_requests_go_to_servers() {
        let (flows, memory) =
            crate::memory::SharedMemory::create_with_one_writer("flows", FLOW_TABLE_BYTES, Default::default()).unwrap();
        let flows = FlowTable::new(flows).unwrap();
        (0..crate::message::FLOWS as u16).for_each(|flow| flows.set(flow, CLIENT));
        let view = FlowView::new(memory.map_read_only().unwrap()).unwrap();
        let (mut server, client) = RingLink::pair(RingSizes::default()).unwrap();
        let (mut here, local) = RingLink::pair(RingSizes::default()).unwrap();
        let mut session = Session::new(5, 1, vec![(1, client)], Some(view), Waiting { spin_us: 0 });
        let (forgets, forgotten) = channel();
        session.attach(local, Box::new(Forgetful(forgets)));
        session.slots[0].sequence = RECORDED_EVERY - 2;
        let target = Target { deployment: 0, generation: 1, handler: 0 };
        for is_recorded in [false, true, false] {
            session.submit(target, None, &[], 0).unwrap();
            session.flush();
            let (at, other) = if is_recorded { (&mut server, &mut here) } else { (&mut here, &mut server) };
            assert!(other.next().unwrap().is_none());
            let request = crate::message::Header::parse(&at.next().unwrap().unwrap()).unwrap();
            at.advance();
            at.send(&crate::message::Header { kind: Kind::Reply, ..request }.emit(), &[], &[]);
            at.flush();
            assert_eq!(session.poll(|_| {}).unwrap(), 1);
            assert_eq!(forgotten.try_iter().collect::<Vec<_>>(), if is_recorded { vec![0] } else { vec![] });
        }
    }
}

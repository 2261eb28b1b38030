//! Sessions of a cluster: two that write, at host and NIC in turns, and two that read at all places, and what they are answered.

use crate::Histories;
use crate::application::Application;
use crate::checker::Operation;
use runtime::client_place::ClientPlaceOptions;
use runtime::control::client::Control;
use runtime::control::directory::Address;
use runtime::control::{Connection, ConnectionOptions};
use runtime::engine::jit::JitEngine;
use runtime::engine::{Engine, InterpreterEngine};
use runtime::message::{FLOWS, Place, RuntimeError};
use runtime::supervisor::api::{FlowRange, Steer};
use runtime::supervisor::protocol::EngineChoice;
use runtime::supervisor::records::DeploymentRecord;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

/// Requests that a session has under way.
const WINDOW: u16 = 16;
/// Turns that a session is ahead of the last one at most, so that all of them meet until the end.
const AHEAD_MAX: u64 = 4 * WINDOW as u64;
/// The first flows of each place; the host's begin at 0. Sessions use as many of each.
const NIC_FLOWS: u64 = 512;
const CLIENT_FLOWS: u64 = 768;
const USED_FLOWS: u64 = 256;

/// A session, by where its requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    WriterAt(Place),
    /// Reads every other time at the client, else at host and NIC in turns. At the client messages leave after so many operations.
    Reader {
        leaves_after: u32,
    },
}

/// The second reader's messages leave in the middle: a `get` before it looks again, a lookup before it knows a leaf.
const SESSIONS: [Role; 4] = [
    Role::WriterAt(Place::Host),
    Role::WriterAt(Place::Nic),
    Role::Reader { leaves_after: u32::MAX },
    Role::Reader { leaves_after: 2 },
];

/// Turns of each session, if they have so many requests together.
pub fn turns(requests: u64) -> u64 {
    requests / SESSIONS.len() as u64
}

/// What all sessions of a run share.
pub struct Run<'a, A> {
    application: &'a A,
    address: &'a Address,
    deployed: &'a DeploymentRecord,
    engine: EngineChoice,
    requests: u64,
    /// Calls and answers in one order: who takes a later number has seen what happened before an earlier one.
    clock: AtomicU64,
    answered: AtomicU64,
    /// Turns that each session has begun.
    turns: [AtomicU64; SESSIONS.len()],
}

/// Hears each time that so many requests of a run were answered, and when nobody is left to answer.
#[derive(Clone)]
pub struct Milestones {
    pub every: u64,
    pub sender: Sender<()>,
}

/// What came of a session, or of all.
#[derive(Default)]
pub struct Outcome {
    pub histories: Histories,
    /// Requests by where they ended.
    pub places: BTreeMap<Place, u64>,
    /// Those that began at the client and ended elsewhere.
    pub moved: u64,
    /// Those that say nothing of any key: they gave up, or were reads whose end is unknown.
    pub without_action: u64,
}

/// Steers flows as sessions expect them, or those of host and NIC the other way round.
pub fn steer(control: &Control, are_swapped: bool) {
    let [host, nic] = if are_swapped { [Place::Nic, Place::Host] } else { [Place::Host, Place::Nic] };
    for (first, last, place) in [(0, NIC_FLOWS, host), (NIC_FLOWS, CLIENT_FLOWS, nic), (CLIENT_FLOWS, FLOWS as u64, Place::Client)]
    {
        let flows = vec![FlowRange { first: first as u16, last: last as u16 - 1 }];
        control.steer(&Steer { flows, place }).expect("there is such a place");
    }
}

impl Role {
    fn flow(self, turn: u64) -> u64 {
        let first = match self {
            Role::WriterAt(Place::Nic) => NIC_FLOWS,
            Role::WriterAt(_) => 0,
            Role::Reader { .. } => [CLIENT_FLOWS, 0, CLIENT_FLOWS, NIC_FLOWS][turn as usize % 4],
        };
        // Another one each time: messages that leave a client are spread by their flows.
        first + turn / 4 % USED_FLOWS
    }
}

/// Turns that a session has begun. Nobody waits for one that has ended, some way or other.
struct Turns<'a>(&'a AtomicU64);

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }
}

impl<'a, A: Application> Run<'a, A> {
    pub fn new(
        application: &'a A,
        (address, deployed): (&'a Address, &'a DeploymentRecord),
        engine: EngineChoice,
        requests: u64,
    ) -> Run<'a, A> {
        let (clock, answered, turns) = Default::default();
        Run { application, address, deployed, engine, requests, clock, answered, turns }
    }

    /// Serves all sessions, and then reads every key. Meanwhile does something else.
    pub fn serve(&self, milestones: Option<Milestones>, meanwhile: impl FnOnce()) -> Outcome {
        let mut all = Outcome::default();
        std::thread::scope(|scope| {
            let serve = |number| {
                let milestones = milestones.clone();
                scope.spawn(move || self.serve_one(SESSIONS[number], number, milestones.as_ref()))
            };
            let sessions: Vec<_> = (0..SESSIONS.len()).map(serve).collect();
            drop(milestones);
            meanwhile();
            for session in sessions {
                all.add(session.join().expect("no session failed"));
            }
        });
        self.read_all(&mut all.histories);
        all
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn note_answer(&self, milestones: Option<&Milestones>) {
        let answered = self.answered.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(Milestones { every, sender }) = milestones
            && answered.is_multiple_of(*every)
        {
            // Nobody listens after the last one.
            let _ = sender.send(());
        }
    }

    fn open(&self, role: Role) -> Connection {
        let options = ConnectionOptions { window: WINDOW, ..ConnectionOptions::default() };
        let mut session = Connection::open(self.address, &options).expect("a session");
        if let Role::Reader { leaves_after } = role {
            let control = Control::at(self.address);
            let ConnectionOptions { rings, waiting, .. } = options;
            // Native programs take no continuations.
            let leaves_after = if self.engine == EngineChoice::Native { u32::MAX } else { leaves_after };
            let place = ClientPlaceOptions { window: WINDOW, leaves_after, effects: false, rings, waiting };
            let engine: &dyn Engine = if self.engine == EngineChoice::Jit { &JitEngine } else { &InterpreterEngine };
            session.serve_here(&control, &[A::NAME], engine, &place).expect("a place in this process");
        }
        session
    }

    /// Whether the session may begin another turn.
    fn may_begin(&self, turn: u64) -> bool {
        let last = self.turns.iter().map(|turns| turns.load(Ordering::Relaxed)).min();
        turn < turns(self.requests) && last.is_some_and(|last| turn <= last.saturating_add(AHEAD_MAX))
    }

    /// One session's part.
    fn serve_one(&self, role: Role, number: usize, milestones: Option<&Milestones>) -> Outcome {
        let begun = Turns(&self.turns[number]);
        let mut session = self.open(role);
        let mut random = fastrand::Rng::with_seed(number as u64);
        let end = turns(self.requests);
        let mut sent: Vec<(A::Request, u64)> = Vec::with_capacity(end as usize);
        let mut outcome = Outcome::default();
        while (sent.len() as u64) < end || session.under_way() > 0 {
            while session.under_way() < session.window() && self.may_begin(sent.len() as u64) {
                let turn = sent.len() as u64;
                let unique = turn * SESSIONS.len() as u64 + number as u64;
                let request = self.application.draw(&mut random, matches!(role, Role::WriterAt(_)), unique, turn);
                sent.push((request, self.now()));
                let target = self.deployed.target(self.application.handler(request)).expect("a handler");
                session.submit(target, Some(role.flow(turn)), &self.application.body(request), turn).expect("there is room");
                begun.0.store(turn + 1, Ordering::Relaxed);
            }
            let take = |reply: runtime::client::Completion<'_>| {
                let (request, called) = sent[reply.token as usize];
                outcome.note(self.application, request, (called, self.now()), &reply);
                outcome.moved += u64::from(role.flow(reply.token) >= CLIENT_FLOWS && reply.place != Place::Client);
                self.note_answer(milestones);
            };
            session.poll(take).expect("the session lives");
            session.wait(None).expect("the session lives");
            if session.under_way() == 0 {
                std::thread::yield_now();
            }
        }
        outcome
    }

    /// Reads every key, when nobody writes any more.
    fn read_all(&self, histories: &mut Histories) {
        let mut session = Connection::open(self.address, &ConnectionOptions::default()).expect("a session");
        for (request, flow) in self.application.last().into_iter().zip(0..) {
            let target = self.deployed.target(self.application.handler(request)).expect("a handler");
            let called = self.now();
            let reply = session.call(target, Some(flow), &self.application.body(request)).expect("an answer");
            let answered = Some(self.now());
            for (key, action) in self.application.actions(request, reply.result, &reply.body) {
                histories.add(key, Operation { called, answered, action });
            }
        }
    }
}

impl Outcome {
    fn note<A: Application>(
        &mut self,
        application: &A,
        request: A::Request,
        (called, answered): (u64, u64),
        reply: &runtime::client::Completion<'_>,
    ) {
        *self.places.entry(reply.place).or_default() += 1;
        let (answered, actions) = match reply.outcome {
            Ok(result) => (Some(answered), application.actions(request, result, reply.body)),
            Err(RuntimeError::Uncertain) => (None, application.action_if_any(request).into_iter().collect()),
            Err(error) => panic!("{request:?}: {error}"),
        };
        self.without_action += u64::from(actions.is_empty());
        for (key, action) in actions {
            self.histories.add(key, Operation { called, answered, action });
        }
    }

    fn add(&mut self, other: Outcome) {
        self.histories.add_all(other.histories);
        for (place, count) in other.places {
            *self.places.entry(place).or_default() += count;
        }
        self.moved += other.moved;
        self.without_action += other.without_action;
    }

    /// Requests that ended at a place; at none, if nobody knows.
    pub fn at(&self, place: Place) -> u64 {
        self.places.get(&place).copied().unwrap_or(0)
    }
}

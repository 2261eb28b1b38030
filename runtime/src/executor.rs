//! Executors: one thread, one core, many messages under way.
//!
//! [`Executor::turn`] is the whole logic: it polls completions, resumes messages that suspended, takes new ones, and sends answers. It reads
//! no clock, waits for nothing and makes no system call, except to wake a client that sleeps. [`thread`] is the loop around it.
//!
//! Rules that hold here:
//! 1. A request is taken from its link only with room for its largest reply reserved there; until then it stays where it is, and holds
//!    up nobody but its own session.
//! 2. A handler with effects claims its request before the first of them, and before any answer; then: effects, answer into the
//!    record, done, send.
//! 3. What a reused activation held is overwritten, with what arrived or zeros, before a handler can see it.
//! 4. Nothing is allocated, locked or asked of the system per message.

mod admission;
mod arrivals;
mod queue;
pub mod thread;

use crate::deployment::{Deployment, Handler, Limits};
use crate::engine::{Claim, Turn};
use crate::memory::{Region, Regions};
use crate::message::{Header, Kind, Origin, Place, RuntimeError, Target};
use crate::metrics::{Counters, MetricsWriter};
use crate::session::{Answer, Grants, Owner, Request, SlotTable, Standing};
use crate::steering::{CLIENT, FlowView, NOBODY};
use crate::transport::{Link, WaitFor, body_record_bytes};
use crate::udma::{Action, Backend, Completion, NotIssued, Operation, Token};
use naamc::abi::{BODY_BYTES_MAX, Helper};
use naamc::activation::Activation;
use naamc::interpreter::{Failure, Outcome};
use queue::Queue;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Messages that an executor starts in one round at most: enough to hide the memory's latency, few enough that those under way stay in the
/// first cache.
pub const BATCH_MAX: usize = 6;
/// Rounds of a host executor's turn at most: what all of them have sent goes out together.
const ROUNDS_MAX: usize = 8;
/// Messages that go on in a round after the first at most.
const RESUMED_AGAIN_MAX: usize = 4 * BATCH_MAX;
/// Messages under way on an executor at most.
pub const ACTIVATIONS_MAX: usize = 4096;
/// Sessions of an executor at most: each is looked at in every turn.
pub const SESSIONS_MAX: usize = 2048;
/// UDMA operations after which a message that still goes on counts as waiting for another.
const PATIENCE_UDMA_OPERATIONS: u32 = 64;
/// Messages that an executor behind a backend resumes before it looks for completions again: a message that holds a lock while it waits for
/// one keeps others waiting too.
const BACKEND_BATCH_MAX: usize = 8;
/// Of so many turns, messages that hold no claim are held back in all but one while another starves.
const TURNS_HELD_BACK: u64 = 8;
/// No entry, in tables of indices.
const NONE: u32 = u32::MAX;

/// How an executor is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Its number: unique on the node while anything of it can still be held; not 0.
    pub number: u16,
    /// Its place.
    pub place: Place,
    /// Messages under way at most, at most [`ACTIVATIONS_MAX`].
    pub activations: usize,
    /// Whether long reads of cold regions prefetch and suspend.
    pub hides_latency: bool,
    /// Messages that are resumed in one round at most, and as many, but no more than [`BATCH_MAX`], are started.
    pub batch_max: usize,
    /// Rounds of a turn at most. A turn goes by one reading of the clock: with a backend that does too, only one.
    pub rounds_max: usize,
    /// UDMA operations after which a message that stands before another one, and is not claimed, leaves for its client, to be sent on to a
    /// server. `u32::MAX`: never.
    pub leaves_after: u32,
    /// Where execution ids begin: random, so that those of different executors differ.
    pub seed: u64,
}

impl Options {
    /// The usual set-up of a host executor.
    pub fn host(number: u16, seed: u64) -> Options {
        let (activations, batch_max, rounds_max, leaves_after) = (128, ACTIVATIONS_MAX, ROUNDS_MAX, u32::MAX);
        Options { number, place: Place::Host, activations, hides_latency: true, batch_max, rounds_max, leaves_after, seed }
    }

    /// The usual set-up of an executor in a client's process.
    pub fn client(number: u16, seed: u64) -> Options {
        Options { place: Place::Client, hides_latency: false, rounds_max: 1, ..Options::host(number, seed) }
    }

    /// The usual set-up of a NIC executor: it waits for completions instead of its own memory.
    pub fn nic(number: u16, seed: u64) -> Options {
        let batch_max = BACKEND_BATCH_MAX;
        Options { place: Place::Nic, hides_latency: false, batch_max, rounds_max: 1, ..Options::host(number, seed) }
    }
}

/// A client's session, seen from an executor.
#[derive(Debug)]
pub struct ServerSession<L> {
    /// Its id on the node.
    pub id: u32,
    /// The executor's end of the link to the client.
    pub link: L,
    /// Records of its slots, shared by all executors.
    pub slots: SlotTable,
    /// What it may do.
    pub grants: Grants,
}

/// What the supervisor tells an executor.
pub enum Command<L> {
    /// Serve a session.
    Attach(ServerSession<L>),
    /// Serve it no longer: [`Event::SessionClosed`] follows when its last message is done.
    Detach(u32),
    /// A session may do this from now on.
    Grant(u32, Grants),
    /// Serve a deployment; an older one of the same index is drained.
    Deploy(Arc<Deployment>),
    /// Take no more messages for a deployment: [`Event::Drained`] follows when its last message is done.
    Undeploy(u16),
    /// Say [`Event::Acknowledged`] with this number: every command before it is obeyed then.
    Acknowledge(u64),
    /// Finish what is under way and end.
    Stop,
}

/// What an executor tells the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session is no longer served: it was detached, or its client broke its link or is gone.
    SessionClosed(u32),
    /// Every command before [`Command::Acknowledge`] with this number is obeyed.
    Acknowledged(u64),
    /// No message of this deployment (index, generation) is under way any more.
    Drained(u16, u16),
}

/// What a turn found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing: the executor may sleep until a client or a completion wakes it.
    Idle,
    /// Nothing but messages that wait for another executor's: the core should be offered to it.
    Contended,
    /// Something.
    Working,
}

struct SessionState<L> {
    session: ServerSession<L>,
    /// Bytes of the link kept for answers of messages under way.
    reserved_bytes: usize,
    under_way: u32,
    /// A message waits in the link for room in the other direction.
    wants_room: bool,
    closing: bool,
    /// The target of its last message that was taken, and the entry of its handler: what most often comes again. Forgotten whenever
    /// grants or deployments change.
    last_target: Option<Target>,
    last_handler: u32,
}

struct DeploymentState {
    deployment: Arc<Deployment>,
    /// Entries of its handlers, in their order.
    handlers: Vec<u32>,
    retired: bool,
}

/// A handler of a deployment, and all that its messages need.
struct Served {
    handler: Handler,
    regions: Regions,
    limits: Limits,
    /// Room to keep for the answer of a message.
    reserved_bytes: usize,
    under_way: u32,
    deployment: Arc<Deployment>,
}

/// What is known of a message under way beside its activation: one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct UnderWay {
    origin: Origin,
    execution: u64,
    /// Suspensions and UDMA operations that it brought along from elsewhere: its sender's word, and nothing that this executor has done.
    brought: (u32, u32),
    /// Indices into the executor's sessions and handlers.
    session: u32,
    handler: u32,
    /// It must still be claimed before its first effect.
    to_claim: bool,
    /// It stands before a read whose lines were asked for: that read is executed at once.
    prefetched: bool,
    /// It stands before an operation that the backend performs.
    at_backend: bool,
    /// Its flow goes to another executor now: it leaves when it next stands before an operation.
    steered_away: bool,
}

impl UnderWay {
    /// Of a message that begins, or goes on, at an executor: of this session and for this handler, by their indices.
    #[inline(always)]
    fn starting(origin: Origin, execution: u64, brought: (u32, u32), (session, handler): (u32, u32), claims: bool) -> UnderWay {
        let (prefetched, at_backend, steered_away) = (false, false, false);
        UnderWay { origin, execution, brought, session, handler, to_claim: claims, prefetched, at_backend, steered_away }
    }

    /// Suspensions and UDMA operations of its activation that are not what it brought along.
    #[inline(always)]
    fn done_here(&self, activation: &Activation) -> (u32, u32) {
        let (suspensions, udma_operations) = self.brought;
        (activation.suspensions.saturating_sub(suspensions), activation.udma_operations.saturating_sub(udma_operations))
    }
}

impl Served {
    /// Whether a request must be claimed before it is answered.
    #[inline(always)]
    fn claims(&self, origin: &Origin) -> bool {
        self.handler.shape().claims || request(origin).is_recorded()
    }

    /// Which operation one of its messages stands before.
    #[inline(always)]
    fn helper(&self, activation: &Activation) -> Option<Helper> {
        self.handler.shape().operations.get(activation.point as usize).copied()
    }

    /// That operation with its arguments, and its region. Most are reads: who asks for `Helper::Read` by that name gets code that
    /// goes by nothing else.
    #[inline(always)]
    fn pending(&self, activation: &Activation, helper: Helper) -> Option<(Operation, &Region)> {
        let operation = Operation::pending(activation, helper)?;
        Some((operation, self.regions.get(usize::from(operation.region))?))
    }

    /// Leaves the completion of that operation in the activation. `None`, and nothing happens, if it stands before none.
    #[inline(always)]
    fn complete(&self, activation: &mut Activation, completion: Completion<'_>) -> Option<()> {
        match (self.helper(activation)?, completion) {
            (Helper::Read, Completion::Due) => self.complete_as(Helper::Read, activation, Completion::Due),
            (helper, completion) => self.complete_any(helper, activation, completion),
        }
    }

    #[inline(never)]
    fn complete_any(&self, helper: Helper, activation: &mut Activation, completion: Completion<'_>) -> Option<()> {
        self.complete_as(helper, activation, completion)
    }

    #[inline(always)]
    fn complete_as(&self, helper: Helper, activation: &mut Activation, completion: Completion<'_>) -> Option<()> {
        let (operation, region) = self.pending(activation, helper)?;
        match completion {
            Completion::Done { result, bytes } => operation.complete(activation, result, bytes),
            Completion::Due => operation.perform(region, activation, self.deployment.read_only()),
            Completion::Lost => {}
        }
        Some(())
    }
}

/// A message under way, or room for one: what is known of it lies just before its activation's first line.
#[derive(Clone)]
#[repr(C)]
struct Message {
    under_way: UnderWay,
    activation: Activation,
}

/// What became of a message that ran.
enum Ran {
    /// It stands before an operation.
    Suspended {
        /// It seems to wait for another message.
        contended: bool,
        /// It should go on elsewhere, if it can.
        leaves: bool,
    },
    /// It has ended, with r0 unless it failed.
    Ended(Result<u64, Failure>),
}

impl Message {
    /// Runs it until it ends or suspends. `slots` are those of its session.
    #[inline(always)]
    fn run<'s>(&mut self, served: &Served, slots: impl FnOnce() -> Option<&'s SlotTable>, options: &Options) -> Ran {
        let Message { under_way, activation } = self;
        let mut turn = Turn::new(&served.regions, u32::from(options.number));
        turn.hides_latency = u32::from(options.hides_latency);
        turn.suspend_reads = u32::from(options.hides_latency & !under_way.prefetched);
        if under_way.to_claim {
            let Some(slots) = slots() else { return Ran::Ended(Err(Failure::EngineFault)) };
            let owner = Owner { executor: options.number, place: options.place, execution: under_way.execution };
            turn.must_claim(Claim { slots, request: request(&under_way.origin), owner });
        }
        let outcome = match served.handler.program().run(activation, &mut turn) {
            Outcome::Suspended => {
                under_way.to_claim = !turn.is_claimed();
                under_way.prefetched = turn.prefetched != 0;
                // It may have come with as many as there are numbers.
                activation.suspensions = activation.suspensions.saturating_add(1);
                let (_, done) = under_way.done_here(activation);
                return Ran::Suspended {
                    contended: turn.contended != 0 || done > PATIENCE_UDMA_OPERATIONS,
                    leaves: done >= options.leaves_after || under_way.steered_away,
                };
            }
            Outcome::Finished(r0) => turn.claim().map(|()| r0),
            Outcome::Failed(failure) => turn.claim().and(Err(failure)),
        };
        under_way.to_claim = !turn.is_claimed();
        Ran::Ended(outcome)
    }

    /// Ends it: records its answer if it is claimed, and sends it. False if another execution owns the request.
    #[inline(never)]
    fn end<L: Link>(
        &self,
        served: &mut Served,
        state: &mut SessionState<L>,
        options: &Options,
        counters: &mut Counters,
        outcome: Result<u64, Failure>,
    ) -> bool {
        let Message { under_way, activation } = self;
        served.under_way -= 1;
        state.under_way -= 1;
        state.reserved_bytes -= served.reserved_bytes;
        let (suspensions, udma_operations) = under_way.done_here(activation);
        counters.suspensions += u64::from(suspensions);
        counters.udma_operations += u64::from(udma_operations);
        let (outcome, reply_bytes) = match outcome {
            Ok(r0) => {
                counters.results += 1;
                (Ok(r0 as u32 as i32), activation.reply_bytes.min(served.handler.shape().reply_bytes_max))
            }
            Err(failure) => match RuntimeError::of(failure) {
                Some(error) => {
                    counters.errors += 1;
                    (Err(error), 0)
                }
                None => return false,
            },
        };
        let body = &activation.body()[..reply_bytes as usize];
        // Made where it is used: only a record needs it in memory.
        let answer = || Answer {
            owner: Owner { executor: options.number, place: options.place, execution: under_way.execution },
            outcome,
            body_bytes: reply_bytes as u16,
            suspensions: activation.suspensions,
            udma_operations: activation.udma_operations,
        };
        if served.claims(&under_way.origin) {
            // It ends before its first effect, and before it was run again, which would have claimed it.
            if under_way.to_claim && state.session.slots.claim(request(&under_way.origin), answer().owner) != Standing::Unclaimed {
                return false;
            }
            if !state.session.slots.finish(request(&under_way.origin), &answer(), body) {
                return true;
            }
        }
        send(state, &reply_header(&answer(), &under_way.origin, state.session.id), body);
        true
    }
}

/// The messages under way, and room for others.
struct Pool {
    messages: Vec<Message>,
    free: Vec<u32>,
    /// Messages that can go on, oldest first.
    ready: Queue,
    /// Likewise, and they go first: they may hold locks, and have waited for a backend.
    urgent: Queue,
    /// Messages whose operation is lost: they end.
    lost: Vec<u32>,
    /// Messages whose operation found no room at the backend.
    postponed: Queue,
    at_backend: usize,
}

/// One executor. See the module's description.
pub struct Executor<L> {
    options: Options,
    pool: Pool,
    sessions: Vec<Option<SessionState<L>>>,
    /// The session whose link is looked at first, so that each has its turn.
    first_session: usize,
    deployments: Vec<Option<DeploymentState>>,
    /// Index into `deployments` by deployment index.
    current: Vec<u32>,
    /// Handlers of all deployments.
    handlers: Vec<Option<Served>>,
    backend: Box<dyn Backend>,
    /// The flow table, if messages under way follow it, and how often it had been changed when it was last looked at.
    flows: Option<(FlowView, u64)>,
    counters: Counters,
    metrics: MetricsWriter,
    last_execution: u64,
    /// Bodies of recorded answers on their way.
    answer_body: Box<[u8; BODY_BYTES_MAX]>,
    events: Vec<Event>,
    /// Sessions that are no longer served, with their links.
    closed: Vec<ServerSession<L>>,
    /// A claimed message that has waited for a backend too often.
    starving: Option<u32>,
    stopping: bool,
    worked: bool,
    /// It has slept, or was about to. The backend may have something to hear with nothing under way there, and wakes it until it was polled.
    woken: bool,
    last_turn_ns: u64,
}

impl<L: Link> Executor<L> {
    /// An executor without sessions and deployments.
    ///
    /// # Panics
    /// If the options name executor 0, no round, or more activations than [`ACTIVATIONS_MAX`].
    pub fn new(options: Options, backend: Box<dyn Backend>, metrics: MetricsWriter) -> Executor<L> {
        assert!(options.number != 0, "executor 0 is nobody");
        assert!((1..=ACTIVATIONS_MAX).contains(&options.activations), "activations within the limit");
        assert!(options.rounds_max > 0, "a turn has a round");
        let count = options.activations;
        let nothing = UnderWay::starting(Origin::default(), 0, (0, 0), (NONE, NONE), false);
        let blank = Activation::new_boxed();
        Executor {
            options,
            pool: Pool {
                messages: (0..count).map(|_| Message { under_way: nothing, activation: (*blank).clone() }).collect(),
                free: (0..count as u32).rev().collect(),
                ready: Queue::new(count),
                urgent: Queue::new(count),
                lost: Vec::with_capacity(count),
                postponed: Queue::new(count),
                at_backend: 0,
            },
            sessions: Vec::new(),
            first_session: 0,
            deployments: Vec::new(),
            current: Vec::new(),
            handlers: Vec::new(),
            backend,
            flows: None,
            counters: Counters::default(),
            metrics,
            last_execution: options.seed,
            answer_body: Box::new([0; BODY_BYTES_MAX]),
            events: Vec::new(),
            closed: Vec::new(),
            starving: None,
            stopping: false,
            worked: false,
            woken: false,
            last_turn_ns: 0,
        }
    }

    /// Lets messages under way follow the flow table: those whose flow goes to another executor leave before their next operation, for
    /// their client to send them on. Only messages that nobody has claimed do, and of sessions with a direct grant: a continuation is
    /// authority over a deployment's data.
    pub fn follow(&mut self, flows: FlowView) {
        self.flows = Some((flows, 0));
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.options.number
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Messages under way.
    pub fn under_way(&self) -> usize {
        self.options.activations - self.pool.free.len()
    }

    /// Whether it was told to stop and has nothing under way.
    pub fn has_stopped(&self) -> bool {
        self.stopping && self.under_way() == 0
    }

    /// When the backend can next complete something.
    pub fn due_ns(&self) -> Option<u64> {
        self.backend.due_ns()
    }

    /// What becomes readable when the backend can complete something.
    pub fn backend_descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.backend.descriptors()
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Takes the sessions that are no longer served.
    pub fn take_closed(&mut self) -> Vec<ServerSession<L>> {
        std::mem::take(&mut self.closed)
    }

    /// Links of all sessions that are served.
    pub fn links(&mut self) -> impl Iterator<Item = &mut L> {
        self.sessions.iter_mut().flatten().map(|state| &mut state.session.link)
    }

    /// Obeys a command. A session beyond [`SESSIONS_MAX`] is closed at once.
    pub fn apply(&mut self, command: Command<L>) {
        match command {
            Command::Attach(session) => self.attach(session),
            Command::Detach(id) => {
                for state in self.sessions.iter_mut().flatten().filter(|state| state.session.id == id) {
                    state.closing = true;
                }
                self.sweep();
            }
            Command::Grant(id, grants) => {
                for state in self.sessions.iter_mut().flatten().filter(|state| state.session.id == id) {
                    state.session.grants = grants.clone();
                    state.last_target = None;
                }
            }
            Command::Deploy(deployment) => self.deploy(deployment),
            Command::Undeploy(index) => {
                self.retire(index);
                self.sweep();
            }
            Command::Acknowledge(number) => self.events.push(Event::Acknowledged(number)),
            Command::Stop => self.stopping = true,
        }
    }

    fn attach(&mut self, session: ServerSession<L>) {
        let state = SessionState {
            session,
            reserved_bytes: 0,
            under_way: 0,
            wants_room: false,
            closing: false,
            last_target: None,
            last_handler: NONE,
        };
        match self.sessions.iter().position(Option::is_none) {
            Some(entry) => self.sessions[entry] = Some(state),
            None if self.sessions.len() < SESSIONS_MAX => self.sessions.push(Some(state)),
            None => {
                self.events.push(Event::SessionClosed(state.session.id));
                self.closed.push(state.session);
            }
        }
    }

    fn deploy(&mut self, deployment: Arc<Deployment>) {
        let index = usize::from(deployment.index());
        self.retire(deployment.index());
        let handlers = deployment.handlers().iter().map(|handler| {
            let served = Served {
                handler: handler.clone(),
                regions: deployment.regions().clone(),
                limits: deployment.limits(),
                reserved_bytes: body_record_bytes(handler.shape().reply_bytes_max as usize),
                under_way: 0,
                deployment: deployment.clone(),
            };
            put(&mut self.handlers, served)
        });
        let state = DeploymentState { handlers: handlers.collect(), deployment: deployment.clone(), retired: false };
        if self.current.len() <= index {
            self.current.resize(index + 1, NONE);
        }
        self.current[index] = put(&mut self.deployments, state);
        self.sweep();
    }

    /// Takes no more messages for a deployment.
    fn retire(&mut self, index: u16) {
        for state in self.sessions.iter_mut().flatten() {
            state.last_target = None;
        }
        if let Some(entry) = self.current.get_mut(usize::from(index))
            && let Some(Some(state)) = self.deployments.get_mut(std::mem::replace(entry, NONE) as usize)
        {
            state.retired = true;
        }
    }

    /// Lets go of closing sessions and retired deployments that have nothing under way.
    fn sweep(&mut self) {
        for entry in &mut self.sessions {
            if let Some(state) = entry.take_if(|state| state.closing && state.under_way == 0) {
                self.events.push(Event::SessionClosed(state.session.id));
                self.closed.push(state.session);
            }
        }
        for entry in &mut self.deployments {
            if let Some(state) = entry.take_if(|state| state.is_drained(&self.handlers)) {
                for handler in state.handlers {
                    self.handlers[handler as usize] = None;
                }
                self.events.push(Event::Drained(state.deployment.index(), state.deployment.generation()));
            }
        }
    }

    /// Does what there is to do, and returns soon: in rounds, for as long as new messages are there, but not many. In a round a message under
    /// way goes on once at most, and at most [`BATCH_MAX`] new ones start.
    pub fn turn(&mut self, now_ns: u64) -> Progress {
        if std::mem::replace(&mut self.worked, false) {
            self.counters.busy_ns += now_ns.saturating_sub(self.last_turn_ns);
        }
        self.last_turn_ns = now_ns;
        self.look_at_flows();
        let (mut completed, mut resumed, mut admitted) = (0, 0, 0);
        let mut contended = false;
        for round in 0..self.options.rounds_max {
            completed += self.complete(now_ns);
            // Later on no more than go on in a usual round: those that wait for others would take the turn.
            let resumed_max = if round == 0 { self.options.batch_max } else { RESUMED_AGAIN_MAX };
            let (continued, only_waits) = self.resume(now_ns, resumed_max);
            let started = if self.stopping || self.holds_back() { 0 } else { self.admit(now_ns) };
            (resumed, admitted, contended) = (resumed + continued, admitted + started, only_waits);
            // Few are there: those that wait for memory need the time until the next turn.
            if started < BATCH_MAX {
                break;
            }
        }
        let mut sweeping = false;
        for state in self.sessions.iter_mut().flatten() {
            state.session.link.flush();
            sweeping |= state.closing && state.under_way == 0;
        }
        if sweeping || self.deployments.iter().flatten().any(|state| state.is_drained(&self.handlers)) {
            self.sweep();
        }
        self.worked = completed + resumed + admitted > 0;
        if self.worked {
            self.counters.turns += 1;
            self.metrics.write(&self.counters);
        }
        match (completed + resumed + admitted, completed + admitted) {
            (0, _) => Progress::Idle,
            (_, 0) if contended => Progress::Contended,
            _ => Progress::Working,
        }
    }

    /// Looks which messages under way have been steered to another executor, if the flow table has changed.
    #[inline]
    fn look_at_flows(&mut self) {
        let Some((flows, seen)) = &mut self.flows else { return };
        let steerings = flows.steerings();
        if *seen == steerings {
            return;
        }
        *seen = steerings;
        let own = if self.options.place == Place::Client { CLIENT } else { u32::from(self.options.number) };
        for Message { under_way, .. } in &mut self.pool.messages {
            under_way.steered_away = ![own, CLIENT, NOBODY].contains(&flows.get(under_way.origin.flow()));
        }
    }

    /// Takes completions from the backend, and issues what found no room before.
    fn complete(&mut self, now_ns: u64) -> usize {
        let woken = std::mem::replace(&mut self.woken, false);
        if self.pool.at_backend == 0 && self.pool.postponed.is_empty() && !woken {
            return 0;
        }
        let Executor { pool, handlers, backend, .. } = self;
        let mut completed = 0;
        backend.poll(now_ns, &mut |Token(index), completion| {
            let Some(Message { under_way, activation }) = pool.messages.get_mut(index as usize) else { return };
            let Some(Some(served)) = handlers.get(under_way.handler as usize) else { return };
            // Nothing has changed in the activation since the operation was issued.
            if !under_way.at_backend || served.complete(activation, completion).is_none() {
                return;
            }
            under_way.at_backend = false;
            pool.at_backend -= 1;
            completed += 1;
            if matches!(completion, Completion::Lost) {
                return pool.lost.push(index);
            }
            if served.claims(&under_way.origin) && !under_way.to_claim { pool.urgent.push(index) } else { pool.ready.push(index) }
        });
        while let Some(index) = self.pool.lost.pop() {
            self.finish(index, Err(Failure::RegionUnreachable));
        }
        for _ in 0..self.pool.postponed.len() {
            let Some(index) = self.pool.postponed.pop() else { break };
            self.wait(index, now_ns);
        }
        completed
    }

    /// Lets messages that can go on do so. Also says whether all of them only wait for others.
    #[inline(never)]
    fn resume(&mut self, now_ns: u64, resumed_max: usize) -> (usize, bool) {
        let urgent = self.pool.urgent.len();
        // From either end, by a bit that follows no pattern of theirs: in one order those in front would always swap what those behind
        // them have changed since they looked.
        let backwards = self.counters.turns.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 1;
        for _ in 0..urgent {
            let next = if backwards { self.pool.urgent.pop_last() } else { self.pool.urgent.pop() };
            let Some(index) = next else { break };
            // What it brought along is its sender's word: nobody is held back by that.
            let Message { under_way, activation } = &self.pool.messages[index as usize];
            let done = under_way.done_here(activation);
            if done.1 > PATIENCE_UDMA_OPERATIONS {
                self.starving = Some(index);
            }
            self.run(index, now_ns);
        }
        let resumable = if self.holds_back() { 0 } else { self.pool.ready.len().min(resumed_max) };
        let mut contended = resumable > 0 && urgent == 0;
        for _ in 0..resumable {
            let Some(index) = self.pool.ready.pop() else { break };
            contended &= self.run(index, now_ns);
        }
        (urgent + resumable, contended)
    }

    /// Whether messages that hold no claim have to wait in this turn: where one that does takes longer than it should, those that have just
    /// looked at a word would change it before it can. Not in every turn, since it may be that nobody is in its way.
    fn holds_back(&self) -> bool {
        self.starving.is_some() && !self.counters.turns.is_multiple_of(TURNS_HELD_BACK)
    }

    /// Runs a message until it ends or suspends. Returns whether it seems to wait for another message.
    #[inline(always)]
    fn run(&mut self, index: u32, now_ns: u64) -> bool {
        let Executor { pool, sessions, handlers, options, counters, starving, .. } = self;
        let message = &mut pool.messages[index as usize];
        let UnderWay { session, handler, .. } = message.under_way;
        let Some(Some(served)) = handlers.get_mut(handler as usize) else { return false };
        let slots = || Some(&sessions.get(session as usize)?.as_ref()?.session.slots);
        match message.run(served, slots, options) {
            Ran::Suspended { contended, leaves } => {
                let prefetched = message.under_way.prefetched;
                if !leaves || !self.leave(index) {
                    if prefetched { self.pool.ready.push(index) } else { self.wait(index, now_ns) }
                }
                contended
            }
            Ran::Ended(outcome) => {
                pool.free.push(index);
                starving.take_if(|starving| *starving == index);
                let Some(Some(state)) = sessions.get_mut(session as usize) else { return false };
                if !message.end(served, state, options, counters, outcome) {
                    self.answer_again(index);
                }
                false
            }
        }
    }

    /// Lets a message that stands before its operation wait: for its next turn, or for a backend to perform it.
    #[inline(always)]
    fn wait(&mut self, index: u32, now_ns: u64) {
        let Message { under_way, activation } = &self.pool.messages[index as usize];
        let Some(Some(served)) = self.handlers.get(under_way.handler as usize) else { return };
        match served.helper(activation) {
            Some(Helper::Read) => self.wait_before(Helper::Read, index, now_ns),
            Some(helper) => self.wait_before_any(helper, index, now_ns),
            // Checked code always stands before an operation on a region.
            None => self.finish(index, Err(Failure::EngineFault)),
        }
    }

    #[inline(never)]
    fn wait_before_any(&mut self, helper: Helper, index: u32, now_ns: u64) {
        self.wait_before(helper, index, now_ns);
    }

    #[inline(always)]
    fn wait_before(&mut self, helper: Helper, index: u32, now_ns: u64) {
        let Executor { pool, sessions, handlers, options, backend, starving, .. } = self;
        let Message { under_way, activation } = &mut pool.messages[index as usize];
        let Some(Some(served)) = handlers.get(under_way.handler as usize) else { return };
        let Some((operation, region)) = served.pending(activation, helper) else {
            return self.finish(index, Err(Failure::EngineFault));
        };
        if region.is_local() {
            // It waits for its turn, which being held back would put off, and no longer for a backend.
            starving.take_if(|starving| *starving == index);
            return pool.ready.push(index);
        }
        if activation.udma_operations_left == 0 {
            return self.finish(index, Err(Failure::UdmaOperationsExhausted));
        }
        if operation.action != Action::Read && under_way.to_claim {
            let Some(Some(session)) = sessions.get(under_way.session as usize) else { return };
            let owner = Owner { executor: options.number, place: options.place, execution: under_way.execution };
            if session.session.slots.claim(request(&under_way.origin), owner) != Standing::Unclaimed {
                return self.finish(index, Err(Failure::NotOwner));
            }
            under_way.to_claim = false;
        }
        let Some(source) = operation.bytes(activation, served.deployment.read_only()) else {
            return self.finish(index, Err(Failure::EngineFault));
        };
        match backend.issue(now_ns, Token(index), region, &operation, source) {
            Ok(()) => {
                under_way.at_backend = true;
                pool.at_backend += 1;
            }
            Err(NotIssued::Full) => pool.postponed.push(index),
            Err(NotIssued::Unreachable) => self.finish(index, Err(Failure::RegionUnreachable)),
        }
    }

    /// Ends a message that is not running.
    #[cold]
    fn finish(&mut self, index: u32, outcome: Result<u64, Failure>) {
        let Executor { pool, sessions, handlers, options, counters, starving, .. } = self;
        let message = &pool.messages[index as usize];
        pool.free.push(index);
        starving.take_if(|starving| *starving == index);
        let UnderWay { session, handler, .. } = message.under_way;
        let (Some(Some(state)), Some(Some(served))) = (sessions.get_mut(session as usize), handlers.get_mut(handler as usize))
        else {
            return;
        };
        if !message.end(served, state, options, counters, outcome) {
            self.answer_again(index);
        }
    }

    /// Another execution owns the request. If it has answered already, this duplicate was meant to ask for that.
    #[cold]
    fn answer_again(&mut self, index: u32) {
        let UnderWay { session, origin, .. } = self.pool.messages[index as usize].under_way;
        self.counters.duplicates += 1;
        let Some(Some(state)) = self.sessions.get_mut(session as usize) else { return };
        if let Some(answer) = state.session.slots.answer(request(&origin), &mut self.answer_body[..]) {
            let reply = reply_header(&answer, &origin, state.session.id);
            send(state, &reply, &self.answer_body[..usize::from(answer.body_bytes)]);
        }
    }

    /// Announces to all links that this executor is going to sleep. False if something has arrived: then it must not, and is awake again.
    pub fn arm(&mut self) -> bool {
        let mut quiet = self.backend.arm();
        for state in self.sessions.iter_mut().flatten().filter(|state| !state.closing) {
            let wait_for = if state.wants_room { WaitFor::MessagesOrRoom } else { WaitFor::Messages };
            // A broken link is noticed when it is next polled.
            quiet &= state.session.link.arm(wait_for).unwrap_or(false);
        }
        if quiet {
            self.counters.sleeps += 1;
            self.metrics.write(&self.counters);
        } else {
            self.disarm();
        }
        quiet
    }

    /// Tells all links that this executor is awake. Sessions whose clients are gone are closed.
    pub fn disarm(&mut self) {
        self.backend.disarm();
        self.woken = true;
        for state in self.sessions.iter_mut().flatten() {
            state.closing |= state.session.link.disarm().is_err();
        }
        self.sweep();
    }
}

impl DeploymentState {
    /// Whether it takes no more messages and has none under way.
    fn is_drained(&self, handlers: &[Option<Served>]) -> bool {
        let idle = |entry: &u32| handlers[*entry as usize].as_ref().is_none_or(|served| served.under_way == 0);
        self.retired && self.handlers.iter().all(idle)
    }
}

/// Sends a reply for which room is reserved. A closing session gets none.
#[inline(always)]
fn send<L: Link>(state: &mut SessionState<L>, header: &Header, body: &[u8]) {
    if !state.closing {
        state.session.link.send(&header.emit(), body, &[]);
    }
}

/// The header of an answer to a message.
#[inline(always)]
fn reply_header(answer: &Answer, origin: &Origin, session: u32) -> Header {
    Header {
        kind: Kind::Reply,
        target: origin.target(),
        session,
        slot: origin.slot(),
        sequence: origin.sequence(),
        execution: answer.owner.execution,
        body_bytes: answer.body_bytes,
        continuation_bytes: 0,
        result: answer.outcome.unwrap_or(0),
        error: answer.outcome.err(),
        executor: answer.owner.executor,
        place: answer.owner.place,
        flow: origin.flow(),
        back_edges_left: 0,
        udma_operations_left: 0,
        suspensions: answer.suspensions,
        udma_operations: answer.udma_operations,
    }
}

/// What a message asks for, by its slot and number.
#[inline(always)]
fn request(origin: &Origin) -> Request {
    Request { slot: origin.slot(), sequence: origin.sequence() }
}

/// Puts an entry where one is free. Returns its index.
fn put<T>(entries: &mut Vec<Option<T>>, entry: T) -> u32 {
    let index = entries.iter().position(Option::is_none).unwrap_or(entries.len());
    if index == entries.len() {
        entries.push(None);
    }
    entries[index] = Some(entry);
    index as u32
}

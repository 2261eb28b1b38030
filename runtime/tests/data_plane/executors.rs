//! Executors: every request is answered once, hostile ones with an error that names what is wrong; nothing leaks between tenants.

use crate::programs::{ADD, LOCKED_ADD, Mirror, READ, SWAP_ADD, body_at, handler, region};
use naamc::abi::{EFAULT, Helper, Rights};
use naamc::isa;
use naamc::manifest::Manifest;
use naamc::program::{Entry, Environment, Function, RegionDeclaration};
use naamc::verifier::Proof;
use runtime::client::{Error, Session};
use runtime::clock::MonotonicClock;
use runtime::deployment::{Binding, Checked, Deployment, Handler, Identity, Limits, Shape};
use runtime::engine::InterpreterEngine;
use runtime::executor::{BATCH_MAX, Command, Event, Executor, Options, Progress, ServerSession, thread};
use runtime::memory::{Mapping, Region};
use runtime::message::{FLOWS, Header, HeaderWords, Kind, Place, RuntimeError, Target};
use runtime::metrics::MetricsWriter;
use runtime::session::{Grants, RECORDED_EVERY, SlotTable};
use runtime::steering::{CLIENT, FLOW_TABLE_BYTES, FlowTable, FlowView};
use runtime::transport::shared_memory::{RingLink, RingSizes};
use runtime::transport::wake::Wake;
use runtime::transport::{Broken, Link};
use runtime::udma::{Action, Backend, Completion, Local, Location, NotIssued, Operation, Token};
use runtime::waiting::Waiting;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const ADD_HANDLER: u16 = 0;
pub const READ_HANDLER: u16 = 1;
pub const LOCKED_HANDLER: u16 = 2;
pub const MIRROR_HANDLER: u16 = 3;
/// Fills its whole reply.
const LONG_HANDLER: u16 = 4;

pub fn target(handler: u16) -> Target {
    Target { deployment: 3, generation: 9, handler }
}

pub fn deployment(region: Region, limits: Limits) -> Arc<Deployment> {
    let shape = Shape { body_bytes: 64, request_bytes: 64, reply_bytes_max: 64, claims: false, operations: vec![] };
    let long = Shape { body_bytes: 4000, request_bytes: 8, reply_bytes_max: 4000, claims: false, operations: vec![] };
    let handlers = vec![
        handler("add", 16, &ADD),
        handler("read", 72, &READ),
        handler("locked_add", 88, &LOCKED_ADD),
        Handler::new("mirror", shape, Arc::new(Mirror)),
        Handler::new("long", long, Arc::new(Mirror)),
    ];
    let identity = Identity { name: "test".into(), index: 3, generation: 9 };
    Arc::new(Deployment::new(identity, handlers, vec![region], limits))
}

pub fn executor<L: Link>(number: u16, deployment: &Arc<Deployment>, activations: usize) -> Executor<L> {
    let options = Options { activations, ..Options::host(number, u64::from(number)) };
    let mut executor = Executor::new(options, Box::new(Local), MetricsWriter::nowhere());
    executor.apply(Command::Deploy(deployment.clone()));
    executor
}

/// A region of this many words, cold, so that long reads suspend.
pub fn cold_region(words: u64) -> Region {
    let mut region = Region::anonymous(words * 8).unwrap();
    region.set_cold(true);
    region
}

pub fn word(region: &Region, index: u64) -> u64 {
    let mut bytes = [0; 8];
    assert_eq!(region.read(index * 8, &mut bytes), 0);
    u64::from_le_bytes(bytes)
}

/// One executor, one session.
struct Bench {
    executor: Executor<RingLink>,
    session: Session,
    region: Region,
}

fn bench(sizes: RingSizes, grants: Grants, limits: Limits) -> Bench {
    let region = cold_region(64);
    let (server, client) = RingLink::pair(sizes).unwrap();
    let mut executor = executor(1, &deployment(region.clone(), limits), 8);
    executor.apply(Command::Attach(ServerSession { id: 5, link: server, slots: SlotTable::anonymous(16).unwrap(), grants }));
    Bench { executor, session: Session::new(5, 16, vec![(1, client)], None, Waiting { spin_us: 0 }), region }
}

impl Bench {
    fn call(&mut self, target: Target, body: &[u8]) -> (Result<i32, RuntimeError>, Vec<u8>, u32, u32) {
        self.session.submit(target, None, body, 77).unwrap();
        self.session.flush();
        let mut reply = None;
        for _ in 0..1000 {
            self.executor.turn(0);
            let count = self
                .session
                .poll(|completion| {
                    assert_eq!(completion.token, 77);
                    reply =
                        Some((completion.outcome, completion.body.to_vec(), completion.suspensions, completion.udma_operations));
                })
                .unwrap();
            if count == 1 {
                break;
            }
        }
        reply.expect("a reply")
    }
}

fn usual() -> Bench {
    bench(RingSizes::default(), Grants::all(), Limits::default())
}

/// Results, bodies and counts come back; a long read of cold memory suspends once and is executed once.
#[test]
fn requests_are_answered() {
    let mut bench = usual();
    for old in 0..5u64 {
        let (outcome, body, suspensions, operations) = bench.call(target(ADD_HANDLER), &3u64.to_le_bytes());
        assert_eq!((outcome, suspensions, operations), (Ok(0), 0, 1));
        assert_eq!(body, [3u64.to_le_bytes(), old.to_le_bytes()].concat());
    }
    let (outcome, body, suspensions, operations) = bench.call(target(READ_HANDLER), &0u64.to_le_bytes());
    assert_eq!((outcome, suspensions, operations), (Ok(0), 1, 1));
    assert_eq!(body[8 + 24..8 + 32], 5u64.to_le_bytes());
    let (outcome, body, ..) = bench.call(target(READ_HANDLER), &60u64.to_le_bytes());
    assert_eq!((outcome, &body[8..]), (Ok(-EFAULT as i32), &[0; 64][..]), "out of range reads as zeros");
    let (outcome, _, suspensions, operations) = bench.call(target(LOCKED_HANDLER), &2u64.to_le_bytes());
    assert_eq!((outcome, suspensions, operations), (Ok(0), 1, 5));
    assert_eq!((word(&bench.region, 0), word(&bench.region, 2)), (0, 1));
    assert_eq!(bench.executor.turn(0), Progress::Idle);
    let counters = bench.executor.counters();
    assert_eq!((counters.requests, counters.results, counters.errors), (8, 8, 0));
    assert_eq!((counters.suspensions, counters.udma_operations), (3, 12));
}

/// Bytes that did not arrive are zero, whatever the activation held before.
#[test]
fn a_reused_activation_shows_nothing() {
    let mut bench = usual();
    for length in [64, 0, 7, 8, 63, 1] {
        let sent = vec![0x5a; length];
        let (outcome, body, ..) = bench.call(target(MIRROR_HANDLER), &sent);
        assert_eq!(outcome, Ok(0));
        assert_eq!(body[..length], sent);
        assert!(body[length..].iter().all(|byte| *byte == 0), "{length} bytes arrived");
    }
}

/// What is wrong with a request is said, and the next one is served.
#[test]
fn hostile_requests_are_named() {
    let limits = Limits { udma_operations: 3, ..Limits::default() };
    let mut bench = bench(RingSizes { request_bytes: 8192, reply_bytes: 2048 }, Grants::all(), limits);
    let wrong = |deployment, generation, handler| Target { deployment, generation, handler };
    let cases = [
        (wrong(4, 9, 0), 8, RuntimeError::UnknownDeployment),
        (wrong(3, 8, 0), 8, RuntimeError::UnknownDeployment),
        (wrong(u16::MAX, 9, 0), 8, RuntimeError::UnknownDeployment),
        (wrong(3, 9, 5), 8, RuntimeError::UnknownHandler),
        (wrong(3, 9, u16::MAX), 8, RuntimeError::UnknownHandler),
        (target(ADD_HANDLER), 17, RuntimeError::Malformed),
        (target(LONG_HANDLER), 8, RuntimeError::ReplyTooLong),
        (target(LOCKED_HANDLER), 8, RuntimeError::UdmaOperationsExhausted),
    ];
    for (target, length, expected) in cases {
        let (outcome, body, ..) = bench.call(target, &vec![1; length]);
        assert_eq!((outcome, body.len()), (Err(expected), 0), "{target:?}");
        assert_eq!(bench.call(self::target(MIRROR_HANDLER), &[1]).0, Ok(0));
    }
    let mut limited = usual();
    let mut grants = Grants::none();
    grants.allow_invoke(2);
    limited.executor.apply(Command::Grant(5, grants.clone()));
    assert_eq!(limited.call(target(ADD_HANDLER), &[0; 8]).0, Err(RuntimeError::NotGranted));
    grants.allow_invoke(3);
    limited.executor.apply(Command::Grant(5, grants));
    assert_eq!(limited.call(target(ADD_HANDLER), &[0; 8]).0, Ok(0));
}

/// A session whose messages are made by hand.
fn raw() -> (Executor<RingLink>, RingLink) {
    let (server, client) = RingLink::pair(RingSizes::default()).unwrap();
    let mut executor = executor(1, &deployment(cold_region(64), Limits::default()), 8);
    let slots = SlotTable::anonymous(16).unwrap();
    executor.apply(Command::Attach(ServerSession { id: 5, link: server, slots, grants: Grants::all() }));
    (executor, client)
}

fn answer(executor: &mut Executor<RingLink>, client: &mut RingLink) -> Option<Header> {
    client.flush();
    (0..10).for_each(|_| {
        executor.turn(0);
    });
    let reply = Header::parse(&client.next().unwrap()?).unwrap();
    client.advance();
    Some(reply)
}

/// Messages that no client library sends are refused: headers that are none, replies, continuations, slots beyond the session's.
#[test]
fn hostile_messages_are_refused() {
    let (mut executor, mut client) = raw();
    let good = Header::request(target(ADD_HANDLER), 1, 1, 0, 8);
    let mut bad_version = good.emit().to_bytes();
    bad_version[4] = 200;
    client.send(&HeaderWords::from_bytes(&bad_version), &[0; 8], &[]);
    let reply = answer(&mut executor, &mut client).unwrap();
    assert_eq!((reply.error, reply.slot, reply.sequence), (Some(RuntimeError::Malformed), 1, 1));
    client.send(&Header { kind: Kind::Reply, ..good }.emit(), &[0; 8], &[]);
    assert_eq!(answer(&mut executor, &mut client).unwrap().error, Some(RuntimeError::Malformed));
    client.send(&Header { kind: Kind::Continuation, continuation_bytes: 8, ..good }.emit(), &[0; 8], &[0; 8]);
    // Nothing was proved of these handlers.
    assert_eq!(answer(&mut executor, &mut client).unwrap().error, Some(RuntimeError::BadContinuation));
    client.send(&Header { slot: 16, ..good }.emit(), &[0; 8], &[]);
    assert_eq!(answer(&mut executor, &mut client).unwrap().error, Some(RuntimeError::Malformed));
    client.send(&good.emit(), &[0; 8], &[]);
    let reply = answer(&mut executor, &mut client).unwrap();
    assert_eq!((reply.error, reply.result, reply.place, reply.executor), (None, 0, Place::Host, 1));
}

/// Fuel in a header can only be less than the deployment's.
#[test]
fn fuel_is_never_more_than_the_limit() {
    let (mut executor, mut client) = raw();
    let mut header = Header::request(target(LOCKED_HANDLER), 1, 1, 0, 8);
    header.udma_operations_left = 1;
    client.send(&header.emit(), &[1; 8], &[]);
    assert_eq!(answer(&mut executor, &mut client).unwrap().error, Some(RuntimeError::UdmaOperationsExhausted));
}

/// 10,000 random messages, most of them structurally nearly right: no panic, and every one that keeps the link whole is answered or is a
/// duplicate.
#[test]
fn random_messages_do_no_harm() {
    let mut random = fastrand::Rng::with_seed(11);
    let (mut executor, mut client) = raw();
    let (mut answered, mut errors) = (0, 0);
    for sequence in 1..10_000u32 {
        let body: Vec<u8> = (0..random.usize(..100)).map(|_| random.u8(..3)).collect();
        // Not the spin lock: a client may well lock itself out for as long as its fuel lasts.
        let handler = random.choice([ADD_HANDLER, READ_HANDLER, MIRROR_HANDLER, LONG_HANDLER, 5]).unwrap();
        let mut header = Header::request(target(handler), random.u16(..18), sequence, random.u16(..1024), body.len() as u16);
        if random.u8(..8) == 0 {
            header.target.deployment = random.u16(2..5);
            header.target.generation = random.u16(8..10);
        }
        let mut words = header.emit();
        if random.u8(..4) == 0 {
            // Any word but the one with the sequence number: a number far ahead would make all that follow old.
            words.0[random.choice([0, 1, 3, 4, 5, 6, 7]).unwrap()] ^= 1 << random.u32(32..64);
        }
        assert!(client.room_bytes(256).unwrap() >= 256);
        client.send(&words, &body, &[]);
        client.flush();
        while let Some(reply) = answer(&mut executor, &mut client) {
            answered += 1;
            errors += u32::from(reply.error.is_some());
        }
    }
    assert!(answered > 7_000 && errors > 1_000 && answered - errors > 500, "{answered} answers, {errors} errors");
}

/// Attaches a client, session 6, to an executor. Returns the memory of its link and its end of the wake-ups.
fn attach_raw(executor: &mut Executor<RingLink>) -> (Arc<Mapping>, Wake) {
    let sizes = RingSizes::default();
    let mapping = sizes.create().unwrap().map().unwrap();
    let (server_wake, client_wake) = Wake::pair().unwrap();
    let link = RingLink::server(mapping.clone(), sizes, server_wake).unwrap();
    let slots = SlotTable::anonymous(1).unwrap();
    executor.apply(Command::Attach(ServerSession { id: 6, link, slots, grants: Grants::all() }));
    (mapping, client_wake)
}

/// A client that breaks its link loses its own session; its neighbour is served.
#[test]
fn a_broken_link_concerns_nobody_else() {
    let mut bench = usual();
    let (mapping, _wake) = attach_raw(&mut bench.executor);
    mapping.words()[0].store(77, Ordering::Relaxed);
    assert_eq!(bench.call(target(ADD_HANDLER), &[0; 8]).0, Ok(0));
    assert_eq!(bench.executor.take_events(), [Event::SessionClosed(6)]);
    assert_eq!(bench.executor.take_closed().len(), 1);
    assert_eq!(bench.call(target(ADD_HANDLER), &[0; 8]).0, Ok(0));
}

/// A head that cannot be is seen by nobody but an executor that is about to sleep: it closes the session, and then sleeps.
#[test]
fn a_broken_link_keeps_nobody_awake() {
    let mut bench = usual();
    let (mapping, _wake) = attach_raw(&mut bench.executor);
    mapping.words()[1].store(1, Ordering::Relaxed);
    assert!(!bench.executor.arm());
    bench.executor.turn(0);
    assert_eq!(bench.executor.take_events(), [Event::SessionClosed(6)]);
    assert!(bench.executor.arm());
    bench.executor.disarm();
    assert_eq!(bench.call(target(ADD_HANDLER), &[0; 8]).0, Ok(0));
}

/// The same of an executor that breaks the link of a client that waits: what was under way is uncertain.
#[test]
fn a_broken_link_ends_the_wait_of_its_client() {
    let sizes = RingSizes::default();
    let mapping = sizes.create().unwrap().map().unwrap();
    let (client_wake, _wake) = Wake::pair().unwrap();
    let client = RingLink::client(mapping.clone(), sizes, client_wake).unwrap();
    let mut session = Session::new(5, 4, vec![(1, client)], None, Waiting { spin_us: 0 });
    session.submit(target(ADD_HANDLER), None, &[0; 8], 1).unwrap();
    mapping.words()[33].store(1, Ordering::Relaxed);
    assert!(session.wait(Some(Duration::from_secs(10))).unwrap());
    let mut outcomes = Vec::new();
    let lost = session.poll(|completion| outcomes.push(completion.outcome));
    assert!(matches!(lost, Err(Error::Lost(Broken::Cursor))), "{lost:?}");
    assert_eq!(session.poll(|completion| outcomes.push(completion.outcome)).unwrap(), 1);
    assert_eq!(outcomes, [Err(RuntimeError::Uncertain)]);
}

/// A client learns that its executor is gone: what was under way is uncertain, and later requests fail at once.
#[test]
fn a_lost_executor_is_reported() {
    let mut bench = usual();
    bench.session.submit(target(ADD_HANDLER), None, &[0; 8], 1).unwrap();
    drop(bench.executor);
    assert!(bench.session.wait(None).unwrap());
    let mut outcomes = Vec::new();
    assert_eq!(bench.session.poll(|completion| outcomes.push(completion.outcome)).unwrap(), 1);
    assert_eq!(outcomes, [Err(RuntimeError::Uncertain)]);
    let again = bench.session.submit(target(ADD_HANDLER), None, &[0; 8], 1);
    assert!(matches!(again, Err(Error::Lost(Broken::Closed))), "{again:?}");
}

/// A call takes the reply to its own request, not a late one to a call that was given up; nor does a poll hand that over.
#[test]
fn late_replies_are_not_taken_for_others() {
    let (mut server, client) = RingLink::pair(RingSizes::default()).unwrap();
    let mut session = Session::new(5, 4, vec![(1, client)], None, Waiting { spin_us: 0 });
    let call = |session: &mut Session, number: u8, timeout| session.call_within(target(0), None, &[number; 8], timeout);
    for number in 0..2 {
        assert!(matches!(call(&mut session, number, Some(Duration::ZERO)), Err(Error::TimedOut)));
    }
    // Nothing is answered before the third call is under way: its reply comes between those of the first two.
    let executor = std::thread::spawn(move || {
        let mut requests = Vec::new();
        while requests.len() < 3 {
            if let Some(words) = server.next().unwrap() {
                let header = Header::parse(&words).unwrap();
                let mut body = [0; 8];
                server.copy(0, &mut body);
                server.advance();
                requests.push((header, body));
            } else {
                std::thread::yield_now();
            }
        }
        for index in [0, 2, 1] {
            let (header, body) = requests[index];
            server.send(&Header { kind: Kind::Reply, ..header }.emit(), &body, &[]);
        }
        server.flush();
        server
    });
    assert_eq!(call(&mut session, 2, None).unwrap().body, [2; 8]);
    assert_eq!(session.under_way(), 0);
    let mut server = executor.join().unwrap();
    assert!(matches!(call(&mut session, 3, Some(Duration::ZERO)), Err(Error::TimedOut)));
    session.submit(target(0), None, &[4; 8], 4).unwrap();
    session.flush();
    while let Some(words) = server.next().unwrap() {
        let header = Header::parse(&words).unwrap();
        server.advance();
        server.send(&Header { kind: Kind::Reply, body_bytes: 0, ..header }.emit(), &[], &[]);
    }
    server.flush();
    let mut tokens = Vec::new();
    assert_eq!(session.poll(|completion| tokens.push(completion.token)).unwrap(), 1);
    assert_eq!((tokens, session.under_way()), (vec![4], 0));
}

/// Deployments are replaced and drained under load, sessions detached: what is under way ends properly first.
#[test]
fn old_generations_drain() {
    let mut bench = usual();
    bench.session.submit(target(READ_HANDLER), None, &[0; 8], 1).unwrap();
    bench.session.flush();
    bench.executor.turn(0);
    assert_eq!(bench.executor.under_way(), 1);
    let identity = Identity { name: "test".into(), index: 3, generation: 10 };
    let handlers = vec![handler("add", 16, &ADD)];
    let next = Deployment::new(identity, handlers, vec![bench.region.clone()], Limits::default());
    bench.executor.apply(Command::Deploy(Arc::new(next)));
    assert_eq!(bench.executor.take_events(), []);
    bench.executor.turn(0);
    bench.executor.turn(0);
    assert_eq!(bench.executor.take_events(), [Event::Drained(3, 9)]);
    let mut outcomes = Vec::new();
    bench.session.poll(|completion| outcomes.push(completion.outcome)).unwrap();
    assert_eq!(outcomes, [Ok(0)]);
    assert_eq!(bench.call(target(ADD_HANDLER), &[0; 8]).0, Err(RuntimeError::UnknownDeployment));
    assert_eq!(bench.call(Target { generation: 10, ..target(ADD_HANDLER) }, &[0; 8]).0, Ok(0));
    bench.executor.apply(Command::Undeploy(3));
    bench.executor.apply(Command::Detach(5));
    assert_eq!(bench.executor.take_events(), [Event::Drained(3, 10), Event::SessionClosed(5)]);
}

/// Remote regions: performed after a while, out of order, by a backend with little room.
struct Delayed {
    region: Region,
    under_way: Vec<(u64, Token, Operation, Vec<u8>)>,
    random: fastrand::Rng,
}

impl Backend for Delayed {
    fn issue(&mut self, now_ns: u64, token: Token, region: &Region, operation: &Operation, source: &[u8]) -> Result<(), NotIssued> {
        assert_eq!(region.remote_number(), Some(44));
        if self.under_way.len() == 3 {
            return Err(NotIssued::Full);
        }
        self.under_way.push((now_ns + self.random.u64(..5), token, *operation, source.to_vec()));
        Ok(())
    }

    fn poll(&mut self, now_ns: u64, completed: &mut dyn FnMut(Token, Completion<'_>)) {
        let due: Vec<_> = self.under_way.extract_if(.., |(due, ..)| *due <= now_ns).collect();
        for (_, token, operation, mut bytes) in due {
            let mut old = 0;
            let result = match operation.action {
                Action::Read => self.region.read(operation.offset, &mut bytes),
                Action::Write => self.region.write(operation.offset, &bytes),
                Action::CompareSwap { expected, desired } => {
                    self.region.compare_swap(operation.offset, expected, desired, &mut old)
                }
                Action::FetchAdd { addend } => self.region.fetch_add(operation.offset, addend, &mut old),
            };
            if matches!(operation.action, Action::CompareSwap { .. } | Action::FetchAdd { .. }) {
                bytes = old.to_le_bytes().to_vec();
            }
            completed(token, Completion::Done { result, bytes: &bytes });
        }
    }

    fn due_ns(&self) -> Option<u64> {
        self.under_way.iter().map(|(due, ..)| *due).min()
    }
}

/// The same handlers give the same results when every operation is asynchronous, and counters stay exact.
#[test]
fn remote_regions_are_reached_through_a_backend() {
    let region = cold_region(64);
    let backend = Delayed { region: region.clone(), under_way: Vec::new(), random: fastrand::Rng::with_seed(12) };
    let (server, client) = RingLink::pair(RingSizes::default()).unwrap();
    let remote = Region::remote(NonZeroU32::new(44).unwrap(), 512);
    let options = Options { activations: 8, ..Options::host(1, 1) };
    let mut executor = Executor::new(options, Box::new(backend), MetricsWriter::nowhere());
    executor.apply(Command::Deploy(deployment(remote, Limits::default())));
    let slots = SlotTable::anonymous(16).unwrap();
    executor.apply(Command::Attach(ServerSession { id: 5, link: server, slots, grants: Grants::all() }));
    let mut session = Session::new(5, 16, vec![(1, client)], None, Waiting { spin_us: 0 });
    let (mut sent, mut replies) = (0u64, Vec::new());
    for now in 0..20_000 {
        while sent < 900 && session.under_way() < session.window() {
            let handler = [ADD_HANDLER, READ_HANDLER, LOCKED_HANDLER][(sent % 3) as usize];
            session.submit(target(handler), None, &(1 + sent % 3).to_le_bytes(), sent).unwrap();
            sent += 1;
        }
        executor.turn(now);
        session.poll(|completion| replies.push((completion.token, completion.outcome))).unwrap();
    }
    replies.sort_by_key(|(token, _)| *token);
    assert_eq!(replies, (0..900).map(|token| (token, Ok(0))).collect::<Vec<_>>());
    assert_eq!([0, 1, 3].map(|index| word(&region, index)), [0, 300, 300]);
    assert!(executor.due_ns().is_none() && executor.under_way() == 0);
}

/// A message that ends with an error before its first effect is recorded like any other that could have one: its copy is not run.
#[test]
fn an_error_before_the_first_effect_is_given_once() {
    let (server, mut client) = RingLink::pair(RingSizes::default()).unwrap();
    let mut executor = Executor::new(Options::host(1, 1), Box::new(Local), MetricsWriter::nowhere());
    let identity = Identity { name: "test".into(), index: 3, generation: 9 };
    let unreachable = Region::remote(NonZeroU32::new(44).unwrap(), 512);
    let handlers = vec![handler("read_add", 72, &[READ[0], ADD[0]])];
    executor.apply(Command::Deploy(Arc::new(Deployment::new(identity, handlers, vec![unreachable], Limits::default()))));
    let slots = SlotTable::anonymous(16).unwrap();
    executor.apply(Command::Attach(ServerSession { id: 5, link: server, slots, grants: Grants::all() }));
    for duplicates in 0..2 {
        client.send(&Header::request(target(0), 1, 1, 0, 8).emit(), &[0; 8], &[]);
        assert_eq!(answer(&mut executor, &mut client).unwrap().error, Some(RuntimeError::RegionUnreachable));
        assert_eq!((executor.counters().duplicates, executor.under_way()), (duplicates, 0));
    }
}

/// Sends a request with this number, and takes its answer.
fn ask(executor: &mut Executor<RingLink>, client: &mut RingLink, handler: u16, sequence: u32) -> Option<Header> {
    client.send(&Header::request(target(handler), 1, sequence, 0, 8).emit(), &3u64.to_le_bytes(), &[]);
    answer(executor, client)
}

/// Sequence numbers wrap while nothing but reads goes by: the next effect is neither taken for an old one nor for one that is done.
#[test]
fn an_effect_after_a_whole_round_of_reads_happens() {
    for ahead in [(1 << 31) + 1, u32::MAX, 0] {
        let region = cold_region(64);
        let (server, mut client) = RingLink::pair(RingSizes::default()).unwrap();
        let mut executor = executor(1, &deployment(region.clone(), Limits::default()), 8);
        let slots = SlotTable::anonymous(16).unwrap();
        executor.apply(Command::Attach(ServerSession { id: 5, link: server, slots, grants: Grants::all() }));
        let first = 7u32;
        assert!(ask(&mut executor, &mut client, ADD_HANDLER, first).is_some());
        let round = if ahead == 0 { 1 << 32 } else { u64::from(ahead) };
        // A client sends all between, of which these are recorded.
        for ahead in (u64::from(RECORDED_EVERY - first)..round).step_by(RECORDED_EVERY as usize) {
            let reply = ask(&mut executor, &mut client, READ_HANDLER, first.wrapping_add(ahead as u32)).unwrap();
            assert_eq!((reply.error, reply.body_bytes), (None, 72));
        }
        assert_eq!(executor.counters().duplicates, 0);
        let reply = ask(&mut executor, &mut client, ADD_HANDLER, first.wrapping_add(ahead)).expect("an answer");
        assert_eq!((reply.error, word(&region, 3)), (None, 2), "{ahead} numbers on");
    }
}

/// What a ring can never hold is refused at once: no polling makes room for it.
#[test]
fn what_no_ring_can_hold_is_refused_at_once() {
    let mut bench = bench(RingSizes { request_bytes: 128, ..RingSizes::default() }, Grants::all(), Limits::default());
    let sent = bench.session.submit(target(ADD_HANDLER), None, &[0; 100], 1);
    assert!(matches!(sent, Err(Error::TooLongForRing { bytes: 192, ring_bytes: 128 })), "{sent:?}");
    assert_eq!(bench.call(target(ADD_HANDLER), &3u64.to_le_bytes()).0, Ok(0), "shorter ones go on");
}

/// A handler that writes the bundle's read-only data more often than one turn allows, each time to the place that it has come to.
const TEMPLATES: &str = "
    r6 = r1
    r7 = 0
again:
    r1 = region 0 ll
    r2 = r7
    r3 = read_only + 16 ll
    r4 = 8
    call naam_write
    r7 += 8
    if r7 != 800 goto again
    r0 = 0
    exit";

/// Writes from read-only data go on after a suspension, both into mapped regions and through a backend.
#[test]
fn read_only_data_is_written_across_suspensions() {
    let declared = RegionDeclaration { name: "one".into(), rights: Rights::ALL, length_bytes_min: 0, element: None };
    let environment = Environment { regions: vec![declared], read_only: (0..32).collect(), constants: Vec::new() };
    let entry = Entry { body_bytes: 8, second_argument: None };
    let function = Function { name: "fill".into(), entry, instructions: isa::assemble(TEMPLATES).unwrap() };
    let proof = Arc::new(Proof::prove(function, &environment).unwrap());
    let manifest = Manifest::of(&proof, &environment);
    for remote in [None, NonZeroU32::new(44)] {
        let region = Region::anonymous(800).unwrap();
        let bound = remote.map_or(region.clone(), |number| Region::remote(number, 800));
        let binding = Binding { region: bound, rights: Rights::ALL };
        let identity = Identity { name: "test".into(), index: 3, generation: 9 };
        let checked = [Checked { proof: &proof, manifest: &manifest }];
        let deployment =
            Deployment::bind(identity, &environment, &checked, vec![binding], &InterpreterEngine, Limits::default()).unwrap();
        let backend = Delayed { region: region.clone(), under_way: Vec::new(), random: fastrand::Rng::with_seed(3) };
        let (server, client) = RingLink::pair(RingSizes::default()).unwrap();
        let mut executor = Executor::new(Options::host(1, 1), Box::new(backend), MetricsWriter::nowhere());
        executor.apply(Command::Deploy(Arc::new(deployment)));
        let slots = SlotTable::anonymous(1).unwrap();
        executor.apply(Command::Attach(ServerSession { id: 5, link: server, slots, grants: Grants::all() }));
        let mut session = Session::new(5, 1, vec![(1, client)], None, Waiting { spin_us: 0 });
        session.submit(target(0), None, &[], 1).unwrap();
        session.flush();
        let mut outcomes = Vec::new();
        for now in 0..2000 {
            executor.turn(now);
            session.poll(|completion| outcomes.push((completion.outcome, completion.suspensions > 0))).unwrap();
        }
        assert_eq!(outcomes, [(Ok(0), true)], "{remote:?}");
        assert!((0..100).all(|index| word(&region, index) == u64::from_le_bytes([16, 17, 18, 19, 20, 21, 22, 23])), "{remote:?}");
    }
}

/// Real threads that sleep when idle: four clients on two executors, spread by flow, spin locks shared; every request is answered once and
/// counters are exact.
#[test]
fn threads_serve_clients() {
    const REQUESTS: u64 = 4_000;
    let region = cold_region(64);
    let deployment = deployment(region.clone(), Limits { udma_operations: u32::MAX, ..Limits::default() });
    let flow_memory = runtime::memory::SharedMemory::create("flows", FLOW_TABLE_BYTES, Default::default()).unwrap();
    let flows = FlowTable::new(flow_memory.map().unwrap()).unwrap();
    (0..FLOWS as u16).for_each(|flow| flows.set(flow, u32::from(flow % 2) + 1));
    flows.set(5, CLIENT);
    assert_eq!([4, 5, 6, 7].map(|flow| flows.get(flow)), [1, CLIENT, 1, 2]);
    let (mut mailboxes, mut inboxes) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (mailbox, inbox) = thread::mailbox().unwrap();
        mailboxes.push(mailbox);
        inboxes.push(inbox);
    }
    std::thread::scope(|scope| {
        for (number, inbox) in (1..).zip(inboxes) {
            let deployment = &deployment;
            scope.spawn(move || {
                let mut executor = executor(number, deployment, 16);
                let waiting = Waiting { spin_us: 0 };
                thread::run(&mut executor, &inbox, &MonotonicClock::new(), waiting, &mut |_| {}).unwrap();
                assert!(executor.counters().requests > 1_000, "both executors serve");
            });
        }
        let clients: Vec<_> = (0..4u32)
            .map(|id| {
                let slots = SlotTable::anonymous(8).unwrap();
                let mut links = Vec::new();
                for (number, mailbox) in (1..).zip(&mailboxes) {
                    let (server, client) = RingLink::pair(RingSizes { request_bytes: 1024, reply_bytes: 1024 }).unwrap();
                    let session = ServerSession { id, link: server, slots: slots.clone(), grants: Grants::all() };
                    assert!(mailbox.send(Command::Attach(session)));
                    links.push((number, client));
                }
                let flows = FlowView::new(flow_memory.map_read_only().unwrap()).unwrap();
                scope.spawn(move || {
                    let mut session = Session::new(id, 8, links, Some(flows), Waiting { spin_us: 0 });
                    let (mut sent, mut done) = (0, 0);
                    while done < REQUESTS {
                        while sent < REQUESTS {
                            let handler = if sent % 2 == 0 { ADD_HANDLER } else { LOCKED_HANDLER };
                            match session.submit(target(handler), Some(sent), &(1 + sent % 2).to_le_bytes(), sent) {
                                Ok(()) => sent += 1,
                                Err(Error::Full) => break,
                                Err(error) => panic!("{error}"),
                            }
                        }
                        done += session.poll(|completion| assert_eq!(completion.outcome, Ok(0))).unwrap() as u64;
                        session.wait(None).unwrap();
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        mailboxes.iter().for_each(|mailbox| assert!(mailbox.send(Command::Stop)));
    });
    assert_eq!([0, 1, 2].map(|index| word(&region, index)), [0, REQUESTS * 2, REQUESTS * 2]);
}

/// A script may read what lies in its stack, too: a destination on the stack is completed there.
#[test]
fn operations_are_found_in_registers() {
    let mut activation = naamc::activation::Activation::new_boxed();
    activation.registers[1..6].copy_from_slice(&[region(2), 640, body_at(8), u64::from(u32::MAX) << 32 | 16, 0]);
    let read = Operation::pending(&activation, Helper::Read).unwrap();
    assert_eq!((read.region, read.offset, read.location, read.length_bytes), (2, 640, Location::Activation(4104), 16));
    read.complete(&mut activation, 0, &[7; 16]);
    assert_eq!(activation.body()[7..25], [&[0][..], &[7; 16], &[0]].concat());
    assert_eq!((activation.completed, activation.completion), (1, 0));
    read.complete(&mut activation, -EFAULT, &[]);
    assert_eq!(activation.body()[8..24], [0; 16]);
    for registers in [[0; 5], [region(0), 0, 0, 8, 0], [region(0), 0, body_at(8100), 100, 0], [u64::MAX, 0, u64::MAX, u64::MAX, 0]]
    {
        activation.registers[1..6].copy_from_slice(&registers);
        assert_eq!(Operation::pending(&activation, Helper::Read), None, "{registers:?}");
    }
}

/// Counts how often it is polled.
struct Polled(Arc<std::sync::atomic::AtomicUsize>);

impl Backend for Polled {
    fn issue(&mut self, _: u64, _: Token, _: &Region, _: &Operation, _: &[u8]) -> Result<(), NotIssued> {
        Err(NotIssued::Unreachable)
    }

    fn poll(&mut self, _: u64, _: &mut dyn FnMut(Token, Completion<'_>)) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn due_ns(&self) -> Option<u64> {
        None
    }
}

/// What wakes an executor may be its backend's, with nothing under way there: it is polled, or the executor would never sleep again.
#[test]
fn a_backend_that_wakes_is_polled() {
    let polls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut executor: Executor<RingLink> =
        Executor::new(Options::host(1, 1), Box::new(Polled(polls.clone())), MetricsWriter::nowhere());
    let polled = || polls.load(Ordering::Relaxed);
    executor.turn(0);
    assert_eq!(polled(), 0, "nothing is under way");
    assert!(executor.arm());
    executor.disarm();
    executor.turn(0);
    executor.turn(0);
    assert_eq!(polled(), 1);
}

/// Many messages behind a DMA engine swap the same word, and new ones keep arriving: each has its turn, however many are in front of it.
#[test]
fn nobody_starves_behind_a_dma_engine() {
    const WINDOW: u64 = 64;
    let memory = runtime::memory::SharedMemory::create("naam-test", 4096, runtime::memory::Pages::Ordinary).unwrap();
    let region = Region::behind_dma(memory.map().unwrap(), 4096).unwrap();
    for latency_ns in [0, 3] {
        let options = Options::nic(1, 1);
        let backend = runtime::udma::dma::Dma::new(latency_ns, options.activations);
        let mut executor: Executor<RingLink> = Executor::new(options, Box::new(backend), MetricsWriter::nowhere());
        let identity = Identity { name: "test".into(), index: 3, generation: 9 };
        let handlers = vec![handler("swap_add", 16, &SWAP_ADD)];
        executor.apply(Command::Deploy(Arc::new(Deployment::new(identity, handlers, vec![region.clone()], Limits::default()))));
        let (server, client) = RingLink::pair(RingSizes::default()).unwrap();
        let slots = SlotTable::anonymous(WINDOW as u16).unwrap();
        executor.apply(Command::Attach(ServerSession { id: 5, link: server, slots, grants: Grants::all() }));
        let mut session = Session::new(5, WINDOW as u16, vec![(1, client)], None, Waiting { spin_us: 0 });
        let (before, mut answered, mut now_ns) = (word(&region, 0), 0, 0);
        while answered < 5000 {
            while session.submit(target(0), None, &[0; 16], 0).is_ok() {}
            session.flush();
            executor.turn(now_ns);
            now_ns += 1;
            // One that starves runs out of UDMA operations.
            answered += session.poll(|completion| assert_eq!(completion.outcome, Ok(0))).unwrap();
        }
        assert!(word(&region, 0) - before >= 5000);
    }
}

/// A turn goes by one reading of the clock. Behind a backend that does too it has one round, or operations would be issued in the past; at the
/// host it goes on while new messages are there.
#[test]
fn turns_behind_a_clock_have_one_round() {
    let memory = runtime::memory::SharedMemory::create("naam-test", 4096, runtime::memory::Pages::Ordinary).unwrap();
    let region = Region::behind_dma(memory.map().unwrap(), 4096).unwrap();
    for (options, started) in [(Options::nic(1, 1), BATCH_MAX as u64), (Options::host(1, 1), 20)] {
        let backend = runtime::udma::dma::Dma::new(1000, options.activations);
        let mut executor: Executor<RingLink> = Executor::new(options, Box::new(backend), MetricsWriter::nowhere());
        let identity = Identity { name: "test".into(), index: 3, generation: 9 };
        let handlers = vec![handler("add", 16, &ADD)];
        executor.apply(Command::Deploy(Arc::new(Deployment::new(identity, handlers, vec![region.clone()], Limits::default()))));
        let (server, client) = RingLink::pair(RingSizes::default()).unwrap();
        let slots = SlotTable::anonymous(32).unwrap();
        executor.apply(Command::Attach(ServerSession { id: 5, link: server, slots, grants: Grants::all() }));
        let mut session = Session::new(5, 32, vec![(1, client)], None, Waiting { spin_us: 0 });
        for token in 0..20 {
            session.submit(target(0), None, &[0; 16], token).unwrap();
        }
        session.flush();
        executor.turn(0);
        assert_eq!(executor.counters().requests, started, "{:?}", executor.counters());
    }
}

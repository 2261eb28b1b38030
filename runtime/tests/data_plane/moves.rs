//! Messages that move between servers while they are under way, because their flow was steered elsewhere.

use crate::corpus::{self, Subject};
use naamc::abi::Rights;
use runtime::client::{Change, Completion, Error, LocalPlace, Membership, News, Session};
use runtime::deployment::{Binding, Checked, Deployment, Identity, Limits};
use runtime::engine::jit::JitEngine;
use runtime::engine::{Engine, InterpreterEngine};
use runtime::executor::{Command, Executor, Options, ServerSession};
use runtime::memory::{Pages, Region, SharedMemory};
use runtime::message::{FLOWS, Header, Kind, Place, RuntimeError, Target};
use runtime::metrics::MetricsWriter;
use runtime::session::{Grants, SlotTable};
use runtime::steering::{CLIENT, FLOW_TABLE_BYTES, FlowTable, FlowView};
use runtime::transport::shared_memory::{RingLink, RingSizes};
use runtime::transport::{Broken, Link};
use runtime::udma::dma::Dma;
use runtime::waiting::Waiting;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MESSAGES: usize = 200;
const SEED: u64 = 0x6e61_616d_0006;
const SESSION: u32 = 5;
/// Turns of a test at most: more than any takes.
const TURNS_MAX: u64 = 1 << 20;

/// What a session is told, by the test.
#[derive(Clone)]
struct Told(Arc<Mutex<VecDeque<News<RingLink>>>>, Arc<OwnedFd>);

impl Told {
    fn nothing() -> Told {
        Told(Arc::default(), Arc::new(eventfd(0, EventfdFlags::empty()).unwrap()))
    }
}

impl Membership<RingLink> for Told {
    fn next(&mut self) -> Result<Option<News<RingLink>>, Broken> {
        Ok(self.0.lock().unwrap().pop_front())
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.1.as_fd()
    }
}

/// A flow table in this process: its writer's side and its readers'.
fn flow_table() -> (FlowTable, FlowView) {
    let memory = SharedMemory::create("flows", FLOW_TABLE_BYTES, Pages::Ordinary).unwrap();
    (FlowTable::new(memory.map().unwrap()).unwrap(), FlowView::new(memory.map_read_only().unwrap()).unwrap())
}

fn steer_all(flows: &FlowTable, entry: u32) {
    (0..FLOWS as u16).for_each(|flow| flows.set(flow, entry));
    flows.announce_steering();
}

/// A session that has heard of these executors.
fn session(window: u16, view: FlowView, told: &Told, links: Vec<(u16, RingLink)>) -> Session {
    let mut session = Session::with_membership(SESSION, window, view, Box::new(told.clone()), Waiting { spin_us: 0 });
    for (number, link) in links {
        let place = if number == 1 { Place::Host } else { Place::Nic };
        session.hear(News { changes: 0, what: Change::Joined(place, vec![(number, link)]) });
    }
    session
}

/// Executor 1, a host's, and executor 2, a NIC's, over the same regions; messages on both suspend at every UDMA call.
struct Servers {
    executors: [Executor<RingLink>; 2],
    flows: FlowTable,
    session: Session,
    regions: Vec<Region>,
    now_ns: u64,
}

impl Servers {
    fn new(
        subject: &Subject,
        contents: &[Vec<u8>],
        engine: &dyn Engine,
        grants: &Grants,
        window: u16,
        rings: RingSizes,
    ) -> Servers {
        let regions: Vec<Region> = contents.iter().map(|content| behind_dma(content)).collect();
        let bindings = regions.iter().map(|region| Binding { region: region.clone(), rights: Rights::ALL }).collect();
        let identity = Identity { name: subject.name.clone(), index: 0, generation: 1 };
        let meaning = &subject.bundle.bundle().meaning;
        let handlers = Checked::all_of(&subject.bundle);
        let deployment = Deployment::bind(identity, &meaning.environment, &handlers, bindings, engine, Limits::default());
        let deployment = Arc::new(deployment.expect("it binds"));
        let (flows, view) = flow_table();
        steer_all(&flows, 1);
        let slots = SlotTable::anonymous(window).unwrap();
        let mut links = Vec::new();
        let executors = [(1, Place::Host), (2, Place::Nic)].map(|(number, place)| {
            let options = Options { place, ..Options::nic(number, number.into()) };
            let mut executor = Executor::new(options, Box::new(Dma::new(0, options.activations)), MetricsWriter::nowhere());
            executor.follow(view.clone());
            executor.apply(Command::Deploy(deployment.clone()));
            let (link, client) = RingLink::pair(rings).unwrap();
            executor.apply(Command::Attach(ServerSession { id: SESSION, link, slots: slots.clone(), grants: grants.clone() }));
            links.push((number, client));
            executor
        });
        let session = session(window, view, &Told::nothing(), links);
        Servers { executors, flows, session, regions, now_ns: 0 }
    }

    /// Gives both executors a turn, and steers all flows to another one before each if they are to move.
    ///
    /// # Panics
    /// After so many turns that something must have been lost.
    fn turn(&mut self, moving: bool) {
        assert!(self.now_ns < TURNS_MAX, "a message is never answered");
        for turned in 0..2 {
            if moving {
                steer_all(&self.flows, 2 - turned as u32);
            }
            self.executors[turned].turn(self.now_ns);
            self.now_ns += 1;
        }
    }
}

fn behind_dma(content: &[u8]) -> Region {
    let length_bytes = content.len() as u64;
    let memory = SharedMemory::create("naam-test", length_bytes, Pages::Ordinary).unwrap();
    corpus::filled(Region::behind_dma(memory.map().unwrap(), length_bytes).unwrap(), content)
}

/// Where messages ended and what they left behind.
type Trail = (Vec<(Result<i32, RuntimeError>, Vec<u8>)>, Vec<Vec<u8>>);

/// Sends a stream of messages, one after another. Returns its trail, and how many messages were taken by an executor beyond the first.
fn serve(subject: &Subject, engine: &dyn Engine, grants: &Grants, moving: bool) -> (Trail, u64) {
    let mut random = fastrand::Rng::with_seed(SEED);
    let contents = subject.region_contents(&mut random);
    let mut servers = Servers::new(subject, &contents, engine, grants, 1, RingSizes::default());
    let mut endings = Vec::new();
    for message in 0..MESSAGES {
        let handler = random.usize(..subject.handlers().len());
        let body = subject.body(handler, &mut random);
        let target = Target { deployment: 0, generation: 1, handler: handler as u16 };
        servers.session.submit(target, Some(message as u64), &body, 0).unwrap();
        servers.session.flush();
        let ended = endings.len();
        while endings.len() == ended {
            servers.turn(moving);
            servers.session.poll(|reply| endings.push((reply.outcome, reply.body.to_vec()))).unwrap();
            servers.session.flush();
        }
    }
    let taken: u64 = servers.executors.iter().map(|executor| executor.counters().requests).sum();
    ((endings, corpus::contents(&servers.regions)), taken - MESSAGES as u64)
}

/// Replies and regions are those of messages that stay, whatever the handler and the engine.
#[test]
fn messages_move_at_every_suspension() {
    let mut moves = BTreeMap::new();
    for subject in &Subject::all() {
        let engines: [(&str, &dyn Engine); 2] = [("interpreter", &InterpreterEngine), ("jit", &JitEngine)];
        let mut expected = None;
        for (name, engine) in engines {
            let (stayed, none) = serve(subject, engine, &Grants::all(), false);
            assert_eq!(none, 0, "{}, {name}: nothing moves unasked", subject.name);
            let (moved, count) = serve(subject, engine, &Grants::all(), true);
            assert!(stayed == moved, "{}, {name}: another end after {count} moves, seed {SEED:#x}", subject.name);
            assert!(*expected.get_or_insert(moved) == stayed, "{}: engines differ", subject.name);
            moves.insert((subject.name.clone(), name), count);
        }
    }
    println!("moves: {moves:?}");
    assert!(["mica", "cell"].iter().all(|name| moves[&((*name).to_owned(), "jit")] > MESSAGES as u64), "{moves:?}");
}

/// A continuation is authority: who may only invoke handlers never sees one.
#[test]
fn without_a_direct_grant_nothing_moves() {
    let subject = Subject::load("mica");
    let mut invoking = Grants::none();
    invoking.allow_invoke(0);
    let (stayed, _) = serve(&subject, &JitEngine, &invoking, false);
    let (asked, moves) = serve(&subject, &JitEngine, &invoking, true);
    assert!(stayed == asked && moves == 0, "{moves} moves");
}

/// A list of links of 32 bytes, key `n` at offset `32 n`: as many reads lead to it. The first comes before any, since 0 is the end.
fn list_of(links: u64) -> Vec<u8> {
    let next = |key: u64| if key < links { 32 * (key + 1) } else { 0 };
    (0..=links).flat_map(|key| [key, next(key), key * key, 7]).flat_map(u64::to_le_bytes).collect()
}

/// Two servers that hand messages to each other do not wait for each other, however small their rings: each message is answered once.
#[test]
fn moves_through_small_rings_end() {
    const REQUESTS: u64 = 300;
    const LINKS: u64 = 12;
    let subject = Subject::load("chase");
    let find = subject.handlers().iter().position(|handler| handler.function.name == "find").unwrap();
    let target = Target { deployment: 0, generation: 1, handler: find as u16 };
    let contents = vec![list_of(LINKS), vec![0; 512]];
    // A request and its reply take 128 bytes, a continuation 256. It leaves if there is room beside the replies that are owed, and begins again if
    // there is none on its way to the other server.
    for (request_bytes, reply_bytes, moves) in [(128, 128, false), (128, 4096, true), (512, 4096, true), (4096, 4096, true)] {
        let rings = RingSizes { request_bytes, reply_bytes };
        let mut servers = Servers::new(&subject, &contents, &JitEngine, &Grants::all(), 16, rings);
        let mut random = fastrand::Rng::with_seed(SEED);
        let (mut sent, mut answered) = (0, HashSet::new());
        while answered.len() < REQUESTS as usize {
            let key = |token: u64| 1 + token % LINKS;
            let mut submit = |token| {
                let body = [key(token).to_le_bytes(), 32u64.to_le_bytes()].concat();
                servers.session.submit(target, Some(token), &body, token).is_ok()
            };
            while sent < REQUESTS && submit(sent) {
                sent += 1;
            }
            servers.turn(random.bool());
            let take = |reply: Completion<'_>| {
                let value = u64::from_le_bytes(reply.body[16..24].try_into().unwrap());
                assert_eq!((reply.outcome, value), (Ok(0), key(reply.token).pow(2)));
                assert!(answered.insert(reply.token), "answered twice");
            };
            servers.session.poll(take).unwrap();
        }
        assert_eq!(servers.session.under_way(), 0);
        let taken: u64 = servers.executors.iter().map(|executor| executor.counters().requests).sum();
        println!("{rings:?}: {} moves and new beginnings", taken - REQUESTS);
        assert_eq!(taken - REQUESTS > REQUESTS, moves, "{rings:?}");
    }
}

/// Fuel is what is left of it, however often a message moves: one that would go on for ever ends after as many operations as one that stays.
#[test]
fn a_message_that_moves_keeps_its_fuel() {
    let subject = Subject::load("chase");
    let find = subject.handlers().iter().position(|handler| handler.function.name == "find").unwrap();
    let target = Target { deployment: 0, generation: 1, handler: find as u16 };
    // The link at 32 leads to itself, and holds another key.
    let contents = vec![[1, 32, 0, 0].iter().cycle().take(16).flat_map(|word: &u64| word.to_le_bytes()).collect(), vec![0; 512]];
    let body = [99u64.to_le_bytes(), 32u64.to_le_bytes()].concat();
    let [stayed, moved] = [false, true].map(|moving| {
        let mut servers = Servers::new(&subject, &contents, &JitEngine, &Grants::all(), 1, RingSizes::default());
        servers.session.submit(target, Some(0), &body, 0).unwrap();
        servers.session.flush();
        let mut ending = None;
        while ending.is_none() {
            servers.turn(moving);
            servers.session.poll(|reply| ending = Some((reply.outcome, reply.udma_operations))).unwrap();
            servers.session.flush();
        }
        let taken: u64 = servers.executors.iter().map(|executor| executor.counters().requests).sum();
        (ending.unwrap(), taken - 1)
    });
    let ((outcome, operations), moves) = stayed;
    assert!(outcome.is_err() && operations > 1000 && moves == 0, "{stayed:?}");
    assert_eq!(moved.0, stayed.0);
    assert!(moved.1 > 1000, "{moved:?}");
}

/// A place in the client's process that would serve everything, and is never turned.
struct Willing;

impl LocalPlace for Willing {
    fn serves(&self, _: Target) -> bool {
        true
    }

    fn forget(&mut self, _: u16) {}

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

/// The executor that had a request has ended, and may have run it: that is for the slot's record to say, which only servers see. So it goes
/// to a server, though its flow is the client's own by now.
#[test]
fn what_a_server_had_never_runs_in_the_client() {
    let (flows, view) = flow_table();
    let told = Told::nothing();
    let (mut first, client) = RingLink::pair(RingSizes::default()).unwrap();
    let mut session = session(1, view, &told, vec![(1, client)]);
    let (mut here, client) = RingLink::pair(RingSizes::default()).unwrap();
    session.attach(client, Box::new(Willing));
    steer_all(&flows, 1);
    let target = Target { deployment: 0, generation: 1, handler: 0 };
    session.submit(target, None, &[1; 8], 7).unwrap();
    session.flush();
    assert!(first.next().unwrap().is_some(), "the first server has it");

    steer_all(&flows, CLIENT);
    let (mut second, client) = RingLink::pair(RingSizes::default()).unwrap();
    let news = [Change::Gone(vec![1]), Change::Joined(Place::Nic, vec![(2, client)])];
    told.0.lock().unwrap().extend(news.map(|what| News { changes: 1, what }));
    flows.announce();
    session.poll(|_| panic!("nobody has answered")).unwrap();
    session.flush();
    assert!(here.next().unwrap().is_none(), "it runs in the client");
    let again = Header::parse(&second.next().unwrap().expect("the second server has it")).unwrap();
    assert_eq!((again.kind, again.slot, again.sequence), (Kind::Request, 0, 1));
}

const TARGET: Target = Target { deployment: 0, generation: 1, handler: 0 };
/// Too small for anything but one request.
const ONE_REQUEST: RingSizes = RingSizes { request_bytes: 128, reply_bytes: 4096 };

/// Takes the request that has arrived at an executor's end of a link, and sends it back as a message under way.
fn send_back(link: &mut RingLink) -> Header {
    let request = Header::parse(&link.next().unwrap().expect("a request")).unwrap();
    link.advance();
    let header = Header { kind: Kind::Continuation, continuation_bytes: 16, ..request };
    link.send(&header.emit(), &vec![1; usize::from(request.body_bytes)], &[0; 16]);
    link.flush();
    request
}

/// A session with a server and a place in its process, whose requests go to the latter.
fn with_a_place_of_its_own(rings: RingSizes, told: &Told) -> (FlowTable, Session, RingLink, RingLink) {
    let (flows, view) = flow_table();
    let (server, client) = RingLink::pair(rings).unwrap();
    let mut session = session(2, view, told, vec![(1, client)]);
    let (here, client) = RingLink::pair(RingSizes::default()).unwrap();
    session.attach(client, Box::new(Willing));
    steer_all(&flows, CLIENT);
    (flows, session, server, here)
}

/// Whatever waits for a server that is not there: a call ends in time.
#[test]
fn time_limits_hold_beside_what_waits_for_a_server() {
    for leaves in [false, true] {
        let told = Told::nothing();
        let (flows, mut session, mut server, mut here) = with_a_place_of_its_own(RingSizes::default(), &told);
        if !leaves {
            steer_all(&flows, 1);
        }
        session.submit(TARGET, None, &[1; 8], 7).unwrap();
        session.flush();
        if leaves {
            send_back(&mut here);
        } else {
            assert!(server.next().unwrap().is_some());
            steer_all(&flows, CLIENT);
        }
        told.0.lock().unwrap().push_back(News { changes: 1, what: Change::Gone(vec![1]) });
        flows.announce();
        let ended = session.call_within(TARGET, None, &[1; 8], Some(Duration::from_millis(20)));
        assert!(matches!(ended, Err(Error::TimedOut)), "{ended:?}");
    }
}

/// The slot of a request that waits to begin again is another request's, once a copy of it was answered: that is sent once.
#[test]
fn a_slot_that_waited_is_free_for_another_request() {
    let told = Told::nothing();
    let (flows, view) = flow_table();
    let (mut first, one) = RingLink::pair(ONE_REQUEST).unwrap();
    let (mut second, two) = RingLink::pair(ONE_REQUEST).unwrap();
    let mut session = session(2, view, &told, vec![(1, one), (2, two)]);
    let (mut here, client) = RingLink::pair(RingSizes::default()).unwrap();
    session.attach(client, Box::new(Willing));
    steer_all(&flows, 2);
    session.submit(TARGET, Some(1), &[1; 8], 7).unwrap();
    flows.set(0, 1);
    session.submit(TARGET, Some(0), &[1; 8], 8).unwrap();
    session.flush();
    flows.set(0, 2);
    let request = send_back(&mut first);
    first.send(&Header { kind: Kind::Reply, body_bytes: 0, ..request }.emit(), &[], &[]);
    first.flush();
    let mut answered = Vec::new();
    session.poll(|completion| answered.push(completion.token)).unwrap();
    assert_eq!(answered, [8]);
    flows.set(0, CLIENT);
    session.submit(TARGET, Some(0), &[2; 8], 9).unwrap();
    session.flush();
    flows.set(0, 1);
    session.poll(|_| ()).unwrap();
    session.flush();
    assert!(second.next().unwrap().is_some());
    let copies = [&mut here, &mut first].map(|link| link.next().unwrap().is_some());
    assert_eq!(copies, [true, false], "sent here, and to the first server");
}

/// What leaves the client and fits the ring of no server ends.
#[test]
fn what_no_server_can_take_ends() {
    let (_flows, mut session, _server, mut here) = with_a_place_of_its_own(ONE_REQUEST, &Told::nothing());
    session.submit(TARGET, Some(0), &[1; 100], 8).unwrap();
    session.flush();
    send_back(&mut here);
    let mut ended = Vec::new();
    for _ in 0..3 {
        session.poll(|completion| ended.push(completion.outcome)).unwrap();
    }
    assert_eq!(ended, [Err(RuntimeError::Uncertain)]);
}

/// A living server's replies come through, though what it sent on has nowhere to go.
#[test]
fn a_broken_link_holds_up_no_other() {
    let (flows, view) = flow_table();
    let (mut first, one) = RingLink::pair(RingSizes::default()).unwrap();
    let (second, two) = RingLink::pair(RingSizes::default()).unwrap();
    let mut session = Session::new(SESSION, 4, vec![(1, one), (2, two)], Some(view), Waiting { spin_us: 0 });
    steer_all(&flows, 1);
    for key in 0..2 {
        session.submit(TARGET, Some(key), &[1; 8], key).unwrap();
    }
    session.flush();
    drop(second);
    flows.set(0, 2);
    send_back(&mut first);
    let other = Header::parse(&first.next().unwrap().expect("the other request")).unwrap();
    first.advance();
    first.send(&Header { kind: Kind::Reply, body_bytes: 0, ..other }.emit(), &[], &[]);
    first.flush();
    let mut ended = BTreeMap::new();
    for _ in 0..100 {
        session.wait(Some(Duration::from_millis(1))).unwrap();
        // The broken link is told once.
        let _ = session.poll(|completion| _ = ended.insert(completion.token, completion.outcome));
    }
    assert_eq!(ended.get(&1), Some(&Ok(0)), "{ended:?}");
}

/// A message that moves to a server which has already heard that its session may only invoke runs there from its request.
#[test]
fn grants_that_change_on_the_way_refuse_nothing_that_is_allowed() {
    let subject = Subject::load("chase");
    let find = subject.handlers().iter().position(|handler| handler.function.name == "find").unwrap();
    let target = Target { handler: find as u16, ..TARGET };
    let contents = [list_of(12), vec![0; 512]];
    let mut servers = Servers::new(&subject, &contents, &JitEngine, &Grants::all(), 4, RingSizes::default());
    let body = [12u64.to_le_bytes(), 32u64.to_le_bytes()].concat();
    servers.session.submit(target, Some(0), &body, 1).unwrap();
    servers.session.flush();
    servers.executors[0].turn(0);
    let mut invoking = Grants::none();
    invoking.allow_invoke(0);
    servers.executors[1].apply(Command::Grant(SESSION, invoking));
    steer_all(&servers.flows, 2);
    let mut outcome = None;
    while outcome.is_none() {
        servers.turn(false);
        servers.session.poll(|completion| outcome = Some((completion.outcome, completion.executor))).unwrap();
        servers.session.flush();
    }
    assert_eq!(outcome, Some((Ok(0), 2)));
}

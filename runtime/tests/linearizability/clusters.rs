//! Histories of real clusters: host and NIC with an executor each, sessions that write through either and read through both.

use crate::Histories;
use crate::checker::Operation;
use crate::messages::{KEYS, Request};
use crate::stale::StaleGet;
use naamc::abi::{Helper, Rights};
use runtime::control::directory::Address;
use runtime::control::{Connection, ConnectionOptions};
use runtime::message::{Place, RuntimeError};
use runtime::node::{Node, Options, embedded_name};
use runtime::place::NativePrograms;
use runtime::supervisor::api::{CreateRegion, Deploy, FlowRange, Steer};
use runtime::supervisor::protocol::EngineChoice;
use runtime::supervisor::records::{Binding, DeploymentRecord};
use rustix::process::{Pid, Signal, kill_process};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Requests of one cluster, all sessions together.
const REQUESTS_COMPILED: u64 = 400_000;
const REQUESTS_INTERPRETED: u64 = 120_000;
/// The same where places die, on either engine, and where a handler is broken.
const REQUESTS_WITH_DEATHS: u64 = 100_000;
const REQUESTS_BROKEN: u64 = 20_000;
/// Deaths of host and NIC in turns; a place that dies more often in a row is given up.
const DEATHS: u64 = 8;
/// Runs in which a death must meet a request, at most.
const RUNS_WITH_DEATHS_MAX: u32 = 5;
/// Requests that a session has under way.
const WINDOW: u16 = 16;
/// Flows from here on are the NIC's.
const NIC_FLOWS: u64 = 512;
/// Latency of the NIC's DMA engine where places die: so long that a death always meets messages that wait for it.
const LATENCY_WITH_DEATHS_NS: u64 = 5_000;
/// Regions: few buckets, so that locks are contended and chains grow.
const TABLE_BYTES: u64 = 4096 + 8 * 64;
const HEAP_BYTES: u64 = 1 << 20;
/// What the names of clusters end with whose `get` is broken.
const STALE: &str = "-stale";

/// A session, by where its requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    WriterAt(Place),
    /// Reads at host and NIC in turns.
    Reader,
}

const SESSIONS: [Role; 4] = [Role::WriterAt(Place::Host), Role::WriterAt(Place::Nic), Role::Reader, Role::Reader];

/// What this process runs as a place: nothing of its own, or a broken `get`.
pub fn programs() -> NativePrograms {
    // A place's first argument is the name of its cluster.
    if !std::env::args().nth(1).is_some_and(|cluster| cluster.ends_with(STALE)) {
        return NativePrograms::default();
    }
    let bundle = bundle();
    let index = bundle.handler("get").expect("a handler");
    let handler = &bundle.bundle().meaning.handlers[index];
    let operations: Vec<Helper> = handler.manifest.operations.iter().map(|operation| operation.helper).collect();
    let proof = bundle.proofs()[index].clone();
    let make = move |environment: &naamc::program::Environment| -> Arc<dyn runtime::engine::Program> {
        Arc::new(StaleGet::new(&proof, environment.read_only.as_slice().into()))
    };
    NativePrograms::default().with("table", "get", operations, make)
}

fn bundle() -> naamc::bundle::CheckedBundle {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/handlers/mica.o");
    naamc::build::build(&std::fs::read(path).expect("a readable ELF")).expect("it verifies")
}

/// A cluster with a table.
fn start(name: String, engine: EngineChoice, dma_latency_ns: u64) -> (Node, DeploymentRecord) {
    let options = Options { nic_executors: 1, dma_latency_ns, engine, pin: false, ..Options::new(name) };
    let node = Node::start(&options).expect("a cluster starts");
    let control = node.control();
    let flows = vec![FlowRange { first: NIC_FLOWS as u16, last: 1023 }];
    control.steer(&Steer { flows, place: Place::Nic }).expect("it has a NIC");
    let bound = |name: &str, length_bytes| {
        control.create_region(name, &CreateRegion { length_bytes, huge_pages: false }).expect("room for a region");
        (name.to_owned(), Binding { region: name.to_owned(), rights: Rights::ALL })
    };
    let request = Deploy {
        bindings: [bound("table", TABLE_BYTES), bound("heap", HEAP_BYTES)].into(),
        file: control.upload_bundle(&bundle().bundle().to_bytes()).expect("it is taken").file,
        constants: Default::default(),
        limits: Default::default(),
        engine: None,
    };
    let deployed = control.deploy("mica", &request).expect("it is deployed");
    (node, deployed)
}

/// What all sessions of a run share.
struct Run {
    /// Calls and answers in one order: who takes a later number has seen what happened before an earlier one.
    clock: AtomicU64,
    answered: AtomicU64,
    requests: u64,
    /// Hears when it is time for a death.
    deaths: Option<Sender<()>>,
}

/// What came of a session, or of all.
#[derive(Default)]
struct Outcome {
    histories: Histories,
    at_host: u64,
    at_nic: u64,
    busy: u64,
    uncertain: u64,
}

impl Run {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn note_answer(&self) {
        let answered = self.answered.fetch_add(1, Ordering::Relaxed) + 1;
        // Deaths are spread over the run.
        if answered.is_multiple_of(self.requests / (DEATHS + 2))
            && let Some(deaths) = &self.deaths
        {
            // Nobody listens after the last one.
            let _ = deaths.send(());
        }
    }

    /// One session's part.
    fn serve(&self, address: &Address, deployed: &DeploymentRecord, role: Role, number: u64) -> Outcome {
        let options = ConnectionOptions { window: WINDOW, ..ConnectionOptions::default() };
        let mut session = Connection::open(address, &options).expect("a session");
        let mut random = fastrand::Rng::with_seed(number);
        let sessions = SESSIONS.len() as u64;
        let requests = self.requests / sessions;
        let mut sent: Vec<(u64, Request, u64)> = Vec::with_capacity(requests as usize);
        let mut outcome = Outcome::default();
        while (sent.len() as u64) < requests || session.under_way() > 0 {
            while (sent.len() as u64) < requests && session.under_way() < session.window() {
                let token = sent.len() as u64;
                let (key, request) = (random.u64(1..=KEYS), role.draw(&mut random, token * sessions + number));
                sent.push((key, request, self.now()));
                let target = deployed.target(request.handler()).expect("a handler");
                session.submit(target, Some(role.flow(token)), &request.body(key), token).expect("there is room");
            }
            let take = |reply: runtime::client::Completion<'_>| {
                let (key, request, called) = sent[reply.token as usize];
                let answered = self.now();
                let action = match reply.outcome {
                    Ok(result) => request.action(key, result, reply.body).map(|action| (Some(answered), action)),
                    Err(RuntimeError::Uncertain) => request.action_if_any().map(|action| (None, action)),
                    Err(error) => panic!("{request:?}: {error}"),
                };
                match reply.place {
                    Place::Host => outcome.at_host += 1,
                    Place::Nic => outcome.at_nic += 1,
                    _ => outcome.uncertain += 1,
                }
                match action {
                    Some((answered, action)) => outcome.histories.add(key, Operation { called, answered, action }),
                    None => outcome.busy += 1,
                }
                self.note_answer();
            };
            session.poll(take).expect("the session lives");
            session.wait(None).expect("the session lives");
        }
        outcome
    }
}

impl Role {
    /// A request whose value, if it has one, is this number.
    fn draw(self, random: &mut fastrand::Rng, number: u64) -> Request {
        if self == Role::Reader {
            return Request::Get;
        }
        match random.u32(..10) {
            0..6 => Request::Put(number),
            6 => Request::Insert(number),
            7 => Request::Delete,
            _ => Request::Get,
        }
    }

    fn flow(self, token: u64) -> u64 {
        match self {
            Role::WriterAt(Place::Nic) => NIC_FLOWS,
            Role::WriterAt(_) => 0,
            Role::Reader => token % 2 * NIC_FLOWS,
        }
    }
}

/// Serves all sessions of a run; places die meanwhile, if they are to.
fn run(name: String, engine: EngineChoice, requests: u64, with_deaths: bool) -> Outcome {
    let (node, deployed) = start(name, engine, if with_deaths { LATENCY_WITH_DEATHS_NS } else { 0 });
    let (sender, receiver) = channel();
    let (clock, answered, deaths) = (AtomicU64::new(0), AtomicU64::new(0), with_deaths.then_some(sender));
    let run = Run { clock, answered, requests, deaths };
    let mut all = Outcome::default();
    std::thread::scope(|scope| {
        let serve = |(role, number)| {
            let (run, address, deployed) = (&run, node.address(), &deployed);
            scope.spawn(move || run.serve(address, deployed, role, number))
        };
        let sessions: Vec<_> = SESSIONS.into_iter().zip(0..).map(serve).collect();
        if with_deaths {
            kill_in_turns(&node, &receiver);
        }
        for session in sessions {
            all.add(session.join().expect("no session failed"));
        }
    });
    node.stop().expect("the cluster stops");
    all
}

/// Kills host and NIC in turns, each time that a session says so, and each once in each of its lives.
fn kill_in_turns(node: &Node, moments: &Receiver<()>) {
    let mut last = [0; 2];
    for death in 0..DEATHS as usize {
        moments.recv().expect("sessions go on");
        let place = loop {
            let place = node.control().status().expect("the cluster answers").places[death % 2].clone();
            if place.process != 0 && place.incarnation > last[death % 2] {
                break place;
            }
        };
        last[death % 2] = place.incarnation;
        kill_process(Pid::from_raw(place.process as i32).expect("a process id"), Signal::KILL).expect("it runs");
    }
}

impl Outcome {
    fn add(&mut self, other: Outcome) {
        for (key, history) in other.histories.0 {
            history.into_iter().for_each(|operation| self.histories.add(key, operation));
        }
        self.at_host += other.at_host;
        self.at_nic += other.at_nic;
        self.busy += other.busy;
        self.uncertain += other.uncertain;
    }

    /// Holds the histories against registers, and the run against what it was to be.
    fn check(&self, requests: u64, what: &str) {
        self.histories.check().unwrap_or_else(|(key, refusal)| panic!("{what}: key {key} is no register: {refusal:#?}"));
        let Outcome { histories, at_host, at_nic, busy, uncertain } = self;
        let operations = histories.operations();
        println!(
            "{what}: {operations} operations checked; {at_host} at the host, {at_nic} on the NIC, {busy} busy, {uncertain} uncertain"
        );
        assert_eq!(at_host + at_nic + uncertain, requests);
        assert!(at_host.min(at_nic) * 10 > requests, "both places serve");
        assert!(operations as u64 + busy == requests && busy * 2 < requests, "{busy} operations did nothing");
        assert_eq!(histories.0.len() as u64, KEYS);
    }
}

/// Every key is a register, whichever place its requests go to, on both engines.
pub fn host_and_nic_are_linearizable() {
    for (engine, requests) in [(EngineChoice::Jit, REQUESTS_COMPILED), (EngineChoice::Interpreter, REQUESTS_INTERPRETED)] {
        for _ in 0..crate::length() {
            run(embedded_name(), engine, requests, false).check(requests, engine.name());
        }
    }
}

/// The same while places die and are started again: what is uncertain takes effect once, sooner or later, or never.
pub fn host_and_nic_are_linearizable_while_places_die() {
    for engine in [EngineChoice::Jit, EngineChoice::Interpreter] {
        for _ in 0..crate::length() {
            // Now and then every death comes between two requests: such a run shows nothing, and another one follows.
            let has_met = (0..RUNS_WITH_DEATHS_MAX).any(|_| {
                let outcome = run(embedded_name(), engine, REQUESTS_WITH_DEATHS, true);
                outcome.check(REQUESTS_WITH_DEATHS, &format!("{}, with {DEATHS} deaths", engine.name()));
                outcome.uncertain > 0
            });
            assert!(has_met, "no death met a request");
        }
    }
}

/// A `get` that gives an old record now and then is found out, where it ran in places of a cluster.
pub fn a_stale_get_on_a_cluster_is_refused() {
    let outcome = run(embedded_name() + STALE, EngineChoice::Native, REQUESTS_BROKEN, false);
    let (key, refusal) = outcome.histories.check().expect_err("stale records were read");
    println!("key {key} is no register: {} operations in order, then {:?}", refusal.ordered, refusal.stuck);
}

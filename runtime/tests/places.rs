//! The same messages at every place of an embedded cluster: this program is re-executed as supervisor and places, so it has a `main` of its
//! own.
//!
//! The stream of messages is fixed by a seed; one is outstanding at a time. Whatever place and engine serve it, replies and regions are the same.

#[path = "portability/corpus.rs"]
#[allow(dead_code)]
mod corpus;
mod own_main;

use corpus::Subject;
use runtime::client::Error;
use runtime::client_place::ClientPlaceOptions;
use runtime::control::client::Control;
use runtime::control::directory::Address;
use runtime::control::{Connection, ConnectionOptions};
use runtime::engine::jit::JitEngine;
use runtime::engine::{Engine, InterpreterEngine};
use runtime::message::{Place, Target};
use runtime::node::{Node, Options, embedded_name, enter};
use runtime::place::NativePrograms;
use runtime::supervisor::api::{CreateRegion, Deploy, FlowRange, Steer};
use runtime::supervisor::protocol::EngineChoice;
use runtime::supervisor::records::Binding;
use runtime::transport::shared_memory::RingSizes;
use runtime::waiting::Waiting;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Messages of a stream.
const MESSAGES: usize = 60;
const SEED: u64 = 0x6e61_616d_0004;
/// Argument of the child of [`a_client_that_is_killed_leaves_no_lock`], before the cluster's name.
const CHILD: &str = "--put-until-killed";

const TESTS: &[(&str, fn())] = &[
    ("every_place_gives_the_same", every_place_gives_the_same),
    ("a_client_that_is_killed_leaves_no_lock", a_client_that_is_killed_leaves_no_lock),
    ("rings_of_two_records_are_enough", rings_of_two_records_are_enough),
];

/// Where a stream is served.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    At(Place),
    /// From the client, which messages leave before their first operation.
    LeavingTheClient,
}

const WAYS: [Way; 4] = [Way::At(Place::Host), Way::At(Place::Nic), Way::At(Place::Client), Way::LeavingTheClient];

/// A result or an error in words, with the reply's body.
type Ending = (Result<i32, String>, Vec<u8>);

/// What a stream leaves behind: each message's ending, and the regions.
type Trail = (Vec<Ending>, Vec<Vec<u8>>);

fn main() {
    enter(&NativePrograms::default());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, cluster] = &arguments[..]
        && flag == CHILD
    {
        return put_until_killed(cluster);
    }
    own_main::run(TESTS);
}

/// A client that changes MICA's table from its own process, in steps of one UDMA operation each, for ever.
fn put_until_killed(cluster: &str) {
    let control = Control::at(&Address::of(cluster).unwrap());
    let subject = Subject::load("mica");
    let mut session = Connection::open(control.address(), &ConnectionOptions::default()).unwrap();
    session.serve_here(&control, &["mica"], &JitEngine, &client_place(u32::MAX)).unwrap();
    let mut random = fastrand::Rng::with_seed(std::process::id().into());
    let targets: Vec<Target> =
        subject.handlers().iter().map(|handler| control.target("mica", &handler.function.name).unwrap()).collect();
    loop {
        let handler = random.usize(..targets.len());
        if subject.handlers()[handler].function.name == "recover" {
            continue;
        }
        let reply = session.call(targets[handler], None, &subject.body(handler, &mut random)).unwrap();
        println!("{}", reply.place);
    }
}

/// Whatever a client that is killed has locked is free again once its session is gone.
fn a_client_that_is_killed_leaves_no_lock() {
    let node = Node::start(&Options { pin: false, ..Options::new(embedded_name()) }).expect("a cluster starts");
    let subject = Subject::load("mica");
    let _stream = Stream::new(&node, &subject);
    node.control().steer(&Steer { flows: vec![FlowRange::ALL], place: Place::Client }).unwrap();
    for round in 0..16 {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new(program).args([CHILD, &node.address().name]).stdout(Stdio::piped()).spawn().unwrap();
        // Held while the child lives: it is to be killed in the middle of a message, not to end at a print.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.by_ref().take(50).all(|line| line.unwrap() == "client"), "the client serves itself");
        // It has just printed something: by other work of this thread it gets on, some way or other.
        (0..=round).for_each(|_| drop(node.control().status()));
        child.kill().unwrap();
        child.wait().unwrap();
        while node.control().status().unwrap().sessions > 0 {}
        let mut table = Vec::new();
        node.control().save_region("table", &mut table).unwrap();
        // A bucket is 64 bytes; its first word is odd while somebody writes it.
        let locked = table.chunks(64).filter(|bucket| bucket[0] % 2 == 1).count();
        assert_eq!(locked, 0, "round {round}: locks are left");
    }
    node.stop().expect("the cluster was running");
}

fn every_place_gives_the_same() {
    let mut served: BTreeMap<Place, u64> = BTreeMap::new();
    let mut moved = 0;
    let subjects = Subject::all();
    for engine in [EngineChoice::Interpreter, EngineChoice::Jit] {
        let options = Options { nic_executors: 1, dma_latency_ns: 100, engine, pin: false, ..Options::new(embedded_name()) };
        let node = Node::start(&options).expect("a cluster starts");
        for subject in &subjects {
            let mut expected: Option<Trail> = None;
            for way in WAYS {
                let (places, found) = Stream::new(&node, subject).serve(way, engine);
                for place in places {
                    *served.entry(place).or_default() += 1;
                    moved += u64::from(way == Way::LeavingTheClient && place != Place::Client);
                }
                match &expected {
                    None => expected = Some(found),
                    Some(expected) => assert_same(subject, engine, way, expected, &found),
                }
            }
        }
        node.stop().expect("the cluster was running");
    }
    println!("messages by place: {served:?}, {moved} of a client's served elsewhere");
    assert!([Place::Host, Place::Nic, Place::Client].iter().all(|place| served[place] > 500), "{served:?}");
}

fn assert_same(subject: &Subject, engine: EngineChoice, way: Way, expected: &Trail, found: &Trail) {
    let name = &subject.name;
    for (index, (expected, found)) in expected.0.iter().zip(&found.0).enumerate() {
        assert_eq!(expected, found, "{name}, {engine:?}, {way:?}: message {index} of seed {SEED:#x}");
    }
    assert!(expected.1 == found.1, "{name}, {engine:?}, {way:?}: regions differ after seed {SEED:#x}");
}

/// Nothing waits for ever for room, wherever it is served, and whether or not a continuation fits a ring at all.
fn rings_of_two_records_are_enough() {
    let options = Options { nic_executors: 1, dma_latency_ns: 100, pin: false, ..Options::new(embedded_name()) };
    let node = Node::start(&options).expect("a cluster starts");
    let subject = Subject::load("counter");
    let stream = Stream::new(&node, &subject);
    let target = node.control().target("counter", "count").unwrap();
    let (least, larger) =
        (RingSizes { request_bytes: 128, reply_bytes: 128 }, RingSizes { request_bytes: 1024, reply_bytes: 1024 });
    for (way, local) in [(WAYS[0], least), (WAYS[1], least), (WAYS[2], least), (WAYS[3], least), (WAYS[3], larger)] {
        let place = if let Way::At(place) = way { place } else { Place::Client };
        node.control().steer(&Steer { flows: vec![FlowRange::ALL], place }).unwrap();
        let connection = ConnectionOptions { window: 16, rings: least, ..ConnectionOptions::default() };
        let mut session = Connection::open(node.address(), &connection).unwrap();
        if place == Place::Client {
            let leaves_after = if way == Way::LeavingTheClient { 0 } else { u32::MAX };
            let options = ClientPlaceOptions { rings: local, window: 16, ..client_place(leaves_after) };
            session.serve_here(node.control(), &["counter"], &JitEngine, &options).unwrap();
        }
        let (mut sent, mut answered) = (0, 0);
        while answered < 500 {
            while sent < 500 && session.submit(target, Some(sent), &[0; 16], sent).is_ok() {
                sent += 1;
            }
            session.wait(None).unwrap();
            answered += session.poll(|completion| assert_eq!(completion.outcome, Ok(0), "{way:?}")).unwrap();
        }
    }
    drop(stream);
    node.stop().expect("the cluster was running");
}

fn client_place(leaves_after: u32) -> ClientPlaceOptions {
    ClientPlaceOptions { window: 4, leaves_after, effects: true, rings: RingSizes::default(), waiting: Waiting { spin_us: 0 } }
}

/// A deployment with its regions, made anew.
struct Stream<'a> {
    node: &'a Node,
    subject: &'a Subject,
    contents: Vec<Vec<u8>>,
    random: fastrand::Rng,
    targets: Vec<Target>,
}

impl<'a> Stream<'a> {
    fn new(node: &'a Node, subject: &'a Subject) -> Stream<'a> {
        let mut random = fastrand::Rng::with_seed(SEED);
        let contents = subject.region_contents(&mut random);
        let control = node.control();
        let mut bindings = BTreeMap::new();
        for (region, content) in subject.bundle.bundle().meaning.environment.regions.iter().zip(&contents) {
            control.create_region(&region.name, &CreateRegion { length_bytes: content.len() as u64, huge_pages: false }).unwrap();
            control.load_region(&region.name, Box::new(std::io::Cursor::new(content.clone())), content.len() as u64).unwrap();
            bindings.insert(region.name.clone(), Binding { region: region.name.clone(), rights: naamc::abi::Rights::ALL });
        }
        let file = control.upload_bundle(&subject.bundle.bundle().to_bytes()).unwrap().file;
        let limits = Default::default();
        let deploy = Deploy { file, bindings, constants: BTreeMap::new(), limits, engine: None };
        let record = control.deploy(&subject.name, &deploy).unwrap();
        let targets = subject.handlers().iter().map(|handler| record.target(&handler.function.name).unwrap()).collect();
        Stream { node, subject, contents, random, targets }
    }

    /// Sends the stream, and takes everything away. Returns where each message ended, and what they left behind.
    fn serve(mut self, way: Way, engine: EngineChoice) -> (Vec<Place>, Trail) {
        let control = self.node.control();
        let place = if let Way::At(place) = way { place } else { Place::Client };
        control.steer(&Steer { flows: vec![FlowRange::ALL], place }).unwrap();
        let mut session = Connection::open(self.node.address(), &ConnectionOptions::default()).unwrap();
        if place == Place::Client {
            let options = client_place(if way == Way::LeavingTheClient { 0 } else { u32::MAX });
            let engine: &dyn Engine = if engine == EngineChoice::Jit { &JitEngine } else { &InterpreterEngine };
            session.serve_here(control, &[&self.subject.name], engine, &options).unwrap();
        }
        let (mut places, mut endings) = (Vec::new(), Vec::new());
        for message in 0..MESSAGES {
            let handler = self.random.usize(..self.targets.len());
            let body = self.subject.body(handler, &mut self.random);
            match session.call(self.targets[handler], Some(message as u64), &body) {
                Ok(reply) => {
                    // Messages without an operation have no reason to leave.
                    let leaves = way == Way::LeavingTheClient && reply.udma_operations > 0;
                    assert_eq!(reply.place == place, !leaves, "{way:?}: message {message} ran at {}", reply.place);
                    places.push(reply.place);
                    endings.push((Ok(reply.result), reply.body));
                }
                Err(Error::Runtime(error)) => endings.push((Err(error.to_string()), Vec::new())),
                Err(error) => panic!("message {message}: {error}"),
            }
        }
        drop(session);
        let mut regions = Vec::new();
        for region in &self.subject.bundle.bundle().meaning.environment.regions {
            let mut bytes = Vec::new();
            control.save_region(&region.name, &mut bytes).unwrap();
            regions.push(bytes);
        }
        control.undeploy(&self.subject.name).unwrap();
        for region in &self.subject.bundle.bundle().meaning.environment.regions {
            control.remove_region(&region.name).unwrap();
        }
        assert_eq!(regions.len(), self.contents.len());
        (places, (endings, regions))
    }
}

//! Embedded clusters: this program is re-executed as supervisor and place, so it has a `main` of its own instead of libtest's.
//!
//! Each test is a function in [`TESTS`]; arguments choose by name, as with libtest.

mod own_main;

use runtime::client::Completion;
use runtime::control::{Code, Connection, ConnectionOptions};
use runtime::message::{Place, RuntimeError, Target};
use runtime::node::{Node, Options, embedded_name, enter};
use runtime::place::NativePrograms;
use runtime::supervisor::api::{CreateRegion, Deploy, FlowRange, PlaceLife, Steer};
use runtime::supervisor::protocol::EngineChoice;
use runtime::supervisor::records::{Binding, DeploymentRecord};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

const TESTS: &[(&str, fn())] = &[
    ("serves_messages_and_ends_without_a_trace", serves_messages_and_ends_without_a_trace),
    ("is_stopped_when_it_is_dropped", is_stopped_when_it_is_dropped),
    ("gives_up_a_place_that_dies_too_often", gives_up_a_place_that_dies_too_often),
    ("a_place_that_dies_is_started_again", a_place_that_dies_is_started_again),
    ("what_a_place_owes_another_one_answers", what_a_place_owes_another_one_answers),
    ("a_place_that_dies_again_at_once_closes_no_session", a_place_that_dies_again_at_once_closes_no_session),
    ("flows_move_under_load_and_nothing_is_lost_or_doubled", flows_move_under_load_and_nothing_is_lost_or_doubled),
    ("does_not_outlive_its_program", does_not_outlive_its_program),
    ("whoever_waits_for_a_node_hears_that_it_is_gone", whoever_waits_for_a_node_hears_that_it_is_gone),
    ("errors_of_the_start_are_told", errors_of_the_start_are_told),
];

/// Argument of the child of [`does_not_outlive_its_program`].
const CHILD: &str = "--start-and-wait";

fn main() {
    enter(&NativePrograms::default());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == CHILD) {
        return start_and_wait();
    }
    own_main::run(TESTS);
}

fn options(engine: EngineChoice, executors: u16) -> Options {
    Options { executors, engine, pin: false, ..Options::new(embedded_name()) }
}

/// Descriptors of the supervisor's and the place's process.
fn processes(node: &Node) -> [OwnedFd; 2] {
    let status = node.control().status().unwrap();
    [status.process, status.places[0].process.expect("it runs")].map(open)
}

fn open(process: u32) -> OwnedFd {
    rustix::process::pidfd_open(Pid::from_raw(process as i32).unwrap(), PidfdFlags::empty()).unwrap()
}

fn has_ended(process: &OwnedFd) -> bool {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)).unwrap() == 1
}

fn wait(process: &OwnedFd) {
    rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], None).unwrap();
}

/// Deploys a prebuilt ELF over regions of this length, each under its own name.
fn deploy(node: &Node, name: &str, regions: &[&str]) -> DeploymentRecord {
    let object = std::fs::read(format!("{}/../testdata/handlers/{name}.o", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let control = node.control();
    let mut bindings = BTreeMap::new();
    for region in regions {
        control.create_region(region, &CreateRegion { length_bytes: 4096, huge_pages: false }).unwrap();
        bindings.insert((*region).to_owned(), Binding { region: (*region).to_owned(), rights: naamc::abi::Rights::ALL });
    }
    let file = control.upload_bundle(&naamc::build::build(&object).unwrap().bundle().to_bytes()).unwrap().file;
    let request = Deploy { file, bindings, constants: BTreeMap::new(), limits: Default::default(), engine: None };
    control.deploy(name, &request).unwrap()
}

fn deploy_counter(node: &Node) -> Target {
    deploy(node, "counter", &["counters"]).target("count").unwrap()
}

fn serves_messages_and_ends_without_a_trace() {
    for (engine, executors) in [(EngineChoice::Interpreter, 1), (EngineChoice::Jit, 2)] {
        let node = Node::start(&options(engine, executors)).unwrap();
        let directory = node.address().directory.clone();
        let target = deploy_counter(&node);
        let mut sessions: Vec<Connection> = (0..2)
            .map(|_| Connection::open(node.address(), &ConnectionOptions { window: 16, ..ConnectionOptions::default() }).unwrap())
            .collect();
        assert_eq!(node.control().status().unwrap().sessions, 2);
        for session in &mut sessions {
            let mut replies = 0;
            // Every request adds 1 to counter 3, through all flows and so all executors.
            for key in 0..200u64 {
                let mut body = [0; 16];
                body[0] = 3;
                body[8] = 1;
                while session.under_way() == session.window() {
                    session.wait(None).unwrap();
                    replies += poll(session);
                }
                session.submit(target, Some(key), &body, key).unwrap();
            }
            while session.under_way() > 0 {
                session.wait(None).unwrap();
                replies += poll(session);
            }
            assert_eq!(replies, 200);
        }
        let mut bytes = Vec::new();
        node.control().save_region("counters", &mut bytes).unwrap();
        assert_eq!(bytes[24..32], 400u64.to_le_bytes());
        // An executor publishes its counters after the answers of a turn are on their way.
        let requests = loop {
            let status = node.control().status().unwrap();
            let requests: Vec<u64> = status.places[0].executors.iter().map(|executor| executor.counters.requests).collect();
            assert!(requests.len() == usize::from(executors) && requests.iter().sum::<u64>() <= 400, "{requests:?}");
            if requests.iter().sum::<u64>() == 400 {
                break requests;
            }
        };
        assert!(requests.iter().all(|requests| *requests > 0), "every executor has flows: {requests:?}");
        let processes = processes(&node);
        node.stop().unwrap();
        assert!(processes.iter().all(has_ended));
        assert!(!directory.exists());
    }
}

/// Takes the replies that are there, all of which are good; returns how many.
fn poll(session: &mut Connection) -> usize {
    session.poll(|reply| assert_eq!(reply.outcome, Ok(0))).unwrap()
}

fn is_stopped_when_it_is_dropped() {
    let node = Node::start(&options(EngineChoice::Interpreter, 1)).unwrap();
    let (processes, directory) = (processes(&node), node.address().directory.clone());
    drop(node);
    assert!(processes.iter().all(has_ended));
    assert!(!directory.exists());
}

fn gives_up_a_place_that_dies_too_often() {
    let node = Node::start(&options(EngineChoice::Interpreter, 1)).unwrap();
    let directory = node.address().directory.clone();
    let target = deploy_counter(&node);
    let mut session = Connection::open(node.address(), &ConnectionOptions::default()).unwrap();
    session.call(target, None, &[0; 16]).unwrap();
    let [supervisor, _] = processes(&node);
    let mut last = None;
    while !has_ended(&supervisor) {
        // The cluster may end between two questions.
        let place = node.control().status().map_or(None, |status| status.places[0].process);
        if let Some(process) = place.filter(|_| place != last) {
            kill(process);
            last = place;
        }
    }
    session.call(target, None, &[0; 16]).unwrap_err();
    assert_eq!(node.control().status().unwrap_err().code, Code::NoCluster);
    assert_eq!(node.stop().unwrap_err().code, Code::PlaceFailed);
    assert!(!directory.exists());
}

fn kill(process: u32) {
    rustix::process::kill_process(Pid::from_raw(process as i32).unwrap(), Signal::KILL).unwrap();
}

/// Kills a place of the node and waits until it runs again.
fn kill_and_wait(node: &Node, index: usize) {
    let before = node.control().status().unwrap().places[index].clone();
    kill(before.process.expect("it runs"));
    loop {
        let place = node.control().status().unwrap().places[index].clone();
        if place.incarnation > before.incarnation && place.state == PlaceLife::Running {
            assert!(place.executors.iter().all(|executor| before.executors.iter().all(|old| old.executor != executor.executor)));
            return;
        }
    }
}

/// A message that adds `amount` to a counter.
fn add(counter: u64, amount: u64) -> [u8; 16] {
    let mut body = [0; 16];
    body[..8].copy_from_slice(&counter.to_le_bytes());
    body[8..].copy_from_slice(&amount.to_le_bytes());
    body
}

fn counter(node: &Node, index: usize) -> u64 {
    let mut bytes = Vec::new();
    node.control().save_region("counters", &mut bytes).unwrap();
    u64::from_le_bytes(bytes[index * 8..][..8].try_into().unwrap())
}

/// Regions, deployments and sessions outlive a place; requests that were under way are answered, each once.
fn a_place_that_dies_is_started_again() {
    for engine in [EngineChoice::Interpreter, EngineChoice::Jit] {
        let node = Node::start(&options(engine, 2)).unwrap();
        let target = deploy_counter(&node);
        let options = ConnectionOptions { window: 32, ..ConnectionOptions::default() };
        let mut session = Connection::open(node.address(), &options).unwrap();
        let (mut sent, mut done, mut uncertain) = (0u64, 0u64, 0u64);
        let mut answered = HashSet::new();
        let mut take = |reply: Completion<'_>| {
            assert!(answered.insert(reply.token), "answered twice");
            match reply.outcome {
                Ok(0) => done += 1,
                Err(RuntimeError::Uncertain) => uncertain += 1,
                outcome => panic!("{outcome:?}"),
            }
        };
        for death in 1..=4 {
            let mut to_kill = true;
            while sent < death * 1000 || session.under_way() > 0 {
                while sent < death * 1000 && session.under_way() < session.window() {
                    session.submit(target, Some(sent), &add(1, 1), sent).unwrap();
                    sent += 1;
                }
                if to_kill && sent >= death * 1000 - 500 {
                    let place = &node.control().status().unwrap().places[0];
                    // It may be dead from the last time.
                    to_kill = place.process.is_none();
                    if let Some(process) = place.process {
                        kill(process);
                    }
                }
                session.poll(&mut take).unwrap();
                session.wait(None).unwrap();
            }
        }
        assert_eq!(done + uncertain, sent);
        let (total, status) = (counter(&node, 1), node.control().status().unwrap());
        assert!(done <= total && total <= done + uncertain, "{done} done, {uncertain} uncertain, {total} counted");
        assert_eq!((status.sessions, status.places[0].state), (1, PlaceLife::Running));
        assert_eq!(status.places[0].incarnation, 5);
        node.stop().unwrap();
    }
}

/// A dead place's requests are served by the other place, before it is started again and by it afterwards.
fn what_a_place_owes_another_one_answers() {
    let node = Node::start(&runtime::node::Options { nic_executors: 1, ..options(EngineChoice::Jit, 1) }).unwrap();
    let target = deploy_counter(&node);
    let mut session = Connection::open(node.address(), &ConnectionOptions::default()).unwrap();
    let mut places = HashMap::new();
    for (index, place) in [(1, Place::Nic), (0, Place::Host)] {
        let flows = node.control().steer(&Steer { flows: vec![FlowRange::ALL], place }).unwrap();
        assert_eq!(flows.flows.iter().map(|flows| (flows.place, flows.meant_for)).collect::<Vec<_>>(), [(place, place)]);
        for round in 0..20 {
            let reply = session.call(target, Some(round), &add(2, 1)).unwrap();
            *places.entry(reply.place).or_insert(0) += 1;
            if round == 10 {
                kill_and_wait(&node, index);
            }
        }
        // It serves its own flows again, as soon as it has links to all sessions.
        while session.call(target, Some(1), &add(3, 1)).unwrap().place != place {}
    }
    assert_eq!(counter(&node, 2), 40);
    assert_eq!(places.values().sum::<i32>(), 40);
    assert!(places[&Place::Nic] >= 11 && places[&Place::Host] >= 11, "{places:?}");
    node.stop().unwrap();
}

/// A place that dies while it gets its links to the sessions of others takes none of them along.
fn a_place_that_dies_again_at_once_closes_no_session() {
    /// So many that the place is killed while it gets links to them.
    const SESSIONS: u32 = 250;
    let node = Node::start(&Options { nic_executors: 1, ..options(EngineChoice::Interpreter, 1) }).unwrap();
    let target = deploy_counter(&node);
    let rings = runtime::transport::shared_memory::RingSizes { request_bytes: 1024, reply_bytes: 1024 };
    let connection = ConnectionOptions { rings, ..ConnectionOptions::default() };
    let mut sessions: Vec<Connection> = (0..SESSIONS).map(|_| Connection::open(node.address(), &connection).unwrap()).collect();
    let nic = || node.control().status().unwrap().places.into_iter().find(|place| place.place == Place::Nic).unwrap();
    let mut incarnation = 0;
    for _ in 0..4 {
        let running = loop {
            let nic = nic();
            if nic.state == PlaceLife::Running && nic.incarnation > incarnation {
                break nic;
            }
        };
        incarnation = running.incarnation;
        rustix::process::kill_process(Pid::from_raw(running.process.unwrap() as i32).unwrap(), Signal::KILL).unwrap();
    }
    while nic().incarnation == incarnation || nic().state != PlaceLife::Running {}
    assert_eq!(node.control().status().unwrap().sessions, SESSIONS, "sessions were closed");
    for session in &mut sessions {
        assert_eq!(session.call(target, None, &[0; 16]).unwrap().place, Place::Host);
    }
    node.stop().unwrap();
}

/// Flows that move between host and NIC a thousand times under load: each request is answered once, and takes effect once. Those that only
/// read move while they are under way.
fn flows_move_under_load_and_nothing_is_lost_or_doubled() {
    /// Links of a list that the reading messages go through, and the key of the last one.
    const LINKS: u64 = 100;
    let node =
        Node::start(&runtime::node::Options { nic_executors: 1, dma_latency_ns: 1000, ..options(EngineChoice::Jit, 1) }).unwrap();
    let count = deploy_counter(&node);
    let find = deploy(&node, "chase", &["list", "tree"]).target("find").unwrap();
    let next = |key: u64| if key < LINKS { 32 * (key + 1) } else { 0 };
    let list: Vec<u8> = (0..=LINKS).flat_map(|key| [key, next(key), key * key, 7]).flat_map(u64::to_le_bytes).collect();
    node.control().load_region("list", Box::new(std::io::Cursor::new(list.clone())), list.len() as u64).unwrap();
    let mut session = Connection::open(node.address(), &ConnectionOptions { window: 64, ..ConnectionOptions::default() }).unwrap();
    let moving = AtomicBool::new(true);
    let (mut sent, mut answered, mut places) = (0u64, HashSet::new(), HashMap::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(4);
            for _ in 0..1000 {
                let (one, other) = (random.u16(..1024), random.u16(..1024));
                let place = if random.bool() { Place::Host } else { Place::Nic };
                let flows = vec![FlowRange { first: one.min(other), last: one.max(other) }];
                node.control().steer(&Steer { flows, place }).unwrap();
            }
            moving.store(false, Ordering::Relaxed);
        });
        while moving.load(Ordering::Relaxed) || session.under_way() > 0 {
            while moving.load(Ordering::Relaxed) && session.under_way() < session.window() {
                let read = [LINKS.to_le_bytes(), 32u64.to_le_bytes()].concat();
                let (target, body) = if sent % 2 == 0 { (count, add(sent / 2 % 4, 1).to_vec()) } else { (find, read) };
                session.submit(target, Some(sent), &body, sent).unwrap();
                sent += 1;
            }
            session.wait(None).unwrap();
            session
                .poll(|reply| {
                    assert_eq!(reply.outcome, Ok(0));
                    assert!(answered.insert(reply.token), "answered twice");
                    let found = u64::from_le_bytes(reply.body[reply.body.len().min(24) - 8..][..8].try_into().unwrap());
                    assert!(reply.token % 2 == 0 || found == LINKS * LINKS, "{found}");
                    *places.entry(reply.place).or_insert(0u64) += 1;
                })
                .unwrap();
        }
    });
    assert_eq!(answered.len() as u64, sent);
    assert_eq!((0..4).map(|index| counter(&node, index)).sum::<u64>(), sent.div_ceil(2));
    assert!(places[&Place::Host] > 100 && places[&Place::Nic] > 100, "both places served: {places:?}");
    // An executor counts what it takes, continuations too.
    let executors = node.control().status().unwrap().places.into_iter().flat_map(|place| place.executors);
    let taken: u64 = executors.map(|executor| executor.counters.requests).sum();
    println!("{sent} requests, taken {taken} times by {places:?}");
    assert!(taken > sent, "no message moved under way");
    node.stop().unwrap();
}

fn start_and_wait() {
    let node = Node::start(&options(EngineChoice::Interpreter, 1)).unwrap();
    let status = node.control().status().unwrap();
    println!("{} {} {}", status.process, status.places[0].process.unwrap(), node.address().directory.display());
    // Until this process is killed: nobody writes to its standard input.
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn does_not_outlive_its_program() {
    let mut child =
        Command::new(std::env::current_exe().unwrap()).arg(CHILD).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let parts: Vec<&str> = line.split_whitespace().collect();
    let processes = [parts[0], parts[1]].map(|process| open(process.parse().unwrap()));
    child.kill().unwrap();
    child.wait().unwrap();
    processes.iter().for_each(wait);
    assert!(!Path::new(parts[2]).exists());
}

/// Nothing answers a request, and no executor ends: only the node's socket says that nobody is left to wait for.
fn whoever_waits_for_a_node_hears_that_it_is_gone() {
    let node = Node::start(&options(EngineChoice::Interpreter, 1)).unwrap();
    let directory = node.address().directory.clone();
    let target = deploy_counter(&node);
    let mut session = Connection::open(node.address(), &ConnectionOptions::default()).unwrap();
    session.call(target, None, &[0; 16]).unwrap();
    let status = node.control().status().unwrap();
    let place = status.places[0].process.unwrap();
    let place_ends = open(place);
    rustix::process::kill_process(Pid::from_raw(place as i32).unwrap(), Signal::STOP).unwrap();
    // Its threads stop one after another, each when it is next looked at.
    let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
        status.contains("State:\tT")
    };
    while !std::fs::read_dir(format!("/proc/{place}/task")).unwrap().all(is_stopped) {}
    session.submit(target, None, &[0; 16], 7).unwrap();
    session.flush();
    kill(status.process);
    let lost = loop {
        session.wait(None).unwrap();
        match session.poll(|_| panic!("nobody is there to answer")) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(lost, runtime::client::Error::Lost(_)), "{lost}");
    let mut outcomes = Vec::new();
    session.poll(|reply| outcomes.push((reply.token, reply.outcome))).unwrap();
    assert_eq!(outcomes, [(7, Err(RuntimeError::Uncertain))]);
    kill(place);
    wait(&place_ends);
    std::fs::remove_dir_all(directory).unwrap();
}

fn errors_of_the_start_are_told() {
    let first = Node::start(&options(EngineChoice::Interpreter, 1)).unwrap();
    let same = Options::new(first.address().name.clone());
    assert_eq!(Node::start(&same).unwrap_err().code, Code::ClusterExists);
    assert_eq!(Node::start(&options(EngineChoice::Interpreter, 0)).unwrap_err().code, Code::BadRequest);
    assert_eq!(Node::start(&Options::new("a/b")).unwrap_err().code, Code::BadRequest);
}

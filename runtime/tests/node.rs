//! Embedded clusters: this program is re-executed as supervisor and place, so it has a `main` of its own instead of libtest's.
//!
//! Each test is a function in [`TESTS`]; arguments choose by name, as with libtest.

use runtime::control::{Code, Connection, ConnectionOptions};
use runtime::node::{Node, Options, embedded_name, enter};
use runtime::place::NativePrograms;
use runtime::supervisor::api::{CreateRegion, Deploy};
use runtime::supervisor::protocol::EngineChoice;
use runtime::supervisor::records::Binding;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

const TESTS: &[(&str, fn())] = &[
    ("serves_messages_and_ends_without_a_trace", serves_messages_and_ends_without_a_trace),
    ("is_stopped_when_it_is_dropped", is_stopped_when_it_is_dropped),
    ("says_that_its_place_died", says_that_its_place_died),
    ("does_not_outlive_its_program", does_not_outlive_its_program),
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
    if arguments.iter().any(|argument| argument == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = TESTS.iter().filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())));
    for (name, test) in chosen {
        // A panic ends the program with its message and exit code 101.
        test();
        println!("test {name} ... ok");
    }
}

fn options(engine: EngineChoice, executors: u16) -> Options {
    Options { executors, engine, pin: false, ..Options::new(embedded_name()) }
}

/// Descriptors of the supervisor's and the place's process.
fn processes(node: &Node) -> [OwnedFd; 2] {
    let status = node.control().status().unwrap();
    [status.process, status.places[0].process].map(open)
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

fn counter_bundle() -> Vec<u8> {
    let object = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/handlers/counter.o")).unwrap();
    naamc::build::build(&object).unwrap().bundle().to_bytes()
}

fn deploy_counter(node: &Node) -> runtime::message::Target {
    let control = node.control();
    control.create_region("numbers", &CreateRegion { length_bytes: 4096, huge_pages: false }).unwrap();
    let file = control.upload_bundle(&counter_bundle()).unwrap().file;
    let binding = Binding { region: "numbers".into(), rights: naamc::abi::Rights::ALL };
    let request = Deploy {
        file,
        bindings: [("counters".to_owned(), binding)].into(),
        constants: BTreeMap::new(),
        limits: Default::default(),
        engine: None,
    };
    control.deploy("counter", &request).unwrap().target("count").unwrap()
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
        node.control().save_region("numbers", &mut bytes).unwrap();
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

fn says_that_its_place_died() {
    let node = Node::start(&options(EngineChoice::Interpreter, 1)).unwrap();
    let directory = node.address().directory.clone();
    let target = deploy_counter(&node);
    let mut session = Connection::open(node.address(), &ConnectionOptions::default()).unwrap();
    session.call(target, None, &[0; 16]).unwrap();
    let [supervisor, place] = processes(&node);
    rustix::process::pidfd_send_signal(&place, Signal::KILL).unwrap();
    session.call(target, None, &[0; 16]).unwrap_err();
    wait(&supervisor);
    assert_eq!(node.control().status().unwrap_err().code, Code::NoCluster);
    assert_eq!(node.stop().unwrap_err().code, Code::PlaceFailed);
    assert!(!directory.exists());
}

fn start_and_wait() {
    let node = Node::start(&options(EngineChoice::Interpreter, 1)).unwrap();
    let status = node.control().status().unwrap();
    println!("{} {} {}", status.process, status.places[0].process, node.address().directory.display());
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

fn errors_of_the_start_are_told() {
    let first = Node::start(&options(EngineChoice::Interpreter, 1)).unwrap();
    let same = Options::new(first.address().name.clone());
    assert_eq!(Node::start(&same).unwrap_err().code, Code::ClusterExists);
    assert_eq!(Node::start(&options(EngineChoice::Interpreter, 0)).unwrap_err().code, Code::BadRequest);
    assert_eq!(Node::start(&Options::new("a/b")).unwrap_err().code, Code::BadRequest);
}

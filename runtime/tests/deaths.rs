//! Places that are killed while they insert into Cell's tree: started again, they make the tree whole, and nothing that was acknowledged is lost.
//! The cluster's processes are this program re-executed, so it has a `main` of its own.

#[path = "../../testdata/handlers/cell_tree.rs"]
mod tree;

use runtime::client::Completion;
use runtime::control::{Connection, ConnectionOptions};
use runtime::message::{RuntimeError, Target};
use runtime::node::{Node, Options, embedded_name, enter};
use runtime::place::NativePrograms;
use runtime::supervisor::api::{CreateRegion, Deploy};
use runtime::supervisor::protocol::EngineChoice;
use runtime::supervisor::records::Binding;
use rustix::process::{Pid, Signal};
use std::collections::BTreeSet;
use tree::{Shape, Tree};

/// Three records in a leaf: tree nodes are split all the time.
const SHAPE: Shape = Shape { node_bytes: 512, value_bytes: 80 };
/// Deaths of each cluster; a place that dies more often is given up.
const DEATHS: u64 = 4;
/// Inserts before each death, and as many after the last.
const INSERTS: u64 = 4_000;
/// Inserts under way.
const WINDOW: u16 = 64;

const OK: i32 = 0;
const BUSY: i32 = 5;

fn main() {
    enter(&NativePrograms::default());
    let (mut lost, mut unknown, mut uncertain) = (0, 0, 0);
    for engine in [EngineChoice::Jit, EngineChoice::Jit, EngineChoice::Interpreter] {
        let ended = survive(engine);
        lost += ended.lost;
        unknown += ended.unknown;
        uncertain += ended.uncertain;
    }
    println!(
        "{lost} tree nodes lost, {unknown} unknown to their parents, {uncertain} inserts uncertain after {} deaths: ok",
        3 * DEATHS
    );
}

struct Ended {
    lost: usize,
    unknown: usize,
    uncertain: usize,
}

/// Keys in no order, near each other.
fn key_of(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20
}

fn value(key: u64) -> Vec<u8> {
    (1..=SHAPE.value_bytes as u64 / 8).flat_map(|index| (key ^ (index << 56)).to_le_bytes()).collect()
}

fn deploy(node: &Node) -> [Target; 2] {
    let object = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/handlers/cell.o")).expect("a readable ELF");
    let bundle = naamc::build::build(&object).expect("it verifies").bundle().to_bytes();
    let control = node.control();
    control.create_region("tree", &CreateRegion { length_bytes: 32 << 20, huge_pages: false }).expect("a region");
    let constants = [("node_bytes", SHAPE.node_bytes), ("value_bytes", SHAPE.value_bytes)];
    let request = Deploy {
        file: control.upload_bundle(&bundle).expect("it is taken").file,
        bindings: [("tree".to_owned(), Binding { region: "tree".into(), rights: naamc::abi::Rights::ALL })].into(),
        constants: constants.map(|(name, value)| (name.to_owned(), value.into())).into(),
        limits: Default::default(),
        engine: None,
    };
    let deployed = control.deploy("cell", &request).expect("it is deployed");
    ["insert", "lookup"].map(|handler| deployed.target(handler).expect("a handler"))
}

/// Inserts through the deaths of a place with two executors, and looks at what is left.
fn survive(engine: EngineChoice) -> Ended {
    let node =
        Node::start(&Options { executors: 2, engine, pin: false, ..Options::new(embedded_name()) }).expect("a cluster starts");
    let [insert, lookup] = deploy(&node);
    let connection = ConnectionOptions { window: WINDOW, ..ConnectionOptions::default() };
    let mut session = Connection::open(node.address(), &connection).expect("a session");
    let (mut sent, mut done, mut uncertain) = (0, BTreeSet::new(), BTreeSet::new());
    for death in 1..=DEATHS + 1 {
        let mut to_kill = death <= DEATHS;
        while sent < death * INSERTS || session.under_way() > 0 {
            while sent < death * INSERTS && session.under_way() < session.window() {
                let key = key_of(sent);
                let body = [&key.to_le_bytes()[..], &value(key)].concat();
                session.submit(insert, Some(sent), &body, sent).expect("there is room");
                sent += 1;
            }
            if to_kill && sent + INSERTS / 2 >= death * INSERTS {
                let place = &node.control().status().expect("the cluster answers").places[0];
                // It may be dead from the last time.
                to_kill = place.process.is_none();
                if let Some(process) = place.process {
                    let process = Pid::from_raw(process as i32).expect("a process id");
                    rustix::process::kill_process(process, Signal::KILL).expect("it runs");
                }
            }
            let take = |reply: Completion<'_>| match reply.outcome {
                Ok(OK) => assert!(done.insert(key_of(reply.token)), "answered twice"),
                // Others were in the way, or it was not recovered from yet.
                Ok(BUSY) | Err(RuntimeError::Uncertain) => _ = uncertain.insert(key_of(reply.token)),
                outcome => panic!("{outcome:?}"),
            };
            session.poll(take).expect("the session lives");
            session.wait(None).expect("the session lives");
        }
    }
    for key in done.iter().step_by(7) {
        let reply = session.call(lookup, None, &key.to_le_bytes()).expect("an answer");
        assert_eq!((reply.result, &reply.body[8..]), (OK, &value(*key)[..]), "key {key}");
    }
    let mut bytes = Vec::new();
    node.control().save_region("tree", &mut bytes).expect("its content");
    let tree = Tree::read(&bytes, SHAPE);
    assert!(done.iter().all(|key| tree.records.contains_key(key)), "an acknowledged insert is lost");
    assert!(tree.records.keys().all(|key| done.contains(key) || uncertain.contains(key)), "a record that nobody inserted");
    assert!(tree.records.iter().all(|(key, bytes)| *bytes == value(*key)), "a torn value");
    assert!(tree.lost <= uncertain.len(), "{} tree nodes are lost where {} inserts are uncertain", tree.lost, uncertain.len());
    assert!(uncertain.len() as u64 <= (DEATHS + 1) * u64::from(WINDOW) * 2 && done.len() as u64 > INSERTS, "{} done", done.len());
    node.stop().expect("the cluster stops");
    Ended { lost: tree.lost, unknown: tree.unknown, uncertain: uncertain.len() }
}

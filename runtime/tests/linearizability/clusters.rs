//! Histories of real clusters: host and NIC with an executor each, and clients with places of their own.

use crate::application::{Application, bundle};
use crate::cell::Cell;
use crate::mica::Mica;
use crate::sessions::{Milestones, Outcome, Run, steer, turns};
use crate::stale::StaleReader;
use naamc::abi::{Helper, Rights};
use runtime::message::Place;
use runtime::node::{Node, Options, embedded_name};
use runtime::place::NativePrograms;
use runtime::supervisor::api::{CreateRegion, Deploy};
use runtime::supervisor::protocol::EngineChoice;
use runtime::supervisor::records::{Binding, DeploymentRecord};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// Clusters on each engine, one after another, if the run is to be long: a minute of them where one of each takes five seconds. Where places
/// die fewer are enough: their starts take more time than what is asked of them.
const LONG: u64 = 14;
const LONG_WITH_DEATHS: u64 = 4;
/// Requests of one cluster, all sessions together, compiled and interpreted. Of a tree a request tells of several keys.
const REQUESTS_OF_A_TABLE: [(EngineChoice, u64); 2] = [(EngineChoice::Jit, 400_000), (EngineChoice::Interpreter, 120_000)];
const REQUESTS_OF_A_TREE: [(EngineChoice, u64); 2] = [(EngineChoice::Jit, 160_000), (EngineChoice::Interpreter, 60_000)];
/// The same where places die, on either engine, and where a handler is broken.
const REQUESTS_WITH_DEATHS: u64 = 60_000;
const REQUESTS_BROKEN: u64 = 20_000;
/// Keys of a table, all of them hot.
const KEYS: u64 = 16;
/// Turns for which sixteen keys of a tree are hot: so many that most of them are inserted, and where places die so few that deaths meet inserts.
const TURNS_OF_A_SET: u64 = 64;
const TURNS_OF_A_SET_WITH_DEATHS: u64 = 16;
/// How often flows of host and NIC are swapped in a run.
const STEERINGS: u64 = 100;
/// Deaths of host and NIC in turns; a place that dies more often in a row is given up.
const DEATHS: u64 = 8;
/// Runs in which a death must meet a request, at most.
const RUNS_WITH_DEATHS_MAX: u32 = 5;
/// Latency of the NIC's DMA engine where places die: so long that a death always meets messages that wait for it.
const LATENCY_WITH_DEATHS_NS: u64 = 20_000;
/// What the names of clusters with a broken reader end with, before the reader's.
const STALE: &str = "-stale-";

/// What this process runs as a place: nothing of its own, or a broken reader.
pub fn programs() -> NativePrograms {
    // A place's first argument is the name of its cluster.
    let cluster = std::env::args().nth(1).unwrap_or_default();
    stale_reader::<Cell>(&cluster).or_else(|| stale_reader::<Mica>(&cluster)).unwrap_or_default()
}

/// The broken reader of a cluster whose name says so.
fn stale_reader<A: Application>(cluster: &str) -> Option<NativePrograms> {
    let (name, asked) = A::READERS.iter().find(|(name, _)| cluster.ends_with(&format!("{STALE}{name}")))?.clone();
    let bundle = bundle::<A>();
    let index = bundle.handler(name).expect("a handler");
    let handler = &bundle.bundle().meaning.handlers[index];
    let operations: Vec<Helper> = handler.manifest.operations.iter().map(|operation| operation.helper).collect();
    let proof = bundle.proofs()[index].clone();
    let make = move |environment: &naamc::program::Environment| -> Arc<dyn runtime::engine::Program> {
        Arc::new(StaleReader::new(&proof, environment.read_only.as_slice().into(), asked.clone()))
    };
    Some(NativePrograms::default().with(A::REGIONS[0].0, name, operations, make))
}

/// A cluster with an application.
fn start<A: Application>(name: String, engine: EngineChoice, dma_latency_ns: u64) -> (Node, DeploymentRecord) {
    let options = Options { nic_executors: 1, dma_latency_ns, engine, pin: false, ..Options::new(name) };
    let node = Node::start(&options).expect("a cluster starts");
    let control = node.control();
    steer(control, false);
    let bound = |(name, length_bytes): &(&str, u64)| {
        control.create_region(name, &CreateRegion { length_bytes: *length_bytes, huge_pages: false }).expect("room for a region");
        ((*name).to_owned(), Binding { region: (*name).to_owned(), rights: Rights::ALL })
    };
    let request = Deploy {
        bindings: A::REGIONS.iter().map(bound).collect(),
        file: control.upload_bundle(&bundle::<A>().bundle().to_bytes()).expect("it is taken").file,
        constants: Default::default(),
        limits: Default::default(),
        engine: None,
    };
    let deployed = control.deploy(A::NAME, &request).expect("it is deployed");
    (node, deployed)
}

/// Contents of regions, by name.
type Contents = BTreeMap<&'static str, Vec<u8>>;

/// Serves all sessions of a run, while flows move between host and NIC, and messages under way with them. Also returns what they leave.
fn run<A: Application>(application: &A, name: String, engine: EngineChoice, requests: u64) -> (Outcome, Contents) {
    let (node, deployed) = start::<A>(name, engine, 0);
    let (sender, receiver) = channel();
    let milestones = Milestones { every: requests / STEERINGS, sender };
    let outcome = Run::new(application, (node.address(), &deployed), engine, requests).serve(Some(milestones), || {
        // Until no session is left that could say so.
        for (steering, ()) in (1..).zip(&receiver) {
            steer(node.control(), steering % 2 == 1);
        }
    });
    let content = |(name, _): &(&'static str, u64)| {
        let mut bytes = Vec::new();
        node.control().save_region(name, &mut bytes).expect("the region is there");
        (*name, bytes)
    };
    let contents = A::REGIONS.iter().map(content).collect();
    node.stop().expect("the cluster stops");
    (outcome, contents)
}

/// The same while places die, which is spread over the run.
fn run_with_deaths<A: Application>(application: &A, engine: EngineChoice) -> Outcome {
    let (node, deployed) = start::<A>(embedded_name(), engine, LATENCY_WITH_DEATHS_NS);
    let (sender, receiver) = channel();
    let milestones = Milestones { every: REQUESTS_WITH_DEATHS / (DEATHS + 2), sender };
    let run = Run::new(application, (node.address(), &deployed), engine, REQUESTS_WITH_DEATHS);
    let outcome = run.serve(Some(milestones), || kill_in_turns(&node, &receiver));
    node.stop().expect("the cluster stops");
    outcome
}

/// Kills host and NIC in turns, each time that sessions say so, and each once in each of its lives.
fn kill_in_turns(node: &Node, moments: &Receiver<()>) {
    let mut last = [0; 2];
    for death in 0..DEATHS as usize {
        moments.recv().expect("sessions go on");
        let (process, incarnation) = loop {
            let place = node.control().status().expect("the cluster answers").places[death % 2].clone();
            if let Some(process) = place.process
                && place.incarnation > last[death % 2]
            {
                break (process, place.incarnation);
            }
        };
        last[death % 2] = incarnation;
        kill_process(Pid::from_raw(process as i32).expect("a process id"), Signal::KILL).expect("it runs");
    }
}

impl Outcome {
    /// Holds the histories against registers, and the run against what it was to be.
    fn check(&self, requests: u64, what: &str) {
        self.histories.check().unwrap_or_else(|(key, refusal)| panic!("{what}: key {key} is no register: {refusal:#?}"));
        let Outcome { histories, places, moved, without_action } = self;
        println!(
            "{what}: {requests} requests, by place {places:?}, {moved} of a client's served elsewhere, {without_action} without a \
             word; {} operations on {} keys checked",
            histories.operations(),
            histories.0.len()
        );
        assert_eq!(places.values().sum::<u64>(), requests);
        assert!(self.at(Place::Host).min(self.at(Place::Nic)) * 10 > requests, "both servers serve");
        assert!(without_action * 2 < requests, "{without_action} requests did nothing");
        assert!(histories.0.len() as u64 >= KEYS);
    }
}

/// Every key is a register on both engines, whichever place its requests go to.
fn is_linearizable<A: Application>(make: impl Fn(u64) -> A, requests: [(EngineChoice, u64); 2]) {
    for (engine, requests) in requests {
        for _ in 0..crate::times(LONG) {
            let application = make(turns(requests));
            let (outcome, contents) = run(&application, embedded_name(), engine, requests);
            outcome.check(requests, &format!("{}, {}", A::NAME, engine.name()));
            // An eighth of all requests stays at the client, and of as many most leave it.
            assert!(outcome.at(Place::Client) * 10 > requests, "clients serve themselves");
            assert!(outcome.moved * 16 > requests, "messages leave clients");
            assert_eq!(outcome.at(Place::None), 0, "all ends are known");
            application.check_regions(&|name| contents[name].clone());
        }
    }
}

/// The same while places die and are started again: what is uncertain takes effect once, sooner or later, or never.
fn is_linearizable_while_places_die<A: Application>(make: impl Fn(u64) -> A) {
    for engine in [EngineChoice::Jit, EngineChoice::Interpreter] {
        for _ in 0..crate::times(LONG_WITH_DEATHS) {
            // Now and then every death comes between two requests: such a run shows nothing, and another one follows.
            let has_met = (0..RUNS_WITH_DEATHS_MAX).any(|_| {
                let outcome = run_with_deaths(&make(turns(REQUESTS_WITH_DEATHS)), engine);
                outcome.check(REQUESTS_WITH_DEATHS, &format!("{}, {}, with {DEATHS} deaths", A::NAME, engine.name()));
                outcome.at(Place::None) > 0
            });
            assert!(has_met, "no death met a request");
        }
    }
}

/// Answers of any reader that are given again now and then are found out, where they were given in places of a cluster.
fn is_refused<A: Application>(application: &A) {
    for (reader, _) in A::READERS {
        let (outcome, _) = run(application, format!("{}{STALE}{reader}", embedded_name()), EngineChoice::Native, REQUESTS_BROKEN);
        let (key, refusal) = outcome.histories.check().expect_err("stale records were read");
        println!("stale {reader}: key {key} is no register: {} operations in order, then {:?}", refusal.ordered, refusal.stuck);
    }
}

fn table(_: u64) -> Mica {
    Mica { keys: KEYS }
}

fn tree(turns: u64) -> Cell {
    Cell::new(turns, TURNS_OF_A_SET)
}

pub fn a_table_is_linearizable_at_all_places() {
    is_linearizable(table, REQUESTS_OF_A_TABLE);
}

pub fn a_tree_is_linearizable_at_all_places() {
    is_linearizable(tree, REQUESTS_OF_A_TREE);
}

pub fn a_table_is_linearizable_while_places_die() {
    is_linearizable_while_places_die(table);
}

pub fn a_tree_is_linearizable_while_places_die() {
    is_linearizable_while_places_die(|turns| Cell::new(turns, TURNS_OF_A_SET_WITH_DEATHS));
}

pub fn a_stale_get_on_a_cluster_is_refused() {
    is_refused(&table(turns(REQUESTS_BROKEN)));
}

pub fn stale_lookups_and_scans_on_a_cluster_are_refused() {
    is_refused(&tree(turns(REQUESTS_BROKEN)));
}

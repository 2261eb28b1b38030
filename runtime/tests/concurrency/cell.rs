//! Cell: executors that insert beside others that look up and scan.

use super::executor::{Load, Store, execute};
use super::tree::{Shape, Tree};
#[cfg(feature = "jit")]
use runtime::engine::jit::JitEngine;
use runtime::engine::{Engine, InterpreterEngine};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Three records in a leaf: tree nodes are split all the time.
const SMALL: Shape = Shape { node_bytes: 512, value_bytes: 80 };
/// Ten records in a leaf, which executors write to beside each other.
const DEFAULT: Shape = Shape { node_bytes: 1024, value_bytes: 64 };
/// Directories of two lines.
const LARGE: Shape = Shape { node_bytes: 2048, value_bytes: 8 };

/// Keys that are there from the beginning: every so many.
const STEP: u64 = 1 << 8;
const RESIDENTS: u64 = 300;
/// New keys are near so many of them.
const CLUSTERS: u64 = 24;
/// Records that a request of a scan asks for.
const SCANNED: u32 = 40;

const OK: i32 = 0;
const ABSENT: i32 = 1;
const PRESENT: i32 = 2;

/// The value under a key, and nothing else, so that a torn one is found.
fn value(shape: Shape, key: u64) -> Vec<u8> {
    (1..=shape.value_bytes as u64 / 8).flat_map(|index| (key ^ (key << 32) ^ (index * 0x9E37_79B9)).to_le_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Lookups, scans and inserts. Every new key is inserted by two executors; both learn that it is there.
struct Mixed {
    shape: Shape,
    /// Acknowledged inserts.
    inserted: Mutex<BTreeSet<u64>>,
}

enum Request {
    Insert(u64),
    /// A key, and whether it must be there.
    Lookup(u64, bool),
    /// Where it begins, and a key that must be met.
    Scan(u64, Option<u64>),
}

impl Load for Mixed {
    type Request = Request;
    /// Keys that this executor knows to be there.
    type Memory = Vec<u64>;

    fn draw(&self, random: &mut fastrand::Rng, executor: u32, sequence: u64, memory: &mut Vec<u64>) -> Request {
        let known = random.choice(memory.iter()).copied();
        match (random.u32(..10), known) {
            // Its pair draws the same key at about the same time, from another generator.
            (0..3, _) => {
                let turn = sequence << 8 | u64::from(executor / 2);
                let key = fastrand::Rng::with_seed(turn).u64(..CLUSTERS * STEP);
                Request::Insert(key * (RESIDENTS / CLUSTERS))
            }
            (3..6, Some(key)) => Request::Lookup(key, true),
            (6..7, _) => Request::Lookup(random.u64(..RESIDENTS * STEP), false),
            (7..9, Some(key)) => Request::Scan(key - random.u64(..8).min(key), Some(key)),
            _ => Request::Scan(random.u64(..RESIDENTS * STEP), None),
        }
    }

    fn message(&self, request: &Request) -> (&'static str, Vec<u8>) {
        match request {
            Request::Insert(key) => ("insert", [&key.to_le_bytes()[..], &value(self.shape, *key)].concat()),
            Request::Lookup(key, _) => ("lookup", key.to_le_bytes().to_vec()),
            Request::Scan(key, _) => ("scan", [&key.to_le_bytes()[..], &SCANNED.to_le_bytes()].concat()),
        }
    }

    fn check(&self, request: &Request, result: i32, reply: &[u8], memory: &mut Vec<u64>) {
        match request {
            Request::Insert(key) => {
                assert!(result == OK || result == PRESENT, "insert says {result}");
                if result == OK && !key.is_multiple_of(STEP) {
                    assert!(self.inserted.lock().unwrap().insert(*key), "key {key} was inserted twice");
                }
                memory.push(*key);
            }
            Request::Lookup(key, known) => {
                assert!(result == OK || result == ABSENT && !known && !key.is_multiple_of(STEP), "key {key} is lost");
                assert!(result == ABSENT || reply[8..] == value(self.shape, *key), "a torn value under key {key}: {reply:?}");
            }
            Request::Scan(start, known) => {
                assert_eq!(result, OK);
                let more = word(reply, 8) >> 32 == 1;
                let records: Vec<&[u8]> = reply[16..].chunks(8 + self.shape.value_bytes).collect();
                let keys: Vec<u64> = records.iter().map(|record| word(record, 0)).collect();
                assert!(
                    keys.is_sorted_by(|a, b| a < b) && keys.first().is_none_or(|first| first >= start),
                    "{keys:?} from {start}"
                );
                assert!(
                    records.iter().zip(&keys).all(|(record, key)| record[8..] == value(self.shape, *key)),
                    "a torn value from {start}"
                );
                let end = if more { word(reply, 0) } else { u64::MAX };
                assert!(!more || keys.len() == SCANNED as usize, "a page of {} that is not full", keys.len());
                let residents = (start.next_multiple_of(STEP)..end.min(RESIDENTS * STEP)).step_by(STEP as usize);
                for key in residents.chain(*known).filter(|key| (start..&end).contains(&key)) {
                    assert!(keys.binary_search(&key).is_ok(), "a scan from {start} to {end} misses key {key}");
                }
            }
        }
    }
}

fn stress(engine: &dyn Engine, shape: Shape, executors: u32, requests: u64) {
    let settings = [("node_bytes", shape.node_bytes as u32), ("value_bytes", shape.value_bytes as u32)];
    let store = Store::new(engine, "cell.o", &settings, |_| 32 << 20);
    let load = Mixed { shape, inserted: Mutex::default() };
    for key in (0..RESIDENTS).map(|number| number * STEP) {
        assert_eq!(store.call("insert", &[&key.to_le_bytes()[..], &value(shape, key)].concat()).0, OK);
    }
    let counts = execute(&store, &load, executors, requests);
    let tree = Tree::read(&store.content("tree"), shape);
    let mut expected = load.inserted.into_inner().unwrap();
    assert!(expected.len() as u64 > CLUSTERS * 40, "{} inserted", expected.len());
    expected.extend((0..RESIDENTS).map(|number| number * STEP));
    assert!(tree.records.keys().eq(&expected), "{} records where {} were inserted", tree.records.len(), expected.len());
    assert!(tree.records.iter().all(|(key, bytes)| *bytes == value(shape, *key)), "a torn value is left");
    assert_eq!(tree.lost, 0, "tree nodes are lost");
    // An insert that gives up leaves at most one of each level untold: whoever inserts there next tells it.
    assert!(
        tree.unknown as u64 <= counts.busy * tree.levels as u64,
        "{} tree nodes unknown to their parents, {counts:?}",
        tree.unknown
    );
    assert!(counts.suspensions > requests, "messages were hardly ever suspended");
    println!(
        "{}: {requests} requests on {executors} executors, {counts:?}; {} records, {} tree nodes of {} bytes on {} levels",
        engine.name(),
        tree.records.len(),
        tree.nodes,
        shape.node_bytes,
        tree.levels
    );
}

/// Everything that was inserted stays, interpreted.
#[test]
fn interpreted_handlers_share_a_tree() {
    stress(&InterpreterEngine, SMALL, 2, 30_000);
    stress(&InterpreterEngine, DEFAULT, 4, 30_000);
}

/// The same, compiled.
#[cfg(feature = "jit")]
#[test]
fn compiled_handlers_share_a_tree() {
    stress(&JitEngine, SMALL, 2, 100_000);
    stress(&JitEngine, SMALL, 4, 100_000);
    stress(&JitEngine, DEFAULT, 4, 200_000);
    stress(&JitEngine, LARGE, 2, 200_000);
}

//! MICA: counters are exact, no value is torn, and no block leaks.

use super::executor::{Load, Store, execute};
use super::table::{BUCKET_BYTES, Census, HEADER_BYTES, addition, record};
#[cfg(feature = "jit")]
use runtime::engine::jit::JitEngine;
use runtime::engine::{Engine, InterpreterEngine};
use std::sync::atomic::{AtomicU64, Ordering};

/// Hot keys that hold counters, and as many whose values are replaced and removed.
const HOT: u64 = 16;
/// Requests on each engine, split between tests with 2 and with 4 executors.
const REQUESTS: u64 = 1_000_000;
const OK: i32 = 0;
const ABSENT: i32 = 1;

/// MICA's handlers on one engine, and a table.
struct Table(Store);

impl Table {
    fn new(engine: &dyn Engine, buckets: usize, heap_bytes: usize) -> Table {
        let length = |name: &str| (HEADER_BYTES + if name == "table" { buckets * BUCKET_BYTES } else { heap_bytes }) as u64;
        Table(Store::new(engine, "mica.o", &[], length))
    }

    /// Every unit of the heap that was handed out is in one record or one free block, and no lock is held. The number of records.
    fn check(&self) -> usize {
        let census = Census::take(&self.0.content("heap"), &self.0.content("table"));
        census.check_whole();
        census.records.len()
    }
}

/// The fixed bytes around a counter or behind a version.
fn filler(number: u64, version: u64, index: usize) -> u8 {
    (number.wrapping_mul(131) ^ version.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40).wrapping_add(index as u64 * 7) as u8
}

/// A counter's value: the counter, then bytes that never change, of a length that is the key's.
fn counter_value(number: u64, counter: u64) -> Vec<u8> {
    let mut value = counter.to_le_bytes().to_vec();
    value.extend((0..16 + number as usize * 9).map(|index| filler(number, 0, index)));
    value
}

/// A replaced value: its version, then bytes that follow from key and version, of a length that is the version's.
fn versioned_value(number: u64, version: u64) -> Vec<u8> {
    let mut value = version.to_le_bytes().to_vec();
    value.extend((0..(version % 97) as usize).map(|index| filler(number, version, index)));
    value
}

#[derive(Clone, Copy)]
enum Request {
    Add(u64),
    Get(u64),
    Put(u64, u64),
    Delete(u64),
}

/// Counters that are added to and read, and values that are replaced and removed beside them.
struct Mixed {
    added: Vec<AtomicU64>,
}

impl Load for Mixed {
    type Request = Request;
    type Memory = ();

    fn draw(&self, random: &mut fastrand::Rng, executor: u32, sequence: u64, (): &mut ()) -> Request {
        match random.u32(..10) {
            0..3 => Request::Add(random.u64(..HOT)),
            3..6 => Request::Get(random.u64(..2 * HOT)),
            6..9 => Request::Put(HOT + random.u64(..HOT), sequence << 8 | u64::from(executor)),
            _ => Request::Delete(HOT + random.u64(..HOT)),
        }
    }

    fn message(&self, request: &Request) -> (&'static str, Vec<u8>) {
        match *request {
            Request::Add(number) => ("read_modify_write", addition(number, 1)),
            Request::Get(number) => ("get", record(number, &[])),
            Request::Put(number, version) => ("put", record(number, &versioned_value(number, version))),
            Request::Delete(number) => ("delete", record(number, &[])),
        }
    }

    fn check(&self, request: &Request, result: i32, reply: &[u8], (): &mut ()) {
        match *request {
            Request::Add(number) => {
                assert_eq!(result, OK);
                self.added[number as usize].fetch_add(1, Ordering::Relaxed);
            }
            Request::Get(number) if result == ABSENT => assert!(number >= HOT, "a counter is gone"),
            Request::Get(number) => {
                let first = u64::from_le_bytes(reply[16..24].try_into().expect("eight bytes"));
                let value = if number < HOT { counter_value(number, first) } else { versioned_value(number, first) };
                assert!(result == OK && reply == record(number, &value), "a torn value under key {number}: {reply:?}");
            }
            Request::Put(..) => assert_eq!(result, OK),
            Request::Delete(_) => assert!(result == OK || result == ABSENT),
        }
    }
}

fn stress(engine: &dyn Engine, executors: u32, requests: u64) {
    // Seven main buckets for 32 keys: locks are contended, chains grow.
    let buckets = 8;
    let table = Table::new(engine, buckets, 1 << 20);
    for number in 0..HOT {
        assert_eq!(table.0.call("insert", &record(number, &counter_value(number, 0))).0, OK);
    }
    let load = Mixed { added: (0..HOT).map(|_| AtomicU64::new(0)).collect() };
    let counts = execute(&table.0, &load, executors, requests);
    let records = table.check();
    for number in 0..HOT {
        let counter = load.added[number as usize].load(Ordering::Relaxed);
        assert!(counter > 0);
        assert_eq!(table.0.call("get", &record(number, &[])), (OK, record(number, &counter_value(number, counter))));
    }
    assert!(counts.suspensions > requests, "messages were hardly ever suspended");
    println!("{}: {requests} requests on {executors} executors, {counts:?}; {records} records", engine.name());
}

/// Counters are exact, values whole and blocks accounted for after a million requests, interpreted.
#[test]
fn interpreted_handlers_share_a_table() {
    stress(&InterpreterEngine, 2, REQUESTS / 2);
    stress(&InterpreterEngine, 4, REQUESTS / 2);
}

/// The same, compiled.
#[cfg(feature = "jit")]
#[test]
fn compiled_handlers_share_a_table() {
    stress(&JitEngine, 2, REQUESTS / 2);
    stress(&JitEngine, 4, REQUESTS / 2);
}

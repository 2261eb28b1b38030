//! MICA: counters are exact, no value is torn, and no block leaks.

use super::executor::{Load, Store, execute};
#[cfg(feature = "jit")]
use runtime::engine::jit::JitEngine;
use runtime::engine::{Engine, InterpreterEngine};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// Hot keys that hold counters, and as many whose values are replaced and removed.
const HOT: u64 = 16;
/// Requests on each engine, split between tests with 2 and with 4 executors.
const REQUESTS: u64 = 1_000_000;
const OK: i32 = 0;
const ABSENT: i32 = 1;

/// Layout, from `handlers/mica/README.md`.
const HEADER_BYTES: u64 = 4096;
const BUCKET_BYTES: u64 = 64;
const CLASSES: u64 = 21;

/// Units of 16 bytes in a block of this size class.
fn class_units(class: u64) -> u64 {
    match class {
        0..8 => class + 1,
        8..12 => 10 + (class - 8) * 2,
        12..16 => 20 + (class - 12) * 4,
        _ => 40 + (class - 16) * 8,
    }
}

/// MICA's handlers on one engine, and a table.
struct Table(Store);

impl Table {
    fn new(engine: &dyn Engine, buckets: u64, heap_bytes: u64) -> Table {
        let length = |name: &str| HEADER_BYTES + if name == "table" { buckets * BUCKET_BYTES } else { heap_bytes };
        Table(Store::new(engine, "mica.o", &[], length))
    }

    fn word(&self, region: &str, offset: u64) -> u64 {
        let index = self.0.names.iter().position(|name| name == region).expect("a region");
        let mut bytes = [0; 8];
        assert_eq!(self.0.regions[index].read(offset, &mut bytes), 0);
        u64::from_le_bytes(bytes)
    }

    /// Every unit of the heap that was handed out is in one record or one free block, and no lock is held. The number of records.
    fn census(&self, buckets: u64) -> usize {
        let main = buckets - buckets / 8;
        let mut used = BTreeSet::new();
        let mut take = |block: u64, class: u64| {
            for unit in block..block + class_units(class) {
                assert!(used.insert(unit), "unit {unit} is used twice");
            }
        };
        let mut records = 0;
        for index in 0..main {
            let mut at = HEADER_BYTES + index * BUCKET_BYTES;
            assert_eq!(self.word("table", at) & 0xffff_0000_0001, 0, "bucket {index} is locked");
            loop {
                for slot in 1..8 {
                    let item = self.word("table", at + slot * 8);
                    if item != 0 {
                        take(item & 0xffff_ffff, item >> 32 & 0xff);
                        records += 1;
                    }
                }
                match self.word("table", at) >> 48 {
                    0 => break,
                    extra => at = HEADER_BYTES + (main + extra - 1) * BUCKET_BYTES,
                }
            }
        }
        for class in 0..CLASSES {
            let mut block = self.word("heap", 64 + class * 64) & 0xffff_ffff;
            while block != 0 {
                take(block, class);
                block = self.word("heap", block * 16) & 0xffff_ffff;
            }
        }
        assert_eq!(used.len() as u64, self.word("heap", 0), "some block is lost");
        records
    }
}

/// The fixed bytes around a counter or behind a version.
fn filler(number: u64, version: u64, index: usize) -> u8 {
    (number.wrapping_mul(131) ^ version.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40).wrapping_add(index as u64 * 7) as u8
}

fn record(number: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![8, 0];
    bytes.extend((value.len() as u16).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(number.to_le_bytes());
    bytes.extend(value);
    bytes
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
            Request::Add(number) => {
                let mut bytes = vec![8, 0, 0, 0, 0, 0, 0, 0];
                bytes.extend(1u64.to_le_bytes());
                bytes.extend(number.to_le_bytes());
                ("read_modify_write", bytes)
            }
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
    let records = table.census(buckets);
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

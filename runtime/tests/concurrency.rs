//! Many executors on one MICA table (CRCW), on both engines: counters are exact, no value is torn, and no block leaks.
//!
//! Each executor here is a thread that takes several messages in turn, as a real one does, with the same rules for turns, over memory that
//! all of them share. Sessions and transports are left out: what is tested is the code, the engines and region memory.

use naamc::activation::Activation;
use naamc::interpreter::{Failure, Outcome};
use naamc::object;
use naamc::verifier::Proof;
#[cfg(feature = "jit")]
use runtime::engine::jit::JitEngine;
use runtime::engine::{Engine, InterpreterEngine, Program, Turn};
use runtime::memory::{Region, Regions};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Hot keys that hold counters, and as many whose values are replaced and removed.
const HOT: u64 = 16;
/// Requests on each engine, split between tests with 2 and with 4 executors.
const REQUESTS: u64 = 1_000_000;
/// Messages that an executor has under way.
const UNDER_WAY: usize = 16;

const OK: i32 = 0;
const ABSENT: i32 = 1;
const BUSY: i32 = 5;

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
struct Table {
    programs: BTreeMap<String, (Arc<dyn Program>, usize)>,
    regions: Regions,
    names: Vec<String>,
}

impl Table {
    fn new(engine: &dyn Engine, buckets: u64, heap_bytes: u64) -> Table {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/handlers/mica.o");
        let object = object::read(&std::fs::read(path).expect("a readable ELF")).expect("a well-formed ELF");
        let names: Vec<String> = object.environment.regions.iter().map(|region| region.name.clone()).collect();
        let region = |name: &String| {
            let bytes = if name == "table" { HEADER_BYTES + buckets * BUCKET_BYTES } else { HEADER_BYTES + heap_bytes };
            let mut region = Region::anonymous(bytes).expect("memory");
            region.set_cold(true);
            region
        };
        let regions: Regions = names.iter().map(region).collect();
        let programs = object.handlers.iter().map(|handler| {
            let (function, _) = object.flatten(handler).expect("it can be flattened");
            let proof = Arc::new(Proof::prove(function, &object.environment).expect("it verifies"));
            let program = engine.compile(&proof, &object.environment, &regions).expect("it compiles");
            (handler.name.clone(), (program, handler.body_bytes as usize))
        });
        let programs = programs.collect();
        Table { programs, regions, names }
    }

    fn word(&self, region: &str, offset: u64) -> u64 {
        let index = self.names.iter().position(|name| name == region).expect("a region");
        let mut bytes = [0; 8];
        assert_eq!(self.regions[index].read(offset, &mut bytes), 0);
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

impl Request {
    fn draw(random: &mut fastrand::Rng, version: u64) -> Request {
        match random.u32(..10) {
            0..3 => Request::Add(random.u64(..HOT)),
            3..6 => Request::Get(random.u64(..2 * HOT)),
            6..9 => Request::Put(HOT + random.u64(..HOT), version),
            _ => Request::Delete(HOT + random.u64(..HOT)),
        }
    }

    fn body(self) -> (&'static str, Vec<u8>) {
        match self {
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

    /// What the answer must be, whatever the others do.
    fn check(self, result: i32, reply: &[u8], added: &[AtomicU64]) {
        match self {
            Request::Add(number) => {
                assert_eq!(result, OK);
                added[number as usize].fetch_add(1, Ordering::Relaxed);
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

/// A message under way on an executor.
struct Message {
    request: Request,
    activation: Box<Activation>,
    prefetched: bool,
}

/// Starts a request in an activation that was used before.
fn begin(table: &Table, message: &mut Message) {
    let (handler, mut body) = message.request.body();
    body.resize(table.programs[handler].1, 0);
    message.activation.begin(&body, 1 << 20, 4096);
    message.prefetched = false;
}

/// Runs so many requests on one executor. Returns how often a message was suspended, and how often a handler gave up and was asked again.
fn execute(table: &Table, number: u32, requests: u64, seed: u64, added: &[AtomicU64]) -> (u64, u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut drawn, mut suspensions, mut busy) = (0, 0, 0);
    let mut draw = || {
        drawn += 1;
        (drawn <= requests).then(|| Request::draw(&mut random, drawn << 8 | u64::from(number)))
    };
    let mut ready = VecDeque::new();
    while ready.len() < UNDER_WAY
        && let Some(request) = draw()
    {
        let mut message = Message { request, activation: Activation::new_boxed(), prefetched: false };
        begin(table, &mut message);
        ready.push_back(message);
    }
    let mut waiting = 0;
    while let Some(mut message) = ready.pop_front() {
        let (handler, _) = message.request.body();
        let mut turn = Turn::new(&table.regions, number);
        turn.hides_latency = 1;
        turn.suspend_reads = u32::from(!message.prefetched);
        let outcome = table.programs[handler].0.run(&mut message.activation, &mut turn);
        // As an executor does: where nothing but waiting messages is left, others get the core.
        waiting = if turn.contended != 0 { waiting + 1 } else { 0 };
        if waiting > ready.len() {
            std::thread::yield_now();
        }
        match outcome {
            Outcome::Suspended => {
                suspensions += 1;
                message.prefetched = true;
            }
            Outcome::Finished(result) if result as i32 == BUSY => {
                busy += 1;
                begin(table, &mut message);
            }
            Outcome::Finished(result) => {
                let reply = &message.activation.body()[..message.activation.reply_bytes as usize];
                message.request.check(result as i32, reply, added);
                let Some(request) = draw() else { continue };
                message.request = request;
                begin(table, &mut message);
            }
            Outcome::Failed(failure) => {
                assert_ne!(failure, Failure::UdmaOperationsExhausted, "a handler did not give up in time");
                panic!("{handler}: {failure}");
            }
        }
        ready.push_back(message);
    }
    (suspensions, busy)
}

fn stress(engine: &dyn Engine, executors: u32, requests: u64) {
    // Seven main buckets for 32 keys: locks are contended, chains grow.
    let buckets = 8;
    let table = Table::new(engine, buckets, 1 << 20);
    let mut added = Vec::new();
    for number in 0..HOT {
        let mut message = Message { request: Request::Get(number), activation: Activation::new_boxed(), prefetched: true };
        let (program, body_bytes) = &table.programs["insert"];
        let mut body = record(number, &counter_value(number, 0));
        body.resize(*body_bytes, 0);
        message.activation.begin(&body, 1 << 20, 4096);
        assert_eq!(program.run(&mut message.activation, &mut Turn::new(&table.regions, 1)), Outcome::Finished(0));
        added.push(AtomicU64::new(0));
    }
    let totals: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=executors)
            .map(|number| {
                let (table, added) = (&table, &added);
                scope.spawn(move || execute(table, number, requests / u64::from(executors), u64::from(number), added))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no check failed")).collect()
    });
    let records = table.census(buckets);
    for number in 0..HOT {
        let mut activation = Activation::new_boxed();
        let (program, body_bytes) = &table.programs["get"];
        let mut body = record(number, &[]);
        body.resize(*body_bytes, 0);
        activation.begin(&body, 1 << 20, 4096);
        assert_eq!(program.run(&mut activation, &mut Turn::new(&table.regions, 1)), Outcome::Finished(0));
        let counter = added[number as usize].load(Ordering::Relaxed);
        assert!(counter > 0);
        assert_eq!(activation.body()[..activation.reply_bytes as usize], record(number, &counter_value(number, counter)));
    }
    let (suspensions, busy) = totals.iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    assert!(suspensions > requests, "messages were hardly ever suspended");
    println!(
        "{}: {requests} requests on {executors} executors, {suspensions} suspensions, answered busy {busy} times; {records} records",
        engine.name()
    );
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

//! The native programs against a model of a hash table, alone and from many threads.

use super::Native;
use super::machine::Step;
use crate::mica;
use naamc::activation::{Activation, POINT_START};
use naamc::interpreter::Outcome;
use runtime::engine::{Engine, InterpreterEngine, Program, Turn};
use runtime::memory::{Region, Regions};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

thread_local! {
    /// Each thread's activation: a new one for each message would take longer than the message.
    static ACTIVATION: RefCell<Box<Activation>> = RefCell::new(Activation::new_boxed());
}

/// A heap and a table in memory of their own.
struct Store {
    regions: Regions,
    /// UDMA operations of a turn: 1 suspends before every second one.
    operations: u32,
    /// What serves, in the order of [`Native::ALL`].
    programs: Vec<Arc<dyn Program>>,
}

/// The handlers themselves, interpreted.
fn interpreted(regions: &Regions) -> Vec<Arc<dyn Program>> {
    let bundle = naamc::build::build(crate::application::Application::Mica.elf()).unwrap();
    let environment = &bundle.bundle().meaning.environment;
    let names: Vec<&str> = environment.regions.iter().map(|region| region.name.as_str()).collect();
    for (name, index) in [mica::TABLE, mica::HEAP] {
        assert_eq!(names[usize::from(index)], name, "the order of the bundle's regions");
    }
    let program = |(name, _)| {
        let proof = &bundle.proofs()[bundle.handler(name).unwrap()];
        InterpreterEngine.compile(proof, environment, regions).unwrap()
    };
    Native::ALL.into_iter().map(program).collect()
}

impl Store {
    fn new(table_bytes: u64, heap_bytes: u64, operations: u32) -> Store {
        let region = |length| Region::anonymous(length).unwrap();
        let programs = Native::ALL.into_iter().map(|(_, native)| Arc::new(native) as Arc<dyn Program>).collect();
        Store { regions: vec![region(heap_bytes), region(table_bytes)].into(), operations, programs }
    }

    fn contents(&self) -> Vec<Vec<u8>> {
        let content = |region: &Region| {
            let mut bytes = vec![0; region.length_bytes() as usize];
            assert_eq!(region.read(0, &mut bytes), 0);
            bytes
        };
        self.regions.iter().map(content).collect()
    }

    /// Runs a message to its end: result, reply, UDMA operations.
    fn run(&self, native: Native, message: &[u8], executor: u32) -> (i32, Vec<u8>, u32) {
        ACTIVATION.with_borrow_mut(|activation| self.run_in(activation, native, message, executor))
    }

    fn run_in(&self, activation: &mut Activation, native: Native, message: &[u8], executor: u32) -> (i32, Vec<u8>, u32) {
        activation.point = POINT_START;
        activation.udma_operations = 0;
        activation.udma_operations_left = u32::MAX;
        activation.back_edges_left = u32::MAX;
        let program = &self.programs[native as usize];
        activation.body_mut()[..message.len()].copy_from_slice(message);
        activation.body_mut()[message.len()..][..8].fill(0);
        loop {
            let mut turn = Turn::new(&self.regions, executor);
            turn.operations_left = self.operations;
            match program.run(activation, &mut turn) {
                Outcome::Finished(result) => {
                    let reply = activation.body()[..activation.reply_bytes as usize].to_vec();
                    return (result as i32, reply, activation.udma_operations);
                }
                Outcome::Suspended => std::thread::yield_now(),
                Outcome::Failed(failure) => panic!("{failure}"),
            }
        }
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut message = vec![0; mica::value_offset(key.len())];
        mica::write_item_header(&mut message, key.len(), 0);
        message[8..8 + key.len()].copy_from_slice(key);
        let (result, reply, _) = self.run(Native::Get, &message, 1);
        match result {
            mica::OK => {
                let (found, value) = mica::parse_item(&reply, key.len()).unwrap();
                assert_eq!(found, key);
                Some(value.to_vec())
            }
            mica::ABSENT => None,
            other => panic!("get answered {other}"),
        }
    }

    fn store(&self, native: Native, key: &[u8], value: &[u8], executor: u32) -> i32 {
        let start = mica::value_offset(key.len());
        let mut message = vec![0; start + value.len()];
        mica::write_item_header(&mut message, key.len(), value.len());
        message[8..8 + key.len()].copy_from_slice(key);
        message[start..].copy_from_slice(value);
        self.run(native, &message, executor).0
    }

    fn add(&self, key: &[u8], offset: u16, number: u64, executor: u32) -> Result<u64, i32> {
        let mut message = vec![0; mica::ADD_HEADER_BYTES + key.len().next_multiple_of(8)];
        mica::write_add_header(&mut message, key.len(), offset, number);
        message[16..16 + key.len()].copy_from_slice(key);
        match self.run(Native::ReadModifyWrite, &message, executor) {
            (mica::OK, reply, _) => Ok(mica::parse_add(&reply).unwrap()),
            (result, reply, _) => {
                assert!(reply.is_empty());
                Err(result)
            }
        }
    }

    fn heap_used(&self) -> u64 {
        let mut used = [0; 8];
        assert_eq!(self.regions[usize::from(mica::HEAP.1)].read(0, &mut used), 0);
        u64::from_le_bytes(used)
    }
}

fn random_bytes(random: &mut fastrand::Rng, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.u8(..)).collect()
}

/// Random operations on few keys of all lengths, in a table so small that chains form, against a `HashMap`; with turns of 64 operations, and
/// with a suspension at every operation. A quarter of a million UDMA operations, and the same table in the end.
#[test]
fn natives_agree_with_a_hash_map() {
    for operations in [64, 1] {
        let store = Store::new(mica::TABLE_HEADER_BYTES + 16 * mica::BUCKET_BYTES, 1 << 20, operations);
        let mut model: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut random = fastrand::Rng::with_seed(31);
        let keys: Vec<Vec<u8>> = (0..100).map(|index| random_bytes(&mut random, 8 + index % 57)).collect();
        let mut full = 0u32;
        for _ in 0..20_000 {
            let key = &keys[random.usize(0..keys.len())];
            let length = random.usize(0..200);
            let value = random_bytes(&mut random, length);
            match random.u8(0..4) {
                0 => assert_eq!(store.get(key), model.get(key).cloned()),
                1 => match store.store(Native::Put, key, &value, 1) {
                    mica::FULL => {
                        assert!(!model.contains_key(key));
                        full += 1;
                    }
                    result => {
                        assert_eq!(result, mica::OK);
                        model.insert(key.clone(), value);
                    }
                },
                2 => match store.store(Native::Insert, key, &value, 1) {
                    mica::FULL => assert!(!model.contains_key(key)),
                    result => {
                        assert_eq!(result, if model.contains_key(key) { mica::PRESENT } else { mica::OK });
                        model.entry(key.clone()).or_insert(value);
                    }
                },
                _ => {
                    let offset = random.u16(0..30) * 8;
                    let expected = match model.get_mut(key) {
                        None => Err(mica::ABSENT),
                        Some(value) => match value.get_mut(usize::from(offset)..).and_then(|rest| rest.first_chunk_mut::<8>()) {
                            None => Err(mica::INVALID),
                            Some(field) => {
                                let before = u64::from_le_bytes(*field);
                                *field = before.wrapping_add(77).to_le_bytes();
                                Ok(before)
                            }
                        },
                    };
                    assert_eq!(store.add(key, offset, 77, 1), expected);
                }
            }
        }
        for key in &keys {
            assert_eq!(store.get(key), model.get(key).cloned());
        }
        let mut extra_buckets = [0; 8];
        assert_eq!(store.regions[usize::from(mica::TABLE.1)].read(0, &mut extra_buckets), 0);
        assert_eq!(u64::from_le_bytes(extra_buckets), 2, "both extra buckets are in use");
        assert!(model.len() > 80, "{} records, {full} times full", model.len());
        assert!(store.heap_used() * 16 < 1 << 20, "blocks are used again");
    }
}

/// A get of a record in its main bucket makes three UDMA operations: bucket, record, version. That is what the handler makes.
#[test]
fn a_get_makes_three_operations() {
    let store = Store::new(mica::table_bytes(100), 1 << 16, 64);
    assert_eq!(store.store(Native::Put, &[7; 8], &[9; 64], 1), mica::OK);
    let mut message = [7; 16];
    mica::write_item_header(&mut message, 8, 0);
    let (result, reply, operations) = store.run(Native::Get, &message, 1);
    assert_eq!((result, reply.len(), operations), (mica::OK, 80, 3));
    message[8] = 8;
    assert_eq!(store.run(Native::Get, &message, 1), (mica::ABSENT, Vec::new(), 2));
}

/// Lengths that no record has are refused, and a full heap is answered.
#[test]
fn impossible_records_are_refused() {
    let store = Store::new(mica::table_bytes(100), mica::HEAP_HEADER_BYTES + 72 * 16, 64);
    assert_eq!(store.store(Native::Put, &[1; 7], &[], 1), mica::INVALID);
    assert_eq!(store.store(Native::Put, &[1; 65], &[], 1), mica::INVALID);
    assert_eq!(store.store(Native::Put, &[1; 8], &[0; 1025], 1), mica::INVALID);
    assert_eq!(store.add(&[1; 8], 4, 1, 1), Err(mica::INVALID));
    assert_eq!(store.store(Native::Put, &[1; 64], &[0; 1024], 1), mica::OK);
    assert_eq!(store.store(Native::Put, &[2; 64], &[0; 1024], 1), mica::FULL);
    assert_eq!(store.get(&[1; 64]), Some(vec![0; 1024]));
}

/// Four threads add to the same few fields, and replace other values meanwhile: no addition is lost, no value is torn, and no block leaks.
#[test]
fn concurrent_writers_lose_nothing() {
    const ADDITIONS: u64 = 3_000;
    let store = Store::new(mica::TABLE_HEADER_BYTES + 64 * mica::BUCKET_BYTES, 1 << 20, 5);
    for key in 0..8u8 {
        assert_eq!(store.store(Native::Put, &[key; 8], &[0; 64], 1), mica::OK);
    }
    std::thread::scope(|scope| {
        for thread in 1..=4u32 {
            let store = &store;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(u64::from(thread));
                for turn in 0..ADDITIONS {
                    let key = [(turn % 4) as u8; 8];
                    store.add(&key, 8, 1, thread).unwrap();
                    let other = [random.u8(4..8); 8];
                    assert_eq!(store.store(Native::Put, &other, &[turn as u8; 64], thread), mica::OK);
                    let value = store.get(&other).unwrap();
                    assert!(value.iter().all(|byte| *byte == value[0]), "torn: {value:?}");
                }
            });
        }
    });
    let sum: u64 = (0..4u8).map(|key| u64::from_le_bytes(store.get(&[key; 8]).unwrap()[8..16].try_into().unwrap())).sum();
    assert_eq!(sum, 4 * ADDITIONS);
    // Eight records, and for each free list one block that each thread may hold: nothing else was ever taken from the heap's end.
    assert!(store.heap_used() <= (8 + 4 * u64::from(mica::LISTS)) * 5, "{} units used", store.heap_used());
}

/// A step's number is its place in the table: suspended programs are found there again.
#[test]
fn steps_are_their_numbers() {
    for (number, (step, _)) in Step::ALL.into_iter().enumerate() {
        assert_eq!(step as usize, number);
    }
    assert_eq!(Native::operations().len(), Step::ALL.len());
}

/// The same messages to the handlers, interpreted, and to the natives: the same results, replies and UDMA operations, and the same bytes in both
/// regions after each thousand; with suspensions at every operation as well.
#[test]
fn natives_do_what_the_handlers_do() {
    for operations in [64, 1] {
        let store = || Store::new(mica::TABLE_HEADER_BYTES + 16 * mica::BUCKET_BYTES, 96 << 10, operations);
        let (native, mut handlers) = (store(), store());
        handlers.programs = interpreted(&handlers.regions);
        let mut random = fastrand::Rng::with_seed(17);
        let keys: Vec<Vec<u8>> = (0..120).map(|index| random_bytes(&mut random, 7 + index % 59)).collect();
        let mut seen = [0; 5];
        for round in 0..8 {
            for _ in 0..500 {
                let (_, which) = Native::ALL[random.usize(0..4)];
                let key = &keys[random.usize(0..keys.len())];
                let value_bytes = random.usize(0..1030);
                let value = random_bytes(&mut random, value_bytes);
                let message = match which {
                    Native::ReadModifyWrite => {
                        let mut message = vec![0; mica::ADD_HEADER_BYTES];
                        mica::write_add_header(&mut message, key.len(), random.u16(0..20) * 4, 5);
                        [&message, key.as_slice(), &[0; 8]].concat()
                    }
                    _ => {
                        let mut message = vec![0; mica::value_offset(key.len())];
                        mica::write_item_header(&mut message, key.len(), value.len());
                        message[8..8 + key.len()].copy_from_slice(key);
                        if which == Native::Get { message } else { [message, value].concat() }
                    }
                };
                let (one, other) = (native.run(which, &message, 1), handlers.run(which, &message, 1));
                assert_eq!(one, other, "{which:?} in round {round}");
                seen[one.0 as usize] += 1;
            }
            assert!(native.contents() == handlers.contents(), "regions differ after round {round}");
        }
        assert!(seen.iter().all(|count| *count > 20), "every result occurs: {seen:?}");
    }
}

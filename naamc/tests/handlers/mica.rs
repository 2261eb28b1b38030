//! MICA: a table of records.

use super::harness::{EXECUTOR, Handlers, Journey, Random, Surroundings};
use naamc::activation::Activation;
use naamc::memory::RegionMemory;
use std::collections::BTreeMap;

const OK: i32 = 0;
const ABSENT: i32 = 1;
const PRESENT: i32 = 2;
const FULL: i32 = 3;

/// Key number `number`, 8 to 64 bytes long.
fn key_of(number: u64) -> Vec<u8> {
    let length = 8 + (number.wrapping_mul(0x9E37_79B9) >> 7) % 57;
    (0..length).map(|index| (number.wrapping_mul(31).wrapping_add(index * 7) >> (index % 5)) as u8 ^ index as u8).collect()
}

/// A record as `mica.h` has it; with garbage behind the key, which must not matter.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![key.len() as u8, 0];
    bytes.extend((value.len() as u16).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(key);
    bytes.resize(8 + key.len().next_multiple_of(8), 0xee);
    bytes.extend(value);
    bytes
}

/// The record as a get must give it.
fn stored(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = record(key, value);
    bytes[8 + key.len()..8 + key.len().next_multiple_of(8)].fill(0);
    bytes
}

fn addition(key: &[u8], offset: u16, number: u64) -> Vec<u8> {
    let mut bytes = vec![key.len() as u8, 0];
    bytes.extend(offset.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(number.to_le_bytes());
    bytes.extend(key);
    bytes
}

/// Regions `heap` and `table`, all zeros.
fn empty_table(mica: &Handlers, buckets: usize, heap_bytes: usize) -> Surroundings {
    let region = |name: &String| match name.as_str() {
        "table" => RegionMemory::new(vec![0; 4096 + 64 * buckets]),
        "heap" => RegionMemory::new(vec![0; 4096 + heap_bytes]),
        _ => panic!("unknown region {name}"),
    };
    Surroundings { regions: mica.regions.iter().map(region).collect(), executor: EXECUTOR, operations_left: 0 }
}

/// One by one, requests give what a map of records would; a store is full only if nothing is lost by saying so.
#[test]
fn mica_is_a_table_of_records() {
    for (preset, journey) in [(0, Journey::Through), (0, Journey::Suspended), (0, Journey::Moved), (1, Journey::Moved)] {
        let mica = Handlers::load("mica", &[("cache", preset)]);
        let mut surroundings = empty_table(&mica, 40, 40_000);
        let mut random = Random(0x1234_5678_9abc_def1);
        let mut records: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let (mut hits, mut full) = (0, 0);
        for _ in 0..6000 {
            let number = random.below(300);
            let key = key_of(number);
            let value: Vec<u8> = (0..random.below(130)).map(|_| random.below(256) as u8).collect();
            let mut call = |handler: &str, request: &[u8]| mica.call(handler, request, &mut surroundings, journey);
            match random.below(6) {
                0 | 1 => {
                    let handler = if random.below(2) == 0 { "put" } else { "insert" };
                    let (result, reply) = call(handler, &record(&key, &value));
                    assert!(reply.is_empty());
                    match result {
                        OK => {
                            let old = records.insert(number, value);
                            assert!(handler == "put" || old.is_none() || preset == 1, "an insert over a record");
                        }
                        PRESENT => assert!(handler == "insert" && records.contains_key(&number)),
                        FULL => full += 1,
                        other => panic!("{handler} says {other}"),
                    }
                }
                2 => {
                    let (result, _) = call("delete", &record(&key, &[]));
                    let present = records.remove(&number).is_some();
                    assert!(result == if present { OK } else { ABSENT } || preset == 1 && result == ABSENT);
                }
                3 => {
                    let (result, reply) = call("read_modify_write", &addition(&key, 8, 5));
                    match (result, records.get_mut(&number)) {
                        (OK, Some(value)) => {
                            let field: [u8; 8] = value[8..16].try_into().expect("eight bytes");
                            assert_eq!(reply[8..], field);
                            value[8..16].copy_from_slice(&u64::from_le_bytes(field).wrapping_add(5).to_le_bytes());
                        }
                        (4, Some(value)) => assert!(value.len() < 16),
                        (FULL, Some(_)) => full += 1,
                        (ABSENT, known) => assert!(known.is_none() || preset == 1),
                        other => panic!("read_modify_write says {other:?}"),
                    }
                }
                _ => {
                    let (result, reply) = call("get", &record(&key, &[]));
                    match records.get(&number) {
                        Some(value) if result == OK => {
                            hits += 1;
                            assert_eq!(reply, stored(&key, value));
                        }
                        known => assert!(result == ABSENT && (known.is_none() || preset == 1)),
                    }
                }
            }
        }
        assert!(hits > 100 && (full > 10 || preset == 1), "{hits} hits, {full} times full");
    }
}

/// A hit in the main bucket costs three UDMA operations, and no message of a get claims anything.
#[test]
fn a_get_costs_three_operations() {
    let mica = Handlers::load("mica", &[]);
    let mut surroundings = empty_table(&mica, 1024, 1 << 16);
    let (key, value) = (key_of(3), vec![9; 64]);
    assert_eq!(mica.call("put", &record(&key, &value), &mut surroundings, Journey::Through).0, OK);
    let mut activation = mica.start("get", &record(&key, &[]));
    assert_eq!(mica.step("get", &mut activation, &mut surroundings, u64::MAX), Some(OK));
    assert_eq!(activation.udma_operations, 3);
    let manifest = naamc::manifest::Manifest::of(&mica.proved["get"].0, &naamc::program::Environment::default());
    assert!(!manifest.has_effects && !manifest.uses_executor);
}

/// Messages under way at the same time, each one operation further in turns that chance decides: counters are exact and no value is torn.
#[test]
fn mica_is_correct_under_every_interleaving_that_chance_finds() {
    const MESSAGES: usize = 12;
    const KEYS: u64 = 4;
    for preset in [0, 1] {
        let mica = Handlers::load("mica", &[("cache", preset)]);
        let mut surroundings = empty_table(&mica, 8, 1 << 16);
        let mut random = Random(0xfeed_5eed + u64::from(preset));
        for number in 0..KEYS {
            let request = record(&key_of(number), &[&[number as u8; 24][..], &[0; 8]].concat());
            assert_eq!(mica.call("insert", &request, &mut surroundings, Journey::Through).0, OK);
        }
        let mut sums = [0u64; KEYS as usize];
        let mut under_way: Vec<Option<(&str, u64, Box<Activation>)>> = (0..MESSAGES).map(|_| None).collect();
        let (mut started, mut ended) = (0, 0);
        while ended < 4000 {
            let slot = random.below(MESSAGES as u64) as usize;
            surroundings.executor = slot as u32 + 1;
            let Some((handler, number, activation)) = &mut under_way[slot] else {
                if started < 4000 {
                    let number = random.below(KEYS + 2);
                    let key = key_of(number);
                    // Counters are added to and read; other keys come and go beside them.
                    let (handler, request) = match (number < KEYS, random.below(2)) {
                        (true, 0) => ("get", record(&key, &[])),
                        (true, _) => ("read_modify_write", addition(&key, 24, 1)),
                        (false, 0) => ("delete", record(&key, &[])),
                        (false, _) => ("put", record(&key, &vec![number as u8; 16 + random.below(30) as usize])),
                    };
                    under_way[slot] = Some((handler, number, mica.start(handler, &request)));
                    started += 1;
                }
                continue;
            };
            if let Some(result) = mica.step(handler, activation, &mut surroundings, 1) {
                match *handler {
                    "get" => {
                        let body = &activation.body()[..activation.reply_bytes as usize];
                        let value = &body[body.len() - 32..];
                        assert!(
                            result == OK && value[..24].iter().all(|byte| u64::from(*byte) == *number),
                            "a torn value: {body:?}"
                        );
                    }
                    "read_modify_write" => {
                        assert_eq!(result, OK);
                        sums[*number as usize] += 1;
                    }
                    _ => assert!(result == OK || *handler == "delete" && result == ABSENT),
                }
                under_way[slot] = None;
                ended += 1;
            }
        }
        for number in 0..KEYS {
            let (_, reply) = mica.call("get", &record(&key_of(number), &[]), &mut surroundings, Journey::Through);
            let counter: [u8; 8] = reply[reply.len() - 8..].try_into().expect("eight bytes");
            assert_eq!(u64::from_le_bytes(counter), sums[number as usize]);
        }
        assert!(sums.iter().all(|sum| *sum > 100), "{sums:?}");
    }
}

/// An executor that dies before any operation of any writer leaves a table that `recover` makes whole: all records can be read, and writers go on.
#[test]
fn recover_frees_what_a_dead_executor_held_at_every_step() {
    let mica = Handlers::load("mica", &[]);
    let key = key_of(3);
    let (mut steps, mut locked) = (0, 0);
    for (handler, request) in [
        ("put", record(&key, &[1; 40])),
        ("insert", record(&key_of(4), &[1; 40])),
        ("delete", record(&key, &[])),
        ("read_modify_write", addition(&key, 8, 1)),
    ] {
        for operations in 0.. {
            let mut surroundings = empty_table(&mica, 64, 1 << 14);
            assert_eq!(mica.call("put", &record(&key, &[2; 32]), &mut surroundings, Journey::Through).0, OK);
            let mut victim = mica.start(handler, &request);
            let ended = mica.step(handler, &mut victim, &mut surroundings, operations).is_some();
            let table = mica.regions.iter().position(|region| region == "table").expect("a table");
            locked += u32::from(surroundings.regions[table].bytes()[4096..].chunks(64).any(|bucket| bucket[0] & 1 == 1));
            surroundings.executor = EXECUTOR + 1;
            // The message: executor, done, cursor.
            let mut message = [EXECUTOR.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat();
            while message[4] == 0 {
                message = mica.call("recover", &message, &mut surroundings, Journey::Moved).1;
            }
            assert!(surroundings.regions[table].bytes()[4096..].chunks(64).all(|bucket| bucket[0] & 1 == 0 && bucket[4] == 0));
            let (result, reply) = mica.call("get", &record(&key, &[]), &mut surroundings, Journey::Through);
            let old = (OK, stored(&key, &[2; 32]));
            let new = match handler {
                "put" => (OK, stored(&key, &[1; 40])),
                "delete" => (ABSENT, Vec::new()),
                "read_modify_write" => (OK, stored(&key, &[&[2; 8][..], &[3, 2, 2, 2, 2, 2, 2, 2], &[2; 16]].concat())),
                _ => old.clone(),
            };
            assert!((result, reply.clone()) == old || (result, reply) == new, "{handler} after {operations} operations");
            assert_eq!(mica.call("put", &record(&key, &[5; 100]), &mut surroundings, Journey::Through).0, OK);
            if ended {
                break;
            }
            steps += 1;
        }
    }
    assert!(steps >= 32 && locked >= 8, "{steps} steps, {locked} times locked");
}
